// A shim in 300 lines: runs a program on a terminal of its own in the background; all who connect share that terminal.
//
//     small3 PORT PROGRAM [ARG]...        (port 0: the kernel chooses one)
//
//     program ◄───► slave ◄─ line discipline ─► master ◄───► small3 ◄───► a socket for each client
//                                                              └────────► small3.cast, the log
//
// It prints one line when everything is ready, `listening on 127.0.0.1:PORT, pid N`, and goes to the background.
// Connect with `nc 127.0.0.1 PORT`, or with `attach -R PORT`, which puts your terminal into raw mode. small3 ends when
// the program does. shim.cpp grew from these parts; where a part does less, a comment names the section of shim.cpp
// that does the rest. Two sections have no part here: 'What a client says' (window sizes, the program's status for the
// client) and 'The narrator' (--explain).
//
// Read beside it: pty(7), openpty(3), select(2), send(2), daemon(7).
#include <arpa/inet.h>
#include <fcntl.h>
#include <pty.h>  // openpty, and ioctl
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMostClients = 64;     // each is a descriptor; select(2) takes those below FD_SETSIZE, 1024
constexpr std::size_t kMostKept = 65536;     // bytes kept for a client, or for the program, that reads slowly
constexpr std::size_t kMostDrained = 1 << 20;  // bytes taken after the program's end; a grandchild may print for ever
constexpr std::chrono::seconds kPatience(1);   // how long the program waits for a client that takes nothing
constexpr const char *kLogFile = "small3.cast";

/// An owning descriptor: close(2) when it goes out of scope, never twice. It can be moved, not copied.
class Fd {
public:
    explicit Fd(int fd = -1) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Fd() { close(); }
    [[nodiscard]] int get() const { return fd_; }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_;
};

/// Ends the program with "small3: what: why", the reason from errno. Only for failures before small3 is ready: after
/// that a failure ends one client, and the session goes on.
[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "small3: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

/// Makes `fd` our own: it closes at execve(2), so the program does not inherit it, and no call on it waits.
Fd own(int fd, const char *what, int flags = O_NONBLOCK) {
    if (fd < 0) fail(what);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | flags);
    return Fd(fd);
}

std::pair<Fd, Fd> make_pipe() {  // the end to read, the end to write; both wait
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) fail("pipe");
    return {own(ends[0], "pipe", 0), own(ends[1], "pipe", 0)};
}

// ---- The program on its terminal
//
// The kernel gives a terminal two ends: the program has the slave, small3 the master. The master gives EIO whenever no
// process has the slave open. That is not the program's end: it may open /dev/tty again. So small3 holds a slave too,
// and takes the program's exit for the end. Less than in shim.cpp, 'The program on its terminal': the window is 80x24
// for ever, and Backspace takes one byte of é away, not both.

struct Program {
    Fd master, slave;
    pid_t pid;
};

/// The child's part: a session of its own, which the terminal controls, then the program. When execvp(3) succeeds, it
/// closes `failure`; when it fails, the reason goes through it.
[[noreturn]] void become_program(int slave, int failure, const sigset_t &mask, char **argv) {
    ::setsid();
    ::ioctl(slave, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; fd++) ::dup2(slave, fd);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);  // exec keeps the mask, and the program may wait for children too
    ::execvp(argv[0], argv);
    const int error = errno;
    [[maybe_unused]] const ssize_t n = ::write(failure, &error, sizeof error);
    ::_exit(127);
}

