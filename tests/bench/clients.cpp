// clients: those who watch the session.
//
//   clients drain KIND COUNT BLOCKS exact|marker [COMMAND...]   COUNT clients that read all there is and compare it
//       with the load's text (marker: only look for its end: a terminal emulator stands between). Lines on standard
//       input: arm (what came so far does not count), finish (tell when all have everything, or nothing comes any
//       more).
//   clients echo KIND SAMPLES MICROSECONDS [COMMAND...]   a byte so often, and how long until it comes back
//   clients first KIND COMMAND...   runs COMMAND; how long until a client of it sees the load's first #
//
//   clients text   the block of text, for a look or a comparison elsewhere
//
// KIND is tcp:PORT, shim:PORT (says that it is a pipe), dtach:PATH (its packets), conmon:PATH, or pty: COMMAND is a
// client with a terminal of its own, started once for each. Results are one line on standard output, times in
// nanoseconds.
#include "common.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h> // forkpty
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <vector>

namespace {

enum class Kind { tcp, shim, dtach, conmon, pty };

struct Target {
    Kind kind;
    std::string where;
    char **command;
};

Target parse_target(std::string_view text, char **command) {
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::string_view name = text.substr(0, colon);
    const Kind kind = name == "tcp"      ? Kind::tcp
                      : name == "shim"   ? Kind::shim
                      : name == "dtach"  ? Kind::dtach
                      : name == "conmon" ? Kind::conmon
                                         : Kind::pty;
    return {kind, std::string(text.substr(std::min(colon + 1, text.size()))), command};
}

/// What dtach's client sends to its master: a type (0: typed bytes, 1: attach), a length, 8 bytes.
struct Packet {
    unsigned char type = 0, length = 0;
    std::array<char, 8> bytes{};
};

bool type_byte(const Target &target, int fd, char c) {
    const Packet packet{0, 1, {c}};
    if (target.kind == Kind::dtach)
        return bench::write_all(fd, {reinterpret_cast<const char *>(&packet), sizeof packet});
    return bench::write_all(fd, {&c, 1});
}

/// Runs the command on a terminal of its own: raw, 80x24.
pid_t spawn(char **command, int &fd) {
    termios settings{};
    ::cfmakeraw(&settings);
    settings.c_cflag |= CS8 | CREAD | B38400;
    settings.c_cc[VMIN] = 1;
    winsize size{24, 80, 0, 0};
    const pid_t pid = ::forkpty(&fd, nullptr, &settings, &size);
    if (pid != 0) {
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        return pid;
    }
    std::signal(SIGPIPE, SIG_DFL);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::execvp(command[0], command);
    ::_exit(127);
}

/// The hello of a client without a window whose output is a pipe: it is sent every byte as it is and at once. One that
/// says nothing, and came late, would be waited for, 200 ms, and then be taken for a terminal and painted.
constexpr std::string_view kPipeHello("\xFF\xFFss\0\0\0\0\0\0\0\0", 12);

int try_connect(const Target &target) {
    if (target.kind == Kind::conmon) return bench::connect_unix(target.where.c_str(), SOCK_SEQPACKET);
    if (target.kind == Kind::dtach) {
        const int fd = bench::connect_unix(target.where.c_str());
        const Packet attach{1, 0, {}};
        if (fd >= 0) bench::write_all(fd, {reinterpret_cast<const char *>(&attach), sizeof attach});
        return fd;
    }
    const sockaddr_in address = bench::loopback(std::atoi(target.where.c_str()));
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    bench::no_delay(fd);
    if (target.kind == Kind::shim) bench::write_all(fd, kPipeHello);
    return fd;
}

struct Client {
    int fd = -1;
    pid_t pid = 0;
    bool ended = false, marked = false;
    std::uint64_t bytes = 0, wrong = 0, last = 0;
    std::string tail; // marker: the last bytes of the read before
};

Client attach(const Target &target) {
    Client client;
    if (target.kind == Kind::pty) client.pid = spawn(target.command, client.fd);
    else
        for (const std::uint64_t end = bench::now() + 5'000'000'000; client.fd < 0 && bench::now() < end;) {
            client.fd = try_connect(target);
            if (client.fd < 0) bench::nap(50);
        }
    if (client.fd < 0) bench::fail(target.where.c_str());
    return client;
}

/// Ends a client's own process; some hang in their exit.
void end_process(pid_t pid) {
    if (pid <= 0) return;
    ::kill(pid, SIGTERM);
    for (int i = 0; i < 100; ++i, bench::nap(5000))
        if (::waitpid(pid, nullptr, WNOHANG) != 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

/// All the clients, read by one epoll loop that listens to standard input too.
class Crowd {
public:
    Crowd(const Target &target, std::size_t count, std::size_t blocks, bool exact);
    ~Crowd();
    void run();

private:
    void watch(int fd, std::uint64_t index) const;
    void read(Client &client);
    void compare(Client &client, std::string_view bytes) const;
    void look_for_end(Client &client, std::string_view bytes) const;
    [[nodiscard]] bool has_all(const Client &c) const {
        return exact_ ? c.bytes >= total_ + bench::kEnd.size() : c.marked;
    }
    bool obey();
    void report();

    std::vector<Client> clients_;
    std::string text_ = bench::block();
    std::vector<char> buffer_ = std::vector<char>(256 << 10);
    std::uint64_t total_;
    bool exact_, skips_, armed_ = false, finishing_ = false;
    std::size_t complete_ = 0, ended_ = 0;
    int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
};

Crowd::Crowd(const Target &target, std::size_t count, std::size_t blocks, bool exact)
    : total_(blocks * bench::kBlock), exact_(exact), skips_(target.kind == Kind::conmon) {
    watch(STDIN_FILENO, UINT64_MAX);
    for (std::size_t i = 0; i < count; ++i) {
        clients_.push_back(attach(target));
        watch(clients_.back().fd, i);
    }
}

/// Reads first what is left: closing a socket over unread data sends a reset.
Crowd::~Crowd() {
    for (Client &client : clients_) {
        ::fcntl(client.fd, F_SETFL, O_NONBLOCK);
        while (client.pid == 0 && !client.ended && ::read(client.fd, buffer_.data(), buffer_.size()) > 0) {
        }
        if (client.pid > 0) ::kill(client.pid, SIGTERM);
        ::close(client.fd);
    }
    for (const Client &client : clients_)
        end_process(client.pid);
}

void Crowd::watch(int fd, std::uint64_t index) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = index;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void Crowd::compare(Client &client, std::string_view bytes) const {
    for (std::uint64_t at = client.bytes; !bytes.empty() && client.wrong == 0;) {
        const bool in_text = at < total_;
        const std::string_view from = in_text ? std::string_view(text_).substr(at % bench::kBlock)
                                              : bench::kEnd.substr(std::min(at - total_, bench::kEnd.size()));
        const std::size_t n = std::min(from.size(), bytes.size());
        if (n == 0 || std::memcmp(from.data(), bytes.data(), n) != 0) client.wrong = at + 1;
        bytes.remove_prefix(n);
        at += n;
    }
}

void Crowd::look_for_end(Client &client, std::string_view bytes) const {
    constexpr std::string_view kMark = bench::kEnd.substr(0, 7);
    const std::string seam = client.tail + std::string(bytes.substr(0, kMark.size()));
    if (seam.find(kMark) != std::string::npos || bytes.find(kMark) != std::string_view::npos) client.marked = true;
    client.tail = bytes.substr(bytes.size() - std::min(bytes.size(), kMark.size()));
}

void Crowd::read(Client &client) {
    const ssize_t n = ::read(client.fd, buffer_.data(), buffer_.size());
    if (n <= 0) {
        client.ended = true;
        ++ended_;
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, client.fd, nullptr);
        return;
    }
    if (!armed_) return;
    std::string_view bytes(buffer_.data(), static_cast<std::size_t>(n));
    if (skips_) bytes.remove_prefix(1); // conmon: each packet begins with the stream's number
    const bool had_all = has_all(client);
    if (exact_) compare(client, bytes);
    else look_for_end(client, bytes);
    client.bytes += bytes.size();
    if (!had_all) client.last = bench::now();
    if (!had_all && has_all(client)) ++complete_;
}

bool Crowd::obey() {
    std::array<char, 64> line{};
    const ssize_t n = ::read(STDIN_FILENO, line.data(), line.size());
    if (n <= 0) return false;
    if (line[0] == 'a') {
        armed_ = true;
        bench::write_all(STDOUT_FILENO, "armed\n");
    } else finishing_ = true;
    return true;
}

void Crowd::report() {
    std::uint64_t bytes = 0, last = 0, wrong = 0;
    for (const Client &client : clients_) {
        bytes += exact_ ? std::min<std::uint64_t>(client.bytes, total_ + bench::kEnd.size()) : client.bytes;
        last = std::max(last, client.last);
        if (client.wrong != 0 && client.wrong <= total_ + bench::kEnd.size()) ++wrong;
    }
    const std::string line = "report " + std::to_string(bytes) + " " + std::to_string(last) + " " +
                             std::to_string(complete_) + " " + std::to_string(wrong) + " " + std::to_string(ended_) +
                             "\n";
    bench::write_all(STDOUT_FILENO, line);
    finishing_ = false;
}

void Crowd::run() {
    bench::write_all(STDOUT_FILENO, "connected\n");
    for (std::array<epoll_event, 64> events{};;) {
        const int n = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), finishing_ ? 1500 : -1);
        if (finishing_ && n == 0) report();
        for (int i = 0; i < n; ++i) {
            const std::uint64_t index = events.at(static_cast<std::size_t>(i)).data.u64;
            if (index != UINT64_MAX) read(clients_[index]);
            else if (!obey()) return;
        }
        if (finishing_ && complete_ == clients_.size()) report();
    }
}

