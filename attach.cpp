// attach - brings a session that a shim keeps to this terminal: look, type, detach, come back.
//
//     attach [-e KEY] [-r] [-R] [-p] [-q] ADDRESS [PROGRAM [ARG]...]
//     attach -k ADDRESS                                                       ends a session
//     attach                                                                  lists those that have a name
//
//      the user's terminal                                                     the session
//     ┌──────────┐ standard input   ┌──────────────────┐  to_shim   ┌────────┐    ┌──────┐
//     │ keyboard ├─────────────────►│ attach           ├───────────►│ socket ├───►│ shim │
//     │ screen   │◄─────────────────┤ (raw mode,       │◄───────────┤        │◄───┤      │
//     └──────────┘ standard output  │  64 KiB each way)│  to_screen └────────┘    └──────┘
//                                   └──────────────────┘
//
// From the moment that it has connected, attach is a pipe with two ends, and most of what it does is about leaving:
// whatever way it ends (the detach key, the program's end, a lost connection, a signal, even a stop), the terminal must
// be as it was. What one comes for stands first:
//
//   1  raw mode          5  keys: the one that detaches     9  connecting, starting a session   13  first to last
//   2  signals           6  what the terminal was told     10  the sessions that run
//   3  the wire          7  names and addresses            11  a push
//   4  the copy loop     8  who listens                    12  the command line
//
// The wire: everything is raw bytes, but for a few messages. What attach sends first, and again when the window
// changes, is rlogin's window-change message (RFC 1282); the shim's last five bytes are its goodbye:
//
//     hello    FF FF 's' 's'  ROWS COLUMNS XPIXELS YPIXELS   16 bits each, network order; ROWS and COLUMNS 0: no window
//     goodbye  FF FF 'x' 'x'  STATUS                         the program's exit status, 128 + n for signal n
//     taken    FF FF 'o' 'k'                                 the answer to a push (-p)
//
// Exit status: the program's own when it ended; 0 detached, pushed, killed or listed; 254 connection lost, or a push
// cut short; 255 could not attach; 2 usage; 128 + n when signal n ended attach (it dies of it); what shim said (2, 125,
// 126, 127) when it had to be started and could not.
//
// Read beside it: termios(3), ioctl_tty(2), pselect(2), signal(7), console_codes(4), credentials(7), and XTerm
// Control Sequences ("ctlseqs").

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>  // htons
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>  // getopt_long: not POSIX, but everywhere
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>  // TCP_NODELAY
#include <poll.h>
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
#if __has_include(<linux/sockios.h>)
#include <linux/sockios.h>  // SIOCOUTQ
#endif
#if __has_include(<sys/ucred.h>)
#include <sys/ucred.h>  // xucred: FreeBSD
#endif
#if defined(PORTABLE)  // make PORTABLE=1: as on a system that has none of it
#undef SCM_CREDENTIALS
#undef SIOCOUTQ
#undef SO_PEERCRED
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

// ---------------------------------------------------------------------------------------------------------------------
// What all sections use
// ---------------------------------------------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kExitUsage = 2, kExitLost = 254, kExitNotAttached = 255;
constexpr int kNoKey = -1;  // no key detaches
constexpr milliseconds kLastWords{500};  // for the terminal to take our last words, and what restores it

/// What the command line asks for: section 12 reads it.
struct Options {
    std::string address{};          // as the user wrote it
    std::vector<char *> program{};  // PROGRAM [ARG]...: parts of main's argv
    int key = '\\' & 0x1F;          // the byte that detaches, or kNoKey
    bool read_only = false;
    bool raw = false;
    bool push = false;
    bool kill = false;
    bool quiet = false;
};

/// The end of an attach that has not touched the terminal yet.
[[noreturn]] void fail(int status, std::string_view what, std::string_view why) {
    complain(what, why);
    std::exit(status);
}

/// Writes a message that is no error to standard error; not to a terminal that stands still (Ctrl-S).
void say(bool quiet, const std::string &text) {
    const std::string line = "[" + text + "]\n";
    pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (quiet || ::poll(&ready, 1, static_cast<int>(kLastWords.count())) != 1) return;
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

/// Whether a system call failed for no other reason than that it is not the time.
bool is_transient(ssize_t result) { return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR); }

// ---------------------------------------------------------------------------------------------------------------------
// 1. Raw mode
//
// The driver of a terminal ('line discipline', termios(3)) collects a line until Return, echoes and edits it, and makes
// signals of some keys. The session's terminal has a line discipline that does so for its program. Were the one of the
// user's terminal to do it as well, each key would be echoed twice, come with Return only, and Ctrl-C would end attach.
//
// Standard input, output and error are most often one open file (open(2)), shared with the shell and whatever else runs
// there: O_NONBLOCK set on it would be set for all of them. So these three stay blocking, are used only when select(2)
// says that they are ready, and are written in pieces that then do not block: PIPE_BUF for a pipe (pipe(7)). A terminal
// promises no such thing, but can be opened anew by its name: another open file, with an O_NONBLOCK of its own.
//
// Simplified: a terminal that may not be opened again (su(1) leaves it to its first owner) can block us for as long as
// it stands still in the middle of a write.
// ---------------------------------------------------------------------------------------------------------------------

