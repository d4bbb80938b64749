// bare: the least that can be done with a pseudoterminal: what the shim's figures are ratios of.
//
//   bare [-j FILE] [-p PORT] [-b BYTES] -- PROGRAM [ARG]...
//
// Runs PROGRAM on a terminal and reads it, a read at a time, until it ends. -j: writes an asciicast, one event and one
// write(2) a read. -p: sends to every client of that TCP port, blocking. -b: first gathers reads, until EAGAIN or
// BYTES.
//
//   bare -s PORT CLIENTS BLOCKS BYTES
//
// No terminal at all: a loop of blocking sends of the same text, BYTES each, to CLIENTS sockets, after a line on
// standard input; says `done BEGIN END` and its CPU time in nanoseconds.
#include "common.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h> // forkpty
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <span>
#include <vector>

namespace {

constexpr std::size_t kBuffer = 64 << 10;

/// What an event keeps back: the beginning of a character that the read has cut.
struct Recorder {
    int fd = -1;
    std::uint64_t start = 0;
    std::string cut, event;

    void write(std::string_view bytes);
};

/// The length of the UTF-8 sequence at the beginning of `s`; 0: cut; -1: none. (The load's text is valid: this is not
/// the place for the finer rules.)
int sequence_length(std::string_view s) {
    const auto lead = static_cast<unsigned char>(s[0]);
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    if (length == 0) return -1;
    for (std::size_t i = 1; i < length; ++i) {
        if (i == s.size()) return 0;
        if ((s[i] & 0xC0) != 0x80) return -1;
    }
    return static_cast<int>(length);
}

void Recorder::write(std::string_view bytes) {
    const std::string joined = std::exchange(cut, {}).append(bytes);
    const std::string_view all = joined;
    std::array<char, 48> head{};
    std::snprintf(head.data(), head.size(), "[%.6f, \"o\", \"", static_cast<double>(bench::now() - start) / 1e9);
    event = head.data();
    event.reserve(all.size() * 6 + 64);
    for (std::size_t i = 0; i < all.size();) {
        const auto c = static_cast<unsigned char>(all[i]);
        if (c >= 0x80) {
            const int length = sequence_length(all.substr(i));
            if (length == 0) {
                cut = all.substr(i);
                break;
            }
            event.append(length < 0 ? "\xEF\xBF\xBD" : all.substr(i, static_cast<std::size_t>(length)));
            i += static_cast<std::size_t>(std::max(length, 1));
            continue;
        }
        ++i;
        if (c >= 0x20 && c != '"' && c != '\\') event += static_cast<char>(c);
        else if (c == '\n') event += "\\n";
        else if (c == '\r') event += "\\r";
        else if (c >= 0x20) (event += '\\') += static_cast<char>(c);
        else (event += c < 0x10 ? "\\u000" : "\\u001") += "0123456789abcdef"[c & 15];
    }
    event += "\"]\n";
    bench::write_all(fd, event);
}

struct Setup {
    Recorder recorder;
    int port = 0;
    std::size_t gather = 0;
};

int listen_on(int port) {
    const sockaddr_in address = bench::loopback(port);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 || ::listen(fd, 1024) != 0)
        bench::fail("listen");
    return fd;
}

bool send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

