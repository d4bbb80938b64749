// Fuzzes what a client says: ClientInput of shim.cpp tells the bytes for the program from window-change messages, and
// keeps connections of other protocols out.
//
// The input is a plan of cuts (fuzz.hpp; a marked piece has a pause after it) and what the client sends. Checked:
//   * however it is cut, a reference that looks at all of it so far comes to the same bytes, windows and mode;
//   * a stream that begins with the hello means the same however it is cut;
//   * what is foreign when it comes in pieces is so when it comes whole; nothing of it reaches the program;
//   * no byte of a raw client is lost or added, nor is more held back than the first 8 KiB.
// What is *not* true, and may not be: that a foreign opening is found however it is cut. A byte below 0x40 that is no
// text (Ctrl-E, typed) is not held back, though a STUN message could begin so; and a pause ends the wait for more.
#include "fuzz.hpp"

#define main program_main
#include "../../shim.cpp"
#undef main

namespace {

using Mode = ClientInput::Mode;

/// What a client's bytes came to.
struct Said {
    Mode mode = Mode::opening;
    std::string program;
    std::vector<std::array<unsigned, 4>> windows;
    std::size_t held = 0;  // bytes that wait for more

    bool operator==(const Said &) const = default;
};

/// A window-change message, by section 3 of the contract.
constexpr std::string_view kMagic = "\xFF\xFFss";
constexpr std::size_t kMessage = 12, kMostHeld = 8 << 10;

/// HTTP's request line as an automaton: the states are word 1, word 2, and how much of "HTTP/" has come.
Mode judge_http(std::string_view text) {
    constexpr std::string_view kName = "HTTP/";
    for (const char *method : {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH"})
        if (text.starts_with(std::string(method) + " /")) return Mode::foreign;
    std::size_t word = 0, length = 0, matched = 0;
    for (const char c : text) {
        if (word == 2) {
            if (c != kName[matched]) return Mode::raw;
            if (++matched == kName.size()) return Mode::foreign;
        } else if (c == ' ' && length > 0) {
            ++word;
            length = 0;
        } else if (c > ' ' && c < 0x7F) {
            ++length;
        } else {
            return Mode::raw;
        }
    }
    const bool too_long = word < 2 && length > 0 && text.size() >= kMostHeld;
    return too_long ? Mode::raw : Mode::opening;
}

/// TLS and STUN as patterns: pairs of a place and what may stand there.
Mode judge_binary(std::string_view text) {
    const auto at = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : -1; };
    if (at(0) == 0x16) {
        const bool fits = (at(1) == -1 || at(1) == 3) && at(2) <= 4 && (at(5) == -1 || at(5) == 1);
        return !fits ? Mode::raw : at(5) == 1 ? Mode::foreign : Mode::opening;
    }
    for (const std::size_t place : {4U, 6U})
        if (at(0) < 0x40 && at(place) == 0x21 && at(place + 1) == 0x12 && at(place + 2) == 0xA4 &&
            at(place + 3) == 0x42)
            return Mode::foreign;
    return at(0) < 2 && text.size() < 10 ? Mode::opening : Mode::raw;
}

/// The mode for a connection of which `text` is the beginning.
Mode judge(std::string_view text) {
    if (text.empty()) return Mode::opening;
    if (text.substr(0, kMagic.size()) == kMagic.substr(0, text.size()))
        return text.size() < kMessage ? Mode::opening : Mode::aware;
    const Mode modes[] = {judge_binary(text), judge_http(text)};
    for (const Mode mode : {Mode::foreign, Mode::opening})
        if (modes[0] == mode || modes[1] == mode) return mode;
    return Mode::raw;
}

/// What all of an aware client's bytes come to.
Said read_aware(std::string_view text) {
    Said said{.mode = Mode::aware, .program = {}, .windows = {}, .held = 0};
    for (std::size_t at = 0; (at = text.find(kMagic)) != text.npos && text.size() - at >= kMessage;) {
        said.program += text.substr(0, at);
        std::array<unsigned, 4> numbers{};
        for (std::size_t i = 0; i < 4; ++i)
            numbers[i] = static_cast<unsigned char>(text[at + 4 + 2 * i]) * 256U +
                         static_cast<unsigned char>(text[at + 5 + 2 * i]);
        text.remove_prefix(at + kMessage);
        if (numbers[0] == 0 && numbers[1] == 0) {
            said.mode = numbers[2] == 2 ? Mode::push : Mode::binary;
            said.program += text;
            return said;
        }
        if (numbers[0] != 0 && numbers[1] != 0) said.windows.push_back(numbers);
    }
    said.held = text.find(kMagic) == text.npos ? 0 : text.size() - text.find(kMagic);
    for (std::size_t n = 1; n < kMagic.size() && said.held == 0; ++n)
        if (text.ends_with(kMagic.substr(0, kMagic.size() - n))) said.held = kMagic.size() - n;
    said.program += text.substr(0, text.size() - said.held);
    return said;
}

/// The reference: keeps everything, and says at any time what it comes to.
class Reference {
public:
    void feed(std::string_view piece) {
        all_ += piece;
        if (mode_ == Mode::opening) mode_ = judge(all_);
    }
    void settle() {
        if (mode_ == Mode::opening) mode_ = Mode::raw;
        settled_ = true;
    }
    [[nodiscard]] Said said() const {
        Said said{.mode = mode_, .program = {}, .windows = {}, .held = 0};
        if (mode_ == Mode::raw) said.program = all_;
        if (mode_ == Mode::opening) said.held = all_.size();
        if (mode_ == Mode::aware) said = read_aware(all_);
        if (settled_ && mode_ == Mode::aware)
            said.program += std::string_view(all_).substr(all_.size() - std::exchange(said.held, 0));
        return said;
    }

private:
    std::string all_;
    Mode mode_ = Mode::opening;
    bool settled_ = false;
};

/// The shim's own, fed beside the reference.
class Both {
public:
    void feed(std::string_view piece) {
        input_.feed(piece, program_, windows_);
        reference_.feed(piece);
    }
    void settle() {
        input_.settle(program_);
        reference_.settle();
    }
    [[nodiscard]] bool is_undecided() const { return input_.is_undecided(); }

    /// Compares the two, and gives what they agree on.
    [[nodiscard]] Said said() const {
        Said said{.mode = input_.mode(), .program = program_, .windows = {}, .held = 0};
        for (const winsize &w : windows_) said.windows.push_back({w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel});
        const Said wanted = reference_.said();
        said.held = wanted.held;
        check_same(said.program, wanted.program, "other bytes for the program than the reference has");
        check(said == wanted, "another mode or other windows than the reference has");
        check(wanted.held <= (said.mode == Mode::opening ? kMostHeld : kMessage), "more is held back than may be");
        check(!input_.is_undecided() || said.mode == Mode::opening, "undecided, but not at the opening");
        const bool said_hello = said.mode == Mode::aware || said.mode == Mode::binary || said.mode == Mode::push;
        check(input_.wants_goodbye() == said_hello, "the goodbye");
        return said;
    }

private:
    ClientInput input_;
    Reference reference_;
    std::string program_;
    std::vector<winsize> windows_;
};

/// Feeds all of `stream` in pieces, and settles at the end as the session does. Gives also what it was before that.
template <typename Take> std::pair<Said, Said> feed_all(std::string_view stream, Take &&take) {
    Both both;
    for (std::size_t pieces = 0; !stream.empty(); ++pieces) {
        both.feed(take(stream, both));
        if (pieces % 32 == 0) (void)both.said();
    }
    const Said before = both.said();
    both.settle();
    return {before, both.said()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view stream = as_text(data, size);
    Cuts cuts(stream);
    bool paused = false;
    const auto [whole_before, whole] =
        feed_all(stream, [](std::string_view &rest, Both &) { return std::exchange(rest, {}); });
    const auto [bytes_before, bytes] = feed_all(stream, [](std::string_view &rest, Both &) {
        const std::string_view one = rest.substr(0, 1);
        rest.remove_prefix(1);
        return one;
    });
    const auto [cut_before, cut] = feed_all(stream, [&](std::string_view &rest, Both &both) {
        if (cuts.marked() && both.is_undecided()) {
            both.settle();
            paused = true;
        }
        return cuts.take(rest);
    });
    if (stream.starts_with(kMagic) && stream.size() >= kMessage)
        check(whole == bytes && whole == cut, "an aware client's bytes depend on how they are cut");
    for (const Said &said : {whole, bytes, cut}) {
        if (said.mode == Mode::raw)
            check_same(said.program, stream, "a raw client's bytes are not passed on as they are");
        if (said.mode == Mode::foreign)
            check(said.program.empty() && whole.mode == Mode::foreign, "foreign in pieces only");
    }
    check(paused || cut.mode != Mode::foreign || whole.mode == Mode::foreign, "foreign only when cut");
    return 0;
}
