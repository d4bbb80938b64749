// Fuzzes the state machine that follows a program's output: Follower of shim.cpp.
//
// The input is what a program prints. Checked:
//   * whole, byte by byte, and in pieces of any size it ends in the same state, with the same questions found;
//   * those are in order, apart from each other, and inside of the input;
//   * the sequences that it has for the modes bring a fresh one to the same modes, draw nothing and ask nothing;
//   * what is left of the input when the questions are cut out holds none;
//   * whatever came before, what switches everything on is told, and what switches everything off leaves nothing.
#include "fuzz.hpp"

#define main program_main
#include "../../shim.cpp"
#undef main

namespace {

struct Followed {
    Follower follower;
    std::vector<Range> queries;
};

/// Follows `bytes` in pieces of which next() gives the length.
template <typename Next> Followed follow(std::string_view bytes, Next &&next) {
    Followed result;
    while (!bytes.empty()) {
        const std::string_view piece = bytes.substr(0, next());
        result.follower.feed(piece, result.queries);
        bytes.remove_prefix(piece.size());
    }
    return result;
}

Followed follow(std::string_view bytes) {
    return follow(bytes, [&bytes] { return bytes.size(); });
}

/// Pieces of every size, the short ones more often; which ones, `bytes` themselves decide (a linear congruence).
Followed follow_in_pieces(std::string_view bytes) {
    std::uint32_t state = static_cast<std::uint32_t>(bytes.size());
    for (const char c : bytes) state = state * 16777619 ^ static_cast<unsigned char>(c);
    return follow(bytes, [&state] {
        state = state * 1664525 + 1013904223;
        return std::size_t{1} + (state >> 16) % (std::size_t{1} << (state >> 28));
    });
}

bool same(const Followed &a, const Followed &b) {
    const auto equal = [](Range x, Range y) { return x.begin == y.begin && x.end == y.end; };
    return a.follower == b.follower &&
           std::equal(a.queries.begin(), a.queries.end(), b.queries.begin(), b.queries.end(), equal);
}

void check_ranges(const Followed &followed, std::size_t size) {
    std::uint64_t last = 0;
    for (const Range &range : followed.queries) {
        check(range.begin >= last && range.begin < range.end && range.end <= size, "the ranges of the questions");
        last = range.end;
    }
    const Follower &f = followed.follower;
    check(f.position() == size && f.safe_place() <= size && f.drawn_at() <= size, "a place behind the input");
    check(f.in_ground() == (f.safe_place() == size) || f.in_ground(), "a safe place inside of a sequence");
}

void check_modes(const Modes &modes) {
    const std::string told = modes.sequences();
    const Followed late = follow(told);
    check(late.queries.empty(), "a question among the sequences for the modes");
    check(late.follower.in_ground(), "the sequences for the modes are not whole");
    check_same(late.follower.modes().sequences(), told, "the sequences for the modes do not give the modes");
    check(told.size() < 1024, "the sequences for the modes are very long");
}

/// What ends any sequence, and brings each mode to its first state.
constexpr std::string_view kAllOff =
    "\x18\x1B[?1049l\x0F\x1B(B\x1B)B\x1B*B\x1B+B\x1B[r\x1B[m\x1B[4;20l\x1B>\x1B[ q\x1B[>4;0m\x1B[<9u\x1B[?7;25h"
    "\x1B[?1;5;6;9;12l\x1B[?1000;1002;1003l\x1B[?1004;1005;1006;1007;1015;1016;2004l";
constexpr std::string_view kOn[] = {
    "\x1B[?1049h", "\x1B(0", "\x1B)0", "\x1B*A", "\x1B+<", "\x0E", "\x1B[2;9r", "\x1B=", "\x1B[4h", "\x1B[20h",
    "\x1B[3 q", "\x1B[>4;2m", "\x1B[>5u", "\x1B[0;1;4;31;48;5;7;58;2;1;2;3m", "\x1B[?1h", "\x1B[?5h", "\x1B[?6h",
    "\x1B[?7l", "\x1B[?12h", "\x1B[?25l", "\x1B[?1002h", "\x1B[?1004h", "\x1B[?1006h", "\x1B[?1007h", "\x1B[?2004h",
};

void check_switches(std::string_view bytes) {
    const std::string off = std::string(bytes).append(kAllOff);
    check_same(follow(off).follower.modes().sequences(), "", "all is off, and yet there is something to tell");
    std::string on = off;
    for (const std::string_view sequence : kOn) on += sequence;
    const std::string told = follow(on).follower.modes().sequences();
    for (const std::string_view sequence : kOn)
        if (told.find(sequence) == std::string::npos) check_same(told, sequence, "a mode is not told");
}

void check_without_queries(std::string_view bytes, const std::vector<Range> &queries) {
    std::string left;
    std::uint64_t at = 0;
    for (const Range &range : queries) {
        left += bytes.substr(at, range.begin - at);
        at = range.end;
    }
    left += bytes.substr(at);
    const Followed again = follow(left);
    if (again.queries.empty()) return;
    const Range first = again.queries.front();
    check_same(std::string_view(left).substr(first.begin, first.end - first.begin), "",
               "a question is left when all are cut out");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string_view bytes = as_text(data, size);
    const Followed whole = follow(bytes);
    check(same(whole, follow(bytes, [] { return std::size_t{1}; })), "byte by byte it is not the same as whole");
    check(same(whole, follow_in_pieces(bytes)), "in pieces it is not the same as whole");
    check_ranges(whole, size);
    check_modes(whole.follower.modes());
    check_modes(whole.follower.drawn_modes());
    check_without_queries(bytes, whole.queries);
    check_switches(bytes);
    return 0;
}
