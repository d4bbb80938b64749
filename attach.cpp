// attach - shows a session that a shim keeps on this terminal: look, type, detach, come back.
//
//     attach [-e KEY] [-r] [-R] [-p] [-d] [-q] ADDRESS [PROGRAM [ARG]...]
//     attach -k ADDRESS                                                       ends a session
//     attach                                                                  lists the sessions that have a name
//
//      the user's terminal                                                     the session
//     ┌──────────┐ standard input   ┌──────────────────┐  to_shim   ┌────────┐    ┌──────┐
//     │ keyboard ├─────────────────►│ attach           ├───────────►│ socket ├───►│ shim │
//     │ screen   │◄─────────────────┤ (raw mode,       │◄───────────┤        │◄───┤      │
//     └──────────┘ standard output  │  64 KiB each way)│  to_screen └────────┘    └──────┘
//                                   └──────────────────┘
//
// Connected, attach copies in two directions; most of its work is leaving. However it ends (the detach key, the
// program's end, a lost connection, a signal, even a stop), the terminal must be as it was, and no byte that was
// on its way from the terminal may become a command of the shell.
//
//   1  signals                   4  what comes from the terminal           7  what a session says of itself
//   2  raw mode                  5  whose server it is, and connecting     8  starting and ending sessions
//   3  the wire                  6  the copy loop                          9  the command line, and main
//
// The wire: everything is raw bytes, but for a few messages. What attach sends first, and again when the window
// changes, is rlogin's window-change message (RFC 1282); numbers have 16 bits, in network order:
//
//     hello     FF FF 's' 's'  ROWS COLUMNS XPIXELS YPIXELS  ROWS and COLUMNS 0: no window; XPIXELS: the purpose
//     answer    FF FF 'a' 'a'  LENGTH BYTES                  sent by the terminal itself, not by its user
//     noise     FF FF 'n' 'n'  LENGTH BYTES                  focus reports, and motion of a mouse without a button
//     goodbye   FF FF 'x' 'x'  STATUS                        the shim's last message: the program's exit status
//     leave     FF FF 'd' 'd'                                or this one: another attach asks to be alone
//     taken     FF FF 'o' 'k'                                the reply to a push, an end or an alone
//     told      FF FF 't' 't'  LENGTH LINES                  the reply to a tell: lines of `name: value`
//
// Exit status: kUsage in section 9 lists them. When signal n ends attach, attach dies of it.
//
// Read beside it: termios(3), ioctl_tty(2), pselect(2), signal(7), console_codes(4), credentials(7), sock_diag(7),
// XTerm Control Sequences ("ctlseqs"), and the description of kitty's keyboard protocol.

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>  // PIPE_BUF
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <getopt.h>  // getopt_long: not POSIX, but everywhere
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>  // TCP_NODELAY
#include <poll.h>
#include <pwd.h>
#include <sys/file.h>   // flock
#include <sys/ioctl.h>  // TIOCGWINSZ
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// The section 'What not every system has' tells what is done where these are missing.
#if __has_include(<linux/sock_diag.h>)
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#endif
#if defined(PORTABLE)  // make PORTABLE=1: as on a system that has none of it
#undef SCM_CREDENTIALS
#undef SOCK_DIAG_BY_FAMILY
#endif

namespace {

constexpr char kProgram[] = "attach";
constexpr char kVersion[] = "1.0";

// >>> errors and the owning descriptor: the same in shim.cpp, attach.cpp and record.cpp
/// The length of the UTF-8 character that `text` begins with, when a terminal only shows it. 0: a byte that is not
/// UTF-8, a control character (C0, DEL, C1), or one that turns the direction of the text beside it (U+202E).
std::size_t shown_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const std::uint32_t first = byte(0);
    if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
    if (first < 0xC2 || first > 0xF4) return 0;
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    std::uint32_t code = first & (0x7FU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 0;
        code = code << 6 | (byte(i) & 0x3F);
    }
    const auto is_in = [code](std::uint32_t low, std::uint32_t high) { return code >= low && code <= high; };
    const bool is_invalid = code < (length == 4 ? 0x10000U : length == 3 ? 0x800U : 0U) || code > 0x10FFFF;
    const bool is_unshown = is_in(0x80, 0x9F) || is_in(0x202A, 0x202E) || is_in(0x2066, 0x2069);
    return is_invalid || is_in(0xD800, 0xDFFF) || is_unshown ? 0 : length;
}

/// `text`, of whatever origin, as a message or a list may show it: what shown_length() refuses is written as \x1b.
std::string printable(std::string_view text) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string shown;
    while (!text.empty()) {
        const std::size_t length = shown_length(text);
        const auto byte = static_cast<unsigned char>(text.front());
        if (length > 0) shown.append(text.substr(0, length));
        else shown.append("\\x").append({kDigits[byte >> 4], kDigits[byte & 0xF]});
        text.remove_prefix(length > 0 ? length : 1);
    }
    return shown;
}

/// Writes "program: what: why" and a newline to standard error, in one write(2) so that lines of several processes
/// do not mix. `what` names the thing that the user knows: a file, an address, an option.
void complain(std::string_view what, std::string_view why) {
    std::string line(kProgram);
    line.append(": ").append(printable(what)).append(": ").append(printable(why)).append("\n");
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

/// The same, with the text of `errno` (of a system call that has just failed) for the reason.
void complain_errno(std::string_view what) { complain(what, std::strerror(errno)); }

/// An owning descriptor: close(2) when it goes out of scope, never twice. It can be moved, not copied.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset(int fd = -1) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// A whole number in decimal, all of `text`; nothing else is taken (no sign, no space, nothing over 64 bits).
std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}
// <<< errors and the owning descriptor

// >>> session names: the same in shim.cpp and attach.cpp
/// The folder of the sockets of named sessions. ($XDG_RUNTIME_DIR is emptied when its user logs out, which is just
/// when a session must go on.)
std::string session_folder() {
    const char *chosen = std::getenv("SHIM_DIR");
    return chosen != nullptr && *chosen != '\0' ? chosen : "/tmp/shim-" + std::to_string(::geteuid());
}

/// Checks the session folder, and makes it if `make`; without `make` a missing folder is in order, as one without
/// sessions. Gives "" when no other user can put a socket there, else the fault and its cure: in /tmp another user
/// may have made the folder or a symbolic link first.
std::string folder_fault(const std::string &folder, bool make) {
    struct stat file{};
    if (folder.front() != '/') return "SHIM_DIR is not an absolute path: " + folder;
    const bool made = make && ::mkdir(folder.c_str(), 0700) == 0;
    if (make && !made && errno != EEXIST) return folder + ": " + std::strerror(errno);
    if (made) ::chmod(folder.c_str(), 0700);  // whatever the umask has taken away
    if (::lstat(folder.c_str(), &file) != 0)
        return !make && errno == ENOENT ? "" : folder + ": " + std::strerror(errno);
    if (!S_ISDIR(file.st_mode) || file.st_uid != ::geteuid())
        return folder + " is not a folder of yours: remove it, or set SHIM_DIR to one that is";
    return (file.st_mode & 077) == 0 ? "" : folder + " is open to other users: chmod 700 " + folder;
}

/// Letters, digits and . _ - @, 64 at most; never what could be a port, an option or a hidden file.
bool is_session_name(std::string_view text) {
    constexpr std::string_view kFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@";
    const bool is_number = text.find_first_not_of("0123456789") == std::string_view::npos;
    return !is_number && text.size() <= 64 && kFirst.find(text.front()) != std::string_view::npos &&
           text.find_first_not_of(std::string(kFirst) + ".-") == std::string_view::npos;
}
// <<< session names

// >>> addresses: the same in shim.cpp and attach.cpp
/// One socket address as the kernel wants it: sockaddr_in, sockaddr_in6 or sockaddr_un, and its length.
struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t length = 0;
    [[nodiscard]] const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&storage); }
};

/// What ADDRESS names: all socket addresses, in the order to try them; else why there is none, and whether the
/// text is at fault (a usage error) or the machine (its name service, its session folder).
struct Resolved {
    std::vector<SocketAddress> addresses{};
    std::string why{};
    bool malformed = false;
};

Resolved resolve_path(std::string_view path) {
    SocketAddress address{.storage = {}, .length = sizeof(sockaddr_un)};
    auto *un = reinterpret_cast<sockaddr_un *>(&address.storage);
    const std::size_t most = sizeof un->sun_path - 1;
    if (path.size() > most) return {{}, "its path is longer than " + std::to_string(most) + " bytes", true};
    un->sun_family = AF_UNIX;
    path.copy(un->sun_path, path.size());
    return {.addresses = {address}};
}

Resolved resolve_tcp(const std::string &host, const std::string &port) {
    addrinfo hints{}, *list = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list);  // may wait for a name server
    if (error != 0) return {.why = error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error)};
    Resolved found;
    for (const addrinfo *a = list; a != nullptr; a = a->ai_next) {
        SocketAddress one{.storage = {}, .length = a->ai_addrlen};
        std::memcpy(&one.storage, a->ai_addr, a->ai_addrlen);
        found.addresses.push_back(one);
    }
    ::freeaddrinfo(list);
    return found;
}

/// `work` is the Unix-domain socket of that name in the session folder (which is made if `make_folder`). A text
/// with a `/` is the path of a Unix-domain socket. `43210` is TCP on the loopback interface; `HOST:43210` and
/// `[::1]:43210` are TCP at that host.
Resolved resolve(std::string_view text, bool make_folder = false) {
    if (text.find('/') != std::string_view::npos) return resolve_path(text);
    if (is_session_name(text)) {
        const std::string folder = session_folder(), fault = folder_fault(folder, make_folder);
        return fault.empty() ? resolve_path(folder + "/" + std::string(text)) : Resolved{.why = fault};
    }
    const std::size_t colon = text.rfind(':');
    std::string_view host = colon == std::string_view::npos ? "127.0.0.1" : text.substr(0, colon);
    const std::string_view port = colon == std::string_view::npos ? text : text.substr(colon + 1);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    else if (host.empty() || host.find_first_of(":[]") != std::string_view::npos) host = "";
    const auto number = parse_number(port);
    if (host.empty() || !number)
        return {{}, "not a session's name (letters, digits, . _ - @), PORT, HOST:PORT or a path with a /", true};
    if (*number > 65535) return {{}, "port is not a number from 0 to 65535", true};
    return resolve_tcp(std::string(host), std::to_string(*number));
}
// <<< addresses

// >>> recordings of named sessions: the same in shim.cpp, attach.cpp and record.cpp
/// Their folder: $SHIM_RECORDS, else the one that the XDG Base Directory Specification has for state. Recordings
/// are found there from any folder, years later.
std::string records_folder() {
    const auto variable = [](const char *name) {
        const char *value = std::getenv(name);
        return std::string(value != nullptr ? value : "");
    };
    if (std::string chosen = variable("SHIM_RECORDS"); !chosen.empty()) return chosen;
    if (const std::string state = variable("XDG_STATE_HOME"); state.starts_with('/')) return state + "/shim";
    const std::string home = variable("HOME");
    if (!home.empty()) return home + "/.local/state/shim";
    const passwd *user = ::getpwuid(::geteuid());  // a service may have no HOME
    return std::string(user != nullptr ? user->pw_dir : "") + "/.local/state/shim";
}
// <<< recordings of named sessions

