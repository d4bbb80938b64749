// shim - run a program on a pseudoterminal in the background, and broadcast its terminal over a socket.
//
//     shim [OPTION]... ADDRESS PROGRAM [ARG]...           (shim --help lists the options)
//
//                     ┌─────────────────────── shim ───────────────────────┐
//     slave ──output──► master ─► turn buffer ─┬─► recording (session.cast) │
//     (program)       │                        └─► ring ─► cursor ──────────► socket of each client
//       ▲             │                                                    │
//       └───input─────◄ master ◄─ input queue ◄─ hello and window filter ◄──◄ socket of each client
//                     └────────────────────────────────────────────────────┘
//
// One process, one thread, one pselect(2) loop. Everything that the program prints is recorded first and then put in a
// ring of 1 MiB; a client is a position in that ring. Sections:
//
//   1  the command line        5  the program on its terminal       9  who may come in
//   2  listening               6  the output: one ring             10  the session: one loop
//   3  UTF-8 and JSON          7  what a late client must be told  11  starting and ending
//   4  the recording           8  what a client says
//
// The wire is raw bytes both ways. A client whose first bytes are a window-change message of rlogin (RFC 1282: FF FF
// 's' 's' rows cols xpixels ypixels, 16 bits each, network order) is an aware client: it may send such messages at any
// time, and gets FF FF 'x' 'x' STATUS as the last five bytes when the program has ended.
//
// Exit status: 0 started (with --foreground: the program's, 128 + n when signal n ended it), 2 usage, 125 could not
// start, 126 PROGRAM cannot be executed, 127 PROGRAM not found.
//
// Read beside it: pty(7), openpty(3), credentials(7), setsid(2), tty_ioctl(4), termios(3), select(2), unix(7), tcp(7).

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>  // getopt_long: not POSIX, but everywhere
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>  // TCP_NODELAY
#include <poll.h>
#include <sys/file.h>  // flock
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>  // iovec
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#if __has_include(<sys/syscall.h>)
#include <sys/syscall.h>  // SYS_close_range
#endif

#if defined(__linux__)
#include <linux/inet_diag.h>  // who owns a TCP socket of this machine
#include <linux/netlink.h>
#include <linux/rtnetlink.h>  // whether an address is this machine's
#include <linux/sock_diag.h>
#include <linux/sockios.h>  // SIOCOUTQ
#include <pty.h>            // openpty
#elif defined(__APPLE__) || defined(__NetBSD__) || defined(__OpenBSD__)
#include <util.h>  // openpty
#else
#include <libutil.h>  // openpty
#endif

