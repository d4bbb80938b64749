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
// One process, one thread, one pselect(2) loop. All that the program prints is in the recording before any client is
// sent it, from a ring of 1 MiB; a client is a position (its cursor) in that ring. What one pass of the loop reads from
// the master is a turn. Sections 1 to 4 are the core; what it leans on stands behind:
//
//   1  the program on its terminal     5  what a client says         9  listening
//   2  the output: one ring            6  UTF-8 and JSON            10  who may come in
//   3  the parts of a session          7  the recording             11  the narrator (--explain)
//   4  the session: one loop           8  what record does for us   12  the command line
//                                                                   13  starting and ending
// Between 9 and 10 stands what not every system has.
//
// The wire is raw bytes both ways. A client whose first bytes are a window-change message of rlogin (RFC 1282: FF FF
// 's' 's' rows cols xpixels ypixels, 16 bits each, network order: its hello) gets FF FF 'x' 'x' STATUS as the last five
// bytes when the program has ended. One with a window may send such messages at any time; a hello of 0 rows and columns
// is no window, and all behind it is input. One that pushes input and leaves (x pixels 2) gets FF FF 'o' 'k' for it.
//
// Exit status: 0 started (with --foreground: the program's, 128 + n when signal n ended it), 2 usage, 125 could not
// start, 126 PROGRAM cannot be executed, 127 PROGRAM not found.
//
// Read beside it: pty(7), openpty(3), credentials(7), setsid(2), ioctl_tty(2), termios(3), pselect(2),
// signal(7), fcntl(2), unix(7), tcp(7).

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
#include <pwd.h>  // getpwuid
#include <sys/file.h>  // flock
#include <sys/ioctl.h>
#include <sys/resource.h>  // setpriority
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>  // iovec
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// The section 'What not every system has' tells what is done where these are missing.
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
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#endif
#if __has_include(<sys/syscall.h>)
#include <sys/syscall.h>
#endif
#include <sys/mman.h>
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

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC: never steps, whatever happens to the time of day
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Marks a new descriptor (or -1, which stays that) to be closed by an exec, and gives it back. The program would else
/// inherit it: a session would never end for who reads its other end, and its program could type into others. With one
/// thread no fork can come between: SOCK_CLOEXEC and the like, which not all systems have, bring nothing more.
int close_on_exec(int fd) {
    if (fd >= 0) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// Questions to the kernel that not every system answers: see the section 'What not every system has'.
struct System {
    /// termios(3), c_iflag: Backspace takes back a character of UTF-8, not a byte; 0 where the kernel cannot.
    static const tcflag_t kUtf8Input;
    /// Whether the process has a handler for the signal; where nobody tells, no.
    static bool catches(pid_t pid, int number);
    /// Bytes that the kernel still has for the other end of a socket, or -1 when it does not tell.
    static int unsent_bytes(int fd);
    /// A file without a name, gone with its last descriptor; -1 (in the Fd) when none can be made.
    static Fd unlinked_file();
};

constexpr int kExitUsage = 2, kExitFailed = 125, kExitCannotExecute = 126, kExitNotFound = 127;
constexpr std::uint64_t kUnlimited = UINT64_MAX;

// ---------------------------------------------------------------------------------------------------------------------
// 1. The program on its terminal
//
// openpty(3) gives two ends: the program's standard streams are the slave, we hold the master. Between them sits the
// line discipline, which echoes, edits lines and turns ^C into SIGINT. We keep a slave open too: without any, reads of
// the master fail with EIO and select(2) calls it readable for ever, though the program may yet open /dev/tty again. So
// the end of a session is the program's exit (SIGCHLD); what the master still holds is read after it, to EIO, which is
// the end of the output and no more. (We want the bytes alone, so not TIOCPKT's packet mode, in which each read begins
// with a byte that tells of flow control and flushes.)
// ---------------------------------------------------------------------------------------------------------------------

/// In a child: ignored and blocked signals stay so through an exec, signal(7), and a program that inherits our ignored
/// SIGPIPE would not end by `| head`. Async-signal-safe.
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

/// The child's side of fork(2), up to the exec: only async-signal-safe calls. An exec that fails says why through
/// `report` (an errno; the pipe closes by itself when the exec succeeds), or on the terminal when there is no pipe.
///
/// setsid(2) comes first, as TIOCSCTTY takes a session's leader that has no controlling terminal yet, nobody else
/// (ioctl_tty(2)); and setsid(2) itself refuses the leader of a process group, which a child of fork(2) never is. How a
/// terminal becomes the controlling one POSIX leaves open (section 11.1.3): all systems here have this ioctl(2).
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

class Pty {
public:
    /// Makes the pseudoterminal, with `size` and these settings, else the kernel's; false with a message.
    bool open(const winsize &size, std::optional<termios> settings);
    /// Starts the program on it. With `wait_for_exec` returns when its exec has succeeded. Gives 0, or an exit status
    /// with the reason in errno.
    int start(char **argv, bool wait_for_exec);

    [[nodiscard]] int master() const { return master_.get(); }
    [[nodiscard]] int slave() const { return slave_.get(); }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] const winsize &size() const { return size_; }
    /// Sets the window size: the kernel sends SIGWINCH to the foreground group when it is another one.
    void resize(const winsize &size);
    [[nodiscard]] bool is_open() const { return static_cast<bool>(master_); }
    /// Sends `number` to the foreground process group; with `program_too` to the program also.
    void signal(int number, bool program_too) const;
    /// Asks the program and the foreground group to end: SIGTERM, as servers know it, and SIGHUP, as shells do.
    void ask_to_end() const;
    /// Whether we may send the program signals: not when it has become another user (kill(2), EPERM), as sudo does.
    [[nodiscard]] bool may_signal() const { return pid_ <= 0 || ::kill(pid_, 0) == 0 || errno != EPERM; }
    /// Closes both ends. When no process has the master any more, the kernel hangs the slave up (as vhangup(2) does):
    /// SIGHUP and SIGCONT to the session's leader and the foreground group, whosever they are, and no more bytes.
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

bool Pty::open(const winsize &size, std::optional<termios> settings) {
    int master = -1, slave = -1;
    winsize first = size;
    if (::openpty(&master, &slave, nullptr, settings ? &*settings : nullptr, &first) != 0) {
        complain_errno("openpty");
        return false;
    }
    master_.reset(close_on_exec(master));
    slave_.reset(close_on_exec(slave));
    set_nonblocking(master);
    termios own{};  // the kernel's settings, but that Backspace on an edited line takes a whole character: termios(3)
    if (!settings && ::tcgetattr(slave, &own) == 0) {
        own.c_iflag |= System::kUtf8Input;
        ::tcsetattr(slave, TCSANOW, &own);
    }
    size_ = size;
    return true;
}

int Pty::start(char **argv, bool wait_for_exec) {
    std::array<int, 2> report = {-1, -1};
    if (wait_for_exec && ::pipe(report.data()) != 0) return kExitFailed;
    const Fd reading(close_on_exec(report[0]));
    Fd writing(close_on_exec(report[1]));
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

void Pty::resize(const winsize &size) {
    size_ = size;
    ::ioctl(master_.get(), TIOCSWINSZ, &size);
}

void Pty::signal(int number, bool program_too) const {
    const pid_t group = ::tcgetpgrp(master_.get());  // on the master: the slave's foreground group
    if (group > 0) ::kill(-group, number);
    if (program_too && pid_ > 0 && ::getpgid(pid_) != group) ::kill(pid_, number);
}

/// Sends SIGTERM and SIGHUP to `whom` (as kill(2) has it: a process, or minus a group). Who has a handler for just one
/// of them gets that one alone: a server that closes its files on SIGTERM would be killed by the SIGHUP meanwhile.
void request_end(pid_t whom) {
    const pid_t leader = whom < 0 ? -whom : whom;
    const bool knows_term = System::catches(leader, SIGTERM), knows_hup = System::catches(leader, SIGHUP);
    if (knows_term || !knows_hup) ::kill(whom, SIGTERM);
    if (knows_hup || !knows_term) ::kill(whom, SIGHUP);
    ::kill(whom, SIGCONT);  // one that is stopped takes them when it goes on
}

void Pty::ask_to_end() const {
    const pid_t group = ::tcgetpgrp(master_.get());
    if (group > 0) request_end(-group);
    if (pid_ > 0 && ::getpgid(pid_) != group) request_end(pid_);
}

bool Pty::echoes() const {
    termios settings{};
    return ::tcgetattr(slave_.get(), &settings) == 0 && (settings.c_lflag & ECHO) != 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. The output: one ring
//
// Positions count the bytes of output from the first one on and never wrap; the ring holds the last kRingBytes of them.
// A client is a position, so that its being slow costs no memory. 1 MiB is four times what the program may be ahead of
// the client that paces it (kPaceBytes): that one never falls out, and others do so only when they are really slow.
//
// A read of the master cuts where it likes, in the middle of a character, too. As the recording holds characters, the
// first bytes of a cut one wait for the next read; the Unicode standard, table 3-7, tells them from broken ones.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kRingBytes = 1 << 20;
constexpr std::size_t kPiece = 4096;  // asked for in one read
constexpr std::size_t kMostCut = 3;   // bytes of a cut character
constexpr int kTurnPieces = 15;       // reads of a turn at most: 64 KiB would be two segments over loopback
constexpr ssize_t kShortPiece = 128;  // a read shorter than this ends the turn: nobody waits for more
constexpr milliseconds kTurnTime{2};  // and so does a turn that takes this long

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

/// How many bytes at the end (0 to kMostCut) begin a character that the next read may complete.
std::size_t cut_tail(std::string_view bytes) {
    const auto *end = reinterpret_cast<const unsigned char *>(bytes.data()) + bytes.size();
    for (std::size_t back = 1; back <= kMostCut && back <= bytes.size(); ++back) {
        if ((end[-static_cast<std::ptrdiff_t>(back)] & 0xC0) == 0x80) continue;  // in the middle of a character
        if (end[-static_cast<std::ptrdiff_t>(back)] < 0x80) return 0;
        return utf8_sequence(end - back, end).kind == Sequence::Kind::cut ? back : 0;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. The parts of a session
//
// What the loop of the next section works with, each as its users see it. How each does it stands in a section of its
// own, behind the loop: read on at 4, and come back for a name.
// ---------------------------------------------------------------------------------------------------------------------

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
    bool explain = false;
    seconds grace{10};                      // between the request to end and SIGKILL
    bool allow_remote = false;
};

constexpr std::size_t kHelloBytes = 12;
constexpr std::string_view kHelloMagic = "\xFF\xFFss";
constexpr unsigned kWatches = 1, kPushOnly = 2;    // x pixels of a hello without a window
constexpr std::string_view kTaken = "\xFF\xFFok";   // the answer to such a client
constexpr milliseconds kOpeningGrace{200};         // how long undecided first bytes wait for more
constexpr std::size_t kOpeningBytes = 8 << 10;     // and how many of them at most

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
    /// What the client shows the output on; a raw one (`nc`) has a terminal as far as we know.
    enum class Screen { unknown, terminal, none };
    [[nodiscard]] Screen screen() const {
        if (mode_ == Mode::opening) return Screen::unknown;
        return mode_ == Mode::binary && !watches_ ? Screen::none : Screen::terminal;
    }
    /// Whether it has said that this is a terminal.
    [[nodiscard]] bool has_screen() const { return mode_ == Mode::aware || watches_; }
    [[nodiscard]] bool wants_goodbye() const { return mode_ == Mode::aware || mode_ == Mode::binary || is_push(); }
    /// Whether it only brings input (attach -p): it is sent no output, but is told when all of its input was taken.
    [[nodiscard]] bool is_push() const { return mode_ == Mode::push; }
    /// Whether bytes wait for more to be told from another protocol: call settle() when none come.
    [[nodiscard]] bool is_undecided() const;
    /// Whether it has sent the beginning of a hello or of another message, and not its end.
    [[nodiscard]] bool has_cut_message() const;

private:
    void feed_aware(std::string &program, std::vector<winsize> &windows);

    Mode mode_ = Mode::opening;
    bool watches_ = false;  // has no window of its own, but is a terminal
    std::string held_;      // what could not be told yet
};

class Listener {
public:
    Listener() = default;
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;
    ~Listener() { close(); }

    /// Binds to the socket address, which its user calls `text`, and listens. Gives why not, or "".
    std::string open(const std::string &text, const sockaddr *address, socklen_t length);
    /// Makes the socket file anew if somebody has removed it (a cleaner of /tmp, say); when that fails, with a message.
    void renew();
    /// Stops listening, and removes the socket file if it is still ours.
    void close();

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
    [[nodiscard]] const std::string &name() const { return name_; }  // the address, as it came to be
    [[nodiscard]] const std::string &address() const { return path_.empty() ? name_ : path_; }  // good from any folder
    [[nodiscard]] std::string label() const;                         // what stands for it in a file's name

private:
    std::string bind_to_path(const sockaddr_un &address);

    Fd fd_;
    std::string name_;
    std::string path_;    // of a Unix-domain socket, absolute, else ""
    struct stat file_{};  // which file it was when we made it
};

/// The beginning of a line of a recording: at which byte of the file, how many bytes of output the lines before it
/// hold, and the window size there.
struct Place {
    std::uint64_t offset = 0, position = 0;
    winsize size{};
};

/// The end of a session in an unlinked file, a recording like any other: at most kMemoryBytes of it.
class Memory {
public:
    /// Begins, empty, with the output from `place` on (its offset does not matter); false when no file can be made.
    bool begin(const Place &place);
    /// Takes whole lines of a recording; with them `here.position` bytes have been printed, in a window of `here.size`.
    void write(std::string_view lines, const Place &here);
    /// Forgets the lines before `place`, one of this file; false, and it is closed, when no new file can be made.
    bool forget_before(const Place &place);

    [[nodiscard]] bool is_open() const { return static_cast<bool>(file_); }
    [[nodiscard]] int fd() const { return file_.get(); }
    [[nodiscard]] const Place &first() const { return first_; }  // where its output begins
    [[nodiscard]] const Place &end() const { return end_; }

private:
    static constexpr std::uint64_t kMemoryBytes = 16 << 20, kKeptBytes = 4 << 20;

    void copy(int file, std::uint64_t offset, const Place &end);

    Fd file_;
    Place first_, end_;
    std::optional<Place> kept_from_;  // from here on lines are kept when it gets too large
};

class Recorder {
public:
    static constexpr std::size_t kReserve = 160;  // bytes that --max-record leaves for the last marker and the exit

    Recorder() = default;
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;
    ~Recorder() {
        if (fd_ && !kept_) ::unlink(path_.c_str());
    }

    /// Creates `path` (never over a file that is there) and takes the lock by which readers know that we live.
    /// `limit` is in bytes of file. False with errno when that fails.
    bool open(const std::string &path, const std::string &header, std::uint64_t limit);
    /// Instead of a file, or when the file cannot hold everything: keeps the end of the session in memory.
    void remember() { memory_.begin(here_); }
    /// From now on the file stays: the start has succeeded.
    void keep() { kept_ = true; }

    /// What the program printed next, whole characters.
    void output(std::string_view bytes);
    /// Any other event but the last: input (i), marker (m).
    void event(char code, std::string_view text);
    /// The window has another size from here on, also in the recording's coordinates (no event for the first one).
    void resize(const winsize &size, bool first);
    /// The last event; it is written even when the file is at its limit.
    void end(int status);
    /// Writes the events since the last call.
    void commit();

    [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string &path() const { return path_; }
    [[nodiscard]] Memory &memory() { return memory_; }
    [[nodiscard]] const Memory &memory() const { return memory_; }
    /// Where the next line will stand in the file.
    [[nodiscard]] const Place &here() const { return here_; }
    /// Whether every byte of output from position `from` on is in the file, so that `record` can catch a client up.
    [[nodiscard]] bool holds_from(std::uint64_t from) const {
        return fd_ && rest_.empty() && !full_ && from >= gap_end_;
    }
    /// Whether every byte of output is in the file.
    [[nodiscard]] bool is_whole() const { return holds_from(0); }
    /// Where the output's position `at` is in the file, counted in bytes of output.
    [[nodiscard]] std::uint64_t to_file(std::uint64_t at) const { return at - missing_total_; }
    /// The last noted place of the file that is not behind `position`, in the file's bytes of output.
    [[nodiscard]] Place place_before(std::uint64_t position) const {
        const auto behind = [](std::uint64_t p, const Place &place) { return p < place.position; };
        return *std::prev(std::upper_bound(places_.begin(), places_.end(), position, behind));
    }

private:
    static constexpr std::uint64_t kPlaceStep = 16 << 20;

    [[nodiscard]] bool is_written() const { return fd_ || memory_.is_open(); }
    [[nodiscard]] long long elapsed() const;
    char *open_event(char code, std::size_t room);
    void close_event(char *end);
    bool add(char code, std::string_view text);
    void write_to_file(std::string_view lines, std::uint64_t output);
    [[nodiscard]] bool finish_rest(std::uint64_t output);
    void write_line(char code, std::string_view text);

    Fd fd_;
    std::string path_;
    bool kept_ = false;
    Clock::time_point start_ = Clock::now();
    long long time_ = 0;                // of the event that is being added, in microseconds
    long long first_time_ = 0;          // of the first one in lines_
    std::vector<char> lines_;           // the events that are not written yet
    std::size_t used_ = 0;              // bytes of it that count
    std::uint64_t limit_ = kUnlimited;
    bool full_ = false;                 // --max-record has been reached
    std::string rest_;                  // what the last write left over: the file ends in the middle of a line
    std::uint64_t missing_ = 0;         // output bytes since then
    std::uint64_t missing_total_ = 0;
    std::uint64_t position_ = 0;        // output bytes in all
    std::uint64_t gap_end_ = 0;         // the position after the last byte that is missing
    Place here_;                        // the end of the file (and of what memory holds), as of the last commit
    winsize size_{};
    std::vector<Place> places_ = {Place{}};  // one every kPlaceStep: some bytes for 16 MiB of output
    Memory memory_;
};

/// The files that a `record` of ours gets: as standard output, as descriptor 3 (what it reads), as 4 (a keyframe).
struct RecordFiles {
    int output, recording, keyframe;
};

class Painter {
public:
    /// `program`: the path of `record`; "": there is none, and nobody is painted.
    void open(const std::string &program) { program_ = program; }
    [[nodiscard]] bool is_open() const { return !program_.empty(); }

    /// Whether a screen can be painted from what is recorded; not yet, while `is_waiting()`.
    [[nodiscard]] bool can_paint(const Recorder &recorder) const;
    [[nodiscard]] bool is_waiting(const Recorder &recorder) const {
        return begins_memory(recorder) || (next_pid_ > 0 && next_is_first_);
    }
    /// Paints to `socket` the screen as it stands at `to`, with `history` bytes of scrolled off lines before it; at a
    /// lower priority when it is one `among_many`. Gives the pid of the process, or -1.
    [[nodiscard]] pid_t paint(const Recorder &recorder, int socket, std::uint64_t history, std::uint64_t to,
                              bool among_many) const;
    /// Writes to `socket` the output's bytes [from, to). Gives the pid of the process, or -1.
    [[nodiscard]] pid_t replay(const Recorder &recorder, int socket, std::uint64_t from, std::uint64_t to) const;

    /// When the next keyframe is to be made, if nothing more is printed; none while there is no need of one. `crowded`:
    /// clients wait to be painted.
    [[nodiscard]] std::optional<Clock::time_point> keyframe_due(const Recorder &recorder, Clock::time_point printed,
                                                                bool crowded) const;
    void start_keyframe(const Recorder &recorder, Clock::time_point now, bool crowded);
    /// A child has ended: when it was making the next keyframe, and has made it, that is used from now on.
    void finish_keyframe(pid_t pid, int wait_status, Recorder &recorder);
    /// At the end: nothing of ours is left running.
    void stop();

private:
    /// The state of the terminal at one place of the recording: a recording of one event.
    struct Keyframe {
        Fd file;
        Place place;  // in what paints are made from: the memory if it is there, else the file
    };

    [[nodiscard]] bool begins_memory(const Recorder &recorder) const {
        return recorder.memory().is_open() && !uses_memory_ && recorder.memory().first().position > 0;
    }
    void add_source(const Recorder &recorder, std::vector<std::string> &words, RecordFiles &files) const;

    std::string program_;
    Keyframe last_, next_;
    pid_t next_pid_ = 0;             // the process that makes the next one
    bool next_is_first_ = false;     // with it, the memory begins; nobody can be painted before
    bool uses_memory_ = false;       // last_ is a place of the memory
    std::uint64_t tried_at_ = 0;     // position of the last try
    Clock::time_point tried_;
};

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

enum class Actor { shim, kernel, program, client };

class Narrator {
public:
    void listen();
    [[nodiscard]] bool is_on() const { return on_; }

    /// One line: who does what, and in which manual page it stands.
    void tell(Actor actor, const std::string &what, const char *page = "");
    /// The two ends, as they are at first.
    void made(const Pty &pty);
    /// The program runs on its terminal.
    void started(const Pty &pty, char **argv);
    /// What happens to the client behind the descriptor `socket`.
    void client(int socket, const char *what, const char *page = "");
    /// A client is there; or was sent away.
    void came(int socket, bool admitted);
    /// A client has said what size its window is.
    void window(const Pty &pty, int socket, const winsize &size);
    /// The terminal's window has got another size.
    void resized(const Pty &pty);
    /// A client has typed `bytes`.
    void said(const Pty &pty, int socket, std::string_view bytes);
    /// `bytes` that clients typed are in the master now, and the kernel does with them what the settings said that
    /// look() saw just before.
    void typed(const Pty &pty, std::string_view bytes);
    /// The program has printed `bytes`, which `clients` are shown; `recorded`: after they were recorded.
    void printed(std::string_view bytes, std::size_t clients, bool recorded);
    /// The program has to wait for its clients, or no longer; `behind` is whether there is one that it could wait for.
    void program_waits(bool now, bool behind);
    /// The program has been reaped.
    void ended(const Pty &pty, int status);
    /// The last read of the master gave this error, 0: the end of file.
    void drained(int error);
    /// Looks whether settings or the foreground group have changed.
    void look(const Pty &pty);

private:
    void write_out();
    void explain_key(std::size_t special, char byte);  // an index into kSpecialKeys
    void explain_plain(std::string_view bytes, bool secret);

    bool on_ = false;
    Fd own_;                  // standard error, when it is a terminal, opened anew with O_NONBLOCK
    std::string line_;        // what it has not taken yet of a line
    std::size_t missed_ = 0;  // lines that it did not take at all
    bool paced_ = false;
    bool literal_ = false;    // VLNEXT was typed
    termios settings_{};      // as last seen
    pid_t foreground_ = -1;
};

// ---------------------------------------------------------------------------------------------------------------------
// 4. The session: one loop
//
// Nothing here waits but pselect(2): the master is O_NONBLOCK, the clients' sockets are asked with MSG_DONTWAIT for
// each call (O_NONBLOCK would belong to the open file, which `record` shares while it catches a client up).
//
// Signals are blocked but inside pselect(2), whose mask lets them in: their handlers set flags, and the loop looks at
// these when it returns. With plain select(2) a signal between the look and the call would be forgotten until something
// else wakes the loop (select(2), 'The self-pipe trick'); pselect(2) changes the mask and waits in one step (POSIX).
//
// Both directions are bounded. While the program's terminal takes no input, the clients are not read; while the pacing
// client is kPaceBytes behind, the master is not read. Neither waits for the other: a large paste into a program that
// is itself waiting for its output to be taken would else be a deadlock.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::uint64_t kPaceBytes = 256 << 10;  // how far the program may be ahead of the client that paces it
constexpr int kSocketBytes = 128 << 10;          // and how much more the kernel keeps for a client: see welcome()
constexpr seconds kPaceGrace{1};                 // a client that took nothing for so long paces nobody
constexpr seconds kTakesNothing{5};               // a client in the way that takes nothing for so long is dropped
constexpr milliseconds kFarewellTick{10};        // at the end: how often we look whether a client has everything
constexpr milliseconds kCutGrace{100};           // how long the first bytes of a cut character are kept back
constexpr int kAcceptFew = 64;                   // taken in at a time, between two looks at everybody else
constexpr milliseconds kLookTick{50};            // with --explain: how often we look what the program does
constexpr seconds kAcceptPause{1};               // after accept(2) failed for want of something
constexpr seconds kReapGrace{2};                 // for a program to be gone that was killed; then without its end
constexpr seconds kOverGrace{5};                 // after the grace: then without who is still owed something
constexpr std::size_t kMostRecords = 32;         // `record` processes at a time
constexpr std::size_t kManyRecords = 4;          // so many of them may take the processors from others
constexpr std::size_t kInputBytes = 64 << 10;  // typed, and not yet taken by the program's terminal: then clients wait
constexpr std::size_t kInputMost = 1 << 20;    // the same, with the last words of clients that have left
constexpr std::size_t kTypedBytes = 16 << 10;  // that one client may have waiting here; more stays in its socket
constexpr std::size_t kDrainBytes = 256 << 10;  // read after the program's exit: more than a kernel keeps for it

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

/// Blocks the signals that we handle: they arrive inside pselect(2) and nowhere else. Gives the mask to use there.
sigset_t block_signals() {
    sigset_t ours, inside;
    sigemptyset(&ours);
    for (const int number : kHandled) sigaddset(&ours, number);
    ::sigprocmask(SIG_BLOCK, &ours, nullptr);
    sigemptyset(&inside);
    struct sigaction action{};
    action.sa_handler = note_signal;
    action.sa_flags = SA_NOCLDSTOP;  // SIGCHLD for a child's end alone: one that stops (Ctrl-Z) has not ended
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

/// How long it is until `when`, for pselect(2); nothing when that is past.
timespec time_until(Clock::time_point when) {
    const auto left = std::max<std::chrono::nanoseconds>(when - Clock::now(), {});
    const auto whole = std::chrono::duration_cast<seconds>(left);
    return {.tv_sec = static_cast<time_t>(whole.count()), .tv_nsec = static_cast<long>((left - whole).count())};
}

/// Whether the system call that has just failed has nothing for us now, and may have later.
bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

/// Where a client stands: nobody knows yet what it wants to see; `record` is to paint it a screen; it follows the ring.
enum class Stage { opening, unpainted, live };

struct Client {
    Fd socket;
    Stage stage = Stage::opening;
    std::uint64_t cursor = 0;     // the next byte of output to send
    ClientInput input;
    std::string typed;            // for the program, while the queue has no room for it
    bool viewer = false;          // came by --view, or has shut down its sending side
    bool input_ended = false;     // nothing more will come from it
    bool output_ended = false;    // it takes nothing more; what it sent before it left is still read
    bool unheard = false;         // it typed what nobody was there to read: as a viewer, or after the program's end
    bool copier = false;          // our own: what it takes goes to our standard output
    bool blocked = false;         // the last send did not take everything: ask select for room
    bool said_goodbye = false;    // everything is sent, and our sending side shut down
    std::size_t goodbye_sent = 0; // bytes
    pid_t record = 0;             // the process that writes to it, and has the socket for itself
    std::uint64_t record_to = 0;  // and up to where in the output
    int unsent = -1;              // bytes in the socket's queue, when we last looked: see look_at_progress()
    winsize window{};             // as it last said; rows 0: none
    std::uint64_t active = 0;     // when it last attached, resized or typed, in turns of Session::activity_
    Clock::time_point came;
    std::optional<Clock::time_point> spoke;  // when its first bytes came
    Clock::time_point looked;     // when we last looked at its socket's queue
    Clock::time_point progress;   // when it last took something, or had nothing to take
};

/// Whether more is to be sent to the client than its socket takes now.
bool is_held_up(const Client &client) { return client.blocked || client.record > 0; }

class Session {
public:
    /// Makes everything that can fail, up to the exec of the program. Gives 0, or with a message an exit status; then
    /// nothing that was made stays.
    /// `caller`: a socket whose other end the caller of this command has, or -1.
    int start(const Options &options, int caller);
    /// The line that tells the caller that all is well.
    [[nodiscard]] std::string readiness() const;
    /// Before run(): from its first byte on, the output goes to standard output, too. False with a message.
    bool copy_output();
    /// Runs to the end; gives the program's exit status.
    int run();
    /// Instead of that: ends what has been started; then nothing that was made stays.
    void abandon();

private:
    enum class Phase { waiting, running, farewell };

    // the start
    int open_recording(const std::string &header);
    [[nodiscard]] std::string default_name() const;
    [[nodiscard]] bool is_wanted(int caller) const;

    // the loop's paragraphs
    int build_sets(fd_set &readable, fd_set &writable);
    void handle_signals();
    std::optional<Clock::time_point> run_timers();
    void look_at_progress(Client &client);
    // output
    bool read_master();
    void publish(bool all);
    [[nodiscard]] bool must_wait() const;
    [[nodiscard]] std::optional<std::uint64_t> pace_position() const;
    [[nodiscard]] bool sets_pace(const Client &client) const;
    [[nodiscard]] bool can_catch_up(std::uint64_t from) const;
    [[nodiscard]] std::uint64_t line_start(std::uint64_t position) const;
    // clients
    void accept_from(const Listener &listener, int most);
    void renew_sockets();
    void welcome(Fd socket, bool viewer);
    void read_client(Client &client);
    void settle_input(Client &client);
    void hear_typed(Client &client, std::span<const winsize> windows);
    void queue_typed(Client &client);
    void client_input_ended(Client &client);
    void hear_windows(Client &client, std::span<const winsize> windows, bool typed);
    void follow_window();
    [[nodiscard]] bool is_known(const Client &client) const;
    void begin_output(Client &client);
    void serve(Client &client);
    [[nodiscard]] bool awaits_rest(const Client &client) const;
    void send_output(Client &client);
    void paint(Client &client);
    void catch_up(Client &client);
    [[nodiscard]] std::size_t running_records() const;
    [[nodiscard]] bool has_place() const;
    [[nodiscard]] bool is_crowded() const;
    void record_ended(Client &client, int wait_status);
    void drop(Client &client);
    void drop_all();
    void client_output_ended(Client &client);
    void sweep_those_who_left();
    // the program
    [[nodiscard]] std::optional<Clock::time_point> start_time() const;
    void start_program();
    static void leave_folder();
    void write_input();
    void reap();
    void program_ended(int status);
    void end(int number);
    void hang_up();
    void kill_program();
    int drain();
    void say_goodbye(Client &client);

    Options options_;
    std::string recording_name_;  // as the user knows it
    Listener listener_, view_listener_;
    Recorder recorder_;
    Pty pty_;
    Gate gate_;
    Ring ring_;
    Painter painter_;
    Narrator narrator_;           // with --explain
    std::vector<Client> clients_;
    Fd spare_;                    // given up for a moment to refuse a client when no descriptor is left
    std::array<char, kMostCut + kPiece> piece_{};  // what has been read, behind the kept back bytes of a cut character
    std::size_t piece_used_ = 0;                   // bytes of it
    std::string input_;           // for the program, not yet taken by the master
    std::uint64_t activity_ = 0;
    pid_t copier_ = 0;            // the process that copies the output to standard output, 0: none
    Phase phase_ = Phase::waiting;
    int status_ = 0;
    sigset_t inside_{};           // the signal mask while we wait
    Clock::time_point now_;       // of this turn
    Clock::time_point printed_;   // of the last turn with output
    std::optional<Clock::time_point> cut_since_, accept_again_;
    std::optional<Clock::time_point> kill_at_;     // the program; set by the request to end
    std::optional<Clock::time_point> give_up_at_;  // waiting for the end of a program that was killed
    std::optional<Clock::time_point> over_at_;     // whoever is still owed something; set by the request to end
};

// --- the loop ---

int Session::run() {
    recorder_.keep();
    if (phase_ == Phase::running) leave_folder();
    std::optional<Clock::time_point> wake = now_;  // when something is due though nothing happens
    while (phase_ != Phase::farewell || !clients_.empty() || copier_ > 0) {
        // Build the sets: who may speak, and who has room for what is waiting.
        fd_set readable, writable;
        const int highest = build_sets(readable, writable);

        // Wait: until one of them is ready, a signal comes, or something is due.
        const timespec timeout = wake ? time_until(*wake) : timespec{};
        const int ready = ::pselect(highest + 1, &readable, &writable, nullptr, wake ? &timeout : nullptr, &inside_);
        if (ready > 0) let_signals_in(inside_);
        if (ready <= 0) {  // the sets say nothing then
            FD_ZERO(&readable);
            FD_ZERO(&writable);
        }
        now_ = Clock::now();

        // Dispatch: signals, newcomers, clients -> program, and program -> clients. In this order: who has connected
        // before the program printed gets that as live bytes.
        handle_signals();
        if (phase_ == Phase::running) narrator_.look(pty_);
        for (const Listener *listener : {&listener_, &view_listener_})
            if (listener->is_open() && FD_ISSET(listener->fd(), &readable)) accept_from(*listener, kAcceptFew);
        for (Client &client : clients_)
            if (client.socket && FD_ISSET(client.socket.get(), &readable)) read_client(client);
        recorder_.commit();  // what they typed, before the program gets it
        write_input();
        if (phase_ == Phase::running && pty_.is_open() && FD_ISSET(pty_.master(), &readable)) read_master();
        recorder_.commit();  // what it printed, before any client gets it

        // Flush: to each client what it has room for. Then what is due, and those that are gone are forgotten: here
        // alone, as loops over the clients run everywhere else.
        for (Client &client : clients_)
            if (client.socket && (!client.blocked || FD_ISSET(client.socket.get(), &writable))) serve(client);
        wake = run_timers();
        if (std::erase_if(clients_, [](const Client &client) { return !client.socket; }) > 0) follow_window();
    }
    painter_.stop();
    return status_;
}

/// Fills the sets for select(2), and gives the highest descriptor in them.
int Session::build_sets(fd_set &readable, fd_set &writable) {
    int highest = -1;
    const auto watch = [&highest](fd_set &set, int fd) {
        FD_SET(fd, &set);  // accept_from() let in none at or over FD_SETSIZE, which would be written outside the set
        highest = std::max(highest, fd);
    };
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    const bool running = phase_ == Phase::running && pty_.is_open();
    const bool waits = running && must_wait();
    narrator_.program_waits(waits, narrator_.is_on() && pace_position());
    if (running && !waits) watch(readable, pty_.master());
    if (running && !input_.empty()) watch(writable, pty_.master());
    for (const Listener *listener : {&listener_, &view_listener_})
        if (listener->is_open() && !accept_again_) watch(readable, listener->fd());
    for (const Client &client : clients_) {
        const bool room = client.viewer || (client.typed.size() < kTypedBytes && input_.size() < kInputMost);
        if (!client.input_ended && (room || phase_ == Phase::farewell)) watch(readable, client.socket.get());
        if (client.blocked && client.record == 0) watch(writable, client.socket.get());
    }
    return highest;
}

void Session::handle_signals() {
    if (std::exchange(g_signals.mark, 0) != 0) recorder_.event('m', "");
    if (std::exchange(g_signals.renew, 0) != 0) renew_sockets();
    if (std::exchange(g_signals.child, 0) != 0) reap();
    if (std::exchange(g_signals.hang_up, 0) != 0) hang_up();
    if (const int number = std::exchange(g_signals.end, 0); number != 0) end(number);
}

/// Does what is due by the clock. Gives when the next thing is: past when something was done, as more may follow from
/// that; none when nothing is pending, so that an idle shim sleeps.
std::optional<Clock::time_point> Session::run_timers() {
    std::optional<Clock::time_point> next;
    const auto wake_at = [&next](Clock::time_point when) { next = std::min(when, next.value_or(when)); };
    const auto is_due = [this, &wake_at](const std::optional<Clock::time_point> &when) {
        if (when) wake_at(*when);
        return when && now_ >= *when;
    };
    const auto is_over = [&is_due](std::optional<Clock::time_point> &when) {
        if (!is_due(when)) return false;
        when.reset();
        return true;
    };
    is_over(accept_again_);
    if (is_due(start_time())) start_program();
    if (is_over(kill_at_)) kill_program();
    if (is_over(give_up_at_)) program_ended(128 + SIGKILL);
    if (is_over(over_at_)) drop_all();
    const bool running = phase_ == Phase::running, farewell = phase_ == Phase::farewell, crowded = is_crowded();
    if (running && is_due(painter_.keyframe_due(recorder_, printed_, crowded)))
        painter_.start_keyframe(recorder_, now_, crowded);
    if (cut_since_ && is_due(*cut_since_ + kCutGrace)) publish(true);
    if (narrator_.is_on()) wake_at(now_ + kLookTick);
    if (farewell && !clients_.empty()) wake_at(now_ + kFarewellTick);
    for (Client &client : clients_)
        if (client.socket && (farewell || (is_held_up(client) && now_ >= client.looked + kPaceGrace)))
            look_at_progress(client);
    const bool waits = running && must_wait();  // which what was just seen decides
    for (Client &client : clients_) {
        if (!client.socket) continue;
        if (waits && is_held_up(client) && sets_pace(client)) wake_at(client.looked + kPaceGrace);
        if (client.record > 0 && crowded) wake_at(now_ + kPaceGrace);
        if (client.stage == Stage::opening) wake_at(client.came + kOpeningGrace);
        if (client.input.is_undecided() && is_due(*client.spoke + kOpeningGrace)) settle_input(client);
    }
    return next;
}

/// A socket may have no room for us and yet be emptied, slowly, or be filled by `record`: its queue tells whether the
/// client takes anything. At the end, or when its `record` has the place that another needs, one that takes nothing is
/// dropped.
void Session::look_at_progress(Client &client) {
    client.looked = now_;
    const int unsent = System::unsent_bytes(client.socket.get());
    if (std::exchange(client.unsent, unsent) != unsent) client.progress = now_;
    const bool delivered = client.said_goodbye && (unsent == 0 || client.input_ended);
    const bool in_the_way = phase_ == Phase::farewell || (client.record > 0 && is_crowded());
    const bool stuck = in_the_way && !client.copier && now_ - client.progress > kTakesNothing;
    if (delivered || stuck) drop(client);
}

// --- output: program -> recording -> ring -> clients ---

/// A turn of output: reads, encodes and puts into the ring piece by piece; then the recording gets all of it with one
/// write(2), and each client with one sendmsg(2).
///
/// A read of the master gives at most 4,095 bytes: the line discipline's buffer holds 4,096, and the last place is kept
/// for the end of a line (n_tty.c in the kernel). A kernel worker has put them there; it puts the next ones there while
/// we are busy with these, so in a flood no read has to wait. But one that finds nothing waits for the worker, which
/// costs more than it brings: so a short piece, an echo say, goes out by itself.
///
/// False when there was nothing to read; errno tells why.
bool Session::read_master() {
    const auto until = Clock::now() + kTurnTime;
    for (int pieces = 0; pieces < kTurnPieces; ++pieces) {
        const ssize_t n = ::read(pty_.master(), piece_.data() + piece_used_, kPiece);
        if (n <= 0) return pieces > 0;
        piece_used_ += static_cast<std::size_t>(n);
        publish(false);
        if (n < kShortPiece || Clock::now() > until) break;
    }
    return true;
}

/// Gives what has been read to the recorder and the ring; a character that the read has cut waits for the rest of it,
/// unless `all`.
void Session::publish(bool all) {
    const std::string_view bytes(piece_.data(), piece_used_);
    const std::string_view ready = bytes.substr(0, bytes.size() - (all ? 0 : cut_tail(bytes)));
    if (!ready.empty()) {
        recorder_.output(ready);
        ring_.append(ready);
        printed_ = now_;
        narrator_.printed(ready, clients_.size(), recorder_.is_open());
    }
    piece_used_ -= ready.size();
    std::memmove(piece_.data(), ready.data() + ready.size(), piece_used_);
    if (piece_used_ == 0) cut_since_.reset();
    else if (!cut_since_ || !ready.empty()) cut_since_ = now_;
}

/// Whether `record` could bring a client that stands at `from` up to the ring.
bool Session::can_catch_up(std::uint64_t from) const { return painter_.is_open() && recorder_.holds_from(from); }

/// Whether this client has a say in how fast the program runs: it types, and takes what it is given. Standard output is
/// waited for without a limit, as in a pipeline, when nothing could bring it up later.
bool Session::sets_pace(const Client &client) const {
    const bool waits = is_held_up(client) || client.cursor < ring_.tail();
    const bool says = client.copier || !client.viewer;
    const bool follows = client.stage == Stage::live && client.socket && says && !client.output_ended;
    const bool patient = client.copier && !can_catch_up(ring_.tail());
    return follows && (!waits || patient || now_ - client.progress < kPaceGrace);
}

/// The position of the client that paces the program: the fastest when a recording can catch the others up, else the
/// slowest. None: nobody does.
std::optional<std::uint64_t> Session::pace_position() const {
    std::optional<std::uint64_t> position;
    const bool fastest = can_catch_up(ring_.tail());
    for (const Client &client : clients_) {
        if (!sets_pace(client)) continue;
        if (!position) position = client.cursor;
        else position = fastest ? std::max(*position, client.cursor) : std::min(*position, client.cursor);
    }
    return position;
}

/// Whether the program must wait for its clients.
bool Session::must_wait() const {
    const auto position = pace_position();
    return position && ring_.head() - *position > kPaceBytes;
}

void Session::drop(Client &client) {
    queue_typed(client);  // its last words
    narrator_.client(client.socket.get(), "is no more: its connection is closed", "close(2)");
    if (client.record > 0) ::kill(client.record, SIGKILL);
    client.socket.reset();
    client.window = {};
}

void Session::drop_all() {
    for (Client &client : clients_) drop(client);
    if (copier_ > 0) ::kill(copier_, SIGKILL);
}

/// The client takes no more output. But one that typed and left (echo make | nc) may have been quicker than we were:
/// what it sent, and stands in our socket's receive queue, is still read, up to the end.
void Session::client_output_ended(Client &client) {
    if (client.input_ended || phase_ == Phase::farewell) return drop(client);
    client.output_ended = true;
    client.blocked = false;
    client.window = {};
}

/// Sends what the client has not had yet, as much as its socket takes.
void Session::send_output(Client &client) {
    std::array<iovec, 2> parts = ring_.parts(client.cursor, ring_.head());
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t n = ::sendmsg(client.socket.get(), &message, MSG_DONTWAIT);
    if (n < 0 && !would_block() && errno != ENOBUFS) return client_output_ended(client);
    if (n > 0 || !client.blocked) client.progress = now_;
    client.cursor += static_cast<std::uint64_t>(std::max<ssize_t>(n, 0));
    client.blocked = client.cursor < ring_.head();
    if (!client.blocked || n <= 0) return;
    client.unsent = System::unsent_bytes(client.socket.get());
    client.looked = now_;
}

/// How many `record` processes write to clients now.
std::size_t Session::running_records() const {
    const auto running = std::count_if(clients_.begin(), clients_.end(), [](const Client &c) { return c.record > 0; });
    return static_cast<std::size_t>(running);
}

/// Whether another `record` may be started for a client.
bool Session::has_place() const { return running_records() < kMostRecords; }

/// Whether clients wait for a `record`, and all places are taken.
bool Session::is_crowded() const {
    return !has_place() && std::any_of(clients_.begin(), clients_.end(), [this](const Client &client) {
        const bool fell_out = client.stage == Stage::live && client.cursor < ring_.tail();
        const bool wanted = client.stage == Stage::unpainted || fell_out;
        return client.socket && !client.output_ended && client.record == 0 && wanted;
    });
}

/// Where the bytes that a client at `position` is shown from the ring begin: as much of the history as it holds, from
/// the start of a line on if one starts there.
std::uint64_t Session::line_start(std::uint64_t position) const {
    const std::uint64_t first = std::max(ring_.tail(), position - std::min(options_.history, position));
    if (first == 0) return first;
    for (std::uint64_t at = first; at < position; ++at)
        if (ring_.at(at) == '\n') return at + 1;
    return first;
}

/// Whether the client has said what it is, or has had the time to.
bool Session::is_known(const Client &client) const {
    return client.input.screen() != ClientInput::Screen::unknown || now_ >= client.came + kOpeningGrace;
}

/// What a client is sent before the live bytes, as soon as its hello tells what it shows them on (section 5):
/// a terminal is painted; a pipe or a file, for which every byte counts, gets the last bytes as they were. One that
/// came before the first byte needs nothing; one that has said nothing gets each byte that was printed since it came.
void Session::begin_output(Client &client) {
    const ClientInput::Screen screen = client.input.screen();
    const bool needs_nothing = client.cursor == 0 || options_.history == 0 || client.input.is_push();
    if (!needs_nothing && !is_known(client)) return;
    client.progress = now_;
    client.stage = Stage::live;
    if (needs_nothing) return;
    const std::uint64_t first = client.cursor - std::min(options_.history, client.cursor);
    if (screen != ClientInput::Screen::none && painter_.can_paint(recorder_)) client.stage = Stage::unpainted;
    else client.cursor = first < ring_.tail() && can_catch_up(first) ? first : line_start(client.cursor);
}

/// Has `record` paint the client's screen; later, when all of its places are taken. One that has a window is shown the
/// screen of now, as it may just have been given another size.
void Session::paint(Client &client) {
    if (painter_.is_waiting(recorder_) || !has_place()) return;
    client.progress = now_;
    if (client.input.has_screen()) client.cursor = ring_.head();  // it may just have been given another window
    client.record_to = client.cursor;
    narrator_.client(client.socket.get(), "is new on a terminal that has a past: record paints it the screen");
    client.record = painter_.paint(recorder_, client.socket.get(), options_.history, client.record_to,
                                   running_records() >= kManyRecords);
    if (client.record < 0) record_ended(client, -1);
}

/// For a client that fell out of the ring: `record` writes what it missed straight into its socket. Where the file has
/// not got that, a terminal is painted anew, and for a pipe the session is over: a byte of it is lost.
void Session::catch_up(Client &client) {
    client.blocked = false;
    if (can_catch_up(client.cursor)) {
        if (!has_place()) return;
        client.progress = now_;
        client.record_to = ring_.head();
        narrator_.client(client.socket.get(), "needs bytes that have left the ring: record sends them from the file");
        client.record = painter_.replay(recorder_, client.socket.get(), client.cursor, client.record_to);
        if (client.record < 0) record_ended(client, -1);
    } else if (!client.input.has_screen()) {
        narrator_.client(client.socket.get(), "has missed bytes that nobody holds any more");
        drop(client);
    } else if (painter_.can_paint(recorder_)) client.stage = Stage::unpainted;
    else client.cursor = line_start(ring_.head());
}

/// The client's `record` is done. One that failed has lost nothing but its work: a terminal goes on with what the ring
/// has.
void Session::record_ended(Client &client, int wait_status) {
    narrator_.client(client.socket.get(), wait_status == 0 ? "goes on from the ring" : "got no help: record failed");
    client.record = 0;
    client.blocked = false;
    client.progress = now_;
    const bool was_painted = std::exchange(client.stage, Stage::live) == Stage::unpainted;
    if (wait_status == 0) client.cursor = client.record_to;
    else if (was_painted || client.input.has_screen()) client.cursor = line_start(ring_.head());
    else drop(client);
}

/// Brings a client on, as far as it goes now.
void Session::serve(Client &client) {
    if (!client.socket || client.record > 0 || client.output_ended) return;
    if (client.stage == Stage::opening) begin_output(client);
    if (client.input.is_push()) client.cursor = ring_.head();
    else if (client.stage == Stage::unpainted) paint(client);
    else if (client.stage == Stage::live && client.cursor < ring_.tail()) catch_up(client);
    else if (client.stage == Stage::live && client.cursor < ring_.head()) send_output(client);
    const bool done = client.socket && client.stage == Stage::live && client.record == 0 && !client.output_ended &&
                      client.cursor == ring_.head();
    if (phase_ == Phase::farewell && done && is_known(client) && !awaits_rest(client)) say_goodbye(client);
}

/// Whether a push is about to be over, and so has been taken: what it brought has perhaps ended the program.
bool Session::awaits_rest(const Client &client) const {
    return client.input.is_push() && !client.unheard && !client.input_ended && now_ - client.progress < kPaceGrace;
}

// --- input: clients -> program ---

/// While the queue has room, what the clients have typed goes there, a read of each in turn: a paste of one of them
/// does not keep out the Ctrl-C of another. The master takes what the terminal has room for. Not so while it edits
/// lines (ICANON): then the kernel takes all, and keeps 4,095 bytes of a line and its end (termios(3)).
void Session::write_input() {
    const auto queue_all = [this] {
        if (input_.size() >= kInputBytes) return;
        for (Client &client : clients_) queue_typed(client);
    };
    queue_all();
    if (input_.empty() || phase_ != Phase::running) return;
    narrator_.look(pty_);  // at the settings that the bytes will meet: the program may answer them with others
    const ssize_t n = ::write(pty_.master(), input_.data(), input_.size());
    if (n > 0) {
        narrator_.typed(pty_, std::string_view(input_).substr(0, static_cast<std::size_t>(n)));
        input_.erase(0, static_cast<std::size_t>(n));
    }
    queue_all();  // or a queue that is empty now would not be looked at again
}

/// Into the queue for the program, and with --record-input into the recording: not what is typed unseen, a password.
void Session::queue_typed(Client &client) {
    if (client.typed.empty()) return;
    if (options_.record_input && pty_.echoes()) recorder_.event('i', client.typed);
    input_ += client.typed;
    client.typed.clear();
}

bool same_window(const winsize &a, const winsize &b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool same_grid(const winsize &a, const winsize &b) { return a.ws_row == b.ws_row && a.ws_col == b.ws_col; }

/// The window of the client that was last active is the program's. The kernel sends SIGWINCH when it is another one;
/// that is input to the program (some end, run a command, or take it for a key), so there is none without need.
void Session::follow_window() {
    const Client *leader = nullptr;
    for (const Client &client : clients_)
        if (client.window.ws_row != 0 && !client.viewer && (leader == nullptr || client.active > leader->active))
            leader = &client;
    if (leader == nullptr || phase_ == Phase::farewell || same_window(leader->window, pty_.size())) return;
    if (!same_grid(leader->window, pty_.size())) recorder_.resize(leader->window, false);
    pty_.resize(leader->window);
    narrator_.resized(pty_);
}

/// The client has said its window size, or typed. One that comes at the program's size takes the size of its pixels
/// over, too: the program notices nothing.
void Session::hear_windows(Client &client, std::span<const winsize> windows, bool typed) {
    if (client.viewer || client.output_ended || (windows.empty() && !typed)) return;
    client.active = ++activity_;
    for (const winsize &window : windows) {
        narrator_.window(pty_, client.socket.get(), window);
        const bool comes = client.window.ws_row == 0;
        client.window = comes && same_grid(window, pty_.size()) ? pty_.size() : window;
        follow_window();
    }
    if (windows.empty()) follow_window();
}

/// What the client sent last was not the beginning of anything: it is input.
void Session::settle_input(Client &client) {
    client.input.settle(client.typed);
    hear_typed(client, {});
}

/// The client has said something: windows, and what it typed.
void Session::hear_typed(Client &client, std::span<const winsize> windows) {
    if (client.viewer || phase_ == Phase::farewell) {  // viewers cannot type
        client.unheard = client.unheard || !client.typed.empty();
        client.typed.clear();
    }
    narrator_.said(pty_, client.socket.get(), client.typed);
    hear_windows(client, windows, !client.typed.empty());
}

/// The client will send nothing more. What it has typed does not wait for room: it may have left, and nobody would come
/// back to it. A push is told that all of it is here.
void Session::client_input_ended(Client &client) {
    const bool left = client.output_ended || gate_.has_left(client.socket.get());
    if (!left || !client.input.has_cut_message()) settle_input(client);  // who vanished in its hello typed nothing
    queue_typed(client);
    client.input_ended = client.viewer = true;
    client.window = {};
    follow_window();
    const bool taken = client.input.is_push() && !client.unheard;
    if (taken) ::send(client.socket.get(), kTaken.data(), kTaken.size(), MSG_DONTWAIT);  // all it is ever sent: it fits
    if (left || client.input.is_push()) drop(client);
}

/// Reads what the client has sent, whatever the queue is like: its hello, a new size and its end are news at any time.
/// What it types waits in `typed`, and when that is full, in its socket.
void Session::read_client(Client &client) {
    std::array<char, kTypedBytes> bytes;
    const std::size_t room = bytes.size() - std::min(client.typed.size(), bytes.size() - 1);
    const ssize_t n = ::recv(client.socket.get(), bytes.data(), room, MSG_DONTWAIT);
    if (n < 0 && would_block()) return;
    if (n < 0) return drop(client);
    if (n == 0) return client_input_ended(client);
    if (!client.spoke) client.spoke = now_;
    std::vector<winsize> windows;
    client.input.feed({bytes.data(), static_cast<std::size_t>(n)}, client.typed, windows);
    if (client.input.mode() == ClientInput::Mode::foreign) return drop(client);
    hear_typed(client, windows);
}

// --- clients come and go ---

/// Those that shut down their sending side and then left altogether: nothing tells us (select(2) shows both alike)
/// until we send, so they are looked for when somebody comes.
void Session::sweep_those_who_left() {
    for (Client &client : clients_)
        if (client.socket && client.input_ended && gate_.has_left(client.socket.get())) drop(client);
}

/// A client's socket gets a send buffer of a fixed size (the kernel doubles it: socket(7)). By itself TCP lets it grow
/// to 4 MiB (tcp(7), tcp_wmem): so far behind the program would the user's screen be, and Ctrl-C so much later be seen.
void Session::welcome(Fd socket, bool viewer) {
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // an echo does not wait for more (tcp(7))
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // a machine that has vanished is noticed
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
    Client client;
    client.socket = std::move(socket);
    client.viewer = viewer;
    client.came = client.progress = now_;
    client.cursor = ring_.head();
    clients_.push_back(std::move(client));
}

/// Lets in who waits at the door, `most` of them. A descriptor that select(2) could not hold is refused at once; so is
/// a client for whom there is none at all, by means of the spare one.
void Session::accept_from(const Listener &listener, int most) {
    sweep_those_who_left();
    for (int i = 0; i < most; ++i) {
        Fd socket(close_on_exec(::accept(listener.fd(), nullptr, nullptr)));
        if (!socket && errno == EMFILE) {
            spare_.reset();
            spare_.reset(::accept(listener.fd(), nullptr, nullptr));  // refused, as it is closed:
            spare_.reset();
            spare_.reset(close_on_exec(::open("/dev/null", O_RDONLY)));
            if (spare_) continue;
        }
        if (!socket && (errno == ECONNABORTED || errno == EINTR)) continue;
        if (!socket && !would_block()) accept_again_ = now_ + kAcceptPause;
        if (!socket) return;
        const bool admitted = socket.get() < FD_SETSIZE && gate_.admits(socket.get());
        narrator_.came(socket.get(), admitted);
        if (admitted) welcome(std::move(socket), &listener == &view_listener_);
    }
}

/// SIGUSR2. Who waits at an old socket is let in first: nobody listens there any more.
void Session::renew_sockets() {
    for (Listener *listener : {&listener_, &view_listener_}) {
        if (!listener->is_open()) continue;
        accept_from(*listener, SOMAXCONN);
        listener->renew();
    }
}

// --- the program ---

/// With --wait: when the program is to start. As soon as a client has said something, or some time after it came.
std::optional<Clock::time_point> Session::start_time() const {
    std::optional<Clock::time_point> first;
    if (phase_ != Phase::waiting) return first;
    for (const Client &client : clients_) {
        if (!client.socket || client.copier) continue;
        const bool spoke = client.input.mode() != ClientInput::Mode::opening;
        const auto at = spoke ? client.came : client.came + kOpeningGrace;
        if (!first || at < *first) first = at;
    }
    return first;
}

void Session::start_program() {
    phase_ = Phase::running;
    const int status = pty_.start(options_.program, false);
    leave_folder();
    if (status == 0) return narrator_.started(pty_, options_.program);
    const std::string line = std::string(kProgram) + ": fork: " + std::strerror(errno) + "\r\n";
    piece_used_ = line.copy(piece_.data(), piece_.size());
    program_ended(status);
}

/// The program has the caller's folder; the daemon, which lives for long, keeps no file system busy (umount(8)). From
/// now on every path has to be absolute.
void Session::leave_folder() { [[maybe_unused]] const int result = ::chdir("/"); }

/// Collects who has ended: the program, or a `record` that was catching a client up.
void Session::reap() {
    for (;;) {
        int wait_status = 0;
        const pid_t pid = ::waitpid(-1, &wait_status, WNOHANG);
        if (pid <= 0) return;
        if (pid == pty_.pid()) program_ended(exit_status(wait_status));
        if (pid == copier_) copier_ = 0;
        painter_.finish_keyframe(pid, wait_status, recorder_);
        for (Client &client : clients_)
            if (client.record == pid) record_ended(client, wait_status);
    }
}

/// The end of the session: the program is gone, its last output is read to the last byte, then everybody is told. With
/// our slave closed the master gives what is left and then EIO (Linux) or 0 (BSD, macOS), or EAGAIN while a grandchild
/// holds another. It is read before that, too: macOS and FreeBSD throw away what is unread when the last slave closes.
void Session::program_ended(int status) {
    status_ = status;
    if (phase_ == Phase::running) narrator_.ended(pty_, status);
    drain();
    pty_.ended();
    const int error = drain();
    publish(true);
    narrator_.drained(error);
    phase_ = Phase::farewell;
    kill_at_.reset();
    give_up_at_.reset();
    recorder_.end(status);
    input_.clear();
    for (Listener *listener : {&listener_, &view_listener_}) {
        if (listener->is_open()) accept_from(*listener, SOMAXCONN);  // who came in the last moment is served as well
        listener->close();  // before the first goodbye: whoever has seen that may start the next session here
    }
    for (Client &client : clients_) client.progress = now_;
    for (Client &client : clients_)
        if (client.output_ended) drop(client);
}

/// Reads and publishes what the terminal still has, but for a cut character at its end. Gives errno of the last read.
int Session::drain() {
    for (std::uint64_t end = ring_.head() + kDrainBytes; ring_.head() < end;) {
        errno = 0;  // the end of file sets none
        if (!read_master()) return errno;
    }
    return EAGAIN;
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
    narrator_.tell(Actor::shim, again ? "waits no longer: SIGKILL" : "asks for the end: SIGTERM or SIGHUP", "kill(2)");
    if (!again) pty_.ask_to_end();
    if (!give_up_at_) kill_at_ = now_ + grace;
}

/// SIGHUP: the terminal hangs up, as a modem line would, and what comes of it is the program's affair.
void Session::hang_up() {
    if (phase_ == Phase::waiting) return program_ended(128 + SIGHUP);
    narrator_.tell(Actor::shim, "hangs up: SIGHUP and SIGCONT to program and foreground group", "termios(3)");
    pty_.signal(SIGHUP, true);
    pty_.signal(SIGCONT, true);  // one that is stopped learns of it when it goes on
}

/// SIGKILL; a program that has become another user gets the kernel's own hang-up, and never again a terminal. Neither
/// helps against one that the kernel holds in a system call (a dead network disk): then the session ends without it.
void Session::kill_program() {
    give_up_at_ = now_ + kReapGrace;
    pty_.signal(SIGKILL, true);
    if (pty_.may_signal()) return;
    drain();
    pty_.close();
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
        else if (!would_block()) return drop(client);
        client.blocked = client.goodbye_sent < length;
    }
    if (client.goodbye_sent < length || std::exchange(client.said_goodbye, true)) return;
    ::shutdown(client.socket.get(), SHUT_WR);
    narrator_.client(client.socket.get(), "has had everything: goodbye", "shutdown(2)");
}

// ---------------------------------------------------------------------------------------------------------------------
// 5. What a client says
//
// Bytes for the program, but for window-change messages in a connection that begins with one. They come in pieces of
// any size. The first bytes are also looked at for another protocol: a web page can make a browser of the same user
// talk to a loopback port, and every line of an HTTP request would be a line typed into a shell.
// ---------------------------------------------------------------------------------------------------------------------

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
                watches_ = window.ws_xpixel == kWatches;
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

bool ClientInput::is_undecided() const {
    return mode_ == Mode::opening && !held_.empty() && classify(held_) == Opening::undecided;
}

bool ClientInput::has_cut_message() const { return !held_.empty() && classify(held_) == Opening::incomplete; }

void ClientInput::settle(std::string &program) {
    if (mode_ == Mode::foreign) return;
    if (mode_ == Mode::opening) mode_ = Mode::raw;
    program.append(held_);
    held_ = {};
}

// ---------------------------------------------------------------------------------------------------------------------
// 6. UTF-8 and JSON
//
// A terminal speaks bytes, JSON speaks Unicode (RFC 8259, section 8.1): what is not UTF-8 becomes U+FFFD. In a flood
// this is most of what the shim does, so plain text goes through it sixteen bytes at a time.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kMostPerByte = 6;  // \u001b: how much longer JSON can get
constexpr bool kLittleEndian = std::endian::native == std::endian::little;  // what the two below ask for, to be quick

/// Sixteen bytes that the compiler works on at once, with whatever the processor has for that (a GNU extension of g++
/// and clang++); signed, so that bytes of 0x80 and over are below 0x20 too.
using Sixteen = signed char __attribute__((vector_size(16)));
using Two = std::uint64_t __attribute__((vector_size(16)));  // the same, as numbers

/// How many of the 16 bytes at `at`, from the first on, stand in a JSON string as they are and are ASCII.
inline std::size_t plain_of_sixteen(const unsigned char *at) {
    if constexpr (!kLittleEndian) return 0;  // the byte-by-byte path of the caller
    Sixteen bytes;
    std::memcpy(&bytes, at, sizeof bytes);
    const Sixteen special = (bytes < 0x20) | (bytes == '"') | (bytes == '\\');  // 0xFF where it is so, else 0
    const auto halves = std::bit_cast<Two>(special);
    if (halves[0] != 0) return static_cast<std::size_t>(std::countr_zero(halves[0])) / 8;
    return halves[1] != 0 ? 8 + static_cast<std::size_t>(std::countr_zero(halves[1])) / 8 : 16;
}

/// The length of the UTF-8 sequence that the four bytes at `at` begin with, when it is one of two or three bytes; else
/// 0, which says nothing. Quicker than utf8_sequence(), as it has no loop.
inline std::size_t short_sequence(const unsigned char *at) {
    std::uint32_t w = 0;
    std::memcpy(&w, at, sizeof w);
    if constexpr (!kLittleEndian) return 0;
    if ((w & 0xC0E0) == 0x80C0) return (w & 0x1E) != 0 ? 2 : 0;  // C0, C1: overlong
    if ((w & 0xC0C0F0) != 0x8080E0) return 0;
    return (w & 0x200F) != 0 && (w & 0x200F) != 0x200D ? 3 : 0;  // E0 80..9F: overlong; ED A0..BF: a surrogate
}

/// A byte of ASCII as it stands in a JSON string.
struct Escape {
    std::array<char, 7> text{};
    std::uint8_t length = 0;
};

constexpr std::array<Escape, 128> make_escapes() {
    constexpr std::string_view kLetters = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu", kHex = "0123456789abcdef";
    std::array<Escape, 128> escapes{};
    for (unsigned c = 0; c < escapes.size(); ++c) {
        const char letter = c < 0x20 ? kLetters[c] : static_cast<char>(c);
        if (c >= 0x20 && c != '"' && c != '\\') escapes[c] = {.text = {letter}, .length = 1};
        else if (letter != 'u') escapes[c] = {.text = {'\\', letter}, .length = 2};
        else escapes[c] = {.text = {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]}, .length = 6};
    }
    return escapes;
}

constexpr std::array<Escape, 128> kEscapes = make_escapes();

/// Writes `in` as the inside of a JSON string to `out`, which has room for kMostPerByte times as much plus 16; bytes
/// that are not UTF-8 become U+FFFD, and `exact` false. Gives the end of what it wrote. Copies are of a fixed size, one
/// instruction, though fewer bytes may count: what comes next is written over the rest.
char *encode_json(std::string_view in, char *out, bool &exact) {
    const auto *at = reinterpret_cast<const unsigned char *>(in.data());
    const auto *const end = at + in.size();
    while (at < end) {
        if (end - at >= 16) {
            std::memcpy(out, at, 16);
            const std::size_t plain = plain_of_sixteen(at);
            at += plain;
            out += plain;
            if (plain == 16) continue;
        }
        if (*at < 0x80) {
            const Escape &escape = kEscapes[*at++];
            std::memcpy(out, &escape, sizeof escape);
            out += escape.length;
            continue;
        }
        std::size_t length = 0;
        for (; end - at >= 4 && (length = short_sequence(at)) > 0; at += length, out += length) std::memcpy(out, at, 4);
        if (at == end || *at < 0x80) continue;
        const Sequence sequence = utf8_sequence(at, end);
        const bool whole = sequence.kind == Sequence::Kind::whole;
        length = whole ? sequence.length : 3;
        std::memcpy(out, whole ? reinterpret_cast<const char *>(at) : "\xEF\xBF\xBD", length);
        out += length;
        at += sequence.length;
        exact = exact && whole;
    }
    return out;
}

/// The same for short texts: a command, an address.
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

// ---------------------------------------------------------------------------------------------------------------------
// 7. The recording
//
// asciicast v2: a header line, then a line an event, [seconds, "code", "text"]. A turn's lines are written with one
// write(2) before any client gets a byte of them: the page cache survives our own end by SIGKILL, so what a client saw
// is in the file. When a write falls short (disk full, file size limit), the rest of the line is kept and finished
// when writing works again; what is printed meanwhile is counted and told by a marker.
//
// Late clients are painted from the recording, by `record`. Where there is no file, or not everything is in it (-n, at
// its limit, a full disk), the same lines go into memory: an unlinked file with the end of the session.
// ---------------------------------------------------------------------------------------------------------------------

/// As much of `bytes` as the file takes now: how many bytes. Less than all on a full disk or at the file size limit.
std::size_t write_some(int fd, std::string_view bytes) {
    std::size_t done = 0;
    for (ssize_t n = 1; n > 0 && done < bytes.size(); done += static_cast<std::size_t>(std::max<ssize_t>(n, 0)))
        n = ::write(fd, bytes.data() + done, bytes.size() - done);
    return done;
}

bool Memory::begin(const Place &place) {
    file_ = System::unlinked_file();
    const std::string header = R"({"version": 2, "width": )" + std::to_string(place.size.ws_col) + R"(, "height": )" +
                               std::to_string(place.size.ws_row) + "}\n";
    if (write_some(file_.get(), header) < header.size()) file_.reset();
    first_ = end_ = {.offset = header.size(), .position = place.position, .size = place.size};
    kept_from_.reset();
    return is_open();
}

void Memory::write(std::string_view lines, const Place &here) {
    if (!is_open()) return;
    if (write_some(file_.get(), lines) < lines.size()) return file_.reset();
    end_ = {.offset = end_.offset + lines.size(), .position = here.position, .size = here.size};
    if (!kept_from_ && end_.offset > kMemoryBytes - kKeptBytes) kept_from_ = end_;
    if (end_.offset > kMemoryBytes) forget_before(*kept_from_);
}

bool Memory::forget_before(const Place &place) {
    Memory next;
    if (next.begin(place)) next.copy(file_.get(), place.offset, end_);
    *this = std::move(next);
    return is_open();
}

/// Takes the lines that stand in `file` from `offset` up to `end`.
void Memory::copy(int file, std::uint64_t offset, const Place &end) {
    std::array<char, 64 << 10> bytes;
    for (ssize_t n = 0; offset < end.offset; offset += static_cast<std::uint64_t>(n)) {
        n = ::pread(file, bytes.data(), std::min<std::uint64_t>(bytes.size(), end.offset - offset), off_t(offset));
        if (n <= 0 || write_some(file_.get(), {bytes.data(), std::size_t(n)}) < std::size_t(n)) return file_.reset();
        end_.offset += static_cast<std::uint64_t>(n);
    }
    end_.position = end.position;
    end_.size = end.size;
}

/// The lock is one of fcntl(2), for which F_GETLK tells who has it, and which a fork does not inherit: one of flock(2)
/// belongs to the open file, and each `record` that we start would hold it, too. The price: it goes as soon as this
/// process closes any descriptor of the file, so the file is opened here and nowhere else.
bool Recorder::open(const std::string &path, const std::string &header, std::uint64_t limit) {
    fd_.reset(close_on_exec(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_APPEND, 0600)));  // `record` reads it
    path_ = path;
    limit_ = limit;
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (!fd_ || ::fcntl(fd_.get(), F_SETLK, &lock) != 0 || write_some(fd_.get(), header) < header.size()) return false;
    here_.offset = header.size();
    return true;
}

/// Microseconds since the start of the recording.
long long Recorder::elapsed() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count();
}

/// Begins an event at time_ and makes `room` bytes for its text; gives where the text goes.
char *Recorder::open_event(char code, std::size_t room) {
    if (lines_.size() < used_ + room + 64) lines_.resize(used_ + room + 64);  // 64: what stands around the text
    if (used_ == 0) first_time_ = time_;
    char *at = lines_.data() + used_;
    return at + std::snprintf(at, 64, R"([%lld.%06lld, "%c", ")", time_ / 1000000, time_ % 1000000, code);
}

void Recorder::close_event(char *end) {
    for (const char c : {'"', ']', '\n'}) *end++ = c;
    used_ = static_cast<std::size_t>(end - lines_.data());
}

/// Gives whether `text` was UTF-8, and so is in the event as it is.
bool Recorder::add(char code, std::string_view text) {
    bool exact = true;
    close_event(encode_json(text, open_event(code, text.size() * kMostPerByte + 8), exact));
    return exact;
}

void Recorder::output(std::string_view bytes) {
    position_ += bytes.size();
    if (!is_written()) return;
    time_ = elapsed();
    const std::size_t begin = used_;
    if (add('o', bytes)) return;
    used_ = begin;  // the same again, with the exact bytes before it
    close_event(encode_base64(bytes, open_event('b', bytes.size() * 4 / 3 + 8)));
    add('o', bytes);
}

void Recorder::event(char code, std::string_view text) {
    if (!is_written()) return;
    time_ = elapsed();
    add(code, text);
}

void Recorder::resize(const winsize &size, bool first) {
    size_ = size;
    if (first) here_.size = size;
    else event('r', std::to_string(size.ws_col) + "x" + std::to_string(size.ws_row));
}

/// A line straight into the file, before those that wait: a marker, or its last one.
void Recorder::write_line(char code, std::string_view text) {
    const long long time = used_ > 0 ? first_time_ : elapsed();
    std::array<char, 64> begin{};
    std::snprintf(begin.data(), begin.size(), R"([%lld.%06lld, "%c", )", time / 1000000, time % 1000000, code);
    here_.offset += write_some(fd_.get(), begin.data() + json_string(text) + "]\n");
}

void Recorder::end(int status) {
    event('x', std::to_string(status));
    commit();
    if (full_ && rest_.empty()) write_line('x', std::to_string(status));
}

void Recorder::commit() {
    const std::uint64_t output = position_ - here_.position;
    if (used_ == 0 && rest_.empty()) {  // (output that nobody writes down is counted all the same)
        here_.position = position_;
        return;
    }
    const std::string_view lines(lines_.data(), used_);
    if (fd_ && !full_) write_to_file(lines, output);
    here_.position = position_;
    here_.size = size_;
    memory_.write(lines, here_);
    used_ = 0;
    if (holds_from(position_) && to_file(position_) >= places_.back().position + kPlaceStep)
        places_.push_back({.offset = here_.offset, .position = to_file(position_), .size = size_});
}

/// Lines, which hold `output` bytes of output, into the file: all of them, or what it takes now; none, but
/// a marker, when they would take the file over its limit. From the moment when the file does not hold everything any
/// more, memory does.
void Recorder::write_to_file(std::string_view lines, std::uint64_t output) {
    if (!rest_.empty() && !finish_rest(output)) return;
    full_ = limit_ != kUnlimited && here_.offset + lines.size() + kReserve > limit_;
    if (full_) write_line('m', "shim: recording stopped at its limit");
    const std::size_t written = full_ ? 0 : write_some(fd_.get(), lines);
    if (!full_) rest_ = lines.substr(written);
    if ((full_ || !rest_.empty()) && !memory_.is_open()) remember();
    here_.offset += written;
}

/// Finishes the line that the last write has left torn. False while the file takes nothing: then these `output`
/// bytes are missing too. Else says how many are.
bool Recorder::finish_rest(std::uint64_t output) {
    const std::size_t written = write_some(fd_.get(), rest_);
    here_.offset += written;
    rest_.erase(0, written);
    if (!rest_.empty()) missing_ += output;
    if (!rest_.empty() || missing_ == 0) return rest_.empty();
    missing_total_ += missing_;
    gap_end_ = here_.position;
    write_line('m', "shim: " + std::to_string(std::exchange(missing_, 0)) + " bytes missing");
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// 8. What `record` does for us
//
// We know nothing of terminals: a late client's screen is painted by `record paint`, a process with the client's socket
// as its standard output, from the recording up to the position where the client goes on with the live bytes. A client
// that fell out of the ring is brought up to it by `record cat` in the same way.
//
// So that nobody waits for a paint that begins with the first byte of a month, `record keyframe` writes down from time
// to time how the terminal stands; the next paints begin there.
// ---------------------------------------------------------------------------------------------------------------------

constexpr char kRecordingName[] = "/dev/fd/3", kKeyframeName[] = "/dev/fd/4";

/// Starts `program` with `words` (its name, command and options) at the nice value `nice`. Gives its pid, or -1.
pid_t start_record(const std::string &program, std::vector<std::string> words, const RecordFiles &files, int nice) {
    std::vector<char *> argv;
    argv.reserve(words.size() + 1);
    for (std::string &word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    const std::array wanted = {files.output, files.recording, files.keyframe};
    const std::array targets = {STDOUT_FILENO, 3, 4};
    std::array<int, 3> away{};  // first out of the way of the targets
    for (std::size_t i = 0; i < wanted.size(); ++i) away[i] = ::fcntl(wanted[i], F_DUPFD_CLOEXEC, 5);
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (away[i] >= 0) ::dup2(away[i], targets[i]);
    if (nice != 0) ::setpriority(PRIO_PROCESS, 0, nice);
    reset_signals();
    ::execv(program.c_str(), argv.data());
    ::_exit(kExitNotFound);
}

constexpr std::uint64_t kKeyframeStep = 16 << 20;        // bytes of output, when it pauses
constexpr std::uint64_t kKeyframeMost = 256 << 20;       // and when it does not
constexpr std::uint64_t kMemoryStep = 4 << 20, kMemoryMost = 8 << 20;  // the same, with a recording in memory
constexpr std::uint64_t kCrowdStep = 1 << 20;            // and when many wait, each of whom it saves reading that
constexpr seconds kKeyframePause{1};
constexpr int kLowestPriority = 19;
constexpr int kCrowdPriority = 10;  // of a paint among many: those who type meanwhile are served before it

bool Painter::can_paint(const Recorder &recorder) const {
    return is_open() && (recorder.memory().is_open() || recorder.is_whole());
}

/// Adds to a command of `record` where to begin reading, and what.
void Painter::add_source(const Recorder &recorder, std::vector<std::string> &words, RecordFiles &files) const {
    const Memory &memory = recorder.memory();
    const bool from_memory = memory.is_open() && !begins_memory(recorder);
    const bool keyed = last_.file && last_.place.position >= (from_memory ? memory.first().position : 0);
    const Place begin = keyed ? last_.place : from_memory ? memory.first() : Place{};
    files.recording = from_memory ? memory.fd() : recorder.fd();
    files.keyframe = keyed ? last_.file.get() : -1;
    if (keyed) words.insert(words.end(), {"--key", kKeyframeName});
    if (begin.offset > 0)
        words.insert(words.end(), {"--skip", std::to_string(begin.offset) + ":" + std::to_string(begin.position)});
    words.emplace_back(kRecordingName);
}

pid_t Painter::paint(const Recorder &recorder, int socket, std::uint64_t history, std::uint64_t to,
                     bool among_many) const {
    std::vector<std::string> words = {"record", "paint", "--to", std::to_string(to), "-H",
                                      history == kUnlimited ? "all" : std::to_string(history)};
    RecordFiles files{.output = socket, .recording = -1, .keyframe = -1};
    add_source(recorder, words, files);
    return start_record(program_, std::move(words), files, among_many ? kCrowdPriority : 0);
}

pid_t Painter::replay(const Recorder &recorder, int socket, std::uint64_t from, std::uint64_t to) const {
    const Place place = recorder.place_before(recorder.to_file(from));
    return start_record(program_,
                        {"record", "cat", "--skip", std::to_string(place.offset) + ":" + std::to_string(place.position),
                         "--from", std::to_string(recorder.to_file(from)), "--to",
                         std::to_string(recorder.to_file(to)), kRecordingName},
                        {.output = socket, .recording = recorder.fd(), .keyframe = -1}, 0);
}

std::optional<Clock::time_point> Painter::keyframe_due(const Recorder &recorder, Clock::time_point printed,
                                                       bool crowded) const {
    if (!can_paint(recorder) || next_pid_ > 0) return std::nullopt;
    const bool in_memory = recorder.memory().is_open();
    const std::uint64_t since = recorder.here().position - tried_at_;
    if (begins_memory(recorder) || (crowded && since >= kCrowdStep)) return Clock::time_point{};
    if (since >= (in_memory ? kMemoryMost : kKeyframeMost)) return tried_ + kKeyframePause;
    if (since >= (in_memory ? kMemoryStep : kKeyframeStep)) return printed + kKeyframePause;
    return std::nullopt;
}

/// The next keyframe stands at the end of what is recorded now; or, when a memory has just begun, where that begins: up
/// to there the file knows everything. It is made in the time that nobody else wants; but not while somebody waits, nor
/// in a flood, where nobody leaves any and the next paint would have ever more to read.
void Painter::start_keyframe(const Recorder &recorder, Clock::time_point now, bool crowded) {
    const bool hurried = crowded || recorder.here().position - tried_at_ >= kKeyframeMost;
    const Memory &memory = recorder.memory();
    next_is_first_ = begins_memory(recorder);
    next_ = {.file = System::unlinked_file(),
             .place = next_is_first_ ? memory.first() : memory.is_open() ? memory.end() : recorder.here()};
    std::vector<std::string> words = {"record", "keyframe", "--to", std::to_string(next_.place.position)};
    RecordFiles files{.output = next_.file.get(), .recording = -1, .keyframe = -1};
    add_source(recorder, words, files);
    tried_at_ = recorder.here().position;
    tried_ = now;
    uses_memory_ = memory.is_open();
    next_pid_ = next_.file ? start_record(program_, std::move(words), files, hurried ? 0 : kLowestPriority) : 0;
}

void Painter::finish_keyframe(pid_t pid, int wait_status, Recorder &recorder) {
    if (pid != next_pid_) return;
    next_pid_ = 0;
    Memory &memory = recorder.memory();
    const bool forgotten = memory.is_open() && next_.place.position < memory.first().position;
    if (wait_status != 0 || forgotten) return;
    if (memory.is_open() && memory.forget_before(next_.place)) next_.place = memory.first();
    last_ = std::move(next_);
}

void Painter::stop() {
    if (next_pid_ <= 0) return;
    ::kill(next_pid_, SIGKILL);
    ::waitpid(std::exchange(next_pid_, 0), nullptr, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// 9. Listening
//
// A listening socket that does not block: a client may vanish between the moment when select(2) announces it and
// accept(2), which would then wait for the next one. A Unix-domain socket is a file: its mode comes from the umask at
// bind(2), and it stays behind when its owner is killed, so a stale one (nobody answers) is taken over.
// ---------------------------------------------------------------------------------------------------------------------

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

// >>> recordings of named sessions: the same in shim.cpp and record.cpp
/// Their folder, found from any other and years later: $SHIM_RECORDS, else where the XDG Base Directory Specification
/// wants state to be kept.
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

constexpr seconds kStartWait{1};  // for a lock that somebody else holds

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

/// The path as it is called from any folder: the daemon leaves the one in which it was started.
std::string absolute(const std::string &path) {
    std::array<char, PATH_MAX> folder{};
    if (path.empty() || path.front() == '/') return path;
    return ::getcwd(folder.data(), folder.size()) != nullptr ? std::string(folder.data()) + "/" + path : path;
}

/// Takes the lock of a folder that others may lock too; waits for kStartWait at most. It is one of flock(2): fcntl(2)
/// locks for writing only what is open for writing, as no folder can be.
bool lock_folder(int folder) {
    for (const auto until = Clock::now() + kStartWait; ::flock(folder, LOCK_EX | LOCK_NB) != 0;) {
        if (errno != EWOULDBLOCK) return true;  // no locks here: without one then
        if (Clock::now() > until) return false;
        ::poll(nullptr, 0, 10);
    }
    return true;
}

/// Removes the stale socket file at the address, if there is one: nobody listens at it. Gives what else stands there,
/// or "". Only a socket is ever taken for stale, never another file.
std::string clear_stale(const sockaddr_un &address) {
    struct stat file{};
    if (::lstat(address.sun_path, &file) != 0) return errno == ENOENT ? "" : std::strerror(errno);
    if (!S_ISSOCK(file.st_mode)) return "a file that is no socket stands there";
    const Fd probe(close_on_exec(::socket(AF_UNIX, SOCK_STREAM, 0)));
    set_nonblocking(probe.get());  // connect(2) would wait for one who listens and does not accept
    const auto *where = reinterpret_cast<const sockaddr *>(&address);
    const bool answers = ::connect(probe.get(), where, sizeof address) == 0 || errno == EAGAIN;
    if (answers) return "a session runs there: attach ";
    if (errno != ECONNREFUSED) return std::string("a socket stands there, and may be in use: ") + std::strerror(errno);
    return ::unlink(address.sun_path) == 0 ? "" : std::string("a stale socket stands there: ") + std::strerror(errno);
}

/// bind(2) and listen(2) for a Unix-domain socket; gives why not, or "".
std::string Listener::bind_to_path(const sockaddr_un &address) {
    const std::string path = address.sun_path;
    const std::string folder = path.substr(0, path.rfind('/') + 1);
    const Fd lock(close_on_exec(::open(folder.c_str(), O_RDONLY | O_DIRECTORY)));
    // Two shims must not both find it stale, and one remove the other's fresh socket.
    if (!lock_folder(lock.get())) return "somebody holds a lock on its folder (flock)";
    if (std::string why = clear_stale(address); !why.empty()) return why;
    const mode_t before = ::umask(0177);
    const int result = ::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address);
    ::umask(before);
    if (result != 0 && errno == EACCES) return "no permission to make a socket in its folder";
    if (result != 0 || ::lstat(path.c_str(), &file_) != 0) return std::strerror(errno);
    path_ = absolute(path);
    const bool listens = ::listen(fd_.get(), SOMAXCONN) == 0;  // while the lock is held: until then it looks stale
    return listens ? "" : std::strerror(errno);
}

std::string Listener::open(const std::string &text, const sockaddr *address, socklen_t length) {
    name_ = text;
    fd_.reset(close_on_exec(::socket(address->sa_family, SOCK_STREAM, 0)));
    if (!fd_) return std::strerror(errno);
    set_nonblocking(fd_.get());
    if (address->sa_family == AF_UNIX) return bind_to_path(*reinterpret_cast<const sockaddr_un *>(address));
    const int on = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd_.get(), address, length) != 0 || ::listen(fd_.get(), SOMAXCONN) != 0) return std::strerror(errno);
    SocketAddress bound{.storage = {}, .length = sizeof bound.storage};
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr *>(&bound.storage), &bound.length);
    name_ = to_text(bound);  // port 0 has become another
    return "";
}

/// Listens at ADDRESS, which has been resolved. Gives 0, or with a message the exit status.
int listen_at(Listener &listener, const std::string &text, const Resolved &found, bool allow_remote) {
    std::string why = found.why;
    for (const SocketAddress &address : found.addresses) {
        if (allow_remote || is_loopback(address)) continue;
        complain(text, "not a loopback address: whoever reaches it would own the terminal (see --allow-remote)");
        return kExitFailed;
    }
    for (const SocketAddress &address : found.addresses) {
        why = listener.open(text, address.get(), address.length);
        if (why.empty()) return 0;
    }
    if (why.ends_with(": attach ")) why += text;
    complain(text, why);
    return found.malformed ? kExitUsage : kExitFailed;
}

void Listener::renew() {
    struct stat file{};
    if (path_.empty() || ::lstat(path_.c_str(), &file) == 0) return;
    const std::string text = is_session_name(name_) ? name_ : path_;  // a session's folder may be gone, too
    Listener fresh;
    if (listen_at(fresh, text, resolve(text, true), false) != 0) return;
    std::swap(fd_, fresh.fd_);
    std::swap(file_, fresh.file_);
    fresh.path_.clear();  // the new file is ours now
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
// What not every system has
//
// All else in this file is POSIX, openpty(3), getopt_long(3) and flock(2). What stands here is asked for by the macros
// that headers define, not by a system's name where that can be, and has something in its place:
//
//   openpty(3)      its header has three names: above
//   close_range(2)  Linux, FreeBSD; NetBSD and OpenBSD have calls of their own. Else a loop: a descriptor that stands
//                   above 65,535 stays open
//   memfd_create(2) Linux, FreeBSD. Else a file in $TMPDIR whose name is removed: `shim -n` takes disk, not memory
//   IUTF8           Linux, macOS. Else Backspace on a line that the kernel edits takes away a byte, not a character
//   SO_PEERCRED     Linux; elsewhere getpeereid(3). With neither, the mode of the socket's file alone keeps others out
//   sock_diag(7)    Linux. Else nobody tells whose the other end of a TCP connection is: any user of this machine can
//                   come in at a port. Names and paths are safe there. A client at a port that half closes and then
//                   goes away is noticed when there is something to send to it
//   SIOCOUTQ        Linux; FIONWRITE on FreeBSD and NetBSD, SO_NWRITE on macOS. Else a client that takes a little at a
//                   time, and is owed more than its socket holds when the session ends, may be given up too early; and
//                   one that does not close its end is waited for for 5 s
//   /proc           Linux. Else argv[0] and PATH tell where this program is, and `record` beside it; and a program that
//                   is to end gets both SIGTERM and SIGHUP, though it has a handler for one
// ---------------------------------------------------------------------------------------------------------------------

#if defined(PORTABLE)
constexpr char kProc[] = "/proc-is-not-used";
#else
constexpr char kProc[] = "/proc";
#endif

#if defined(IUTF8)
const tcflag_t System::kUtf8Input = IUTF8;
#else
const tcflag_t System::kUtf8Input = 0;
#endif

/// Closes all descriptors from `first` on.
void close_from(int first) {
#if defined(SYS_close_range)  // the system call: not every C library has a function for it
    if (::syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#elif defined(F_CLOSEM)  // NetBSD
    if (::fcntl(first, F_CLOSEM) == 0) return;
#elif defined(__OpenBSD__)
    if (::closefrom(first) == 0) return;
#endif
    constexpr long kMost = 65536;  // there may be no limit, or one that takes minutes
    const long limit = ::sysconf(_SC_OPEN_MAX);
    for (int fd = static_cast<int>(limit < 0 ? kMost : std::min(limit, kMost)) - 1; fd >= first; --fd) ::close(fd);
}

Fd System::unlinked_file() {
#if defined(MFD_CLOEXEC)
    return Fd(close_on_exec(::memfd_create("shim", 0)));
#else
    const char *folder = std::getenv("TMPDIR");
    std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/shim-XXXXXX";
    Fd fd(::mkstemp(path.data()));
    if (fd) ::unlink(path.c_str());
    close_on_exec(fd.get());
    return fd;
#endif
}

int System::unsent_bytes([[maybe_unused]] int fd) {
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

/// This program's file, with its whole path; "" where the kernel does not tell.
std::string own_file() {
    std::array<char, PATH_MAX> path{};
    const ssize_t n = ::readlink((std::string(kProc) + "/self/exe").c_str(), path.data(), path.size() - 1);
    return n > 0 ? path.data() : "";
}

/// proc(5): SigCgt.
bool System::catches(pid_t pid, int number) {
    const std::string file = std::string(kProc) + "/" + std::to_string(pid) + "/status";
    const Fd status(close_on_exec(::open(file.c_str(), O_RDONLY)));
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

bool is_ours(uid_t user) { return user == ::geteuid() || user == 0; }

/// Whether the process at the other end of a Unix-domain socket is ours.
bool unix_peer_is_ours(int fd) {
#if defined(SCM_CREDENTIALS)  // Linux: SO_PEERCRED gives a struct ucred
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && is_ours(peer.uid);
#elif defined(PORTABLE)
    return fd >= 0;
#else
    uid_t user = 0;
    gid_t group = 0;
    return ::getpeereid(fd, &user, &group) == 0 && is_ours(user);
#endif
}

/// The same for --explain: who that is, and the question that the kernel answers it to.
std::pair<std::string, const char *> describe_unix_peer([[maybe_unused]] int fd) {
#if defined(SCM_CREDENTIALS)
    ucred peer{};
    socklen_t length = sizeof peer;
    ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
    return {"process " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid), "SO_PEERCRED, unix(7)"};
#elif defined(PORTABLE)
    return {"it cannot say; the mode of the socket's file keeps others out", "unix(7)"};
#else
    return {"the user there", "getpeereid(3)"};
#endif
}

/// Who owns a TCP socket of this machine. `here`: there is such a socket; `held`: a process has it open.
struct TcpOwner {
    bool here = false, held = false;
    uid_t user = 0;
};

#if defined(SOCK_DIAG_BY_FAMILY)
constexpr bool kHasTcpTable = true;

/// A socket to ask with.
Fd open_tcp_table() { return Fd(close_on_exec(::socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG))); }

void put_endpoint(const SocketAddress &address, __be16 &port, __be32 *words) {
    const auto *in = reinterpret_cast<const sockaddr_in *>(&address.storage);
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    port = in->sin_port;  // at the same place in both
    if (address.storage.ss_family == AF_INET) words[0] = in->sin_addr.s_addr;
    else std::memcpy(words, &in6->sin6_addr, 16);
}

/// Room for what the kernel answers over netlink(7): a head, then a body of the kind that the head names.
struct Answer {
    alignas(nlmsghdr) std::array<char, 1024> bytes{};

    /// Sends `question`, which begins with its head, to the netlink socket. Gives the answer's body when it is of this
    /// kind, else null. The answer is there at once: netlink works inside send(2).
    template <typename Body> const Body *to(int netlink, const nlmsghdr &question, std::uint16_t kind) {
        if (::send(netlink, &question, question.nlmsg_len, 0) < 0) return nullptr;
        const ssize_t n = ::recv(netlink, bytes.data(), bytes.size(), MSG_DONTWAIT);
        const auto *head = reinterpret_cast<const nlmsghdr *>(bytes.data());
        if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(Body))) || head->nlmsg_type != kind) return nullptr;
        return reinterpret_cast<const Body *>(bytes.data() + NLMSG_HDRLEN);
    }
};

/// Whether the address is certainly no one of this machine's, asked of the kernel's routing table (rtnetlink(7)):
/// packets to it leave by a network. Anything else, a failure too, is doubt. A bind(2) to it for a probe would tell
/// less: it fails for want of ports as well, and with ip_nonlocal_bind (ip(7)) it never fails.
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
    const Fd routes(close_on_exec(::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)));
    Answer answer;
    const auto *route = answer.to<rtmsg>(routes.get(), question.head, RTM_NEWROUTE);
    return route != nullptr && route->rtm_type == RTN_UNICAST;
}