// ----------------------------------------------------------------------------------------------------------------
// What not every system has
//
// Everything else in this file is POSIX, getopt_long(3) or flock(2). A feature is detected by a macro that a
// header defines, and has a substitute:
//
//   SO_PEERCRED  Linux; elsewhere getpeereid(3), which has no pid to tell. With neither, only the mode of
//                the folder shows that a session is ours
//   sock_diag    Linux. Else the kernel does not tell who listens at a port: any user may, once a shim has ended
//
// On BSD and macOS a Unix-domain socket with a full queue refuses connections (ECONNREFUSED), just as the socket
// of a killed shim does. There the list of sessions removes the socket of such a shim, too; SIGUSR2 makes the shim
// renew it.
// ----------------------------------------------------------------------------------------------------------------

/// The process that made the Unix-domain socket at the other end: unix(7). pid 0: this system does not tell.
struct Server {
    pid_t pid = 0;
    uid_t user = ~uid_t{0};
};

Server unix_server([[maybe_unused]] int fd) {
    Server server;
#if defined(SCM_CREDENTIALS)  // Linux: SO_PEERCRED gives a struct ucred
    ucred found{};
    socklen_t length = sizeof found;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &length) == 0) server = {found.pid, found.uid};
#elif defined(PORTABLE)
    server.user = ::geteuid();
#else
    gid_t group = 0;
    ::getpeereid(fd, &server.user, &group);
#endif
    return server;
}

// >>> the owner of a TCP socket: the same in shim.cpp and attach.cpp
/// Whether processes of this user are trusted: it is our own user, or root.
bool is_ours(uid_t user) { return user == ::geteuid() || user == 0; }

/// What the kernel says of one TCP socket of this machine.
struct TcpOwner {
    enum class Answer { found, absent, unknown };  // unknown: the kernel could not be asked
    Answer answer = Answer::unknown;
    uid_t user = 0;
    std::uint32_t inode = 0;  // 0: no process has it open, any more or yet (accept(2)), and `user` is no owner
    [[nodiscard]] bool is_found() const { return answer == Answer::found; }
    [[nodiscard]] bool is_absent() const { return answer == Answer::absent; }
};

#if defined(SOCK_DIAG_BY_FAMILY)
constexpr bool kHasTcpTable = true;

/// A socket through which tcp_owner() asks; none, with errno, where netlink(7) is not to be had.
Fd open_tcp_table() { return Fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)); }

/// Copies host and port as they are, in network order. Gives the address family to ask for: IPv4 inside IPv6
/// (::ffff:1.2.3.4) is IPv4 for the kernel's table. No address (family 0) is copied as zeros.
std::uint8_t put_endpoint(const SocketAddress &address, __be16 &port, __be32 *words) {
    const auto *in = reinterpret_cast<const sockaddr_in *>(&address.storage);
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    const bool is_v6 = address.storage.ss_family == AF_INET6;
    const bool is_mapped = is_v6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
    port = in->sin_port;  // at the same place in both
    if (is_mapped) std::memcpy(words, &in6->sin6_addr.s6_addr[12], 4);
    else if (is_v6) std::memcpy(words, &in6->sin6_addr, 16);
    else words[0] = in->sin_addr.s_addr;
    return is_v6 && !is_mapped ? AF_INET6 : AF_INET;
}

/// The owner of the socket that is bound to `local` and connected to `remote`; without `remote`, the owner of the
/// socket that listens for connections to `local`, perhaps at 0.0.0.0 or [::]. One question for one socket:
/// sock_diag(7).
TcpOwner tcp_owner(int table, const SocketAddress &local, const SocketAddress &remote = {}) {
    struct {
        nlmsghdr head;
        inet_diag_req_v2 body;
    } question{};
    inet_diag_sockid &id = question.body.id;
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.head.nlmsg_flags = NLM_F_REQUEST;
    question.body.sdiag_family = put_endpoint(local, id.idiag_sport, id.idiag_src);
    question.body.sdiag_protocol = IPPROTO_TCP;
    question.body.idiag_states = ~0U;
    id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    put_endpoint(remote, id.idiag_dport, id.idiag_dst);
    if (::send(table, &question, sizeof question, 0) < 0) return {};
    alignas(nlmsghdr) std::array<char, 1024> bytes{};
    const ssize_t n = ::recv(table, bytes.data(), bytes.size(), MSG_DONTWAIT);  // netlink answers inside send(2)
    const auto *head = reinterpret_cast<const nlmsghdr *>(bytes.data());
    const auto is_answer = [&](unsigned kind, std::size_t size) {
        return n >= static_cast<ssize_t>(NLMSG_LENGTH(size)) && head->nlmsg_type == kind;
    };
    const auto *error = reinterpret_cast<const nlmsgerr *>(bytes.data() + NLMSG_HDRLEN);
    const auto *found = reinterpret_cast<const inet_diag_msg *>(bytes.data() + NLMSG_HDRLEN);
    if (is_answer(NLMSG_ERROR, sizeof *error) && error->error == -ENOENT)
        return {.answer = TcpOwner::Answer::absent};
    if (!is_answer(SOCK_DIAG_BY_FAMILY, sizeof *found)) return {};
    const bool is_listener = found->id.idiag_dport != id.idiag_dport;
    if (is_listener) return {.answer = TcpOwner::Answer::absent};
    return {.answer = TcpOwner::Answer::found, .user = found->idiag_uid, .inode = found->idiag_inode};
}
#else
constexpr bool kHasTcpTable = false;
Fd open_tcp_table() { return {}; }
TcpOwner tcp_owner(int, const SocketAddress &, const SocketAddress & = {}) { return {}; }
#endif
// <<< the owner of a TCP socket

// ----------------------------------------------------------------------------------------------------------------
// What all sections use
// ----------------------------------------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr auto kNever = Clock::time_point::max();

constexpr int kExitUsage = 2, kExitLost = 254, kExitNotAttached = 255;
constexpr int kNoKey = -1;  // no key detaches
constexpr milliseconds kStuckTerminal{500};  // a terminal that takes no byte for so long is given up

/// What the command line asks for: section 9 reads it.
struct Options {
    std::string address{};          // as the user wrote it
    std::vector<char *> program{};  // PROGRAM [ARG]...: parts of main's argv
    std::string shim{};             // the program of that name beside this one
    int key = '\\' & 0x1F;          // the byte that detaches, or kNoKey
    bool read_only = false;  // watch only
    bool raw = false;        // the server is no shim
    bool push = false;       // type standard input into the session, then leave
    bool kill = false;       // end the session
    bool alone = false;      // detach the other clients first: -d
    bool quiet = false;
};

/// Complains and exits. Not for raw mode: the terminal is not restored here.
[[noreturn]] void fail(int status, std::string_view what, std::string_view why) {
    complain(what, why);
    std::exit(status);
}