namespace {

constexpr char kProgram[] = "shim";
constexpr char kVersion[] = "1.0";

// >>> errors and the owning descriptor: the same in shim.cpp, attach.cpp and record.cpp
/// Writes "program: what: why" and a newline to standard error, in one write(2) so that lines of several processes
/// do not mix. `what` names the thing that the user knows: a file, an address, an option.
void complain(std::string_view what, std::string_view why) {
    std::string line(kProgram);
    line.append(": ").append(what).append(": ").append(why).append("\n");
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
/// Where the sockets of named sessions are. ($XDG_RUNTIME_DIR is emptied when its user logs out: just when a session
/// must go on.)
std::string session_folder() {
    const char *chosen = std::getenv("SHIM_DIR");
    return chosen != nullptr && *chosen != '\0' ? chosen : "/tmp/shim-" + std::to_string(::geteuid());
}

/// Makes the session folder if `make` (a missing one only has no session). Gives "" when nobody else can put a socket
/// there, else what is wrong and the cure: in /tmp another user may have been first, with a folder or a symbolic link.
std::string folder_fault(const std::string &folder, bool make) {
    struct stat file{};
    if (folder.front() != '/') return "SHIM_DIR is not an absolute path: " + folder;
    const bool made = !make || ::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST;
    if (!made || ::lstat(folder.c_str(), &file) != 0)
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

/// What ADDRESS names: every socket address in the order to try; else why there is none, and whether the text is at
/// fault (a usage error) or the machine: its name service, its session folder.
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

/// `work` is the Unix-domain socket of that name in the session folder (which is made if `make_folder`), anything with
/// a `/` the one at that path; `43210` is TCP on the loopback interface, `HOST:43210` and `[::1]:43210` TCP there.
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

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC: never steps, whatever happens to the time of day
using std::chrono::milliseconds;
using std::chrono::seconds;

// ---------------------------------------------------------------------------------------------------------------------
// 1. The command line
// ---------------------------------------------------------------------------------------------------------------------

constexpr char kUsage[] =
    "Usage: shim [OPTION]... ADDRESS PROGRAM [ARG]...\n"
    "Runs PROGRAM on a terminal of its own in the background; attach ADDRESS shows that terminal.\n"
    "ADDRESS: PORT (on the loopback interface; 0: any free one), HOST:PORT, [IPV6]:PORT, or a path with a /.\n"
    "\n"
    "  -r, --record FILE          write the recording there (default: shim-<port>-<UTC time>.cast)\n"
    "  -n, --no-record            no recording\n"
    "  -i, --record-input         record what clients type too, except while the terminal does not echo\n"
    "  -m, --max-record SIZE      stop recording there; the session goes on\n"
    "  -s, --size COLSxROWS       first window size (default: this terminal's, else 80x24)\n"
    "  -H, --history SIZE|all|none  what a late client is sent first (default: 64K)\n"
    "  -w, --wait                 start PROGRAM when the first client is there\n"
    "  -v, --view ADDRESS         listen there too, for viewers: what they send is thrown away\n"
    "  -f, --foreground           stay in the foreground and exit with PROGRAM's status\n"
    "  -g, --grace SECONDS        from the request to end up to SIGKILL, 0 to 86400 (default: 10)\n"
    "      --allow-remote         take an ADDRESS that is not loopback: whoever reaches it owns the terminal\n"
    "  -h, --help                 show this\n"
    "  -V, --version              show the version\n"
    "\n"
    "SIZE is a number of bytes, or one with K, M or G (1024) behind it.\n"
    "Signals: SIGTERM, SIGINT and SIGQUIT end the session: PROGRAM gets SIGTERM, SIGHUP and, after the grace, SIGKILL;\n"
    "a second one does not wait. SIGHUP only hangs the terminal up. SIGUSR1 puts a marker into the recording.\n"
    "Exit status: 0 started, 2 usage, 125 could not start, 126 PROGRAM cannot be executed, 127 it was not found.\n";

constexpr int kExitUsage = 2, kExitFailed = 125, kExitCannotExecute = 126, kExitNotFound = 127;
constexpr std::uint64_t kUnlimited = UINT64_MAX;

struct Options {
    std::string address;
    std::string view;            // "" for none
    char **program = nullptr;    // PROGRAM [ARG]..., ended by a null pointer: a part of main's argv
    std::string record_file;     // "" for the default name
    bool record = true;
    bool record_input = false;
    std::uint64_t max_record = kUnlimited;  // bytes of file
    winsize size{};                         // rows 0: not given
    std::uint64_t history = 64 << 10;       // bytes; kUnlimited: everything from the first byte
    bool wait = false;
    bool foreground = false;
    seconds grace{10};                      // between the request to end and SIGKILL
    bool allow_remote = false;
};

/// `64K`, `10M`, `2G` or a plain number of bytes; nothing when it is not that, or over 64 bits.
std::optional<std::uint64_t> parse_size(std::string_view text) {
    constexpr std::string_view kUnits = "KMG";
    std::uint64_t unit = 1;
    const std::size_t at = text.empty() ? std::string_view::npos : kUnits.find(text.back());
    if (at != std::string_view::npos) {
        unit = std::uint64_t{1} << (10 * (at + 1));
        text.remove_suffix(1);
    }
    const auto number = parse_number(text);
    if (!number || *number > kUnlimited / unit) return std::nullopt;
    return *number * unit;
}

/// `80x24`: columns, then rows, 1 to 65535 each as in struct winsize; false when it is not that.
bool parse_window(std::string_view text, winsize &size) {
    const std::size_t x = text.find('x');
    if (x == std::string_view::npos) return false;
    const auto cols = parse_number(text.substr(0, x)), rows = parse_number(text.substr(x + 1));
    if (!cols || !rows || *cols < 1 || *cols > 65535 || *rows < 1 || *rows > 65535) return false;
    size.ws_col = static_cast<unsigned short>(*cols);
    size.ws_row = static_cast<unsigned short>(*rows);
    return true;
}

/// `text` as a number of seconds up to a day; false with a message when it is not that.
bool parse_grace(const std::string &text, seconds &grace) {
    const auto number = parse_number(text);
    if (!number || *number > 86400) {
        complain("--grace", "'" + text + "' is not a number of seconds (0 to 86400)");
        return false;
    }
    grace = seconds(*number);
    return true;
}

/// Takes one option with its value (null when it has none) into `options`; false with a message when it is wrong.
bool take_option(int option, const char *value, Options &options) {
    const std::string text = value != nullptr ? value : "";
    const auto size_into = [&text](const char *name, std::uint64_t &target) {
        const auto size = parse_size(text);
        if (size) target = *size;
        else complain(name, "'" + text + "' is not a SIZE (a number of bytes, or one with K, M or G)");
        return size.has_value();
    };
    switch (option) {
    case 'r':
        options.record = true;
        options.record_file = text;
        if (text.empty()) complain("--record", "the name of a file is missing");
        return !text.empty();
    case 'n': options.record = false; return true;
    case 'i': options.record_input = true; return true;
    case 'm': return size_into("--max-record", options.max_record);
    case 's':
        if (parse_window(text, options.size)) return true;
        complain("--size", "'" + text + "' is not COLSxROWS (1x1 to 65535x65535)");
        return false;
    case 'H':
        if (text == "all" || text == "none") options.history = text == "all" ? kUnlimited : 0;
        else return size_into("--history", options.history);
        return true;
    case 'w': options.wait = true; return true;
    case 'v':
        options.view = text;
        if (text.empty()) complain("--view", "an address is missing");
        return !text.empty();
    case 'f': options.foreground = true; return true;
    case 'g': return parse_grace(text, options.grace);
    default: options.allow_remote = true; return true;
    }
}

/// Reads the command line into `options`. Gives an exit status when there is nothing more to do: after a usage error
/// (one line on standard error), --help or --version.
std::optional<int> parse_command_line(int argc, char **argv, Options &options) {
    static const option kLong[] = {
        {"record", required_argument, nullptr, 'r'},     {"no-record", no_argument, nullptr, 'n'},
        {"record-input", no_argument, nullptr, 'i'},     {"max-record", required_argument, nullptr, 'm'},
        {"size", required_argument, nullptr, 's'},       {"history", required_argument, nullptr, 'H'},
        {"wait", no_argument, nullptr, 'w'},             {"view", required_argument, nullptr, 'v'},
        {"foreground", no_argument, nullptr, 'f'},       {"allow-remote", no_argument, nullptr, 'R'},
        {"grace", required_argument, nullptr, 'g'},
        {"help", no_argument, nullptr, 'h'},             {"version", no_argument, nullptr, 'V'},
        {nullptr, 0, nullptr, 0},
    };
    opterr = 0;  // our own messages, in our own form
    for (int option = 0; (option = ::getopt_long(argc, argv, "+:r:nim:s:H:wv:fg:hV", kLong, nullptr)) != -1;) {
        if (option == 'h' || option == 'V') {
            if (option == 'h') std::fputs(kUsage, stdout);
            else std::printf("%s %s\n", kProgram, kVersion);
            return std::fflush(stdout) == 0 ? 0 : kExitFailed;
        }
        if (option == '?' || option == ':') {
            const std::string name = optopt != 0 && argv[optind - 1][1] != '-' ? std::string("-") + char(optopt)
                                                                                : std::string(argv[optind - 1]);
            complain(name, option == ':' ? "a value is missing" : "no such option, or not used so (see shim --help)");
            return kExitUsage;
        }
        if (!take_option(option, optarg, options)) return kExitUsage;
    }
    if (argc - optind < 2) {
        complain("usage", "shim [OPTION]... ADDRESS PROGRAM [ARG]... (see shim --help)");
        return kExitUsage;
    }
    if (options.history == kUnlimited && !options.record) {
        complain("--history all", "needs the recording that --no-record forbids");
        return kExitUsage;
    }
    options.address = argv[optind];
    options.program = argv + optind + 1;
    return std::nullopt;
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Listening
//
// A listening socket that does not block: a client may vanish between the moment when select(2) announces it and
// accept(2), which would then wait for the next one. A Unix-domain socket is a file: its mode comes from the umask at
// bind(2), and it stays behind when its owner is killed, so a stale one (nobody answers) is taken over.
// ---------------------------------------------------------------------------------------------------------------------

void close_on_exec(int fd) { ::fcntl(fd, F_SETFD, FD_CLOEXEC); }

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

bool is_loopback(const SocketAddress &address) {
    if (address.storage.ss_family == AF_UNIX) return true;
    if (address.storage.ss_family == AF_INET) {
        const auto *in = reinterpret_cast<const sockaddr_in *>(&address.storage);
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
}

/// The address as a user would write it: `127.0.0.1:43210`, `[::1]:43210`, or the path.
std::string to_text(const SocketAddress &address) {
    if (address.storage.ss_family == AF_UNIX) return reinterpret_cast<const sockaddr_un *>(&address.storage)->sun_path;
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    ::getnameinfo(address.get(), address.length, host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV);
    const std::string name = host.data();
    return (address.storage.ss_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port.data();
}

class Listener {
public:
    Listener() = default;
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;
    ~Listener() { close(); }

    /// Binds to ADDRESS and listens. Gives 0, or with a message the exit status.
    int open(const std::string &text, bool allow_remote);
    /// Stops listening, and removes the socket file if it is still ours.
    void close();

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
    [[nodiscard]] const std::string &name() const { return name_; }  // the address, as it came to be
    [[nodiscard]] std::string label() const;                         // what stands for it in a file's name

private:
    int bind_to(const SocketAddress &address);
    static bool is_stale(const SocketAddress &address);

    Fd fd_;
    std::string name_;
    std::string path_;    // of a Unix-domain socket, else ""
    struct stat file_{};  // which file it was when we made it
};

/// Whether a socket file is there at which nobody listens. Only a socket is ever taken for stale, never another file.
bool Listener::is_stale(const SocketAddress &address) {
    struct stat file{};
    const auto *un = reinterpret_cast<const sockaddr_un *>(&address.storage);
    if (::lstat(un->sun_path, &file) != 0 || !S_ISSOCK(file.st_mode)) return false;
    const Fd probe(::socket(AF_UNIX, SOCK_STREAM, 0));
    return ::connect(probe.get(), address.get(), address.length) != 0 && errno == ECONNREFUSED;
}

/// bind(2), with what a Unix-domain socket wants on top; gives what bind gives.
int Listener::bind_to(const SocketAddress &address) {
    if (address.storage.ss_family != AF_UNIX) return ::bind(fd_.get(), address.get(), address.length);
    const char *path = reinterpret_cast<const sockaddr_un *>(&address.storage)->sun_path;
    const std::string_view whole = path;
    const std::string folder(whole.substr(0, whole.rfind('/') + 1));
    const Fd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ::flock(lock.get(), LOCK_EX);  // two shims must not both find it stale, and one remove the other's fresh socket
    if (is_stale(address)) ::unlink(path);
    const mode_t before = ::umask(0177);
    const int result = ::bind(fd_.get(), address.get(), address.length);
    ::umask(before);
    if (result != 0) return result;
    path_ = path;
    ::lstat(path, &file_);
    return ::listen(fd_.get(), SOMAXCONN);  // before the lock goes: bound but not listening looks stale
}

int Listener::open(const std::string &text, bool allow_remote) {
    const Resolved found = resolve(text, true);
    if (found.addresses.empty()) {
        complain(text, found.why);
        return found.malformed ? kExitUsage : kExitFailed;
    }
    for (const SocketAddress &address : found.addresses) {
        if (allow_remote || is_loopback(address)) continue;
        complain(text, "not a loopback address: whoever reaches it would own the terminal (see --allow-remote)");
        return kExitFailed;
    }
    for (const SocketAddress &address : found.addresses) {
        fd_.reset(::socket(address.storage.ss_family, SOCK_STREAM, 0));
        if (!fd_) continue;
        const int on = 1;
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind_to(address) != 0 || ::listen(fd_.get(), SOMAXCONN) != 0) continue;
        close_on_exec(fd_.get());
        set_nonblocking(fd_.get());
        SocketAddress bound{.storage = {}, .length = sizeof bound.storage};
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr *>(&bound.storage), &bound.length);
        name_ = path_.empty() ? to_text(bound) : text;
        return 0;
    }
    complain_errno("bind " + text);
    return kExitFailed;
}

void Listener::close() {
    struct stat file{};
    if (!path_.empty() && ::lstat(path_.c_str(), &file) == 0 && file.st_ino == file_.st_ino &&
        file.st_dev == file_.st_dev)
        ::unlink(path_.c_str());
    path_.clear();
    fd_.reset();
}

std::string Listener::label() const { return name_.substr(name_.find_last_of("/:") + 1); }

// ---------------------------------------------------------------------------------------------------------------------
// 3. UTF-8 and JSON
//
// A terminal speaks bytes, JSON speaks Unicode. A read of the master cuts where it likes, so a sequence at its end may
// be one that goes on (cut) or one that never can (broken): the Unicode standard, table 3-7, tells them apart.
// ---------------------------------------------------------------------------------------------------------------------

struct Sequence {
    enum class Kind { whole, broken, cut } kind;
    std::size_t length;  // bytes: of the character; of the longest part that could begin one; of what is there
};

/// What stands at `at` (before `end`), where a byte of 0x80 or over is.
Sequence utf8_sequence(const unsigned char *at, const unsigned char *end) {
    const unsigned char lead = *at;
    if (lead < 0xC2 || lead > 0xF4) return {Sequence::Kind::broken, 1};
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (std::size_t i = 1; i < length; ++i, low = 0x80, high = 0xBF) {
        if (at + i == end) return {Sequence::Kind::cut, i};
        if (at[i] < low || at[i] > high) return {Sequence::Kind::broken, i};
    }
    return {Sequence::Kind::whole, length};
}

/// How many bytes at the end (0 to 3) begin a character that the next read may complete.
std::size_t cut_tail(std::string_view bytes) {
    const auto *end = reinterpret_cast<const unsigned char *>(bytes.data()) + bytes.size();
    for (std::size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
        if ((end[-static_cast<std::ptrdiff_t>(back)] & 0xC0) == 0x80) continue;  // in the middle of a character
        if (end[-static_cast<std::ptrdiff_t>(back)] < 0x80) return 0;
        return utf8_sequence(end - back, end).kind == Sequence::Kind::cut ? back : 0;
    }
    return 0;
}

constexpr std::size_t kMostPerByte = 6;  // \u001b: how much longer JSON can get

/// How many of the eight bytes at `at`, from the first on, stand in a JSON string as they are and are ASCII. Eight at a
/// time without a branch for each: a byte minus 0x20 borrows when it was below (and so on for the quote and the
/// backslash made zero by XOR); only the first that is found is exact, and only that one is asked for.
std::size_t plain_of_eight(const unsigned char *at) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kTops = kOnes * 0x80;
    std::uint64_t w = 0;
    std::memcpy(&w, at, 8);
    const std::uint64_t quote = w ^ (kOnes * '"'), slash = w ^ (kOnes * '\\');
    const std::uint64_t special =
        (w | ((w - kOnes * 0x20) & ~w) | ((quote - kOnes) & ~quote) | ((slash - kOnes) & ~slash)) & kTops;
    if (special == 0) return 8;
    if constexpr (std::endian::native != std::endian::little) return 0;  // the byte-by-byte path of the caller
    else return static_cast<std::size_t>(std::countr_zero(special)) / 8;
}

/// One byte below 0x20, a quote or a backslash, or any other ASCII byte, as JSON wants it; gives the new end of `out`.
char *escape_ascii(unsigned char c, char *out) {
    constexpr std::string_view kLetters = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu", kHex = "0123456789abcdef";
    const char letter = c < 0x20 ? kLetters[c] : static_cast<char>(c);
    if (c < 0x20 || c == '"' || c == '\\') *out++ = '\\';
    *out++ = letter;
    if (c >= 0x20 || letter != 'u') return out;
    for (const char digit : {'0', '0', kHex[c >> 4], kHex[c & 15]}) *out++ = digit;
    return out;
}

/// Writes `in` as the inside of a JSON string to `out`, which has room for kMostPerByte times as much plus 8; bytes
/// that are not UTF-8 become U+FFFD, and `exact` false. Gives the end of what it wrote.
char *encode_json(std::string_view in, char *out, bool &exact) {
    const auto *at = reinterpret_cast<const unsigned char *>(in.data());
    const auto *const end = at + in.size();
    while (at < end) {
        if (end - at >= 8) {
            std::memcpy(out, at, 8);  // all eight, though fewer may count: the rest is written over
            const std::size_t plain = plain_of_eight(at);
            at += plain;
            out += plain;
            if (plain == 8) continue;
        }
        if (at < end && *at < 0x80) out = escape_ascii(*at++, out);
        while (at < end && *at >= 0x80) {
            const Sequence sequence = utf8_sequence(at, end);
            const bool whole = sequence.kind == Sequence::Kind::whole;
            const std::size_t length = whole ? sequence.length : 3;
            if (whole && end - at >= 4) std::memcpy(out, at, 4);  // of a fixed size: one instruction
            else std::memcpy(out, whole ? reinterpret_cast<const char *>(at) : "\xEF\xBF\xBD", length);
            out += length;
            at += sequence.length;
            exact = exact && whole;
        }
    }
    return out;
}

/// The same for short texts: a command, an address.
std::string json_string(std::string_view text) {
    std::string out(text.size() * kMostPerByte + 10, '"');
    bool exact = true;
    const char *end = encode_json(text, out.data() + 1, exact);
    out.resize(static_cast<std::size_t>(end - out.data()));
    return out + '"';
}

/// Base64 (RFC 4648, with padding) of `in` to `out`, which has room for 4 bytes for every 3 begun; gives the end.
char *encode_base64(std::string_view in, char *out) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < in.size(); i += 3) {
        std::uint32_t bits = 0;
        for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < in.size() ? std::uint8_t(in[i + k]) : 0U);
        for (std::size_t k = 0; k < 4; ++k) *out++ = i + k <= in.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

// ---------------------------------------------------------------------------------------------------------------------
// 4. The recording
//
// asciicast v2: a header line, then a line an event, [seconds, "code", "text"]. A turn of the loop collects its events
// and writes them with one write(2), before any client gets the bytes: the page cache survives our own end by SIGKILL,
// so what a client saw is in the file. When a write falls short (disk full, file size limit), the rest of the line is
// kept and finished first when writing works again; what is printed meanwhile is counted and told by a marker.
// ---------------------------------------------------------------------------------------------------------------------

class Recording {
public:
    Recording() = default;
    Recording(const Recording &) = delete;
    Recording &operator=(const Recording &) = delete;
    ~Recording() {
        if (fd_ && !kept_) ::unlink(path_.c_str());
    }

    /// Creates `path` (never over a file that is there) and takes the lock by which readers know that we live.
    /// `limit` is in bytes of file. Gives false with a message.
    bool open(const std::string &path, const std::string &header, std::uint64_t limit);
    /// From now on the file stays: the start has succeeded.
    void keep() { kept_ = true; }

    /// The next bytes that the program printed, whole characters: a piece of this turn's output event.
    void output(std::string_view piece);
    /// The turn's output event is complete; `whole` is what its pieces were.
    void end_output(std::string_view whole);
    /// Any other event: input (i), size (r), marker (m), exit (x).
    void event(char code, std::string_view text);
    /// Writes what has been collected: once a turn.
    void commit();

    [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string &path() const { return path_; }
    /// Whether every byte of output from position `from` on is in the file, so that `record` can catch a client up.
    [[nodiscard]] bool holds_from(std::uint64_t from) const { return fd_ && !stuck_ && !full_ && from >= gap_end_; }
    /// Where the output's position `at` is in the file, counted in bytes of output.
    [[nodiscard]] std::uint64_t to_file(std::uint64_t at) const { return at - missing_total_; }

    /// The line of the file that begins at byte `offset`, and how many bytes of output the lines before it hold.
    struct Place {
        std::uint64_t offset = 0, position = 0;
    };
    /// The last noted place that is not behind `position`, in the file's bytes of output.
    [[nodiscard]] Place place_before(std::uint64_t position) const {
        const auto behind = [](std::uint64_t p, const Place &place) { return p < place.position; };
        return *std::prev(std::upper_bound(places_.begin(), places_.end(), position, behind));
    }

private:
    static constexpr std::size_t kNone = SIZE_MAX;
    static constexpr std::uint64_t kPlaceStep = 16 << 20;
    static constexpr std::size_t kReserve = 160;  // bytes that --max-record leaves for the last marker and the exit

    [[nodiscard]] long long elapsed() const;
    void make_room(std::size_t bytes);
    char *open_event(char code, std::size_t room);
    void close_event(char *end);
    void add(char code, std::string_view text);
    void keep_limit(std::size_t before);

    Fd fd_;
    std::string path_;
    bool kept_ = false;
    Clock::time_point start_{};
    long long time_ = 0;              // of the event that is being added, in microseconds
    std::vector<char> lines_;         // what this turn (or a stuck one) has to write
    std::size_t used_ = 0;            // bytes of it that count
    std::size_t output_begin_ = kNone;  // where this turn's output event begins in it
    bool exact_ = true;               // that event's bytes have all been UTF-8
    std::size_t written_ = 0;         // of these, how many are in the file
    std::uint64_t file_size_ = 0;
    std::uint64_t limit_ = kUnlimited;
    bool full_ = false;               // --max-record has been reached
    bool stuck_ = false;              // the last write fell short
    std::uint64_t missing_ = 0;       // output bytes since then
    std::uint64_t missing_total_ = 0;
    std::uint64_t position_ = 0;      // output bytes in all
    std::uint64_t gap_end_ = 0;       // the position after the last byte that is missing
    std::vector<Place> places_ = {Place{}};  // one every kPlaceStep: 16 bytes for 16 MiB of output
};

bool Recording::open(const std::string &path, const std::string &header, std::uint64_t limit) {
    fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
    path_ = path;
    start_ = Clock::now();
    limit_ = limit;
    struct flock lock{};  // fcntl(2): of the whole file, ours alone, gone with us; a fork does not inherit it
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (!fd_ || ::fcntl(fd_.get(), F_SETLK, &lock) != 0) {
        complain_errno(path);
        return false;
    }
    for (ssize_t n = 0; file_size_ < header.size(); file_size_ += static_cast<std::uint64_t>(n)) {
        n = ::write(fd_.get(), header.data() + file_size_, header.size() - file_size_);
        if (n >= 0) continue;
        complain_errno(path);
        return false;
    }
    return true;
}

/// Microseconds since the start of the recording.
long long Recording::elapsed() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count();
}

/// Makes room for `bytes` more, and for the little that stands around them.
void Recording::make_room(std::size_t bytes) {
    if (lines_.size() < used_ + bytes + 64) lines_.resize(used_ + bytes + 64);
}

/// Begins an event at time_ and makes `room` bytes for its text; gives where the text goes.
char *Recording::open_event(char code, std::size_t room) {
    make_room(room);
    char *at = lines_.data() + used_;
    return at + std::snprintf(at, 64, R"([%lld.%06lld, "%c", ")", time_ / 1000000, time_ % 1000000, code);
}

void Recording::close_event(char *end) {
    for (const char c : {'"', ']', '\n'}) *end++ = c;
    used_ = static_cast<std::size_t>(end - lines_.data());
}

void Recording::add(char code, std::string_view text) {
    bool exact = true;
    close_event(encode_json(text, open_event(code, text.size() * kMostPerByte + 8), exact));
}

/// Takes back what was collected from `before` on when it would take the file over its limit, and says so there.
void Recording::keep_limit(std::size_t before) {
    if (full_ || limit_ == kUnlimited || file_size_ + used_ - written_ + kReserve <= limit_) return;
    full_ = true;
    used_ = before;
    add('m', "shim: recording stopped at its limit");
}

/// Encodes each piece when it has been read: while we do that, the kernel makes the next one ready.
void Recording::output(std::string_view piece) {
    if (!fd_ || full_ || stuck_) return;
    if (output_begin_ == kNone) {
        output_begin_ = used_;
        exact_ = true;
        time_ = elapsed();
        used_ = static_cast<std::size_t>(open_event('o', 0) - lines_.data());
    }
    make_room(piece.size() * kMostPerByte);
    used_ = static_cast<std::size_t>(encode_json(piece, lines_.data() + used_, exact_) - lines_.data());
}

void Recording::end_output(std::string_view whole) {
    position_ += whole.size();
    if (stuck_) missing_ += whole.size();
    const std::size_t begin = std::exchange(output_begin_, kNone);
    if (begin == kNone) return;
    if (exact_) close_event(lines_.data() + used_);
    else {  // the same again, with the exact bytes before it
        used_ = begin;
        close_event(encode_base64(whole, open_event('b', whole.size() * 4 / 3 + 8)));
        add('o', whole);
    }
    keep_limit(begin);
}

void Recording::event(char code, std::string_view text) {
    if (stuck_) commit();
    if (!fd_ || stuck_ || (full_ && code != 'x')) return;
    const std::size_t before = used_;
    time_ = elapsed();
    add(code, text);
    if (code != 'x') keep_limit(before);  // for the exit event there is a reserve
}

void Recording::commit() {
    if (used_ == written_) return;
    for (ssize_t n = 1; n > 0 && written_ < used_;) {  // once, but for a write that is cut short
        n = ::write(fd_.get(), lines_.data() + written_, used_ - written_);
        written_ += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
        file_size_ += static_cast<std::uint64_t>(std::max<ssize_t>(n, 0));
    }
    const bool was_stuck = std::exchange(stuck_, written_ < used_);
    if (stuck_) return;
    used_ = written_ = 0;
    const Place here{.offset = file_size_, .position = to_file(position_)};
    if (missing_ == 0 && here.position >= places_.back().position + kPlaceStep) places_.push_back(here);
    if (!was_stuck || missing_ == 0) return;
    missing_total_ += missing_;
    gap_end_ = position_;
    time_ = elapsed();
    add('m', "shim: " + std::to_string(std::exchange(missing_, 0)) + " bytes missing");
    commit();
}

// ---------------------------------------------------------------------------------------------------------------------
// 5. The program on its terminal
//
// openpty(3) gives two ends: the program's standard streams are the slave, we hold the master. Between them sits the
// line discipline, which echoes, edits lines and turns ^C into SIGINT. We keep a slave open too: without any, reads of
// the master fail with EIO and select(2) calls it readable for ever, though the program may yet open /dev/tty again. So
// the end of a session is the program's exit (SIGCHLD), never EIO.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::array kHandled = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
constexpr std::size_t kInputBytes = 64 << 10;  // typed, and not yet taken by the program's terminal: then clients wait
constexpr std::size_t kInputMost = 1 << 20;    // the same, with the last words of clients that have left
constexpr std::size_t kTypedBytes = 16 << 10;  // that one client may have waiting here; more stays in its socket
constexpr std::size_t kDrainBytes = 256 << 10;  // read after the program's exit: more than a kernel keeps for it

struct SignalFlags {
    volatile std::sig_atomic_t child, end, hang_up, mark;
} g_signals;

extern "C" void note_signal(int number) {
    if (number == SIGCHLD) g_signals.child = 1;
    else if (number == SIGUSR1) g_signals.mark = 1;
    else if (number == SIGHUP) g_signals.hang_up = 1;
    else g_signals.end = number;
}

/// Blocks the signals that we handle: they arrive inside pselect(2) and nowhere else. Gives the mask to use there.
sigset_t take_signals() {
    sigset_t ours, inside;
    sigemptyset(&ours);
    for (const int number : kHandled) sigaddset(&ours, number);
    ::sigprocmask(SIG_BLOCK, &ours, nullptr);
    sigemptyset(&inside);
    struct sigaction action{};
    action.sa_handler = note_signal;
    action.sa_flags = SA_NOCLDSTOP;
    for (const int number : kHandled) ::sigaction(number, &action, nullptr);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &action, nullptr);  // a client that went away is an error of send(2)
    ::sigaction(SIGXFSZ, &action, nullptr);  // the file size limit is an error of write(2)
    return inside;
}

/// Lets the handlers of pending signals run. pselect(2) does so only when it sleeps: on Linux, while a descriptor is
/// always ready, no signal would ever come through.
void let_signals_in(const sigset_t &inside) {
    sigset_t before;
    ::sigprocmask(SIG_SETMASK, &inside, &before);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

/// In a child: what we ignore and block is none of its business. Async-signal-safe.
void reset_signals() {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// The exit status of a process as a shell tells it: 128 + n when signal n ended it.
int exit_status(int wait_status) {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/// 126 or 127 for an errno of exec, as shells and env(1) have it.
int exec_status(int error) { return error == ENOENT ? kExitNotFound : kExitCannotExecute; }

/// Whether execve(2) would take `file`; if not, errno says why.
bool is_executable(const std::string &file) {
    struct stat status{};
    if (::access(file.c_str(), X_OK) != 0 || ::stat(file.c_str(), &status) != 0) return false;
    errno = EACCES;
    return S_ISREG(status.st_mode);
}

/// What execvp(3) would come to with this name now: 0, or an exit status with the reason in errno. For --wait, where
/// the exec comes later.
int find_program(const std::string &name) {
    const char *variable = std::getenv("PATH");
    std::string_view path = variable != nullptr ? variable : "/bin:/usr/bin";
    if (name.find('/') != std::string::npos) return is_executable(name) ? 0 : exec_status(errno);
    for (int error = ENOENT;;) {
        const std::size_t colon = path.find(':');
        const std::string folder(path.substr(0, colon));  // empty: the current one
        if (is_executable((folder.empty() ? "." : folder) + "/" + name)) return 0;
        if (errno == EACCES) error = EACCES;
        if (colon != std::string_view::npos) path.remove_prefix(colon + 1);
        else return errno = error, exec_status(error);
    }
}

/// The child's side of fork(2), up to the exec: only async-signal-safe calls. An exec that fails says why through
/// `report` (an errno; the pipe closes by itself when the exec succeeds), or on the terminal when there is no pipe.
[[noreturn]] void become_program(int slave, int report, char **argv) {
    ::setsid();                     // a session of its own, without a controlling terminal
    ::ioctl(slave, TIOCSCTTY, 0);   // now with this one: ^C reaches it, /dev/tty opens it
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(slave, stream);
    reset_signals();
    ::execvp(argv[0], argv);
    const int error = errno;
    if (report < 0) complain(argv[0], std::strerror(error));
    else if (::write(report, &error, sizeof error) < 0) ::_exit(kExitFailed);
    ::_exit(exec_status(error));
}

class Terminal {
public:
    /// Makes the pseudoterminal, with `size`; false with a message.
    bool open(const winsize &size);
    /// Starts the program on it. With `wait_for_exec` returns when its exec has succeeded. Gives 0, or an exit status
    /// with the reason in errno.
    int start(char **argv, bool wait_for_exec);

    [[nodiscard]] int master() const { return master_.get(); }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] const winsize &size() const { return size_; }
    /// Sets the window size: the kernel sends SIGWINCH to the foreground group when it is another one.
    void resize(const winsize &size);
    [[nodiscard]] bool is_open() const { return static_cast<bool>(master_); }
    /// Sends `number` to the foreground process group; with `program_too` to the program also.
    void signal(int number, bool program_too) const;
    /// Asks the program and the foreground group to end: SIGTERM, as servers know it, and SIGHUP, as shells do.
    void ask_to_end() const;
    /// Whether the program is ours to kill: not when it has become another user (kill(2), EPERM), as sudo does.
    [[nodiscard]] bool is_ours() const { return pid_ <= 0 || ::kill(pid_, 0) == 0 || errno != EPERM; }
    /// Closes both ends. When no process has the master any more, the kernel hangs the slave up (tty_ioctl(4), vhangup(2)):
    /// SIGHUP and SIGCONT to the session's leader and the foreground group, whosever they are, and no more input or output.
    void close() {
        slave_.reset();
        master_.reset();
    }
    /// Whether what is typed is shown (termios(3), ECHO): no for passwords.
    [[nodiscard]] bool echoes() const;
    /// The program has been reaped: lets our slave go, so that reads of the master come to an end.
    void ended() {
        pid_ = 0;
        slave_.reset();
    }

private:
    Fd master_, slave_;
    pid_t pid_ = 0;
    winsize size_{};
};

bool Terminal::open(const winsize &size) {
    int master = -1, slave = -1;
    winsize first = size;
    if (::openpty(&master, &slave, nullptr, nullptr, &first) != 0) {
        complain_errno("openpty");
        return false;
    }
    master_.reset(master);
    slave_.reset(slave);
    close_on_exec(master);
    close_on_exec(slave);
    set_nonblocking(master);
#if defined(IUTF8)
    termios settings{};  // the kernel's own, and Backspace on an edited line takes a whole character: termios(3)
    ::tcgetattr(slave, &settings);
    settings.c_iflag |= IUTF8;
    ::tcsetattr(slave, TCSANOW, &settings);
#endif
    size_ = size;
    return true;
}

int Terminal::start(char **argv, bool wait_for_exec) {
    std::array<int, 2> report = {-1, -1};
    if (wait_for_exec && ::pipe(report.data()) != 0) return kExitFailed;
    for (const int end : report) close_on_exec(end);  // no harm when there is none
    const Fd reading(report[0]);
    Fd writing(report[1]);
    pid_ = ::fork();
    if (pid_ == 0) become_program(slave_.get(), writing.get(), argv);
    if (pid_ < 0) {
        pid_ = 0;
        return kExitFailed;
    }
    writing.reset();
    int error = 0;
    if (!wait_for_exec || ::read(reading.get(), &error, sizeof error) <= 0) return 0;
    ::waitpid(std::exchange(pid_, 0), nullptr, 0);
    errno = error;
    return exec_status(error);
}

void Terminal::resize(const winsize &size) {
    size_ = size;
    ::ioctl(master_.get(), TIOCSWINSZ, &size);
}

void Terminal::signal(int number, bool program_too) const {
    const pid_t group = ::tcgetpgrp(master_.get());  // on the master: the slave's foreground group
    if (group > 0) ::kill(-group, number);
    if (program_too && pid_ > 0 && ::getpgid(pid_) != group) ::kill(pid_, number);
}

/// Whether the process has a handler for the signal: proc(5), SigCgt. Where nobody tells, no.
bool catches(pid_t pid, int number) {
    const Fd status(::open(("/proc/" + std::to_string(pid) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 4096> text{};
    const ssize_t n = ::read(status.get(), text.data(), text.size());
    const std::string_view all(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    constexpr std::string_view kLabel = "SigCgt:\t";
    const std::size_t at = all.find(kLabel);
    if (at == std::string_view::npos) return false;
    std::uint64_t mask = 0;
    std::from_chars(all.data() + at + kLabel.size(), all.data() + all.size(), mask, 16);
    return (mask >> (number - 1) & 1) != 0;
}

/// Sends SIGTERM and SIGHUP to `whom` (as kill(2) has it: a process, or minus a group). Who has a handler for just one of
/// them gets that one alone: a server that closes its files on SIGTERM would be killed by the SIGHUP meanwhile.
void request_end(pid_t whom) {
    const pid_t leader = whom < 0 ? -whom : whom;
    const bool knows_term = catches(leader, SIGTERM), knows_hup = catches(leader, SIGHUP);
    if (knows_term || !knows_hup) ::kill(whom, SIGTERM);
    if (knows_hup || !knows_term) ::kill(whom, SIGHUP);
    ::kill(whom, SIGCONT);  // one that is stopped takes them when it goes on
}

void Terminal::ask_to_end() const {
    const pid_t group = ::tcgetpgrp(master_.get());
    if (group > 0) request_end(-group);
    if (pid_ > 0 && ::getpgid(pid_) != group) request_end(pid_);
}

bool Terminal::echoes() const {
    termios settings{};
    return ::tcgetattr(slave_.get(), &settings) == 0 && (settings.c_lflag & ECHO) != 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// 6. The output: one ring
//
// Positions count the bytes of output from the first one on and never wrap; the ring holds the last kRingBytes of them.
// A client is a position, so that its being slow costs no memory.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kRingBytes = 1 << 20;
constexpr std::size_t kTurnBytes = 60 << 10;  // the most that one turn gathers: 64 KiB are two segments over loopback
constexpr std::size_t kPiece = 4096;          // asked for in one read
constexpr ssize_t kShortPiece = 128;          // a read shorter than this ends the turn: nobody waits for more
constexpr milliseconds kTurnTime{2};          // and so does a turn that takes this long

class Ring {
public:
    [[nodiscard]] std::uint64_t head() const { return head_; }
    [[nodiscard]] std::uint64_t tail() const { return head_ > kRingBytes ? head_ - kRingBytes : 0; }

    void append(std::string_view bytes) {
        for (const iovec &part : parts(head_, head_ + bytes.size())) {
            std::memcpy(part.iov_base, bytes.data(), part.iov_len);
            bytes.remove_prefix(part.iov_len);
            head_ += part.iov_len;
        }
    }

    /// Where the bytes from `from` up to `to` stand: two parts, as they may wrap around (the second is often empty).
    [[nodiscard]] std::array<iovec, 2> parts(std::uint64_t from, std::uint64_t to) {
        const std::size_t at = from % kRingBytes, length = to - from, first = std::min(length, kRingBytes - at);
        return {iovec{bytes_.get() + at, first}, iovec{bytes_.get(), length - first}};
    }

    [[nodiscard]] char at(std::uint64_t position) const { return bytes_[position % kRingBytes]; }

private:
    std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(kRingBytes);
    std::uint64_t head_ = 0;
};

/// Positions [begin, end) of the output.
struct Range {
    std::uint64_t begin, end;
};

// ---------------------------------------------------------------------------------------------------------------------
// 7. What a late client must be told
//
// The bytes of the past are not enough. Cut anywhere, they begin inside an escape sequence; what was switched on long
// before (alternate screen, mouse, character set) is not in them; and they hold questions, which the client's terminal
// would answer into the program a second time. So the output is followed by the parser of the VT500 series, in the
// states of Paul Williams' diagram (vt100.net/emu/dec_ansi_parser), which is worth having beside this section; an 8-bit
// control is two bytes here, as in UTF-8. Nothing is drawn. The sequences are those of xterm's ctlseqs.
// ---------------------------------------------------------------------------------------------------------------------

// >>> questions: the same in shim.cpp and record.cpp
/// Whether a terminal answers the control sequence with this prefix (< = > ? or 0), last intermediate (or 0), final
/// byte and first parameter as if the answer had been typed (xterm's ctlseqs; kitty's keyboard protocol).
bool sequence_asks(char prefix, char intermediate, char final, unsigned first) {
    if (intermediate == '$') return final == 'p' || final == 'w' || final == 'u';  // DECRQM, DECRQPSR, DECRQTSR
    if (intermediate == '*') return final == 'y';                                  // DECRQCRA
    if (intermediate == '&') return final == 'u';                                  // DECRQUPSS
    if (intermediate == '\'') return final == '|';                                 // DECRQLP
    if (intermediate != 0) return false;
    switch (final) {
    case 'c': return prefix != '?';                                                // DA1, DA2, DA3
    case 'n': return prefix != '>';                                                // DSR, CPR
    case 'q': return prefix == '>';                                                // XTVERSION
    case 'x': return prefix == 0;                                                  // DECREQTPARM
    case 'u': case 'm': case 'S': case 'g': case 'f': return prefix == '?';        // kitty keyboard, XTQMODKEYS, ...
    case 't': return prefix == 0 && first >= 11 && first <= 21;                    // XTWINOPS: reports
    default: return false;
    }
}

/// The same for a string: `kind` is P (DCS), ] (OSC), _ (APC) or another; `intermediate` a DCS's; `text` how it begins,
/// for a DCS with the final byte; `field`: one of its fields, which semicolons separate, is just a question mark.
/// Questions are such an OSC (colours, clipboard), but for titles and links; the DCS $q (DECRQSS), +q (XTGETTCAP) and
/// +Q; and a graphics command of kitty's that is a query or will be acknowledged.
bool string_asks(char kind, char intermediate, std::string_view text, bool field) {
    const auto holds = [text](std::string_view part) { return text.find(part) != std::string_view::npos; };
    if (kind == ']') {
        const auto number = parse_number(text.substr(0, text.find(';')));
        const bool label = number && (*number <= 2 || *number == 8);
        return (field && !label) || text.starts_with("1337;Report");
    }
    const bool q = text.starts_with('q') || text.starts_with('Q');
    if (kind == 'P') return q && (intermediate == '$' || intermediate == '+');
    return kind == '_' && text.starts_with('G') && (holds("a=q") || holds("i=") || holds("I="));
}
// <<< questions

/// Private modes (CSI ? n h, CSI ? n l) that a program leaves on and a terminal cannot guess, and how they are at
/// first.
struct PrivateMode {
    std::uint16_t number;
    bool at_first;
};
constexpr std::array kPrivateModes = {
    PrivateMode{1, false},     // cursor keys send ESC O A
    PrivateMode{5, false},     // dark on light
    PrivateMode{6, false},     // rows count from the scroll region's top
    PrivateMode{7, true},      // wrap at the right margin
    PrivateMode{9, false},     // mouse: buttons, as X10 had it
    PrivateMode{12, false},    // cursor blinks
    PrivateMode{25, true},     // cursor is shown
    PrivateMode{66, false},    // keypad sends escape sequences; told as ESC =, which more terminals know
    PrivateMode{1000, false},  // mouse: buttons
    PrivateMode{1002, false},  // mouse: buttons and dragging
    PrivateMode{1003, false},  // mouse: every motion
    PrivateMode{1004, false},  // focus in and out
    PrivateMode{1005, false},  // mouse coordinates in UTF-8
    PrivateMode{1006, false},  // mouse coordinates in decimal
    PrivateMode{1007, false},  // wheel sends cursor keys on the alternate screen
    PrivateMode{1015, false},  // mouse coordinates in decimal, urxvt's form
    PrivateMode{1016, false},  // mouse coordinates in pixels
    PrivateMode{2004, false},  // pastes are bracketed
};

constexpr std::array<bool, kPrivateModes.size()> modes_at_first() {
    std::array<bool, kPrivateModes.size()> first{};
    for (std::size_t i = 0; i < first.size(); ++i) first[i] = kPrivateModes[i].at_first;
    return first;
}

/// Colours and attributes (CSI ... m). A colour is 0 for the default, 1 << 24 | palette index, 2 << 24 | RGB, or
/// 3 << 24 | the parameter itself for the 16 that have one each.
struct Rendition {
    std::uint16_t attributes = 0;  // bit n: SGR n is on (1 bold ... 9 crossed out)
    std::uint32_t foreground = 0, background = 0, underline = 0;
    bool operator==(const Rendition &) const = default;
};

/// How text is drawn: what a terminal saves and restores together with the cursor (DECSC, DECRC).
struct Pen {
    std::array<char, 4> charsets = {'B', 'B', 'B', 'B'};  // G0 to G3; B is ASCII, 0 the line drawing characters
    bool shifted = false;                                 // SO: G1 is in use, not G0
    Rendition rendition;
    bool operator==(const Pen &) const = default;
};

/// Everything that has been switched on, as far as we tell it to a late client.
struct Modes {
    std::array<bool, kPrivateModes.size()> private_modes = modes_at_first();
    std::uint16_t alternate = 0;                            // the mode that switched the screen: 47, 1047, 1049; or 0
    bool insert = false, newline = false;                   // CSI 4 h, CSI 20 h
    std::uint16_t region_top = 0, region_bottom = 0;        // scroll region; 0: the first, the last row
    std::uint16_t cursor_style = 0;                         // CSI n SP q
    std::uint16_t modify_other_keys = 0;                    // CSI > 4 ; n m
    std::uint16_t keyboard_flags = 0;                       // CSI > n u (kitty): the uppermost
    Pen pen;
    std::array<Pen, 2> saved_pens;                          // as DECSC saved it: on the main and the alternate screen
    [[nodiscard]] Pen &saved_pen() { return saved_pens[alternate != 0 ? 1 : 0]; }
    bool operator==(const Modes &) const = default;

    void set_private(std::uint16_t number, bool on);
    void soft_reset();
    /// The sequences that bring a terminal of `rows` rows from its first state to this one; "" when it is the first.
    [[nodiscard]] std::string sequences(unsigned rows = UINT_MAX) const;
};

void Modes::set_private(std::uint16_t number, bool on) {
    constexpr std::array<std::uint16_t, 4> kMouse = {9, 1000, 1002, 1003};  // one setting: the last one counts
    const auto is_mouse = [&](std::uint16_t n) { return std::find(kMouse.begin(), kMouse.end(), n) != kMouse.end(); };
    if (number == 47 || number == 1047 || number == 1049) alternate = on ? number : 0;
    for (std::size_t i = 0; i < kPrivateModes.size() && is_mouse(number); ++i)
        if (is_mouse(kPrivateModes[i].number)) private_modes[i] = false;
    for (std::size_t i = 0; i < kPrivateModes.size(); ++i)
        if (kPrivateModes[i].number == number) private_modes[i] = on;
}

/// DECSTR leaves the screens, the mouse and what else came later as they are.
void Modes::soft_reset() {
    for (const int number : {1, 6, 66}) set_private(static_cast<std::uint16_t>(number), false);
    set_private(25, true);
    insert = false;
    region_top = region_bottom = 0;
    pen = saved_pen() = {};
}

/// One colour as SGR parameters: `base` is 38, 48 or 58.
std::string colour_parameters(unsigned base, std::uint32_t colour) {
    if (colour >> 24 == 3) return ";" + std::to_string(colour & 0xFF);
    const std::string head = ";" + std::to_string(base);
    if (colour >> 24 == 1) return head + ";5;" + std::to_string(colour & 0xFF);
    return head + ";2;" + std::to_string(colour >> 16 & 0xFF) + ";" + std::to_string(colour >> 8 & 0xFF) + ";" +
           std::to_string(colour & 0xFF);
}

std::string Modes::sequences(unsigned rows) const {
    std::string out;
    const Rendition &rendition = pen.rendition;
    const auto csi = [&out](const std::string &rest) { out.append("\x1B[").append(rest); };
    if (alternate != 0) csi("?" + std::to_string(alternate) + "h");
    for (std::size_t g = 0; g < pen.charsets.size(); ++g)
        if (pen.charsets[g] != 'B') out.append({'\x1B', "()*+"[g], pen.charsets[g]});
    if (pen.shifted) out += '\x0E';
    if (region_top > 1 || (region_bottom != 0 && region_bottom < rows))
        csi(std::to_string(region_top) + ";" + (region_bottom != 0 ? std::to_string(region_bottom) : "") + "r");
    for (std::size_t i = 0; i < kPrivateModes.size(); ++i)
        if (private_modes[i] != kPrivateModes[i].at_first && kPrivateModes[i].number == 66) out += "\x1B=";
        else if (private_modes[i] != kPrivateModes[i].at_first)
            csi("?" + std::to_string(kPrivateModes[i].number) + (private_modes[i] ? "h" : "l"));
    if (insert) csi("4h");
    if (newline) csi("20h");
    if (cursor_style != 0) csi(std::to_string(cursor_style) + " q");
    if (modify_other_keys != 0) csi(">4;" + std::to_string(modify_other_keys) + "m");
    if (keyboard_flags != 0) csi(">" + std::to_string(keyboard_flags) + "u");
    if (rendition == Rendition{}) return out;
    std::string sgr = "0";
    for (unsigned n = 1; n < 10; ++n)
        if ((rendition.attributes >> n & 1) != 0) sgr += ";" + std::to_string(n);
    if (rendition.foreground != 0) sgr += colour_parameters(38, rendition.foreground);
    if (rendition.background != 0) sgr += colour_parameters(48, rendition.background);
    if (rendition.underline != 0) sgr += colour_parameters(58, rendition.underline);
    csi(sgr + "m");
    return out;
}

/// The parser. Total (any byte in any state) and bounded: parameters beyond kParameters and all but the beginning of a
/// string are passed over. How its input is cut into calls never changes its result.
class Follower {
public:
    /// Takes the next bytes; appends the questions among them that a terminal would answer to `queries`, in order.
    void feed(std::string_view bytes, std::vector<Range> &queries);

    /// The window has got another size: a terminal gives up its scroll region then. Gives whether there was one.
    bool resized();

    [[nodiscard]] const Modes &modes() const { return modes_; }
    /// Where a resize last did so.
    [[nodiscard]] std::uint64_t region_lost_at() const { return region_lost_at_; }
    [[nodiscard]] std::uint64_t position() const { return position_; }
    [[nodiscard]] bool in_ground() const { return state_ == State::ground; }
    /// Where the sequence that is not at its end yet began; in ground state, where we are.
    [[nodiscard]] std::uint64_t safe_place() const { return in_ground() ? position_ : begin_; }
    /// Where the screen was last drawn anew from nothing: a full clear, a switch of screens, a reset.
    [[nodiscard]] std::uint64_t drawn_at() const { return drawn_at_; }
    [[nodiscard]] const Modes &drawn_modes() const { return drawn_modes_; }
    /// Whether since then the cursor was sent to places by name: a program that treats the screen as a sheet.
    [[nodiscard]] bool is_addressed() const { return modes_.alternate != 0 || addressed_; }
    bool operator==(const Follower &) const = default;

private:
    enum class State : std::uint8_t { ground, c1, escape, escape_intermediate, csi, csi_ignore, dcs, string };
    static constexpr std::size_t kParameters = 32, kString = 24;
    static constexpr std::uint16_t kNone = 0;       // a parameter that is left out
    static constexpr unsigned char kC1Lead = 0xC2;  // U+0080 to U+009F begin so

    std::size_t skip_text(std::string_view bytes);
    void step(unsigned char c, std::vector<Range> &queries);
    void enter(State state);
    void digit(unsigned char c);
    void header(unsigned char c, std::vector<Range> &queries);
    void escape(unsigned char c, std::vector<Range> &queries);
    void csi(unsigned char c, std::vector<Range> &queries);
    void string(unsigned char c, std::vector<Range> &queries);
    void string_ended(std::uint64_t end, std::vector<Range> &queries);
    void control(unsigned char c, std::vector<Range> &queries);
    void query(std::uint64_t begin, std::uint64_t end, std::vector<Range> &queries) const;
    void set_modes(bool on);
    void set_rendition();
    std::uint32_t colour(std::size_t &i) const;
    void drawn(std::uint64_t at);
    [[nodiscard]] std::uint16_t parameter(std::size_t i) const { return i < count_ ? parameters_[i] : kNone; }

    State state_ = State::ground;
    std::uint64_t position_ = 0;      // bytes taken
    std::uint64_t begin_ = 0;         // of the present sequence
    std::uint64_t chain_ = 0;         // of the first of those that it cut short: left open, they would take what comes
    char prefix_ = 0;                 // of a CSI or DCS: < = > ? or 0
    char intermediate_ = 0;           // the last one, 0x20 to 0x2F, or 0
    std::size_t count_ = 0;           // parameters, one that is empty included
    std::array<std::uint16_t, kParameters> parameters_{};
    std::uint64_t colons_ = 0;        // bit i: a colon stands before parameter i
    char kind_ = 0;                   // of a string: P (DCS), ], _, ^ or X
    std::size_t length_ = 0;          // of a string, as far as it is kept
    std::array<char, kString> text_{};
    bool lead_ = false;               // its last byte may be the first half of an 8-bit control
    bool fresh_ = false;              // its present field is empty so far
    bool mark_ = false;               // its present field is just ?
    bool question_ = false;           // so was an earlier one
    Modes modes_;
    std::uint64_t home_at_ = UINT64_MAX;  // of the last move to the upper left corner, when nothing came after it
    std::uint64_t drawn_at_ = 0;
    Modes drawn_modes_;
    bool addressed_ = false;
    std::uint64_t region_lost_at_ = 0;
};

void Follower::query(std::uint64_t begin, std::uint64_t end, std::vector<Range> &queries) const {
    while (!queries.empty() && queries.back().begin >= begin) queries.pop_back();  // an ENQ inside of this one
    queries.push_back({begin, end});
}

void Follower::drawn(std::uint64_t at) {
    drawn_at_ = at;
    drawn_modes_ = modes_;
    addressed_ = false;
}

bool Follower::resized() {
    if (modes_.region_top == 0 && modes_.region_bottom == 0) return false;
    modes_.region_top = modes_.region_bottom = 0;
    region_lost_at_ = position_;
    return true;
}

/// How many bytes from the beginning on are text and controls that change nothing here, in ground state.
std::size_t Follower::skip_text(std::string_view bytes) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kTops = kOnes * 0x80;
    std::size_t i = 0;
    while (i < bytes.size()) {
        if (bytes.size() - i >= 8 && std::endian::native == std::endian::little) {  // eight at a time: plain_of_eight()
            std::uint64_t w = 0;
            std::memcpy(&w, bytes.data() + i, 8);
            const std::uint64_t lead = w ^ (kOnes * kC1Lead);
            const std::uint64_t odd = (((w - kOnes * 0x20) & ~w) | ((lead - kOnes) & ~lead)) & kTops;
            i += odd == 0 ? 8 : static_cast<std::size_t>(std::countr_zero(odd)) / 8;
            if (odd == 0) continue;
        }
        const auto c = static_cast<unsigned char>(bytes[i]);
        if (c == 0x1B || c == 0x0E || c == 0x0F || c == 0x05 || c == kC1Lead) break;
        ++i;
    }
    if (i > 0) home_at_ = UINT64_MAX;
    return i;
}

void Follower::feed(std::string_view bytes, std::vector<Range> &queries) {
    while (!bytes.empty()) {
        if (state_ == State::ground) {
            const std::size_t text = skip_text(bytes);
            position_ += text;
            bytes.remove_prefix(text);
            if (bytes.empty()) return;
        }
        const auto c = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        ++position_;
        if (state_ == State::csi && c >= 0x30 && c <= 0x39 && intermediate_ == 0) digit(c);  // most of what is not text
        else step(c, queries);
    }
}

void Follower::enter(State state) {
    state_ = state;
    if (state == State::ground) return;  // where nothing of this is looked at
    prefix_ = intermediate_ = kind_ = 0;
    count_ = length_ = 0;
    colons_ = 0;
    lead_ = fresh_ = mark_ = question_ = false;
    parameters_[0] = 0;
}

/// One byte; position_ is behind it. The first lines are the diagram's transitions from anywhere. The 8-bit controls of
/// the diagram (0x9B for ESC [) come as two bytes in UTF-8, and xterm obeys them.
void Follower::step(unsigned char c, std::vector<Range> &queries) {
    const bool half = state_ == State::c1;  // and when this is not the other half, the first is as good as cut short
    if (half && c >= 0x80 && c < 0xA0) {
        enter(State::escape);
        return escape(static_cast<unsigned char>(c - 0x40), queries);
    }
    if (half) {
        state_ = State::ground;
        home_at_ = UINT64_MAX;
    }
    if (state_ == State::ground && !half) chain_ = position_ - 1;
    if (state_ == State::ground && c == kC1Lead) {
        begin_ = position_ - 1;
        return enter(State::c1);
    }
    if (c == 0x18 || c == 0x1A) return enter(State::ground);  // CAN, SUB
    if (c == 0x1B) {
        if (state_ == State::string) string_ended(position_ - 1, queries);  // what stays, ESC \, does nothing alone
        begin_ = position_ - 1;
        return enter(State::escape);
    }
    if (state_ == State::string) return string(c, queries);
    if (c < 0x20) return control(c, queries);
    if (c == 0x7F) return;
    if (c > 0x7F) {  // text, which ends a sequence that has lost its end, or an 8-bit control
        begin_ = position_ - 1;
        return enter(c == kC1Lead ? State::c1 : State::ground);
    }
    switch (state_) {
    case State::escape:
    case State::escape_intermediate: return escape(c, queries);
    case State::csi:
    case State::dcs: return header(c, queries);
    case State::csi_ignore:
        if (c >= 0x40) enter(State::ground);
        return;
    default: return;
    }
}

/// A control character, which works inside a sequence too.
void Follower::control(unsigned char c, std::vector<Range> &queries) {
    if (c == 0x05) query(state_ == State::ground ? chain_ : position_ - 1, position_, queries);  // ENQ
    if (c == 0x0E || c == 0x0F) modes_.pen.shifted = c == 0x0E;
}

void Follower::escape(unsigned char c, std::vector<Range> &queries) {
    if (c < 0x30) {
        intermediate_ = static_cast<char>(c);
        state_ = State::escape_intermediate;
        return;
    }
    constexpr std::string_view kStrings = "]_^X";
    if (intermediate_ == 0 && (c == '[' || c == 'P' || kStrings.find(static_cast<char>(c)) != std::string_view::npos)) {
        state_ = c == '[' ? State::csi : c == 'P' ? State::dcs : State::string;
        kind_ = static_cast<char>(c);
        return;
    }
    constexpr std::string_view kSlots = "()*+";
    if (const std::size_t slot = kSlots.find(intermediate_); intermediate_ != 0 && slot != std::string_view::npos)
        modes_.pen.charsets[slot] = static_cast<char>(c);
    if (intermediate_ == 0 && c == '7') modes_.saved_pen() = modes_.pen;
    if (intermediate_ == 0 && c == '8') modes_.pen = modes_.saved_pen();
    if (intermediate_ == 0 && (c == '=' || c == '>')) modes_.set_private(66, c == '=');
    if (intermediate_ == 0 && c == 'Z') query(chain_, position_, queries);  // DECID
    if (intermediate_ == 0 && c == 'c') {                                    // RIS
        modes_ = {};
        drawn(begin_);
    }
    enter(State::ground);
}

void Follower::digit(unsigned char c) {
    count_ = std::max<std::size_t>(count_, 1);
    parameters_[count_ - 1] = static_cast<std::uint16_t>(std::min(parameters_[count_ - 1] * 10 + (c - '0'), 9999));
}

/// Prefix, parameters and intermediates of a CSI or DCS, up to the final byte.
void Follower::header(unsigned char c, std::vector<Range> &queries) {
    const bool fresh = count_ == 0 && prefix_ == 0 && intermediate_ == 0;
    if (c >= 0x3C && c <= 0x3F && fresh) prefix_ = static_cast<char>(c);
    else if (c < 0x30) intermediate_ = static_cast<char>(c);
    else if (c <= 0x3F && (c >= 0x3C || intermediate_ != 0)) {  // misplaced: nothing comes of it but its end
        state_ = state_ == State::csi ? State::csi_ignore : State::string;
        kind_ = 'X';
    }
    else if (c == ';' || c == ':') {
        count_ = std::min(std::max<std::size_t>(count_, 1) + 1, kParameters);
        parameters_[count_ - 1] = 0;
        if (c == ':') colons_ |= std::uint64_t{1} << (count_ - 1);
        else colons_ &= ~(std::uint64_t{1} << (count_ - 1));
    } else if (c < 0x3C) {
        digit(c);
    } else if (state_ == State::csi) {
        csi(c, queries);
        enter(State::ground);
    } else {
        state_ = State::string;
        text_[0] = static_cast<char>(c);
        length_ = 1;
    }
}

void Follower::csi(unsigned char c, std::vector<Range> &queries) {
    if (sequence_asks(prefix_, intermediate_, static_cast<char>(c), parameter(0)))
        return query(chain_, position_, queries);
    const std::uint64_t home = std::exchange(home_at_, c == 'm' ? home_at_ : UINT64_MAX);
    if (intermediate_ == ' ' && c == 'q') modes_.cursor_style = parameter(0);
    if (intermediate_ == '!' && c == 'p') modes_.soft_reset();  // DECSTR
    if (intermediate_ != 0) return;
    if (prefix_ == '>' && c == 'm' && parameter(0) == 4) modes_.modify_other_keys = parameter(1);
    if (prefix_ == '>' && c == 'u') modes_.keyboard_flags = parameter(0);
    if (prefix_ == '<' && c == 'u') modes_.keyboard_flags = 0;
    if ((prefix_ == 0 || prefix_ == '?') && (c == 'h' || c == 'l')) set_modes(c == 'h');
    if (prefix_ != 0) return;
    if (c == 'm') set_rendition();
    if (c == 's' && count_ == 0) modes_.saved_pen() = modes_.pen;
    if (c == 'u' && count_ == 0) modes_.pen = modes_.saved_pen();
    if (c == 'r' && (parameter(1) == 0 || parameter(1) > std::max<std::uint16_t>(parameter(0), 1))) {  // else: nothing
        modes_.region_top = parameter(0);
        modes_.region_bottom = parameter(1);
    }
    if (c == 'H' || c == 'f') {
        const bool corner = parameter(0) <= 1 && parameter(1) <= 1;
        if (corner) home_at_ = begin_;
        else addressed_ = true;
    }
    if (c == 'd') addressed_ = true;
    if (c == 'J' && (parameter(0) == 2 || (parameter(0) == 0 && home != UINT64_MAX))) drawn(std::min(home, begin_));
}

void Follower::set_modes(bool on) {
    for (std::size_t i = 0; i < count_; ++i) {
        if (prefix_ == 0 && parameters_[i] == 4) modes_.insert = on;
        if (prefix_ == 0 && parameters_[i] == 20) modes_.newline = on;
        if (prefix_ == 0) continue;
        const std::uint16_t before = modes_.alternate;
        if (on && before == 0 && (parameters_[i] == 1047 || parameters_[i] == 1049)) drawn(begin_);
        const bool saves = parameters_[i] == 1048 || parameters_[i] == 1049;  // the pen, of the main screen
        if (saves && on) modes_.saved_pen() = modes_.pen;
        modes_.set_private(parameters_[i], on);
        if (saves && !on) modes_.pen = modes_.saved_pen();
        if (before != 0 && modes_.alternate == 0) addressed_ = false;  // back on a screen of lines
    }
}

/// The colour behind parameter `i`, which is 38, 48 or 58: 5 and an index, or 2 and red, green, blue, which may stand
/// behind colons with a colour space before them; leaves `i` at the last parameter that belongs to it.
std::uint32_t Follower::colour(std::size_t &i) const {
    const bool colon = (colons_ >> (i + 1) & 1) != 0 && i + 1 < count_;
    std::size_t subs = 0;
    while (colon && i + 1 + subs < count_ && (colons_ >> (i + 1 + subs) & 1) != 0) ++subs;
    const std::uint16_t kind = parameter(i + 1);
    const std::size_t first = i + (kind == 2 && subs >= 5 ? 3 : 2), length = kind == 5 ? 1 : kind == 2 ? 3 : 0;
    i = colon ? i + subs : std::min(i + 1 + length, count_);
    const auto byte = [this](std::size_t at) { return parameter(at) & 0xFFU; };
    if (length == 1) return 1U << 24 | byte(first);
    if (length == 0) return 0;
    return 2U << 24 | byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
}

void Follower::set_rendition() {
    Rendition &now = modes_.pen.rendition;
    const auto attribute = [&now](unsigned n, bool on) {
        now.attributes = static_cast<std::uint16_t>(on ? now.attributes | 1U << n : now.attributes & ~(1U << n));
    };
    for (std::size_t i = 0; i < std::max<std::size_t>(count_, 1); ++i) {
        const std::uint16_t n = parameter(i);
        const bool styled = (colons_ >> (i + 1) & 1) != 0 && i + 1 < count_;  // 4:3, a curly underline
        if (n == 0) now = {};
        else if (n < 10) attribute(n, !(styled && parameter(i + 1) == 0));
        else if (n == 21) attribute(4, true);
        else if (n == 22) attribute(1, false), attribute(2, false);
        else if (n >= 23 && n <= 29) attribute(n - 20U, false);
        else if (n == 38) now.foreground = colour(i);
        else if (n == 48) now.background = colour(i);
        else if (n == 58) now.underline = colour(i);
        else if (n >= 30 && n <= 39) now.foreground = n == 39 ? 0 : 3U << 24 | n;
        else if (n >= 40 && n <= 49) now.background = n == 49 ? 0 : 3U << 24 | n;
        else if (n == 59) now.underline = 0;
        else if (n >= 90 && n <= 97) now.foreground = 3U << 24 | n;
        else if (n >= 100 && n <= 107) now.background = 3U << 24 | n;
        if (styled && n < 10) ++i;
    }
}

/// Inside an OSC, DCS, APC, PM or SOS string: BEL ends an OSC, ESC (see step) any of them.
void Follower::string(unsigned char c, std::vector<Range> &queries) {
    if (kind_ == ']' && c == 0x07) {
        string_ended(position_, queries);
        return enter(State::ground);
    }
    if (lead_ && c == 0x9C) {  // ST as one character
        string_ended(position_, queries);
        return enter(State::ground);
    }
    lead_ = c == kC1Lead;
    if (lead_) return;
    if (length_ < kString) text_[length_++] = static_cast<char>(c);
    question_ = question_ || (c == ';' && mark_);
    mark_ = fresh_ && c == '?';
    fresh_ = c == ';';
}

void Follower::string_ended(std::uint64_t end, std::vector<Range> &queries) {
    if (string_asks(kind_, intermediate_, {text_.data(), length_}, question_ || mark_)) query(chain_, end, queries);
}

/// The ring with what is known about it: where a late client can begin, and what it must not be shown.
class Output {
public:
    [[nodiscard]] std::uint64_t head() const { return ring_.head(); }
    [[nodiscard]] std::uint64_t tail() const { return ring_.tail(); }

    /// The next bytes, which the recording has already.
    void append(std::string_view bytes);

    /// The window has `rows` rows now. Gives whether a scroll region is void by that.
    bool resized(unsigned rows) {
        rows_ = rows;
        return follower_.resized();
    }
    [[nodiscard]] std::uint64_t region_lost_at() const { return follower_.region_lost_at(); }

    /// Where a client that wants `wanted` bytes of history begins, and the sequences that its terminal needs before.
    struct Start {
        std::uint64_t at;
        std::string modes;
    };
    [[nodiscard]] Start start(std::uint64_t wanted) const;

    /// The next bytes for a client at `cursor` (in the ring); before `replay_end` the queries are passed over.
    [[nodiscard]] Range next(std::uint64_t cursor, std::uint64_t replay_end) const;
    [[nodiscard]] std::array<iovec, 2> parts(Range range) { return ring_.parts(range.begin, range.end); }

private:
    static constexpr std::size_t kMostQueries = 4096;   // remembered; history does not begin before the first of them
    static constexpr std::size_t kStep = 8 << 10;       // bytes between two snapshots
    static constexpr std::uint64_t kLineSearch = 4096;  // bytes: no longer line is looked through for its end

    [[nodiscard]] Start line_start(std::uint64_t from) const;

    Ring ring_;
    Follower follower_;
    std::vector<Range> queries_;
    std::vector<Follower> snapshots_ = {Follower{}};  // of the follower, oldest first, none before the ring's tail
    std::uint64_t floor_ = 0;                         // no history begins before it
    unsigned rows_ = UINT_MAX;                        // of the window
};

void Output::append(std::string_view bytes) {
    ring_.append(bytes);
    for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), kStep))) {
        follower_.feed(bytes.substr(0, kStep), queries_);
        if (follower_.position() - snapshots_.back().position() >= kStep) snapshots_.push_back(follower_);
    }
    while (snapshots_.size() > 1 && snapshots_.front().position() < tail()) snapshots_.erase(snapshots_.begin());
    floor_ = std::max(floor_, snapshots_.front().position());
    if (queries_.size() < kMostQueries) return;
    const auto old = std::find_if(queries_.begin(), queries_.end(), [this](Range r) { return r.end > tail(); });
    const auto half = queries_.begin() + kMostQueries / 2;
    if (old < half) floor_ = std::max(floor_, std::prev(half)->end);
    queries_.erase(queries_.begin(), std::max(old, half));
}

Output::Start Output::start(std::uint64_t wanted) const {
    const std::uint64_t safe = follower_.safe_place();
    Start only_modes{safe >= tail() ? safe : head(), follower_.modes().sequences(rows_)};
    if (wanted == 0) return only_modes;
    const std::uint64_t from = std::max(head() - std::min(wanted, head()), floor_);
    const std::uint64_t drawn = follower_.drawn_at();
    if (follower_.is_addressed() && drawn < from) {  // the picture is older than the history that was asked for
        if (drawn >= floor_) return {drawn, follower_.drawn_modes().sequences(rows_)};
        if (follower_.modes().alternate != 0) return only_modes;  // a part of a picture is worse than none
    }
    return line_start(from);
}

/// The first line that begins at `from` or after it; when none is near, the first place between two sequences.
Output::Start Output::line_start(std::uint64_t from) const {
    std::vector<Range> ignored;
    const auto before = [from](const Follower &f) { return f.position() <= from; };
    Follower at = *std::find_if(snapshots_.rbegin(), snapshots_.rend(), before);
    std::optional<Follower> place;
    while (at.position() < std::min(from + kLineSearch, head())) {
        if (at.position() == region_lost_at()) at.resized();
        const char c = ring_.at(at.position());
        const bool near = at.position() >= from, starts = (c & 0xC0) != 0x80;
        const bool line = at.position() == 0 || (at.position() > tail() && ring_.at(at.position() - 1) == '\n');
        if (near && at.in_ground() && line) return {at.position(), at.modes().sequences(rows_)};
        if (near && at.in_ground() && starts && !place) place = at;
        at.feed({&c, 1}, ignored);
    }
    if (!place) return start(0);
    return {place->position(), place->modes().sequences(rows_)};
}

Range Output::next(std::uint64_t cursor, std::uint64_t replay_end) const {
    if (cursor >= replay_end) return {cursor, head()};
    const auto ends_after = [](std::uint64_t position, Range range) { return position < range.end; };
    auto query = std::upper_bound(queries_.begin(), queries_.end(), cursor, ends_after);
    while (query != queries_.end() && query->begin <= cursor && cursor < replay_end) cursor = (query++)->end;
    const bool more = query != queries_.end() && query->begin < replay_end;
    return {cursor, more ? query->begin : std::max(cursor, std::min(replay_end, head()))};
}

// ---------------------------------------------------------------------------------------------------------------------
// 8. What a client says
//
// Bytes for the program, but for window-change messages in a connection that begins with one. They come in pieces of
// any size. The first bytes are also looked at for another protocol: a web page can make a browser of the same user
// talk to a loopback port, and every line of an HTTP request would be a line typed into a shell.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kHelloBytes = 12;
constexpr std::string_view kHelloMagic = "\xFF\xFFss";
constexpr unsigned kPushOnly = 2;                  // x pixels of a hello without a window: see ClientInput::is_push()
constexpr std::string_view kTaken = "\xFF\xFFok";   // the answer to such a client
constexpr milliseconds kOpeningGrace{200};         // how long undecided first bytes wait for more
constexpr std::size_t kOpeningBytes = 8 << 10;     // and how many of them at most

/// What the first bytes of a connection are. `undecided`: more could make it a hello (`incomplete`) or foreign.
enum class Opening { plain, hello, incomplete, undecided, foreign };

/// Whether `bytes` begin an HTTP request line (RFC 9112, section 3): a token, a target, a version. Known methods with
/// an absolute path need no version: a browser sends nothing else, and a person at a shell does not.
Opening classify_http(std::string_view bytes) {
    constexpr std::array<std::string_view, 9> kMethods = {"GET ",     "POST ",    "HEAD ",  "PUT ",  "DELETE ",
                                                          "OPTIONS ", "CONNECT ", "TRACE ", "PATCH "};
    for (const std::string_view method : kMethods)
        if (bytes.starts_with(method) && bytes.size() > method.size() && bytes[method.size()] == '/')
            return Opening::foreign;
    const auto is_token = [](char c) { return c > ' ' && c < 0x7F; };
    std::size_t at = 0;
    for (int word = 0; word < 2; ++word) {
        const std::size_t begin = at;
        while (at < bytes.size() && is_token(bytes[at])) ++at;
        if (at == bytes.size()) return at < kOpeningBytes ? Opening::undecided : Opening::plain;
        if (at == begin || bytes[at] != ' ') return Opening::plain;
        ++at;
    }
    constexpr std::string_view kVersionName = "HTTP/";
    const std::string_view rest = bytes.substr(at, kVersionName.size());
    if (rest == kVersionName) return Opening::foreign;
    return kVersionName.starts_with(rest) ? Opening::undecided : Opening::plain;
}

/// Whether `bytes` begin a TLS handshake record (RFC 8446, section 5.1: 22, 3, 0..4, length, client hello) or a STUN
/// message (RFC 8489, section 5: type, length, magic cookie; over TCP perhaps behind a length of its own, RFC 4571).
Opening classify_binary(std::string_view bytes) {
    constexpr std::string_view kCookie = "\x21\x12\xA4\x42";
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    if (byte(0) == 0x16) {
        if (bytes.size() > 1 && byte(1) != 3) return Opening::plain;
        if (bytes.size() > 2 && byte(2) > 4) return Opening::plain;
        if (bytes.size() < 6) return Opening::undecided;
        return byte(5) == 1 ? Opening::foreign : Opening::plain;
    }
    if (byte(0) >= 0x40) return Opening::plain;
    if (bytes.size() >= 8 && bytes.substr(4, 4) == kCookie) return Opening::foreign;
    if (bytes.size() >= 10 && bytes.substr(6, 4) == kCookie) return Opening::foreign;
    return byte(0) < 2 && bytes.size() < 10 ? Opening::undecided : Opening::plain;
}

Opening classify(std::string_view bytes) {
    if (bytes.starts_with(kHelloMagic)) return bytes.size() < kHelloBytes ? Opening::incomplete : Opening::hello;
    if (kHelloMagic.starts_with(bytes)) return Opening::incomplete;
    const Opening binary = classify_binary(bytes), http = classify_http(bytes);
    if (binary == Opening::foreign || http == Opening::foreign) return Opening::foreign;
    return binary == Opening::undecided ? binary : http;
}

winsize parse_window_change(std::string_view message) {
    const auto number = [&](std::size_t at) {
        return static_cast<unsigned short>(std::uint8_t(message[at]) << 8 | std::uint8_t(message[at + 1]));
    };
    return {.ws_row = number(4), .ws_col = number(6), .ws_xpixel = number(8), .ws_ypixel = number(10)};
}

/// Tells the bytes that a client sends for the program from its window-change messages, in pieces of any size. Keeps at
/// most kOpeningBytes at first, then at most kHelloBytes.
class ClientInput {
public:
    enum class Mode { opening, raw, aware, binary, push, foreign };

    /// Takes what has been received; appends bytes for the program to `program` and window sizes to `windows`.
    void feed(std::string_view bytes, std::string &program, std::vector<winsize> &windows);
    /// No more will come, or not soon: what is held was not the beginning of anything, but input.
    void settle(std::string &program);

    [[nodiscard]] Mode mode() const { return mode_; }
    [[nodiscard]] bool wants_goodbye() const { return mode_ == Mode::aware || mode_ == Mode::binary || is_push(); }
    /// Whether it only brings input (attach -p): it is sent no output, but is told when all that it sent has been taken.
    [[nodiscard]] bool is_push() const { return mode_ == Mode::push; }
    /// Whether bytes wait for more to be told from another protocol: call settle() when none come.
    [[nodiscard]] bool is_undecided() const {
        return mode_ == Mode::opening && !held_.empty() && classify(held_) == Opening::undecided;
    }

    [[nodiscard]] bool is_cut_hello() const { return !held_.empty() && classify(held_) == Opening::incomplete; }

private:
    void feed_aware(std::string &program, std::vector<winsize> &windows);

    Mode mode_ = Mode::opening;
    std::string held_;  // what could not be told yet
};

void ClientInput::feed(std::string_view bytes, std::string &program, std::vector<winsize> &windows) {
    if (mode_ == Mode::raw || mode_ == Mode::binary || mode_ == Mode::push) {
        program.append(bytes);
        return;
    }
    held_.append(bytes);
    if (mode_ == Mode::opening) {
        const Opening opening = classify(held_);
        if (opening == Opening::undecided || opening == Opening::incomplete) return;
        mode_ = opening == Opening::hello ? Mode::aware : opening == Opening::plain ? Mode::raw : Mode::foreign;
    }
    if (mode_ == Mode::aware) feed_aware(program, windows);
    if (mode_ == Mode::raw || mode_ == Mode::binary || mode_ == Mode::push) program.append(held_);
    if (mode_ != Mode::aware) held_ = {};
}

/// Passes on what is held, but for the messages in it and for the beginning of one at its end.
void ClientInput::feed_aware(std::string &program, std::vector<winsize> &windows) {
    std::string_view rest = held_;
    while (!rest.empty()) {
        const std::size_t plain = std::min(rest.find(kHelloMagic.front()), rest.size());
        program.append(rest.substr(0, plain));
        rest.remove_prefix(plain);
        if (rest.starts_with(kHelloMagic) && rest.size() >= kHelloBytes) {
            const winsize window = parse_window_change(rest);
            rest.remove_prefix(kHelloBytes);
            if (window.ws_row == 0 && window.ws_col == 0) {
                mode_ = window.ws_xpixel == kPushOnly ? Mode::push : Mode::binary;
                break;
            }
            if (window.ws_row != 0 && window.ws_col != 0) windows.push_back(window);
        } else if (rest.starts_with(kHelloMagic) || kHelloMagic.starts_with(rest)) {
            break;  // the beginning of a message, or nothing
        } else {
            program.push_back(rest.front());
            rest.remove_prefix(1);
        }
    }
    held_.erase(0, held_.size() - rest.size());
}

void ClientInput::settle(std::string &program) {
    if (mode_ == Mode::foreign) return;
    if (mode_ == Mode::opening) mode_ = Mode::raw;
    program.append(held_);
    held_ = {};
}

// ---------------------------------------------------------------------------------------------------------------------
// 9. Who may come in
//
// The peer must be our own user or root. A Unix-domain socket tells who connected; for TCP on the loopback interface
// the kernel's table of sockets does (sock_diag(7), the same as in /proc/net/tcp, but for one socket in constant time):
// the peer's own socket has an owner, and an inode as long as a process holds it.
// ---------------------------------------------------------------------------------------------------------------------

bool is_ours(uid_t user) { return user == ::geteuid() || user == 0; }

/// Whether the process at the other end of a Unix-domain socket is ours.
bool unix_peer_is_ours(int fd) {
#if defined(__linux__)
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && is_ours(peer.uid);
#else
    uid_t user = 0;
    gid_t group = 0;
    return ::getpeereid(fd, &user, &group) == 0 && is_ours(user);
#endif
}

#if defined(__linux__)
/// IPv4 inside IPv6 (::ffff:1.2.3.4) as plain IPv4.
SocketAddress unmapped(const SocketAddress &address) {
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    if (address.storage.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) return address;
    SocketAddress plain{.storage = {}, .length = sizeof(sockaddr_in)};
    auto *in = reinterpret_cast<sockaddr_in *>(&plain.storage);
    in->sin_family = AF_INET;
    in->sin_port = in6->sin6_port;
    std::memcpy(&in->sin_addr, &in6->sin6_addr.s6_addr[12], 4);
    return plain;
}

void put_endpoint(const SocketAddress &address, __be16 &port, __be32 *words) {
    const auto *in = reinterpret_cast<const sockaddr_in *>(&address.storage);
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    port = in->sin_port;  // at the same place in both
    if (address.storage.ss_family == AF_INET) words[0] = in->sin_addr.s_addr;
    else std::memcpy(words, &in6->sin6_addr, 16);
}

/// Whether the address is certainly no one of this machine's, asked of the kernel's routing table (rtnetlink(7)): packets
/// to it leave by a network. Anything else, a failure too, is doubt. A bind(2) to it for a probe would tell less: it
/// fails for want of ports as well, and with ip_nonlocal_bind (ip(7)) it never fails.
bool is_elsewhere(const SocketAddress &address) {
    struct {
        nlmsghdr head;
        rtmsg body;
        rtattr attribute;
        std::array<__be32, 4> destination;
    } question{};
    const std::size_t bytes = address.storage.ss_family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr);
    question.head.nlmsg_len = static_cast<std::uint32_t>(offsetof(decltype(question), destination) + bytes);
    question.head.nlmsg_type = RTM_GETROUTE;
    question.head.nlmsg_flags = NLM_F_REQUEST;
    question.body.rtm_family = static_cast<unsigned char>(address.storage.ss_family);
    question.body.rtm_dst_len = static_cast<unsigned char>(bytes * 8);
    question.attribute.rta_type = RTA_DST;
    question.attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(bytes));
    __be16 port = 0;
    put_endpoint(address, port, question.destination.data());
    const Fd routes(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!routes || ::send(routes.get(), &question, question.head.nlmsg_len, 0) < 0) return false;
    alignas(nlmsghdr) std::array<char, 1024> answer{};  // it is there at once: netlink works inside send(2)
    const ssize_t n = ::recv(routes.get(), answer.data(), answer.size(), MSG_DONTWAIT);
    const auto *head = reinterpret_cast<const nlmsghdr *>(answer.data());
    if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(rtmsg))) || head->nlmsg_type != RTM_NEWROUTE) return false;
    return reinterpret_cast<const rtmsg *>(answer.data() + NLMSG_HDRLEN)->rtm_type == RTN_UNICAST;
}