/// The owner of the socket whose ends are `peer` and `own`, the other way round than ours, asked through `diag`.
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
    Answer answer;
    const auto *found = answer.to<inet_diag_msg>(diag, question.head, SOCK_DIAG_BY_FAMILY);
    if (found == nullptr) return {};
    if (found->id.idiag_dport != question.body.id.idiag_dport) return {};  // it is who listens there
    return {.here = true, .held = found->idiag_inode != 0, .user = found->idiag_uid};
}
#else
constexpr bool kHasTcpTable = false;
Fd open_tcp_table() { return {}; }
bool is_elsewhere(const SocketAddress &) { return true; }
TcpOwner tcp_owner(int, const SocketAddress &, const SocketAddress &) { return {}; }
#endif

// ---------------------------------------------------------------------------------------------------------------------
// 10. Who may come in
//
// The peer must be our own user or root. A Unix-domain socket tells who connected; for TCP on the loopback interface
// Linux's table of sockets does (sock_diag(7), the same as in /proc/net/tcp, but for one socket in constant time): the
// peer's own socket has an owner, and, as long as a process holds it, an inode. Systems without it: see above.
// ---------------------------------------------------------------------------------------------------------------------

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
    ends.own = unmapped(ends.own);
    ends.peer = unmapped(ends.peer);
    return ends;
}