/// Writes a message that is no error to standard error; not to a terminal that stands still (Ctrl-S).
void say(bool quiet, const std::string &text) {
    const std::string line = "[" + printable(text) + "]\n";
    pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (quiet || ::poll(&ready, 1, static_cast<int>(kStuckTerminal.count())) != 1) return;
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

/// Whether a system call failed only because it is too early.
bool is_transient(ssize_t result) {
    return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/// The `n`th part of `text`, counted from 0, when `separator` stands between them; "" when there are not so many.
std::string_view nth_part(std::string_view text, char separator, std::size_t n) {
    for (; n > 0 && !text.empty(); --n) {
        const std::size_t at = text.find(separator);
        text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
    }
    return text.substr(0, text.find(separator));
}

/// The part of `text` between `before` and `after`; "" when these are not there.
std::string between(const std::string &text, std::string_view before, std::string_view after) {
    const std::size_t begin = text.find(before), from = begin + before.size();
    const std::size_t end = begin == std::string::npos ? begin : text.find(after, from);
    return end == std::string::npos ? "" : text.substr(from, end - from);
}

std::string read_all(int fd) {
    std::string all;
    char bytes[4096];
    for (ssize_t n = ::read(fd, bytes, sizeof bytes); n > 0; n = ::read(fd, bytes, sizeof bytes))
        all.append(bytes, static_cast<std::size_t>(n));
    return all;
}

/// Milliseconds up to `end`, for poll(2); 0 when it has passed.
int milliseconds_to(Clock::time_point end) {
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now()).count();
    return static_cast<int>(std::max<milliseconds::rep>(left, 0));
}

// ----------------------------------------------------------------------------------------------------------------
// 1. Signals
//
// Signals are blocked except where the loop lets them in, so no step is interrupted halfway. A signal that was
// ignored at the start (nohup(1)) stays ignored: POSIX, sigaction, rationale. SIGWINCH goes to the foreground
// process group when the terminal emulator or sshd sets the window's size (TIOCSWINSZ).
// ----------------------------------------------------------------------------------------------------------------

volatile std::sig_atomic_t g_ending = 0;  // the signal that ends us
volatile std::sig_atomic_t g_stopping = 0, g_continued = 0, g_resized = 0;  // SIGTSTP, SIGCONT, SIGWINCH

extern "C" void note_signal(int number) {
    if (number == SIGTSTP) g_stopping = 1;
    else if (number == SIGCONT) g_continued = 1;
    else if (number == SIGWINCH) g_resized = 1;
    else g_ending = number;
}

const sigset_t kNoSignals = [] { sigset_t none; sigemptyset(&none); return none; }();

void handle_signal(int number) {
    struct sigaction action{}, before{};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;  // a second attach waits for shim, and for answers, with these handlers
    action.sa_mask = kNoSignals;
    ::sigaction(number, &action, &before);
    if (before.sa_handler == SIG_IGN && number != SIGCONT && number != SIGWINCH)
        ::sigaction(number, &before, nullptr);
}

/// Handles every signal that would end or stop attach and leave the terminal raw. The others are faults, which end
/// attach at once; SIGKILL and SIGSTOP, which no program can handle; and signals that do no harm: signal(7).
void handle_signals() {
    constexpr int kLeft[] = {SIGILL,  SIGTRAP, SIGABRT, SIGBUS,  SIGFPE, SIGSEGV, SIGSYS,
                             SIGKILL, SIGSTOP, SIGTTIN, SIGTTOU, SIGCHLD, SIGURG};
    sigset_t handled = kNoSignals;
    for (int number = 1; number < NSIG; ++number) {
        if (std::ranges::find(kLeft, number) != std::end(kLeft)) continue;
        handle_signal(number);
        sigaddset(&handled, number);
    }
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    for (const int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);  // write(2) says EPIPE, EFBIG
}

/// Lets the handlers of pending signals run. pselect(2) does so only when it has to wait: in a flood it never has.
void let_signals_in() {
    sigset_t before;
    ::sigprocmask(SIG_SETMASK, &kNoSignals, &before);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

/// Dies of signal `number`, or stops until SIGCONT, as if attach did not handle it: the shell sees which it was.
void obey_default(int number) {
    std::signal(number, SIG_DFL);
    ::kill(::getpid(), number);
    let_signals_in();
    handle_signal(number);
}

// ----------------------------------------------------------------------------------------------------------------
// 2. Raw mode
//
// The line discipline of a terminal (termios(3)) collects a line until Return, echoes and edits it, and makes
// signals of some keys. The session's terminal has a line discipline. If the one of the user's terminal worked,
// too, each key would be echoed twice and wait for Return, and Ctrl-C would end attach.
//
// The shell shares the open file (open(2)) behind standard input, output and error, so O_NONBLOCK would be set for
// the shell, too. Therefore the three stay blocking, and are used only when select(2) says that they are ready. A
// pipe then takes PIPE_BUF bytes without blocking (pipe(7)). A terminal promises nothing, but its name gives
// another open file with an O_NONBLOCK of its own. Simplified: a terminal that may not be opened again (su(1)) can
// block attach.
// ----------------------------------------------------------------------------------------------------------------

/// `settings`, changed to raw mode. cfmakeraw(3) does about the same, but is not POSIX, and gives no reasons.
termios raw_mode(termios settings) {
    settings.c_lflag &= ~tcflag_t(ECHO | ECHONL);    // the session echoes
    settings.c_lflag &= ~tcflag_t(ICANON);           // each key at once: the session makes the lines
    settings.c_lflag &= ~tcflag_t(IEXTEN);           // Ctrl-V and Ctrl-O are keys
    settings.c_lflag &= ~tcflag_t(ISIG);             // Ctrl-C, Ctrl-Z, Ctrl-\ are keys: the session makes signals
    settings.c_iflag &= ~tcflag_t(INLCR | IGNCR | ICRNL);  // Return is CR: the session makes the NL
    settings.c_iflag &= ~tcflag_t(IXON);             // Ctrl-S and Ctrl-Q are keys
    settings.c_iflag &= ~tcflag_t(ISTRIP);           // all eight bits: UTF-8
    settings.c_iflag &= ~tcflag_t(IGNBRK | BRKINT | PARMRK);  // a break on a serial line is a zero byte
    settings.c_oflag &= ~tcflag_t(OPOST);            // the session has made CR NL of NL already
    settings.c_cflag &= ~tcflag_t(CSIZE | PARENB);   // eight bits and no parity, on a serial line
    settings.c_cflag |= CS8;
    settings.c_cc[VMIN] = 1;                         // read(2) gives what there is, from one byte on,
    settings.c_cc[VTIME] = 0;                        // and waits for that byte as long as it takes
    return settings;
}

/// Sent first: XTSAVE saves the modes that a user configures, and XTRESTORE (in kTakeBack) restores them.
/// Cursor blinks; 132 columns are allowed; Backspace sends BS; the wheel sends arrow keys; Meta sets the eighth
/// bit, Meta or Alt sends ESC; selection and bell; function keys of Sun, HP, VT220.
constexpr char kKeep[] = "\033[?12;40;67;1007;1034;1036;1039;1041;1042;1043;1050;1051;1052;1053;1060;1061s";

// Tektronix to VT (ESC ETX); the end of a sequence that was cut (CAN), of a string (ST); VT52 to ANSI.
constexpr std::string_view kEndCut = "\033\003\030\033\\\033<";
constexpr std::string_view kTakeBack =
    "\033[0 q"                                     // the cursor's shape (in xterm 0 blinks); what kKeep kept
    "\033[?12;40;67;1007;1034;1036;1039;1041;1042;1043;1050;1051;1052;1053;1060;1061r"
    "\033]8;;\033\\"                               // no hyperlink
    "\033[?1;5;42;45;66;69l\033>"                  // cursor keys, reverse video, national sets, wrap, margins
    "\033[?9;1000;1001;1002;1003;1004l"            // mouse: clicks ... every movement; focus
    "\033[?1005;1006;1015;1016l"                   // and how the mouse's place is written
    "\033[?2004;2026;2031;2048;9001l"              // paste, synchronized output, colour scheme, size, Win32 keys
    "\033[?7;25h\033[2;4;20l\033[12h"              // autowrap, cursor; keyboard lock, insert, LF; no echo
    "\0337\033[r\0338"                             // whole screen scrolls (that moves the cursor: kept)
    "\033(B\033)B\017"                             // ASCII in two character sets, the first one in use
    "\033[=0u\033[>4m\033[m";                      // keys: kitty's, xterm's (which some take for a colour: 4 m)
// The Linux console prints the last letter of these. So they are sent in the first column, which is then erased.
constexpr std::string_view kTakeBackLast = "\033 F\033*B\033+B\r";  // 7-bit controls; ASCII in the other two

/// The changes to the user's terminal that attach must know in order to undo them.
///
/// A full-screen program that we detach from does not take its modes back, so attach does: nearly all by one
/// sequence that does nothing where nothing was set. For the rest attach follows the output: the alternate screen
/// and origin mode (leaving either moves the cursor), 132 columns (leaving them clears the screen), and how many
/// keyboard modes were pushed, for the shell may have pushed some before. DECSTR ("soft reset") is not sent:
/// terminals differ in what they reset. Palette, title and tab stops are left alone.
class ScreenState {
public:
    /// Follows bytes that the terminal has been sent: any bytes, cut anywhere.
    void follow(std::string_view written) {
        for (const char c : written) {
            if (c == '\033') sequence_ = c;  // begins anew in any state; CAN and SUB break off
            else if (c == '\030' || c == '\032') sequence_.clear();
            else if (!sequence_.empty()) step(c);
        }
    }

    /// The bytes that restore the terminal and leave the cursor at the beginning of a line, with nothing below.
    [[nodiscard]] std::string undo(std::size_t columns) const {
        std::string out(kEndCut);
        if (origin_) out += "\033[?6l";
        if (alternate_ != 0) out += pop_keyboard(1) + "\033[?" + std::to_string(alternate_) + "l";
        if (wide_) out += "\033[?3l";
        out.append(pop_keyboard(0)).append(kTakeBack);
        // Mode 1049 brings the cursor back by itself; leaving 47, 1047 or origin mode moves it.
        const bool is_cursor_lost = alternate_ != 0 ? alternate_ != 1049 : origin_;
        if (is_cursor_lost) out += "\033[9999H\r\n";
        else out.append(columns - 1, ' ').append("\r");  // a new line, unless the cursor is in the first column
        return out.append(kTakeBackLast).append("\033[J");
    }

private:
    static constexpr std::size_t kLongest = 4096;  // bytes of a sequence that is followed

    void step(char c) {
        sequence_ += c;
        const bool is_final = sequence_.size() == 2 ? c != '[' : c >= '@' && c <= '~';
        if (sequence_ == "\033c") *this = ScreenState();  // RIS: everything as when the terminal was switched on
        if (is_final && sequence_.size() > 2) end_control_sequence();
        if (is_final || sequence_.size() > kLongest) sequence_.clear();
    }

    /// sequence_ is ESC [, an optional prefix, numbers, and the final character, which tells what it does.
    void end_control_sequence() {
        const char final = sequence_.back(), prefix = sequence_[2];
        const std::string_view numbers = std::string_view(sequence_).substr(3, sequence_.size() - 4);
        const auto number = [&](std::size_t n) { return parse_number(nth_part(numbers, ';', n)); };
        if (prefix == '?' && (final == 'h' || final == 'l'))
            for (std::size_t n = 0; number(n); ++n) {  // DECSET, DECRST
                const std::uint64_t mode = *number(n);
                if (mode == 3) wide_ = final == 'h';
                if (mode == 6) origin_ = final == 'h';
                if (mode == 47 || mode == 1047 || mode == 1049) alternate_ = final == 'h' ? mode : 0;
            }
        if (final != 'u') return;
        std::uint64_t &pushed = pushed_[alternate_ != 0];
        if (prefix == '>') ++pushed;
        if (prefix == '<') pushed -= std::min(pushed, std::max<std::uint64_t>(number(0).value_or(1), 1));
    }

    [[nodiscard]] std::string pop_keyboard(std::size_t screen) const {
        return pushed_[screen] == 0 ? "" : "\033[<" + std::to_string(pushed_[screen]) + "u";
    }

    std::string sequence_;          // from its ESC on, while it is not whole
    std::uint64_t alternate_ = 0;   // the mode that switched to the alternate screen: 47, 1047, 1049
    bool origin_ = false;           // rows count from the top of the scroll region
    bool wide_ = false;             // 132 columns
    std::uint64_t pushed_[2] = {};  // kitty's keyboard modes: of the main screen, of the alternate one
};

/// The window of standard output's terminal, else of standard input's. A terminal that knows no size (a serial
/// line, a container's before its first resize) counts as 80x24: a hello with rows and columns 0 would say that
/// there is no window.
winsize window_size() {
    for (const int fd : {STDOUT_FILENO, STDIN_FILENO}) {
        winsize window{};
        if (::ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_row != 0 && window.ws_col != 0) return window;
    }
    return {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
}

/// The terminal that attach runs on; either side may also be a pipe or a file.
class UserTerminal {
public:
    const bool has_keys, has_screen;  // standard input, standard output is a terminal

    /// `pipes`: standard input and output are treated as pipes, whatever they are.
    explicit UserTerminal(bool pipes)
        : has_keys(!pipes && ::isatty(STDIN_FILENO) == 1), has_screen(!pipes && ::isatty(STDOUT_FILENO) == 1) {
        const char *name = has_screen ? ::ttyname(STDOUT_FILENO) : nullptr;
        if (name != nullptr) terminal_output_.reset(::open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        if (terminal_output_.get() >= FD_SETSIZE) terminal_output_.reset();
    }

    /// Waits until attach is in the foreground; a signal that ends it (g_ending) ends the wait, too. TCSANOW keeps
    /// the bytes that were typed ahead: they are for the program.
    void enter_raw_mode() {
        // In the background (`attach work &`) the settings are the shell's own, and tcsetattr(3) would stop us.
        if (has_keys && !is_in_front()) ::kill(::getpid(), SIGTTOU);
        let_signals_in();
        g_continued = 0;
        if (g_ending != 0) return;
        entered_ = true;
        if (has_keys) ::tcgetattr(STDIN_FILENO, &settings_);
        const termios raw = raw_mode(settings_);
        if (has_keys) ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        if (has_screen) write_own(kKeep);
    }

    /// Brings back the settings and the screen's modes, once, however often it is called. `reports`: the terminal
    /// sends more than keys, so the bytes on their way are awaited and thrown away.
    void restore(bool reports) {
        if (!std::exchange(entered_, false)) return;
        if (has_screen) write_own(screen_.undo(window_size().ws_col));
        const bool in_front = has_keys && is_in_front();  // else read(2) and tcsetattr(3) would stop us
        if (reports && has_screen && in_front) discard_reports();
        screen_ = ScreenState();
        if (in_front) ::tcsetattr(STDIN_FILENO, TCSANOW, &settings_);
    }

    /// write(2) to standard output, of as many bytes as it takes without blocking once select(2) calls it ready.
    ssize_t write(std::string_view bytes) {
        const std::size_t most = terminal_output_ ? bytes.size() : PIPE_BUF;
        const ssize_t n = ::write(output(), bytes.data(), std::min(most, bytes.size()));
        if (n > 0) screen_.follow(bytes.substr(0, static_cast<std::size_t>(n)));
        return n;
    }

    [[nodiscard]] int output() const { return terminal_output_ ? terminal_output_.get() : STDOUT_FILENO; }

private:
    static bool is_in_front() {
        const pid_t front = ::tcgetpgrp(STDIN_FILENO);
        return front < 0 || front == ::getpgrp();
    }

    /// Writes text of our own. A terminal that takes nothing is given up after kStuckTerminal.
    void write_own(const std::string &text) const {
        pollfd ready{.fd = output(), .events = POLLOUT, .revents = 0};
        for (std::size_t done = 0; done < text.size() && ::poll(&ready, 1, kStuckTerminal.count()) == 1;) {
            const ssize_t n = ::write(output(), &text[done], text.size() - done);
            if (n <= 0) return;
            done += static_cast<std::size_t>(n);
        }
    }

    /// Asks the terminal for its status (DSR, `CSI 5 n`): bytes that come before the answer (`CSI 0 n`, or 3) were
    /// on their way, and would be typed to the shell. Bytes behind the answer are for the shell, so single bytes
    /// are read.
    void discard_reports() const {
        constexpr milliseconds kAnswer{2000};
        write_own("\033[5n");
        std::string seen;
        pollfd keyboard{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
        for (const auto end = Clock::now() + kAnswer; !seen.ends_with("\033[0n") && !seen.ends_with("\033[3n");) {
            char byte = 0;
            if (::poll(&keyboard, 1, milliseconds_to(end)) != 1 || ::read(STDIN_FILENO, &byte, 1) != 1) return;
            seen += byte;
        }
    }

    bool entered_ = false;        // between enter_raw_mode() and restore()
    termios settings_{};          // of standard input, as they were before
    Fd terminal_output_;              // standard output's terminal, opened once more
    ScreenState screen_;
};

// ----------------------------------------------------------------------------------------------------------------
// 3. The wire
//
// The goodbye is the last five bytes before the end of the connection, and only that end tells it from the
// program's bytes. So bytes that may be its beginning are held back until more has come.
// ----------------------------------------------------------------------------------------------------------------

constexpr std::string_view kGoodbye = "\xFF\xFFxx", kLeave = "\xFF\xFF" "dd";
constexpr std::string_view kTaken = "\xFF\xFFok", kTold = "\xFF\xFFtt";
constexpr std::size_t kGoodbyeBytes = kGoodbye.size() + 1;  // the status is behind it

/// The purpose of a client, which a hello without a window tells in its x pixels. The first two take output.
enum class HelloKind : unsigned short { pipe = 0, watch = 1, push = 2, end = 3, tell = 4, alone = 5 };

/// A number as the wire has it: 16 bits in network order.
std::string number_bytes(std::size_t number) {
    return {static_cast<char>(number >> 8 & 0xFF), static_cast<char>(number & 0xFF)};
}

/// The window-change message, which is the hello too; without a window, rows and columns are 0.
std::string window_change(const winsize &window) {
    std::string message = "\xFF\xFFss";
    for (const unsigned short number : {window.ws_row, window.ws_col, window.ws_xpixel, window.ws_ypixel})
        message += number_bytes(number);
    return message;
}

std::string hello_without_window(HelloKind kind) {
    return window_change(
        {.ws_row = 0, .ws_col = 0, .ws_xpixel = static_cast<unsigned short>(kind), .ws_ypixel = 0});
}

/// `bytes` as answers (`a`) or noise (`n`): in as many messages as that takes.
std::string framed(char kind, std::string_view bytes) {
    constexpr std::size_t kMost = 0xFFFF;
    std::string messages;
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kMost, bytes.size()))) {
        const std::string_view part = bytes.substr(0, kMost);
        messages.append("\xFF\xFF").append(2, kind).append(number_bytes(part.size())).append(part);
    }
    return messages;
}

/// How many bytes at the end of `received` (0 to 5) may be the shim's last message or its beginning.
std::size_t bytes_of_farewell(std::string_view received) {
    for (std::size_t n = std::min(kGoodbyeBytes, received.size()); n > 0; --n) {
        const std::string_view tail = received.substr(received.size() - n);
        if (tail.starts_with(kGoodbye.substr(0, n)) || kLeave.starts_with(tail)) return n;
    }
    return 0;
}

/// The status in the goodbye that `received` ends with.
std::optional<int> goodbye_status(std::string_view received) {
    if (bytes_of_farewell(received) != kGoodbyeBytes) return {};
    return static_cast<unsigned char>(received.back());
}

// ----------------------------------------------------------------------------------------------------------------
// 4. What comes from the terminal
//
// Keys, and more: a terminal answers a program's questions and reports what the mouse does, all in one stream that
// may be cut anywhere. Answers are distinguished from typed keys, because of several terminals only one may
// answer. The detach key is a byte, or a control sequence when a program has asked for that form of keys. Bytes
// that may be the beginning of a sequence wait a moment for more: the user may also have hit Escape, or Alt and ].
// ----------------------------------------------------------------------------------------------------------------

constexpr milliseconds kSequenceWait{50}, kStringWait{500};  // for more of a control sequence, of a string
constexpr milliseconds kPasteSilence{1000};                  // ends a paste whose end was lost
constexpr std::size_t kLongestKey = 64;                      // bytes of a control sequence
constexpr std::size_t kLongestString = 1 << 20;              // of an answer: a clipboard may be long

std::string key_name(int key) {
    if (key >= 0x20 && key < 0x7F) return {static_cast<char>(key)};
    return std::string("Ctrl-") + static_cast<char>(key ^ 0x40);
}

/// The byte that Ctrl types with the character `c`, or -1: what Xlib's XLookupString and kitty's table have in
/// common with a VT100. Ctrl-4 is Ctrl-\, Ctrl-Space is Ctrl-@.
int control_of(std::uint64_t c) {
    if (c < 0x20) return static_cast<int>(c);  // Tab, Return, Escape are the same with Ctrl
    if (c == ' ' || c == '2') return 0;
    if (c >= '3' && c <= '7') return static_cast<int>(c - '3' + 0x1B);
    if (c == '/') return 0x1F;
    if (c == '8' || c == '?') return 0x7F;
    if (c == 0x7F) return '\b';
    return c >= '@' && c < 0x7F ? static_cast<int>(c & 0x1F) : -1;
}

/// Whether the control sequence ESC [ `parameters` `final` encodes the key that would type the byte `key`:
///
///     CODE:SHIFTED:BASE;MODIFIERS:EVENT;TEXT u   kitty's; event 3 is the release; xterm's formatOtherKeys: CODE
///     27;MODIFIERS;CODE ~                        xterm's modifyOtherKeys: Shift has already been applied to CODE
///     KEY;..;CHARACTER;DOWN;.. _                 Win32 input; DOWN 0 is the release
///
/// MODIFIERS is 1 plus a sum: Shift 1, Alt 2, Ctrl 4, others 8 to 32, caps lock 64, num lock 128. Where SHIFTED or
/// BASE is missing, the keyboard is taken for an American one.
bool is_encoded_key(std::string_view parameters, char final, int key) {
    constexpr std::string_view kPlain = R"(`1234567890-=[]\;',./)", kShifted = R"(~!@#$%^&*()_+{}|:"<>?)";
    constexpr std::uint64_t kShift = 1, kCtrl = 4, kLocks = 64 + 128;
    const auto number = [&](std::size_t n, std::size_t part = 0) {
        return parse_number(nth_part(nth_part(parameters, ';', n), ':', part)).value_or(0);
    };
    const auto wanted = static_cast<std::uint64_t>(key);
    if (key == kNoKey) return false;
    // A key without a character has CHARACTER 0, too: for NUL only the space bar counts.
    if (final == '_') return number(2) == wanted && number(3) == 1 && (key != 0 || number(0) == ' ');
    const bool is_xterm = final == '~' && number(0) == 27;
    if ((final != 'u' && !is_xterm) || number(1, 1) == 3) return false;
    const std::uint64_t modifiers = (std::max<std::uint64_t>(number(1), 1) - 1) & ~kLocks;
    const bool has_shift = (modifiers & kShift) != 0;
    std::uint64_t code = number(is_xterm ? 2 : 0);
    if (code > 0x7F && number(0, 2) != 0) code = number(0, 2);
    const bool is_letter = (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    if (has_shift && !is_xterm) {
        const std::size_t at = code < 0x80 ? kPlain.find(static_cast<char>(code)) : std::string_view::npos;
        if (number(0, 1) != 0) code = number(0, 1);
        else if (at != std::string_view::npos) code = static_cast<unsigned char>(kShifted[at]);
        else if (is_letter) code &= ~std::uint64_t{0x20};
    }
    if ((modifiers & ~kShift) == kCtrl) return control_of(code) == key && !(has_shift && is_letter);
    const std::uint64_t text = is_xterm ? 0 : number(2);
    return (modifiers & ~kShift) == 0 && (text != 0 ? text : code) == wanted;
}

/// typed: keys, clicks, the wheel. answer: the terminal's reply to a question of the program. noise: events
/// without a key or button (focus, motion).
enum class Sent : char { typed = 0, answer = 'a', noise = 'n' };

/// The kind of a control sequence, by what stands behind its ESC [ (XTerm Control Sequences, fnmatch(3)).
Sent kind_of_control(const std::string &sequence) {
    constexpr const char *kKeys[] = {"1;[2-9]R", "1;1[0-6]R", "[0-9]*;*;*R"};  // the first two: Shift-F3 ...
    constexpr const char *kAnswers[] = {
        "[?]*R", "[0-9]*;[0-9]*R",            // the cursor's place
        "[>=?]*c",                            // what terminal it is; urxvt's Shift-Right is CSI c
        "?*n", "?*x",                         // its status; the parameters of its line
        "*;*t", "*;*$y",                      // the window; a mode
        "[?]*u", "[?]*S", "[0-9>]*m",         // the keyboard protocol; graphics; a rendition, modifyOtherKeys
        "[0-9]*[*]{", "[?]*#Q"};              // the macros' space; the colours' stack
    constexpr const char *kNoise[] = {
        "I", "O",                             // the focus comes and goes
        // Motion: the buttons' number has 32, and 3 for none. Shift, Alt and Ctrl add 4, 8 and 16.
        "<3[59];*M", "<4[37];*M", "<5[159];*M", "<63;*M",
        "67;*M", "7[159];*M", "8[37];*M", "9[15];*M", "M[[CGKOSW_]*"};  // urxvt's form and the oldest one: 32 more
    const auto fits = [&](const char *pattern) { return ::fnmatch(pattern, sequence.c_str(), 0) == 0; };
    if (std::ranges::any_of(kKeys, fits)) return Sent::typed;
    if (std::ranges::any_of(kAnswers, fits)) return Sent::answer;
    return std::ranges::any_of(kNoise, fits) ? Sent::noise : Sent::typed;
}

constexpr std::size_t kCut = std::string_view::npos;

/// The length of the sequence that `bytes` begin with: a control sequence, or a string that begins as an answer
/// does (OSC, DCS, APC). 1: there is none, the first byte is a key; kCut: more may make it one.
std::size_t sequence_length(std::string_view bytes) {
    constexpr std::size_t kMouseBytes = 6;  // ESC [ M, then three that may be any
    constexpr std::string_view kStrings = "]P_", kBegin[] = {"0123456789lL", "0123456789>!$", "G"};
    if (bytes[0] != '\033') return 1;
    if (bytes.size() < 2) return kCut;
    std::size_t end = 2;
    if (bytes[1] == '[') {
        while (end < bytes.size() && bytes[end] >= ' ' && bytes[end] <= '?') ++end;  // parameters
        if (end >= kLongestKey) return 1;
        if (end == bytes.size()) return kCut;
        if (end == 2 && bytes[end] == 'M') return bytes.size() < kMouseBytes ? kCut : kMouseBytes;
        return bytes[end] >= '@' && bytes[end] <= '~' ? end + 1 : 1;
    }
    const std::size_t kind = kStrings.find(bytes[1]);
    if (kind == std::string_view::npos) return 1;
    if (bytes.size() == 2) return kCut;
    if (kBegin[kind].find(bytes[2]) == std::string_view::npos) return 1;
    const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; };
    while (end < bytes.size() && !is_control(bytes[end])) ++end;
    if (end >= kLongestString) return 1;
    if (end == bytes.size()) return kCut;
    if (bytes[end] == '\a') return end + 1;  // the string's end; ESC and a backslash are, too
    if (bytes[end] != '\033') return 1;
    if (end + 1 == bytes.size()) return kCut;
    return bytes[end + 1] == '\\' ? end + 2 : 1;
}

/// Splits the bytes that the terminal sends into keys, answers and noise. Where the bytes are cut makes no
/// difference.
class TerminalInput {
public:
    struct Piece {
        Sent kind;
        std::string bytes;
    };

    explicit TerminalInput(int key) : key_(key) {}

    /// Takes bytes that have come at this time. Bytes behind the detach key are thrown away.
    void feed(std::string_view bytes, Clock::time_point now) {
        if (now - last_ > kPasteSilence) in_paste_ = false;
        last_ = now;
        held_ += bytes;
        std::string_view rest = held_;
        while (!rest.empty() && !has_detach_key_) {
            const std::size_t length = in_paste_ ? pasted_length(rest) : sequence_length(rest);
            if (length == kCut) break;
            if (in_paste_) put(Sent::typed, rest.substr(0, length));
            else if (length == 1) take_key(rest.front());
            else take_sequence(rest.substr(0, length));
            if (in_paste_) in_paste_ = length == 1;  // longer: the end marker
            else in_paste_ = rest.starts_with("\033[200~");
            rest.remove_prefix(length);
        }
        if (has_detach_key_ && rest.size() > kLongestKey) has_reports_ = true;  // a paste: more of it may come
        held_.erase(0, has_detach_key_ ? held_.size() : held_.size() - rest.size());
    }

    /// Bytes that have waited for more in vain are keys.
    void release() {
        const std::string keys = std::exchange(held_, {});
        if (in_paste_) return put(Sent::typed, keys);
        for (const char c : keys) take_key(c);
    }

    /// When the bytes held back are keys, if no more come; kNever when there are none.
    [[nodiscard]] Clock::time_point held_until() const {
        if (held_.empty()) return kNever;
        return last_ + (held_.size() > 2 && held_[1] != '[' ? kStringWait : kSequenceWait);
    }

    [[nodiscard]] std::vector<Piece> take_pieces() { return std::exchange(pieces_, {}); }
    [[nodiscard]] bool has_detach_key() const { return has_detach_key_; }
    /// Whether anything but plain keys has come: more of that may be on its way.
    [[nodiscard]] bool has_reports() const { return has_reports_; }

private:
    void take_key(char c) {
        has_detach_key_ = has_detach_key_ || static_cast<unsigned char>(c) == key_;
        if (!has_detach_key_) put(Sent::typed, {&c, 1});
    }

    /// The length of the piece that a pasted text begins with: its end marker, or 1 for any byte, which is no key.
    static std::size_t pasted_length(std::string_view bytes) {
        constexpr std::string_view kEnd = "\033[201~";
        if (bytes.starts_with(kEnd)) return kEnd.size();
        return kEnd.starts_with(bytes) ? kCut : 1;
    }

    void take_sequence(std::string_view whole) {
        if (whole[1] != '[') return put(Sent::answer, whole);
        const std::string_view parameters = whole.substr(2, whole.size() - 3);
        const char final = whole.back();
        const bool is_mouse = final == 'M' || final == 'm' || parameters.starts_with('M');
        const bool is_encoded = final == '_' || final == 'u' || parameters.starts_with("27;") ||
                                parameters.find(':') != std::string_view::npos;
        has_detach_key_ = !is_mouse && is_encoded_key(parameters, final, key_);
        has_reports_ = has_reports_ || is_encoded || is_mouse;
        if (has_detach_key_) return;
        put(kind_of_control(std::string(whole.substr(2))), whole);
    }

    void put(Sent kind, std::string_view bytes) {
        if (kind != Sent::typed) has_reports_ = true;
        if (pieces_.empty() || pieces_.back().kind != kind) pieces_.push_back({.kind = kind, .bytes = {}});
        pieces_.back().bytes += bytes;
    }

    int key_;
    std::string held_;           // the beginning of a sequence
    bool in_paste_ = false;
    std::vector<Piece> pieces_;
    bool has_detach_key_ = false, has_reports_ = false;
    Clock::time_point last_{};   // when bytes came last
};

// ----------------------------------------------------------------------------------------------------------------
// 5. Whose server it is, and connecting
//
// Once a shim has ended, another user could listen at its port and receive what is typed. So nothing is sent
// before the kernel has said which user owns the server: it knows which process made a Unix-domain socket, and its
// table of TCP sockets (sock_diag(7)) has the owner of each listening socket of this machine. attach asks before
// and after connecting, because a connection in a listener's queue has no owner yet. A server on another machine
// is trusted.
// ----------------------------------------------------------------------------------------------------------------

const char *socket_path(const SocketAddress &address) {
    return reinterpret_cast<const sockaddr_un *>(&address.storage)->sun_path;
}

bool is_unix(const SocketAddress &address) { return address.storage.ss_family == AF_UNIX; }

/// Whether a TCP address is one of this machine's, in doubt yes: a socket can be bound only to such an address.
/// (Simplified: with ip(7)'s ip_nonlocal_bind, to any; then only -R reaches another machine.)
bool is_here(const SocketAddress &address) {
    const Fd probe(::socket(address.storage.ss_family, SOCK_DGRAM, 0));
    return !probe || ::bind(probe.get(), address.get(), address.length) == 0 || errno != EADDRNOTAVAIL;
}

/// The reason why nothing must be sent to this server; none when it is trusted.
std::optional<std::string> objection_to(const TcpOwner &server) {
    if (server.is_found() && is_ours(server.user)) return std::nullopt;
    if (server.is_found())
        return "a program of user " + std::to_string(server.user) +
               " listens there: not attached (take another port; -R does not ask)";
    if (!server.is_absent())
        return "the kernel does not tell who listens there (sock_diag): not attached (-R does not ask)";
    return "no program of this machine listens there: not attached (-R does not ask: for a port that the kernel "
           "forwards, into a container say)";
}

constexpr milliseconds kNoLimit{-1};  // connecting may take any time

struct Connection {
    Fd socket{};
    SocketAddress address{};
    std::string why{};    // the reason why there is no socket
    bool nobody = false;  // that reason is only that no process listens
};

/// Why connecting to `address`, one of ADDRESS's, has failed with `error`, and what to do.
std::string explain_failure(const std::string &text, const SocketAddress &address, int error) {
    struct stat file{};
    if (error == EACCES) return "another user's session: no permission";
    if (is_session_name(text) && error == ENOENT)
        return "no session of that name, and none has been (attach lists those that run)";
    if (error != ECONNREFUSED && error != ENOENT) return std::strerror(error);
    const std::string advice = " (attach " + text + " PROGRAM starts a session)";
    if (!is_unix(address) || error == ENOENT) return "nobody listens there" + advice;
    if (::stat(socket_path(address), &file) == 0 && !S_ISSOCK(file.st_mode))
        return "a file, not a session's socket (record play shows a recording)";
    return "nobody listens: its shim was killed" + advice;
}

/// A socket that is connected to `address` before `limit` has passed; else none, and errno tells why. A full queue
/// of a Unix-domain socket (EAGAIN) is waited for only without a limit.
Fd open_connection(const SocketAddress &address, milliseconds limit) {
    Fd fd(::socket(address.storage.ss_family, SOCK_STREAM, 0));
    if (fd && limit != kNoLimit) ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    int error = fd && ::connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        pollfd connected{.fd = fd.get(), .events = POLLOUT, .revents = 0};
        socklen_t length = sizeof error;
        if (::poll(&connected, 1, static_cast<int>(limit.count())) != 1) error = ETIMEDOUT;
        else ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    }
    if (error == 0 && fd.get() >= FD_SETSIZE) error = EMFILE;  // select(2) could not watch it
    if (error != 0) fd.reset();
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a key goes out at once
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // a shim that has vanished is noticed
    errno = error;
    return fd;
}

