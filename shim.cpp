// shim - run a program on a pseudoterminal in the background, and broadcast its terminal over a socket.
//
//     shim [OPTION]... ADDRESS PROGRAM [ARG]...           (shim --help lists the options)
//
//                     ┌─────────────────────── shim ───────────────────────┐
//     slave ──output──► master ─► a read ─┬─► recording (session.cast)     │
//     (program)       │                   └─► ring ─► cursor ───────────────► socket of each client
//       ▲             │                                                    │
//       └───input─────◄ master ◄─ input queue ◄─ hello and window filter ◄──◄ socket of each client
//                     └────────────────────────────────────────────────────┘
//
// One process, one thread, one pselect(2) loop. The recording has every byte before any client is sent it, from a
// ring of 1 MiB; a client is a position (its cursor) in that ring. A client that comes late is sent a piece of the
// past first, which a helper, `record serve`, makes from the recording. A turn is one pass of the loop.
//
// The sections stand in the order in which they use each other. The heart is 1, the program on its terminal, and
// run(), the loop in 11: begin there if you do not read in order.
//
//   1  the program on its terminal     6  what a client says       11  the session and its loop
//   2  the ring                        7  a client                 12  the command line
//   3  JSON                            8  listening                13  starting
//   4  the recording                   9  who may come in
//   5  the past                       10  the narrator (--explain)
//
// The wire is raw bytes both ways. A client whose first bytes are a window-change message of rlogin (RFC 1282: FF
// FF 's' 's' rows cols xpixels ypixels, 16 bits each, network order: its hello) is told how the program ended: the
// last five bytes that it gets are FF FF 'x' 'x' STATUS. Section 6 has the kinds of hello and the other messages.
//
// Exit status: 0 started (with --foreground: as the program ended, by its status or by its signal), 2 usage, 125
// could not start, 126 PROGRAM cannot be executed, 127 PROGRAM not found.
//
// Read beside it: pty(7), openpty(3), credentials(7), setsid(2), ioctl_tty(2), termios(3), pselect(2),
// signal(7), fcntl(2), unix(7), tcp(7).

#include <algorithm>
#include <array>
#include <bit>  // countr_zero
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
#include <deque>
#include <memory>
#include <optional>
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
#include <pwd.h>  // getpwuid
#include <sys/file.h>  // flock
#include <sys/ioctl.h>
#include <sys/mman.h>  // memfd_create
#include <sys/resource.h>  // setrlimit
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>  // iovec
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// What not every system has. Everything else in this file is POSIX, openpty(3), getopt_long(3) or
// flock(2). A feature is detected by a macro that a header defines, where there is one, and not by the name of a
// system:
//
//   openpty(3)      its header has three names
//   IUTF8           Linux, macOS. Else Backspace on a line that the kernel edits takes a byte, not a character
//   memfd_create(2) Linux, FreeBSD. Else a file in $TMPDIR whose name is removed: `shim -n` takes disk, not memory
//   SO_PEERCRED     Linux; elsewhere getpeereid(3). With neither, the mode of the socket's file keeps others out
//   sock_diag(7)    Linux. Else the kernel does not tell who owns the other end of a TCP connection: any user of
//                   this machine can connect to a port, though not to a name or a path. A client at a port that
//                   half closes and then goes away is noticed when there is something to send to it
//   SIOCOUTQ        Linux; FIONWRITE on FreeBSD and NetBSD, SO_NWRITE on macOS. Else a client that takes a little
//                   at a time, and is owed more than its socket holds when the session ends, may be given up too
//                   early; and the shim waits 5 s for a client that does not close its end
//   EAGAIN          Linux gives it for connect(2) to a Unix-domain socket whose queue is full. BSD and macOS give
//                   ECONNREFUSED, as for a socket without a listener: there a shim that is stopped until its queue
//                   is full loses its socket to the next shim of its name (SIGUSR2 makes it anew)
//   close_range(2)  Linux, FreeBSD. Else a loop: a descriptor above 65,535 stays open
//   /proc           Linux. Else argv[0] and PATH tell where this program is, and `record` beside it; and a program
//                   that is to end gets both SIGTERM and SIGHUP, though it may handle just one of them
#if __has_include(<pty.h>)
#include <pty.h>  // openpty: Linux
#elif __has_include(<libutil.h>)
#include <libutil.h>  // FreeBSD
#else
#include <util.h>  // macOS, NetBSD, OpenBSD
#endif
#if __has_include(<linux/sock_diag.h>)
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <sys/prctl.h>
#endif
#if __has_include(<sys/syscall.h>)
#include <sys/syscall.h>
#endif
#if defined(PORTABLE)  // make PORTABLE=1: as on a system that has none of it
#undef IUTF8
#undef MFD_CLOEXEC
#undef SCM_CREDENTIALS
#undef SIOCOUTQ
#undef SOCK_DIAG_BY_FAMILY
#undef SYS_close_range
#endif