/// Who owns the socket at the other end of a TCP connection, asked of the kernel through `diag`, a sock_diag(7) socket.
/// `here`: it is a socket of this machine; `held`: a process has it open.
struct TcpOwner {
    bool here = false, held = false;
    uid_t user = 0;
};

TcpOwner tcp_owner(int diag, const SocketAddress &peer, const SocketAddress &own) {
    struct {
        nlmsghdr head;
        inet_diag_req_v2 body;
    } question{};
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.head.nlmsg_flags = NLM_F_REQUEST;
    question.body.sdiag_family = static_cast<std::uint8_t>(peer.storage.ss_family);
    question.body.sdiag_protocol = IPPROTO_TCP;
    question.body.idiag_states = ~0U;
    question.body.id.idiag_cookie[0] = question.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    put_endpoint(peer, question.body.id.idiag_sport, question.body.id.idiag_src);
    put_endpoint(own, question.body.id.idiag_dport, question.body.id.idiag_dst);
    if (::send(diag, &question, sizeof question, 0) < 0) return {};
    alignas(nlmsghdr) std::array<char, 1024> answer{};  // it is there at once: netlink works inside send(2)
    const ssize_t n = ::recv(diag, answer.data(), answer.size(), MSG_DONTWAIT);
    const auto *head = reinterpret_cast<const nlmsghdr *>(answer.data());
    if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg)))) return {};
    if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY) return {};
    const auto *found = reinterpret_cast<const inet_diag_msg *>(answer.data() + NLMSG_HDRLEN);
    if (found->id.idiag_dport != question.body.id.idiag_dport) return {};  // a listening socket at that port
    return {.here = true, .held = found->idiag_inode != 0, .user = found->idiag_uid};
}
#endif