/// Connects to `address`, one of ADDRESS's, if its server is trusted, or with -R.
Connection connect_to_one(const Options &options, const SocketAddress &address, milliseconds limit = kNoLimit) {
    const bool asks = !options.raw && kHasTcpTable && !is_unix(address) && is_here(address);
    const auto listener = [&] { return asks ? tcp_owner(open_tcp_table().get(), address) : TcpOwner{}; };
    const TcpOwner before = listener();
    if (before.is_found() && !is_ours(before.user)) return {.why = *objection_to(before)};
    Connection there{.socket = open_connection(address, limit), .address = address};
    const int error = there.socket ? 0 : errno;
    TcpOwner after = listener();
    const bool has_ended = before.is_found() && after.is_absent();  // the session has ended, just now
    if (error != 0 || has_ended) {
        const int reason = has_ended ? ECONNREFUSED : error;
        return {.why = explain_failure(options.address, address, reason),
                .nobody = reason == ECONNREFUSED || reason == ENOENT};
    }
    if (is_unix(address)) after = {TcpOwner::Answer::found, unix_server(there.socket.get()).user};
    const bool is_checked = asks || (!options.raw && is_unix(address));
    const auto objection = is_checked ? objection_to(after) : std::nullopt;
    if (objection) return {.why = *objection};
    return there;
}