namespace {

constexpr char kProgram[] = "shim";
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

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC: never steps, whatever happens to the time of day
using std::chrono::milliseconds;
using std::chrono::seconds;
using namespace std::string_view_literals;

constexpr int kExitUsage = 2, kExitFailed = 125, kExitCannotExecute = 126, kExitNotFound = 127;
constexpr std::uint64_t kUnlimited = UINT64_MAX;

#if defined(PORTABLE)
constexpr char kProc[] = "/proc-is-not-used";
#else
constexpr char kProc[] = "/proc";
#endif

/// Marks a new descriptor (or -1, which stays that) to be closed by an exec, and gives it back. Otherwise the
/// program would inherit it: a reader of the other end would never see the session's end, and the program could
/// type into other sessions. SOCK_CLOEXEC and the like, which not all systems have, would add nothing: with one
/// thread, no fork comes between two calls.
int close_on_exec(int fd) {
    if (fd >= 0) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// Whether the system call that has just failed may succeed later: it only found nothing to do now.
bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

/// Writes as much of `bytes` as the file takes now. Gives the number of bytes written: less than all on a full
/// disk or at the file size limit.
std::size_t write_some(int fd, std::string_view bytes) {
    std::size_t done = 0;
    for (ssize_t n = 1; n > 0 && done < bytes.size(); done += static_cast<std::size_t>(std::max<ssize_t>(n, 0)))
        n = ::write(fd, bytes.data() + done, bytes.size() - done);
    return done;
}

std::string count_of(std::uint64_t n, const char *what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

// ----------------------------------------------------------------------------------------------------------------
// 1. The program on its terminal
//
// openpty(3) gives two ends: the program's standard streams are the slave, we hold the master. Between them sits
// the line discipline, which echoes, edits lines and turns ^C into SIGINT. We keep a slave open too: without any,
// reads of the master fail with EIO and select(2) calls it readable for ever, though the program may yet open
// /dev/tty again. So the end of a session is the program's exit (SIGCHLD); after the exit, the master is read up
// to EIO, which marks the end of the output, not of the session. (TIOCPKT's packet mode, in which each read begins
// with a byte about flow control and flushes, is not used: the bytes alone are wanted.)
//
// The section grew from the part of its name in tests/tour/small3.cpp, a shim in 300 lines.
// ----------------------------------------------------------------------------------------------------------------

/// For a child of ours: signals that are ignored or blocked stay so through an exec (signal(7)), and a program
/// that inherited our ignored SIGPIPE would not be ended by `| head`.
void reset_signals() {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// How a process ended: by exit(3) with a status, or by a signal.
struct Ending {
    int code = 0;    // of exit(3), when `signal` is 0
    int signal = 0;  // that ended it
    /// As a shell tells it: 128 + n when signal n ended the process.
    [[nodiscard]] int status() const { return signal != 0 ? 128 + signal : code; }
};

/// The ending that wait(2) tells.
Ending ending_of(int wait_status) {
    if (WIFSIGNALED(wait_status)) return {.signal = WTERMSIG(wait_status)};
    return {.code = WEXITSTATUS(wait_status)};
}

/// 126 or 127 for an errno of exec, as shells and env(1) have it.
int exec_status(int error) { return error == ENOENT ? kExitNotFound : kExitCannotExecute; }

/// The child's side of fork(2), up to the exec. (It may call any function, as the shim has one thread: POSIX
/// restricts only the children of processes with several threads to async-signal-safe ones.) When the exec fails,
/// its errno is written to the pipe `report`, which a successful exec closes; without a pipe (-1), a message is
/// written to the terminal.
///
/// setsid(2) comes first: TIOCSCTTY works only for the leader of a session that has no controlling terminal yet
/// (ioctl_tty(2)). setsid(2) itself fails for the leader of a process group, which a child of fork(2) never is.
/// POSIX leaves open how a terminal becomes the controlling one (section 11.1.3); all systems here have this
/// ioctl(2).
[[noreturn]] void become_program(int slave, int report, char **argv) {
    ::setsid();                     // a session of its own, without a controlling terminal
    ::ioctl(slave, TIOCSCTTY, 0);   // now with this one: ^C reaches it, /dev/tty opens it
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(slave, stream);
    reset_signals();
    ::execvp(argv[0], argv);        // all other descriptors close by themselves: close_on_exec()
    const int error = errno;
    if (report < 0) complain(argv[0], std::strerror(error));
    else if (::write(report, &error, sizeof error) < 0) ::_exit(kExitFailed);
    ::_exit(exec_status(error));
}

/// Whether the process has a handler for the signal: proc(5), SigCgt. False where the system does not tell.
bool catches(pid_t pid, int number) {
    const std::string file = std::string(kProc) + "/" + std::to_string(pid) + "/status";
    const Fd status(close_on_exec(::open(file.c_str(), O_RDONLY)));
    std::array<char, 4096> text{};  // a line for each label; the last byte stays 0
    [[maybe_unused]] const ssize_t n = ::read(status.get(), text.data(), text.size() - 1);
    const char *at = std::strstr(text.data(), "SigCgt:");
    const std::uint64_t mask = at != nullptr ? std::strtoull(at + std::strlen("SigCgt:"), nullptr, 16) : 0;
    return (mask >> (number - 1) & 1) != 0;
}

/// Sends SIGTERM and SIGHUP to `whom` (as kill(2) has it: a process, or minus a group). A process that handles
/// just one of them gets only that one: the SIGHUP would kill a server that is still closing its files on SIGTERM.
void request_end(pid_t whom) {
    const pid_t leader = whom < 0 ? -whom : whom;
    const bool knows_term = catches(leader, SIGTERM), knows_hup = catches(leader, SIGHUP);
    if (knows_term || !knows_hup) ::kill(whom, SIGTERM);
    if (knows_hup || !knows_term) ::kill(whom, SIGHUP);
    ::kill(whom, SIGCONT);  // a stopped process takes them when it goes on
}

bool same_window(const winsize &a, const winsize &b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool same_grid(const winsize &a, const winsize &b) { return a.ws_row == b.ws_row && a.ws_col == b.ws_col; }

/// `80x24`: columns, then rows.
std::string to_text(const winsize &size) {
    return std::to_string(size.ws_col) + "x" + std::to_string(size.ws_row);
}

class Pty {
public:
    /// Makes the pseudoterminal, with `size` and these settings, else the kernel's; false with a message.
    bool open(const winsize &size, std::optional<termios> settings) {
        int master = -1, slave = -1;
        winsize first = size;
        if (::openpty(&master, &slave, nullptr, settings ? &*settings : nullptr, &first) != 0) {
            complain_errno("openpty");
            return false;
        }
        master_.reset(close_on_exec(master));
        slave_.reset(close_on_exec(slave));
        set_nonblocking(master);
#if defined(IUTF8)  // the kernel's settings, but Backspace on an edited line takes a whole character: termios(3)
        termios own{};
        if (!settings && ::tcgetattr(slave, &own) == 0) {
            own.c_iflag |= IUTF8;
            ::tcsetattr(slave, TCSANOW, &own);
        }
#endif
        struct stat file{};
        if (::fstat(slave, &file) == 0) device_ = file.st_rdev;
        size_ = size;
        return true;
    }

    /// Starts the program on it. With `wait_for_exec` returns when its exec has succeeded. Gives 0, or an exit
    /// status with the reason in errno.
    int start(char **argv, bool wait_for_exec) {
        std::array<int, 2> report = {-1, -1};
        if (wait_for_exec && ::pipe(report.data()) != 0) return kExitFailed;
        const Fd reading(close_on_exec(report[0]));
        Fd writing(close_on_exec(report[1]));
        const pid_t pid = ::fork();
        if (pid == 0) become_program(slave_.get(), writing.get(), argv);
        if (pid < 0) return kExitFailed;
        pid_ = pid;
        writing.reset();
        int error = 0;
        if (!wait_for_exec || ::read(reading.get(), &error, sizeof error) <= 0) return 0;
        ::waitpid(std::exchange(pid_, 0), nullptr, 0);
        errno = error;
        return exec_status(error);
    }

    [[nodiscard]] int master() const { return master_.get(); }
    [[nodiscard]] int slave() const { return slave_.get(); }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] dev_t device() const { return device_; }  // the slave's, as ps(1) shows it of its processes
    [[nodiscard]] const winsize &size() const { return size_; }
    [[nodiscard]] bool is_open() const { return static_cast<bool>(master_); }

    /// Sets the window size. When the size changes, the kernel sends SIGWINCH to the foreground group.
    void resize(const winsize &size) {
        size_ = size;
        ::ioctl(master_.get(), TIOCSWINSZ, &size);
    }

    /// Sends `number` to the foreground process group and to the program.
    void signal(int number) const {
        const pid_t group = ::tcgetpgrp(master_.get());  // on the master: the slave's foreground group
        if (group > 0) ::kill(-group, number);
        if (pid_ > 0 && ::getpgid(pid_) != group) ::kill(pid_, number);
    }

    /// Asks the program and the foreground group to end: SIGTERM, as servers know it, and SIGHUP, as shells do.
    void ask_to_end() const {
        const pid_t group = ::tcgetpgrp(master_.get());
        if (group > 0) request_end(-group);
        if (pid_ > 0 && ::getpgid(pid_) != group) request_end(pid_);
    }

    /// Whether we may send signals to the program: not when it has become another user, as sudo does (kill(2),
    /// EPERM).
    [[nodiscard]] bool may_signal() const { return pid_ <= 0 || ::kill(pid_, 0) == 0 || errno != EPERM; }

    /// Whether the kernel shows what is typed (termios(3), ECHO): not while a password is read.
    [[nodiscard]] bool echoes() const {
        termios settings{};
        return ::tcgetattr(slave_.get(), &settings) == 0 && (settings.c_lflag & ECHO) != 0;
    }

    /// The program has been reaped: lets our slave go, so that reads of the master come to an end.
    void ended() {
        pid_ = 0;
        slave_.reset();
    }

    /// Closes both ends. When no process has the master any more, the kernel hangs the slave up (as vhangup(2)
    /// does): there are no more bytes, and the session's leader gets SIGHUP and SIGCONT, whichever user owns it.
    /// The foreground group gets them later, when the leader ends (Linux: disassociate_ctty()).
    void close() {
        slave_.reset();
        master_.reset();
    }

private:
    Fd master_, slave_;
    pid_t pid_ = 0;
    dev_t device_ = 0;
    winsize size_{};
};

// ----------------------------------------------------------------------------------------------------------------
// 2. The ring
//
// Positions count the bytes of output from the first one on and never wrap; the ring holds the last kRingBytes of
// them. A client is a position, so a slow client costs no memory. 1 MiB is four times what the program may be
// ahead of the client that paces it (kPaceBytes): that client never falls out of the ring, and others do so only
// when they are really slow.
//
// A read of the master may end in the middle of a character. The recording holds whole characters, so the first
// bytes of a cut character wait for the next read. Table 3-7 of the Unicode standard tells a cut character from
// broken bytes.
// ----------------------------------------------------------------------------------------------------------------

constexpr std::size_t kRingBytes = 1 << 20;
constexpr std::size_t kPiece = 4096;  // asked for in one read
constexpr std::size_t kMostCut = 3;   // bytes of a cut character

class Ring {
public:
    [[nodiscard]] std::uint64_t head() const { return head_; }
    [[nodiscard]] std::uint64_t oldest() const { return head_ > kRingBytes ? head_ - kRingBytes : 0; }

    void append(std::string_view bytes) {
        for (const iovec &part : parts(head_, head_ + bytes.size())) {
            std::memcpy(part.iov_base, bytes.data(), part.iov_len);
            bytes.remove_prefix(part.iov_len);
            head_ += part.iov_len;
        }
    }

    /// Where the bytes from `from` up to `to` stand: two parts, as they may wrap around (the second is often
    /// empty).
    [[nodiscard]] std::array<iovec, 2> parts(std::uint64_t from, std::uint64_t to) const {
        const std::size_t at = from % kRingBytes, length = to - from, first = std::min(length, kRingBytes - at);
        return {iovec{bytes_.get() + at, first}, iovec{bytes_.get(), length - first}};
    }

    /// Where the last `most` bytes before `position` begin, from the start of a line on if a line starts among
    /// them.
    [[nodiscard]] std::uint64_t line_start(std::uint64_t position, std::uint64_t most) const {
        const std::uint64_t first = std::max(oldest(), position - std::min(most, position));
        if (first == 0) return first;
        for (std::uint64_t at = first; at < position; ++at)
            if (bytes_[at % kRingBytes] == '\n') return at + 1;
        return first;
    }

private:
    std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(kRingBytes);
    std::uint64_t head_ = 0;
};

struct Sequence {
    enum class Kind { whole, broken, cut } kind;
    /// In bytes: of the character; of the longest part that could begin one; of what is there.
    std::size_t length;
};

/// What `bytes` begin with, the first of which is 0x80 or over.
inline Sequence utf8_sequence(std::string_view bytes) {
    const auto lead = static_cast<unsigned char>(bytes[0]);
    if (lead < 0xC2 || lead > 0xF4) return {Sequence::Kind::broken, 1};
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (std::size_t i = 1; i < length; ++i, low = 0x80, high = 0xBF) {
        if (i == bytes.size()) return {Sequence::Kind::cut, i};
        const auto byte = static_cast<unsigned char>(bytes[i]);
        if (byte < low || byte > high) return {Sequence::Kind::broken, i};
    }
    return {Sequence::Kind::whole, length};
}

/// The number of bytes at the end of `bytes` that begin a character whose rest is missing.
std::size_t count_cut_bytes(std::string_view bytes) {
    for (std::size_t back = 1; back <= std::min(kMostCut, bytes.size()); ++back) {
        const std::string_view last = bytes.substr(bytes.size() - back);
        const bool is_lead = static_cast<unsigned char>(last[0]) >= 0xC0;
        if (is_lead && utf8_sequence(last).kind == Sequence::Kind::cut) return back;
    }
    return 0;
}

/// Reads of the master, each behind the first bytes of a character that the read before it has cut.
class Reading {
public:
    /// Reads once; gives what read(2) gives.
    ssize_t read_from(int master) {
        const ssize_t n = ::read(master, bytes_.data() + used_, kPiece);
        if (n > 0) used_ += static_cast<std::size_t>(n);
        return n;
    }

    /// The whole characters that have been read; with `all` the first bytes of a cut one, too.
    [[nodiscard]] std::string_view ready(bool all) const {
        const std::string_view bytes(bytes_.data(), used_);
        return bytes.substr(0, bytes.size() - (all ? 0 : count_cut_bytes(bytes)));
    }

    /// Drops what ready(all) has given; a cut character moves to the front.
    void drop_ready(bool all) {
        const std::size_t done = ready(all).size();
        used_ -= done;
        std::memmove(bytes_.data(), bytes_.data() + done, used_);
    }

    [[nodiscard]] bool has_cut_character() const { return used_ > 0; }

private:
    std::array<char, kMostCut + kPiece> bytes_{};
    std::size_t used_ = 0;
};

// ----------------------------------------------------------------------------------------------------------------
// 3. JSON
//
// A terminal speaks bytes, JSON speaks Unicode (RFC 8259, section 8.1): bytes that are not UTF-8 become U+FFFD. In
// a flood the encoder takes most of the shim's time, so it handles plain text eight bytes at a time. It grew from
// 'The log' in tests/tour/small3.cpp.
// ----------------------------------------------------------------------------------------------------------------

constexpr std::size_t kMostPerByte = 6;  // \u001b: how much longer JSON can get

/// How many of the 8 bytes at `at`, counted from the first, are ASCII that a JSON string holds unchanged. In a
/// number made of the eight bytes, the highest bit is set for each other byte: by Mycroft's test for a zero byte,
/// (x - 01..01) & ~x & 80..80, and its sister for bytes below 0x20. A borrow may set further bits behind the first
/// one, never before it.
inline std::size_t plain_of_eight(const char *at) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kHighest = 0x8080808080808080;
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, at, sizeof bytes);
    const auto equal = [bytes](unsigned char c) {
        const std::uint64_t zero_there = bytes ^ (kOnes * c);
        return (zero_there - kOnes) & ~zero_there;
    };
    const std::uint64_t control = (bytes - kOnes * 0x20) & ~bytes;
    const std::uint64_t special = (control | equal('"') | equal('\\') | bytes) & kHighest;
    if (special != 0 && std::endian::native != std::endian::little) return 0;  // the caller then goes byte by byte
    return static_cast<std::size_t>(std::countr_zero(special)) / 8;
}

/// Writes `in` as the inside of a JSON string to `out`, which has room for kMostPerByte times as much plus 16;
/// bytes that are not UTF-8 become U+FFFD, and `exact` false. Gives the end of what it wrote. Each copy has
/// a fixed size, one instruction, though fewer bytes may count: the next copy overwrites the rest.
char *encode_json(std::string_view in, char *out, bool &exact) {
    constexpr char kLetters[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu", kHex[] = "0123456789abcdef";
    const char *at = in.data(), *const end = at + in.size();
    while (at < end) {
        if (end - at >= 8) {
            std::memcpy(out, at, 8);
            const std::size_t plain = plain_of_eight(at);
            at += plain;
            out += plain;
            if (plain == 8) continue;
        }
        const auto byte = static_cast<unsigned char>(*at);
        if (byte < 0x80) {
            const char letter = byte < 0x20 ? kLetters[byte] : *at;
            if (byte < 0x20 || byte == '"' || byte == '\\') *out++ = '\\';
            *out++ = letter;
            if (byte < 0x20 && letter == 'u')
                for (const char c : {'0', '0', kHex[byte >> 4], kHex[byte & 15]}) *out++ = c;
            ++at;
            continue;
        }
        const Sequence sequence = utf8_sequence({at, end});
        const bool whole = sequence.kind == Sequence::Kind::whole;
        const std::size_t length = whole ? sequence.length : 3;
        std::memcpy(out, whole ? at : "\xEF\xBF\xBD", length);
        out += length;
        at += sequence.length;
        exact = exact && whole;
    }
    return out;
}

/// A short text, such as a command or an address, as a JSON string with its quotes.
std::string json_string(std::string_view text) {
    std::string out(text.size() * kMostPerByte + 20, '"');
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

// ----------------------------------------------------------------------------------------------------------------
// 4. The recording
//
// asciicast v2: a header line, then one line for each event, [seconds, "code", "text"]. The lines of a turn are
// written with one write(2) before any client gets a byte of them. The page cache survives even our own SIGKILL,
// so whatever a client saw is in the file. A power loss may take the last half minute, because the kernel writes a
// page to disk when it is that old; an fsync(2) in each turn would cost more than everything else. A write may
// fall short (disk full, file size limit): then append() keeps the rest of the lines, and writes it when writing
// works again. The output of the time between is lost; a marker tells how many bytes.
//
// The helper of the next section reads the lines of a session as one stream, whose offsets only grow. The stream
// is first the file. From the first commit that the file does not hold as a whole (-n, the limit, a full disk),
// the stream goes on in the tail: an unlinked file with lines of the same kind, which is cut to nothing when it
// has been read. So an offset of the stream always names the same byte; place_of() alone translates it to an
// offset of a file.
//
// The section grew from 'The log' in tests/tour/small3.cpp.
// ----------------------------------------------------------------------------------------------------------------

// >>> questions about the past: the same in shim.cpp and record.cpp
/// What the shim asks `record serve`; an answer has the kind of its question, or `cannot`.
enum class PastKind : std::uint32_t { read = 1, paint = 2, bytes = 3, cannot = 4 };

/// The files of the helper: the recording, and the tail, which holds what the recording does not.
constexpr int kRecordingFd = 3, kTailFd = 4;
constexpr std::uint32_t kPastProtocol = 1;             // the version of what is described here
constexpr std::uint64_t kMostRead = 4 << 20;           // bytes of a file in one `read`
constexpr std::uint64_t kMostBytes = 64 << 10;         // bytes of output in one answer to `bytes`
constexpr std::uint64_t kMostAnswer = 17 << 20;        // bytes behind an answer: one with more is a fault

/// A question, or the header of an answer, which `length` bytes follow. Both ends run on one machine: its byte
/// order.
///
///   read   brings the model on by the whole lines of `file` from offset `from` to offset `to`. The first `read`
///          makes the model, of `columns` and `rows`; when it begins inside of a line, the rest of that line is
///          passed over. Answer: `to`, the offset behind the last line read; `from`, how many bytes of output the
///          model has been fed since it was made.
///   paint  answer: the bytes that bring a terminal to the model's state, behind `from` bytes of lines that have
///          scrolled off. `to` is 1 for a terminal that has had bytes before, else 0.
///   bytes  answer: the recording's output from its byte `from` on, up to byte `to`, kMostBytes at most. None: the
///          place is still looked for, ask again.
struct PastMessage {
    PastKind kind{};
    std::uint32_t protocol = kPastProtocol;
    std::uint64_t client = 0;                          // the client's number; an answer repeats it
    std::uint64_t from = 0, to = 0;
    std::uint32_t file = 0;                            // kRecordingFd or kTailFd
    std::uint16_t columns = 0, rows = 0;
    std::uint64_t length = 0;                          // bytes behind this; 0 in a question
};
// <<< questions about the past

/// A place between two lines of the stream, and how many bytes of output the lines before it hold.
struct Place {
    std::uint64_t offset = 0, position = 0;
};

/// Where bytes of the stream stand: in the helper's file of this number, from `offset` up to `end`.
struct FileRange {
    int file = kRecordingFd;
    std::uint64_t offset = 0, end = 0;
};

class Recorder {
public:
    static constexpr std::size_t kReserve = 160;  // bytes that --max-record leaves for the last marker and event

    ~Recorder() {
        if (file_ && !kept_) ::unlink(path_.c_str());
    }

    /// Creates `path` (never over a file that is there) and takes the lock by which readers know that the shim
    /// lives. `limit` is in bytes of file. False with errno when that fails.
    ///
    /// The lock is one of fcntl(2): F_GETLK tells the process that holds it, and a child does not inherit it. (One
    /// of flock(2) belongs to the open file, so the helper would hold it, too.) The price: the lock goes as soon
    /// as this process closes any descriptor of the file, so the file is opened here and nowhere else.
    bool open(const std::string &path, const std::string &header, std::uint64_t limit) {
        file_.reset(close_on_exec(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_APPEND, 0600)));
        if (!file_) return false;
        path_ = path;
        limit_ = limit;
        struct flock lock{};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        if (::fchmod(file_.get(), 0600) != 0) return false;  // whatever the umask is
        if (::fcntl(file_.get(), F_SETLK, &lock) != 0) return false;
        if (write_some(file_.get(), header) < header.size()) return false;
        end_.offset = file_bytes_ = header.size();
        return true;
    }

    /// Makes the tail, for the lines that the file will not hold; without a file, that is all of them. The tail
    /// has no name, and is gone with its last descriptor.
    void open_tail() {
#if defined(MFD_CLOEXEC)
        tail_.reset(close_on_exec(::memfd_create("shim", 0)));
#else
        const char *folder = std::getenv("TMPDIR");
        std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/shim-XXXXXX";
        tail_.reset(close_on_exec(::mkstemp(path.data())));
        if (tail_) ::unlink(path.c_str());
#endif
        ::fcntl(tail_.get(), F_SETFL, O_APPEND);
        in_tail_ = !file_;
    }

    /// From now on the file stays: the start has succeeded.
    void keep() { kept_ = true; }

    /// What the program printed next, whole characters.
    void output(std::string_view bytes) {
        position_ += bytes.size();
        if (!is_written()) return;
        stamp();
        const std::size_t begin = used_;
        if (add('o', bytes)) return;
        used_ = begin;  // not UTF-8: the event anew, with an event of the exact bytes before it
        close_event(encode_base64(bytes, open_event('b', bytes.size() * 4 / 3 + 8)));
        add('o', bytes);
    }

    /// Any other event but the last: input (i), marker (m), another window size (r).
    void event(char code, std::string_view text) {
        if (!is_written()) return;
        stamp();
        add(code, text);
    }

    /// The last event; it is written even when the file is at its limit.
    void end(int status) {
        event('x', std::to_string(status));
        commit();
        if (full_) append(own_line('x', std::to_string(status)));
    }

    /// Writes the events since the last call.
    void commit() {
        const std::uint64_t output = position_ - end_.position;
        const std::string_view lines(lines_.data(), used_);
        if (!lines.empty() || !rest_.empty()) {
            const bool whole = file_ && write_to_file(lines, output);
            if (!whole && !std::exchange(in_tail_, true)) tail_base_ = tail_begins_ = end_.offset;
            // No memory or no disk for the tail: from here on the past is lost.
            if (in_tail_ && tail_ && write_some(tail_.get(), lines) < lines.size()) tail_.reset();
        }
        end_ = {.offset = end_.offset + lines.size(), .position = position_};  // with output that nothing records
        used_ = 0;
    }

    [[nodiscard]] int file() const { return file_.get(); }  // -1: none
    [[nodiscard]] int tail() const { return tail_.get(); }
    [[nodiscard]] const std::string &path() const { return path_; }

    /// The end of the stream, as of the last commit.
    [[nodiscard]] const Place &end_of_stream() const { return end_; }
    /// The offset from which on the whole stream is there; none when a part of it has been lost.
    [[nodiscard]] std::optional<std::uint64_t> start_of_stream() const {
        if (in_tail_ && !tail_) return std::nullopt;
        return tail_base_ > tail_begins_ ? tail_base_ : 0;
    }
    /// Where the stream's bytes from `offset` on stand, as far as they stand in one file.
    [[nodiscard]] FileRange place_of(std::uint64_t offset) const {
        if (!in_tail_) return {.file = kRecordingFd, .offset = offset, .end = end_.offset};
        if (offset < tail_begins_) return {.file = kRecordingFd, .offset = offset, .end = tail_begins_};
        return {.file = kTailFd, .offset = offset - tail_base_, .end = end_.offset - tail_base_};
    }
    /// The size of the tail in bytes.
    [[nodiscard]] std::uint64_t tail_bytes() const { return in_tail_ && tail_ ? end_.offset - tail_base_ : 0; }

    /// Cuts the tail to nothing: the model has read all of it.
    void clear_tail() {
        if (::ftruncate(tail_.get(), 0) != 0) tail_.reset();
        tail_base_ = end_.offset;
    }

    /// Whether every byte of output from position `from` on is in the file, so that the helper can give it.
    [[nodiscard]] bool holds_from(std::uint64_t from) const {
        return file_ && rest_.empty() && !full_ && from >= gap_end_;
    }
    /// Translates a position of the output to the position among the bytes of output that the file holds; none
    /// when bytes behind `at` were lost.
    [[nodiscard]] std::optional<std::uint64_t> to_file(std::uint64_t at) const {
        if (at < gap_end_) return std::nullopt;
        return at - lost_in_all_;
    }
    /// How many bytes of output the file holds.
    [[nodiscard]] std::uint64_t output_in_file() const { return end_.position - lost_in_all_ - lost_; }

private:
    [[nodiscard]] bool is_written() const { return file_ || tail_; }

    /// Microseconds since the start of the recording.
    [[nodiscard]] long long elapsed() const {
        return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count();
    }

    /// By how much the time of day is ahead of elapsed(), in microseconds.
    [[nodiscard]] long long time_of_day_ahead() const {
        const auto day = std::chrono::system_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::microseconds>(day).count() - elapsed();
    }

    /// Takes the time of the next event. The first one of a turn has a `t` event before it when the time of day
    /// has moved against the monotonic clock: the machine slept, or its clock was set.
    void stamp() {
        time_ = elapsed();
        if (used_ > 0) return;
        const long long ahead = time_of_day_ahead();
        if (std::abs(ahead - ahead_) <= 1000000) return;
        ahead_ = ahead;
        std::array<char, 64> text{};
        const long long now = time_ + ahead;
        std::snprintf(text.data(), text.size(), "%lld.%06lld", now / 1000000, now % 1000000);
        add('t', text.data());
    }

    /// Begins an event at time_ and makes `room` bytes for its text; gives where the text goes.
    char *open_event(char code, std::size_t room) {
        const std::size_t most = used_ + room + 64;  // 64: what stands around the text
        if (lines_.size() < most) lines_.resize(most);
        if (used_ == 0) first_time_ = time_;
        char *at = lines_.data() + used_;
        return at + std::snprintf(at, 64, R"([%lld.%06lld, "%c", ")", time_ / 1000000, time_ % 1000000, code);
    }

    void close_event(char *end) {
        for (const char c : {'"', ']', '\n'}) *end++ = c;
        used_ = static_cast<std::size_t>(end - lines_.data());
    }

    /// Gives whether `text` was UTF-8, and so is in the event as it is.
    bool add(char code, std::string_view text) {
        bool exact = true;
        close_event(encode_json(text, open_event(code, text.size() * kMostPerByte + 16), exact));
        return exact;
    }

    /// A line for the file alone, a marker or the last line. It stands before the lines that are not written yet.
    [[nodiscard]] std::string own_line(char code, std::string_view text) const {
        const long long time = used_ > 0 ? first_time_ : elapsed();
        std::array<char, 64> begin{};
        std::snprintf(begin.data(), begin.size(), R"([%lld.%06lld, "%c", )", time / 1000000, time % 1000000, code);
        return begin.data() + json_string(text) + "]\n";
    }

    /// Writes what the last write left over and then `lines`; keeps what the file does not take. Gives whether the
    /// file has taken all.
    bool append(std::string_view lines) {
        if (!rest_.empty()) lines = rest_.append(lines);
        const std::size_t written = write_some(file_.get(), lines);
        file_bytes_ += written;
        rest_ = std::string(lines.substr(written));
        return rest_.empty();
    }

    /// Writes lines, which hold `output` bytes of output, to the file. They are lost when the file has not taken
    /// all that came before, or when they would take it over its limit. Gives whether the file has all of them.
    bool write_to_file(std::string_view lines, std::uint64_t output) {
        if (full_ || (!rest_.empty() && !append(""))) {
            lost_ += output;
            return false;
        }
        if (lost_ > 0) {
            rest_ = own_line('m', "shim: " + std::to_string(lost_) + " bytes missing");
            lost_in_all_ += std::exchange(lost_, 0);
            gap_end_ = end_.position;
        }
        full_ = file_bytes_ + rest_.size() + lines.size() + kReserve > limit_;
        if (!full_) return append(lines);
        append(own_line('m', "shim: recording stopped at its limit"));
        lost_ = output;
        return false;
    }

    // the file
    Fd file_;
    std::string path_;
    bool kept_ = false;
    std::uint64_t file_bytes_ = 0;
    std::uint64_t limit_ = kUnlimited;
    bool full_ = false;                 // --max-record has been reached
    std::string rest_;                  // what the last write left over: the file ends in the middle of a line
    std::uint64_t lost_ = 0;            // bytes of output that are missing and that no marker tells yet
    std::uint64_t lost_in_all_ = 0;     // and those that a marker tells
    std::uint64_t gap_end_ = 0;         // the position after the last byte that was lost
    // the stream
    Place end_;
    Fd tail_;
    bool in_tail_ = false;              // the stream goes on in the tail
    std::uint64_t tail_begins_ = 0;     // the offset of the stream at which it began to
    std::uint64_t tail_base_ = 0;       // the offset of the stream of the tail's first byte now
    // the events that are not written yet
    std::vector<char> lines_;
    std::size_t used_ = 0;              // bytes of it that count
    std::uint64_t position_ = 0;        // output bytes in all
    Clock::time_point start_ = Clock::now();
    long long time_ = 0;                // of the event that is being added, in microseconds
    long long first_time_ = 0;          // of the first one in lines_
    long long ahead_ = time_of_day_ahead();
};

// ----------------------------------------------------------------------------------------------------------------
// 5. The past
//
// The shim knows nothing of terminals. One helper, `record serve`, makes what a late client is to see: it reads
// the lines of the recording into a model of a terminal, and answers the questions above on a socket pair. The
// helper may block; the shim never does: it writes one question at a time, which fits into the buffer of any
// socket, and reads as much of the answer as has come. The helper may also die, of a fault in the model for
// instance: therefore it is a process of its own.
// ----------------------------------------------------------------------------------------------------------------

constexpr std::uint64_t kMostBehind = 32 << 20;      // bytes of lines that are unread when a helper is started
constexpr std::uint64_t kReadAhead = 8 << 20;        // bytes of lines that a running helper may leave unread
constexpr std::uint64_t kTailKept = 4 << 20;         // bytes of a tail that need not be cut
constexpr std::uint64_t kTailMost = 64 << 20;        // with a larger tail, the program waits for the model
constexpr std::uint64_t kMostPast = 64 << 20;        // bytes of answers that clients still have to get
constexpr seconds kHelperPause{60};                  // between two starts of a helper
constexpr seconds kHelperGrace{5};                   // for an answer, of which a turn counts as at most:
constexpr seconds kHelperTurn{1};

/// A piece of the past, shared by the clients that get it.
using Bytes = std::shared_ptr<const std::string>;

struct PastAnswer {
    PastMessage head;
    Bytes bytes;
};

class Past {
public:
    Past() = default;
    Past(const Past &) = delete;
    Past &operator=(const Past &) = delete;
    ~Past() {
        const pid_t pid = pid_;
        stop();
        if (pid > 0) ::waitpid(pid, nullptr, 0);
    }

    /// Gets ready to start `program` (the path of `record`; "": there is none), which will keep `history` bytes of
    /// lines that scroll off. The socket pair is made now, because later no descriptor may be free.
    void open(const std::string &program, std::uint64_t history) {
        program_ = program;
        history_ = history;
        if (!program_.empty()) connect();
    }

    /// Whether a helper runs, or can be started now. `over`: the program has ended, and no second helper is
    /// started.
    [[nodiscard]] bool can_run_now(Clock::time_point now, bool over) const {
        if (pid_ > 0) return true;
        if (program_.empty() || unreadable_ || !own_) return false;
        return !started_ || (!over && now >= *started_ + kHelperPause);
    }
    /// Whether a helper runs, or can be started now or later.
    [[nodiscard]] bool can_ever_run() const { return !program_.empty() && !unreadable_; }
    [[nodiscard]] bool is_running() const { return pid_ > 0; }
    [[nodiscard]] bool is_asked() const { return is_asked_; }
    /// The question that was asked last.
    [[nodiscard]] const PastMessage &question() const { return question_; }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] int fd() const { return own_.get(); }

    /// Starts the helper, with the files of `recorder`; the window was `first_size` at the beginning of the
    /// stream, and is `size` now. False when that fails.
    bool start(const Recorder &recorder, const winsize &first_size, const winsize &size, Clock::time_point now) {
        started_ = now;
        const std::uint64_t first = recorder.start_of_stream().value_or(0), end = recorder.end_of_stream().offset;
        read_to_ = begin_ = end - first <= 2 * kMostBehind ? first : end - kMostBehind;
        size_ = begin_ == 0 ? first_size : size;
        before_model_.reset();
        if (begin_ == 0) before_model_ = 0;
        model_.reset();
        const std::string history = history_ == kUnlimited ? "all" : std::to_string(history_);
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::dup2(helpers_.get(), STDIN_FILENO);  // no source is another one's target: Session::start()
            ::dup2(helpers_.get(), STDOUT_FILENO);
            ::dup2(recorder.file(), kRecordingFd);  // without a file (-1), dup2(2) does nothing
            ::dup2(recorder.tail(), kTailFd);
            reset_signals();  // but signals of keyboards and service managers are for the session:
            for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP}) ::signal(number, SIG_IGN);
            ::execl(program_.c_str(), "record", "serve", "-H", history.c_str(), static_cast<char *>(nullptr));
            ::_exit(kExitNotFound);
        }
        pid_ = std::max(pid, 0);
        return pid > 0;
    }
    /// Ends the helper at once; its end is collected like that of any child.
    void stop() {
        if (pid_ > 0) ::kill(pid_, SIGKILL);
        ended(pid_);
    }
    /// The recording cannot be read: there will be no helper any more.
    void give_up() {
        unreadable_ = true;
        stop();
    }
    /// When the next helper may be started.
    [[nodiscard]] Clock::time_point next_start(Clock::time_point now) const {
        return started_ ? std::max(now, *started_ + kHelperPause) : now;
    }
    /// The process `pid` has ended. When it is the helper, the next one gets a socket pair of its own: this one
    /// may hold half an answer.
    void ended(pid_t pid) {
        if (pid != pid_ || pid <= 0) return;
        pid_ = 0;
        is_asked_ = false;
        received_.clear();
        own_.reset();  // frees two descriptors for the next pair
        helpers_.reset();
        connect();
    }

    /// Whether a paint shows at least as much as the ring's bytes would: the model reads from the session's
    /// beginning, or at least as many bytes as the ring holds. A paint shows less when a part of the stream is
    /// lost, or when a helper has died after the tail was cut.
    [[nodiscard]] bool knows_enough(const Recorder &recorder) const {
        const auto start = recorder.start_of_stream();
        if (!start) return false;
        const std::uint64_t begin = is_running() ? begin_ : *start;
        return begin == 0 || recorder.end_of_stream().offset - begin >= kRingBytes;
    }
    /// The place of the stream up to which the model has read; none while its position in the output is not known.
    [[nodiscard]] std::optional<Place> model() const { return model_; }
    /// Bytes of the stream that the model has not read.
    [[nodiscard]] std::uint64_t behind(const Recorder &recorder) const {
        return recorder.end_of_stream().offset - read_to_;
    }

    // The questions; one at a time, while the helper runs.
    void ask_read(const Recorder &recorder) {
        asked_end_ = recorder.end_of_stream();
        asked_range_ = recorder.place_of(read_to_);
        asked_range_.end = std::min(asked_range_.end, asked_range_.offset + kMostRead);
        ask({.kind = PastKind::read, .from = asked_range_.offset, .to = asked_range_.end,
             .file = static_cast<std::uint32_t>(asked_range_.file),
             .columns = size_.ws_col, .rows = size_.ws_row});
    }
    void ask_paint(std::uint64_t history, bool had_bytes) {
        ask({.kind = PastKind::paint, .from = history, .to = had_bytes ? 1U : 0U});
    }
    void ask_bytes(std::uint64_t client, std::uint64_t from, std::uint64_t to) {
        ask({.kind = PastKind::bytes, .client = client, .from = from, .to = to});
    }

    /// Reads what has come. Gives the answer when it is whole; after one to `read`, the model's place has moved
    /// on. Bytes that are no answer end the helper.
    std::optional<PastAnswer> receive() {
        std::array<char, 256 << 10> bytes;
        const ssize_t n = ::recv(own_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (n < 0 && would_block()) return std::nullopt;
        received_.append(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
        PastMessage head;
        const bool has_head = received_.size() >= sizeof head;
        if (has_head) std::memcpy(&head, received_.data(), sizeof head);
        if (n <= 0 || (has_head && !is_answer(head))) stop();
        if (received_.size() < sizeof head + head.length) return std::nullopt;
        is_asked_ = false;
        received_.erase(0, sizeof head);
        PastAnswer answer{.head = head, .bytes = std::make_shared<const std::string>(std::move(received_))};
        received_ = {};
        if (head.length > 0) given_.emplace_back(answer.bytes);
        if (head.kind == PastKind::read) {
            read_to_ += head.to - asked_range_.offset;
            if (read_to_ == asked_end_.offset) before_model_ = asked_end_.position - head.from;
            model_.reset();
            if (before_model_) model_ = Place{.offset = read_to_, .position = *before_model_ + head.from};
        }
        return answer;
    }

    /// A turn of the loop took `time`. Gives whether the helper has owed its answer for kHelperGrace. A turn
    /// counts as kHelperTurn at most, because the machine may have slept.
    bool is_stuck_after(Clock::duration time) {
        if (!is_asked_) return false;
        waited_ += std::min<Clock::duration>(time, kHelperTurn);
        return waited_ >= kHelperGrace;
    }

    /// Whether the clients still have so much of the past to get that no more is made now.
    [[nodiscard]] bool is_full() {
        std::erase_if(given_, [](const std::weak_ptr<const std::string> &bytes) { return bytes.expired(); });
        std::uint64_t total = 0;
        for (const auto &bytes : given_)
            if (const Bytes held = bytes.lock()) total += held->size();
        return total >= kMostPast;
    }

private:
    bool connect() {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) return false;
        own_.reset(close_on_exec(ends[0]));
        helpers_.reset(close_on_exec(ends[1]));
        return own_ && helpers_;
    }

    void ask(const PastMessage &question) {
        question_ = question;
        is_asked_ = true;
        waited_ = {};
        const ssize_t n = ::send(own_.get(), &question, sizeof question, MSG_DONTWAIT);
        if (n != static_cast<ssize_t>(sizeof question)) stop();
    }

    /// Whether the bytes received, which begin with `head`, are an answer to the question, or a part of one.
    [[nodiscard]] bool is_answer(const PastMessage &head) const {
        const bool fits = is_asked_ && (head.kind == question_.kind || head.kind == PastKind::cannot);
        const std::uint64_t most = head.kind == PastKind::bytes ? kMostBytes : kMostAnswer;
        const bool reads_on = head.to > asked_range_.offset && head.to <= asked_range_.end &&
                              head.from <= asked_end_.position;
        return head.protocol == kPastProtocol && fits && head.length <= most &&
               received_.size() <= sizeof head + head.length && (head.kind != PastKind::read || reads_on);
    }

    std::string program_;
    std::uint64_t history_ = 0;
    Fd own_, helpers_;                           // the socket pair: our end, and the helper's
    pid_t pid_ = 0;
    bool unreadable_ = false;                    // the helper could not read the recording
    std::optional<Clock::time_point> started_;   // when the last helper was
    winsize size_{};                             // of the window where the model begins
    std::uint64_t begin_ = 0;                    // the offset of the stream from which on the model reads
    std::uint64_t read_to_ = 0;                  // the offset of the stream up to which the model has read
    std::optional<std::uint64_t> before_model_;  // bytes of output before those that the model was fed
    std::optional<Place> model_;
    Place asked_end_;                            // the end of the stream when `read` was asked
    FileRange asked_range_;
    PastMessage question_;                       // the last one
    bool is_asked_ = false;                      // the last question has no answer yet
    std::string received_;                       // of the answer
    Clock::duration waited_{};                   // for it
    std::vector<std::weak_ptr<const std::string>> given_;
};