Program start_program(char **argv, const sigset_t &mask) {
    int master = -1, slave = -1;
    const winsize window{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    if (::openpty(&master, &slave, nullptr, nullptr, &window) != 0) fail("openpty");
    Program program{own(master, "master"), own(slave, "slave", 0), -1};  // O_NONBLOCK would be the program's, too
    auto [reason, failure] = make_pipe();
    program.pid = ::fork();
    if (program.pid < 0) fail("fork");
    if (program.pid == 0) become_program(slave, failure.get(), mask, argv);
    failure.close();  // or the read below would wait for ourselves
    if (::read(reason.get(), &errno, sizeof errno) > 0) {
        ::unlink(kLogFile);
        fail(argv[0]);
    }
    return program;
}

// ---- The log
//
// asciicast v2: a header, then a line for each event, [seconds, "o", "what was printed"], and at the end "x" with the
// status. A line is written before its bytes go to a client: `kill -9` loses nothing that a client has got. A read may
// cut a character, and JSON takes whole ones only: the log keeps the first part back until the next read. In shim.cpp
// 'JSON' is faster, and 'The recording' keeps bytes that are not UTF-8 (here each becomes U+FFFD), goes on after a full
// disk (here the log ends), and gives each recording a name of its own.

struct Log {
    Fd file;
    std::string cut;  // the first bytes of a character whose last ones have not been read yet
    Clock::time_point start = Clock::now();
};

/// How many bytes the character at the beginning of `text` has; 0: that is no UTF-8; more than text.size(): it is cut.
std::size_t character_length(std::string_view text) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    for (std::size_t at = 1; at < std::min(length, text.size()); at++) {
        const unsigned low = at > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  // RFC 3629, section 4
        const unsigned high = at > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (byte(at) < low || byte(at) > high) return 0;
    }
    return length;
}