bool Gate::open(bool allow_remote) {
    allow_remote_ = allow_remote;
    diag_ = open_tcp_table();
    if (kHasTcpTable && !diag_) complain_errno("sock_diag (needed to know who connects)");
    return !kHasTcpTable || static_cast<bool>(diag_);
}

bool Gate::admits(int fd) const {
    const Ends ends = ends_of(fd);
    if (!ends.known) return false;  // it has gone already
    if (ends.own.storage.ss_family == AF_UNIX) return unix_peer_is_ours(fd);
    if (!kHasTcpTable) return true;  // the loopback interface is the wall
    const TcpOwner owner = tcp_owner(diag_.get(), ends.peer, ends.own);
    if (owner.here) return owner.held && is_ours(owner.user);
    return allow_remote_ && is_elsewhere(ends.peer);  // a socket of this machine would have an owner: doubt means no
}

bool Gate::has_left(int fd) const {
    pollfd entry{.fd = fd, .events = 0, .revents = 0};
    if (::poll(&entry, 1, 0) > 0) return true;  // POLLHUP or POLLERR: closed both ways, or reset
    const Ends ends = ends_of(fd);
    if (!ends.known) return true;
    if (ends.own.storage.ss_family == AF_UNIX || !kHasTcpTable) return false;
    const TcpOwner owner = tcp_owner(diag_.get(), ends.peer, ends.own);
    return owner.here ? !owner.held : !(allow_remote_ && is_elsewhere(ends.peer));
}