/// The peers of our clients.
class Gate {
public:
    /// Gets ready to ask about TCP peers; false with a message. `allow_remote`: peers on other machines come in too.
    bool open(bool allow_remote);
    /// Whether the client behind `fd` may come in.
    [[nodiscard]] bool admits(int fd) const;
    /// Whether nobody holds the other end any more, though it said only that it will send nothing (shutdown(2)).
    [[nodiscard]] bool has_left(int fd) const;

private:
    Fd diag_;
    bool allow_remote_ = false;
};

/// Both ends of a connection: what getsockname(2) and getpeername(2) say, IPv4 as IPv4.
struct Ends {
    SocketAddress own{.storage = {}, .length = sizeof(sockaddr_storage)};
    SocketAddress peer{.storage = {}, .length = sizeof(sockaddr_storage)};
    bool known = false;
};

Ends ends_of(int fd) {
    Ends ends;
    ends.known = ::getsockname(fd, reinterpret_cast<sockaddr *>(&ends.own.storage), &ends.own.length) == 0 &&
                 ::getpeername(fd, reinterpret_cast<sockaddr *>(&ends.peer.storage), &ends.peer.length) == 0;
#if defined(__linux__)
    ends.own = unmapped(ends.own);
    ends.peer = unmapped(ends.peer);
#endif
    return ends;
}

