// load: the program that runs on the terminal under test.
//
//   load CONTROL write raw|cooked BLOCKS BYTES   writes BLOCKS of text and the end marker as fast as it can, BYTES a
//                                                write
//   load CONTROL echo                            raw terminal: writes back what it reads
//   load CONTROL beacon                          raw terminal: writes a # every 50 us, for 5 s at most
//
// CONTROL is the path of bench.py's socket. There it says `ready PID PARENT`, waits for one byte (g: stay until the
// socket ends, x: exit when all is written), and says `done BEGIN END`, in nanoseconds of the monotonic clock.
#include "common.hpp"

namespace {

/// The terminal as a raw one, or as a shell would have it; then tells that we are there.
int begin(const char *control, bool raw) {
    termios settings{};
    ::tcgetattr(STDIN_FILENO, &settings);
    if (raw) ::cfmakeraw(&settings);
    else {
        settings.c_iflag = ICRNL | IXON;
        settings.c_oflag = OPOST | ONLCR;
        settings.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | IEXTEN;
    }
    ::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
    const int fd = bench::connect_unix(control);
    if (fd < 0) bench::fail(control);
    bench::write_all(fd, "ready " + std::to_string(::getpid()) + " " + std::to_string(::getppid()) + "\n");
    return fd;
}

int write_text(const char *control, bool raw, std::size_t blocks, std::size_t bytes) {
    std::string text = bench::block();
    if (!raw) std::erase(text, '\r');
    const std::size_t period = text.size(), total = blocks * period;
    text += text.substr(0, bytes);
    const int fd = begin(control, raw);
    char how = 0;
    if (::read(fd, &how, 1) != 1) return 1;
    const std::uint64_t start = bench::now();
    for (std::size_t at = 0; at < total; at += bytes)
        if (!bench::write_all(STDOUT_FILENO, std::string_view(text).substr(at % period, std::min(bytes, total - at))))
            return 1;
    bench::write_all(STDOUT_FILENO, raw ? bench::kEnd : "@@END@@\n");
    bench::write_all(fd, "done " + std::to_string(start) + " " + std::to_string(bench::now()) + "\n");
    return how == 'g' && ::read(fd, &how, 1) < 0 ? 1 : 0;
}

int echo(const char *control) {
    std::array<char, 4096> bytes{};
    begin(control, true);
    for (ssize_t n = 0; (n = ::read(STDIN_FILENO, bytes.data(), bytes.size())) > 0;)
        bench::write_all(STDOUT_FILENO, {bytes.data(), static_cast<std::size_t>(n)});
    return 0;
}

int beacon(const char *control) {
    begin(control, true);
    for (const std::uint64_t end = bench::now() + 5'000'000'000; bench::now() < end; bench::nap(50))
        if (!bench::write_all(STDOUT_FILENO, "#")) break;
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    const std::string_view mode = argc > 2 ? argv[2] : "";
    if (mode == "write" && argc == 6)
        return write_text(argv[1], std::string_view(argv[3]) == "raw", std::strtoul(argv[4], nullptr, 10),
                          std::strtoul(argv[5], nullptr, 10));
    if (mode == "echo") return echo(argv[1]);
    if (mode == "beacon") return beacon(argv[1]);
    std::fputs("usage: see the head of load.cpp\n", stderr);
    return 2;
}