// ---------------------------------------------------------------------------------------------------------------------
// 11. The narrator (--explain)
//
// Tells on standard error what happens on the terminal while it happens, for those who learn: a line an event, indented
// by who acts. The session's events pass it in one-line calls; when nobody listens each returns at once. It looks, and
// changes nothing: a standard error that takes nothing costs lines, and makes nobody wait.
//
// Nobody is told when a program changes its pty. The narrator looks once a turn and before each write to the
// master, so that a key is explained by the settings that it meets; a change and its opposite between two looks are
// not seen.
// ---------------------------------------------------------------------------------------------------------------------

/// A flag of struct termios, and what it means to have it or not.
struct SettingText {
    tcflag_t termios::*field;
    tcflag_t flag;
    const char *name, *on, *off;
};

constexpr std::array kSettingTexts = {
    SettingText{&termios::c_lflag, ICANON, "ICANON", "input is kept until Enter", "each byte is passed on at once"},
    SettingText{&termios::c_lflag, ECHO, "ECHO", "the kernel shows what is typed", "it does not show what is typed"},
    SettingText{&termios::c_lflag, ISIG, "ISIG", "Ctrl-C makes a signal", "Ctrl-C is a byte like others"},
    SettingText{&termios::c_iflag, ICRNL, "ICRNL", "Enter's CR becomes NL", "Enter's CR stays CR"},
    SettingText{&termios::c_iflag, IXON, "IXON", "Ctrl-S stops output", "Ctrl-S is a byte like others"},
    SettingText{&termios::c_oflag, OPOST, "OPOST", "NL is shown as CR NL", "output is passed as it is"},
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

/// Bytes as a person reads them: 'ls\r', at most 40 of them, and no control characters (of 8 bits neither).
std::string quoted(std::string_view bytes) {
    const std::string_view first = bytes.substr(0, 40);
    std::string text = "'";
    for (const char c : first.substr(0, first.size() - (first == bytes ? 0 : cut_tail(first)))) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '\r' || c == '\n' || c == '\t' || c == '\x1B')
            text += c == '\r' ? "\\r" : c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\e";
        else if (byte < 0x20 || byte == 0x7F) text.append({'^', static_cast<char>(c ^ 0x40)});
        else if (byte >= 0x80 && byte < 0xA0 && (text.back() == '\xC2' || (text.back() & 0x80) == 0)) text.back() = '?';
        else text += c;
    }
    return text + (first == bytes ? "'" : "'...");
}