/// Reads until `c` is seen; the time it took, or 0 when it is lost.
std::uint64_t wait_for(int fd, char c, int milliseconds) {
    static std::array<char, 65536> bytes;
    const std::uint64_t start = bench::now();
    for (;;) {
        pollfd waiting{fd, POLLIN, 0};
        if (::poll(&waiting, 1, milliseconds) <= 0) return 0;
        const ssize_t n = ::read(fd, bytes.data(), bytes.size());
        if (n <= 0) return 0;
        if (std::memchr(bytes.data(), c, static_cast<std::size_t>(n)) != nullptr) return bench::now() - start;
    }
}

int measure_echo(const Target &target, std::size_t samples, long period) {
    const Client client = attach(target);
    wait_for(client.fd, '\0', 300); // what the attaching draws
    std::vector<std::uint64_t> times;
    std::size_t lost = 0;
    std::uint64_t next = bench::now();
    for (std::size_t i = 0; i < samples + 100 && lost < 20; ++i) { // the first 100 warm up
        const char c = "xzvy"[i % 4];
        const std::uint64_t start = bench::now();
        if (!type_byte(target, client.fd, c)) return 1;
        if (wait_for(client.fd, c, 500) == 0) ++lost;
        else if (i >= 100) times.push_back(bench::now() - start);
        next += static_cast<std::uint64_t>(period) * 1000;
        if (const std::uint64_t here = bench::now(); here < next) bench::nap(static_cast<long>((next - here) / 1000));
        else next = here;
    }
    std::sort(times.begin(), times.end());
    const auto at = [&times](std::size_t percent) {
        return std::to_string(times[std::min(times.size() * percent / 100, times.size() - 1)]);
    };
    if (!times.empty())
        bench::write_all(STDOUT_FILENO,
                         "echo " + at(50) + " " + at(99) + " " + at(100) + " " + std::to_string(lost) + "\n");
    end_process(client.pid);
    return times.empty() ? 1 : 0;
}