bool Gate::open(bool allow_remote) {
    allow_remote_ = allow_remote;
#if defined(__linux__)
    diag_.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    if (!diag_) complain_errno("sock_diag (needed to know who connects)");
    return static_cast<bool>(diag_);
#else
    return true;
#endif
}

bool Gate::admits(int fd) const {
    const Ends ends = ends_of(fd);
    if (!ends.known) return false;  // it has gone already
    if (ends.own.storage.ss_family == AF_UNIX) return unix_peer_is_ours(fd);
#if defined(__linux__)
    const TcpOwner owner = tcp_owner(diag_.get(), ends.peer, ends.own);
    if (owner.here) return owner.held && is_ours(owner.user);
    return allow_remote_ && is_elsewhere(ends.peer);  // a socket of this machine would have an owner: doubt means no
#else
    return true;  // no portable way to ask; the loopback interface is the wall
#endif
}

bool Gate::has_left(int fd) const {
    pollfd entry{.fd = fd, .events = 0, .revents = 0};
    if (::poll(&entry, 1, 0) > 0) return true;  // POLLHUP or POLLERR: closed both ways, or reset
#if defined(__linux__)
    const Ends ends = ends_of(fd);
    if (!ends.known) return true;
    if (ends.own.storage.ss_family == AF_UNIX) return false;
    const TcpOwner owner = tcp_owner(diag_.get(), ends.peer, ends.own);
    return owner.here ? !owner.held : !(allow_remote_ && is_elsewhere(ends.peer));
#else
    return false;
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// 10. The session: one loop
//
// Nothing here waits but pselect(2): the master is O_NONBLOCK, the clients' sockets are asked with MSG_DONTWAIT for
// each call (O_NONBLOCK would belong to the open file, which `record` shares while it catches a client up).
//
// Both directions are bounded. While the program's terminal takes no input, the clients are not read; while the pacing
// client is kPaceBytes behind, the master is not read. Neither waits for the other, so a large paste into a program
// that is itself waiting for its output to be taken cannot lock up.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::uint64_t kPaceBytes = 256 << 10;  // how far the program may be ahead of the client that paces it
constexpr int kSocketBytes = 128 << 10;          // and how much more the kernel keeps for a client (it doubles this)
constexpr seconds kPaceGrace{1};                 // a client that took nothing for so long paces nobody
constexpr seconds kTakesNothing{5};               // a client in the way that takes nothing for so long is dropped
constexpr milliseconds kFarewellTick{10};        // at the end: how often we look whether a client has everything
constexpr milliseconds kCutGrace{100};           // how long the first bytes of a cut character are kept back
constexpr int kAcceptFew = 64;                   // taken in at a time, between two looks at everybody else
constexpr seconds kAcceptPause{1};               // after accept(2) failed for want of something
constexpr seconds kReapGrace{2};                 // after SIGKILL or the kernel's hang-up: then without the program's end
constexpr seconds kOverGrace{5};                 // after the grace: then without who is still owed something
constexpr std::size_t kMostRecords = 32;         // `record` processes at a time
constexpr milliseconds kWindowReaction{25}, kWindowQuiet{10}, kWindowMost{60};  // see Session::step_window()

constexpr std::uint64_t kNever = UINT64_MAX;  // a position that no output reaches

struct Client {
    Fd socket;
    std::uint64_t cursor = 0;     // the next byte of output to send
    ClientInput input;
    std::string typed;            // for the program, while the queue has no room for it
    bool viewer = false;          // came by --view, or has shut down its sending side
    bool input_ended = false;     // nothing more will come from it
    bool deaf = false;            // it takes nothing more; what it sent before it left is still read
    bool blocked = false;         // the last send did not take everything: ask select for room
    bool said_goodbye = false;    // everything is sent, and our sending side shut down
    std::string greeting;         // sequences for its terminal, to be sent before the output
    std::uint64_t region_reset_at = kNever;  // before the output from here on: one that takes its scroll region back
    std::uint64_t replay_end = 0; // output before this is the past: queries are left out
    std::size_t goodbye_sent = 0; // bytes
    pid_t record = 0;             // the process that is catching it up, which has the socket for itself
    std::uint64_t record_to = 0;  // and up to where
    int unsent = -1;              // bytes in the socket's queue, when we last looked: see look_at_progress()
    winsize window{};             // as it last said; rows 0: none
    std::uint64_t active = 0;     // when it last attached, resized or typed, in turns of Session::activity_
    Clock::time_point came;
    std::optional<Clock::time_point> spoke;  // when its first bytes came
    Clock::time_point looked;     // when we last looked at its socket's queue
    Clock::time_point progress;   // when it last took something, or had nothing to take
};

/// Starts `record cat` with `socket` as its standard output, to write [from, to) of the recording's output there.
/// Gives its pid, or -1.
pid_t start_record(const std::string &program, const Recording &recording, int socket, std::uint64_t from,
                   std::uint64_t to, bool filtered) {
    const std::string first = std::to_string(from), last = std::to_string(to);
    const Recording::Place place = recording.place_before(from);
    const std::string skip = std::to_string(place.offset) + ":" + std::to_string(place.position);
#if defined(__linux__)
    const char *file = "/dev/fd/3";  // opens the same file anew, though it may have been moved or removed
#else
    const char *file = recording.path().c_str();
#endif
    const char *filter = filtered ? "--no-queries" : nullptr;
    const std::array argv = {"record", "cat", "--skip", skip.c_str(), "--from", first.c_str(),
                             "--to", last.c_str(), file, filter, static_cast<const char *>(nullptr)};
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::dup2(socket, STDOUT_FILENO);
    if (recording.fd() == 3) ::fcntl(3, F_SETFD, 0);
    else ::dup2(recording.fd(), 3);
    reset_signals();
    ::execv(program.c_str(), const_cast<char *const *>(argv.data()));
    ::_exit(kExitNotFound);
}

/// What the program's window is in the middle of: see Session::step_window().
enum class WindowStep {
    idle,      // nothing
    settling,  // it has got another size
    asked,     // it has got a bare SIGWINCH, and may have ignored it
    smaller,   // it has a row less than wanted, for a moment
};

class Session {
public:
    /// Makes everything that can fail, up to the exec of the program. Gives 0, or with a message an exit status; then
    /// nothing that was made stays.
    int start(const Options &options);
    /// The line that tells the caller that all is well.
    [[nodiscard]] std::string readiness() const;
    /// Runs to the end; gives the program's exit status.
    int run();

private:
    enum class Phase { waiting, running, farewell };

    // the loop's paragraphs
    void build_sets(fd_set &readable, fd_set &writable, int &highest);
    [[nodiscard]] std::optional<Clock::time_point> deadline() const;
    void take_signals_sent();
    void take_time();
    void look_at_progress(Client &client);
    // output
    void read_master();
    void encode_turn(bool all);
    void publish(bool all);
    [[nodiscard]] bool paced() const;
    [[nodiscard]] std::optional<std::uint64_t> pace() const;
    [[nodiscard]] bool paces(const Client &client) const;
    [[nodiscard]] bool can_catch_up(std::uint64_t from) const;
    // clients
    void accept_from(const Listener &listener, bool viewer, int most);
    void welcome(Fd socket, bool viewer);
    void read_client(Client &client);
    void settle_input(Client &client);
    void take_typed(Client &client, std::span<const winsize> windows);
    void queue_typed(Client &client);
    void client_input_ended(Client &client);
    void take_windows(Client &client, std::span<const winsize> windows, bool typed);
    void follow_window();
    void set_window(const winsize &size);
    void step_window();
    void enter_step(WindowStep step);
    void window_output();
    void serve(Client &client);
    [[nodiscard]] bool is_known(const Client &client) const;
    ssize_t send_parts(Client &client, std::array<iovec, 2> parts);
    [[nodiscard]] bool has_more(const Client &client) const;
    void send_output(Client &client);
    void catch_up(Client &client);
    void drop(Client &client);
    void drop_all();
    void lose(Client &client);
    void sweep_those_who_left();
    // the program
    [[nodiscard]] std::optional<Clock::time_point> start_time() const;
    void start_program();
    void write_input();
    void reap();
    void program_ended(int status);
    void end(int number);
    void hang_up();
    void kill_program();
    void drain();
    void say_goodbye(Client &client);

    Options options_;
    Listener listener_, view_listener_;
    Recording recording_;
    Terminal terminal_;
    Gate gate_;
    Output output_;
    std::string record_program_;  // beside this one; "" when it is not there
    std::vector<Client> clients_;
    Fd spare_;                    // given up for a moment to refuse a client when no descriptor is left
    std::vector<char> turn_;      // what this turn has read, behind the kept back bytes of a cut character
    std::size_t turn_used_ = 0;     // bytes of it
    std::size_t turn_encoded_ = 0;  // of these, how many the recording has taken
    bool place_wanted_ = false;   // a client waits for one of the kMostRecords places
    std::string input_;           // for the program, not yet taken by the master
    std::vector<winsize> windows_;
    std::uint64_t activity_ = 0;
    winsize wanted_{}, shown_{};  // the program's window as it should be, and as it was last told to be
    bool redraw_wished_ = false;  // somebody came who has not seen the screen
    WindowStep window_step_ = WindowStep::idle;
    bool step_output_ = false;                  // whether the program has printed since that step
    Clock::time_point step_until_, step_latest_;  // when the next may come; printing puts it off, but not beyond that
    Phase phase_ = Phase::waiting;
    int status_ = 0;
    sigset_t inside_{};           // the signal mask while we wait
    Clock::time_point now_;       // of this turn
    std::optional<Clock::time_point> cut_since_, accept_again_;
    std::optional<Clock::time_point> kill_at_;     // the program; set by the request to end
    std::optional<Clock::time_point> give_up_at_;  // waiting for the end of a program that was killed
    std::optional<Clock::time_point> over_at_;     // whoever is still owed something; set by the request to end
};

// --- output: program -> recording -> ring -> clients ---

/// Gathers a turn of output. A read of the master gives at most 4,095 bytes (n_tty_read in the kernel), which a kernel
/// worker has put there; it puts the next ones there while we are busy with these. So each piece is encoded at once,
/// between two reads, and in a flood no read has to wait. But one that finds nothing waits for the worker, which costs
/// more than it brings: a short piece, an echo say, goes out by itself.
void Session::read_master() {
    for (const auto until = Clock::now() + kTurnTime; turn_used_ + kPiece <= turn_.size();) {
        const ssize_t n = ::read(terminal_.master(), turn_.data() + turn_used_, kPiece);
        if (n <= 0) break;
        turn_used_ += static_cast<std::size_t>(n);
        encode_turn(false);
        if (n < kShortPiece || Clock::now() > until) break;
    }
}

/// Encodes what has been read since the last call, but for a cut character at its end (unless `all`).
void Session::encode_turn(bool all) {
    const std::string_view bytes(turn_.data(), turn_used_);
    const std::size_t whole = bytes.size() - (all ? 0 : cut_tail(bytes.substr(turn_encoded_)));
    if (whole > turn_encoded_) recording_.output(bytes.substr(turn_encoded_, whole - turn_encoded_));
    turn_encoded_ = whole;
}

/// Records what the turn has read and then shows it to the clients; a character that the read has cut stays for the
/// next turn, unless `all`. The recording comes first: no client ever saw a byte that is not in it.
void Session::publish(bool all) {
    encode_turn(all);
    const std::string_view ready(turn_.data(), turn_encoded_);
    recording_.end_output(ready);
    recording_.commit();
    output_.append(ready);
    if (!ready.empty() && window_step_ != WindowStep::idle) window_output();
    const std::size_t kept = turn_used_ - turn_encoded_;
    std::memmove(turn_.data(), ready.data() + ready.size(), kept);
    turn_used_ = kept;
    turn_encoded_ = 0;
    if (kept == 0) cut_since_.reset();
    else if (!cut_since_ || !ready.empty()) cut_since_ = now_;
}

/// Whether `record` could bring a client that stands at `from` up to the ring.
bool Session::can_catch_up(std::uint64_t from) const { return !record_program_.empty() && recording_.holds_from(from); }

/// Whether this client has a say in how fast the program runs: it types, and takes what it is given.
bool Session::paces(const Client &client) const {
    const bool waits = client.blocked || client.record > 0 || client.cursor < output_.tail();
    return client.socket && !client.viewer && !client.deaf && (!waits || now_ - client.progress < kPaceGrace);
}

/// The position of the client that paces the program: the fastest when a recording can catch the others up, else the
/// slowest. None: nobody does.
std::optional<std::uint64_t> Session::pace() const {
    std::optional<std::uint64_t> position;
    const bool fastest = can_catch_up(output_.tail());
    for (const Client &client : clients_) {
        if (!paces(client)) continue;
        if (!position) position = client.cursor;
        else position = fastest ? std::max(*position, client.cursor) : std::min(*position, client.cursor);
    }
    return position;
}

/// Whether the program must wait for its clients.
bool Session::paced() const {
    const auto position = pace();
    return position && output_.head() - *position > kPaceBytes;
}

void Session::drop(Client &client) {
    queue_typed(client);  // its last words
    if (client.record > 0) ::kill(client.record, SIGKILL);
    client.socket.reset();
    client.window = {};
}

void Session::drop_all() {
    for (Client &client : clients_) drop(client);
}

/// It can be told nothing more. But one that typed and left (echo make | attach -p) may have been quicker than we were:
/// what stands in its receive queue is still to be read, up to the end.
void Session::lose(Client &client) {
    if (client.input_ended || phase_ == Phase::farewell) return drop(client);
    client.deaf = true;
    client.blocked = false;
    client.window = {};
}

/// Bytes that the kernel still has for the other end, or -1 when it does not tell.
int unsent_bytes(int fd) {
    int bytes = -1;
#if defined(SIOCOUTQ)
    if (::ioctl(fd, SIOCOUTQ, &bytes) != 0) return -1;
#elif defined(FIONWRITE)
    if (::ioctl(fd, FIONWRITE, &bytes) != 0) return -1;
#endif
    return bytes;
}

/// Gives `parts` to the client's socket, as much as it takes: bytes, 0 when it is full, -1 when the client is gone.
ssize_t Session::send_parts(Client &client, std::array<iovec, 2> parts) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t n = ::sendmsg(client.socket.get(), &message, MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) return lose(client), -1;
    if (n > 0 || !client.blocked) client.progress = now_;
    return std::max<ssize_t>(n, 0);
}