std::string count_of(std::size_t n, const char *what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

/// A password is being read, it seems: lines that the kernel does not show.
bool is_secret(const termios &settings) { return (settings.c_lflag & (ICANON | ECHO)) == ICANON; }

/// Who is at the other end, and which question the kernel answers it to.
std::pair<std::string, const char *> describe_peer(int socket) {
    if (ends_of(socket).own.storage.ss_family == AF_UNIX) return describe_unix_peer(socket);
    if (kHasTcpTable) return {"the owner of the socket at the other end", "sock_diag(7)"};
    return {"who comes to a port of this machine, it cannot say", "accept(2)"};
}

/// A pipe that poll(2) calls writable takes a line, but a terminal may take a part of it and make us wait with the
/// rest. O_NONBLOCK belongs to the open file, which the caller has too: so the terminal is opened once more.
void Narrator::listen() {
    std::array<char, PATH_MAX> name{};
    if (::ttyname_r(STDERR_FILENO, name.data(), name.size()) == 0)
        own_.reset(close_on_exec(::open(name.data(), O_WRONLY | O_NOCTTY | O_NONBLOCK)));
    on_ = true;
}

void Narrator::write_out() {
    pollfd ready{.fd = own_ ? own_.get() : STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (line_.empty() || ::poll(&ready, 1, 0) != 1) return;
    const ssize_t n = ::write(ready.fd, line_.data(), line_.size());
    if (n > 0) line_.erase(0, static_cast<std::size_t>(n));
}

void Narrator::tell(Actor actor, const std::string &what, const char *page) {
    if (!on_) return;
    write_out();
    if (!line_.empty()) return void(++missed_);
    constexpr std::array kNames = {"shim", "  kernel", "    program", "      client"};
    if (missed_ > 0) line_ = "(" + count_of(std::exchange(missed_, 0), "line") + " left out)\n";
    line_ += kNames[static_cast<std::size_t>(actor)] + std::string(": ") + what;
    line_ += *page == '\0' ? "\n" : std::string("  [") + page + "]\n";
    write_out();
}

void Narrator::made(const Pty &pty) {
    if (!on_) return;
    std::array<char, PATH_MAX> name{};
    ::ttyname_r(pty.slave(), name.data(), name.size());
    tell(Actor::shim, "makes a pseudoterminal: two ends with a line discipline between them; the master is "
                      "descriptor " + std::to_string(pty.master()) + ", the slave is " + name.data(),
         "openpty(3), pty(7)");
    ::tcgetattr(pty.slave(), &settings_);
}

void Narrator::started(const Pty &pty, char **argv) {
    if (!on_) return;
    tell(Actor::shim, "forks; the child is process " + std::to_string(pty.pid()), "fork(2)");
    tell(Actor::program, "setsid: a session and process group of its own, without a controlling terminal", "setsid(2)");
    tell(Actor::program, "TIOCSCTTY: the slave is its controlling terminal now: Ctrl-C and hang-ups reach it",
         "ioctl_tty(2)");
    tell(Actor::program, "dup2: the slave is its standard input, output and error", "dup2(2)");
    tell(Actor::program, std::string("execvp ") + argv[0] + ": isatty(3) says yes to it", "exec(3)");
}

void Narrator::client(int socket, const char *what, const char *page) {
    if (on_ && socket >= 0) tell(Actor::shim, "client " + std::to_string(socket) + " " + what, page);
}

void Narrator::came(int socket, bool admitted) {
    if (!on_) return;
    const auto [who, page] = describe_peer(socket);
    tell(Actor::client, std::to_string(socket) + " connects: so the shim calls it, by its descriptor", "accept(2)");
    tell(Actor::shim, "asks the kernel who that is: " + who + ": " +
                          (admitted ? "let in" : "sent away, for only this user and root may come in"), page);
}

void Narrator::window(const Pty &pty, int socket, const winsize &size) {
    if (!on_) return;
    const bool same = size.ws_row == pty.size().ws_row && size.ws_col == pty.size().ws_col;
    const std::string grid = std::to_string(size.ws_col) + "x" + std::to_string(size.ws_row);
    tell(Actor::client, std::to_string(socket) + (size.ws_row == 0 ? " has no window" : " has a window of " + grid) +
                            (same ? ", as the terminal has: the program is not disturbed" : ""));
}

void Narrator::resized(const Pty &pty) {
    if (!on_) return;
    const winsize &size = pty.size();
    tell(Actor::shim, "sets the window to " + std::to_string(size.ws_col) + "x" + std::to_string(size.ws_row),
         "TIOCSWINSZ, ioctl_tty(2)");
    const pid_t group = ::tcgetpgrp(pty.master());
    tell(Actor::kernel, group > 0 ? "it was another size: SIGWINCH to process group " + std::to_string(group) +
                                        ", the one in the foreground"
                                  : "nobody is in the foreground yet: no SIGWINCH", "ioctl_tty(2), signal(7)");
}

void Narrator::said(const Pty &pty, int socket, std::string_view bytes) {
    if (!on_ || bytes.empty()) return;
    look(pty);
    tell(Actor::client, std::to_string(socket) + " types " +
                            (is_secret(settings_) ? count_of(bytes.size(), "byte") + ", a secret" : quoted(bytes)));
}

void Narrator::explain_key(std::size_t special, char byte) {
    const SpecialKey &key = kSpecialKeys[special];
    const std::string name = quoted({&byte, 1}) + " is " + key.name + ": " + key.what;
    if (key.flag != ISIG) return tell(Actor::kernel, name, "termios(3)");
    const bool flush = (settings_.c_lflag & NOFLSH) == 0;
    tell(Actor::kernel, name + " to process group " + std::to_string(foreground_) + ", the one in the foreground; no "
                            "byte is passed on" + (flush ? ", and what is unread is thrown away (no NOFLSH)" : ""),
         "termios(3), signal(7)");
}

void Narrator::explain_plain(std::string_view bytes, bool secret) {
    const bool lines = (settings_.c_lflag & ICANON) != 0, echo = (settings_.c_lflag & ECHO) != 0;
    const std::size_t end = bytes.find_last_of((settings_.c_iflag & ICRNL) != 0 ? "\r\n" : "\n") + 1;
    const bool ends = lines && end > 0;
    const std::string_view part = bytes.substr(0, ends ? end : bytes.size());
    if (part.empty()) return;
    tell(Actor::kernel, (secret ? count_of(part.size(), "secret byte") : quoted(part)) +
                            (echo ? ": echoed, so the master gives it back (ECHO)" : ": not echoed (no ECHO)") +
                            (!lines ? ", and passed on at once (no ICANON)"
                             : ends ? ", and the line is complete: the program may read it (ICANON)"
                                    : ", and kept until Enter (ICANON)"), "termios(3)");
    explain_plain(bytes.substr(part.size()), secret);
}

void Narrator::typed(const Pty &pty, std::string_view bytes) {
    if (!on_ || bytes.empty()) return;
    termios now = settings_;
    ::tcgetattr(pty.slave(), &now);
    const bool secret = is_secret(settings_) || is_secret(now);  // it may have become one in between
    std::size_t begin = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        const auto acts = [&](const SpecialKey &key) {
            const bool on = (settings_.*key.field & key.flag) == key.flag;
            return on && settings_.c_cc[key.index] == byte && byte != static_cast<unsigned char>(_POSIX_VDISABLE);
        };
        const auto *key = std::find_if(kSpecialKeys.begin(), kSpecialKeys.end(), acts);
        if (std::exchange(literal_, false) || key == kSpecialKeys.end()) continue;
        explain_plain(bytes.substr(begin, i - begin), secret);
        explain_key(static_cast<std::size_t>(key - kSpecialKeys.begin()), bytes[i]);
        literal_ = key->index == VLNEXT;
        begin = i + 1;
    }
    explain_plain(bytes.substr(begin), secret);
}

void Narrator::printed(std::string_view bytes, std::size_t clients, bool recorded) {
    if (!on_ || bytes.empty()) return;
    tell(Actor::shim, "reads " + quoted(bytes) + " (" + count_of(bytes.size(), "byte") + ") from the master, " +
         (recorded ? "records it, then shows it to " : "shows it to ") + count_of(clients, "client"));
}

void Narrator::program_waits(bool now, bool behind) {
    if (!on_ || std::exchange(paced_, now) == now) return;
    tell(Actor::shim, now ? "reads the master no more while the client that paces the program is behind: when the "
                            "kernel's buffer is full, the program's write(2) waits"
                  : behind ? "reads the master again: the client has caught up"
                           : "reads the master again: a client that takes nothing for a second paces nobody", "pty(7)");
}

void Narrator::ended(const Pty &pty, int status) {
    if (!on_) return;
    look(pty);
    tell(Actor::program, "has ended with status " + std::to_string(status), "waitpid(2)");
    tell(Actor::shim, "drains: reads what the terminal still holds, closes its own slave, and reads on", "pty(7)");
}

void Narrator::drained(int error) {
    if (!on_) return;
    const bool ended = error == EIO || error == 0;
    tell(Actor::kernel, std::string("the master gives no more: ") +
         (error == EIO ? "EIO" : error == 0 ? "end of file" : std::strerror(error)) +
         (ended ? ", no process has the slave open"
          : error == EAGAIN ? ", another process still has the slave open" : ""),
         "pty(7)");
}

void Narrator::look(const Pty &pty) {
    termios now;
    if (!on_ || pty.slave() < 0 || ::tcgetattr(pty.slave(), &now) != 0) return;
    write_out();
    std::string changes;
    for (const SettingText &text : kSettingTexts) {
        const bool is = (now.*text.field & text.flag) != 0, was = (settings_.*text.field & text.flag) != 0;
        if (is == was) continue;
        changes += (changes.empty() ? "" : "; ") + std::string(is ? "" : "-") + text.name + ": ";
        changes += is ? text.on : text.off;
    }
    settings_ = now;
    const tcflag_t mode = now.c_lflag & (ICANON | ECHO | ISIG);
    const char *meaning = (mode & ICANON) != 0 ? ((mode & ECHO) != 0 ? " (a usual terminal)" : " (a password?)")
                          : mode == 0 ? " (raw: an editor)" : mode == ISIG ? " (a shell's own line editing?)" : "";
    if (!changes.empty()) tell(Actor::program, "changes the terminal's settings: " + changes + meaning, "tcsetattr(3)");
    const pid_t group = ::tcgetpgrp(pty.master()), before = foreground_;
    if (group <= 0 || std::exchange(foreground_, group) == group) return;
    tell(Actor::program, "process group " + std::to_string(group) + (before < 0 ? ", its own, is in the foreground"
                                                                                : " is in the foreground now") +
         ": only that may read, and Ctrl-C is for it", before < 0 ? "ioctl_tty(2)" : "tcsetpgrp(3), credentials(7)");
}

// ---------------------------------------------------------------------------------------------------------------------
// 12. The command line
// ---------------------------------------------------------------------------------------------------------------------

constexpr char kUsage[] =
    "Usage: shim [OPTION]... ADDRESS PROGRAM [ARG]...\n"
    "Runs PROGRAM on a terminal of its own in the background; attach ADDRESS shows that terminal.\n"
    "ADDRESS: a session's NAME (letters, digits, . _ - @), PORT (on the loopback interface; 0: any free one),\n"
    "HOST:PORT, [IPV6]:PORT, or a path with a /.\n"
    "\n"
    "  -r, --record FILE          write the recording there (default: shim-<port>-<UTC time>.cast in this folder;\n"
    "                             of a named session <name>-<UTC time>.cast in $SHIM_RECORDS or ~/.local/state/shim)\n"
    "  -n, --no-record            no recording\n"
    "  -i, --record-input         record what clients type too, except while the terminal does not echo\n"
    "  -m, --max-record SIZE      stop recording there; the session goes on\n"
    "  -s, --size COLSxROWS       first window size (default: this terminal's, else 80x24)\n"
    "  -H, --history SIZE|all|none  what a late client is sent first (default: 64K)\n"
    "  -w, --wait                 start PROGRAM when the first client is there\n"
    "  -v, --view ADDRESS         listen there too, for viewers: what they send is thrown away\n"
    "  -f, --foreground           stay in the foreground and exit with PROGRAM's status; standard output gets what\n"
    "                             PROGRAM prints, unless it is a terminal\n"
    "  -g, --grace SECONDS        from the request to end up to SIGKILL, 0 to 86400 (default: 10)\n"
    "      --explain              tell on standard error what happens on the terminal (implies -f)\n"
    "      --allow-remote         take an ADDRESS that is not loopback: whoever reaches it owns the terminal\n"
    "  -h, --help                 show this\n"
    "  -V, --version              show the version\n"
    "\n"
    "SIZE is a number of bytes, or one with K, M or G (1024) behind it.\n"
    "Signals: SIGTERM, SIGINT and SIGQUIT end the session: PROGRAM gets SIGTERM and SIGHUP (one of them, when that is\n"
    "all it handles) and, after the grace, SIGKILL; a second one does not wait. SIGHUP only hangs the terminal up.\n"
    "SIGUSR1 puts a marker into the recording. SIGUSR2 makes the socket anew where somebody has removed it.\n"
    "Exit status: 0 started, 2 usage, 125 could not start, 126 PROGRAM cannot be executed, 127 it was not found.\n";

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
bool set_option(int option, const char *value, Options &options) {
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
    case 'E': options.explain = options.foreground = true; return true;
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
        {"foreground", no_argument, nullptr, 'f'},       {"explain", no_argument, nullptr, 'E'},
        {"allow-remote", no_argument, nullptr, 'R'},
        {"grace", required_argument, nullptr, 'g'},
        {"help", no_argument, nullptr, 'h'},             {"version", no_argument, nullptr, 'V'},
        {nullptr, 0, nullptr, 0},
    };
    opterr = 0;  // our own messages, in our own form
    for (;;) {
        const int option = ::getopt_long(argc, argv, "+:r:nim:s:H:wv:fg:hV", kLong, nullptr);
        if (option == -1) break;
        if (option == 'h' || option == 'V') {
            if (option == 'h') std::fputs(kUsage, stdout);
            else std::printf("%s %s\n", kProgram, kVersion);
            return std::fflush(stdout) == 0 ? 0 : kExitFailed;
        }
        if (option == '?' || option == ':') {
            const std::string word = argv[std::min(optind, argc) - 1];  // musl goes on over a value that is missing
            const std::string name = word.starts_with("--") ? word : std::string{'-', static_cast<char>(optopt)};
            complain(name, option == ':' ? "a value is missing" : "no such option, or not used so (see shim --help)");
            return kExitUsage;
        }
        if (!set_option(option, optarg, options)) return kExitUsage;
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
// 13. Starting and ending
//
// The daemon is forked first and does all the work that can fail, with the caller's standard error still open; the
// caller waits for its readiness line on a socket, or for its end. A lock taken before the fork would not survive it.
// ---------------------------------------------------------------------------------------------------------------------

/// Whether execve(2) would take `file`; if not, errno says why.
bool is_executable(const std::string &file) {
    struct stat status{};
    if (::access(file.c_str(), X_OK) != 0 || ::stat(file.c_str(), &status) != 0) return false;
    errno = EACCES;
    return S_ISREG(status.st_mode);
}

/// The file that execvp(3) would take for `name`; or "" with the reason in errno.
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

/// The settings of the terminal that we are started from (stty erase ^H), as its user wants them. Raw mode is nobody's
/// wish: it tells of a program in the middle of something.
std::optional<termios> first_settings() {
    termios settings{};
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::tcgetattr(stream, &settings) == 0 && (settings.c_lflag & ICANON) != 0) return settings;
    return std::nullopt;
}

/// `record` in the folder of this program, which was started as `self_name`; or "".
std::string find_record(const std::string &self_name) {
    std::array<char, PATH_MAX> path{};
    std::string self = own_file();
    if (self.empty() && ::realpath(find_executable(self_name).c_str(), path.data()) != nullptr) self = path.data();
    const std::string record = self.substr(0, self.rfind('/') + 1) + "record";
    return !self.empty() && ::access(record.c_str(), X_OK) == 0 ? record : "";
}

std::string utc_now() {
    std::array<char, 32> text{};
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    return {text.data(), std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts)};
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

/// Makes a folder with those that it is in, for its user alone. False with errno.
bool make_folders(const std::string &path) {
    for (std::size_t at = 0; at != std::string::npos;) {
        at = path.find('/', at + 1);
        if (::mkdir(path.substr(0, at).c_str(), 0700) != 0 && errno != EEXIST) return false;
    }
    return true;
}

/// The name of the recording when none was chosen, without its .cast: of a named session in a folder where it is found
/// years later, made if need be; else in the current one. Gives "" with a message when there is no such folder.
std::string Session::default_name() const {
    if (!is_session_name(options_.address)) return "shim-" + listener_.label() + "-" + utc_now();
    const std::string folder = records_folder();
    const bool absolute = folder.starts_with('/');
    if (absolute && make_folders(folder)) return folder + "/" + options_.address + "-" + utc_now();
    constexpr char kNoPath[] = "no absolute path for recordings: set SHIM_RECORDS, or -r or -n";
    complain(folder, absolute ? std::strerror(errno) : kNoPath);
    return "";
}

/// Makes the recording: FILE, or a file of a name that nobody else has. Gives 0, or with a message the exit status.
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

/// Whether a session is wanted still: neither has a signal come since the start, nor was the caller ended meanwhile.
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
    int status = listen_at(listener_, options.address, where, options.allow_remote);
    if (status == 0 && viewers) status = listen_at(view_listener_, options.view, view_where, options.allow_remote);
    if (status != 0) return status;
    narrator_.tell(Actor::shim, "listens on " + listener_.name(), "listen(2)");
    if (!gate_.open(options.allow_remote)) return kExitFailed;
    spare_.reset(close_on_exec(::open("/dev/null", O_RDONLY)));
    painter_.open(find_record(options.self));
    if (!painter_.is_open()) complain("record", "none beside shim: late clients get the last bytes as they were");
    ::setenv("TERM", "xterm-256color", 0);
    ::setenv("SHIM_ADDRESS", listener_.address().c_str(), 1);
    const winsize size = options.size.ws_row != 0 ? options.size : first_window();
    if (options.record) status = open_recording(header_line(options, size, listener_.address()));
    if (status != 0) return status;
    if (!pty_.open(size, first_settings())) return kExitFailed;
    narrator_.made(pty_);
    recorder_.resize(size, true);
    if (!options.record && painter_.is_open()) recorder_.remember();
    if (!is_wanted(caller)) return kExitFailed;
    if (!options.wait) status = pty_.start(options.program, true);
    else if (find_executable(options.program[0]).empty()) status = exec_status(errno);  // its exec comes later
    if (status != 0) complain_errno(options.program[0]);
    if (status != 0 || options.wait) return status;
    narrator_.started(pty_, options.program);
    phase_ = Phase::running;
    return 0;
}