// ----------------------------------------------------------------------------------------------------------------
// 6. What a client says
//
// A client sends bytes for the program. When its first bytes are a message, the hello, it may send further
// messages between them. Everything comes in pieces of any size. FF is no byte of UTF-8, so typed text never looks
// like a message:
//
//   FF FF 's' 's'  rows, columns, x pixels, y pixels   16 bits each: the window, at first and whenever it changes.
//                  Rows and columns 0: a client without a window. Then the x pixels tell the client's purpose
//                  (Purpose), and everything that follows is for the program
//   FF FF 'a' 'a'  length (16 bits), bytes             an answer that the client's terminal has sent by itself
//   FF FF 'n' 'n'  length (16 bits), bytes             noise: reports of focus and mouse motion
//
// The first bytes may also belong to another protocol: a web page can make the user's browser talk to a loopback
// port, and each line of an HTTP request would be a line typed into a shell. Such a client is sent away.
// ----------------------------------------------------------------------------------------------------------------

constexpr std::size_t kHelloBytes = 12;
constexpr std::string_view kHelloMagic = "\xFF\xFFss", kAnswerMagic = "\xFF\xFF" "aa", kNoiseMagic = "\xFF\xFFnn";
constexpr std::size_t kMagicBytes = 4, kLengthBytes = 2;  // of any message; of an answer's length
constexpr milliseconds kOpeningGrace{200};                // how long undecided first bytes wait for more bytes
constexpr std::size_t kOpeningBytes = 8 << 10;            // the most first bytes that are kept undecided

/// The first bytes of a connection: `plain` ones for the program, a whole or an `incomplete` hello, or bytes of a
/// `foreign` protocol. `undecided`: more bytes could make them foreign.
enum class Opening { plain, hello, incomplete, undecided, foreign };

/// Whether `bytes` begin an HTTP request line (RFC 9112, section 3): a token, a target, a version. Known methods
/// with an absolute path need no version: a browser sends nothing else, and a person at a shell does not.
Opening classify_http(std::string_view bytes) {
    constexpr std::array kRequests = {"GET /", "POST /", "HEAD /", "PUT /", "DELETE /", "OPTIONS /", "PATCH /"};
    for (const char *request : kRequests)
        if (bytes.starts_with(request)) return Opening::foreign;
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

/// How a message of a binary protocol begins: the least and the greatest value of each byte.
struct BinaryOpening {
    std::string_view least, most;
};
constexpr std::array kBinaryOpenings = {
    // TLS, a client's hello (RFC 8446, section 5.1); STUN (RFC 8489, section 5), and behind a length (RFC 4571)
    BinaryOpening{"\x16\3\0\0\0\1"sv, "\x16\3\4\xFF\xFF\1"sv},
    BinaryOpening{"\0\0\0\0\x21\x12\xA4\x42"sv, "\1\xFF\xFF\xFF\x21\x12\xA4\x42"sv},
    BinaryOpening{"\0\0\0\0\0\0\x21\x12\xA4\x42"sv, "\1\xFF\1\xFF\xFF\xFF\x21\x12\xA4\x42"sv},
};

Opening classify_binary(std::string_view bytes, const BinaryOpening &opening) {
    for (std::size_t i = 0; i < std::min(bytes.size(), opening.least.size()); ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        if (byte < std::uint8_t(opening.least[i]) || byte > std::uint8_t(opening.most[i])) return Opening::plain;
    }
    return bytes.size() < opening.least.size() ? Opening::undecided : Opening::foreign;
}

Opening classify(std::string_view bytes) {
    if (bytes.starts_with(kHelloMagic)) return bytes.size() < kHelloBytes ? Opening::incomplete : Opening::hello;
    if (kHelloMagic.starts_with(bytes)) return Opening::incomplete;
    Opening worst = classify_http(bytes);
    for (const BinaryOpening &one : kBinaryOpenings) worst = std::max(worst, classify_binary(bytes, one));
    return worst;
}

/// 16 bits in network order.
std::uint16_t number_at(std::string_view message, std::size_t at) {
    return static_cast<std::uint16_t>(std::uint8_t(message[at]) << 8 | std::uint8_t(message[at + 1]));
}

/// What a client has come for. The purposes up to `copy` are for the output.
enum class Purpose {
    unknown,  // the client has said nothing yet
    raw,      // nc, or the original's client: shows the output on a terminal, as far as we know
    window,   // shows it on a terminal with a window
    watch,    // shows it on a terminal, and only watches          x pixels 1
    pipe,     // passes it to a pipe or a file: every byte counts  x pixels 0, and values without a meaning
    copy,     // our own cat(1), which copies it to standard output
    push,     // brings input and leaves                           x pixels 2
    end,      // asks for the end of the session                   x pixels 3
    tell,     // asks what this session is                         x pixels 4
    alone,    // asks that the other clients with a window leave   x pixels 5
    foreign,  // speaks another protocol
};

/// The purpose of a client whose hello has no window.
Purpose purpose_of(const winsize &hello) {
    constexpr std::array kPurposes = {Purpose::pipe, Purpose::watch, Purpose::push,
                                      Purpose::end,  Purpose::tell,  Purpose::alone};
    return hello.ws_xpixel < kPurposes.size() ? kPurposes[hello.ws_xpixel] : Purpose::pipe;
}

/// One thing that a client has said.
struct Said {
    enum class Kind { typed, answer, noise, window } kind = Kind::typed;
    std::string bytes{};  // of all but a window
    winsize window{};
};

/// Parses the bytes of a client, which come in pieces of any size. Keeps at most kOpeningBytes at first, and later
/// the beginning of one message, at most 64 KiB.
class ClientInput {
public:
    explicit ClientInput(Purpose purpose) : purpose_(purpose) {}

    /// Takes bytes received; appends the things that the client has said with them to `said`, in their order.
    void feed(std::string_view bytes, std::vector<Said> &said) {
        if (purpose_ == Purpose::foreign) return;
        held_.append(bytes);
        if (purpose_ == Purpose::unknown) {
            const Opening opening = classify(held_);
            if (opening == Opening::undecided || opening == Opening::incomplete) return;
            purpose_ = opening == Opening::hello   ? Purpose::window
                       : opening == Opening::plain ? Purpose::raw
                                                   : Purpose::foreign;
        }
        if (purpose_ == Purpose::window) return feed_messages(said);
        if (purpose_ != Purpose::foreign) type(held_, said);
        held_ = {};
    }

    /// No more bytes will come, or not soon: the bytes held are not the beginning of a message, but typed.
    void settle(std::vector<Said> &said) {
        if (purpose_ == Purpose::foreign) return;
        if (purpose_ == Purpose::unknown) purpose_ = Purpose::raw;
        type(held_, said);
        held_ = {};
    }

    [[nodiscard]] Purpose purpose() const { return purpose_; }
    /// Whether the first bytes wait for more, as they could belong to another protocol. Call settle() when no more
    /// come.
    [[nodiscard]] bool is_undecided() const {
        return purpose_ == Purpose::unknown && !held_.empty() && classify(held_) == Opening::undecided;
    }
    /// Whether a message has begun to come and is not whole.
    [[nodiscard]] bool has_cut_message() const {
        if (held_.empty()) return false;
        return purpose_ == Purpose::window || classify(held_) == Opening::incomplete;
    }

private:
    static void type(std::string_view bytes, std::vector<Said> &said) {
        if (bytes.empty()) return;
        if (said.empty() || said.back().kind != Said::Kind::typed) said.emplace_back();
        said.back().bytes.append(bytes);
    }

    /// Passes on the bytes held, except the beginning of a message at their end.
    void feed_messages(std::vector<Said> &said) {
        std::string_view rest = held_;
        while (!rest.empty() && purpose_ == Purpose::window) {
            const std::size_t plain = std::min(rest.find(kHelloMagic.front()), rest.size());
            type(rest.substr(0, plain), said);
            rest.remove_prefix(plain);
            if (rest.empty()) break;
            const std::size_t length = message_length(rest);
            if (length > rest.size()) break;  // the rest of it will come
            if (length == 0) type(rest.substr(0, 1), said);
            else hear_message(rest.substr(0, length), said);
            rest.remove_prefix(std::max<std::size_t>(length, 1));
        }
        if (purpose_ != Purpose::window) {
            type(rest, said);
            rest = {};
        }
        held_.erase(0, held_.size() - rest.size());
    }

    /// The length of the message that `bytes` begin with: more than their number when it is cut, 0 when they begin
    /// with none.
    static std::size_t message_length(std::string_view bytes) {
        constexpr std::size_t kHead = kMagicBytes + kLengthBytes;
        for (const std::string_view magic : {kHelloMagic, kAnswerMagic, kNoiseMagic}) {
            if (!magic.starts_with(bytes.substr(0, kMagicBytes))) continue;
            if (magic == kHelloMagic) return kHelloBytes;
            if (bytes.size() < kHead) return kHead;
            return kHead + number_at(bytes, kMagicBytes);
        }
        return 0;
    }

    void hear_message(std::string_view message, std::vector<Said> &said) {
        if (!message.starts_with(kHelloMagic)) {
            const bool answers = message.starts_with(kAnswerMagic);
            said.push_back({.kind = answers ? Said::Kind::answer : Said::Kind::noise,
                            .bytes = std::string(message.substr(kMagicBytes + kLengthBytes))});
            return;
        }
        const winsize window = {.ws_row = number_at(message, 4), .ws_col = number_at(message, 6),
                                .ws_xpixel = number_at(message, 8), .ws_ypixel = number_at(message, 10)};
        if (window.ws_row == 0 && window.ws_col == 0) purpose_ = purpose_of(window);
        else if (window.ws_row != 0 && window.ws_col != 0) said.push_back({Said::Kind::window, {}, window});
    }

    Purpose purpose_;
    std::string held_;  // bytes that may be the beginning of a message
};

// ----------------------------------------------------------------------------------------------------------------
// 7. A client
//
// A client owns its socket, and has two state machines: one for what it is sent (Output), one for what it says
// (Input). The session asks both, and decides. The machine of Output:
//
//                 its hello has come,          the helper has           all of it
//                 or 200 ms went by            answered                 is sent
//     undecided ────────────────────► asked ─────────────────► past ───────────────► live
//        │  │                          ▲                                              ▲ │
//        │  │                          └──────── it has fallen out of the ring ───────┼─┘
//        │  └─── it needs nothing of the past ────────────────────────────────────────┘
//        └─────► silent: its purpose is a push, an end, a tell or an alone
//
//     any of these ───► leaving: goodbye, or its answer ───► gone        (its receiving side is closed: deaf)
//
// The past of a pipe comes in pieces. Behind each piece the pipe is live; when the next byte has left the ring,
// the next piece is asked for.
//
// A send(2) may take only a part: then the cursor, or the number of bytes sent of the past, stands in the middle,
// and select(2) tells when the socket has room for more. All sends are here: send_past(), send_live(),
// send_last_words().
// ----------------------------------------------------------------------------------------------------------------

constexpr int kSocketBytes = 128 << 10;         // the size of a client's send buffer: see Client()
constexpr seconds kPaceGrace{1};                // a client that took nothing for so long paces nobody
constexpr seconds kTakesNothing{5};             // at the end, a client that takes nothing for so long is dropped
constexpr std::size_t kTypedBytes = 16 << 10;   // typed by one client and waiting here; more stays in its socket
constexpr std::string_view kTaken = "\xFF\xFFok";      // the reply to a push, an end and an alone
constexpr std::string_view kDismissed = "\xFF\xFF" "dd";  // to the other clients, at an alone
constexpr std::string_view kTold = "\xFF\xFFtt";       // the reply to a tell: then a length (16 bits), lines

/// The number of bytes in a socket's send buffer, or -1 when the kernel does not tell.
int unsent_bytes([[maybe_unused]] int fd) {
    int bytes = -1;
#if defined(SIOCOUTQ)
    if (::ioctl(fd, SIOCOUTQ, &bytes) != 0) return -1;
#elif defined(FIONWRITE)
    if (::ioctl(fd, FIONWRITE, &bytes) != 0) return -1;
#elif defined(SO_NWRITE)
    socklen_t length = sizeof bytes;
    if (::getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &length) != 0) return -1;
#endif
    return bytes;
}

