// Fuzzes what attach does to leave the terminal clean: ScreenState of attach.cpp, which follows the output.
//
// The input is a plan of cuts (fuzz.hpp) and the output of a program; in a second pass each byte of that stands for a
// whole sequence (kSequences), for bytes alone seldom make any. Checked:
//   * undo() and redo() are the same however the output is cut, and undo() once more takes back no mode;
//   * behind undo() no mode is left on that the shim's Follower knows of, which was written apart from this one
//     (shim_side.cpp). With whole sequences only: the two need not agree on what broken ones come to.
#include "fuzz.hpp"

#define main program_main
#include "../../attach.cpp"
#undef main

#include "shim_side.hpp"

namespace {

/// Not here: what each screen, or DECSC, keeps a copy of (character sets, kitty's keyboard flags): attach knows one.
constexpr std::string_view kSequences[] = {
    "\033[?1h", "\033[?1l", "\033[?5h", "\033[?6h", "\033[?6l", "\033[?7l", "\033[?7h", "\033[?9h", "\033[?9l",
    "\033[?25l", "\033[?25h", "\033[?47h", "\033[?47l", "\033[?66h", "\033[?66l", "\033[?1000h", "\033[?1000l",
    "\033[?1002h", "\033[?1003h", "\033[?1003l", "\033[?1004h", "\033[?1005h", "\033[?1006h", "\033[?1006l",
    "\033[?1015h", "\033[?1016h", "\033[?1047h", "\033[?1047l", "\033[?1048h", "\033[?1048l", "\033[?1049h",
    "\033[?1049l", "\033[?2004h", "\033[?2004l", "\033[?1;1000;1006;2004;1049h", "\033[?1;1000;1006;2004;1049l",
    "\033[4h", "\033[4l", "\033[20h", "\033[20l", "\033[4;20h", "\033[2;20r", "\033[r", "\033[;r", "\033[5r",
    "\033[;9r", "\033[m", "\033[0m", "\033[1m", "\033[22m", "\033[31;44m", "\033[39m", "\033[39;49m", "\033[38;5;9m",
    "\033[48;2;1;2;3m", "\033[4:3m", "\033[24m", "\033[58:2::1:2:3m", "\033[59m", "\033[0;1m", "\033[1;0m", "\033[;m",
    "\033=", "\033>", "\033c", "\033[!p", "\033[2 q", "\033[0 q", "\033[ q", "\033[>4;2m", "\033[>4;0m", "\033[>4m",
    "\033[H", "\033[5;5H", "\033[2J", "\033[J", "\033[K", "\r", "\n", "\t", "text", "\033]0;title\007",
    "\033]11;?\033\\", "\033P$qm\033\\", "\033[c", "\033[6n", "\033[?2026h", "\033[?2026l", "\033M",
};

void check_output(std::string_view output, Cuts cuts, bool whole_sequences) {
    ScreenState whole, pieces;
    whole.follow(output);
    for (std::string_view rest = output; !rest.empty();) pieces.follow(cuts.take(rest));
    check_same(pieces.redo(), whole.redo(), "redo() depends on the cuts");
    for (const bool right : {false, true}) {
        const std::string undo = whole.undo(right), undone = std::string(output) + undo;
        check_same(pieces.undo(right), undo, "undo() depends on the cuts");
        check(undo.size() < 4096, "undo() is very long");
        ScreenState again;
        again.follow(undone);
        check(again.undo(true).find('\033') == std::string::npos, "there is more to undo");
        if (!whole_sequences) continue;
        const std::string left = modes_by_shim(undone + "\033[m");  // the colours are among what DECSC keeps a copy of
        check_same(left.empty() ? "" : "behind " + undone + " the shim has " + left, "", "a mode is left on");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view output = as_text(data, size);
    std::string sequences;
    const Cuts cuts(output);
    check_output(output, cuts, false);
    for (const char c : output.substr(0, 200))
        sequences += kSequences[static_cast<unsigned char>(c) % std::size(kSequences)];
    check_output(sequences, cuts, true);
    return 0;
}