void Session::abandon() { pty_.signal(SIGKILL, true); }

std::string Session::readiness() const {
    return std::string(kProgram) + ": listening on " + listener_.name() + ", pid " + std::to_string(::getpid()) + ", " +
           (recorder_.is_open() ? "recording " + recording_name_ : "not recording") +
           (view_listener_.is_open() ? ", viewers on " + view_listener_.name() : "") + "\n";
}

/// The child's side of a fork: cat(1) copies what comes from `socket` to standard output. Whoever ends this session
/// with Ctrl-C, or a service manager's signal to all its processes, means the program: its last words are to come.
[[noreturn]] void become_copier(int socket) {
    ::dup2(socket, STDIN_FILENO);
    reset_signals();
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
    ::execlp("cat", "cat", static_cast<char *>(nullptr));
    complain("cat", std::strerror(errno));
    ::_exit(kExitNotFound);
}

bool Session::copy_output() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) {
        complain_errno("socketpair");
        return false;
    }
    Client client;
    client.socket.reset(close_on_exec(ends[0]));
    const Fd others(close_on_exec(ends[1]));
    copier_ = ::fork();
    if (copier_ == 0) become_copier(others.get());
    if (copier_ < 0) {
        copier_ = 0;
        complain_errno("fork");
        return false;
    }
    client.copier = client.viewer = true;
    client.stage = Stage::live;
    client.progress = now_;
    clients_.push_back(std::move(client));
    return true;
}