/// Sends what the client has not had yet: one sendmsg(2), and in its replay one for each stretch between queries.
void Session::send_output(Client &client) {
    for (client.blocked = false; !client.blocked && has_more(client);) {
        if (client.cursor >= client.region_reset_at) {
            client.region_reset_at = kNever;
            client.greeting += "\0337\033[r\0338";  // CSI r would send the cursor home: DECSC, DECRC around it
        }
        const bool greets = !client.greeting.empty();
        Range range = greets ? Range{0, client.greeting.size()} : output_.next(client.cursor, client.replay_end);
        if (!greets) {
            range.end = std::min(range.end, std::max(range.begin, client.region_reset_at));
            client.cursor = range.begin;
        }
        const ssize_t n = send_parts(client, greets ? std::array{iovec{client.greeting.data(), range.end}, iovec{}}
                                                    : output_.parts(range));
        if (n < 0) return;
        if (greets) client.greeting.erase(0, static_cast<std::size_t>(n));
        else client.cursor += static_cast<std::uint64_t>(n);
        client.blocked = greets ? !client.greeting.empty() : client.cursor < range.end;
        if (!client.blocked || n == 0) continue;
        client.unsent = unsent_bytes(client.socket.get());
        client.looked = now_;
    }
}

/// For a client that fell out of the ring: `record` writes what it missed straight into its socket.
void Session::catch_up(Client &client) {
    const auto busy = std::count_if(clients_.begin(), clients_.end(), [](const Client &c) { return c.record > 0; });
    if (!can_catch_up(client.cursor)) return drop(client);
    place_wanted_ = static_cast<std::size_t>(busy) >= kMostRecords;
    client.blocked = false;
    if (place_wanted_) return;  // later: when one of them is done
    client.progress = now_;
    client.record_to = output_.head();
    client.record = start_record(record_program_, recording_, client.socket.get(), recording_.to_file(client.cursor),
                                 recording_.to_file(client.record_to), client.cursor < client.replay_end);
    if (client.record < 0) drop(client);
}