/// Connects to the first address of ADDRESS that answers and is trusted; else gives the reason.
Connection connect_to(const Options &options) {
    const Resolved found = resolve(options.address);
    const int status = found.malformed ? kExitUsage : kExitNotAttached;
    if (found.addresses.empty()) fail(status, options.address, found.why);
    Connection failed{.nobody = true};
    for (const SocketAddress &address : found.addresses) {
        Connection there = connect_to_one(options, address);
        if (there.socket) return there;
        if (failed.nobody) failed = std::move(there);
    }
    return failed;
}

// ----------------------------------------------------------------------------------------------------------------
// 6. The copy loop
//
// The two directions are independent. Each has one bounded buffer, and a side is read only while its buffer has
// room. pselect(2) unblocks signals and begins to wait in one step: with a plain select(2), a signal just before
// it would set a flag that is not looked at until the next byte.
//
// After a stop, attach does not know what the terminal shows. It connects once more, and the shim paints the
// session's screen. Keys typed before the stop must come before keys typed after it. So the first connection
// becomes a push (attach -p): the shim replies when the program's terminal has all of its bytes, and only then is
// anything sent over the second one. (A write to a socket tells only that the kernel has the bytes.)
// ----------------------------------------------------------------------------------------------------------------

constexpr std::size_t kBufferBytes = 64 << 10;
constexpr std::size_t kTypedBytes = 16 << 20;  // for a program that does not read: the detach key may still come
constexpr milliseconds kReconnectWait{1000};   // for the second connection
constexpr std::chrono::hours kLongestWait{1};  // when nothing is due
constexpr milliseconds kDetachWait{1000};      // for the shim to take what was typed before the detach key
constexpr milliseconds kAtOnce{1000};          // a connection that is closed so soon was not accepted