class Client {
public:
    /// What it is sent.
    enum class Output {
        undecided,  // nothing yet: its purpose is not known
        silent,     // nothing but a reply: it has come for a push, an end, a tell or an alone
        asked,      // nothing yet: the helper makes its past
        past,       // its past, from `past_`
        live,       // the ring's bytes, from `cursor_` on
        leaving,    // its last words; its socket is closed when the kernel has delivered them
        deaf,       // nothing more: it has closed its receiving side; what it sent before is still read
        gone,       // nothing: its socket is closed
    };
    /// What it says.
    enum class Input {
        typing,     // its bytes go to the program
        discarded,  // its bytes are thrown away: it is a viewer, or the program has ended
        ended,      // it sends nothing more
    };
    /// `position`: of the next byte of output. `is_viewer`: the client's input is discarded, and it may not act on
    /// the session.
    Client(std::uint64_t id, Fd socket, bool is_viewer, std::uint64_t position, Clock::time_point now,
           Purpose purpose = Purpose::unknown)
        : id_(id), socket_(std::move(socket)), is_viewer_(is_viewer), said_(purpose),
          input_(is_viewer ? Input::discarded : Input::typing), cursor_(position), came_(now), progress_(now) {
        // A send buffer of a fixed size (the kernel doubles it: socket(7)). TCP alone would let it grow to 4 MiB
        // (tcp(7), tcp_wmem): the user's screen would be that far behind the program, and show a Ctrl-C that much
        // later.
        const int on = 1;
        ::setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // an echo does not wait for more (tcp(7))
        ::setsockopt(fd(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // a machine that has vanished is noticed
        ::setsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
    }

    /// The client that copies the output from its first byte on to our standard output.
    static Client copier(std::uint64_t id, Fd socket, Clock::time_point now) {
        Client client(id, std::move(socket), true, 0, now, Purpose::copy);
        client.output_ = Output::live;
        return client;
    }

    // Who it is.
    [[nodiscard]] std::uint64_t id() const { return id_; }
    [[nodiscard]] int fd() const { return socket_.get(); }
    [[nodiscard]] bool is_open() const { return output_ != Output::gone; }
    [[nodiscard]] bool is_viewer() const { return is_viewer_; }
    [[nodiscard]] Purpose purpose() const { return said_.purpose(); }
    [[nodiscard]] bool is_a(Purpose purpose) const { return said_.purpose() == purpose; }
    /// Whether the output goes to a terminal, as far as we know; else each byte counts.
    [[nodiscard]] bool has_terminal() const { return !is_a(Purpose::copy) && !is_a(Purpose::pipe); }
    /// Whether it has come for the output; else it has one thing to ask or to bring, and leaves.
    [[nodiscard]] bool shows_output() const { return purpose() <= Purpose::copy; }
    /// Whether it counts as a client of the session: an end, a tell and an alone do not.
    [[nodiscard]] bool counts() const {
        return is_open() && !is_a(Purpose::copy) && (shows_output() || is_a(Purpose::push));
    }
    /// When its purpose is settled: at once with a hello; else when it has had the time to send one.
    [[nodiscard]] Clock::time_point known_at() const {
        return is_a(Purpose::unknown) ? came_ + kOpeningGrace : came_;
    }

    // What it says.
    [[nodiscard]] Input input() const { return input_; }
    [[nodiscard]] bool is_typing() const { return input_ == Input::typing; }
    [[nodiscard]] bool has_room_for_input() const { return typed_.size() < kTypedBytes; }
    /// Reads once; appends the things that the client has said to `said`. Gives what recv(2) gives.
    ssize_t receive(std::vector<Said> &said, Clock::time_point now) {
        std::array<char, kTypedBytes> bytes;
        const std::size_t room = bytes.size() - std::min(typed_.size(), bytes.size() - 1);
        const ssize_t n = ::recv(fd(), bytes.data(), room, MSG_DONTWAIT);
        if (n <= 0) return n;
        if (!spoke_) spoke_ = now;
        const Purpose before = purpose();
        said_.feed({bytes.data(), static_cast<std::size_t>(n)}, said);
        if (purpose() != before) hear_purpose(now);
        return n;
    }
    /// When undecided first bytes are to be settled; none when there are none.
    [[nodiscard]] std::optional<Clock::time_point> settles_at() const {
        if (!said_.is_undecided()) return std::nullopt;
        return *spoke_ + kOpeningGrace;
    }
    void settle(std::vector<Said> &said) { said_.settle(said); }
    [[nodiscard]] bool has_cut_message() const { return said_.has_cut_message(); }
    /// Keeps what it has typed for the program until the input queue has room.
    void keep_typed(std::string_view bytes) { typed_.append(bytes); }
    std::string take_typed() { return std::exchange(typed_, {}); }
    [[nodiscard]] bool has_typed() const { return !typed_.empty(); }
    /// From now on its input is thrown away.
    void discard_input() {
        if (is_typing()) input_ = Input::discarded;
    }
    /// The client sends nothing more; it stays as a viewer, without a window.
    void end_input() {
        input_ = Input::ended;
        window_ = {};
    }

    // Its window; rows 0: none. The last active client with one is the leader.
    [[nodiscard]] bool can_lead() const { return window_.ws_row != 0 && is_typing(); }
    [[nodiscard]] const winsize &window() const { return window_; }
    [[nodiscard]] std::uint64_t activity() const { return activity_; }
    void set_window(const winsize &window) { window_ = window; }
    void set_active(std::uint64_t activity) { activity_ = activity; }

    // What it is sent.
    [[nodiscard]] Output output() const { return output_; }
    [[nodiscard]] bool is(Output output) const { return output_ == output; }
    [[nodiscard]] std::uint64_t cursor() const { return cursor_; }
    /// Whether the last send did not take everything: select(2) is to tell when there is room.
    [[nodiscard]] bool is_blocked() const { return is_blocked_; }
    /// Of a terminal that is asked: the offset of the stream that its paint must not be older than.
    [[nodiscard]] std::uint64_t asked_at() const { return asked_at_; }
    [[nodiscard]] Clock::time_point asked_since() const { return asked_since_; }
    /// Whether the client has been sent bytes: then its terminal has lines that a paint with history would repeat.
    [[nodiscard]] bool had_bytes() const { return had_bytes_; }
    [[nodiscard]] bool has_fallen_out(const Ring &ring) const {
        return is(Output::live) && cursor_ < ring.oldest();
    }

    /// The client's past is to be made. A terminal is painted as of `offset` of the stream or later; a pipe gets
    /// the bytes from its cursor on.
    void ask(std::uint64_t offset, Clock::time_point now) {
        enter(Output::asked, now);
        asked_at_ = offset;
        asked_since_ = now;
    }
    /// The paint must show the event that stands at `offset` of the stream, too.
    void ask_behind(std::uint64_t offset) { asked_at_ = offset + 1; }
    /// Takes a piece of the past, behind which the client goes on at `position`.
    void give_past(Bytes bytes, std::uint64_t position, Clock::time_point now) {
        enter(Output::past, now);
        past_ = std::move(bytes);
        past_sent_ = begins_at_line_ ? past_->find('\n') + 1 : 0;  // (none: npos + 1 is 0)
        begins_at_line_ = false;
        cursor_ = position;
    }
    /// Goes on from `position` of the ring.
    void go_live(std::uint64_t position, Clock::time_point now) {
        enter(Output::live, now);
        cursor_ = position;
    }
    /// The bytes from `position` on begin in the middle of a line, which the client is not sent.
    void begin_at_line(std::uint64_t position) {
        cursor_ = position;
        begins_at_line_ = position > 0;
    }
    /// The client takes nothing more; what it has sent before is still to be read.
    void go_deaf(Clock::time_point now) {
        enter(Output::deaf, now);
        window_ = {};
    }
    /// The client is sent `words` and nothing more. It is dropped when they are delivered, or after `most`.
    void leave(std::string words, Clock::time_point now, std::optional<seconds> most = std::nullopt) {
        enter(Output::leaving, now);
        words_ = std::move(words);
        if (most) leave_by_ = now + *most;
    }
    /// Replies to a push, an end or an alone at once: the reply fits into the send buffer, which has held nothing
    /// else.
    void acknowledge() const { ::send(fd(), kTaken.data(), kTaken.size(), MSG_DONTWAIT); }

    /// Sends as much as the socket takes, from one state to the next.
    void send(const Ring &ring, Clock::time_point now) {
        if (is(Output::past)) send_past(now);
        if (is(Output::live)) send_live(ring, now);
        if (is(Output::leaving)) send_last_words(now);
    }
    /// Whether the client has been sent all output up to `head`.
    [[nodiscard]] bool has_all(std::uint64_t head) const {
        return is(Output::silent) || (is(Output::live) && cursor_ == head);
    }

    /// Looks at the send buffer: it may have no room for more and yet become emptier, slowly.
    void look_at_progress(Clock::time_point now) {
        looked_ = now;
        const int unsent = unsent_bytes(fd());
        if (std::exchange(unsent_, unsent) != unsent) progress_ = now;
    }
    [[nodiscard]] Clock::time_point look_due() const { return looked_ + kPaceGrace; }
    /// Whether the client took something less than a second ago, or was owed nothing then.
    [[nodiscard]] bool makes_progress(Clock::time_point now) const { return now - progress_ < kPaceGrace; }
    /// Whether the client, at the end of the session, has taken nothing for so long that it is dropped.
    [[nodiscard]] bool is_stuck(Clock::time_point now) const {
        if (leave_by_ && now >= *leave_by_) return true;
        return !is_a(Purpose::copy) && !is(Output::asked) && now - progress_ > kTakesNothing;
    }
    /// Whether the kernel has delivered the last words.
    [[nodiscard]] bool is_delivered() const {
        return has_shut_down_ && (unsent_ == 0 || input_ == Input::ended);
    }
    void reset_progress(Clock::time_point now) { progress_ = now; }
    [[nodiscard]] bool wants_goodbye() const {
        return !is_a(Purpose::unknown) && !is_a(Purpose::raw) && !is_a(Purpose::copy) && !is_a(Purpose::tell);
    }

    void close() {
        output_ = Output::gone;
        socket_.reset();
        past_.reset();
        window_ = {};
    }

private:
    void enter(Output output, Clock::time_point now) {
        output_ = output;
        is_blocked_ = false;
        progress_ = now;
    }

    /// A hello may come so late that the client has been taken for a raw one. The hello still counts: a terminal
    /// is painted anew, at its size; a pipe goes on behind what it has been sent.
    void hear_purpose(Clock::time_point now) {
        if (is(Output::leaving)) return;
        const bool is_late = now >= came_ + kOpeningGrace;
        const bool was_painted = is_a(Purpose::window) && (is(Output::live) || is(Output::past));
        if (!shows_output()) output_ = Output::silent;
        else if ((is_late && was_painted) || (is_a(Purpose::pipe) && is(Output::asked)))
            output_ = Output::undecided;
    }

    /// Sends, and notes the progress. Gives the number of bytes taken.
    std::size_t send_parts(iovec *parts, std::size_t count, std::size_t length, Clock::time_point now) {
        msghdr message{};
        message.msg_iov = parts;
        message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(count);
        const ssize_t n = ::sendmsg(fd(), &message, MSG_DONTWAIT);
        if (n < 0 && !would_block() && errno != ENOBUFS) {
            go_deaf(now);
            return 0;
        }
        const auto sent = static_cast<std::size_t>(std::max<ssize_t>(n, 0));
        if (sent > 0) had_bytes_ = true;
        if (sent > 0 || !is_blocked_) progress_ = now;
        is_blocked_ = sent < length;
        return sent;
    }

    void send_past(Clock::time_point now) {
        if (past_sent_ < past_->size()) {
            iovec part = {const_cast<char *>(past_->data()) + past_sent_, past_->size() - past_sent_};
            past_sent_ += send_parts(&part, 1, part.iov_len, now);
        }
        if (!is(Output::past) || past_sent_ < past_->size()) return;
        past_.reset();
        enter(Output::live, now);
    }

    void send_live(const Ring &ring, Clock::time_point now) {
        if (cursor_ == ring.head() || cursor_ < ring.oldest()) return;
        std::array<iovec, 2> parts = ring.parts(cursor_, ring.head());
        cursor_ += send_parts(parts.data(), parts.size(), ring.head() - cursor_, now);
    }

    /// close(2) of a TCP socket with unread bytes in it sends a reset, which destroys bytes on their way.
    /// Therefore our side is shut down first, and closed when the kernel has delivered everything.
    void send_last_words(Clock::time_point now) {
        if (has_shut_down_) return;
        if (!words_.empty()) {
            iovec part = {words_.data(), words_.size()};
            words_.erase(0, send_parts(&part, 1, part.iov_len, now));
        }
        if (!is(Output::leaving) || !words_.empty()) return;
        ::shutdown(fd(), SHUT_WR);
        has_shut_down_ = true;
    }

    std::uint64_t id_;
    Fd socket_;
    bool is_viewer_;
    ClientInput said_;
    Input input_;
    std::string typed_;            // for the program, while the queue has no room for it
    winsize window_{};             // as the client told last
    std::uint64_t activity_ = 0;   // when it last attached, resized or typed: a number that the session counts up

    Output output_ = Output::undecided;
    std::uint64_t cursor_;         // the next byte of output to send, behind its past
    Bytes past_;
    std::size_t past_sent_ = 0;    // bytes of it
    bool begins_at_line_ = false;  // its past is to begin at the start of a line
    bool had_bytes_ = false;
    std::uint64_t asked_at_ = 0;
    Clock::time_point asked_since_;
    bool is_blocked_ = false;
    std::string words_;            // the last words that are not sent yet
    bool has_shut_down_ = false;
    std::optional<Clock::time_point> leave_by_;
    int unsent_ = -1;              // bytes in the send buffer at the last look

    Clock::time_point came_;
    std::optional<Clock::time_point> spoke_;  // when its first bytes came
    Clock::time_point looked_;     // when the last look was
    Clock::time_point progress_;   // when the client last took something, or was owed nothing
};

// ----------------------------------------------------------------------------------------------------------------
// 8. Listening
//
// A listening socket does not block: a client may vanish between the moment when select(2) announces it and
// accept(2), which would then wait for the next client. A Unix-domain socket is a file: bind(2) takes its mode
// from the umask, and it stays behind when its owner is killed. A stale one, at which no process listens, is taken
// over.
//
// The section grew from the part of its name in tests/tour/small3.cpp.
// ----------------------------------------------------------------------------------------------------------------

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

constexpr seconds kStartWait{1};  // for a lock that another process holds

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
    if (address.storage.ss_family == AF_UNIX)
        return reinterpret_cast<const sockaddr_un *>(&address.storage)->sun_path;
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    ::getnameinfo(address.get(), address.length, host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV);
    const std::string name = host.data();
    return (address.storage.ss_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port.data();
}

/// The absolute form of a path: the daemon leaves the folder in which it was started.
std::string absolute(std::string path) {
    std::array<char, PATH_MAX> folder{};
    if (path.empty() || path.front() == '/') return path;
    while (path.starts_with("./")) path.erase(0, 2);
    return ::getcwd(folder.data(), folder.size()) != nullptr ? std::string(folder.data()) + "/" + path : path;
}

/// Takes the lock of a folder, which other processes may hold; waits for kStartWait at most. It is a lock of
/// flock(2): a write lock of fcntl(2) needs a descriptor that is open for writing, and no folder can be opened so.
bool lock_folder(int folder) {
    for (const auto until = Clock::now() + kStartWait; ::flock(folder, LOCK_EX | LOCK_NB) != 0;) {
        if (errno != EWOULDBLOCK) return true;  // no locks here: without one then
        if (Clock::now() > until) return false;
        ::poll(nullptr, 0, 10);
    }
    return true;
}

/// Removes the socket file at the address if it is stale: no process listens at it. Gives "", or what else stands
/// at the address; `text` is the address as the user wrote it. A file that is no socket is never removed.
std::string clear_stale(const sockaddr_un &address, const std::string &text) {
    struct stat file{};
    if (::lstat(address.sun_path, &file) != 0) return errno == ENOENT ? "" : std::strerror(errno);
    if (!S_ISSOCK(file.st_mode)) return "a file that is no socket stands there";
    const Fd probe(close_on_exec(::socket(AF_UNIX, SOCK_STREAM, 0)));
    set_nonblocking(probe.get());  // connect(2) would wait for a listener that does not accept
    const auto *where = reinterpret_cast<const sockaddr *>(&address);
    const bool answers = ::connect(probe.get(), where, sizeof address) == 0 || errno == EAGAIN;
    if (answers) return "a session runs there: attach " + text;
    const bool is_stale = errno == ECONNREFUSED;
    if (is_stale && ::unlink(address.sun_path) == 0) return "";
    return std::string(is_stale ? "a stale socket stands there: " : "a socket stands there, and may be in use: ") +
           std::strerror(errno);
}

class Listener {
public:
    ~Listener() { close(); }

    /// Listens at ADDRESS, `text` as the user wrote it, `found` as resolved. Gives 0, or with a message the exit
    /// status.
    int open(const std::string &text, const Resolved &found, bool allow_remote) {
        std::string why = found.why;
        const bool is_local = std::all_of(found.addresses.begin(), found.addresses.end(), is_loopback);
        if (!is_local && !allow_remote) {
            complain(text, "not a loopback address: anybody who reaches it would own the terminal "
                           "(see --allow-remote)");
            return kExitFailed;
        }
        for (const SocketAddress &address : found.addresses) {
            why = listen_at(text, address);
            if (why.empty()) return 0;
        }
        complain(text, why);
        return found.malformed ? kExitUsage : kExitFailed;
    }

    /// Makes the socket file anew if it has been removed (by a cleaner of /tmp, say); a message when that fails.
    void renew() {
        struct stat file{};
        if (path_.empty() || ::lstat(path_.c_str(), &file) == 0) return;
        const std::string text = is_session_name(name_) ? name_ : path_;  // a session's folder may be gone, too
        Fd before = std::move(fd_);
        if (open(text, resolve(text, true), false) != 0) fd_ = std::move(before);
    }

    /// Stops listening, and removes the socket file if it is still ours.
    void close() {
        struct stat file{};
        const bool is_there = !path_.empty() && ::lstat(path_.c_str(), &file) == 0;
        if (is_there && file.st_ino == file_.st_ino && file.st_dev == file_.st_dev) ::unlink(path_.c_str());
        path_.clear();
        fd_.reset();
    }

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
    [[nodiscard]] bool is_tcp() const { return is_open() && path_.empty(); }
    /// The address: as it is told to the user, and in the form that works from any folder.
    [[nodiscard]] const std::string &name() const { return name_; }
    [[nodiscard]] const std::string &address() const { return path_.empty() ? name_ : path_; }

private:
    /// Gives why not, or "".
    std::string listen_at(const std::string &text, const SocketAddress &address) {
        name_ = text;
        fd_.reset(close_on_exec(::socket(address.storage.ss_family, SOCK_STREAM, 0)));
        if (!fd_) return std::strerror(errno);
        set_nonblocking(fd_.get());
        if (address.storage.ss_family == AF_UNIX)
            return listen_at_path(*reinterpret_cast<const sockaddr_un *>(address.get()), text);
        const int on = 1;
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (::bind(fd_.get(), address.get(), address.length) != 0 || ::listen(fd_.get(), SOMAXCONN) != 0)
            return std::strerror(errno);
        SocketAddress bound{.storage = {}, .length = sizeof bound.storage};
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr *>(&bound.storage), &bound.length);
        name_ = to_text(bound);  // port 0 has become another
        return "";
    }

    std::string listen_at_path(const sockaddr_un &address, const std::string &text) {
        const std::string path = address.sun_path;
        const std::string folder = path.substr(0, path.rfind('/') + 1);
        const Fd lock(close_on_exec(::open(folder.c_str(), O_RDONLY | O_DIRECTORY)));
        // Without the lock, two shims could both find the file stale, and one remove the other's fresh socket.
        if (!lock_folder(lock.get())) return "another process holds a lock on its folder (flock)";
        if (std::string why = clear_stale(address, text); !why.empty()) return why;
        const mode_t before = ::umask(0177);
        const int result = ::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address);
        ::umask(before);
        if (result != 0 && errno == EACCES) return "no permission to make a socket in its folder";
        if (result != 0 || ::lstat(path.c_str(), &file_) != 0) return std::strerror(errno);
        path_ = absolute(path);
        // While the lock is held: a socket without a listener looks stale.
        return ::listen(fd_.get(), SOMAXCONN) == 0 ? "" : std::strerror(errno);
    }

    Fd fd_;
    std::string name_;
    std::string path_;    // of a Unix-domain socket, absolute, else ""
    struct stat file_{};  // the file that we made
};