/// Nothing of the caller's stays open but the three standard streams, which are all open afterwards. False with a
/// message.
bool close_inherited() {
    int fd = ::open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO) fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) {
        complain_errno("/dev/null");
        return false;
    }
    close_from(STDERR_FILENO + 1);
    return true;
}

/// The caller's part, which ends with the status that the start has earned: passes the daemon's readiness line on, and
/// tells the daemon so.
[[noreturn]] void await_daemon(pid_t daemon, int from_daemon) {
    std::array<char, 4096> bytes;
    std::string line;
    for (ssize_t n = 1; n > 0;) {
        n = ::read(from_daemon, bytes.data(), bytes.size());
        line.append(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
    if (!line.empty()) {
        [[maybe_unused]] const ssize_t n = ::write(STDOUT_FILENO, line.data(), line.size());
        ::_exit(::write(from_daemon, "", 1) == 1 ? 0 : kExitFailed);
    }
    int wait_status = 0;
    const bool ended = ::waitpid(daemon, &wait_status, 0) == daemon;
    ::_exit(ended && wait_status != 0 ? exit_status(wait_status) : kExitFailed);
}

/// Forks the daemon. There, gives a socket to the caller, who stays inside.
///
/// setsid(2) takes the daemon out of the caller's session: no ^C and no hang-up of that terminal reaches it. Of what
/// the books have a daemon do besides (daemon(3), daemon(7)):
///   * no second fork: it would only make the daemon no leader of its session, because a leader that opens a terminal
///     may get it for its controlling one (POSIX, section 11.1.3). Here openpty(3) alone opens one, with O_NOCTTY;
///   * chdir(2) to / comes later, when the program has started in the caller's folder: leave_folder();
///   * umask(2) stays, as the program inherits it: each file of ours is given its mode;
///   * the standard streams go to /dev/null at the end of the start, which reports its errors there: release_caller().
Fd fork_daemon() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) {
        complain_errno("socketpair");
        ::_exit(kExitFailed);
    }
    const pid_t daemon = ::fork();
    if (daemon < 0) {
        complain_errno("fork");
        ::_exit(kExitFailed);
    }
    ::close(ends[daemon == 0 ? 0 : 1]);
    if (daemon > 0) await_daemon(daemon, ends[0]);
    ::setsid();
    return Fd(close_on_exec(ends[1]));
}