int measure_first(const Target &target) {
    const std::uint64_t start = bench::now();
    pid_t pid = 0;
    if (target.kind != Kind::pty) {
        const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
        pid = ::fork();
        if (pid == 0) {
            ::setsid();
            ::dup2(null, STDIN_FILENO);
            ::dup2(null, STDOUT_FILENO);
            ::execvp(target.command[0], target.command);
            ::_exit(127);
        }
    }
    const Client client = attach(target);
    if (wait_for(client.fd, '#', 5000) != 0)
        bench::write_all(STDOUT_FILENO, "first " + std::to_string(bench::now() - start) + "\n");
    while (std::getchar() != EOF) {
    }
    ::close(client.fd);
    end_process(client.pid);
    end_process(pid);
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    const std::string_view mode = argc > 1 ? argv[1] : "";
    const auto number = [argv](int i) { return std::strtoul(argv[i], nullptr, 10); };
    ::prctl(PR_SET_TIMERSLACK, 1000);
    if (mode == "drain" && argc > 5) {
        Crowd(parse_target(argv[2], argv + 6), number(3), number(4), std::string_view(argv[5]) == "exact").run();
        return 0;
    }
    if (mode == "echo" && argc > 4)
        return measure_echo(parse_target(argv[2], argv + 5), number(3), static_cast<long>(number(4)));
    if (mode == "text") return bench::write_all(STDOUT_FILENO, bench::block()) ? 0 : 1;
    if (mode == "first" && argc > 3) return measure_first(parse_target(argv[2], argv + 3));
    std::fputs("usage: see the head of clients.cpp\n", stderr);
    return 2;
}