// ----------------------------------------------------------------------------------------------------------------
// 9. Who may come in
//
// The peer must be our own user or root. A Unix-domain socket tells which user connected. For TCP on the loopback
// interface, Linux's table of sockets tells it (sock_diag(7): the table of /proc/net/tcp, asked for one socket in
// constant time): the peer's own socket has an owner and, as long as a process holds it, an inode. A peer that is
// not in the table is on another machine, or has gone.
// ----------------------------------------------------------------------------------------------------------------

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

/// The other end of a connection: whether its client may come in; whether no process holds it any more; and how
/// the kernel was asked.
struct Peer {
    bool is_admitted = false, is_gone = false;
    std::string text{};
    const char *question = "";
};

Peer unix_peer([[maybe_unused]] int fd) {
#if defined(SCM_CREDENTIALS)  // Linux: SO_PEERCRED gives a struct ucred
    ucred peer{};
    socklen_t length = sizeof peer;
    const bool known = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
    const std::string text = "process " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid);
    return {known && is_ours(peer.uid), false, text, "SO_PEERCRED, unix(7)"};
#elif defined(PORTABLE)
    return {true, false, "it cannot say; the mode of the socket's file keeps others out", "unix(7)"};
#else
    uid_t user = 0;
    gid_t group = 0;
    return {::getpeereid(fd, &user, &group) == 0 && is_ours(user), false, "the user there", "getpeereid(3)"};
#endif
}

class Gate {
public:
    /// Gets ready to ask about TCP peers; false with a message. `allow_remote`: peers on other machines come in
    /// too.
    bool open(bool allow_remote) {
        allow_remote_ = allow_remote;
        table_ = open_tcp_table();
        if (kHasTcpTable && !table_) complain_errno("sock_diag (needed to know who connects to a port)");
        return !kHasTcpTable || static_cast<bool>(table_);
    }

    [[nodiscard]] Peer peer_of(int fd) const {
        SocketAddress own{.storage = {}, .length = sizeof(sockaddr_storage)}, other = own;
        if (::getsockname(fd, reinterpret_cast<sockaddr *>(&own.storage), &own.length) != 0 ||
            ::getpeername(fd, reinterpret_cast<sockaddr *>(&other.storage), &other.length) != 0)
            return {.is_gone = true};
        if (own.storage.ss_family == AF_UNIX) return unix_peer(fd);
        if (!kHasTcpTable)  // the loopback interface alone keeps other machines out
            return {true, false, "it cannot say who comes to a port", "accept(2)"};
        const TcpOwner owner = tcp_owner(table_.get(), other, own);
        const bool is_held = owner.is_found() && owner.inode != 0, is_remote = owner.is_absent() && allow_remote_;
        return {.is_admitted = is_remote || (is_held && is_ours(owner.user)),
                .is_gone = (owner.is_found() && !is_held) || (owner.is_absent() && !is_remote),
                .text = "the owner of the socket at the other end", .question = "sock_diag(7)"};
    }

    /// Whether no process holds the other end any more. (A client that shuts down only its sending side looks the
    /// same to recv(2).)
    [[nodiscard]] bool has_left(int fd) const {
        pollfd entry{.fd = fd, .events = 0, .revents = 0};
        if (::poll(&entry, 1, 0) > 0) return true;  // POLLHUP or POLLERR: closed both ways, or reset
        return peer_of(fd).is_gone;
    }

private:
    Fd table_;
    bool allow_remote_ = false;
};

// ----------------------------------------------------------------------------------------------------------------
// 10. The narrator
//
// The narrator tells learners on standard error what happens on the terminal, while it happens: one line for each
// event, indented by the actor. The session's texts stand where the event happens; the texts about the line
// discipline stand here. The narrator changes nothing: when standard error takes no more, it leaves lines out, and
// the session does not wait.
//
// The kernel does not tell when a program changes its terminal. The narrator looks in each turn and before each
// write to the master, so that a key is explained by the settings that it meets. It misses a change that is undone
// between two looks.
// ----------------------------------------------------------------------------------------------------------------

enum class Actor { shim, kernel, program, client };

/// A flag of struct termios, and what the terminal does with it and without it.
struct Setting {
    tcflag_t termios::*field;
    tcflag_t flag;
    const char *name, *on, *off;
};

constexpr std::array kSettings = {
    Setting{&termios::c_lflag, ICANON, "ICANON", "input is kept until Enter", "each byte is passed on at once"},
    Setting{&termios::c_lflag, ECHO, "ECHO", "the kernel shows what is typed", "it does not show what is typed"},
    Setting{&termios::c_lflag, ISIG, "ISIG", "Ctrl-C makes a signal", "Ctrl-C is a byte like others"},
    Setting{&termios::c_iflag, ICRNL, "ICRNL", "Enter's CR becomes NL", "Enter's CR stays CR"},
    Setting{&termios::c_iflag, IXON, "IXON", "Ctrl-S stops output", "Ctrl-S is a byte like others"},
    Setting{&termios::c_oflag, OPOST, "OPOST", "NL is shown as CR NL", "output is passed as it is"},
};

/// A control character that the line discipline itself acts on.
struct SpecialKey {
    std::size_t index;         // into c_cc
    tcflag_t termios::*field;  // while this flag is on
    tcflag_t flag;
    const char *name, *what;
};

constexpr std::array kSpecialKeys = {
    SpecialKey{VINTR, &termios::c_lflag, ISIG, "VINTR", "SIGINT"},
    SpecialKey{VQUIT, &termios::c_lflag, ISIG, "VQUIT", "SIGQUIT"},
    SpecialKey{VSUSP, &termios::c_lflag, ISIG, "VSUSP", "SIGTSTP"},
    SpecialKey{VEOF, &termios::c_lflag, ICANON, "VEOF", "ends the line so far: an empty one is the end of file"},
    SpecialKey{VERASE, &termios::c_lflag, ICANON, "VERASE", "takes the last character of the line back"},
    SpecialKey{VWERASE, &termios::c_lflag, ICANON | IEXTEN, "VWERASE", "takes the last word of the line back"},
    SpecialKey{VKILL, &termios::c_lflag, ICANON, "VKILL", "takes the whole line back"},
    SpecialKey{VLNEXT, &termios::c_lflag, ICANON | IEXTEN, "VLNEXT", "the next byte is passed on, whatever it is"},
    SpecialKey{VSTOP, &termios::c_iflag, IXON, "VSTOP", "stops output until VSTART (Ctrl-Q)"},
    SpecialKey{VSTART, &termios::c_iflag, IXON, "VSTART", "lets output go on"},
};

/// Bytes as a person reads them: 'ls\r', at most 40 of them.
std::string quoted(std::string_view bytes) {
    constexpr std::string_view kNamed = "\r\n\t\x1B", kNames = "rnte";
    std::string text;
    for (const char c : bytes.substr(0, 40)) {
        const std::size_t named = kNamed.find(c);
        const bool is_control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
        if (named != std::string_view::npos) text.append({'\\', kNames[named]});
        else if (is_control) text.append({'^', static_cast<char>(c ^ 0x40)});
        else text += c;
    }
    return "'" + printable(text) + (bytes.size() > 40 ? "'..." : "'");
}

/// Whether a password seems to be read: the terminal edits lines and does not echo them.
bool is_secret(const termios &settings) { return (settings.c_lflag & (ICANON | ECHO)) == ICANON; }

class Narrator {
public:
    /// A pipe that poll(2) calls writable takes a whole line; a terminal may take a part, and write(2) would then
    /// wait. O_NONBLOCK belongs to the open file, which the caller shares, so the terminal is opened once more.
    void listen() {
        std::array<char, PATH_MAX> name{};
        if (::ttyname_r(STDERR_FILENO, name.data(), name.size()) == 0)
            own_.reset(close_on_exec(::open(name.data(), O_WRONLY | O_NOCTTY | O_NONBLOCK)));
        on_ = true;
    }
    [[nodiscard]] bool is_on() const { return on_; }

    /// Tells one line: the actor, what it does, and the manual page about it.
    void tell(Actor actor, const std::string &what, const std::string &page = "") {
        if (!on_) return;
        write_out();
        if (!line_.empty()) return void(++missed_);
        constexpr std::array kNames = {"shim: ", "  kernel: ", "    program: ", "      client: "};
        if (missed_ > 0) line_ = "(" + count_of(std::exchange(missed_, 0), "line") + " left out)\n";
        line_ += kNames[static_cast<std::size_t>(actor)] + what + (page.empty() ? "\n" : "  [" + page + "]\n");
        write_out();
    }
    /// What the shim does with the client behind the descriptor `socket`.
    void tell_client(int socket, const char *what, const char *page = "") {
        if (on_ && socket >= 0) tell(Actor::shim, "client " + std::to_string(socket) + " " + what, page);
    }

    /// A client has typed `bytes`.
    void typed_by(int socket, const Pty &pty, std::string_view bytes) {
        if (!on_ || bytes.empty()) return;
        look(pty);
        const std::string secret = count_of(bytes.size(), "byte") + ", a secret";
        tell(Actor::client, std::to_string(socket) + " types " + (is_secret(settings_) ? secret : quoted(bytes)));
    }

    /// Explains what the kernel did with `bytes`, which were typed and have just been written to the master, by
    /// the settings that look() saw before.
    void explain_typed(const Pty &pty, std::string_view bytes) {
        if (!on_) return;
        termios now = settings_;
        ::tcgetattr(pty.slave(), &now);
        const bool secret = is_secret(settings_) || is_secret(now);  // it may have become one in between
        std::size_t begin = 0;
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            const SpecialKey *key = special_key(static_cast<unsigned char>(bytes[i]));
            if (std::exchange(literal_, false) || key == nullptr) continue;
            explain_plain(bytes.substr(begin, i - begin), secret);
            explain_key(*key, bytes[i]);
            literal_ = key->index == VLNEXT;
            begin = i + 1;
        }
        explain_plain(bytes.substr(begin), secret);
    }

    /// Tells changes of the settings and of the foreground group since the last look.
    void look(const Pty &pty) {
        termios now;
        if (!on_ || ::tcgetattr(pty.slave(), &now) != 0) return;
        write_out();
        std::string changes;
        for (const auto &[field, flag, name, on, off] : kSettings) {
            const bool is = (now.*field & flag) != 0, was = (settings_.*field & flag) != 0;
            if (is == was) continue;
            changes += (changes.empty() ? "" : "; ") + std::string(is ? "" : "-") + name + ": " + (is ? on : off);
        }
        settings_ = now;
        const tcflag_t mode = now.c_lflag & (ICANON | ECHO | ISIG);
        const char *meaning = "";
        if ((mode & ICANON) != 0) meaning = (mode & ECHO) != 0 ? " (a usual terminal)" : " (a password?)";
        else if (mode == 0) meaning = " (raw: an editor)";
        else if (mode == ISIG) meaning = " (a shell's own line editing?)";
        if (!changes.empty())
            tell(Actor::program, "changes the terminal's settings: " + changes + meaning, "tcsetattr(3)");
        const pid_t group = ::tcgetpgrp(pty.master()), before = foreground_;
        if (group <= 0 || group == before) return;
        foreground_ = group;
        const char *how = before < 0 ? ", its own, is in the foreground" : " is in the foreground now";
        tell(Actor::program, "process group " + std::to_string(group) + how +
                                 ": only that may read, and Ctrl-C is for it", "tcsetpgrp(3), credentials(7)");
    }

    /// The terminal has been made; changes are told against the settings that it has now.
    void know_terminal(const Pty &pty) {
        std::array<char, PATH_MAX> name{};
        ::ttyname_r(pty.slave(), name.data(), name.size());
        tell(Actor::shim, "makes a pseudoterminal: two ends with a line discipline between them; the master is "
                          "descriptor " + std::to_string(pty.master()) + ", the slave is " + name.data(),
             "openpty(3), pty(7)");
        ::tcgetattr(pty.slave(), &settings_);
    }

private:
    void write_out() {
        pollfd ready{.fd = own_ ? own_.get() : STDERR_FILENO, .events = POLLOUT, .revents = 0};
        if (line_.empty() || ::poll(&ready, 1, 0) != 1) return;
        const ssize_t n = ::write(ready.fd, line_.data(), line_.size());
        if (n > 0) line_.erase(0, static_cast<std::size_t>(n));
    }

    /// The special key that this byte is to the line discipline; null for most bytes.
    [[nodiscard]] const SpecialKey *special_key(unsigned char byte) const {
        for (const SpecialKey &key : kSpecialKeys) {
            const bool on = (settings_.*key.field & key.flag) == key.flag;
            if (on && settings_.c_cc[key.index] == byte && byte != static_cast<unsigned char>(_POSIX_VDISABLE))
                return &key;
        }
        return nullptr;
    }

    void explain_key(const SpecialKey &key, char byte) {
        std::string text = quoted({&byte, 1}) + " is " + key.name + ": " + key.what;
        const bool is_signal = key.flag == ISIG;
        if (is_signal) {
            text += " to process group " + std::to_string(foreground_) +
                    ", the one in the foreground; no byte is passed on";
            if ((settings_.c_lflag & NOFLSH) == 0) text += ", and what is unread is thrown away (no NOFLSH)";
        }
        tell(Actor::kernel, text, is_signal ? "termios(3), signal(7)" : "termios(3)");
    }

    void explain_plain(std::string_view bytes, bool secret) {
        const bool lines = (settings_.c_lflag & ICANON) != 0, echo = (settings_.c_lflag & ECHO) != 0;
        const std::size_t end = bytes.find_last_of((settings_.c_iflag & ICRNL) != 0 ? "\r\n" : "\n") + 1;
        const bool ends = lines && end > 0;
        const std::string_view part = bytes.substr(0, ends ? end : bytes.size());
        if (part.empty()) return;
        std::string text = secret ? count_of(part.size(), "secret byte") : quoted(part);
        text += echo ? ": echoed, so the master gives it back (ECHO)" : ": not echoed (no ECHO)";
        if (!lines) text += ", and passed on at once (no ICANON)";
        else if (ends) text += ", and the line is complete: the program may read it (ICANON)";
        else text += ", and kept until Enter (ICANON)";
        tell(Actor::kernel, text, "termios(3)");
        explain_plain(bytes.substr(part.size()), secret);
    }

    bool on_ = false;
    Fd own_;                  // standard error, when it is a terminal, opened anew with O_NONBLOCK
    std::string line_;        // the rest of a line, which standard error has not taken yet
    std::size_t missed_ = 0;  // lines that were left out
    bool literal_ = false;    // VLNEXT was typed
    termios settings_{};      // as last seen
    pid_t foreground_ = -1;
};

// ----------------------------------------------------------------------------------------------------------------
// 11. The session and its loop
//
// Only pselect(2) waits: the master is O_NONBLOCK, and each call on a socket has MSG_DONTWAIT. (poll(2) and
// epoll(7) would do as well. The original used select(2); it is the same on all systems, and fast enough for some
// dozens of descriptors. Its bound, FD_SETSIZE, is checked where clients come in.)
//
// Signals are blocked except inside pselect(2), whose mask lets them in: their handlers set flags, and the loop
// looks at the flags when pselect(2) returns. With plain select(2), a signal between the look and the call would
// be forgotten until something else wakes the loop (select(2), 'The self-pipe trick'); pselect(2) changes the mask
// and waits in one step (POSIX).
//
// Both directions are bounded. While the program's terminal takes no input, the clients are not read; while the
// client that paces the program is kPaceBytes behind, the master is not read. Neither direction waits for the
// other. Otherwise a large paste into a program that waits for its output to be taken would be a deadlock.
// ----------------------------------------------------------------------------------------------------------------

struct Options {
    std::string self;            // argv[0]
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
    bool quiet = false;
    bool explain = false;
    seconds grace{10};                      // between the request to end and SIGKILL
    bool allow_remote = false;
};

constexpr int kTurnPieces = 15;       // the most reads of a turn: 64 KiB would be two segments over loopback
constexpr ssize_t kShortPiece = 128;  // bytes; a shorter read is the last one of its turn
constexpr milliseconds kTurnTime{2};  // a turn that has read for so long reads no more
constexpr std::uint64_t kPaceBytes = 256 << 10;  // how far the program may be ahead of the client that paces it
constexpr milliseconds kFarewellTick{10};        // at the end: between two looks whether a client has everything
constexpr milliseconds kCutGrace{100};           // how long the first bytes of a cut character are kept back
constexpr int kAcceptFew = 64;                   // new clients in one turn, which the others wait for
constexpr milliseconds kLookTick{50};            // with --explain: between two looks at the terminal
constexpr seconds kAcceptPause{1};               // after accept(2) failed for want of a resource
constexpr seconds kReapGrace{2};                 // after SIGKILL; then the session ends without the program
constexpr seconds kOverGrace{5};                 // after the grace; then clients that are owed bytes are dropped
constexpr std::size_t kToldCommand = 8 << 10;    // bytes of the command in the reply to a *tell*; each may take 4
constexpr seconds kDismissGrace{1};              // for a dismissed client to take its last words
constexpr std::size_t kInputBytes = 64 << 10;    // typed and not yet taken by the terminal; then clients wait
constexpr std::size_t kInputMost = 1 << 20;      // the same, with the last bytes of clients that have left
constexpr std::size_t kDrainBytes = 256 << 10;   // read after the exit: more than a kernel's buffer holds

constexpr std::array kHandled = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

struct SignalFlags {
    volatile std::sig_atomic_t child, end, hang_up, mark, renew;
} g_signals;

extern "C" void note_signal(int number) {
    if (number == SIGCHLD) g_signals.child = 1;
    else if (number == SIGUSR1) g_signals.mark = 1;
    else if (number == SIGUSR2) g_signals.renew = 1;
    else if (number == SIGHUP) g_signals.hang_up = 1;
    else g_signals.end = number;
}

/// Blocks the signals that we handle, so that they arrive inside pselect(2) alone. Gives the mask for pselect(2).
sigset_t block_signals() {
    sigset_t ours, inside;
    sigemptyset(&ours);
    for (const int number : kHandled) sigaddset(&ours, number);
    ::sigprocmask(SIG_BLOCK, &ours, nullptr);
    sigemptyset(&inside);
    struct sigaction action{};
    action.sa_handler = note_signal;
    action.sa_flags = SA_NOCLDSTOP;  // no SIGCHLD for a child that only stops (Ctrl-Z)
    for (const int number : kHandled) ::sigaction(number, &action, nullptr);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &action, nullptr);  // send(2) to a client that has gone gives an error instead
    ::sigaction(SIGXFSZ, &action, nullptr);  // write(2) at the file size limit gives an error instead
    return inside;
}