enum class Outcome { none, detached, evicted, program_ended, pushed, lost, refused, no_output, signal };

class Relay {
public:
    /// Queues the hello; sends nothing yet.
    Relay(const Options &options, UserTerminal &terminal, Connection &&there)
        : options_(options), terminal_(terminal), socket_(std::move(there.socket)), address_(there.address),
          has_window_((terminal.has_keys || terminal.has_screen) && !options.raw && !options.read_only),
          input_open_(!options.read_only || terminal.has_keys), all_queued_(options.read_only),
          keyboard_(options.key) {
        if (!options.raw) to_shim_ = hello();
    }

    void run() {
        terminal_.enter_raw_mode();
        obey_signals();
        write_socket();
        while (!is_finished()) {
            // Build the sets: which descriptors are read, and which have bytes to be written.
            fd_set readable, writable;
            FD_ZERO(&readable);
            FD_ZERO(&writable);
            const std::size_t most_input = terminal_.has_keys ? kTypedBytes : kBufferBytes;
            if (input_open_ && to_shim_.size() < most_input) FD_SET(STDIN_FILENO, &readable);
            if (receiving_ && to_screen_.size() < kBufferBytes) FD_SET(socket_.get(), &readable);
            if (first_socket_) FD_SET(first_socket_.get(), &readable);
            if ((wants_reconnect_ || !to_shim_.empty()) && !first_socket_) FD_SET(socket_.get(), &writable);
            if (showable() > 0) FD_SET(terminal_.output(), &writable);

            // Wait, and let signals in.
            const auto due = std::min({deadline_, keyboard_.held_until(), Clock::now() + kLongestWait});
            const int left = milliseconds_to(due);
            const timespec most{.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000L};
            const int highest = std::max({socket_.get(), terminal_.output(), first_socket_.get()});
            const int ready = ::pselect(highest + 1, &readable, &writable, nullptr, &most, &kNoSignals);
            let_signals_in();

            // Dispatch. After a signal nothing counts as ready: the shell may have had the terminal meanwhile.
            if (obey_signals() || ready < 0) {
                FD_ZERO(&readable);
                FD_ZERO(&writable);
            }
            if (FD_ISSET(STDIN_FILENO, &readable)) read_input();
            if (FD_ISSET(socket_.get(), &readable)) read_socket();
            if (first_socket_ && FD_ISSET(first_socket_.get(), &readable)) read_first_socket();

            // Flush. Each turn tries to send: a key goes out in the turn that has read it.
            if (Clock::now() >= keyboard_.held_until()) {
                keyboard_.release();
                queue_input();
            }
            const bool has_room = !first_socket_ && to_shim_.empty() && FD_ISSET(socket_.get(), &writable);
            if (wants_reconnect_ && has_room && outcome_ == Outcome::none) reconnect();
            write_socket();
            if (FD_ISSET(terminal_.output(), &writable)) write_screen();
        }
        terminal_.restore(keyboard_.has_reports());
    }

    /// Whether the session closed the connection at once: it does not let us in, or it was just ending. When the
    /// listener closes, the kernel resets connections that it has not accepted (listen(2)): nothing is lost then,
    /// and another session can begin.
    [[nodiscard]] bool is_refused() const { return outcome_ == Outcome::refused; }

    /// Tells the reason of the end; gives the exit status. Dies of the signal, if one ended attach.
    [[nodiscard]] int report() const {
        const std::string &address = options_.address;
        const auto tell = [&](int status, const std::string &text) {
            say(options_.quiet, text);
            return status;
        };
        switch (outcome_) {
        case Outcome::detached: return tell(0, "detached from " + address);
        case Outcome::evicted: return tell(0, "detached from " + address + ": by another attach");
        case Outcome::program_ended:
            return tell(status_, address + " ended with status " + std::to_string(status_));
        case Outcome::refused:
            return tell(kExitLost, address + ": its shim does not let this user in, or the session has ended");
        case Outcome::pushed: return 0;
        case Outcome::no_output:
            if (status_ == EPIPE) return 0;  // its reader has seen enough
            fail(kExitNotAttached, "standard output", std::strerror(status_));
        case Outcome::signal: obey_default(g_ending); return 128 + g_ending;
        case Outcome::none: case Outcome::lost: break;
        }
        if (options_.push) fail(kExitLost, address, "the session did not take all of the input");
        return tell(kExitLost, "connection to " + address + " lost");
    }

private:
    /// Obeys the signals that have come; gives whether there were any.
    bool obey_signals() {
        const bool any = g_ending != 0 || g_stopping != 0 || g_continued != 0 || g_resized != 0;
        if (std::exchange(g_resized, 0) != 0 && has_window_) queue(window_change(window_size()));
        if (std::exchange(g_stopping, 0) != 0) {
            terminal_.restore(keyboard_.has_reports());
            obey_default(SIGTSTP);
            g_continued = 1;  // an orphaned process group does not stop (POSIX, 2.4.3): there is no SIGCONT then
        }
        if (g_ending == 0 && std::exchange(g_continued, 0) != 0) {  // a shell may have set the terminal meanwhile
            terminal_.restore(false);
            terminal_.enter_raw_mode();
            if (terminal_.has_screen && !options_.raw) wants_reconnect_ = true;
        }
        if (g_ending != 0) outcome_ = Outcome::signal;  // it may have come while attach was stopped
        return any;
    }

    void read_input() {
        char bytes[kBufferBytes];
        const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
        if (is_transient(n)) return;
        if (n <= 0) {
            input_open_ = false;
            all_queued_ = true;
            if (terminal_.has_keys) detach();  // the terminal was hung up
            return;
        }
        const std::string_view sent(bytes, static_cast<std::size_t>(n));
        has_copied_ = has_copied_ || !terminal_.has_keys;
        if (!terminal_.has_keys) return queue(sent);
        keyboard_.feed(sent, Clock::now());
        queue_input();
    }

    void read_socket() {
        char bytes[kBufferBytes];
        const ssize_t n = ::recv(socket_.get(), bytes, kBufferBytes - to_screen_.size(), MSG_DONTWAIT);
        if (is_transient(n)) return;
        if (n > 0) {
            has_copied_ = true;
            to_screen_.append(bytes, static_cast<std::size_t>(n));
            if (!options_.push) return;
            to_screen_.erase(0, to_screen_.size() - std::min(to_screen_.size(), kTaken.size()));
            if (!sending_ && to_screen_ == kTaken) outcome_ = Outcome::pushed;  // nothing else counts for a push
            return;
        }
        receiving_ = sending_ = wants_reconnect_ = false;
        input_open_ = input_open_ && terminal_.has_keys;  // for the detach key: the screen may be stuck
        to_shim_.clear();
        if (outcome_ != Outcome::none) return;
        outcome_ = Outcome::lost;
        if (!options_.raw && !options_.push) read_farewell();
    }

    /// Throws away the bytes of the first connection, up to the reply to the push, or the end.
    void read_first_socket() {
        char bytes[kBufferBytes];
        const ssize_t n = ::recv(first_socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0 && !is_transient(n)) first_socket_.reset();
    }

    /// From the buffer to the shim; behind its last byte goes the end of file, by shutdown(2).
    void write_socket() {
        if (!to_shim_.empty() && !first_socket_) {
            const ssize_t n = ::send(socket_.get(), to_shim_.data(), to_shim_.size(), MSG_DONTWAIT);
            if (n > 0) to_shim_.erase(0, static_cast<std::size_t>(n));
            else if (!is_transient(n)) sending_ = false;  // the end of its output will tell the reason
        }
        if (!sending_) to_shim_.clear();
        if (!sending_ || !all_queued_ || !to_shim_.empty()) return;
        ::shutdown(socket_.get(), SHUT_WR);
        sending_ = false;
    }

    void write_screen() {
        const ssize_t n = terminal_.write(std::string_view(to_screen_).substr(0, showable()));
        if (n >= 0) to_screen_.erase(0, static_cast<std::size_t>(n));
        if (n >= 0 || is_transient(n)) return;
        status_ = errno;
        outcome_ = Outcome::no_output;
    }

    /// Connects once more, when the first connection has room for its last message. When it fails, the first one
    /// stays.
    void reconnect() {
        wants_reconnect_ = false;
        Connection next = connect_to_one(options_, address_, kReconnectWait);
        const std::string first = hello(), last = hello_without_window(HelloKind::push);
        if (!next.socket || ::send(next.socket.get(), first.data(), first.size(), MSG_DONTWAIT) < 0) return;
        if (sending_) {
            if (::send(socket_.get(), last.data(), last.size(), MSG_DONTWAIT) < 0) return;
            ::shutdown(socket_.get(), SHUT_WR);
            first_socket_ = std::move(socket_);
        }
        socket_ = std::move(next.socket);
        sending_ = true;
        to_screen_.clear();
    }

    [[nodiscard]] bool is_finished() const {
        if (Clock::now() >= deadline_) return true;
        switch (outcome_) {
        case Outcome::none: return false;
        case Outcome::detached: return to_shim_.empty();
        case Outcome::evicted:
        case Outcome::program_ended:
        case Outcome::lost: return showable() == 0;
        default: return true;
        }
    }

    /// The hello: the window's size, or the purpose when no window is followed.
    [[nodiscard]] std::string hello() const {
        if (has_window_) return window_change(window_size());
        if (options_.push) return hello_without_window(HelloKind::push);
        return hello_without_window(terminal_.has_screen ? HelloKind::watch : HelloKind::pipe);
    }

    /// The number of bytes that may go to the screen now: not those that may be a goodbye.
    [[nodiscard]] std::size_t showable() const {
        if (options_.push) return 0;
        const bool may_end = receiving_ && !options_.raw;
        return to_screen_.size() - (may_end ? bytes_of_farewell(to_screen_) : 0);
    }

    /// Queues bytes for the shim, unless the connection's end or the input's end has come.
    void queue(std::string_view bytes) {
        if (sending_ && !all_queued_) to_shim_ += bytes;
    }

    /// Queues what the terminal has sent: keys as they are, up to the detach key; answers and noise as messages,
    /// if the shim knows messages.
    void queue_input() {
        for (const TerminalInput::Piece &piece : keyboard_.take_pieces()) {
            const bool is_typed = piece.kind == Sent::typed || !has_window_;
            queue(is_typed ? piece.bytes : framed(static_cast<char>(piece.kind), piece.bytes));
        }
        if (keyboard_.has_detach_key()) detach();
    }

    /// The connection has ended: with a goodbye when the program has ended; with a request to leave; or it is
    /// lost.
    void read_farewell() {
        const std::size_t length = bytes_of_farewell(to_screen_);
        const auto status = goodbye_status(to_screen_);
        if (!has_copied_ && Clock::now() - began_ < kAtOnce) outcome_ = Outcome::refused;
        if (!status && !to_screen_.ends_with(kLeave)) return;
        outcome_ = status ? Outcome::program_ended : Outcome::evicted;
        status_ = status.value_or(0);
        to_screen_.resize(to_screen_.size() - length);
    }