bool Session::has_more(const Client &client) const {
    return client.cursor < output_.head() || !client.greeting.empty() || client.cursor >= client.region_reset_at;
}

/// Whether we know what kind of client it is: one that has just come may not have had the time to say it, or we not the
/// time to read it.
bool Session::is_known(const Client &client) const {
    return client.input.mode() != ClientInput::Mode::opening || client.input_ended || now_ >= client.came + kOpeningGrace;
}

/// Brings a client on, as far as it goes now.
void Session::serve(Client &client) {
    if (!client.socket || client.record > 0 || client.deaf) return;
    if (client.input.is_push()) client.cursor = output_.head();
    else if (client.cursor < output_.tail()) catch_up(client);
    else if (has_more(client)) send_output(client);
    const bool owed = has_more(client) && !client.input.is_push();
    const bool busy = !client.socket || client.record > 0 || client.deaf || owed;
    if (phase_ == Phase::farewell && !busy && is_known(client)) say_goodbye(client);
}

// --- input: clients -> program ---

/// While the queue has room, what the clients have typed goes there, a read of each in turn: a paste of one of them does
/// not keep out the Ctrl-C of another.
void Session::write_input() {
    const auto queue_all = [this] {
        if (input_.size() >= kInputBytes) return;
        for (Client &client : clients_) queue_typed(client);
    };
    queue_all();
    if (input_.empty() || phase_ != Phase::running) return;
    const ssize_t n = ::write(terminal_.master(), input_.data(), input_.size());
    if (n > 0) input_.erase(0, static_cast<std::size_t>(n));
    queue_all();  // or a queue that is empty now would not be looked at again
}

void Session::queue_typed(Client &client) {
    if (client.typed.empty()) return;
    if (options_.record_input && terminal_.echoes()) recording_.event('i', client.typed);
    input_ += client.typed;
    client.typed.clear();
}

bool same_window(const winsize &a, const winsize &b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void Session::set_window(const winsize &size) {
    terminal_.resize(size);
    recording_.event('r', std::to_string(size.ws_col) + "x" + std::to_string(size.ws_row));
    if (!output_.resized(size.ws_row)) return;
    for (Client &client : clients_)  // their terminals have not got another size, but the program's has
        if (client.window.ws_row != 0) client.region_reset_at = output_.head();
}

/// Brings the program's window on: to the size that is wanted, at once, and to a redraw that somebody wishes, when the
/// program has had time for the last thing, as some forget a SIGWINCH that comes while they draw.
///
/// For a client that comes at the same size the kernel sends no SIGWINCH. Most programs redraw at a bare one; those
/// that compare the size (ncurses, readline) are shown one that differs by a row, and then the right one again.
void Session::step_window() {
    const bool redrawing = window_step_ == WindowStep::asked || window_step_ == WindowStep::smaller;
    if (!same_window(wanted_, shown_)) {
        shown_ = wanted_;
        set_window(shown_);
        redraw_wished_ = redrawing;
        return enter_step(WindowStep::settling);
    }
    if (window_step_ != WindowStep::idle && now_ < step_until_) return;
    if (window_step_ == WindowStep::asked && !step_output_ && shown_.ws_row > 1) {
        winsize smaller = shown_;
        --smaller.ws_row;
        set_window(smaller);
        return enter_step(WindowStep::smaller);
    }
    if (window_step_ == WindowStep::smaller) {
        set_window(shown_);
        return enter_step(WindowStep::settling);
    }
    const bool redraw = std::exchange(redraw_wished_, false) && phase_ == Phase::running;
    if (redraw) terminal_.signal(SIGWINCH, false);
    enter_step(redraw ? WindowStep::asked : WindowStep::idle);
}

void Session::enter_step(WindowStep step) {
    window_step_ = step;
    step_output_ = false;
    step_latest_ = now_ + kWindowMost;
    step_until_ = step == WindowStep::smaller ? step_latest_ : now_ + kWindowReaction;
}

/// The program has printed: perhaps it is drawing for its window. It is done when it pauses.
void Session::window_output() {
    step_output_ = true;
    step_until_ = std::min(step_latest_, now_ + kWindowQuiet);
}

/// The window of the client that was last active is the program's.
void Session::follow_window() {
    const Client *leader = nullptr;
    for (const Client &client : clients_)
        if (client.window.ws_row != 0 && !client.viewer && (leader == nullptr || client.active > leader->active))
            leader = &client;
    if (leader != nullptr) wanted_ = leader->window;
    step_window();
}

/// The client has said its window size, or typed. Its first size is also a wish to see the screen.
void Session::take_windows(Client &client, std::span<const winsize> windows, bool typed) {
    if (client.viewer || client.deaf || (windows.empty() && !typed)) return;
    client.active = ++activity_;
    for (const winsize &window : windows) {
        redraw_wished_ = redraw_wished_ || client.window.ws_row == 0;
        client.window = window;
        follow_window();
    }
    if (windows.empty()) follow_window();
}

/// What the client sent last was not the beginning of anything: it is input.
void Session::settle_input(Client &client) {
    client.input.settle(client.typed);
    take_typed(client, {});
}

/// The client has said something: windows, and what it typed.
void Session::take_typed(Client &client, std::span<const winsize> windows) {
    if (client.viewer || phase_ == Phase::farewell) client.typed.clear();  // viewers cannot type
    take_windows(client, windows, !client.typed.empty());
}

/// The client will send nothing more. What it has typed does not wait for room: it may have left, and nobody would come
/// back to it. A push is told that all of it is here.
void Session::client_input_ended(Client &client) {
    const bool left = client.deaf || gate_.has_left(client.socket.get());
    if (!left || !client.input.is_cut_hello()) settle_input(client);  // who vanished in its hello typed nothing
    queue_typed(client);
    client.input_ended = client.viewer = true;
    client.window = {};
    follow_window();
    if (client.input.is_push() && phase_ != Phase::farewell)
        ::send(client.socket.get(), kTaken.data(), kTaken.size(), MSG_DONTWAIT);  // the only thing it is ever sent: it fits
    if (left || (client.input.is_push() && phase_ != Phase::farewell)) drop(client);
}

/// Reads what the client has sent, whatever the queue is like: its hello, a new size and its end are news at any time.
/// What it types waits in `typed`, and when that is full, in its socket.
void Session::read_client(Client &client) {
    std::array<char, kTypedBytes> bytes;
    const std::size_t room = bytes.size() - std::min(client.typed.size(), bytes.size() - 1);
    const ssize_t n = ::recv(client.socket.get(), bytes.data(), room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0) return drop(client), follow_window();
    if (n == 0) return client_input_ended(client);
    if (!client.spoke) client.spoke = now_;
    windows_.clear();
    client.input.feed({bytes.data(), static_cast<std::size_t>(n)}, client.typed, windows_);
    if (client.input.mode() == ClientInput::Mode::foreign) return drop(client);
    take_typed(client, windows_);
}

// --- clients come and go ---

/// Those that shut down their sending side and then left altogether: nothing tells us (select(2) shows both alike)
/// until we send, so they are looked for when somebody comes.
void Session::sweep_those_who_left() {
    for (Client &client : clients_)
        if (client.socket && client.input_ended && gate_.has_left(client.socket.get())) drop(client);
}

void Session::welcome(Fd socket, bool viewer) {
    close_on_exec(socket.get());
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
    Client client;
    client.socket = std::move(socket);
    client.viewer = viewer;
    client.came = client.progress = now_;
    const std::uint64_t wanted = std::min(options_.history, output_.head()), from = output_.head() - wanted;
    Output::Start start = output_.start(options_.history);
    if (from < output_.tail() && can_catch_up(from)) start = {from, output_.start(0).modes};
    client.cursor = start.at;
    client.greeting = std::move(start.modes);
    client.replay_end = output_.head();
    if (output_.region_lost_at() > client.cursor) client.region_reset_at = output_.region_lost_at();
    clients_.push_back(std::move(client));
}

/// Lets in who waits at the door, `most` of them. A descriptor that select(2) could not hold is refused at once; so is
/// a client for whom there is none at all, by means of the spare one.
void Session::accept_from(const Listener &listener, bool viewer, int most) {
    sweep_those_who_left();
    for (int i = 0; i < most; ++i) {
        Fd socket(::accept(listener.fd(), nullptr, nullptr));
        if (!socket && errno == EMFILE) {
            spare_.reset();
            socket.reset(::accept(listener.fd(), nullptr, nullptr));
            socket.reset();
            spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            if (spare_) continue;
        }
        if (!socket && (errno == ECONNABORTED || errno == EINTR)) continue;
        if (!socket && errno != EAGAIN && errno != EWOULDBLOCK) accept_again_ = now_ + kAcceptPause;
        if (!socket) return;
        if (socket.get() < FD_SETSIZE && gate_.admits(socket.get())) welcome(std::move(socket), viewer);
    }
}

// --- the program ---

/// With --wait: when the program is to start. As soon as a client has said something, or some time after it came.
std::optional<Clock::time_point> Session::start_time() const {
    std::optional<Clock::time_point> first;
    if (phase_ != Phase::waiting) return first;
    for (const Client &client : clients_) {
        if (!client.socket) continue;
        const bool spoke = client.input.mode() != ClientInput::Mode::opening;
        const auto at = spoke ? client.came : client.came + kOpeningGrace;
        if (!first || at < *first) first = at;
    }
    return first;
}

void Session::start_program() {
    phase_ = Phase::running;
    const int status = terminal_.start(options_.program, false);
    if (status == 0) return;
    const std::string line = std::string(kProgram) + ": fork: " + std::strerror(errno) + "\r\n";
    turn_used_ = line.copy(turn_.data(), turn_.size());
    program_ended(status);
}

/// Collects who has ended: the program, or a `record` that was catching a client up.
void Session::reap() {
    int wait_status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &wait_status, WNOHANG)) > 0;) {
        if (pid == terminal_.pid()) program_ended(exit_status(wait_status));
        for (Client &client : clients_) {
            if (client.record != pid) continue;
            client.record = 0;
            client.blocked = place_wanted_ = false;
            client.cursor = client.record_to;
            client.progress = now_;
            if (wait_status != 0) drop(client);
        }
    }
}