/// Lets the handlers of pending signals run. pselect(2) on Linux does so only when it sleeps: while a descriptor
/// is always ready, no signal would ever come through.
void let_signals_in(const sigset_t &inside) {
    sigset_t before;
    ::sigprocmask(SIG_SETMASK, &inside, &before);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

/// The time from now until `when`, for pselect(2); zero when that is past.
timespec time_until(Clock::time_point when) {
    const auto left = std::max<std::chrono::nanoseconds>(when - Clock::now(), {});
    const auto whole = std::chrono::duration_cast<seconds>(left);
    return {.tv_sec = static_cast<time_t>(whole.count()), .tv_nsec = static_cast<long>((left - whole).count())};
}

/// The times at which something is due; none: not pending.
struct Timers {
    using When = std::optional<Clock::time_point>;
    When cut;      // to publish a cut character as it is
    When accept;   // to let clients in again
    When kill;     // to kill the program, after a request to end
    When give_up;  // to end the session without the end of a program that was killed
    When over;     // to drop clients that are still owed something, after a request to end
    When look;     // to look at clients and at the helper, for what no descriptor tells

    [[nodiscard]] static bool due(const When &when, Clock::time_point now) { return when && now >= *when; }
    /// The earliest of them; none while nothing is pending: then an idle shim sleeps.
    [[nodiscard]] When next() const {
        When first;
        for (const When &when : {cut, accept, kill, give_up, over, look})
            if (when && (!first || *when < *first)) first = when;
        return first;
    }
};

class Session {
public:
    // Starting, in section 13.
    /// Does everything that can fail, up to the exec of the program. Gives 0, or with a message an exit status;
    /// then nothing that was made stays. `caller`: a socket whose other end the caller of this command has, or -1.
    int start(const Options &options, int caller);
    /// The line that tells the caller that all is well.
    [[nodiscard]] std::string readiness() const;
    /// Called before run(): the output goes to standard output, too, from its first byte on. False with a message.
    bool copy_output();
    /// Called instead of run(): ends the program; then nothing that was made stays.
    void abandon() { pty_.signal(SIGKILL); }

    /// Runs to the end of the session; gives the program's ending.
    Ending run() {
        recorder_.keep();
        if (phase_ == Phase::running) leave_folder();
        while (phase_ != Phase::farewell || !clients_.empty() || copier_ > 0) {
            // Build the sets: which descriptors we read from, and which have bytes waiting for room.
            fd_set readable, writable;
            const int highest = build_sets(readable, writable);

            // Wait: until one of them is ready, a signal comes, or something is due.
            const auto wake = timers_.next();
            const timespec timeout = wake ? time_until(*wake) : timespec{};
            const timespec *most = wake ? &timeout : nullptr;
            const int ready = ::pselect(highest + 1, &readable, &writable, nullptr, most, &inside_);
            if (ready > 0) let_signals_in(inside_);
            if (ready <= 0) {  // then pselect(2) leaves the sets undefined
                FD_ZERO(&readable);
                FD_ZERO(&writable);
            }
            const Clock::duration turn = Clock::now() - std::exchange(now_, Clock::now());

            // Dispatch: signals, what is due, clients -> program, new clients, program -> recording and ring. In
            // this order: the hello of an older client comes before that of a new one, and a client that has
            // connected before the program printed gets that as live bytes.
            handle_signals();
            handle_timers(turn);
            // NOLINTNEXTLINE(modernize-loop-convert): an *end* of a waiting session lets clients in, and they grow
            for (std::size_t i = 0; i < clients_.size(); ++i)
                if (clients_[i].is_open() && FD_ISSET(clients_[i].fd(), &readable)) read_client(clients_[i]);
            for (Listener *listener : {&listener_, &view_listener_})
                if (listener->is_open() && FD_ISSET(listener->fd(), &readable)) accept_from(*listener, kAcceptFew);
            write_input();
            if (is_running() && FD_ISSET(pty_.master(), &readable)) read_master();
            recorder_.commit();  // before any client gets a byte of it

            // Flush: the past moves on, and each client is sent as much as it has room for. Clients that are gone
            // are erased only here, as loops over the clients run everywhere else.
            if (past_.is_running() && past_.fd() >= 0 && FD_ISSET(past_.fd(), &readable)) hear_helper();
            for (Client &client : clients_)
                if (client.is_open() && (!client.is_blocked() || FD_ISSET(client.fd(), &writable))) serve(client);
            ask_helper();
            const auto is_gone = [](const Client &client) { return !client.is_open(); };
            if (std::erase_if(clients_, is_gone) > 0) follow_window();
            set_look_timer();
        }
        past_.stop();
        return ending_;
    }

private:
    enum class Phase { waiting, running, farewell };
    using Output = Client::Output;

    [[nodiscard]] bool is_running() const { return phase_ == Phase::running && pty_.is_open(); }
    [[nodiscard]] bool is_over() const { return phase_ == Phase::farewell; }

    // --- the loop's paragraphs ---

    /// Fills the sets for select(2), and gives the highest descriptor in them.
    int build_sets(fd_set &readable, fd_set &writable) {
        int highest = -1;
        const auto watch = [&highest](fd_set &set, int fd) {
            FD_SET(fd, &set);  // below FD_SETSIZE, as accept_from() ensures: else this would write beside the set
            highest = std::max(highest, fd);
        };
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        const bool waits = is_running() && must_wait();
        tell_pace(waits);
        if (is_running() && !waits) watch(readable, pty_.master());
        if (is_running() && !input_.empty()) watch(writable, pty_.master());
        for (const Listener *listener : {&listener_, &view_listener_})
            if (listener->is_open() && !timers_.accept) watch(readable, listener->fd());
        if (past_.is_running()) watch(readable, past_.fd());
        for (const Client &client : clients_) {
            if (is_heard(client)) watch(readable, client.fd());
            if (client.is_blocked()) watch(writable, client.fd());
        }
        return highest;
    }

    /// Whether the client's socket is read now: not while there is no room for its typed bytes.
    [[nodiscard]] bool is_heard(const Client &client) const {
        if (client.input() == Client::Input::ended) return false;
        return is_over() || !client.is_typing() || (client.has_room_for_input() && input_.size() < kInputMost);
    }

    void handle_signals() {
        if (std::exchange(g_signals.mark, 0) != 0 && !is_over()) recorder_.event('m', "");
        if (std::exchange(g_signals.renew, 0) != 0) renew_sockets();
        if (std::exchange(g_signals.child, 0) != 0) reap();
        if (std::exchange(g_signals.hang_up, 0) != 0) hang_up();
        if (const int number = std::exchange(g_signals.end, 0); number != 0) end(number);
        if (phase_ == Phase::running) narrator_.look(pty_);
    }

    /// Does what is due by the clock. `turn`: how long the last turn took, its wait included.
    void handle_timers(Clock::duration turn) {
        const auto take = [this](Timers::When &when) {
            return Timers::due(when, now_) && std::exchange(when, std::nullopt);
        };
        if (take(timers_.cut)) publish_reading(true);
        take(timers_.accept);
        if (take(timers_.kill)) kill_program();
        if (take(timers_.give_up)) program_ended({.signal = SIGKILL});
        if (take(timers_.over)) drop_all();
        take(timers_.look);
        if (Timers::due(start_time(), now_)) start_program();
        if (past_.is_stuck_after(turn)) {
            narrator_.tell(Actor::shim, "ends the helper, which does not answer", "kill(2)");
            past_.stop();
            lose_helper();
        }
        for (Client &client : clients_)
            if (client.is_open()) look_at(client);
    }

    /// Looks for what no descriptor tells: that the client takes something, slowly; that it has gone while its
    /// input waits; that its first bytes are no hello.
    void look_at(Client &client) {
        if (Timers::due(client.settles_at(), now_)) settle(client);
        const bool leaves = client.is(Output::leaving) || is_over();
        const bool waits = client.is_blocked() || !is_heard(client);
        if (!leaves && !(waits && now_ >= client.look_due())) return;
        client.look_at_progress(now_);
        if (leaves && (client.is_delivered() || client.is_stuck(now_))) return drop(client);
        if (client.is_typing() && !is_heard(client) && gate_.has_left(client.fd())) {
            client.go_deaf(now_);  // what it sent is still read
            follow_window();
        }
    }

    /// Sets the time at which the loop turns though nothing happens.
    void set_look_timer() {
        timers_.look.reset();
        const auto look_at = [this](Clock::time_point when) {
            timers_.look = std::min(when, timers_.look.value_or(when));
        };
        if (past_.is_asked()) look_at(now_ + kHelperTurn);
        if (narrator_.is_on()) look_at(now_ + kLookTick);
        if (const auto start = start_time()) look_at(*start);
        const bool waits = is_running() && must_wait();
        for (const Client &client : clients_) {
            if (client.is(Output::undecided)) look_at(std::max(client.known_at(), now_));
            if (const auto when = client.settles_at()) look_at(*when);
            if (client.is(Output::leaving) || is_over()) look_at(now_ + kFarewellTick);
            const bool holds_up = waits && (paces(client) || client.is(Output::asked));
            if (holds_up || (client.is_typing() && !is_heard(client))) look_at(now_ + kPaceGrace);
            if (client.is(Output::asked) && !past_.is_running()) look_at(past_.next_start(now_));
        }
    }

    // --- output: program -> recording and ring ---

    /// A turn of output: reads and publishes piece by piece; then the recording gets all of it with one write(2),
    /// and each client with one sendmsg(2).
    ///
    /// A read of the master gives at most 4,095 bytes: the line discipline's buffer holds 4,096, and the last
    /// place is kept for the end of a line (n_tty.c in the kernel). A kernel worker fills the buffer. It does so
    /// while we are busy with the last piece, so in a flood no read has to wait. A read that finds the buffer
    /// empty waits for the worker, which costs more than it brings: so a short piece, such as an echo, goes out by
    /// itself.
    ///
    /// False when there was nothing to read; errno tells why.
    bool read_master() {
        const auto until = Clock::now() + kTurnTime;
        for (int pieces = 0; pieces < kTurnPieces; ++pieces) {
            const ssize_t n = reading_.read_from(pty_.master());
            if (n <= 0) return pieces > 0;
            publish_reading(false);
            if (n < kShortPiece || Clock::now() > until) break;
        }
        return true;
    }

    /// Publishes the bytes read; a cut character waits for its rest, unless `all`.
    void publish_reading(bool all) {
        publish(reading_.ready(all));
        reading_.drop_ready(all);
        timers_.cut.reset();
        if (reading_.has_cut_character()) timers_.cut = now_ + kCutGrace;
    }

    /// All output goes this way, into the recording and into the ring.
    void publish(std::string_view bytes) {
        if (bytes.empty()) return;
        recorder_.output(bytes);
        ring_.append(bytes);
        if (!narrator_.is_on()) return;
        const std::string then = recorder_.file() >= 0 ? "records it, then shows it to " : "shows it to ";
        narrator_.tell(Actor::shim, "reads " + quoted(bytes) + " (" + count_of(bytes.size(), "byte") +
                                        ") from the master, " + then + count_of(clients_.size(), "client"));
    }

    /// Reads and publishes the output that the terminal still holds, except a cut character at its end. Gives
    /// errno of the last read. Bounded by kDrainBytes, as a grandchild may print for ever.
    int drain() {
        for (const std::uint64_t end = ring_.head() + kDrainBytes; ring_.head() < end;) {
            errno = 0;  // stays 0 at the end of file
            if (!read_master()) return errno;
        }
        return EAGAIN;
    }

    // --- pace: how fast the program may print ---

    /// Whether a helper can give the output's bytes from `position` on, now or later.
    [[nodiscard]] bool can_give_bytes(std::uint64_t position) const {
        return past_.can_ever_run() && recorder_.holds_from(position);
    }

    /// Whether a helper could bring the client up if it fell out of the ring now.
    [[nodiscard]] bool can_bring_up(const Client &client) const {
        if (!client.has_terminal()) return can_give_bytes(ring_.oldest());
        return past_.can_ever_run() && recorder_.start_of_stream();
    }

    /// Whether this client paces the program: it may type, and takes what it is sent. Standard output paces it,
    /// too; when no helper could bring it up, the program waits for standard output as in a pipeline.
    [[nodiscard]] bool paces(const Client &client) const {
        const bool is_copy = client.is_a(Purpose::copy);
        if (!client.is(Output::live) && !client.is(Output::past)) return false;
        if (!client.is_typing() && !is_copy) return false;
        if (is_copy && !can_bring_up(client)) return true;
        const bool is_owed = client.is_blocked() || client.cursor() < ring_.oldest();
        return !is_owed || client.makes_progress(now_);
    }

    /// The position that paces the program: that of the fastest client, as the helper can bring up the others; or
    /// that of the slowest client that it cannot bring up. None: no client paces the program.
    [[nodiscard]] std::optional<std::uint64_t> pace_position() const {
        std::optional<std::uint64_t> fastest, slowest;
        for (const Client &client : clients_) {
            if (!paces(client)) continue;
            fastest = std::max(client.cursor(), fastest.value_or(0));
            if (!can_bring_up(client)) slowest = std::min(client.cursor(), slowest.value_or(client.cursor()));
        }
        return slowest ? slowest : fastest;
    }

    /// Whether the program must wait: for its clients; for a paint that a terminal waits for, a second at most; or
    /// for the model, when the tail has grown too large.
    [[nodiscard]] bool must_wait() const {
        for (const Client &client : clients_)
            if (client.is(Output::asked) && client.has_terminal() && client.is_typing() &&
                now_ - client.asked_since() < kPaceGrace)
                return true;
        if (recorder_.tail_bytes() > kTailMost && past_.is_running()) return true;
        const auto position = pace_position();
        return position && ring_.head() - *position > kPaceBytes;
    }

    void tell_pace(bool waits) {
        if (std::exchange(told_pace_, waits) == waits) return;
        const char *what = "reads the master again: a client that takes nothing for a second paces nobody";
        if (waits) what = "reads the master no more while the client that paces the program is behind: when the "
                          "kernel's buffer is full, the program's write(2) waits";
        else if (pace_position()) what = "reads the master again: the client has caught up";
        narrator_.tell(Actor::shim, what, "pty(7)");
    }

    // --- output: ring -> clients ---

    /// Moves the client's output on, as far as its socket takes it now.
    void serve(Client &client) {
        if (client.is(Output::undecided)) decide(client);
        if (client.has_fallen_out(ring_)) ask_again(client);
        client.send(ring_, now_);
        if (client.has_fallen_out(ring_)) ask_again(client);
        if (client.is(Output::deaf) && (client.input() == Client::Input::ended || is_over())) return drop(client);
        const bool done = client.has_all(ring_.head()) && now_ >= client.known_at() && !awaits_rest(client);
        if (is_over() && done) say_goodbye(client);
    }

    /// The client's first state, once its purpose is settled. A terminal is painted; a pipe or a file, for which
    /// every byte counts, gets the last bytes as they were. A client that came before the first byte needs
    /// nothing.
    void decide(Client &client) {
        const std::uint64_t at = client.cursor();
        const bool knows_all = at == 0 && !client.had_bytes();
        if (knows_all || options_.history == 0) return client.go_live(at, now_);
        if (now_ < client.known_at()) return;
        if (client.has_terminal()) return ask_for_paint(client);
        if (client.had_bytes()) return client.go_live(at, now_);
        const std::uint64_t first = at - std::min(options_.history, at);
        if (first >= ring_.oldest() || !can_give_bytes(first)) return client.go_live(start_in_ring(at), now_);
        client.begin_at_line(first);
        client.ask(0, now_);
    }

    /// The client has fallen out of the ring. A terminal is painted, because its user wants to see the present; a
    /// pipe gets the bytes that it has missed. When the file does not hold them, they are lost, and the pipe is
    /// dropped.
    void ask_again(Client &client) {
        if (client.has_terminal()) return ask_for_paint(client);
        if (can_give_bytes(client.cursor())) {
            narrator_.tell_client(client.fd(),
                                  "needs bytes that have left the ring: the helper reads them in the file");
            return client.ask(0, now_);
        }
        narrator_.tell_client(client.fd(), "has missed bytes that nothing holds any more");
        drop(client);
    }

    void ask_for_paint(Client &client) {
        if (!past_.can_run_now(now_, is_over()) || !past_.knows_enough(recorder_))
            return client.go_live(start_in_ring(ring_.head()), now_);
        narrator_.tell_client(client.fd(), "is to see a past on its terminal: the helper paints it");
        client.ask(recorder_.end_of_stream().offset, now_);
    }

    /// The first of the ring's bytes that a client is sent which goes on at `position`.
    [[nodiscard]] std::uint64_t start_in_ring(std::uint64_t position) const {
        return ring_.line_start(position, options_.history);
    }

    /// Whether a push is still to be read to its end: its bytes may be what ended the program. We wait for 1 s.
    [[nodiscard]] bool awaits_rest(const Client &client) const {
        return client.is_a(Purpose::push) && client.is_typing() && client.makes_progress(now_);
    }

    void say_goodbye(Client &client) {
        const std::array<char, 5> goodbye = {'\xFF', '\xFF', 'x', 'x', static_cast<char>(ending_.status())};
        const std::size_t length = client.wants_goodbye() ? goodbye.size() : 0;
        narrator_.tell_client(client.fd(), "has had everything: goodbye", "shutdown(2)");
        client.leave({goodbye.data(), length}, now_);
        client.send(ring_, now_);
    }

    // --- the past ---

    /// Asks the helper the next question, when it has answered the last one: first for a paint that can be made
    /// now, then to read on, then for the next pipe.
    void ask_helper() {
        if (past_.is_asked()) return;
        Client *terminal = nullptr, *pipe = nullptr;
        for (Client &client : clients_) {
            if (!client.is(Output::asked)) continue;
            if (client.has_terminal()) {
                if (terminal == nullptr || client.asked_at() < terminal->asked_at()) terminal = &client;
            } else if (pipe == nullptr || (pipe->id() <= last_pipe_ && client.id() > last_pipe_)) {
                pipe = &client;  // the next pipe after the last one that was asked for; else the first
            }
        }
        const bool reads_on = past_.is_running() && (past_.behind(recorder_) >= kReadAhead ||
                                                     recorder_.tail_bytes() >= kMostBehind);
        const bool starts = recorder_.end_of_stream().offset >= kMostBehind && recorder_.start_of_stream();
        if (terminal == nullptr && pipe == nullptr && !reads_on && (past_.is_running() || !starts)) return;
        if (!past_.is_running() && !start_helper()) return;
        if (terminal != nullptr && !past_.knows_enough(recorder_)) return lose_helper();
        if (recorder_.tail_bytes() > kTailKept && past_.behind(recorder_) == 0) recorder_.clear_tail();
        const bool has_room = !past_.is_full();
        const auto model = past_.model();
        // In a flood, the place of the paint may have left the ring when it comes: then the terminal is painted
        // again.
        const bool can_paint = terminal != nullptr && model && model->offset >= terminal->asked_at();
        const bool behind = past_.behind(recorder_) > 0;
        if (can_paint) {
            if (has_room) past_.ask_paint(terminal->had_bytes() ? 0 : options_.history, terminal->had_bytes());
        } else if (recorder_.start_of_stream() && behind && (terminal != nullptr || reads_on)) {
            past_.ask_read(recorder_);
        } else if (pipe != nullptr && has_room) {
            last_pipe_ = pipe->id();
            const auto from = recorder_.to_file(pipe->cursor());
            const std::uint64_t to = recorder_.output_in_file();
            if (!from || *from >= to) {  // its next byte is lost: the disk was full
                drop(*pipe);
                return ask_helper();
            }
            past_.ask_bytes(pipe->id(), *from, to);
        }
        if (!past_.is_running()) lose_helper();  // it has died before it could be asked
    }

    /// False when no helper can be had now: then terminals get the ring's bytes, and pipes wait for the next one.
    bool start_helper() {
        const bool available = past_.can_run_now(now_, is_over());
        if (available && past_.start(recorder_, first_window_, pty_.size(), now_)) return true;
        lose_helper();
        return false;
    }

    /// No helper runs, perhaps for a minute: what clients get that wait for one.
    void lose_helper() {
        for (Client &client : clients_) {
            if (!client.is(Output::asked)) continue;
            if (client.has_terminal()) client.go_live(start_in_ring(ring_.head()), now_);
            else if (is_over() || !can_give_bytes(client.cursor())) drop(client);
            client.send(ring_, now_);  // in this turn: nothing else may happen for long
        }
        if (recorder_.tail_bytes() > kTailMost) recorder_.clear_tail();
    }

    /// Takes the helper's answer. A paint is for all terminals that wait for one of its kind.
    void hear_helper() {
        const auto answer = past_.receive();
        if (!past_.is_running()) return lose_helper();
        if (!answer) return;
        const PastMessage &head = answer->head;
        const PastMessage &question = past_.question();
        if (head.kind == PastKind::cannot && question.kind != PastKind::bytes) {
            narrator_.tell(Actor::shim, "cannot have the past read: terminals get the last bytes as they were");
            past_.give_up();
            return lose_helper();
        }
        for (Client &client : clients_) {
            if (!client.is(Output::asked)) continue;
            if (question.kind == PastKind::paint) {
                const bool fits = client.has_terminal() && client.had_bytes() == (question.to != 0);
                if (fits && client.asked_at() <= past_.model()->offset)
                    client.give_past(answer->bytes, past_.model()->position, now_);
            } else if (question.kind == PastKind::bytes && client.id() == question.client) {
                if (head.kind == PastKind::cannot) drop(client);
                else if (head.length > 0) client.give_past(answer->bytes, client.cursor() + head.length, now_);
            }
        }
    }

    // --- input: clients -> program ---

    /// Reads from the client, even while the input queue is full: its hello, a new size and its end are news at
    /// any time. Typed bytes wait in Client, and when there are too many of them, in the socket.
    void read_client(Client &client) {
        std::vector<Said> said;
        const Purpose before = client.purpose();
        const ssize_t n = client.receive(said, now_);
        if (n < 0 && would_block()) return;
        if (n < 0) return drop(client);
        if (n == 0) return hear_end(client);
        hear(client, said);
        if (client.purpose() != before) hear_purpose(client);
    }

    /// The client's purpose is known now. One that wants something from the session gets it at once; a viewer's
    /// wish is refused.
    void hear_purpose(Client &client) {
        if (client.is(Output::leaving)) return;
        const bool only_looks = client.shows_output() || client.is_a(Purpose::tell);
        if (client.is_a(Purpose::foreign) || (client.is_viewer() && !only_looks)) return drop(client);
        if (client.counts()) return;
        client.discard_input();
        if (client.is_a(Purpose::tell)) client.leave(description(), now_, kTakesNothing);
        if (client.is_a(Purpose::alone)) dismiss_others(client);
        if (!client.is_a(Purpose::end)) return;
        client.acknowledge();
        end(SIGTERM);
    }

    /// Obeys what the client has said, in its order.
    void hear(Client &client, const std::vector<Said> &said) {
        if (is_over() && !said.empty()) client.discard_input();  // no program is there to take it
        const bool heard = client.is_typing();
        for (const Said &one : said) {
            if (one.kind == Said::Kind::window) hear_window(client, one.window);
            if (!heard || one.kind == Said::Kind::window) continue;
            if (one.kind == Said::Kind::typed) {
                narrator_.typed_by(client.fd(), pty_, one.bytes);
                client.set_active(++activity_);
            }
            // A program that asks gets one answer, the leader's, however many terminals there are.
            if (one.kind == Said::Kind::answer && leader() != &client) continue;
            client.keep_typed(one.bytes);
        }
        follow_window();
    }

    /// The first bytes of the client are no hello: they are typed.
    void settle(Client &client) {
        std::vector<Said> said;
        client.settle(said);
        hear(client, said);
    }

    /// A client whose window has the program's rows and columns takes over the pixels, too: so the program notices
    /// nothing.
    void hear_window(Client &client, const winsize &window) {
        if (!client.is_typing() || client.is(Output::deaf)) return;
        const bool comes = client.window().ws_row == 0, same = same_grid(window, pty_.size());
        narrator_.tell(Actor::client, std::to_string(client.fd()) + " has a window of " + to_text(window) +
                                          (same ? ", as the terminal has: the program is not disturbed" : ""));
        client.set_window(comes && same ? pty_.size() : window);
        client.set_active(++activity_);
        follow_window();
    }

    /// The client sends nothing more. Its typed bytes go to the queue even when that is full, because the client
    /// may have left. A push gets its reply: all of it is here.
    void hear_end(Client &client) {
        const bool left = client.is(Output::deaf) || gate_.has_left(client.fd());
        if (!left || !client.has_cut_message()) settle(client);  // (else its half message was not typed)
        queue_typed(client);
        const bool taken = client.is_a(Purpose::push) && client.is_typing();
        client.end_input();
        follow_window();
        if (taken) client.acknowledge();
        if (left || client.is_a(Purpose::push)) drop(client);
    }

    /// While the queue has room, the clients' typed bytes go there, a read of each client in turn: a paste from
    /// one does not keep out the Ctrl-C of another. The master takes as many bytes as the terminal has room for.
    /// While the terminal edits lines (ICANON), the kernel takes all of them, and keeps 4,095 bytes of a line and
    /// its end (termios(3)).
    void write_input() {
        const auto queue_all = [this] {
            if (input_.size() >= kInputBytes) return;
            for (Client &client : clients_) queue_typed(client);
        };
        queue_all();
        if (input_.empty() || phase_ != Phase::running) return;
        narrator_.look(pty_);  // at the settings before the write: the program may answer the bytes with others
        const ssize_t n = ::write(pty_.master(), input_.data(), input_.size());
        if (n > 0) {
            narrator_.explain_typed(pty_, std::string_view(input_).substr(0, static_cast<std::size_t>(n)));
            input_.erase(0, static_cast<std::size_t>(n));
        }
        queue_all();  // again: while the queue is empty, select(2) does not watch the master for room
    }

    /// Moves the client's typed bytes into the queue for the program, and with --record-input into the recording,
    /// except a password: bytes that the terminal does not echo.
    void queue_typed(Client &client) {
        if (!client.has_typed()) return;
        const std::string typed = client.take_typed();
        if (options_.record_input && pty_.echoes()) recorder_.event('i', typed);
        input_ += typed;
    }

    // --- the window ---

    /// The client whose window is the program's: the client that was active last.
    [[nodiscard]] const Client *leader() const {
        const Client *leader = nullptr;
        for (const Client &client : clients_)
            if (client.can_lead())
                if (leader == nullptr || client.activity() > leader->activity()) leader = &client;
        return leader;
    }

    /// Gives the program the leader's window. At another size, the kernel sends SIGWINCH. That is input to the
    /// program (some end, run a command, or take it for a key), so the size is only set when it differs.
    void follow_window() {
        const Client *first = leader();
        if (first == nullptr || is_over() || same_window(first->window(), pty_.size())) return;
        if (!same_grid(first->window(), pty_.size())) {
            recorder_.event('r', to_text(first->window()));
            for (Client &client : clients_)  // the paint that they wait for must show the new size
                if (client.is(Output::asked) && client.has_terminal())
                    client.ask_behind(recorder_.end_of_stream().offset);
        }
        pty_.resize(first->window());
        narrator_.tell(Actor::shim, "sets the window to " + to_text(pty_.size()), "TIOCSWINSZ, ioctl_tty(2)");
        const pid_t group = ::tcgetpgrp(pty_.master());
        const std::string text = "it was another size: SIGWINCH to process group " + std::to_string(group) +
                                 ", the one in the foreground";
        narrator_.tell(Actor::kernel, group > 0 ? text : "nobody is in the foreground yet: no SIGWINCH",
                       "ioctl_tty(2), signal(7)");
    }

    // --- clients come and go ---

    /// Accepts waiting clients, `most` of them. A client is refused at once when select(2) could not hold its
    /// descriptor; or, with the help of the spare descriptor, when none is free.
    void accept_from(const Listener &listener, int most) {
        sweep_those_who_left();
        for (int i = 0; i < most; ++i) {
            Fd socket(close_on_exec(::accept(listener.fd(), nullptr, nullptr)));
            if (!socket && errno == EMFILE) {
                spare_.reset();
                spare_.reset(::accept(listener.fd(), nullptr, nullptr));  // refused, as it is closed at once:
                spare_.reset();
                spare_.reset(close_on_exec(::open("/dev/null", O_RDONLY)));
                if (spare_) continue;
            }
            if (!socket && (errno == ECONNABORTED || errno == EINTR)) continue;
            if (!socket && !would_block()) timers_.accept = now_ + kAcceptPause;
            if (!socket) return;
            const Peer peer = gate_.peer_of(socket.get());
            const bool admitted = socket.get() < FD_SETSIZE && peer.is_admitted;
            tell_arrival(socket.get(), peer, admitted);
            if (!admitted) continue;
            clients_.emplace_back(++last_id_, std::move(socket), &listener == &view_listener_, ring_.head(), now_);
            read_client(clients_.back());  // a hello that is already there, before anything is decided
        }
    }

    void tell_arrival(int socket, const Peer &peer, bool admitted) {
        const char *verdict = admitted ? "let in" : "sent away, for only this user and root may come in";
        narrator_.tell(Actor::client,
                       std::to_string(socket) + " connects: so the shim calls it, by its descriptor", "accept(2)");
        narrator_.tell(Actor::shim, "asks the kernel who that is: " + peer.text + ": " + verdict, peer.question);
    }

    /// SIGUSR2. Clients that wait at an old socket are let in first, as it will not be listened at any more.
    void renew_sockets() {
        for (Listener *listener : {&listener_, &view_listener_}) {
            if (!listener->is_open()) continue;
            accept_from(*listener, SOMAXCONN);
            listener->renew();
        }
    }

    /// Drops clients that shut down their sending side and then left altogether. select(2) shows both alike until
    /// we send, so they are looked for when another client comes.
    void sweep_those_who_left() {
        for (Client &client : clients_) {
            if (!client.is_open() || client.input() != Client::Input::ended) continue;
            if (gate_.has_left(client.fd())) drop(client);
        }
    }

    /// *alone*: the other clients with a window are told to go.
    void dismiss_others(Client &asker) {
        for (Client &client : clients_) {
            if (!client.is_open() || !client.is_a(Purpose::window) || client.is(Output::leaving)) continue;
            queue_typed(client);
            client.discard_input();
            client.leave(std::string(kDismissed), now_, kDismissGrace);
        }
        follow_window();
        asker.leave(std::string(kTaken), now_, kDismissGrace);
    }

    /// *tell*: what this session is.
    [[nodiscard]] std::string description() const {
        std::array<char, 256> host{};
        ::gethostname(host.data(), host.size() - 1);
        const auto count = std::count_if(clients_.begin(), clients_.end(), [this](const Client &client) {
            return client.counts() && now_ >= client.known_at();
        });
        const std::string &name = is_session_name(listener_.name()) ? listener_.name() : listener_.address();
        std::string text = "name: " + printable(name) + "\npid: " + std::to_string(::getpid()) +
                           "\nsince: " + std::to_string(since_) +
                           "\ncommand: " + printable(command_.substr(0, kToldCommand)) +
                           "\nrecording: " + printable(recorder_.path()) + "\nsize: " + to_text(pty_.size()) +
                           "\nclients: " + std::to_string(count) + "\nhost: " + printable(host.data()) +
                           "\ntty: " + std::to_string(pty_.device()) + "\n";
        const std::string length = {static_cast<char>(text.size() >> 8), static_cast<char>(text.size() & 0xFF)};
        return std::string(kTold) + length + text;
    }

    void drop(Client &client) {
        queue_typed(client);  // its last words
        narrator_.tell_client(client.fd(), "is no more: its connection is closed", "close(2)");
        client.close();
    }

    void drop_all() {
        for (Client &client : clients_) drop(client);
        if (copier_ > 0) ::kill(copier_, SIGKILL);
    }

    // --- the program ---

    /// With --wait: when the program is to start, which is when the purpose of the first client is settled.
    [[nodiscard]] std::optional<Clock::time_point> start_time() const {
        std::optional<Clock::time_point> first;
        if (phase_ != Phase::waiting) return first;
        for (const Client &client : clients_)
            if (client.counts() && (!first || client.known_at() < *first)) first = client.known_at();
        return first;
    }

    void start_program() {
        phase_ = Phase::running;
        const int status = pty_.start(options_.program, false);
        leave_folder();
        if (status == 0) return tell_start();
        publish(std::string(kProgram) + ": fork: " + std::strerror(errno) + "\r\n");
        program_ended({.code = status});
    }

    void tell_start() {
        narrator_.tell(Actor::shim, "forks; the child is process " + std::to_string(pty_.pid()), "fork(2)");
        const auto tell = [this](const std::string &what, const char *page) {
            narrator_.tell(Actor::program, what, page);
        };
        tell("setsid: a session and process group of its own, without a controlling terminal", "setsid(2)");
        tell("TIOCSCTTY: the slave is its controlling terminal now: Ctrl-C and hang-ups reach it", "ioctl_tty(2)");
        tell("dup2: the slave is its standard input, output and error", "dup2(2)");
        tell(std::string("execvp ") + options_.program[0] + ": isatty(3) says yes to it", "exec(3)");
    }

    /// The program runs in the caller's folder; the daemon, which lives long, leaves it, so as not to keep a file
    /// system busy (umount(8)). From now on every path has to be absolute.
    static void leave_folder() { [[maybe_unused]] const int result = ::chdir("/"); }

    /// Collects the children that have ended: the program, the helper, the copier.
    void reap() {
        for (;;) {
            int wait_status = 0;
            const pid_t pid = ::waitpid(-1, &wait_status, WNOHANG);
            if (pid <= 0) return;
            if (pid == pty_.pid()) program_ended(ending_of(wait_status));
            if (pid == copier_) copier_ = 0;
            const bool helper = pid == past_.pid();
            past_.ended(pid);
            if (helper) lose_helper();
        }
    }

    /// The end of the session: the program has ended, its output is read to the last byte, and all clients are
    /// told. With our slave closed, the master gives what is left and then EIO (Linux) or 0 (BSD, macOS), or
    /// EAGAIN while a grandchild has the slave open. The master is also read before our slave is closed: macOS and
    /// FreeBSD throw away unread output when the last slave closes.
    void program_ended(const Ending &ending) {
        ending_ = ending;
        if (phase_ == Phase::running) {
            narrator_.look(pty_);
            const std::string status = std::to_string(ending.status());
            narrator_.tell(Actor::program, "has ended with status " + status, "waitpid(2)");
            const char *steps = "drains: reads what the terminal still holds, closes its own slave, and reads on";
            narrator_.tell(Actor::shim, steps, "pty(7)");
        }
        drain();
        pty_.ended();
        tell_drained(drain());
        publish_reading(true);
        phase_ = Phase::farewell;
        const Timers::When over = timers_.over;
        timers_ = {};
        timers_.over = over;
        recorder_.end(ending.status());
        input_.clear();
        for (Listener *listener : {&listener_, &view_listener_}) {
            if (listener->is_open()) accept_from(*listener, SOMAXCONN);  // clients of the last moment count, too
            listener->close();  // before the first goodbye: whoever gets that may start the next session here
        }
        for (Client &client : clients_) {
            client.reset_progress(now_);
            if (client.is(Output::deaf)) drop(client);
        }
    }

    void tell_drained(int error) {
        const std::string why = error == EIO ? "EIO" : error == 0 ? "end of file" : std::strerror(error);
        const bool is_open = error == EAGAIN;
        narrator_.tell(Actor::kernel, "the master gives no more: " + why +
                                          (is_open ? ", another process still has the slave open"
                                                   : ", no process has the slave open"), "pty(7)");
    }

    /// At SIGTERM, SIGINT, SIGQUIT or an *end*, the program is asked to end, and has the grace for it. A second
    /// such signal kills it at once, or in the farewell drops the clients that are still owed something. However
    /// the program and the clients behave, timers_.over ends the session.
    void end(int number) {
        const bool again = timers_.over.has_value();
        const seconds grace = again ? seconds(0) : options_.grace;
        timers_.over = now_ + grace + kOverGrace;
        if (phase_ == Phase::waiting) return program_ended({.signal = number});
        if (is_over() && again) drop_all();
        if (is_over()) return;
        const char *told = again ? "waits no longer: SIGKILL" : "asks for the end: SIGTERM or SIGHUP";
        narrator_.tell(Actor::shim, told, "kill(2)");
        if (!again) pty_.ask_to_end();
        if (!timers_.give_up) timers_.kill = now_ + grace;
    }

    /// SIGHUP hangs the terminal up, as a modem line would; the program decides what follows.
    void hang_up() {
        if (phase_ == Phase::waiting) return program_ended({.signal = SIGHUP});
        narrator_.tell(Actor::shim, "hangs up: SIGHUP and SIGCONT to program and foreground group", "termios(3)");
        pty_.signal(SIGHUP);
        pty_.signal(SIGCONT);  // a stopped process learns of it when it goes on
    }

    /// Sends SIGKILL. A program that has become another user gets the kernel's own hang-up instead, and loses its
    /// terminal. Neither helps against a program that the kernel holds in a system call (a dead network disk):
    /// then the session ends without it.
    void kill_program() {
        timers_.give_up = now_ + kReapGrace;
        pty_.signal(SIGKILL);
        if (pty_.may_signal()) return;
        drain();
        pty_.close();
    }

    // --- starting, in section 13 ---

    int open_recording(const std::string &header);
    [[nodiscard]] std::string default_name() const;
    [[nodiscard]] bool is_wanted(int caller) const;

    Options options_;
    std::string command_;         // as a shell would take it
    std::string recording_name_;  // as the user knows it
    std::time_t since_ = 0;
    winsize first_window_{};
    Listener listener_, view_listener_;
    Recorder recorder_;
    Pty pty_;
    Gate gate_;
    Ring ring_;
    Reading reading_;
    Past past_;
    Narrator narrator_;           // with --explain
    bool told_pace_ = false;      // that the program waits
    std::deque<Client> clients_;  // (in a deque a new client moves no other one)
    std::uint64_t last_id_ = 0;   // of a client
    std::uint64_t last_pipe_ = 0; // the id of the pipe that was last asked for
    Fd spare_;                    // given up for a moment to refuse a client when no descriptor is left
    std::string input_;           // for the program, not yet taken by the master
    std::uint64_t activity_ = 0;  // counts up whenever a client attaches, resizes or types
    pid_t copier_ = 0;            // the process that copies the output to standard output, 0: none
    Phase phase_ = Phase::waiting;
    Ending ending_;               // the program's
    sigset_t inside_{};           // the signal mask while we wait
    Clock::time_point now_;       // of this turn
    Timers timers_;
};

// ----------------------------------------------------------------------------------------------------------------
// 12. The command line
//
// Options end at ADDRESS (the + for getopt_long(3)), so that PROGRAM keeps its own.
// ----------------------------------------------------------------------------------------------------------------

constexpr char kUsage[] =
    "Usage: shim [OPTION]... ADDRESS PROGRAM [ARG]...\n"
    "Runs PROGRAM on a terminal of its own in the background; attach ADDRESS shows that terminal.\n"
    "ADDRESS: a session's NAME (letters, digits, . _ - @), PORT (on the loopback interface; 0: any free one),\n"
    "HOST:PORT, [IPV6]:PORT, or a path with a /.\n"
    "\n"
    "  -r, --record FILE          write the recording there (default: shim-<port>-<UTC time>.cast in this\n"
    "                             folder; of a named session <name>-<UTC time>.cast in $SHIM_RECORDS or\n"
    "                             ~/.local/state/shim)\n"
    "  -n, --no-record            no recording\n"
    "  -i, --record-input         record what clients type too, except while the terminal does not echo\n"
    "  -m, --max-record SIZE      stop recording there; the session goes on\n"
    "  -s, --size COLSxROWS       first window size (default: this terminal's, else 80x24)\n"
    "  -H, --history SIZE|all|none  how much scrollback a client that attaches late is sent (default: 64K)\n"
    "  -w, --wait                 start PROGRAM when the first client attaches, with its window size\n"
    "  -v, --view ADDRESS         listen there too, for people who should only watch; what they type there\n"
    "                             is discarded\n"
    "  -f, --foreground           stay in the foreground, end as PROGRAM does, and copy its output to standard\n"
    "                             output unless that is a terminal; the readiness line goes to standard error\n"
    "  -q, --quiet                no readiness line\n"
    "  -g, --grace SECONDS        seconds between the request to end and SIGKILL, 0 to 86400 (default: 10)\n"
    "      --explain              explain on standard error what happens on the terminal (implies -f)\n"
    "      --allow-remote         allow an ADDRESS that is not loopback; anyone who reaches it owns the terminal\n"
    "  -h, --help                 show this\n"
    "  -V, --version              show the version\n"
    "\n"
    "SIZE is a number of bytes, optionally followed by K, M or G (1024).\n"
    "Signals: SIGTERM, SIGINT and SIGQUIT end the session: PROGRAM gets SIGTERM and SIGHUP (only one if it\n"
    "handles only that one), and SIGKILL after the grace; a second signal skips the grace. SIGHUP only hangs the\n"
    "terminal up. SIGUSR1 puts a marker into the recording. SIGUSR2 makes the socket anew if it was removed.\n"
    "Exit status: 0 started (with -f: as PROGRAM ends, by its status or its signal), 2 usage, 125 could not\n"
    "start, 126 PROGRAM cannot be executed, 127 PROGRAM was not found.\n";

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

/// `80x24`: columns, then rows, 1 to 65535 each as in struct winsize; nothing when it is not that.
std::optional<winsize> parse_window(std::string_view text) {
    const std::size_t x = text.find('x');
    if (x == std::string_view::npos) return std::nullopt;
    const auto cols = parse_number(text.substr(0, x)), rows = parse_number(text.substr(x + 1));
    if (!cols || !rows || *cols < 1 || *cols > 65535 || *rows < 1 || *rows > 65535) return std::nullopt;
    return winsize{.ws_row = static_cast<unsigned short>(*rows), .ws_col = static_cast<unsigned short>(*cols),
                   .ws_xpixel = 0, .ws_ypixel = 0};
}

/// Takes one option with its value (null when it has none) into `options`. Gives "", or what is wrong with it.
std::string set_option(int option, const char *value, Options &options) {
    const std::string text = value != nullptr ? value : "", quoted = "'" + text + "' is not ";
    const auto size_into = [&](std::uint64_t &target) {
        const auto size = parse_size(text);
        if (size) target = *size;
        return size ? "" : quoted + "a SIZE (a number of bytes, or one with K, M or G)";
    };
    switch (option) {
    case 'r':
        options.record = true;
        options.record_file = text;
        return text.empty() ? "the name of a file is missing" : "";
    case 'n': options.record = false; break;
    case 'i': options.record_input = true; break;
    case 'm': return size_into(options.max_record);
    case 's':
        if (const auto size = parse_window(text)) options.size = *size;
        else return quoted + "COLSxROWS (1x1 to 65535x65535)";
        break;
    case 'H':
        if (text != "all" && text != "none") return size_into(options.history);
        options.history = text == "all" ? kUnlimited : 0;
        break;
    case 'w': options.wait = true; break;
    case 'v':
        options.view = text;
        return text.empty() ? "an address is missing" : "";
    case 'f': options.foreground = true; break;
    case 'q': options.quiet = true; break;
    case 'E': options.explain = options.foreground = true; break;
    case 'g': {
        const std::uint64_t number = parse_number(text).value_or(kUnlimited);
        if (number > 86400) return quoted + "a number of seconds (0 to 86400)";
        options.grace = seconds(number);
        break;
    }
    default: options.allow_remote = true;
    }
    return "";
}

/// Reads the command line into `options`. Gives an exit status when there is nothing more to do: after a usage
/// error (one line on standard error), --help or --version.
std::optional<int> parse_command_line(int argc, char **argv, Options &options) {
    static const option kLong[] = {
        {"record", required_argument, nullptr, 'r'},     {"no-record", no_argument, nullptr, 'n'},
        {"record-input", no_argument, nullptr, 'i'},     {"max-record", required_argument, nullptr, 'm'},
        {"size", required_argument, nullptr, 's'},       {"history", required_argument, nullptr, 'H'},
        {"wait", no_argument, nullptr, 'w'},             {"view", required_argument, nullptr, 'v'},
        {"foreground", no_argument, nullptr, 'f'},       {"quiet", no_argument, nullptr, 'q'},
        {"grace", required_argument, nullptr, 'g'},      {"explain", no_argument, nullptr, 'E'},
        {"allow-remote", no_argument, nullptr, 'R'},     {"help", no_argument, nullptr, 'h'},
        {"version", no_argument, nullptr, 'V'},          {nullptr, 0, nullptr, 0},
    };
    opterr = 0;  // our own messages, in our own form
    for (;;) {
        const int option = ::getopt_long(argc, argv, "+:r:nim:s:H:wv:fqg:hV", kLong, nullptr);
        if (option == -1) break;
        if (option == 'h') std::fputs(kUsage, stdout);
        if (option == 'V') std::printf("%s %s\n", kProgram, kVersion);
        if (option == 'h' || option == 'V') return std::fflush(stdout) == 0 ? 0 : kExitFailed;
        if (option == '?' || option == ':') {
            const std::string word = argv[std::min(optind, argc) - 1];  // musl counts a value that is missing
            const std::string name = word.starts_with("--") ? word : std::string{'-', static_cast<char>(optopt)};
            complain(name, option == ':' ? "a value is missing"
                                         : "unknown option, or its value is missing (see shim --help)");
            return kExitUsage;
        }
        const std::string fault = set_option(option, optarg, options);
        if (fault.empty()) continue;
        const auto is_it = [option](const auto &one) { return one.val == option; };
        complain(std::string("--") + std::find_if(std::begin(kLong), std::end(kLong), is_it)->name, fault);
        return kExitUsage;
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

// ----------------------------------------------------------------------------------------------------------------
// 13. Starting
//
// The daemon is forked first and does all the work that can fail, with the caller's standard error still open; the
// caller waits for its readiness line on a socket pair, or for its end. A lock taken before the fork would not
// survive it.
//
// The section grew from the part of its name in tests/tour/small3.cpp.
// ----------------------------------------------------------------------------------------------------------------

/// Whether execve(2) would take `file`; if not, errno says why.
bool is_executable(const std::string &file) {
    struct stat status{};
    if (::access(file.c_str(), X_OK) != 0 || ::stat(file.c_str(), &status) != 0) return false;
    errno = EACCES;
    return S_ISREG(status.st_mode);
}

/// The file that execvp(3) would execute for `name`; or "" with the reason in errno.
std::string find_executable(const std::string &name) {
    const char *variable = std::getenv("PATH");
    std::string_view path = variable != nullptr ? variable : "/bin:/usr/bin";
    if (name.find('/') != std::string::npos) return is_executable(name) ? name : "";
    int error = ENOENT;
    for (std::size_t colon = 0; colon != std::string_view::npos;) {
        colon = path.find(':');
        const std::string folder(path.substr(0, colon));  // empty: the current one
        std::string file = (folder.empty() ? "." : folder) + "/" + name;
        if (is_executable(file)) return file;
        if (errno == EACCES) error = EACCES;
        path.remove_prefix(std::min(path.size(), colon + 1));  // (npos + 1 is 0, at the end of the loop)
    }
    errno = error;
    return "";
}

/// The size of the terminal that we are started from, else 80x24.
winsize first_window() {
    winsize size{};
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) return size;
    return {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
}

/// The settings of the terminal that we are started from (stty erase ^H), as its user wants them; but not raw
/// mode, which shows that another program is using the terminal.
std::optional<termios> first_settings() {
    termios settings{};
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::tcgetattr(stream, &settings) == 0 && (settings.c_lflag & ICANON) != 0) return settings;
    return std::nullopt;
}

/// `record` in the folder of this program, which was started as `self_name`; or "".
std::string find_record(const std::string &self_name) {
    std::array<char, PATH_MAX> path{};
    const std::string link = std::string(kProc) + "/self/exe";  // where the kernel tells
    if (::readlink(link.c_str(), path.data(), path.size() - 1) < 0 &&
        ::realpath(find_executable(self_name).c_str(), path.data()) == nullptr)
        return "";
    const std::string self = path.data(), record = self.substr(0, self.rfind('/') + 1) + "record";
    return ::access(record.c_str(), X_OK) == 0 ? record : "";
}

std::string utc_now() {
    std::array<char, 32> text{};
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    return {text.data(), std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts)};
}

/// argv as one line that a shell would split into the same words.
std::string shell_quoted(char **argv) {
    constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    std::string line;
    for (; *argv != nullptr; ++argv) {
        std::string word = *argv;
        if (word.empty() || word.find_first_not_of(kSafe) != std::string::npos) {
            for (std::size_t at = word.find('\''); at != std::string::npos; at = word.find('\'', at + 4))
                word.insert(at, "'\\'");
            word.insert(0, 1, '\'').push_back('\'');
        }
        line += (line.empty() ? "" : " ") + word;
    }
    return line;
}

std::string header_line(const std::string &command, const winsize &size, const std::string &address) {
    const auto variable = [](const char *name) {
        const char *value = std::getenv(name);
        return json_string(value != nullptr ? value : "");
    };
    const std::string cols = std::to_string(size.ws_col), rows = std::to_string(size.ws_row);
    return R"({"version": 2, "width": )" + cols + R"(, "height": )" + rows +
           R"(, "timestamp": )" + std::to_string(std::time(nullptr)) + R"(, "command": )" + json_string(command) +
           R"(, "env": {"TERM": )" + variable("TERM") + R"(, "SHELL": )" + variable("SHELL") +
           R"(}, "shim": {"pid": )" + std::to_string(::getpid()) + R"(, "address": )" + json_string(address) +
           "}}\n";
}

/// Makes a folder, and the folders above it that are missing, for this user alone. False with errno.
bool make_folders(const std::string &path) {
    for (std::size_t at = 0; at != std::string::npos;) {
        at = path.find('/', at + 1);
        const std::string folder = path.substr(0, at);
        if (::mkdir(folder.c_str(), 0700) == 0) ::chmod(folder.c_str(), 0700);  // whatever the umask is
        else if (errno != EEXIST) return false;
    }
    return true;
}

/// The default name of the recording, without its .cast. That of a named session is in records_folder(), which is
/// made if it is missing; any other is in the current folder. "" with a message when the folder cannot be had.
std::string Session::default_name() const {
    const std::string &name = listener_.name();
    if (!is_session_name(name)) return "shim-" + name.substr(name.find_last_of("/:") + 1) + "-" + utc_now();
    const std::string folder = records_folder();
    const bool absolute = folder.starts_with('/');
    if (absolute && make_folders(folder)) return folder + "/" + name + "-" + utc_now();
    if (absolute) complain_errno(folder);
    else complain(folder, "no absolute path for recordings: set SHIM_RECORDS, or -r or -n");
    return "";
}

/// Makes the recording: FILE, or a file whose name is free. Gives 0, or with a message the exit status.
int Session::open_recording(const std::string &header) {
    const std::uint64_t least = header.size() + Recorder::kReserve;
    if (options_.max_record < least) {
        complain("--max-record", "the least for this session is " + std::to_string(least) + " bytes");
        return kExitUsage;
    }
    const bool chosen = !options_.record_file.empty();
    const std::string name = chosen ? options_.record_file : default_name();
    if (name.empty()) return kExitFailed;
    recording_name_ = chosen ? name : name + ".cast";
    for (int n = 2; !recorder_.open(absolute(recording_name_), header, options_.max_record); ++n) {
        if (errno != EEXIST || chosen) {
            complain_errno(recording_name_);
            return kExitFailed;
        }
        recording_name_ = name + "-" + std::to_string(n) + ".cast";  // another session within the same second
    }
    return 0;
}

/// Sets the environment that the program will have. SHIM_OUTER tells `attach` the sessions that it runs in, this
/// one included.
void set_environment(const std::string &address) {
    const char *outer = std::getenv("SHIM_OUTER");
    const std::string sessions = outer != nullptr && *outer != '\0' ? std::string(outer) + "\n" : "";
    ::setenv("TERM", "xterm-256color", 0);
    ::setenv("SHIM_ADDRESS", address.c_str(), 1);
    ::setenv("SHIM_OUTER", (sessions + address).c_str(), 1);
}

/// Whether a session is still wanted: no signal has come since the start, and the caller lives.
bool Session::is_wanted(int caller) const {
    let_signals_in(inside_);
    if (g_signals.end != 0 || g_signals.hang_up != 0) return false;
    pollfd entry{.fd = caller, .events = 0, .revents = 0};
    return ::poll(&entry, 1, 0) == 0;  // POLLHUP would come unasked
}

int Session::start(const Options &options, int caller) {
    options_ = options;
    now_ = Clock::now();
    if (options.explain) narrator_.listen();
    const bool viewers = !options.view.empty();
    const Resolved where = resolve(options.address, true);
    const Resolved view_where = viewers ? resolve(options.view, true) : Resolved{};
    inside_ = block_signals();  // not before: a name service that does not answer can be interrupted
    int status = listener_.open(options.address, where, options.allow_remote);
    if (status == 0 && viewers) status = view_listener_.open(options.view, view_where, options.allow_remote);
    if (status != 0) return status;
    narrator_.tell(Actor::shim, "listens on " + listener_.name(), "listen(2)");
    if ((listener_.is_tcp() || view_listener_.is_tcp()) && !gate_.open(options.allow_remote)) return kExitFailed;
    spare_.reset(close_on_exec(::open("/dev/null", O_RDONLY)));
    past_.open(find_record(options.self), options.history);
    if (!past_.can_ever_run())
        complain("record", "none beside shim: late clients get the last bytes as they were");
    set_environment(listener_.address());
    since_ = std::time(nullptr);
    command_ = shell_quoted(options.program);
    first_window_ = options.size.ws_row != 0 ? options.size : first_window();
    // The listener and the socket pair are open: the numbers of the recording and the tail are above kTailFd.
    if (options.record) status = open_recording(header_line(command_, first_window_, listener_.address()));
    if (status != 0) return status;
    if (past_.can_ever_run()) recorder_.open_tail();
    if (!pty_.open(first_window_, first_settings())) return kExitFailed;
    narrator_.know_terminal(pty_);
    if (!is_wanted(caller)) return kExitFailed;
    if (!options.wait) status = pty_.start(options.program, true);
    else if (find_executable(options.program[0]).empty()) status = exec_status(errno);  // its exec comes later
    if (status != 0) {
        const std::string name = options.program[0], why = std::strerror(errno);
        const bool meant_attach = options.address == "attach" && status == kExitNotFound;
        const std::string hint = "; shim starts programs: to come back to a session, attach " + name;
        complain(name, meant_attach ? why + hint : why);
    }
    if (status != 0 || options.wait) return status;
    tell_start();
    phase_ = Phase::running;
    return 0;
}

std::string Session::readiness() const {
    return std::string(kProgram) + ": listening on " + listener_.name() + ", pid " + std::to_string(::getpid()) +
           (recorder_.file() >= 0 ? ", recording " + recording_name_ : ", not recording") +
           (view_listener_.is_open() ? ", viewers on " + view_listener_.name() : "") + "\n";
}

/// The child's side of a fork: cat(1) copies from `socket` to standard output. It ignores Ctrl-C, and the signal
/// that a service manager sends to all processes: these are for the program, whose last output is still to come.
[[noreturn]] void become_copier(int socket) {
    ::dup2(socket, STDIN_FILENO);
    reset_signals();
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
    ::execlp("cat", "cat", static_cast<char *>(nullptr));
    complain("cat", std::strerror(errno));
    ::_exit(kExitNotFound);
}

bool Session::copy_output() {
    std::array<int, 2> ends = {-1, -1};
    const bool paired = ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0;
    Fd own(close_on_exec(ends[0]));
    const Fd others(close_on_exec(ends[1]));
    const pid_t copier = paired ? ::fork() : -1;
    if (copier == 0) become_copier(others.get());
    if (copier < 0) {
        complain_errno(paired ? "fork" : "socketpair");
        return false;
    }
    copier_ = copier;
    clients_.push_back(Client::copier(++last_id_, std::move(own), now_));
    return true;
}

/// Closes all descriptors that the caller left open, except the three standard streams; opens those that were
/// closed. False with a message.
bool close_inherited() {
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO) fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) {
        complain_errno("/dev/null");
        return false;
    }