    /// Reads no more; keys typed before the detach key still go out, if the shim takes them.
    void detach() {
        input_open_ = false;
        outcome_ = Outcome::detached;
        deadline_ = Clock::now() + kDetachWait;
    }

    const Options &options_;
    UserTerminal &terminal_;
    Fd socket_;
    SocketAddress address_;   // of the other end, for the second connection
    bool has_window_;         // the window's size is sent, first and whenever it changes
    bool input_open_;         // standard input is still read
    bool all_queued_;         // to_shim_ gets no more bytes; behind them goes the end of file
    bool sending_ = true, receiving_ = true;  // the two directions of the socket
    bool has_copied_ = false;                 // bytes that cannot come again: from the shim, from a pipe
    std::string to_shim_, to_screen_;         // the two buffers
    TerminalInput keyboard_;
    Outcome outcome_ = Outcome::none;
    int status_ = 0;          // of the program when outcome_ is `program_ended`; errno when it is `no_output`
    Clock::time_point deadline_ = kNever;     // leave then in any case
    Clock::time_point began_ = Clock::now();

    bool wants_reconnect_ = false;  // connect once more, when all typed bytes have been sent
    Fd first_socket_;               // the first connection, while the shim has not replied to its push
};

// ----------------------------------------------------------------------------------------------------------------
// 7. What a session says of itself
//
// A session is a socket in a folder. Each is asked what it is, by a hello that makes its sender no client. The
// recording of a session that has ended tells how it ended.
// ----------------------------------------------------------------------------------------------------------------

constexpr milliseconds kListWait{300};        // for the answers of the sessions in a list
constexpr milliseconds kAnswerWait{2000};     // for the answer of one session
constexpr std::chrono::seconds kRecent{60};   // after a session's end, attach exits with its status

/// A session that is asked for something, over a socket that is connected.
struct Asked {
    Fd socket{};
    std::string name{};  // in the list
    std::string received{};

    void ask(HelloKind kind) const {
        const std::string hello = hello_without_window(kind);
        ::send(socket.get(), hello.data(), hello.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }

    /// Reads the reply to the hello, for a *tell* up to the close of the connection. A server that is no shim does
    /// not know the hello; a stopped one is silent up to `end`. Over a slow line, the shim has taken us for a raw
    /// client and has painted: the reply stands behind that.
    void hear(Clock::time_point end) {
        pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
        char bytes[4096];
        while (socket && received != kTaken && ::poll(&ready, 1, milliseconds_to(end)) == 1) {
            const ssize_t n = ::recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
            if (n <= 0) return;
            received.append(bytes, static_cast<std::size_t>(n));
            const std::size_t word = std::min(received.find(kTaken), received.find(kTold));
            received.erase(0, std::min(word, received.size() - std::min(received.size(), kTaken.size() - 1)));
        }
    }

    [[nodiscard]] bool has_answered() const { return received.starts_with(kTaken) || received.starts_with(kTold); }

    /// The value of one line of what was told; "" when there is none.
    [[nodiscard]] std::string value(const std::string &line) const {
        const std::size_t header = std::min(kTold.size() + 2, received.size());
        return between("\n" + received.substr(header), "\n" + line + ": ", "\n");
    }
};

/// Asks one session. Ends the program when it does not answer, but a *tell* may remain unanswered.
Asked ask_one(const std::string &address, Fd socket, HelloKind kind) {
    Asked session{.socket = std::move(socket)};
    session.ask(kind);
    session.hear(Clock::now() + kAnswerWait);
    if (kind == HelloKind::tell || session.has_answered()) return session;
    const pid_t pid = unix_server(session.socket.get()).pid;
    fail(kExitNotAttached, address,
         "no answer: no shim listens there, or one that stands still, or only for viewers" +
             (pid > 0 ? " (pid " + std::to_string(pid) + ")" : ""));
}

std::vector<std::string> names_in(const std::string &folder) {
    std::vector<std::string> names;
    DIR *open = ::opendir(folder.c_str());
    if (open == nullptr) return names;
    while (const dirent *entry = ::readdir(open)) names.emplace_back(entry->d_name);
    ::closedir(open);
    std::sort(names.begin(), names.end());
    return names;
}

/// Opens the newest recording of a session, the last by name: they are called SESSION-20261121T232034Z.cast, the
/// second one of a second ...Z-2.cast.
Fd newest_recording(const std::string &session) {
    constexpr std::string_view kSuffix = ".cast";
    const std::string pattern = session + "-????????T??????Z*" + std::string(kSuffix);
    std::string newest;
    for (const std::string &name : names_in(records_folder()))
        if (::fnmatch(pattern.c_str(), name.c_str(), 0) == 0)
            newest = std::max(newest, name.substr(0, name.size() - kSuffix.size()));
    const std::string path = records_folder() + "/" + newest + std::string(kSuffix);
    return Fd(newest.empty() ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

std::string local_time(std::time_t time) {
    char text[32] = "";
    if (const std::tm *local = std::localtime(&time)) std::strftime(text, sizeof text, "%F %R", local);
    return text;
}

/// The end of an attach to a session that is not there; with its program's status when it ended just now.
[[noreturn]] void exit_without_session(const Options &options, const std::string &why, bool nobody) {
    const std::string &name = options.address;
    const Fd recording = nobody && is_session_name(name) ? newest_recording(name) : Fd();
    struct stat file{};
    if (!recording || ::fstat(recording.get(), &file) != 0) fail(kExitNotAttached, name, why);
    ::lseek(recording.get(), std::max<off_t>(file.st_size - 4096, 0), SEEK_SET);
    const std::string tail = read_all(recording.get());
    const std::string last = tail.substr(std::min(tail.rfind("\n["), tail.size()));
    const std::string status = between(last, R"("x", ")", "\"");  // a recording ends with an `x` event
    const bool was_killed = status.empty();
    const std::string how = was_killed ? "its shim was killed" : "ended with status " + status;
    const auto ago = std::max<std::time_t>(std::time(nullptr) - file.st_mtime, 0);
    if (was_killed || ago >= kRecent.count() || options.push || options.kill || options.alone)
        fail(kExitNotAttached, name, how + " on " + local_time(file.st_mtime) + " (record play " + name +
                                         " shows it, attach " + name + " PROGRAM begins a new one)");
    say(options.quiet, name + " " + how + ", " + std::to_string(ago) + " s ago");
    std::exit(static_cast<int>(parse_number(status).value_or(kExitNotAttached)));
}

/// The part of a line that fits into `columns`; a cut line ends in an ellipsis. A character of three bytes or more
/// counts as two columns, as it may be a wide one.
std::string cut_line(const std::string &line, std::size_t columns) {
    std::size_t end = 0, width = 0;  // end: of the part that fits with the ellipsis behind it
    for (std::size_t at = 0; at < line.size();) {
        const std::size_t length = shown_length(std::string_view(line).substr(at));
        width += length < 3 ? 1 : 2;
        at += length;
        if (width < columns) end = at;
    }
    return width <= columns ? line : line.substr(0, end) + "…";
}

std::string describe_session(const Asked &session, std::size_t width) {
    const std::string name = session.name + std::string(width - session.name.size(), ' ');
    if (!session.has_answered()) {
        const pid_t pid = unix_server(session.socket.get()).pid;
        return name + (pid > 0 ? "  pid " + std::to_string(pid) : "") + "  does not answer";
    }
    const auto since = static_cast<std::time_t>(parse_number(session.value("since")).value_or(0));
    const std::string recording = session.value("recording");
    return name + "  pid " + session.value("pid") + "  since " + local_time(since) + "  " +
           session.value("clients") + " attached  " + session.value("command") + "  " +
           (recording.empty() ? "not recording" : "recording " + recording);
}

/// Asks each session in the session folder. Removes the sockets that killed shims have left, under the lock that a
/// starting shim also takes before it replaces such a socket.
std::vector<Asked> find_sessions(const std::string &folder) {
    const Fd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool may_remove = lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
    std::vector<Asked> sessions;
    for (const std::string &name : names_in(folder)) {
        struct stat file{};
        const auto addresses = is_session_name(name) ? resolve(name).addresses : std::vector<SocketAddress>{};
        if (addresses.empty() || ::lstat(socket_path(addresses[0]), &file) != 0 || !S_ISSOCK(file.st_mode))
            continue;
        Fd socket = open_connection(addresses[0], milliseconds(0));
        const bool is_refused = !socket && errno == ECONNREFUSED;
        if (is_refused && may_remove) ::unlink(socket_path(addresses[0]));
        else if (!is_refused && (!socket || is_ours(unix_server(socket.get()).user)))
            sessions.push_back({.socket = std::move(socket), .name = name});
    }
    const auto end = Clock::now() + kListWait;
    for (const Asked &one : sessions) one.ask(HelloKind::tell);
    for (Asked &one : sessions) one.hear(end);
    // A socket for viewers (shim -v) tells the name of the session's other socket: the session is listed once.
    std::erase_if(sessions, [](const Asked &one) { return one.has_answered() && one.value("name") != one.name; });
    return sessions;
}

int list_sessions() {
    const std::string folder = session_folder(), fault = folder_fault(folder, false);
    if (!fault.empty()) fail(kExitNotAttached, "the sessions", fault);
    const std::vector<Asked> sessions = find_sessions(folder);
    std::size_t width = 0;
    for (const Asked &one : sessions) width = std::max(width, one.name.size());
    const bool has_screen = ::isatty(STDOUT_FILENO) == 1;
    for (const Asked &one : sessions) {
        const std::string line = printable(describe_session(one, width));
        std::puts((has_screen ? cut_line(line, window_size().ws_col) : line).c_str());
    }
    if (sessions.empty() && ::isatty(STDERR_FILENO) == 1)
        say(false, "no session runs (shim NAME PROGRAM starts one)");
    if (std::fflush(stdout) == 0) return 0;
    complain_errno("standard output");
    return kExitNotAttached;
}

// ----------------------------------------------------------------------------------------------------------------
// 8. Starting and ending sessions, and coming to one
//
// When no process listens at ADDRESS, `shim` starts PROGRAM, and returns when it listens.
//
// A session that is shown in itself prints its own output for ever, and so do two sessions that show each other. A
// shim tells its program in which sessions it runs (SHIM_OUTER). A program may have lost that variable, so attach
// also asks the session for its terminal.
// ----------------------------------------------------------------------------------------------------------------

/// The reason why the session would be shown in itself; none when it would not, or runs on another machine.
std::optional<std::string> nesting(const Asked &session, const std::string &address) {
    char host[256] = "";
    ::gethostname(host, sizeof host - 1);
    if (session.value("host") != printable(host)) return std::nullopt;
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
        struct stat file{};
        const bool is_terminal = ::isatty(fd) == 1 && ::fstat(fd, &file) == 0;
        if (is_terminal && std::to_string(file.st_rdev) == session.value("tty"))
            return "this terminal is that session";
    }
    const char *outer = std::getenv("SHIM_OUTER");
    const std::string lines = std::string("\n") + (outer != nullptr ? outer : "") + "\n";
    const std::string name = session.value("name");
    const auto has_line = [&](const std::string &end) { return lines.find(end + "\n") != std::string::npos; };
    if (name.empty() || (!has_line("\n" + name) && !has_line("/" + name))) return std::nullopt;
    return "this terminal is in that session, which would show itself in itself (if it is not, as in a tmux that "
           "was started there: env -u SHIM_OUTER attach " + address + ")";
}

/// Runs `shim -w ADDRESS PROGRAM...`, the shim beside this program, else the one on PATH, until it has started a
/// daemon, or has failed to; shim complains to standard error. The daemon keeps no descriptor of its caller's
/// open, so the end of the pipe comes when shim returns. Gives shim's exit status and its readiness line.
std::pair<int, std::string> run_shim(const Options &options) {
    std::string wait = "-w", where = options.address, beside = options.shim, on_path = "shim";
    std::vector<char *> argv{nullptr, wait.data(), where.data()};
    argv.insert(argv.end(), options.program.begin(), options.program.end());
    argv.push_back(nullptr);

    int pipe_ends[2];
    if (::pipe(pipe_ends) != 0) fail(kExitNotAttached, "pipe", std::strerror(errno));
    const pid_t pid = ::fork();
    if (pid < 0) fail(kExitNotAttached, "fork", std::strerror(errno));
    if (pid == 0) {
        ::dup2(pipe_ends[1], STDOUT_FILENO);
        for (const int fd : pipe_ends) ::close(fd);
        for (std::string *place : {&beside, &on_path}) {
            argv.front() = place->data();  // with its folder: where shim looks for `record`
            ::execvp(place->c_str(), argv.data());
        }
        ::_exit(kExitNotAttached);  // a status that shim does not use
    }
    ::close(pipe_ends[1]);
    const Fd from_shim(pipe_ends[0]);
    const std::string said = read_all(from_shim.get());
    int ended = 0;
    ::waitpid(pid, &ended, 0);
    const int status = WIFSIGNALED(ended) ? 128 + WTERMSIG(ended) : WEXITSTATUS(ended);
    if (status == kExitNotAttached) fail(status, "shim", "none that runs beside attach, nor on PATH");
    return {status, said};
}

/// Starts a shim at options.address and connects to it, or to another that has taken the address in the meantime.
/// Ends the program with shim's own status when neither is to be had. A new session is announced, with its
/// recording and the key that leaves it.
Connection start_session(Options &options) {
    const auto [status, said] = run_shim(options);  // shim: listening on ADDRESS, pid 1234, recording FILE
    const std::string address = between(said, "shim: listening on ", ", pid ");
    const std::string rest = between(said, ", pid ", "\n");
    if (options.address == "0" || options.address.ends_with(":0")) options.address = address;
    Connection there = connect_to(options);
    if (!there.socket && status != 0) std::exit(status);
    const bool has_keys = options.key != kNoKey && !options.push && ::isatty(STDIN_FILENO) == 1;
    if (status == 0)
        say(options.quiet, options.address + ": new session" + rest.substr(std::min(rest.find(','), rest.size())) +
                               (has_keys ? ", " + key_name(options.key) + " leaves it" : ""));
    return there;
}

/// Tells the user when the session runs another program than PROGRAM.
void say_what_runs(const Options &options, const Asked &session) {
    std::string wanted, command = session.value("command"), runs = command;  // quoted for a shell
    for (const char *word : options.program) wanted.append(wanted.empty() ? "" : " ").append(printable(word));
    const auto is_quote = [](char c) { return c == '\'' || c == '\\'; };
    for (std::string *words : {&wanted, &runs}) std::erase_if(*words, is_quote);
    if (!command.empty() && !wanted.empty() && wanted != runs)
        say(options.quiet, options.address + " was running already: " + command);
}

/// Asks the session behind a connection, which ends that connection: whether we run in the session, and whether it
/// runs another program than PROGRAM. Sends the other clients away, if wanted. Gives a new connection.
Connection prepare_session(const Options &options, Connection there) {
    const bool is_terminal = ::isatty(STDIN_FILENO) == 1 || ::isatty(STDOUT_FILENO) == 1;
    const auto connect = [&] { return connect_to_one(options, there.address); };
    if (options.raw || options.push) return there;
    if (is_terminal || !options.program.empty() || std::getenv("SHIM_OUTER") != nullptr) {
        const Asked session = ask_one(options.address, std::move(there.socket), HelloKind::tell);
        const auto nested = nesting(session, options.address);
        if (nested) fail(kExitNotAttached, options.address, *nested);
        say_what_runs(options, session);
        there = connect();
    }
    if (!options.alone || !there.socket) return there;
    ask_one(options.address, std::move(there.socket), HelloKind::alone);
    return connect();
}

/// A connection to the session, or the end of the program with a message.
Connection connect_or_exit(Options &options) {
    ::sigprocmask(SIG_SETMASK, &kNoSignals, nullptr);  // connecting may take long; the caller may block signals
    Connection there = connect_to(options);
    if (there.socket && !options.kill) there = prepare_session(options, std::move(there));
    if (there.nobody && !options.program.empty()) there = start_session(options);
    if (!there.socket) exit_without_session(options, there.why, there.nobody);
    return there;
}

/// Ends the session at ADDRESS, as SIGTERM does, and waits until it has ended.
int end_session(Options &options) {
    const Asked session = ask_one(options.address, connect_or_exit(options).socket, HelloKind::end);
    const auto status = goodbye_status(session.received + read_all(session.socket.get()));
    const std::string how = status ? " ended with status " + std::to_string(*status) : ": connection lost";
    say(options.quiet, options.address + how);
    return status ? 0 : kExitLost;
}

// ----------------------------------------------------------------------------------------------------------------
// 9. The command line, and all from first to last
//
// getopt_long(3) with a '+' stops at the first word that is no option: PROGRAM, behind ADDRESS, keeps its own.
// ----------------------------------------------------------------------------------------------------------------

constexpr char kUsage[] =
    "Usage: attach [OPTION]... [ADDRESS [PROGRAM [ARG]...]]\n"
    "Attaches this terminal to the session at ADDRESS: a name, PORT, HOST:PORT, [IPV6]:PORT, or a path with a /.\n"
    "With PROGRAM: if no session runs there, starts one first, with shim. Without ADDRESS: lists the running\n"
    "named sessions.\n"
    "\n"
    "  -e, --escape KEY     the key that detaches: ^X, a character, or none (default: $SHIM_ESCAPE, else ^\\)\n"
    "  -d, --detach-others  detach the other terminals first\n"
    "  -r, --read-only      watch only; send nothing, not even the window size\n"
    "  -R, --raw            for a server that is not shim: send no window size, expect no status, do not\n"
    "                       check who listens\n"
    "  -p, --push           type standard input into the session; exit when the program's terminal has all of it\n"
    "  -k, --kill           end the session, as SIGTERM does, and wait until it has ended\n"
    "  -q, --quiet          no messages but errors\n"
    "  -h, --help           show this\n"
    "  -V, --version        show the version\n"
    "\n"
    "The sockets of named sessions are in $SHIM_DIR, else /tmp/shim-UID.\n"
    "Exit status: the program's if it has ended (a named session: up to a minute ago), 0 detached, pushed,\n"
    "killed or listed, 254 connection lost, 255 could not attach, 2 usage, 128 + n when signal n ended attach;\n"
    "125, 126, 127 when shim could not start PROGRAM.\n";

/// The byte that `text` names, the value of `name`: `^X` (^@ to ^_, and ^? for delete) or one character of ASCII;
/// kNoKey for `none`. Ends the program when it names none.
int parse_key(const char *name, std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text == "none") return kNoKey;
    if (text == "^?") return 0x7F;
    if (text.size() == 1 && byte(0) < 0x80) return byte(0);
    const bool is_control = text.size() == 2 && text[0] == '^' && byte(1) != '`';
    if (is_control && byte(1) >= '@' && byte(1) <= 'z') return byte(1) & 0x1F;
    fail(kExitUsage, name, "'" + std::string(text) + "' is not ^X, a character or none");
}