/// Waits for the terminal; meanwhile lets clients in and gives the program what they type.
void wait_for_output(int master, int listener, std::vector<int> &clients) {
    for (;;) {
        std::vector<pollfd> polled = {{master, POLLIN, 0}, {listener, POLLIN, 0}};
        for (const int client : clients)
            polled.push_back({client, POLLIN, 0});
        ::poll(polled.data(), polled.size(), -1);
        if (polled[1].revents != 0)  // all who are there: none is to miss the first bytes
            for (int fd = -1; (fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
                bench::no_delay(fd);
                clients.push_back(fd);
            }
        for (const pollfd &one : std::span(polled).subspan(2)) {
            std::array<char, 4096> typed{};
            if (one.revents == 0) continue;
            const ssize_t n = ::recv(one.fd, typed.data(), typed.size(), 0);
            if (n > 0) bench::write_all(master, {typed.data(), static_cast<std::size_t>(n)});
            else std::erase(clients, one.fd), ::close(one.fd);
        }
        if (polled[0].revents != 0) return;
    }
}

/// The next bytes of the terminal: one read, or what is there up to `gather`.
std::size_t read_terminal(int master, std::span<char> buffer, std::size_t gather) {
    std::size_t used = 0;
    do {
        const ssize_t n = ::read(master, buffer.data() + used, buffer.size() - used);
        if (n < 0 && errno == EAGAIN && used == 0) {
            pollfd waiting{master, POLLIN, 0};
            ::poll(&waiting, 1, -1);
            continue;
        }
        if (n <= 0) break;
        used += static_cast<std::size_t>(n);
    } while (used < gather);
    return used;
}

int run(Setup &setup, char **program) {
    winsize size{24, 80, 0, 0};
    int master = -1;
    const int listener = setup.port != 0 ? listen_on(setup.port) : -1;
    if (listener >= 0) ::fcntl(listener, F_SETFL, O_NONBLOCK);
    const pid_t pid = ::forkpty(&master, nullptr, nullptr, &size);
    if (pid == 0) {
        std::signal(SIGPIPE, SIG_DFL);
        ::execv(program[0], program);
        ::_exit(127);
    }
    if (setup.gather != 0) ::fcntl(master, F_SETFL, O_NONBLOCK);
    setup.recorder.start = bench::now();
    if (setup.recorder.fd >= 0)
        bench::write_all(setup.recorder.fd, "{\"version\": 2, \"width\": 80, \"height\": 24}\n");
    std::vector<char> buffer(kBuffer);
    std::vector<int> clients;
    for (;;) {
        if (listener >= 0) wait_for_output(master, listener, clients);
        const std::size_t n = read_terminal(master, buffer, setup.gather);
        if (n == 0) break;
        const std::string_view bytes(buffer.data(), n);
        if (setup.recorder.fd >= 0) setup.recorder.write(bytes);
        for (const int client : clients)
            send_all(client, bytes);
    }
    return ::waitpid(pid, nullptr, 0) < 0 ? 1 : 0;
}

int send_loop(int port, std::size_t clients, std::size_t blocks, std::size_t bytes) {
    const int listener = listen_on(port);
    std::vector<int> sockets;
    while (sockets.size() < clients) {
        sockets.push_back(::accept(listener, nullptr, nullptr));
        bench::no_delay(sockets.back());
    }
    std::string text = bench::block();
    const std::size_t total = blocks * bench::kBlock;
    text += text.substr(0, bytes);
    if (std::getchar() == EOF) return 1;
    const std::uint64_t start = bench::now();
    for (std::size_t at = 0; at < total; at += bytes)
        for (const int socket : sockets)
            if (!send_all(socket, std::string_view(text).substr(at % bench::kBlock, std::min(bytes, total - at))))
                return 1;
    for (const int socket : sockets)
        send_all(socket, bench::kEnd);
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto nanoseconds = [](const timeval &t) {
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_usec) * 1000;
    };
    const std::string line = "done " + std::to_string(start) + " " + std::to_string(bench::now()) + " " +
                             std::to_string(nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime)) + "\n";
    bench::write_all(STDOUT_FILENO, line);
    while (std::getchar() != EOF) {
    }
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    std::signal(SIGPIPE, SIG_IGN);
    const auto number = [argv](int i) { return std::strtoul(argv[i], nullptr, 10); };
    Setup setup;
    for (int option = 0; (option = ::getopt(argc, argv, "+j:p:b:s")) != -1;) {
        if (option == 's' && argc - optind == 4)
            return send_loop(static_cast<int>(number(optind)), number(optind + 1), number(optind + 2),
                             number(optind + 3));
        if (option == 'j') setup.recorder.fd = ::open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        else if (option == 'p') setup.port = std::atoi(optarg);
        else if (option == 'b') setup.gather = std::min<std::size_t>(std::strtoul(optarg, nullptr, 10), kBuffer);
        else return 2;
    }
    if (optind < argc) return run(setup, argv + optind);
    std::fputs("usage: see the head of bare.cpp\n", stderr);
    return 2;
}