#if defined(SYS_close_range)  // the system call: not every C library has a function for it
    if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) == 0) return true;
#endif
    constexpr long kMost = 65536;  // there may be no limit (-1), or one that takes minutes
    const auto limit = std::min<unsigned long>(static_cast<unsigned long>(::sysconf(_SC_OPEN_MAX)), kMost);
    for (fd = STDERR_FILENO + 1; fd < static_cast<int>(limit); ++fd) ::close(fd);
    return true;
}

/// The caller's part: passes the daemon's readiness line on and tells the daemon so, or ends with its status.
[[noreturn]] void await_daemon(pid_t daemon, int from_daemon, bool quiet) {
    std::array<char, 4 * PATH_MAX> line;
    const ssize_t length = ::recv(from_daemon, line.data(), line.size(), MSG_WAITALL);  // up to its end
    if (length > 0) {
        const auto size = static_cast<std::size_t>(length);
        [[maybe_unused]] const ssize_t n = quiet ? 0 : ::write(STDOUT_FILENO, line.data(), size);
        ::_exit(::write(from_daemon, "", 1) == 1 ? 0 : kExitFailed);
    }
    int wait_status = 0;
    const bool ended = ::waitpid(daemon, &wait_status, 0) == daemon;
    ::_exit(ended && wait_status != 0 ? ending_of(wait_status).status() : kExitFailed);
}