/// `settings`, changed to raw mode. cfmakeraw(3) does about the same, but is not POSIX, and does not tell why.
termios raw_mode(termios settings) {
    settings.c_lflag &= ~tcflag_t(ECHO | ECHONL);    // the session echoes
    settings.c_lflag &= ~tcflag_t(ICANON);           // each key at once: the session makes the lines
    settings.c_lflag &= ~tcflag_t(IEXTEN);           // Ctrl-V and Ctrl-O are keys
    settings.c_lflag &= ~tcflag_t(ISIG);             // Ctrl-C, Ctrl-Z, Ctrl-\ are keys: the session makes the signals
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

/// What the program has done to the user's terminal that must be known to undo it: section 6.
class ScreenState {
public:
    /// Takes in bytes that the terminal has got. Any bytes, cut anywhere.
    void follow(std::string_view written) {
        for (const char c : written) step(c);
    }
    /// What brings the terminal back, the cursor at the beginning of a line with nothing below.
    [[nodiscard]] std::string undo() const;

private:
    enum class State { text, escape, control, string };
    static constexpr std::size_t kLongest = 64;  // of a control sequence that is looked at

    void step(char c);
    void begin_sequence(char c);
    void end_control_sequence();
    void set_mode(std::uint64_t number, bool on);
    [[nodiscard]] std::string pop_keyboard(std::size_t screen) const;

    State state_ = State::text;
    std::string sequence_;          // what came after ESC [
    std::uint64_t alternate_ = 0;   // the mode that switched to the alternate screen: 47, 1047, 1049
    bool origin_ = false;           // rows count from the top of the scroll region
    bool at_margin_ = true;         // the cursor is in the first column, as far as we know
    bool main_at_margin_ = true;    // ... on the main screen, while the other one is on
    std::uint64_t pushed_[2] = {};  // kitty's keyboard modes: of the main screen, of the alternate one
};

/// Sent first. Modes that are as the user likes them, so there is no telling what they were: XTSAVE keeps them, and
/// XTRESTORE (in kTakeBack) restores them. Cursor blinks; the wheel sends arrow keys; Meta sets the eighth bit, Meta or
/// Alt sends ESC.
constexpr char kKeep[] = "\033[?12;1007;1034;1036;1039s";

/// The terminal that attach runs on; or what stands in its place, a pipe say, on either side.
class UserTerminal {
public:
    UserTerminal();

    void enter_raw_mode();
    /// Brings back the settings and the screen's modes as they were before raw mode; once, however often it is called.
    void restore();
    /// write(2) to standard output, of what it takes without blocking once select(2) has said that it is ready.
    ssize_t write(std::string_view bytes);

    [[nodiscard]] bool has_screen() const { return has_screen_; }
    [[nodiscard]] bool has_keys() const { return has_keys_; }
    [[nodiscard]] int output() const { return output_anew_ ? output_anew_.get() : STDOUT_FILENO; }

private:
    void write_own(const std::string &text) const;

    bool has_keys_ = ::isatty(STDIN_FILENO) == 1;
    bool has_screen_ = ::isatty(STDOUT_FILENO) == 1;
    bool entered_ = false;       // between enter_raw_mode() and restore()
    bool has_settings_ = false;  // settings_ are what standard input had before
    termios settings_{};
    Fd output_anew_;             // standard output's terminal, opened once more
    ScreenState screen_;
};

UserTerminal::UserTerminal() {
    const char *name = has_screen_ ? ::ttyname(STDOUT_FILENO) : nullptr;
    if (name != nullptr) output_anew_.reset(::open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (output_anew_.get() >= FD_SETSIZE) output_anew_.reset();
}

/// TCSANOW keeps what has been typed ahead (TCSAFLUSH would throw it away): it is for the program. In the background
/// (`attach work &`) the kernel answers tcsetattr(3) with SIGTTOU, and attach stops until the shell puts it in front.
void UserTerminal::enter_raw_mode() {
    entered_ = true;
    has_settings_ = has_keys_ && ::tcgetattr(STDIN_FILENO, &settings_) == 0;
    const termios raw = raw_mode(settings_);
    if (has_settings_) ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    if (has_screen_) write_own(kKeep);
}

void UserTerminal::restore() {
    if (!std::exchange(entered_, false)) return;
    if (has_screen_) write_own(screen_.undo());
    screen_ = ScreenState();
    if (has_settings_) ::tcsetattr(STDIN_FILENO, TCSANOW, &settings_);
}

ssize_t UserTerminal::write(std::string_view bytes) {
    const std::size_t most = output_anew_ ? bytes.size() : PIPE_BUF;
    const ssize_t n = ::write(output(), bytes.data(), std::min(most, bytes.size()));
    if (n > 0) screen_.follow(bytes.substr(0, static_cast<std::size_t>(n)));
    return n;
}

/// Writes words of our own, for as long as the terminal takes some; one that is stuck does not hold us.
void UserTerminal::write_own(const std::string &text) const {
    pollfd ready{.fd = output(), .events = POLLOUT, .revents = 0};
    for (std::size_t done = 0; done < text.size() && ::poll(&ready, 1, kLastWords.count()) == 1;) {
        const ssize_t n = ::write(output(), &text[done], text.size() - done);
        if (n <= 0) return;
        done += static_cast<std::size_t>(n);
    }
}

/// The window of standard output's terminal, else of standard input's. A terminal that knows no size (a serial line, a
/// container's before its first resize) counts as 80x24, as terminfo says: all zero would mean that there is none.
winsize window_size() {
    for (const int fd : {STDOUT_FILENO, STDIN_FILENO}) {
        winsize window{};
        if (::ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_row != 0 && window.ws_col != 0) return window;
    }
    return {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Signals
//
// They are blocked but where the loop lets them in, so a handler only sets a flag and nothing is ever interrupted half
// done. A signal that was ignored when we started (nohup(1) does that) stays so: POSIX, sigaction, rationale.
//
// SIGWINCH is the kernel's word that the window has another size: the driver sends it to the foreground process group
// when somebody (the terminal emulator, sshd) sets one by TIOCSWINSZ: ioctl_tty(2).
// ---------------------------------------------------------------------------------------------------------------------

constexpr int kSignals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};

volatile std::sig_atomic_t g_ending = 0;     // the signal that ends us
volatile std::sig_atomic_t g_stopping = 0;   // SIGTSTP
volatile std::sig_atomic_t g_continued = 0;  // SIGCONT
volatile std::sig_atomic_t g_resized = 0;    // SIGWINCH

extern "C" void note_signal(int number) {
    if (number == SIGTSTP) g_stopping = 1;
    else if (number == SIGCONT) g_continued = 1;
    else if (number == SIGWINCH) g_resized = 1;
    else g_ending = number;
}

/// sigprocmask(2) for one signal: SIG_BLOCK or SIG_UNBLOCK.
void mask_signal(int how, int number) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    ::sigprocmask(how, &one, nullptr);
}

void handle_signal(int number) {
    struct sigaction action{}, before{};
    action.sa_handler = note_signal;
    sigemptyset(&action.sa_mask);
    mask_signal(SIG_BLOCK, number);
    ::sigaction(number, &action, &before);
    if (before.sa_handler == SIG_IGN && number != SIGCONT && number != SIGWINCH) ::sigaction(number, &before, nullptr);
}

void handle_signals() {
    for (const int number : kSignals) handle_signal(number);
    std::signal(SIGPIPE, SIG_IGN);  // write(2) says EPIPE
}

/// Lets the handlers of pending signals run. pselect(2) does so only when it has to wait: in a flood it never has.
void let_signals_in() {
    sigset_t none, before;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, &before);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

/// Dies of `number`, or stops until SIGCONT, as if it had never been handled: the shell must see which signal it was.
void obey_default(int number) {
    std::signal(number, SIG_DFL);
    ::kill(::getpid(), number);
    mask_signal(SIG_UNBLOCK, number);
    handle_signal(number);
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. The wire
//
// The goodbye has no frame around it: it is the last five bytes before the end of the connection, and only that end
// tells it from the program's own bytes. So bytes that may be its beginning are held back until more has come.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kGoodbyeBytes = 5;
constexpr std::string_view kTaken = "\xFF\xFFok";  // the answer to a push

/// What a hello without a window says in its x pixels: the output is a pipe or a file; a terminal that only watches;
/// or not wanted.
constexpr unsigned short kIsPipe = 0, kWatches = 1, kPushOnly = 2;

/// The window-change message, which is the hello too; without a window, rows and columns are 0.
std::string window_change(const winsize &window) {
    std::string message = "\xFF\xFFss";
    for (const unsigned short number : {window.ws_row, window.ws_col, window.ws_xpixel, window.ws_ypixel}) {
        message += static_cast<char>(number >> 8);
        message += static_cast<char>(number & 0xFF);
    }
    return message;
}

std::string hello_without_window(unsigned short kind) {
    return window_change({.ws_row = 0, .ws_col = 0, .ws_xpixel = kind, .ws_ypixel = 0});
}

/// How many bytes at the end of `received` (0 to 5) may be the goodbye or its beginning; 5 is all of it.
std::size_t bytes_of_goodbye(std::string_view received) {
    constexpr std::string_view kMagic = "\xFF\xFFxx";
    for (std::size_t n = std::min(kGoodbyeBytes, received.size()); n > 0; --n)
        if (received.substr(received.size() - n).starts_with(kMagic.substr(0, n))) return n;
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// 4. The copy loop
//
// Two directions that know nothing of each other, each with one bounded buffer: a side is read only while the buffer
// behind it has room, so a terminal that stands still stops the shim, a busy program stops the typing, and neither
// stops the other.
//
// Why pselect(2): a signal that came between the look at the flags and the start of a plain select(2) would set a flag
// that nobody looks at until the next byte. pselect(2) unblocks signals and begins to wait in one step.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::size_t kBufferBytes = 64 << 10;
constexpr std::size_t kTypedBytes = 16 << 20;  // of keys for a program that does not read: the detach key may follow
constexpr milliseconds kFarewell{1000};        // for the shim to take what was typed before the detach key

/// Why the copying has ended.
enum class End { none, detached, ended, lost, no_output, signal };

class Relay {
public:
    /// The hello is queued, nothing has been sent.
    Relay(const Options &options, UserTerminal &terminal, Fd socket);

    /// Copies until one side ends.
    void run();
    /// Whether we came to a session that was just ending: the kernel resets who has connected and is not accepted yet
    /// when the listener closes (listen(2)). Nobody has lost anything then, and another session can begin.
    [[nodiscard]] bool has_come_too_late() const {
        return end_ == End::lost && !has_copied_ && !options_.raw && !options_.program.empty();
    }
    /// Says how it has ended; gives the exit status. Dies of the signal, if one ended it.
    [[nodiscard]] int report() const;

private:
    // The steps of run().
    bool obey_signals();
    void read_input();
    void read_socket();
    void write_socket();
    void write_screen();
    [[nodiscard]] bool is_finished() const;
    [[nodiscard]] std::optional<timespec> time_left() const;

    [[nodiscard]] std::string hello() const;
    [[nodiscard]] std::size_t showable() const;
    void queue(std::string_view bytes);
    void read_goodbye();
    void attach_anew();  // section 9

    // Keys: section 5.
    void take_typed(std::string_view typed);
    void release_key_part();
    void detach();

    const Options &options_;
    UserTerminal &terminal_;
    Fd socket_;
    bool has_window_;         // the window's size is sent, first and whenever it changes
    bool input_open_;         // standard input is still read
    bool all_queued_;         // nothing more comes for the shim: when to_shim_ is empty, the sending side is shut down
    bool sending_ = true, receiving_ = true;  // the two directions of the socket
    bool has_copied_ = false;                 // something has been read, on either side
    std::string to_shim_, to_screen_;         // the two buffers
    std::string key_part_;    // typed last: perhaps the beginning of an encoded detach key
    Clock::time_point key_part_until_{};
    End end_ = End::none;
    int status_ = 0;          // of the program when end_ is `ended`; errno when it is `no_output`
    std::optional<Clock::time_point> deadline_;  // leave then, come what may
};

void Relay::run() {
    sigset_t none;
    sigemptyset(&none);
    obey_signals();
    write_socket();
    while (!is_finished()) {
        // Build the sets: who may be read, who has something to be written.
        fd_set readable, writable;
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        const std::size_t most_input = terminal_.has_keys() ? kTypedBytes : kBufferBytes;
        if (input_open_ && to_shim_.size() < most_input) FD_SET(STDIN_FILENO, &readable);
        if (receiving_ && to_screen_.size() < kBufferBytes) FD_SET(socket_.get(), &readable);
        if (!to_shim_.empty()) FD_SET(socket_.get(), &writable);
        if (showable() > 0) FD_SET(terminal_.output(), &writable);

        // Wait, and let signals in.
        const auto left = time_left();
        const int highest = std::max(socket_.get(), terminal_.output());
        const int ready = ::pselect(highest + 1, &readable, &writable, nullptr, left ? &*left : nullptr, &none);
        let_signals_in();

        // Dispatch. What was ready before a signal may not be so any more: the shell has had the terminal meanwhile.
        if (obey_signals() || ready < 0) {
            FD_ZERO(&readable);
            FD_ZERO(&writable);
        }
        if (FD_ISSET(STDIN_FILENO, &readable)) read_input();
        if (FD_ISSET(socket_.get(), &readable)) read_socket();

        // Flush. To send is tried each turn: a key goes out in the turn that has read it.
        if (!key_part_.empty() && Clock::now() >= key_part_until_) release_key_part();
        write_socket();
        if (FD_ISSET(terminal_.output(), &writable)) write_screen();
    }
}

Relay::Relay(const Options &options, UserTerminal &terminal, Fd socket)
    : options_(options), terminal_(terminal), socket_(std::move(socket)),
      has_window_((terminal.has_keys() || terminal.has_screen()) && !options.raw && !options.read_only),
      input_open_(!options.read_only || terminal.has_keys()), all_queued_(options.read_only) {
    if (!options.raw) to_shim_ = hello();
}

/// What the shim is told first: the window's size, or what the output is when there is no window to be followed.
std::string Relay::hello() const {
    if (has_window_) return window_change(window_size());
    return hello_without_window(terminal_.has_screen() ? kWatches : kIsPipe);
}

/// From standard input to the buffer for the shim.
void Relay::read_input() {
    char bytes[kBufferBytes];
    const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (is_transient(n)) return;
    if (n <= 0) {
        input_open_ = false;
        all_queued_ = true;
        if (terminal_.has_keys()) detach();  // the terminal was hung up
        return;
    }
    has_copied_ = true;
    const std::string_view typed(bytes, static_cast<std::size_t>(n));
    if (terminal_.has_keys()) take_typed(typed);
    else queue(typed);
}

/// More for the shim; when its end of the connection or that of the input has come, it gets no more.
void Relay::queue(std::string_view bytes) {
    if (sending_ && !all_queued_) to_shim_ += bytes;
}

/// From the buffer to the shim; behind its last byte goes the end of file, by shutdown(2): output is still to come.
void Relay::write_socket() {
    if (!to_shim_.empty()) {
        const ssize_t n = ::send(socket_.get(), to_shim_.data(), to_shim_.size(), MSG_DONTWAIT);
        if (n > 0) to_shim_.erase(0, static_cast<std::size_t>(n));
        else if (!is_transient(n)) sending_ = false;  // why, the end of what comes from there will tell
    }
    if (!sending_) to_shim_.clear();
    if (!sending_ || !all_queued_ || !to_shim_.empty()) return;
    ::shutdown(socket_.get(), SHUT_WR);
    sending_ = false;
}

/// From the shim to the buffer for the screen.
void Relay::read_socket() {
    char bytes[kBufferBytes];
    const ssize_t n = ::recv(socket_.get(), bytes, kBufferBytes - to_screen_.size(), MSG_DONTWAIT);
    if (is_transient(n)) return;
    if (n > 0) {
        has_copied_ = true;
        to_screen_.append(bytes, static_cast<std::size_t>(n));
        return;
    }
    receiving_ = sending_ = input_open_ = false;
    to_shim_.clear();
    if (end_ != End::none) return;
    end_ = End::lost;
    if (!options_.raw) read_goodbye();
}

/// The connection has ended: with a goodbye, the program has.
void Relay::read_goodbye() {
    if (bytes_of_goodbye(to_screen_) < kGoodbyeBytes) return;
    end_ = End::ended;
    status_ = static_cast<unsigned char>(to_screen_.back());
    to_screen_.resize(to_screen_.size() - kGoodbyeBytes);
}

/// How much of the buffer may go to the screen now: not what may be a goodbye.
std::size_t Relay::showable() const {
    const bool may_end = receiving_ && !options_.raw;
    return to_screen_.size() - (may_end ? bytes_of_goodbye(to_screen_) : 0);
}

/// From the buffer to the screen.
void Relay::write_screen() {
    const ssize_t n = terminal_.write(std::string_view(to_screen_).substr(0, showable()));
    if (n >= 0) to_screen_.erase(0, static_cast<std::size_t>(n));
    if (n >= 0 || is_transient(n)) return;
    status_ = errno;
    end_ = End::no_output;
}

/// Does what signals have asked for; whether there were any.
bool Relay::obey_signals() {
    const bool any = g_ending != 0 || g_stopping != 0 || g_continued != 0 || g_resized != 0;
    if (g_ending != 0) end_ = End::signal;
    if (std::exchange(g_resized, 0) != 0 && has_window_) queue(window_change(window_size()));
    if (std::exchange(g_stopping, 0) != 0) {
        terminal_.restore();
        obey_default(SIGTSTP);
        g_continued = 1;
    }
    if (std::exchange(g_continued, 0) != 0) {  // after SIGSTOP too, when a shell may have set the terminal as it likes
        terminal_.restore();
        terminal_.enter_raw_mode();
        attach_anew();
    }
    return any;
}

bool Relay::is_finished() const {
    if (deadline_ && Clock::now() >= *deadline_) return true;
    switch (end_) {
    case End::none: return false;
    case End::detached: return to_shim_.empty();
    case End::ended:
    case End::lost: return to_screen_.empty();
    default: return true;
    }
}

/// How long to wait for something to happen; nothing: for ever.
std::optional<timespec> Relay::time_left() const {
    std::optional<Clock::time_point> until = deadline_;
    const auto wake_at = [&](Clock::time_point time) { until = std::min(until.value_or(time), time); };
    if (!key_part_.empty()) wake_at(key_part_until_);
    if (!until) return std::nullopt;
    const std::chrono::nanoseconds left = std::max(*until - Clock::now(), Clock::duration(0));
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    return timespec{.tv_sec = static_cast<time_t>(seconds.count()), .tv_nsec = (left - seconds).count()};
}

// ---------------------------------------------------------------------------------------------------------------------
// 5. Keys
//
// The detach key is a byte of what is typed, and what is typed is a stream: the key may stand anywhere in it. A program
// can also ask the terminal to write keys as control sequences, and those may be cut between two reads: what may be the
// beginning of one is kept back for a moment, for a person may also have hit Escape and nothing else.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::string_view kParameterBytes = "0123456789;:";
constexpr std::size_t kLongestKey = 32;   // bytes of an encoded key
constexpr milliseconds kEscape{25};       // a lone ESC waits so long: Escape is a key
constexpr milliseconds kCutKey{500};      // what is clearly the beginning of a sequence waits longer
constexpr milliseconds kPaste{100};       // a pause so long ends what was pasted

/// How a user would call the key that is this byte.
std::string key_name(int key) {
    if (key >= 0x20 && key < 0x7F) return {static_cast<char>(key)};
    return std::string("Ctrl-") + static_cast<char>(key ^ 0x40);
}

/// The `n`th part of `text`, counted from 0, when `separator` stands between them; "" when there are not so many.
std::string_view nth_part(std::string_view text, char separator, std::size_t n) {
    for (; n > 0 && !text.empty(); --n) text.remove_prefix(std::min(text.find(separator), text.size() - 1) + 1);
    return text.substr(0, text.find(separator));
}

/// Whether ESC [ `parameters` `final` is Ctrl with the key that is the control character `key` otherwise:
///
///     CODE:...;MODIFIERS:EVENT u       kitty's keyboard protocol; event 3 is the release of the key
///     27;MODIFIERS;CODE ~              xterm's modifyOtherKeys
///     ..;..;CHARACTER;DOWN;.. _        Win32 input; DOWN 0 is the release
///
/// The modifiers are 1 + 4 for Ctrl, + 64 and 128 while caps lock and num lock are on.
bool is_encoded_key(std::string_view parameters, char final, int key) {
    const auto number = [&](std::size_t n, std::size_t part = 0) {
        return parse_number(nth_part(nth_part(parameters, ';', n), ':', part)).value_or(1);
    };
    const auto character = static_cast<std::uint64_t>(key), code = character + (key > 0 && key <= 26 ? 0x60 : 0x40);
    const bool has_ctrl = ((number(1) - 1) & ~std::uint64_t{64 + 128}) == 4;
    if (final == 'u') return number(0) == code && has_ctrl && number(1, 1) != 3;
    if (final == '~') return number(0) == 27 && has_ctrl && number(2) == code;
    return final == '_' && number(2) == character && number(3) == 1;
}

/// Where the detach key first stands in `typed`, as itself or encoded; npos when it does not.
std::size_t find_key(std::string_view typed, int key) {
    if (key == kNoKey) return std::string_view::npos;
    const std::size_t plain = typed.find(static_cast<char>(key));
    if (key >= 0x20) return plain;
    for (std::size_t at = typed.find("\033["); at < plain; at = typed.find("\033[", at + 2)) {
        const std::size_t end = typed.find_first_not_of(kParameterBytes, at + 2);
        if (end == std::string_view::npos) break;
        if (is_encoded_key(typed.substr(at + 2, end - at - 2), typed[end], key)) return at;
    }
    return plain;
}

/// How many bytes at the end of `typed` may be the beginning of an encoded key.
std::size_t bytes_of_cut_key(std::string_view typed) {
    const std::size_t at = typed.rfind('\033');
    if (at == std::string_view::npos || typed.size() - at > kLongestKey) return 0;
    const std::string_view rest = typed.substr(at + 1);
    const bool ends_in_parameters = rest.find_first_not_of(kParameterBytes, 1) == std::string_view::npos;
    return rest.empty() || (rest[0] == '[' && ends_in_parameters) ? typed.size() - at : 0;
}

/// Throws away what was typed behind the detach key: of a paste, it would become commands for the shell that reads this
/// terminal next.
void discard_typed(milliseconds pause) {
    char bytes[kBufferBytes];
    pollfd keyboard{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const auto end = Clock::now() + kFarewell;
    while (::poll(&keyboard, 1, static_cast<int>(pause.count())) == 1 && Clock::now() < end)
        if (::read(STDIN_FILENO, bytes, sizeof bytes) <= 0) return;
}

/// What a person has typed: keys for the program, up to the detach key.
void Relay::take_typed(std::string_view typed) {
    const std::string whole = std::exchange(key_part_, {}).append(typed);
    const std::string_view keys = whole;
    const std::size_t at = find_key(keys, options_.key);
    if (at != std::string_view::npos) {
        queue(keys.substr(0, at));
        detach();
        return discard_typed(keys.size() > kLongestKey ? kPaste : milliseconds(0));
    }
    const std::size_t kept = options_.key == kNoKey ? 0 : bytes_of_cut_key(keys);
    queue(keys.substr(0, keys.size() - kept));
    key_part_ = keys.substr(keys.size() - kept);
    key_part_until_ = Clock::now() + (kept > 1 ? kCutKey : kEscape);
}

/// What may have been the beginning of the detach key, and was not continued, was a key for the program.
void Relay::release_key_part() {
    queue(key_part_);
    key_part_.clear();
}

/// Nothing more is read; what was typed before goes out first, if the shim takes it.
void Relay::detach() {
    input_open_ = false;
    end_ = End::detached;
    deadline_ = Clock::now() + kFarewell;
}

// ---------------------------------------------------------------------------------------------------------------------
// 6. What the terminal was told
//
// A full-screen program sets modes of the terminal and takes them back when it ends. It does not end when we detach, so
// we take them back: nearly all by one sequence that does nothing where nothing was set. Two things must be known, and
// for them the output is followed: whether the alternate screen is on (leaving it moves the cursor even when it is not;
// origin mode does so too), and how many keyboard modes were pushed, for the shell may have pushed some before.
//
// Not DECSTR ("soft reset"): terminals differ in what they take it for. Left alone are palette, title and tab stops.
// ---------------------------------------------------------------------------------------------------------------------

constexpr std::string_view kEndCut = "\030\033\\";  // ends what the output was cut in: a sequence (CAN), a string (ST)
constexpr std::string_view kTakeBack =
    "\033[0 q\033[?12;1007;1034;1036;1039r"        // the cursor's shape (in xterm 0 blinks); what kKeep has kept
    "\033]8;;\033\\"                               // no hyperlink
    "\033[?1;5;45;66;69l\033>"                     // cursor keys, reverse video, reverse wrap, margins; keypad
    "\033[?9;1000;1001;1002;1003;1004l"            // mouse: clicks ... every movement; focus
    "\033[?1005;1006;1015;1016l"                   // and how the mouse's place is written
    "\033[?2004;2026;2031;2048;9001l"              // paste, synchronized output, colour scheme, size, Win32 keys
    "\033[?7;25h\033[2;4;20l\033[12h"              // autowrap, cursor; keyboard lock, insert, LF returns; no local echo
    "\0337\033[r\0338"                             // whole screen scrolls; that moves the cursor: kept and restored
    "\033(B\033)B\033*B\033+B\017"                 // ASCII in all four character sets, the first one in use
    "\033[=0u\033[>4m\033[m";                      // keys: kitty's, xterm's (which some take for a colour: 4 m)

void ScreenState::step(char c) {
    if (c == '\033') state_ = State::escape;  // begins anew in any state; CAN and SUB break off
    else if (c == '\030' || c == '\032') state_ = State::text;
    else if (state_ == State::escape) begin_sequence(c);
    else if (state_ == State::string) state_ = c == '\a' ? State::text : State::string;
    else if (state_ == State::text) at_margin_ = c == '\r' || (c == '\n' && at_margin_);
    else if (sequence_.size() < kLongest) sequence_ += c;
    if (state_ == State::control && c >= '@' && c <= '~' && !sequence_.empty()) end_control_sequence();
}

/// The character behind ESC.
void ScreenState::begin_sequence(char c) {
    if (c == 'c') *this = ScreenState();  // RIS: everything as when the terminal was switched on
    if (c >= ' ' && c <= '/') return;     // one more character belongs to ESC
    sequence_.clear();
    state_ = c == '[' ? State::control : std::strchr("]PX^_", c) != nullptr ? State::string : State::text;
}

/// ESC [ and sequence_: an optional prefix, numbers, and the final character, which tells what it does.
void ScreenState::end_control_sequence() {
    state_ = State::text;
    std::string_view numbers = sequence_;
    const char final = numbers.back(), first = numbers.front(), prefix = first >= '<' && first <= '?' ? first : '\0';
    numbers.remove_suffix(1);
    if (prefix != '\0') numbers.remove_prefix(1);
    const auto number = [&](std::size_t n) { return parse_number(nth_part(numbers, ';', n)); };
    if (prefix == '?' && (final == 'h' || final == 'l'))
        for (std::size_t n = 0; number(n); ++n) set_mode(*number(n), final == 'h');
    std::uint64_t &pushed = pushed_[alternate_ != 0];
    if (prefix == '>' && final == 'u') ++pushed;
    if (prefix == '<' && final == 'u') pushed -= std::min(pushed, std::max<std::uint64_t>(number(0).value_or(1), 1));
    if (prefix == '\0' && (final == 'H' || final == 'f')) at_margin_ = number(1).value_or(1) <= 1;
    if (prefix == '\0' && final == 'G') at_margin_ = number(0).value_or(1) <= 1;
}

/// A private mode (DECSET, DECRST): 6 is origin mode, the other three switch to the alternate screen and back.
void ScreenState::set_mode(std::uint64_t number, bool on) {
    if (number == 6) origin_ = on;
    if (number != 47 && number != 1047 && number != 1049) return;
    if (on && alternate_ == 0) main_at_margin_ = at_margin_;
    if (!on && alternate_ != 0) at_margin_ = number == 1049 && main_at_margin_;
    alternate_ = on ? number : 0;
}

std::string ScreenState::pop_keyboard(std::size_t screen) const {
    return pushed_[screen] == 0 ? "" : "\033[<" + std::to_string(pushed_[screen]) + "u";
}

std::string ScreenState::undo() const {
    std::string out(kEndCut);
    bool is_lost = origin_;  // the cursor's place
    if (origin_) out += "\033[?6l";
    if (alternate_ != 0) {
        is_lost = alternate_ != 1049;
        out += pop_keyboard(1) + "\033[?" + std::to_string(alternate_) + "l";
    }
    out.append(pop_keyboard(0)).append(kTakeBack);
    if (is_lost) return out + "\033[9999H\r\n";
    const bool at_margin = alternate_ != 0 ? main_at_margin_ : at_margin_;
    return out + (at_margin ? "\r\033[J" : "\r\n\033[J");
}

// ---------------------------------------------------------------------------------------------------------------------
// 7. Names and addresses
//
// A session's name is a socket in a folder of its user's; everything else that an ADDRESS may be, shim and attach read
// alike. So the two parts between fences are the same in both files.
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

// ---------------------------------------------------------------------------------------------------------------------
// What not every system has
//
// All else in this file is POSIX, getopt_long(3) and flock(2). What stands here is asked for by the macros that headers
// define, and has something in its place:
//
//   SO_PEERCRED  Linux, OpenBSD; LOCAL_PEEREID on NetBSD, LOCAL_PEERPID on macOS, LOCAL_PEERCRED on FreeBSD. With none,
//                the mode of the folder alone tells that a session is ours, and `attach -k` cannot know whom to kill
//   SIOCOUTQ     Linux; FIONWRITE on FreeBSD and NetBSD, SO_NWRITE on macOS. Else `attach -p` waits as long as it takes
//   /proc        Linux. Else nobody tells who listens at a port: any user of this machine may, when a shim has ended.
//                The list of sessions has no commands and recordings; `shim` is looked for beside argv[0] and on PATH
// ---------------------------------------------------------------------------------------------------------------------

#if defined(PORTABLE)
constexpr char kProc[] = "/proc-is-not-used";
#else
constexpr char kProc[] = "/proc";
#endif
#if defined(__linux__) && !defined(PORTABLE)  // a system that has this table: where it cannot be read, that is doubt
constexpr bool kHasTcpTable = true;
#else
constexpr bool kHasTcpTable = false;
#endif

/// Who has made the Unix-domain socket at the other end: unix(7). pid 0: this system does not tell.
struct Server {
    pid_t pid = 0;
    uid_t user = ~uid_t{0};
};

Server unix_server([[maybe_unused]] int fd) {
#if defined(SCM_CREDENTIALS)  // Linux
    ucred found{};
    socklen_t length = sizeof found;
    const bool told = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &length) == 0;
    return told ? Server{.pid = found.pid, .user = found.uid} : Server{};
#elif defined(SO_PEERCRED)  // OpenBSD
    sockpeercred found{};
    socklen_t length = sizeof found;
    const bool told = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &length) == 0;
    return told ? Server{.pid = found.pid, .user = found.uid} : Server{};
#elif defined(LOCAL_PEEREID)  // NetBSD: unix(4)
    unpcbid found{};
    socklen_t length = sizeof found;
    const bool told = ::getsockopt(fd, 0, LOCAL_PEEREID, &found, &length) == 0;
    return told ? Server{.pid = found.unp_pid, .user = found.unp_euid} : Server{};
#elif defined(LOCAL_PEERPID)  // macOS
    Server server;
    gid_t group = 0;
    socklen_t length = sizeof server.pid;
    ::getpeereid(fd, &server.user, &group);
    ::getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &server.pid, &length);
    return server;
#elif defined(LOCAL_PEERCRED)  // FreeBSD: unix(4)
    xucred found{};
    socklen_t length = sizeof found;
    const bool told = ::getsockopt(fd, SOL_LOCAL, LOCAL_PEERCRED, &found, &length) == 0;
    return told ? Server{.pid = found.cr_pid, .user = found.cr_uid} : Server{};
#else
    return {.pid = 0, .user = ::geteuid()};
#endif
}

/// Bytes that the kernel still has for the other end, or -1 when it does not tell.
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

// ---------------------------------------------------------------------------------------------------------------------
// 8. Who listens
//
// When a shim has ended, any user may listen at its port, and what is typed would be his. So nothing is sent before the
// kernel has said who is there: of a Unix-domain socket it knows who made it, and its table of TCP sockets (the shim
// asks the same one by sock_diag(7), for it has to answer quickly and often) tells whose the other end is.
// ---------------------------------------------------------------------------------------------------------------------

constexpr milliseconds kAccept{10000};  // for a server to accept the connection
constexpr int kLongestLook = 50;        // milliseconds between two looks at who has accepted it
constexpr int kMissed = 5;              // looks in which the table, read while it changes, may lack a socket

/// Host and port of a TCP address, in digits; two empty strings for a Unix-domain socket.
std::pair<std::string, std::string> host_and_port(const SocketAddress &address) {
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
    if (address.storage.ss_family != AF_UNIX)
        ::getnameinfo(address.get(), address.length, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    return {host, port};
}

/// The file of a Unix-domain socket.
const char *socket_path(const SocketAddress &address) {
    return reinterpret_cast<const sockaddr_un *>(&address.storage)->sun_path;
}

/// The address of one end of a connection: `which` is getsockname(2) or getpeername(2).
SocketAddress end_of(int fd, int (*which)(int, sockaddr *, socklen_t *)) {
    SocketAddress end{.storage = {}, .length = sizeof end.storage};
    which(fd, reinterpret_cast<sockaddr *>(&end.storage), &end.length);
    return end;
}

bool is_tcp(int fd) { return end_of(fd, ::getsockname).storage.ss_family != AF_UNIX; }

/// Whether a TCP socket is connected to itself: when nobody listens at a port that the kernel also gives to outgoing
/// connections, it may give that very port to ours, and TCP calls this a simultaneous open (RFC 9293, section 3.5).
bool is_own_peer(int fd) {
    return is_tcp(fd) && host_and_port(end_of(fd, ::getsockname)) == host_and_port(end_of(fd, ::getpeername));
}

bool is_ours(uid_t user) { return user == ::geteuid() || user == 0; }

/// An address as the kernel's table of TCP sockets has it: in hexadecimal, each 32 bits as they stand in memory, then
/// the port: proc_pid_net(5). IPv4 inside IPv6 is written as IPv4.
std::string table_text(const SocketAddress &address) {
    const auto *in = reinterpret_cast<const sockaddr_in *>(&address.storage);
    const auto *in6 = reinterpret_cast<const sockaddr_in6 *>(&address.storage);
    const bool is_v6 = address.storage.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
    std::uint32_t words[4] = {in->sin_addr.s_addr, 0, 0, 0};
    if (address.storage.ss_family == AF_INET6) std::memcpy(words, &in6->sin6_addr, sizeof words);
    if (!is_v6 && address.storage.ss_family == AF_INET6) words[0] = words[3];
    char text[48], *at = text;
    for (int i = 0; i < (is_v6 ? 4 : 1); ++i) at += std::snprintf(at, 9, "%08X", words[i]);
    std::snprintf(at, 6, ":%04X", ntohs(in->sin_port));  // the port is at the same place in both
    return text;
}

/// Whose one end of a TCP connection is.
struct TcpOwner {
    uid_t user;
    bool held;  // a process has the socket: the connection is accepted, and not closed yet
};

/// One line of the kernel's table, when it is of the socket with these two ends.
std::optional<TcpOwner> parse_table_line(const char *line, const std::string &local, const std::string &remote) {
    char here[48], there[48], user[16], inode[16];
    if (std::sscanf(line, "%*s %47s %47s %*s %*s %*s %*s %15s %*s %15s", here, there, user, inode) != 4) return {};
    const auto is_same = [](std::string_view written, std::string_view wanted) {
        constexpr std::string_view kMapped = "0000000000000000FFFF0000";  // ::ffff:0.0.0.0/96
        return written == wanted || (written.starts_with(kMapped) && written.substr(kMapped.size()) == wanted);
    };
    if (!is_same(here, local) || !is_same(there, remote)) return {};
    const auto owner = static_cast<uid_t>(parse_number(user).value_or(~uid_t{0}));
    return TcpOwner{.user = owner, .held = parse_number(inode) != 0};
}

/// Who owns the socket of this machine with these two ends, as table_text() writes them; nothing when it has none.
std::optional<TcpOwner> tcp_owner(const std::string &local, const std::string &remote) {
    std::optional<TcpOwner> owner;
    for (const char *name : {"tcp", "tcp6"}) {
        std::FILE *table = std::fopen((std::string(kProc) + "/net/" + name).c_str(), "re");
        char line[512];
        while (table != nullptr && !owner && std::fgets(line, sizeof line, table) != nullptr)
            owner = parse_table_line(line, local, remote);
        if (table != nullptr) std::fclose(table);
    }
    return owner;
}

std::string distrust_user(uid_t user) {
    return is_ours(user) ? "" : "a program of another user (" + std::to_string(user) + ") listens there";
}

/// Why nothing must be sent to the server that we are connected to: "" when a process of ours or of root has accepted
/// the connection. Waits until somebody has, for before that the server's end belongs to nobody. Of a server on another
/// machine nothing is known here.
std::string distrust(int fd) {
    if (!is_tcp(fd)) return distrust_user(unix_server(fd).user);
    if (!kHasTcpTable) return "";
    const SocketAddress own = end_of(fd, ::getsockname), peer = end_of(fd, ::getpeername);
    const auto host = host_and_port(peer).first;
    const bool is_here = host == host_and_port(own).first || host == "::1" || host.starts_with("127.");
    const auto end = Clock::now() + kAccept;
    for (int wait = 0, missed = 0; missed < kMissed; wait = std::min(wait + 1, kLongestLook)) {
        if (Clock::now() > end) return "nobody has answered for 10 seconds";
        pollfd socket{.fd = fd, .events = POLLIN, .revents = 0};
        const bool answered = ::poll(&socket, 1, wait) > 0;
        const auto owner = tcp_owner(table_text(peer), table_text(own));
        if (owner && owner->held) return distrust_user(owner->user);
        if (answered || (!owner && !is_here)) return "";  // whoever had accepted is gone: nobody reads what we send
        if (!owner) ++missed;
    }
    return "no process of this machine has the other end: nothing was sent (-R does not ask)";
}

// ---------------------------------------------------------------------------------------------------------------------
// 9. Connecting, and starting a session
//
// A name may resolve to several addresses, of which the shim listens at one. Nobody listens there: ECONNREFUSED; a
// socket file that nobody made: ENOENT. Then PROGRAM, if given, is started by `shim`, which returns when it listens.
// ---------------------------------------------------------------------------------------------------------------------

constexpr milliseconds kRaceWindow{2000};  // for another shim, which was started first, to listen

/// Whether two addresses reach the same listener: one file, or one port. Who listens at `one` everywhere is found on
/// the loopback interface too.
bool is_same_place(const SocketAddress &one, const SocketAddress &other) {
    if (one.storage.ss_family == AF_UNIX && other.storage.ss_family == AF_UNIX) {
        struct stat a{}, b{};
        return ::stat(socket_path(one), &a) == 0 && ::stat(socket_path(other), &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
    }
    const auto [one_host, one_port] = host_and_port(one);
    const auto [host, port] = host_and_port(other);
    const bool everywhere = one_host == "0.0.0.0" || one_host == "::";
    const bool loopback = host == "::1" || host.starts_with("127.");
    return !port.empty() && port == one_port && (host == one_host || (everywhere && loopback));
}

/// Whether ADDRESS is that of the session that we run in, which the shim has put into the environment: its output
/// would come back as its output, for ever.
bool is_this_session(const std::vector<SocketAddress> &addresses) {
    const char *name = std::getenv("SHIM_ADDRESS");
    if (name == nullptr) return false;
    for (const SocketAddress &own : resolve(name).addresses)
        for (const SocketAddress &there : addresses)
            if (is_same_place(own, there)) return true;
    return false;
}

/// What connecting has come to: a socket, else why not, and whether for no other reason than that nobody listens.
struct Connection {
    Fd socket{};
    std::string why{};
    bool nobody = false;
};

/// Whether connecting fails for no other reason than that nobody listens there.
bool is_nobody(int error) { return error == ECONNREFUSED || error == ENOENT; }

/// What it means that connecting to `address`, one of ADDRESS's, has failed with `error`, and what to do.
std::string explain(const std::string &text, const SocketAddress &address, int error) {
    struct stat file{};
    const bool is_unix = address.storage.ss_family == AF_UNIX;
    if (error == EACCES) return "another user's session: no permission";
    if (is_session_name(text) && error == ENOENT)
        return "no session of that name (record info " + text + ": how the last one ended)";
    if (is_unix && error == ECONNREFUSED && ::stat(socket_path(address), &file) == 0 && !S_ISSOCK(file.st_mode))
        return "a file, not a session's socket (record play shows a recording)";
    const std::string advice = " (attach " + text + " PROGRAM starts a session)";
    if (is_unix && error == ECONNREFUSED) return "nobody listens: its shim was killed" + advice;
    return is_nobody(error) ? "nobody listens there" + advice : std::strerror(error);
}

/// A socket that is connected to `address`; else none, and errno tells why.
Fd open_connection(const SocketAddress &address) {
    Fd fd(::socket(address.storage.ss_family, SOCK_STREAM, 0));
    int error = fd && ::connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
    if (error == 0 && is_own_peer(fd.get())) error = ECONNREFUSED;
    if (error == 0 && fd.get() >= FD_SETSIZE) error = EMFILE;  // select(2) could not watch it
    if (error != 0) {
        fd.reset();
        errno = error;
        return fd;
    }
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a key goes out at once
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // a shim that has vanished is noticed at last
    return fd;
}

/// Connects to the first of the `addresses` of ADDRESS that answers and is to be trusted.
Connection connect_to(const std::string &text, const std::vector<SocketAddress> &addresses, bool trusting) {
    Connection failed{.nobody = true};
    for (const SocketAddress &address : addresses) {
        Fd socket = open_connection(address);
        const int error = socket ? 0 : errno;
        std::string why;
        if (!socket) why = explain(text, address, error);
        else if (!trusting) why = distrust(socket.get());
        if (why.empty()) return {.socket = std::move(socket)};
        if (failed.why.empty() || (failed.nobody && !is_nobody(error))) failed.why = std::move(why);
        failed.nobody = failed.nobody && is_nobody(error);
    }
    return failed;
}

/// After a stop nobody knows what the terminal shows: we attach anew, and the shim paints the session's screen. Should
/// the session have ended meanwhile, the old connection tells how. The new one says its size before the old one closes:
/// to the program nothing has happened.
void Relay::attach_anew() {
    if (!terminal_.has_screen() || options_.raw || end_ != End::none) return;
    Connection there = connect_to(options_.address, resolve(options_.address).addresses, false);
    if (!there.socket) return;
    const std::string first = hello();
    if (::send(there.socket.get(), first.data(), first.size(), MSG_DONTWAIT) < 0) return;
    socket_ = std::move(there.socket);
    sending_ = true;
    to_screen_.clear();
}

/// Where shim may be: beside this program, else on PATH.
std::vector<std::string> shim_places(const std::string &self) {
    std::vector<std::string> places;
    std::string path(PATH_MAX, '\0');
    const ssize_t n = ::readlink((std::string(kProc) + "/self/exe").c_str(), path.data(), path.size());
    path.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    for (const std::string &beside : {path, self})
        if (beside.find('/') != std::string::npos) places.push_back(beside.substr(0, beside.rfind('/') + 1) + "shim");
    places.emplace_back("shim");
    return places;
}

/// All that can be read from a descriptor, up to the end of file.
std::string read_all(int fd) {
    std::string all;
    char bytes[4096];
    for (ssize_t n = ::read(fd, bytes, sizeof bytes); n > 0; n = ::read(fd, bytes, sizeof bytes))
        all.append(bytes, static_cast<std::size_t>(n));
    return all;
}

/// The exit status of a process as a shell tells it: 128 + n when signal n ended it.
int exit_status(int wait_status) {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

struct ShimRun {
    int status;        // its exit status
    std::string said;  // what it wrote, to standard output and to standard error
};

/// Runs `shim -w ADDRESS PROGRAM...` and waits until it has started a daemon, or has failed to. The daemon keeps
/// nothing of its caller's open, so the end of the pipe comes when shim returns.
ShimRun run_shim(const std::string &self, const std::string &address, const std::vector<char *> &program) {
    std::string wait = "-w", where = address;
    std::vector<char *> argv{nullptr, wait.data(), where.data()};
    argv.insert(argv.end(), program.begin(), program.end());
    argv.push_back(nullptr);
    std::vector<std::string> places = shim_places(self);

    int pipe_ends[2];
    if (::pipe(pipe_ends) != 0) fail(kExitNotAttached, "pipe", std::strerror(errno));
    const pid_t pid = ::fork();
    if (pid < 0) fail(kExitNotAttached, "fork", std::strerror(errno));
    if (pid == 0) {
        for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(pipe_ends[1], fd);
        for (const int fd : pipe_ends) ::close(fd);
        for (std::string &place : places) {
            argv.front() = place.data();  // with its folder: where shim looks for `record`
            ::execvp(place.c_str(), argv.data());
        }
        ::_exit(kExitNotAttached);  // a status that shim does not use
    }
    ::close(pipe_ends[1]);
    const Fd from_shim(pipe_ends[0]);
    ShimRun run{.status = 0, .said = read_all(from_shim.get())};
    int status = 0;
    ::waitpid(pid, &status, 0);
    run.status = exit_status(status);
    if (run.status == kExitNotAttached) fail(run.status, "shim", "none that runs beside attach, nor on PATH");
    return run;
}

/// What stands in `text` between `before` and `after`; "" when they are not there.
std::string between(const std::string &text, std::string_view before, std::string_view after) {
    const std::size_t begin = text.find(before), from = begin + before.size(), end = text.find(after, from);
    return begin == std::string::npos || end == std::string::npos ? "" : text.substr(from, end - from);
}

/// Passes on what shim has warned of, and tells that a session is new, what it is recorded in, and the way out.
void announce(const Options &options, const std::string &said) {
    const std::size_t warned = std::min(said.find("shim: listening on "), said.size());
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, said.data(), warned);
    const std::string rest = between(said, ", pid ", "\n");  // 1234, recording FILE
    const bool has_keys = options.key != kNoKey && !options.push && ::isatty(STDIN_FILENO) == 1;
    say(options.quiet, options.address + ": new session" + rest.substr(std::min(rest.find(','), rest.size())) +
                           (has_keys ? ", " + key_name(options.key) + " leaves it" : ""));
}

/// Starts a shim at options.address and connects to it, or to another that has taken the address in the meantime. Ends
/// the program with shim's own message and status when neither is to be had.
Connection start_session(const std::string &self, Options &options) {
    const ShimRun run = run_shim(self, options.address, options.program);
    const std::string address = between(run.said, "shim: listening on ", ", pid ");
    if (options.address == "0" || options.address.ends_with(":0")) options.address = address;
    const bool is_taken = run.said.find(std::strerror(EADDRINUSE)) != std::string::npos ||
                          run.said.find("a session runs there") != std::string::npos;
    const auto end = Clock::now() + (run.status != 0 && is_taken ? kRaceWindow : milliseconds(0));
    const auto connect = [&] { return connect_to(options.address, resolve(options.address).addresses, options.raw); };
    Connection there = connect();
    while (there.nobody && Clock::now() < end) {
        ::poll(nullptr, 0, 20);
        there = connect();
    }
    if (run.status == 0) announce(options, run.said);
    if (there.socket || run.status == 0) return there;
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, run.said.data(), run.said.size());
    std::exit(run.status);
}

/// What ADDRESS names, or the end of the program with a message.
std::vector<SocketAddress> resolve_or_fail(const std::string &address) {
    Resolved found = resolve(address);
    if (found.addresses.empty()) fail(found.malformed ? kExitUsage : kExitNotAttached, address, found.why);
    return std::move(found.addresses);
}

/// A connected socket, or the end of the program with a message.
Fd connect_or_fail(const std::string &self, Options &options) {
    const std::vector<SocketAddress> addresses = resolve_or_fail(options.address);
    if (!options.push && is_this_session(addresses))
        fail(kExitNotAttached, options.address, "this terminal is that session");
    Connection there = connect_to(options.address, addresses, options.raw);
    if (there.nobody && !options.program.empty()) there = start_session(self, options);
    if (!there.socket) fail(kExitNotAttached, options.address, there.why);
    return std::move(there.socket);
}

// ---------------------------------------------------------------------------------------------------------------------
// 10. The sessions that run: their list, and the end of one
//
// There is no list of sessions anywhere: a session is a socket in a folder. The kernel knows which process has made the
// socket (SO_PEERCRED: unix(7)), and /proc what that process runs, and on which file it holds the lock: its recording.
// ---------------------------------------------------------------------------------------------------------------------

/// The names of what is in a folder, sorted.
std::vector<std::string> names_in(const std::string &folder) {
    std::vector<std::string> names;
    DIR *open = ::opendir(folder.c_str());
    for (const dirent *entry = open != nullptr ? ::readdir(open) : nullptr; entry != nullptr; entry = ::readdir(open))
        names.emplace_back(entry->d_name);
    if (open != nullptr) ::closedir(open);
    std::sort(names.begin(), names.end());
    return names;
}

/// The command of the session `name`: what stands behind it in the words that its shim was started with. They end in
/// zeros; what could be a control sequence is not printed.
std::string command_of(pid_t pid, const std::string &name) {
    const Fd file(::open((std::string(kProc) + "/" + std::to_string(pid) + "/cmdline").c_str(), O_RDONLY | O_CLOEXEC));
    std::string words = read_all(file.get());
    const std::string mark = '\0' + name + '\0';
    const std::size_t at = words.find(mark);
    if (at == std::string::npos) return "?";
    words = words.substr(at + mark.size());
    if (!words.empty()) words.pop_back();
    for (char &c : words) c = c == '\0' ? ' ' : (c > 0 && c < ' ') || c == 0x7F ? '?' : c;
    return words;
}

/// The file that a shim writes, by its lock (fcntl(2), F_GETLK tells the owner's pid), or "".
std::string recording_of(pid_t pid) {
    const std::string folder = std::string(kProc) + "/" + std::to_string(pid) + "/fd/";
    for (const std::string &number : names_in(folder)) {
        char path[PATH_MAX];
        struct stat file{};
        const ssize_t n = ::readlink((folder + number).c_str(), path, sizeof path - 1);
        if (n <= 0 || ::stat((folder + number).c_str(), &file) != 0 || !S_ISREG(file.st_mode)) continue;
        path[n] = '\0';
        struct flock lock{};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        const Fd recording(::open(path, O_WRONLY | O_CLOEXEC));
        if (recording && ::fcntl(recording.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid == pid)
            return path;
    }
    return "";
}

/// One line for a session: who listens at its socket, since when (the socket was made when it began), what, where.
std::string describe_session(const std::string &name, std::size_t width, int socket, const SocketAddress &address) {
    struct stat file{};
    char since[32] = "";
    const pid_t pid = unix_server(socket).pid;
    ::stat(socket_path(address), &file);
    std::strftime(since, sizeof since, "%F %R", std::localtime(&file.st_mtime));
    const std::string line = name + std::string(width - name.size(), ' ') +
                             (pid > 0 ? "  pid " + std::to_string(pid) : "") + "  since " + since;
    if (::access((std::string(kProc) + "/self/fd").c_str(), X_OK) != 0) return line + "\n";  // more is not told here
    const std::string recording = recording_of(pid);
    return line + "  " + command_of(pid, name) + "  " +
           (recording.empty() ? "not recording" : "recording " + recording) + "\n";
}

/// Lists what runs in the session folder. Removes the sockets that a killed shim has left, under the lock under which a
/// starting shim looks whether it may take the place of one.
int list_sessions() {
    const std::string folder = session_folder(), fault = folder_fault(folder, false);
    if (!fault.empty()) fail(kExitNotAttached, "the sessions", fault);
    const Fd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool may_remove = lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
    std::vector<std::string> names = names_in(folder);
    std::erase_if(names, [](const std::string &name) { return !is_session_name(name); });
    std::size_t width = 0;
    for (const std::string &name : names) width = std::max(width, name.size());
    for (const std::string &name : names) {
        struct stat file{};
        const auto addresses = resolve(name).addresses;
        if (addresses.empty() || ::lstat(socket_path(addresses[0]), &file) != 0 || !S_ISSOCK(file.st_mode)) continue;
        const Connection there = connect_to(name, addresses, true);
        if (there.socket) std::fputs(describe_session(name, width, there.socket.get(), addresses[0]).c_str(), stdout);
        else if (there.nobody && may_remove) ::unlink(socket_path(addresses[0]));
    }
    return std::fflush(stdout) == 0 ? 0 : kExitNotAttached;
}

/// Ends the session at ADDRESS as SIGTERM does, and waits until it has ended. As a client that wants no output, attach
/// is told the program's status by the goodbye. The hello goes out after the signal: before it, the hello would start a
/// program that waits for its first client (shim -w).
int kill_session(const Options &options) {
    const std::vector<SocketAddress> addresses = resolve_or_fail(options.address);
    if (addresses[0].storage.ss_family != AF_UNIX)
        fail(kExitNotAttached, options.address, "a port does not tell whose it is: kill the pid that shim told");
    const Connection there = connect_to(options.address, addresses, true);
    if (!there.socket) fail(kExitNotAttached, options.address, there.why);
    const pid_t pid = unix_server(there.socket.get()).pid;
    if (pid <= 0) fail(kExitNotAttached, options.address, "this system does not tell whose it is: kill its pid");
    if (::kill(pid, SIGTERM) != 0)
        fail(kExitNotAttached, options.address, "pid " + std::to_string(pid) + ": " + std::strerror(errno));
    const std::string first = hello_without_window(kPushOnly);
    ::send(there.socket.get(), first.data(), first.size(), MSG_NOSIGNAL);
    const std::string end = read_all(there.socket.get());
    const bool told = bytes_of_goodbye(end) == kGoodbyeBytes;
    while (!told && ::kill(pid, 0) == 0) ::poll(nullptr, 0, 20);
    say(options.quiet, options.address + " ended" +
                           (told ? " with status " + std::to_string(static_cast<unsigned char>(end.back())) : ""));
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// 11. A push: attach -p
//
// A write to a socket tells that the kernel has the bytes, not that the shim has, let alone the program. So the shim
// answers when it has read the end of the input. Only then has nothing been lost.
// ---------------------------------------------------------------------------------------------------------------------

constexpr milliseconds kStall{10000};  // for the shim to take some more
constexpr milliseconds kLook{5};       // how often the kernel is asked how much is left

/// Sends the hello and standard input up to its end, then the end of file. Whether the connection lasted so long.
bool send_input(const Options &options, int socket) {
    std::string to_shim = options.raw ? "" : hello_without_window(kPushOnly);
    char bytes[kBufferBytes];
    for (bool more = true; more || !to_shim.empty();) {
        const short wanted = to_shim.empty() ? POLLIN : POLLIN | POLLOUT;
        pollfd ready[] = {{.fd = more && to_shim.empty() ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0},
                          {.fd = socket, .events = wanted, .revents = 0}};
        ::poll(ready, 2, -1);
        if (ready[0].revents != 0) {
            const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
            if (n > 0) to_shim.assign(bytes, static_cast<std::size_t>(n));
            else more = is_transient(n);
        }
        if (!to_shim.empty()) {
            const ssize_t n = ::send(socket, to_shim.data(), to_shim.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n > 0) to_shim.erase(0, static_cast<std::size_t>(n));
            else if (!is_transient(n)) return false;
        }
        if (ready[1].revents == 0) continue;
        const ssize_t n = ::recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);  // what comes so early is no answer
        if (n <= 0 && !is_transient(n)) return false;
    }
    return ::shutdown(socket, SHUT_WR) == 0;
}

/// Waits for the answer as long as the kernel still gets rid of some of the input, for a program that reads slowly
/// holds up the whole queue. A server that is no shim (-R) gives no answer; then an empty queue must do.
bool is_answered(const Options &options, int socket) {
    std::string answer;
    int unsent = INT_MAX;
    for (auto end = Clock::now() + kStall; Clock::now() < end;) {
        const int now_unsent = unsent_bytes(socket);  // tcp(7): the shutdown counts as one more
        if (now_unsent < unsent || now_unsent < 0) end = Clock::now() + kStall;
        unsent = now_unsent;
        if (options.raw && unsent <= 0) return true;
        pollfd ready{.fd = socket, .events = POLLIN, .revents = 0};
        if (::poll(&ready, 1, static_cast<int>(kLook.count())) != 1) continue;
        char bytes[4096];
        const ssize_t n = ::recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0 && !is_transient(n)) return false;
        if (n > 0) answer.append(bytes, static_cast<std::size_t>(n));
        if (!options.raw && answer.ends_with(kTaken)) return true;
        answer.erase(0, answer.size() - std::min(answer.size(), kTaken.size()));
    }
    return false;
}

/// Signals need no care here: the terminal has not been touched, so they end or stop attach as they do any program.
int push(const Options &options, const Fd &socket) {
    if (send_input(options, socket.get()) && is_answered(options, socket.get())) return 0;
    complain(options.address, "the session did not take all of the input");
    return kExitLost;
}

// ---------------------------------------------------------------------------------------------------------------------
// 12. The command line
//
// getopt_long(3) with a '+' stops at the first word that is not an option: ADDRESS ends the options of attach, and
// PROGRAM keeps its own.
// ---------------------------------------------------------------------------------------------------------------------

constexpr char kUsage[] =
    "Usage: attach [OPTION]... [ADDRESS [PROGRAM [ARG]...]]\n"
    "Attaches this terminal to the session at ADDRESS: a name, PORT, HOST:PORT, [IPV6]:PORT, or a path with a /.\n"
    "With PROGRAM: when nobody listens there, starts it there with shim first. Without ADDRESS: lists the running\n"
    "sessions that have a name.\n"
    "\n"
    "  -e, --escape KEY   the key that detaches: ^X, a character, or none (default: ^\\)\n"
    "  -r, --read-only    watch only; nothing is sent\n"
    "  -R, --raw          no window size is sent and no status expected: for a server that is not shim\n"
    "  -p, --push         send standard input to the program and leave when all of it has been taken\n"
    "  -k, --kill         end the session, by SIGTERM, and wait until it has ended\n"
    "  -q, --quiet        no messages but errors\n"
    "  -h, --help         show this\n"
    "  -V, --version      show the version\n"
    "\n"
    "The sockets of named sessions are in $SHIM_DIR, else /tmp/shim-UID.\n"
    "Exit status: the program's when it ended, 0 detached, pushed, killed or listed, 254 connection lost, 255 could\n"
    "not attach, 2 usage, 128 + n when signal n ended attach; 125, 126, 127 when shim could not start PROGRAM.\n";

/// The byte that KEY names: `^X` (^@ to ^_, and ^? for delete) or one character of ASCII; kNoKey for `none`.
std::optional<int> parse_key(std::string_view text) {
    if (text == "none") return kNoKey;
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text.size() == 1 && byte(0) < 0x80) return byte(0);
    if (text.size() != 2 || text[0] != '^') return std::nullopt;
    if (text[1] == '?') return 0x7F;
    const int upper = text[1] >= 'a' && text[1] <= 'z' ? text[1] - 0x20 : byte(1);
    return upper >= '@' && upper <= '_' ? std::optional(upper & 0x1F) : std::nullopt;
}

/// Takes one option into `options`, or ends the program: after --help, --version, or a message about `word`.
void take_option(int option, const std::string &word, Options &options) {
    const auto name = [&] { return word.starts_with("--") ? word : std::string{'-', static_cast<char>(optopt)}; };
    switch (option) {
    case 'e':
        if (const auto key = parse_key(optarg)) options.key = *key;
        else fail(kExitUsage, "--escape", std::string("'") + optarg + "' is not ^X, a character or none");
        break;
    case 'r': options.read_only = true; break;
    case 'R': options.raw = true; break;
    case 'p': options.push = true; break;
    case 'k': options.kill = true; break;
    case 'q': options.quiet = true; break;
    case 'h': std::fputs(kUsage, stdout); std::exit(0);
    case 'V': std::printf("%s %s\n", kProgram, kVersion); std::exit(0);
    case ':': fail(kExitUsage, name(), "a value is missing");
    default: fail(kExitUsage, name(), "no such option, or not used so (see attach --help)");
    }
}

/// Reads the command line; ends the program with a message when it is wrong.
Options parse_command_line(int argc, char **argv) {
    static const option kLong[] = {
        {"escape", required_argument, nullptr, 'e'}, {"read-only", no_argument, nullptr, 'r'},
        {"raw", no_argument, nullptr, 'R'},          {"push", no_argument, nullptr, 'p'},
        {"kill", no_argument, nullptr, 'k'},         {"quiet", no_argument, nullptr, 'q'},
        {"help", no_argument, nullptr, 'h'},         {"version", no_argument, nullptr, 'V'},
        {nullptr, 0, nullptr, 0},
    };
    Options options;
    opterr = 0;  // our own messages, in our own form
    const auto next = [&] { return ::getopt_long(argc, argv, "+:e:rRpkqhV", kLong, nullptr); };
    for (int option = next(); option != -1; option = next())
        take_option(option, argv[std::min(optind, argc) - 1], options);  // musl goes on over a value that is missing
    if (options.push && options.read_only) fail(kExitUsage, "--push", "does not go with --read-only");
    if (argc <= 1) return options;
    if (optind >= argc) fail(kExitUsage, "usage", "an ADDRESS is missing (see attach --help)");
    options.address = argv[optind];
    options.program.assign(argv + optind + 1, argv + argc);
    if (options.kill && !options.program.empty()) fail(kExitUsage, "--kill", "does not go with a PROGRAM");
    return options;
}

// ---------------------------------------------------------------------------------------------------------------------
// 13. From the first call to the last words
// ---------------------------------------------------------------------------------------------------------------------

int Relay::report() const {
    const std::string &address = options_.address;
    switch (end_) {
    case End::detached: say(options_.quiet, "detached from " + address); return 0;
    case End::ended:
        say(options_.quiet, address + " ended with status " + std::to_string(status_));
        return status_;
    case End::no_output:
        if (status_ == EPIPE) return 0;  // its reader has seen enough
        errno = status_;
        complain_errno("standard output");
        return kExitNotAttached;
    case End::signal: obey_default(g_ending); return 128 + g_ending;
    case End::none:
    case End::lost: break;
    }
    say(options_.quiet, "connection to " + address + " lost");
    return kExitLost;
}

/// Whatever the caller has blocked or ignored: the end of a child must be told to us (waitpid(2), ECHILD), and a signal
/// that can end us must come through.
void reset_signals() {
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    std::signal(SIGCHLD, SIG_DFL);
}

/// A standard stream that the caller has closed is /dev/null, or the socket would take its number.
void open_standard_streams() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]] const int same = ::open("/dev/null", O_RDWR);
}

/// One attach, from connecting to the restored terminal.
Relay attach(const std::string &self, Options &options, UserTerminal &terminal) {
    Fd socket = connect_or_fail(self, options);
    handle_signals();
    Relay relay(options, terminal, std::move(socket));
    terminal.enter_raw_mode();
    relay.run();
    terminal.restore();
    return relay;
}

}  // namespace

int main(int argc, char **argv) {
    open_standard_streams();
    reset_signals();
    Options options = parse_command_line(argc, argv);
    if (argc <= 1) return list_sessions();
    if (options.kill) return kill_session(options);
    if (options.push) return push(options, connect_or_fail(argv[0], options));
    UserTerminal terminal;
    const Relay first = attach(argv[0], options, terminal);
    if (!first.has_come_too_late()) return first.report();
    for (const int number : kSignals) mask_signal(SIG_UNBLOCK, number);  // to connect may take long
    return attach(argv[0], options, terminal).report();
}