/// `text` inside a JSON string. Takes away from `text` what it has used: all but a character that is cut at the end.
std::string take_json(std::string_view &text) {
    std::string json;
    while (!text.empty()) {
        const std::size_t length = character_length(text);
        if (length > text.size()) break;
        const char c = text[0];
        if (length == 0) {
            json += "\\ufffd";
        } else if (c == '"' || c == '\\') {
            json.append({'\\', c});
        } else if (length == 1 && (c < 0x20 || c == 0x7F)) {
            std::array<char, 8> escape{};
            std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
            json += escape.data();
        } else {
            json += text.substr(0, length);
        }
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return json;
}

void write_line(Log &log, std::string_view line) {
    const ssize_t n = ::write(log.file.get(), line.data(), line.size());
    if (n != static_cast<ssize_t>(line.size())) log.file.close();
}

void write_event(Log &log, const char *kind, const std::string &json) {
    std::array<char, 64> begin{};
    const std::chrono::duration<double> time = Clock::now() - log.start;
    std::snprintf(begin.data(), begin.size(), "[%.6f, \"%s\", \"", time.count(), kind);
    write_line(log, begin.data() + json + "\"]\n");
}

void record_output(Log &log, std::string_view bytes) {
    log.cut += bytes;
    std::string_view rest = log.cut;
    const std::string json = take_json(rest);
    if (!json.empty()) write_event(log, "o", json);
    log.cut = rest;
}

void record_end(Log &log, int status) {
    if (!log.cut.empty()) write_event(log, "o", "\\ufffd");
    write_event(log, "x", std::to_string(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
}

Log open_log() {
    Log log{.file = own(::open(kLogFile, O_WRONLY | O_CREAT | O_EXCL, 0600), kLogFile), .cut = {}};
    const std::string now = std::to_string(std::time(nullptr));
    write_line(log, R"({"version": 2, "width": 80, "height": 24, "timestamp": )" + now + "}\n");
    return log;
}

// ---- Listening
//
// Loopback only: whoever reaches the port has the terminal. Every other user of this machine can reach it: 'Who may come in' of
// shim.cpp asks the kernel whose the other end is, and its 'Listening' has names in a folder of yours beside the ports.

Fd listen_at(const char *port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));  // 'The command line' checks what is typed
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Fd listener = own(::socket(AF_INET, SOCK_STREAM, 0), "socket");
    const int yes = 1;  // or the port stays taken for a minute after a session: tcp(7), TIME_WAIT
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (::bind(listener.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) fail(port);
    if (::listen(listener.get(), 16) != 0) fail(port);
    return listener;
}

int port_of(const Fd &listener) {
    sockaddr_in address{};
    socklen_t length = sizeof address;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr *>(&address), &length);
    return ntohs(address.sin_port);
}

// ---- A client
//
// A client that reads slowly has a queue here. While one queue is full, small3 does not read the master; the terminal
// fills, and the program waits in write(2): nobody loses a byte, and the memory is bounded. A client for which all wait
// and that takes nothing for a second is closed. In shim.cpp 'The ring' keeps the bytes once for all clients, a client
// that is dropped here goes on from the recording ('The past'), and so does a client that comes late: here it sees only
// what is printed from now on. 'A client' has the rest: one that has closed its sending side may still read there.

struct Client {
    Fd socket;
    std::string output = {};                     // printed, and not taken yet
    Clock::time_point moved = Clock::now();      // when it last took something, or `output` stopped being empty
    bool gone = false;
};

bool is_full(const Client &client) { return client.output.size() >= kMostKept; }

void accept_client(std::vector<Client> &clients, int listener) {
    const int fd = ::accept(listener, nullptr, nullptr);
    if (fd >= 0) clients.push_back(Client{.socket = own(fd, "client")});
}

void add_output(Client &client, std::string_view bytes, Clock::time_point now) {
    if (client.output.empty()) client.moved = now;
    client.output += bytes;
}

void send_output(Client &client, Clock::time_point now) {
    if (client.output.empty()) return;
    const ssize_t n = ::send(client.socket.get(), client.output.data(), client.output.size(), MSG_NOSIGNAL);
    if (n > 0) {
        client.output.erase(0, static_cast<std::size_t>(n));  // perhaps a part: the rest has its turn later
        client.moved = now;
    } else if (errno != EAGAIN) {
        client.gone = true;  // it has left; MSG_NOSIGNAL: EPIPE, and no SIGPIPE, which would end small3
    }
}

// ---- The session and its loop
//
// A session has three stages. While `running`, everything flows. Once the program has ended, small3 is `draining`: what
// the program printed last is still in the terminal. A grandchild may hold the slave, so small3 does not wait for EIO:
// it reads until nothing is left, 1 MiB at most. Then it is `leaving`: each client gets the rest of its queue and
// the end of the stream, and has a second to close its side. (With bytes of the client unread, close(2) would send a
// reset, which takes away what the client has not read yet.) SIGTERM just ends small3 here, and the kernel hangs the
// terminal up; 'The session and its loop' of shim.cpp passes it on to the program and waits for its last words.

enum class Stage { running, draining, leaving };

struct Session {
    Program program;
    Fd listener;
    Log log;
    std::vector<Client> clients = {};
    std::string input = {};  // typed, and not taken by the terminal yet
    Stage stage = Stage::running;
    int status = 0;
    std::size_t drained = 0;  // bytes read while draining
};

void read_client(Session &session, Client &client) {
    std::array<char, 4096> bytes;
    const ssize_t n = ::recv(client.socket.get(), bytes.data(), bytes.size(), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) client.gone = true;
    if (n > 0 && session.stage == Stage::running) session.input.append(bytes.data(), static_cast<std::size_t>(n));
}

/// Gives the output to the log, then to the clients. Gives back the number of bytes, 0 when there are none.
std::size_t read_master(Session &session, Clock::time_point now) {
    std::array<char, 4096> bytes;
    const ssize_t n = ::read(session.program.master.get(), bytes.data(), bytes.size());
    if (n <= 0) return 0;
    const std::string_view printed(bytes.data(), static_cast<std::size_t>(n));
    record_output(session.log, printed);
    for (Client &client : session.clients) add_output(client, printed, now);
    return printed.size();
}

void leave(Session &session, Clock::time_point now) {
    session.stage = Stage::leaving;
    record_end(session.log, session.status);
    for (Client &client : session.clients) client.moved = now;
}

void drain_master(Session &session, Clock::time_point now) {
    const std::size_t n = read_master(session, now);
    session.drained += n;
    if (n == 0 || session.drained > kMostDrained) leave(session, now);
}

/// The terminal takes what it has room for. A program that reads nothing keeps `input`, and not the loop, waiting.
void write_master(Session &session) {
    if (session.input.empty()) return;
    const ssize_t n = ::write(session.program.master.get(), session.input.data(), session.input.size());
    if (n > 0) session.input.erase(0, static_cast<std::size_t>(n));
}

void look_for_end(Session &session) {
    if (session.stage != Stage::running || ::waitpid(session.program.pid, &session.status, WNOHANG) <= 0) return;
    session.stage = Stage::draining;
    session.listener.close();
    session.input.clear();
}

void serve(Session &session, const sigset_t &mask) {
    const int master = session.program.master.get();
    const auto is_waited_for = [&](const Client &client) { return session.stage == Stage::leaving || is_full(client); };
    while (session.stage != Stage::leaving || !session.clients.empty()) {
        // Build the sets.
        const int listener = session.listener.get();
        fd_set readable, writable;
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        int last = std::max(master, listener);
        const bool can_read = std::none_of(session.clients.begin(), session.clients.end(), is_full);
        const bool drains = can_read && session.stage == Stage::draining;
        const bool listens = session.stage == Stage::running && session.clients.size() < kMostClients;
        if (can_read && session.stage == Stage::running) FD_SET(master, &readable);
        if (!session.input.empty()) FD_SET(master, &writable);
        if (listens) FD_SET(listener, &readable);
        for (const Client &client : session.clients) {
            if (session.input.size() < kMostKept) FD_SET(client.socket.get(), &readable);
            if (!client.output.empty()) FD_SET(client.socket.get(), &writable);
            last = std::max(last, client.socket.get());
        }

        // Wait. Only here may SIGCHLD arrive: a flag and a plain select(2) would miss one that came in between.
        // The time-out is for clients that take nothing, which no descriptor tells; draining does not wait.
        const timespec timeout{.tv_sec = 0, .tv_nsec = drains ? 0 : 100'000'000};
        const bool limited = drains || std::any_of(session.clients.begin(), session.clients.end(), is_waited_for);
        const int ready = ::pselect(last + 1, &readable, &writable, nullptr, limited ? &timeout : nullptr, &mask);
        if (ready < 0) FD_ZERO(&readable);
        const Clock::time_point now = Clock::now();

        // Dispatch: what clients type, what the program prints, a new client.
        for (Client &client : session.clients)
            if (FD_ISSET(client.socket.get(), &readable)) read_client(session, client);
        if (FD_ISSET(master, &readable)) read_master(session, now);
        if (drains) drain_master(session, now);
        if (listens && FD_ISSET(listener, &readable)) accept_client(session.clients, listener);

        // Flush and reap.
        write_master(session);
        for (Client &client : session.clients) {
            send_output(client, now);
            if (session.stage == Stage::leaving && client.output.empty()) ::shutdown(client.socket.get(), SHUT_WR);
            if (is_waited_for(client) && now - client.moved >= kPatience) client.gone = true;
        }
        std::erase_if(session.clients, [](const Client &client) { return client.gone; });
        look_for_end(session);
    }
}

// ---- Starting
//
// The command returns when all is ready, or says why not: the daemon does the work, and its parent waits at a pipe for
// the line to print. setsid(2) leaves the caller's terminal: no ^C and no hang-up of that terminal reaches the daemon.
// 'Starting' of shim.cpp copes with a caller whose descriptors 0 to 2 are closed, closes the others that the caller
// left open, and gives the statuses 126 and 127.

Fd go_to_background() {
    auto [line, ready] = make_pipe();
    const pid_t pid = ::fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        ::setsid();
        return std::move(ready);
    }
    ready.close();
    std::array<char, 128> text;
    const ssize_t n = ::read(line.get(), text.data(), text.size());
    if (n <= 0) std::_Exit(1);  // the daemon has ended, and said why
    std::_Exit(::write(STDOUT_FILENO, text.data(), static_cast<std::size_t>(n)) == n ? 0 : 1);
}

void say_ready(const Fd &ready, const Fd &listener) {
    const std::string line =
        "listening on 127.0.0.1:" + std::to_string(port_of(listener)) + ", pid " + std::to_string(::getpid()) + "\n";
    [[maybe_unused]] const ssize_t n = ::write(ready.get(), line.data(), line.size());
    const Fd null(::open("/dev/null", O_RDWR));  // let go of what the caller may wait for, or unmount
    for (int fd = 0; fd < 3; fd++) ::dup2(null.get(), fd);
    [[maybe_unused]] const int result = ::chdir("/");
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::fputs("usage: small3 PORT PROGRAM [ARG]...\n", stderr);
        return 2;
    }
    Fd ready = go_to_background();
    sigset_t child, before;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, &before);
    ::sigdelset(&before, SIGCHLD);     // the caller may have blocked it
    std::signal(SIGCHLD, [](int) {});  // does nothing, but a signal with a handler ends pselect(2)
    Fd listener = listen_at(argv[1]);
    Log log = open_log();
    Session session{.program = start_program(argv + 2, before), .listener = std::move(listener), .log = std::move(log)};
    say_ready(ready, session.listener);
    ready.close();
    serve(session, before);
}
