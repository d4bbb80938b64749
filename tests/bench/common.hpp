// What the benchmark's programs share: the clock, whole writes, and the text that the load writes and the clients
// compare. One block of it is 256 KiB of what terminals show: compiler messages and listings in colour, a log, prose
// with accents and CJK; it ends with a line, so blocks follow each other. See bench.py for the whole.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace bench {

constexpr std::size_t kBlock = 256 << 10;
constexpr std::string_view kEnd = "@@END@@\r\n"; // follows the last block

/// Nanoseconds of the monotonic clock, the same in all processes.
inline std::uint64_t now() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

inline void nap(long microseconds) {
    const timespec t{microseconds / 1'000'000, microseconds % 1'000'000 * 1000};
    ::nanosleep(&t, nullptr);
}

[[noreturn]] inline void fail(const char *what) {
    std::perror(what);
    std::exit(1);
}

/// Writes all of it; false when the other end is gone.
inline bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

inline sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

inline void no_delay(int fd) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline int connect_unix(const char *path, int type = SOCK_STREAM) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    return -1;
}

/// One block of text with the line ends that a terminal gets (CR LF).
inline std::string block() {
    static constexpr std::array<const char *, 8> kWords = {
        "parser", "terminal", "session", "recording", "line_discipline", "a", "buffer_of_bytes", "io"};
    std::string text;
    std::uint32_t x = 12345;
    const auto random = [&x] { return (x = x * 1664525 + 1013904223) >> 16; };
    while (text.size() < kBlock - 512) {
        std::array<char, 400> line{};
        const char *word = kWords[random() % 8], *other = kWords[random() % 8];
        const unsigned n = random() % 4000, m = random() % 100;
        const auto put = [&line](auto... values) { std::snprintf(line.data(), line.size(), values...); };
        switch (random() % 8) {
        case 0:
            put("\033[01m\033[K%s.cpp:%u:%u:\033[m\033[K \033[01;35m\033[Kwarning: \033[m\033[Kunused \u2018%s\u2019",
                word, n, m, other);
            break;
        case 1:
            put("-rw-r--r-- 1 user users %7u Nov 21 23:%02u \033[0m\033[01;32m%s\033[0m -> %s", n, m % 60, word, other);
            break;
        case 2:
            put("2026-11-21T23:20:%02u.%06uZ INFO  request id=%u path=\"/api/v1/%s\" latency=12ms", m % 60, n, n, word);
            break;
        case 3:
            put("[%3u%%] Building CXX object CMakeFiles/%s.dir/src/%s.cpp.o, %u targets are up to date", m, word, other,
                n);
            break;
        case 4:
            put("\033[32m\u2713\033[39m %s \033[90m(%u ms)\033[39m na\u00efve caf\u00e9 \u2192 \u00fcber %s, %u passed",
                word, m, other, n);
            break;
        case 5:
            put("%5u  \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 %s \U0001F600 %s, %u", n, word, other, m);
            break;
        case 6:
            put("The quick brown fox jumps over %u dogs; the %s was %s before the %u others had come home.", m, word,
                other, n);
            break;
        default:
            put("\033[1;33m%s\033[0m@\033[34m%s\033[0m:~/src$ make -j%u check 2>&1 | tee build-%u.log", word, other, m,
                n);
        }
        text.append(line.data()).append("\r\n");
    }
    text.append(kBlock - 2 - text.size(), '=');
    return text + "\r\n";
}

} // namespace bench