/// Lets go of the caller: the standard streams go to /dev/null, or whoever reads the caller's would never see their
/// end, and `line` tells that the session is ready. True when the caller has told it on: one that was ended before
/// (Ctrl-C) knows of no session, and there must be none.
bool release_caller(const Fd &caller, const std::string &line) {
    const Fd null(close_on_exec(::open("/dev/null", O_RDWR)));
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::dup2(null.get(), stream) < 0) return false;
    if (::write(caller.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return false;
    ::shutdown(caller.get(), SHUT_WR);
    char taken = 0;
    return ::read(caller.get(), &taken, 1) == 1;
}

/// The whole run; everything that was made is owned by something in here, and goes when it returns.
int run_shim(const Options &options) {
    Fd caller;
    if (!options.foreground) caller = fork_daemon();
    Session session;
    if (const int status = session.start(options, caller.get()); status != 0) return status;
    const std::string line = session.readiness();
    bool ready = false;
    if (options.foreground) {
        [[maybe_unused]] const ssize_t n = ::write(STDOUT_FILENO, line.data(), line.size());
        ready = ::isatty(STDOUT_FILENO) != 0 || session.copy_output();
    } else {
        ready = release_caller(caller, line);
        caller.reset();
    }
    if (ready) return session.run();
    session.abandon();
    return kExitFailed;
}

}  // namespace

int main(int argc, char **argv) {
    Options options;
    if (const auto status = parse_command_line(argc, argv, options)) return *status;
    options.self = argv[0];
    if (!close_inherited()) return kExitFailed;
    ::signal(SIGCHLD, SIG_DFL);  // a caller may have it ignored, and then no status of a child can be had: wait(2)
    return run_shim(options);
}
