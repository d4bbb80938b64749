// Fuzzes what a client says: ClientInput of shim.cpp tells the bytes for the program from messages, and keeps
// connections of other protocols out.
//
// The input is a plan of cuts (fuzz.hpp) and what the client sends. Checked:
//   * a stream that begins with a hello means the same however it is cut: bytes, answers, noise and windows, in order;
//   * no byte of a raw client is lost or added; nothing of what is foreign is passed on.
#include "fuzz.hpp"

#define main program_main
#include "../../shim.cpp"
#undef main

namespace {

constexpr std::string_view kMagic = "\xFF\xFFss";

/// What a client's bytes came to: its purpose, all that it typed, and everything in order.
struct Outcome {
    Purpose purpose = Purpose::unknown;
    std::string typed, order;
    bool operator==(const Outcome &) const = default;
};

/// Feeds all of `stream` in pieces, and settles at the end as the session does.
template <typename Take> Outcome feed_all(std::string_view stream, Take &&take) {
    ClientInput input(Purpose::unknown);
    std::vector<Said> said;
    while (!stream.empty()) input.feed(take(stream), said);
    input.settle(said);
    Outcome outcome{.purpose = input.purpose(), .typed = {}, .order = {}};
    Said::Kind last = Said::Kind::window;
    for (const Said &one : said) {
        const bool goes_on = one.kind == Said::Kind::typed && last == Said::Kind::typed;
        if (!goes_on) outcome.order += "|" + std::to_string(static_cast<int>(one.kind));
        outcome.order += one.kind == Said::Kind::window ? to_text(one.window) : one.bytes;
        if (one.kind == Said::Kind::typed) outcome.typed += one.bytes;
        last = one.kind;
    }
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string_view text = as_text(data, size);
    std::string_view stream = text;
    Cuts cuts(stream);
    const Outcome whole = feed_all(stream, [](std::string_view &rest) { return std::exchange(rest, {}); });
    const Outcome bytes = feed_all(stream, [](std::string_view &rest) {
        const std::string_view one = rest.substr(0, 1);
        rest.remove_prefix(1);
        return one;
    });
    const Outcome cut = feed_all(stream, [&](std::string_view &rest) { return cuts.take(rest); });
    if (stream.starts_with(kMagic) && stream.size() >= kHelloBytes)
        check(whole == bytes && whole == cut, "an aware client's bytes depend on how they are cut");
    for (const Outcome &one : {whole, bytes, cut}) {
        if (one.purpose == Purpose::raw) check_same(one.typed, stream, "a raw client's bytes are not as they were");
        if (one.purpose == Purpose::foreign) check(one.typed.empty(), "something foreign is passed on");
    }
    return 0;
}
