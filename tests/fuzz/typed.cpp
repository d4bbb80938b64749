// Fuzzes what a terminal sends: TerminalInput of attach.cpp tells keys from answers and noise, and finds the detach key.
//
// The input is the detach key, a plan of cuts (fuzz.hpp; a marked piece has a pause behind it) and what is sent. Checked:
//   * however it is cut, it comes to the same bytes of the same kinds in the same order, and to the same key;
//   * without a key no byte is lost or added, with one the bytes are the beginning of what was sent;
//   * no more is held back than the longest sequence, and nothing that is ordinary text.
#include "fuzz.hpp"

#define main program_main
#include "../../attach.cpp"
#undef main

namespace {

/// What the terminal's bytes came to: each with its kind.
struct Heard {
    std::string bytes, kinds;
    bool has_key = false;
    bool operator==(const Heard &) const = default;

    void take(TerminalInput &input) {
        for (const TerminalInput::Piece &piece : input.take_pieces()) {
            bytes += piece.bytes;
            kinds.append(piece.bytes.size(), static_cast<char>(piece.kind));
        }
        has_key = input.has_detach_key();
    }
};

/// Feeds all of `stream` in pieces. Where `pauses` says so, what is held back is released behind one.
template <typename Take, typename Pauses> Heard hear(int key, std::string_view stream, Take &&take, Pauses &&pauses) {
    TerminalInput input(key);
    Heard heard;
    const std::size_t all = stream.size();
    while (!stream.empty()) {
        input.feed(take(stream), Clock::time_point{});
        if (pauses()) input.release();
        heard.take(input);
        const std::size_t held = all - stream.size() - heard.bytes.size();
        check(heard.has_key || held <= kLongestString + 1, "more is held back than the longest sequence");
        check(heard.has_key || (held == 0) == (input.held_until() == kNever) || held == 0, "what is held back waits for ever");
    }
    input.release();
    heard.take(input);
    return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view stream = as_text(data, size);
    constexpr int kKeys[] = {kNoKey, '\\' & 0x1F, 1, 0x1B, 0, '~', 0x7F, '1'};
    const int key = kKeys[stream.empty() ? 0 : static_cast<unsigned char>(stream[0]) % std::size(kKeys)];
    stream.remove_prefix(std::min<std::size_t>(1, stream.size()));
    Cuts cuts(stream);
    const auto never = [] { return false; };
    const Heard whole = hear(key, stream, [](std::string_view &rest) { return std::exchange(rest, {}); }, never);
    const Heard bytes = hear(key, stream, [](std::string_view &rest) {
        const std::string_view one = rest.substr(0, 1);
        rest.remove_prefix(1);
        return one;
    }, never);
    const Heard cut = hear(key, stream, [&](std::string_view &rest) { return cuts.take(rest); }, never);
    check(whole == bytes && whole == cut, "it depends on how it is cut");
    const Heard paused = hear(key, stream, [&](std::string_view &rest) { return cuts.take(rest); },
                              [&] { return cuts.marked(); });
    for (const Heard &heard : {whole, paused})
        if (heard.has_key) check(stream.starts_with(heard.bytes), "the bytes before the key are not those that were sent");
        else check_same(heard.bytes, stream, "the bytes are not those that were sent");
    return 0;
}