/// Forks the daemon. Returns there, with a socket to the caller, which ends in here.
///
/// setsid(2) takes the daemon out of the caller's session: no ^C and no hang-up of that terminal reaches it. Of
/// what the books have a daemon do besides (daemon(3), daemon(7)):
///   * no second fork: it would only make the daemon no leader of its session, because a leader that opens a
///     terminal may get it for its controlling one (POSIX, section 11.1.3). Here only openpty(3) opens one, with
///     O_NOCTTY;
///   * chdir(2) to / comes later, when the program has started in the caller's folder: leave_folder();
///   * umask(2) stays, as the program inherits it: each file of ours is given its mode;
///   * the standard streams go to /dev/null at the end of the start, which reports its errors there:
///     release_caller().
Fd fork_daemon(bool quiet) {
    std::array<int, 2> ends{};
    const bool paired = ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0;
    const pid_t daemon = paired ? ::fork() : -1;
    if (daemon < 0) {
        complain_errno(paired ? "fork" : "socketpair");
        ::_exit(kExitFailed);
    }
    ::close(ends[daemon == 0 ? 0 : 1]);
    if (daemon > 0) await_daemon(daemon, ends[0], quiet);
    ::setsid();
    return Fd(close_on_exec(ends[1]));
}

/// Lets go of the caller. The standard streams go to /dev/null; otherwise a reader of the caller's output would
/// never see its end. `line` tells the caller that the session is ready. True when the caller has passed the line
/// on: a caller that was ended before (Ctrl-C) knows of no session, so there must be none.
bool release_caller(const Fd &caller, const std::string &line) {
    const Fd null(close_on_exec(::open("/dev/null", O_RDWR)));
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::dup2(null.get(), stream) < 0) return false;
    if (::write(caller.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return false;
    ::shutdown(caller.get(), SHUT_WR);
    char taken = 0;
    return ::read(caller.get(), &taken, 1) == 1;
}

/// Ends this process as the program has ended: with its status, or by its signal, so that a shell or service
/// manager sees it, and without a core file. Process 1 cannot end itself by a signal: it exits with the status.
int end_as(const Ending &ending) {
    if (ending.signal == 0 || ::getpid() == 1) return ending.status();
#if defined(PR_SET_DUMPABLE)
    ::prctl(PR_SET_DUMPABLE, 0);  // core(5): a limit of 0 does not count where a program takes the cores
#endif
    const rlimit none{};
    ::setrlimit(RLIMIT_CORE, &none);
    reset_signals();
    ::raise(ending.signal);
    return ending.status();
}

/// The whole run. Local variables own everything that is made, and release it at the return.
Ending run_shim(const Options &options) {
    Fd caller;
    if (!options.foreground) caller = fork_daemon(options.quiet);
    Session session;
    if (const int status = session.start(options, caller.get()); status != 0) return {.code = status};
    const std::string line = session.readiness();
    bool ready = false;
    if (options.foreground) {
        [[maybe_unused]] const ssize_t n = options.quiet ? 0 : ::write(STDERR_FILENO, line.data(), line.size());
        ready = ::isatty(STDOUT_FILENO) != 0 || session.copy_output();
    } else {
        ready = release_caller(caller, line);
        caller.reset();
    }
    if (ready) return session.run();
    session.abandon();
    return {.code = kExitFailed};
}

}  // namespace

int main(int argc, char **argv) {
    Options options;
    if (const auto status = parse_command_line(argc, argv, options)) return *status;
    options.self = argv[0];
    if (!close_inherited()) return kExitFailed;
    ::signal(SIGCHLD, SIG_DFL);  // a caller may have it ignored, and then no status of a child can be had: wait(2)
    return end_as(run_shim(options));
}
