// Fuzzes what a late client is sent: Output of shim.cpp, the ring with all that is known about it.
//
// The input is a plan of cuts (fuzz.hpp), a byte for how much history is wanted, two for how much of the output comes
// before the client, and the output. With the byte's top five bits set more than a ring of output stands before it.
// Checked:
//   * the client begins inside of the ring, and comes to the head in ranges that follow each other;
//   * its terminal (a fresh Follower) is asked nothing by the history, but perhaps by what is complete only later;
//   * at the end its terminal is in the modes that one who was always there is in.
// Not compared when a pen had been saved (DECSC) before the history's begin: that is not told; nor when a shift to
// another character set (SO, SI) stood inside of a question, and was left out with it.
#include "fuzz.hpp"

#define main program_main
#include "../../shim.cpp"
#undef main

namespace {

/// The output as the shim has it, and as a client has it that was always there.
struct Tape {
    Output output;
    std::string printed;

    void print(std::string_view bytes) {
        output.append(bytes);
        printed += bytes;
    }
};

Follower follow(Follower follower, std::string_view bytes, std::vector<Range> &queries) {
    follower.feed(bytes, queries);
    return follower;
}

/// Whether a pen other than the first has been saved (DECSC), on the main screen or on the alternate one.
bool has_saved_pen(const Follower &follower) {
    std::vector<Range> ignored;
    for (const std::string screen : {"\x1B[?47l", "\x1B[?47h"}) {
        Follower restored = follower, reset = follower;
        restored.feed(screen + "\x1B"
                               "8",
                      ignored);
        reset.feed(screen + "\x1B[m\x0F\x1B(B\x1B)B\x1B*B\x1B+B", ignored);
        if (restored.modes().sequences() != reset.modes().sequences()) return true;
    }
    return false;
}

/// What a client at `cursor` is sent until it has everything.
std::string serve(Tape &session, std::uint64_t &cursor, std::uint64_t replay_end) {
    std::string sent;
    while (cursor < session.output.head()) {
        const Range range = session.output.next(cursor, replay_end);
        check(range.begin >= cursor && range.begin <= range.end && range.end <= session.output.head(), "a range");
        check(range.end > cursor, "a range that leads nowhere");
        std::string bytes;
        for (const iovec &part : session.output.parts(range))
            bytes.append(static_cast<const char *>(part.iov_base), part.iov_len);
        check_same(bytes, std::string_view(session.printed).substr(range.begin, range.end - range.begin),
                   "other bytes than were printed");
        sent += bytes;
        cursor = range.end;
    }
    return sent;
}

std::uint64_t wanted_bytes(unsigned choice) {
    constexpr std::array<std::uint64_t, 8> kWanted = {0, 1, 16, 100, 1000, 64 << 10, 1 << 20, kUnlimited - 1};
    return kWanted[choice % kWanted.size()];
}

/// More than a ring of plain text, with `sample` in it here and there.
std::string long_past(std::string_view sample) {
    static const std::string text(100'000, 'x');
    std::string past;
    while (past.size() < kRingBytes + text.size())
        past.append(text).append(sample).append("\x18");  // CAN, for text is fast
    return past;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view text = as_text(data, size);
    Cuts cuts(text);
    if (text.size() < 3) return 0;
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned choice = byte(0), attach = byte(1) * 256U + byte(2);
    text.remove_prefix(3);
    static unsigned slow = 0;
    if (choice >= 0xF8 && ++slow > 16 && slow % 32 != 0) return 0;  // few of those that take long, but the seeds
    std::string_view before = text.substr(0, attach % (text.size() + 1)), after = text.substr(before.size());

    Tape session;
    if (choice >= 0xF8) session.print(long_past(text));
    while (!before.empty()) session.print(cuts.take(before));
    const std::uint64_t arrival = session.output.head();
    const Output::Start start = session.output.start(wanted_bytes(choice));
    check(start.at >= session.output.tail() && start.at <= arrival, "the history begins outside of the ring");
    std::uint64_t cursor = start.at;
    std::string sent = start.modes;
    if (cuts.marked()) sent += serve(session, cursor, arrival);
    const std::uint64_t served = sent.size();
    while (!after.empty()) session.print(cuts.take(after));
    if (cursor < session.output.tail()) return 0;  // fallen out of the ring: record catches it up
    sent += serve(session, cursor, arrival);

    Follower late;
    std::vector<Range> asked, ignored;
    const std::uint64_t live =
        std::min<std::uint64_t>(session.output.head() - arrival, sent.size() - start.modes.size());
    late.feed(std::string_view(sent).substr(0, sent.size() - live), asked);
    check(asked.empty(), "a question in the history");
    check(!cuts.marked() || served <= sent.size() - live, "what was served before was more than the history");
    late.feed(std::string_view(sent).substr(sent.size() - live), ignored);
    std::vector<Range> before_history, cut;
    const Follower then = follow({}, std::string_view(session.printed).substr(0, start.at), before_history);
    const Follower always = follow(then, std::string_view(session.printed).substr(start.at), cut);
    const bool anew =
        start.at < arrival && (session.printed[start.at] == '\x1B' || session.printed[start.at] == '\xC2');
    if (!then.in_ground() && !anew) {  // a string longer than the ring: no place in it is safe
        check(then.safe_place() < session.output.tail(), "the history begins inside of a sequence");
        return 0;
    }
    for (const Range &range : cut)
        if (session.printed.substr(range.begin, range.end - range.begin).find_first_of("\x0E\x0F") != std::string::npos)
            return 0;
    if (has_saved_pen(then)) return 0;
    check_same(late.modes().sequences(), always.modes().sequences(),
               "the late client's modes are not those of one who was always there");
    check(late.in_ground() == always.in_ground(),
          "the late client's terminal is inside of a sequence, the other's is not");
    return 0;
}
