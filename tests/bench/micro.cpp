// micro: how fast the shim's own work on the bytes is, without a terminal: the JSON encoder, over texts of several
// kinds in pieces of a read's size. One line a measurement: name, kind, nanoseconds a byte.
#define main shim_main
#include "../../shim.cpp"
#undef main

#include "common.hpp"

namespace micro {

constexpr std::size_t kPiece = 4095; // what one read of a terminal gives

std::string repeat(std::string_view what, std::size_t size) {
    std::string text;
    while (text.size() < size)
        text += what;
    return text;
}

/// Nanoseconds of CPU that we have used: what else runs on the machine does not count.
std::uint64_t cpu_time() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

/// Runs `work` over `text`, a piece at a time, for a twentieth of a second, nine times; prints the median.
template <typename Work> void measure(const char *name, const char *kind, std::string_view text, Work work) {
    std::array<double, 9> times{};
    for (double &time : times) {
        std::size_t bytes = 0;
        const std::uint64_t start = cpu_time();
        do {
            for (std::size_t at = 0; at < text.size(); at += kPiece)
                work(text.substr(at, kPiece));
            bytes += text.size();
        } while (cpu_time() - start < 50'000'000);
        time = static_cast<double>(cpu_time() - start) / static_cast<double>(bytes);
    }
    std::sort(times.begin(), times.end());
    std::printf("%s %s %.3f\n", name, kind, times[4]);
}

void measure_all(const char *kind, std::string_view text) {
    std::vector<char> out(kPiece * kMostPerByte + 64);
    bool exact = true;
    measure("encoder", kind, text, [&](std::string_view piece) { encode_json(piece, out.data(), exact); });
}

} // namespace micro

int main() {
    const std::string mixed =
        "na\u00efve caf\u00e9, \u00fcber Stra\u00dfe: \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 and some plain "
        "words \U0001F600 \u2192 end\r\n";
    micro::measure_all("ascii", micro::repeat("The quick brown fox jumps over the lazy dog, and then it goes home.\r\n",
                                              bench::kBlock));
    micro::measure_all("utf8", micro::repeat(mixed, bench::kBlock));
    micro::measure_all("terminal", bench::block());
    micro::measure_all("invalid", micro::repeat("\xFF\xC3(\x80text", bench::kBlock));
}