/// Ends the program with a message when the command line is wrong.
Options parse_command_line(int argc, char **argv) {
    static const option kLong[] = {
        {"escape", required_argument, nullptr, 'e'}, {"detach-others", no_argument, nullptr, 'd'},
        {"read-only", no_argument, nullptr, 'r'},    {"raw", no_argument, nullptr, 'R'},
        {"push", no_argument, nullptr, 'p'},         {"kill", no_argument, nullptr, 'k'},
        {"quiet", no_argument, nullptr, 'q'},        {"help", no_argument, nullptr, 'h'},
        {"version", no_argument, nullptr, 'V'},      {nullptr, 0, nullptr, 0},
    };
    Options options;
    const std::string self = argv[0];
    options.shim = self.substr(0, self.rfind('/') + 1) + "shim";
    opterr = 0;  // our own messages, in our own form
    const char *chosen = std::getenv("SHIM_ESCAPE");
    const auto next = [&] { return ::getopt_long(argc, argv, "+e:drRpkqhV", kLong, nullptr); };
    for (int option = next(); option != -1; option = next()) {
        const std::string word = argv[std::min(optind, argc) - 1];  // musl passes over a missing value
        const std::string name = word.starts_with("--") ? word : std::string{'-', static_cast<char>(optopt)};
        switch (option) {
        case 'e':
            options.key = parse_key("--escape", optarg);
            chosen = nullptr;
            break;
        case 'd': options.alone = true; break;
        case 'r': options.read_only = true; break;
        case 'R': options.raw = true; break;
        case 'p': options.push = true; break;
        case 'k': options.kill = true; break;
        case 'q': options.quiet = true; break;
        case 'h': std::fputs(kUsage, stdout); std::exit(0);
        case 'V': std::printf("%s %s\n", kProgram, kVersion); std::exit(0);
        default: fail(kExitUsage, name, "unknown option, or its value is missing (see attach --help)");
        }
    }
    if (chosen != nullptr && *chosen != '\0') options.key = parse_key("SHIM_ESCAPE", chosen);
    if (options.push && (options.read_only || options.raw))
        fail(kExitUsage, "--push", "goes with neither -r nor -R");
    if (options.alone && (options.push || options.raw))
        fail(kExitUsage, "--detach-others", "goes with neither -p nor -R");
    if (optind >= argc) fail(kExitUsage, "usage", "an ADDRESS is missing (see attach --help)");
    options.address = argv[optind];
    options.program.assign(argv + optind + 1, argv + argc);
    if (options.kill && !options.program.empty()) fail(kExitUsage, "--kill", "does not go with a PROGRAM");
    return options;
}

/// Opens /dev/null for each standard stream that the caller has closed; else the socket would take its number.
void open_standard_streams() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]] const int same = ::open("/dev/null", O_RDWR);
}

/// One attach, from connecting to the restored terminal.
Relay attach(Options &options, UserTerminal &terminal) {
    Connection there = connect_or_exit(options);
    handle_signals();
    Relay relay(options, terminal, std::move(there));
    relay.run();
    return relay;
}

}  // namespace

int main(int argc, char **argv) {
    open_standard_streams();
    std::signal(SIGCHLD, SIG_DFL);  // a caller that ignores it would leave us no status: waitpid(2), ECHILD
    if (argc <= 1) return list_sessions();
    Options options = parse_command_line(argc, argv);
    if (options.kill) return end_session(options);
    UserTerminal terminal(options.push);
    const Relay first = attach(options, terminal);  // refused: its session was just ending; then once more
    return first.is_refused() ? attach(options, terminal).report() : first.report();
}