/// The end of the session: the program is gone, its last output is read to the last byte (with our slave closed the
/// master gives what there is and then EIO, or EAGAIN while a grandchild holds another), then everybody is told.
void Session::program_ended(int status) {
    status_ = status;
    terminal_.ended();
    drain();
    phase_ = Phase::farewell;
    kill_at_.reset();
    give_up_at_.reset();
    window_step_ = WindowStep::idle;
    recording_.event('x', std::to_string(status));
    recording_.commit();
    input_.clear();
    accept_from(listener_, false, SOMAXCONN);  // who came in the last moment still gets the history and the goodbye
    if (view_listener_.is_open()) accept_from(view_listener_, true, SOMAXCONN);
    listener_.close();  // before the first goodbye: whoever has seen that may start the next session at this address
    view_listener_.close();
    for (Client &client : clients_) client.progress = now_;
    for (Client &client : clients_)
        if (client.deaf) drop(client);
}

/// Reads and publishes what the terminal still has.
void Session::drain() {
    for (std::uint64_t end = output_.head() + kDrainBytes; output_.head() < end;) {
        const std::size_t before = turn_used_;
        read_master();
        if (turn_used_ == before) break;
        publish(false);
    }
    publish(true);
}

/// SIGTERM, SIGINT or SIGQUIT: the program is asked to end, and has the grace for it. The next one does not wait: it
/// kills at once, and in the farewell drops those who are still owed something. However the program and the clients
/// behave, over_at_ is the end.
void Session::end(int number) {
    const bool again = over_at_.has_value();
    const seconds grace = again ? seconds(0) : options_.grace;
    if (phase_ == Phase::farewell && again) return drop_all();
    over_at_ = now_ + grace + kOverGrace;
    if (phase_ == Phase::waiting) return program_ended(128 + number);
    if (phase_ == Phase::farewell) return;
    if (!again) terminal_.ask_to_end();
    if (!give_up_at_) kill_at_ = now_ + grace;
}

/// SIGHUP: the terminal hangs up, as a modem line would, and what comes of it is the program's affair.
void Session::hang_up() {
    if (phase_ == Phase::waiting) return program_ended(128 + SIGHUP);
    terminal_.signal(SIGHUP, true);
    terminal_.signal(SIGCONT, true);  // one that is stopped learns of it when it goes on
}

/// SIGKILL; a program that has become another user gets the kernel's own hang-up, and never again a terminal. Neither
/// helps against one that the kernel holds in a system call (a dead network disk): then the session ends without it.
void Session::kill_program() {
    give_up_at_ = now_ + kReapGrace;
    terminal_.signal(SIGKILL, true);
    if (terminal_.is_ours()) return;
    drain();
    terminal_.close();
}

/// The client has had everything: the goodbye, the end of our side, and when the kernel has delivered all of it
/// (closing a socket earlier, with something unread in it, would send a reset that destroys what is on its way), the
/// close.
void Session::say_goodbye(Client &client) {
    const std::array<char, 5> goodbye = {'\xFF', '\xFF', 'x', 'x', static_cast<char>(status_)};
    const std::size_t length = client.input.wants_goodbye() ? goodbye.size() : 0;
    if (client.goodbye_sent < length) {
        const auto *rest = goodbye.data() + client.goodbye_sent;
        const ssize_t n = ::send(client.socket.get(), rest, length - client.goodbye_sent, MSG_DONTWAIT);
        if (n > 0) client.goodbye_sent += static_cast<std::size_t>(n);
        else if (errno != EAGAIN && errno != EWOULDBLOCK) return drop(client);
        client.blocked = client.goodbye_sent < length;
    }
    if (client.goodbye_sent == length && !std::exchange(client.said_goodbye, true))
        ::shutdown(client.socket.get(), SHUT_WR);
}

// --- the loop ---

void Session::build_sets(fd_set &readable, fd_set &writable, int &highest) {
    const auto watch = [&highest](fd_set &set, int fd) {
        FD_SET(fd, &set);  // accept_from() let in none at or over FD_SETSIZE
        highest = std::max(highest, fd);
    };
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    const bool open = phase_ != Phase::farewell;
    const bool running = phase_ == Phase::running && terminal_.is_open();
    if (running && !paced()) watch(readable, terminal_.master());
    if (running && !input_.empty()) watch(writable, terminal_.master());
    if (open && !accept_again_) watch(readable, listener_.fd());
    if (open && !accept_again_ && view_listener_.is_open()) watch(readable, view_listener_.fd());
    for (const Client &client : clients_) {
        const bool room = client.viewer || (client.typed.size() < kTypedBytes && input_.size() < kInputMost);
        if (!client.input_ended && (room || !open)) watch(readable, client.socket.get());
        if (client.blocked && client.record == 0) watch(writable, client.socket.get());
    }
}

/// When the loop must wake though nothing happens; none when nothing is pending, so that an idle shim sleeps.
std::optional<Clock::time_point> Session::deadline() const {
    std::optional<Clock::time_point> first;
    const auto at = [&first](const std::optional<Clock::time_point> &when) {
        if (when && (!first || *when < *first)) first = when;
    };
    at(start_time());
    at(kill_at_);
    at(give_up_at_);
    at(over_at_);
    at(accept_again_);
    if (window_step_ != WindowStep::idle) at(step_until_);
    if (cut_since_) at(*cut_since_ + kCutGrace);
    if (phase_ == Phase::farewell) at(now_ + kFarewellTick);
    const bool waits = phase_ == Phase::running && paced();
    for (const Client &client : clients_) {
        if (client.input.is_undecided()) at(*client.spoke + kOpeningGrace);
        if (waits && paces(client) && (client.blocked || client.record > 0)) at(client.looked + kPaceGrace);
        if (place_wanted_ && client.record > 0) at(now_ + kPaceGrace);
    }
    return first;
}

void Session::take_signals_sent() {
    if (std::exchange(g_signals.mark, 0) != 0) recording_.event('m', "");
    if (std::exchange(g_signals.child, 0) != 0) reap();
    if (std::exchange(g_signals.hang_up, 0) != 0) hang_up();
    if (const int number = std::exchange(g_signals.end, 0); number != 0) end(number);
}

/// What is due by the clock.
void Session::take_time() {
    const auto due = [this](std::optional<Clock::time_point> &when) {
        if (!when || now_ < *when) return false;
        when.reset();
        return true;
    };
    due(accept_again_);
    if (const auto start = start_time(); start && now_ >= *start) start_program();
    if (due(kill_at_)) kill_program();
    if (due(give_up_at_)) program_ended(128 + SIGKILL);
    if (due(over_at_)) drop_all();
    if (window_step_ != WindowStep::idle) step_window();
    if (cut_since_ && now_ >= *cut_since_ + kCutGrace) publish(true);
    for (Client &client : clients_) {
        if (client.input.is_undecided() && now_ >= *client.spoke + kOpeningGrace) settle_input(client);
        const bool late = (client.blocked || client.record > 0) && now_ >= client.looked + kPaceGrace;
        if (client.socket && (phase_ == Phase::farewell || late)) look_at_progress(client);
    }
}

/// A socket may have no room for us and yet be emptied, slowly, or be filled by `record`: its queue tells whether the
/// client takes anything. At the end, or when its `record` has the place that another needs, one that takes nothing is
/// dropped.
void Session::look_at_progress(Client &client) {
    client.looked = now_;
    const int unsent = unsent_bytes(client.socket.get());
    if (std::exchange(client.unsent, unsent) != unsent) client.progress = now_;
    const bool delivered = client.said_goodbye && (unsent == 0 || client.input_ended);
    const bool in_the_way = phase_ == Phase::farewell || (place_wanted_ && client.record > 0);
    if (delivered || (in_the_way && now_ - client.progress > kTakesNothing)) drop(client);
}

int Session::run() {
    while (phase_ != Phase::farewell || !clients_.empty()) {
        // Build the sets: who may speak, and who has room for what is waiting.
        fd_set readable, writable;
        int highest = -1;
        build_sets(readable, writable, highest);

        // Wait: until one of them is ready, a signal comes, or something is due.
        timespec timeout{};
        const auto until = deadline();
        if (until) {
            const auto left = std::max<std::chrono::nanoseconds>(*until - Clock::now(), {});
            timeout.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
            timeout.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
        }
        const int ready = ::pselect(highest + 1, &readable, &writable, nullptr, until ? &timeout : nullptr, &inside_);
        if (ready <= 0) {
            FD_ZERO(&readable);
            FD_ZERO(&writable);
        }
        if (ready > 0) let_signals_in(inside_);
        now_ = Clock::now();

        // Dispatch: signals, what is due, clients -> program, program -> clients, and newcomers.
        take_signals_sent();
        take_time();
        for (Client &client : clients_)
            if (client.socket && FD_ISSET(client.socket.get(), &readable)) read_client(client);
        recording_.commit();
        write_input();
        if (phase_ == Phase::running && terminal_.is_open() && FD_ISSET(terminal_.master(), &readable)) {
            read_master();
            publish(false);
        }
        for (const Listener *listener : {&listener_, &view_listener_})
            if (phase_ != Phase::farewell && listener->is_open() && FD_ISSET(listener->fd(), &readable))
                accept_from(*listener, listener == &view_listener_, kAcceptFew);

        // Flush: to each client what it has room for; and forget those that are gone.
        for (Client &client : clients_)
            if (client.socket && (!client.blocked || FD_ISSET(client.socket.get(), &writable))) serve(client);
        if (std::erase_if(clients_, [](const Client &client) { return !client.socket; }) > 0) follow_window();
    }
    return status_;
}

// ---------------------------------------------------------------------------------------------------------------------
// 11. Starting and ending
//
// The daemon is forked first and does all the work that can fail, with the caller's standard error still open; the
// caller waits for its readiness line on a pipe, or for its end. A lock taken before the fork would not survive it.
// ---------------------------------------------------------------------------------------------------------------------

/// The size of the terminal that we are started from, else 80x24.
winsize first_window() {
    winsize size{};
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) return size;
    return {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
}

/// `record` in the folder of this program, or "".
std::string find_record() {
    std::array<char, PATH_MAX> self{};
#if defined(__linux__)
    const ssize_t n = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
#else
    const ssize_t n = -1;
#endif
    const std::string_view path(self.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    const std::string record = std::string(path.substr(0, path.rfind('/') + 1)) + "record";
    return record.find('/') != std::string::npos && ::access(record.c_str(), X_OK) == 0 ? record : "";
}

std::string utc_now() {
    std::array<char, 32> text{};
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    return {text.data(), std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts)};
}

/// The default name of a recording; with -2, -3 ... in it for further sessions within a second.
std::string free_name(const std::string &label) {
    const std::string name = "shim-" + label + "-" + utc_now();
    std::string candidate = name + ".cast";
    for (int n = 2; n < 1000 && ::access(candidate.c_str(), F_OK) == 0; ++n)
        candidate = name + "-" + std::to_string(n) + ".cast";
    return candidate;
}

/// argv as one line that a shell would take apart again.
std::string shell_quoted(char **argv) {
    constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    std::string line;
    for (; *argv != nullptr; ++argv) {
        const std::string_view word = *argv;
        if (!line.empty()) line += ' ';
        if (!word.empty() && word.find_first_not_of(kSafe) == std::string_view::npos) line += word;
        else {
            line += '\'';
            for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
            line += '\'';
        }
    }
    return line;
}

std::string header_line(const Options &options, const winsize &size, const std::string &address) {
    const auto variable = [](const char *name) {
        const char *value = std::getenv(name);
        return json_string(value != nullptr ? value : "");
    };
    return R"({"version": 2, "width": )" + std::to_string(size.ws_col) +
           R"(, "height": )" + std::to_string(size.ws_row) + R"(, "timestamp": )" + std::to_string(std::time(nullptr)) +
           R"(, "command": )" + json_string(shell_quoted(options.program)) +
           R"(, "env": {"TERM": )" + variable("TERM") + R"(, "SHELL": )" + variable("SHELL") +
           R"(}, "shim": {"pid": )" + std::to_string(::getpid()) + R"(, "address": )" + json_string(address) + "}}\n";
}

/// What SHIM_ADDRESS tells the program: good from any folder.
std::string absolute(const std::string &address) {
    std::array<char, PATH_MAX> folder{};
    if (address.find('/') == std::string::npos || address.front() == '/') return address;
    return ::getcwd(folder.data(), folder.size()) != nullptr ? std::string(folder.data()) + "/" + address : address;
}

int Session::start(const Options &options) {
    options_ = options;
    now_ = Clock::now();
    inside_ = take_signals();
    turn_.resize(kTurnBytes);
    if (int status = listener_.open(options.address, options.allow_remote); status != 0) return status;
    if (!options.view.empty())
        if (int status = view_listener_.open(options.view, options.allow_remote); status != 0) return status;
    if (!gate_.open(options.allow_remote)) return kExitFailed;
    spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    record_program_ = find_record();
    ::setenv("TERM", "xterm-256color", 0);
    ::setenv("SHIM_ADDRESS", absolute(listener_.name()).c_str(), 1);
    const winsize size = options.size.ws_row != 0 ? options.size : first_window();
    if (options.record) {
        const std::string name = options.record_file.empty() ? free_name(listener_.label()) : options.record_file;
        const std::string header = header_line(options, size, listener_.name());
        if (!recording_.open(name, header, options.max_record)) return kExitFailed;
    }
    if (!terminal_.open(size)) return kExitFailed;
    wanted_ = shown_ = size;
    output_.resized(size.ws_row);
    if (const int status = options.wait ? find_program(options.program[0]) : terminal_.start(options.program, true)) {
        complain_errno(options.program[0]);
        return status;
    }
    if (!options.wait) phase_ = Phase::running;
    recording_.keep();
    return 0;
}

std::string Session::readiness() const {
    return std::string(kProgram) + ": listening on " + listener_.name() + ", pid " + std::to_string(::getpid()) + ", " +
           (recording_.is_open() ? "recording " + recording_.path() : "not recording") +
           (view_listener_.is_open() ? ", viewers on " + view_listener_.name() : "") + "\n";
}

/// Nothing of the caller's stays open but the three standard streams, which are all open afterwards.
void close_inherited() {
    for (int fd = ::open("/dev/null", O_RDWR); fd >= 0 && fd <= STDERR_FILENO;) fd = ::open("/dev/null", O_RDWR);
#if defined(SYS_close_range)  // the system call: not every C library has a function for it
    if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) == 0) return;
#endif
    for (int fd = static_cast<int>(::sysconf(_SC_OPEN_MAX)) - 1; fd > STDERR_FILENO; --fd) ::close(fd);
}

/// Forks the daemon. In the daemon gives the pipe on which it tells that it is ready; the caller stays inside, passes
/// the readiness line on to standard output, and exits with the status that the start has earned.
Fd fork_daemon() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) {
        complain_errno("pipe");
        ::_exit(kExitFailed);
    }
    const pid_t daemon = ::fork();
    if (daemon == 0) {
        ::close(ends[0]);
        close_on_exec(ends[1]);
        ::setsid();
        return Fd(ends[1]);
    }
    ::close(ends[1]);
    std::array<char, 4096> bytes;
    std::string line;
    for (ssize_t n = 0; (n = ::read(ends[0], bytes.data(), bytes.size())) > 0;)
        line.append(bytes.data(), static_cast<std::size_t>(n));
    if (!line.empty()) {
        [[maybe_unused]] const ssize_t n = ::write(STDOUT_FILENO, line.data(), line.size());
        ::_exit(0);
    }
    int wait_status = 0;
    if (daemon < 0) complain_errno("fork");
    const bool ended = daemon > 0 && ::waitpid(daemon, &wait_status, 0) == daemon;
    ::_exit(ended && wait_status != 0 ? exit_status(wait_status) : kExitFailed);
}

/// The daemon lets go of the caller's standard streams.
void leave_streams() {
    const Fd null(::open("/dev/null", O_RDWR));
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), stream);
}

/// The whole run; everything that was made is owned by something in here, and goes when it returns.
int run_shim(const Options &options) {
    Fd caller;
    if (!options.foreground) caller = fork_daemon();
    Session session;
    if (const int status = session.start(options); status != 0) return status;
    const std::string line = session.readiness();
    if (!options.foreground) leave_streams();
    [[maybe_unused]] const ssize_t n = ::write(caller ? caller.get() : STDOUT_FILENO, line.data(), line.size());
    caller.reset();
    return session.run();
}

}  // namespace

int main(int argc, char **argv) {
    Options options;
    if (const auto status = parse_command_line(argc, argv, options)) return *status;
    close_inherited();
    return run_shim(options);
}
