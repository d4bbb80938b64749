// Fuzzes record's model of a terminal, and what it paints.
//
// The input is a plan of cuts (fuzz.hpp) and the output of a program, in which 0xF5, which no UTF-8 has, changes the
// size of the window. In a second pass each byte stands for a whole sequence (kPieces), for bytes alone seldom make
// any; in a third one each is a form of a sequence and those behind it the numbers in it (kForms), in a window of any
// size from 1x1 up. Checked:
//   * a model is the same however its output was cut;
//   * at each mark of the plan, a fresh model that takes what this one paints is in the same state: it shows the same
//     rows, paints the same, and still does when both have gone on to the end (but for changes of size: what a narrower
//     window hides is not painted);
//   * the same, as far as it is seen, when it is painted on a terminal that was in another state;
//   * behind undo() nothing is left to be undone;
//   * a paint asks the terminal nothing.
#include "fuzz.hpp"

#define main record_main
#include "../../record.cpp"
#undef main

namespace {

/// With FUZZ_SHOW, each output and its paint are written to standard error.
const bool g_show = std::getenv("FUZZ_SHOW") != nullptr;

void show(const char *what, std::string_view bytes) {
    if (!g_show) return;
    ::dprintf(g_reports, "%s: ", what);
    for (const char c : bytes) ::dprintf(g_reports, c >= ' ' && c < 0x7F && c != '\\' ? "%c" : "\\x%02x", static_cast<unsigned char>(c));
    ::dprintf(g_reports, "\n");
}

constexpr std::string_view kPieces[] = {
    "a", "b ", "text", "word\r\n", "\r\n", "\n", "\r", "\t", "\b", "\033D", "\033E", "\033M", "\0337", "\0338",
    "\xE4\xBD\xA0", "\xE5\xA5\xBD", "e\xCC\x81", "\xCC\x88\xCC\xA3", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA6", "\xEF\xB8\x8F",
    "0123456789012345678901234567890123456789", "x\033[3b", "\033[b", "q\xE4\xBD\xA0\033[2b",
    "\033[A", "\033[2B", "\033[3C", "\033[2D", "\033[999A", "\033[999B", "\033[999C", "\033[999D", "\033[2E", "\033[F",
    "\033[H", "\033[2;3H", "\033[5;9H", "\033[99;99H", "\033[3d", "\033[4G", "\033[10G", "\033[2I", "\033[Z", "\033[2a", "\033[e",
    "\033[J", "\033[1J", "\033[2J", "\033[3J", "\033[K", "\033[1K", "\033[2K", "\033[3X", "\033[?J", "\033[?1K", "\033[1\"q", "\033[0\"q",
    "\033[@", "\033[4@", "\033[P", "\033[3P", "\033[L", "\033[2L", "\033[M", "\033[2M", "\033[S", "\033[2S", "\033[T", "\033[2T",
    "\033[2;4r", "\033[r", "\033[3r", "\033[;2r", "\033[?69h", "\033[?69l", "\033[3;9s", "\033[s", "\033[u",
    "\033[?6h", "\033[?6l", "\033[4h", "\033[4l", "\033[?7l", "\033[?7h", "\033[20h", "\033[20l", "\033[?45h", "\033[?1045h", "\033[?45l",
    "\033[?1049h", "\033[?1049l", "\033[?47h", "\033[?47l", "\033[?1047h", "\033[?1047l", "\033[?1048h", "\033[?1048l",
    "\033[m", "\033[1m", "\033[2;3m", "\033[4m", "\033[4:3m", "\033[21;9m", "\033[7m", "\033[31m", "\033[44m", "\033[38;5;200m", "\033[48;5;3m",
    "\033[38;2;1;2;3m", "\033[48:2::4:5:6m", "\033[58:2::7:8:9m", "\033[58;5;7;53m", "\033[97;101m", "\033[39;49m", "\033[22;24;27m", "\033[8;5m",
    "\033(0", "\033(B", "\033)0", "\033*0", "\033+A", "\016", "\017", "\033n", "\033o", "\033Nq", "\033O", "\033(A", "lqk", "#\x7F",
    "\033H", "\033[g", "\033[3g", "\033[?5W", "\033#3", "\033#4", "\033#5", "\033#6", "\033#8", "\0336", "\0339", "\033[ @", "\033[2 A", "\033['}", "\033[2'~",
    "\033[2;2;4;5$z", "\033[33;1;1;2;7$x", "\033[1;1;3;4;1;2;3;1$v", "\033[1;2;9;9${",
    "\033[?1h", "\033=", "\033>", "\033[?25l", "\033[?12h", "\033[?1000h", "\033[?1003h", "\033[?1002l", "\033[?1006h", "\033[?1015h", "\033[?1015l",
    "\033[?2004h", "\033[?1004h", "\033[?1007l", "\033[?2026h", "\033[?5h", "\033[?66h", "\033[?2004l",
    "\033[>1u", "\033[>5;1u", "\033[<u", "\033[<9u", "\033[=3u", "\033[=4;2u", "\033[>4;2m", "\033[>4m", "\033[>m", "\033[>1;3f", "\033[>4n",
    "\033[2 q", "\033[ q", "\033[!p", "\033" "c", "\033]0;title\a", "\033]2;window\033\\", "\033]1;icon\033\\", "\033[22;0;0t", "\033[23;0;0t", "\033[22;2t", "\033[23;2t",
    "\033]8;id=1;http://a/\033\\", "\033]8;;\033\\", "\033]4;1;red;2;#00ff00\a", "\033]10;blue;red\033\\", "\033]104\a", "\033]104;1\a", "\033]110\a", "\033]11;?\033\\",
    "\033P$qm\033\\", "\033Pq#0;", "\033_Gi=1;", "\033\\", "\033X", "\033]52;c;aGk=\a", "\033[", "\033[1;3", "\033[?", "\033]2;cut", "\xE4\xBD", "\xF0\x9F", "\xC2\x9B", "\xFF", "\xC3",
    "\032", "\030", "\033", "\005", "\a", "\0", "\033[6n", "\033[c", "\033[?40h\033[?3h", "\xF5\x10", "\xF5\x27", "\xF5\x3C", "\xF5\x91", "\xF5\xFF",
};

/// Sequences with numbers: each # is one.
constexpr std::string_view kForms[] = {
    "\033[#A", "\033[#B", "\033[#C", "\033[#D", "\033[#E", "\033[#F", "\033[#G", "\033[#;#H", "\033[#I", "\033[#Z", "\033[#a", "\033[#d", "\033[#e",
    "\033[#`", "\033[#;#f", "\033[#;#r", "\033[#;#s", "\033[?69h\033[#;#s", "\033[s", "\033[u", "\033[#J", "\033[#K", "\033[?#J", "\033[?#K", "\033[#X",
    "\033[#@", "\033[#P", "\033[#L", "\033[#M", "\033[#S", "\033[#T", "\033[#^", "\033[#g", "\033[#b", "x\033[#b", "\xE4\xBD\xA0\033[#b", "\033[# @", "\033[# A",
    "\033[#'}", "\033[#'~", "\033[#;#;#;#;#$x", "\033[#;#;#;#$z", "\033[#\"q", "\033[# q", "\033[#h", "\033[#l", "\033[?#h", "\033[?#l", "\033[?#;#h",
    "\033[?100#h", "\033[?104#h", "\033[?104#l", "\033[?#W", "\033[#m", "\033[#;#m", "\033[38;5;#m", "\033[4#m", "\033[48;2;#;#;#m",
    "\033[58:5:#m", "\033[4:#m", "\033[>#;#m", "\033[>#;#f", "\033[>#n", "\033[>#u", "\033[<#u", "\033[=#;#u", "\033[#;#t", "\033[!p", "\033" "c", "\033#8", "\033#6", "\033#3",
    "\033]4;#;red\a", "\033]1#;blue\a", "\033]104;#\a", "\033]8;;#\a", "\033]0;#\a", "\033D", "\033M", "\0337", "\0338", "\033(0", "\033(B", "\033*0\033N", "\n", "\r",
    "\b", "\t", "\033H", "a", "#########", "\xE4\xBD\xA0\xE5\xA5\xBD", "e\xCC\x81", "\xCC\x88", "\xF0\x9F\x91\xA9\xE2\x80\x8D", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "\xE4", "\033[#",
    "\xF5\x10", "\xF5\x27", "\xF5\x3C", "\xF5\x91", "\xF5\xFF", "\xF5",
};

/// The sequences that some bytes stand for.
std::string write_forms(std::string_view bytes) {
    constexpr std::string_view kOdd[] = {"", "0", "99999", "2147483648", "18446744073709551616", "-1", "1;1;1;1", "999:9"};
    std::string text;
    const auto take = [&] {
        const auto byte = static_cast<unsigned char>(bytes.empty() ? '\0' : bytes[0]);
        bytes.remove_prefix(std::min<std::size_t>(1, bytes.size()));
        return byte;
    };
    while (!bytes.empty()) {
        for (const char c : kForms[take() % std::size(kForms)]) {
            const unsigned number = c == '#' ? take() : 0;
            if (c != '#') text += c;
            else if (number >= 0xF0) text += kOdd[number % std::size(kOdd)];
            else text += std::to_string(number < 0xC0 ? number % 24 : number);
        }
    }
    return text;
}

/// Output, with changes of size.
void feed(Model &model, std::string_view bytes) {
    while (!bytes.empty()) {
        const std::size_t text = std::min(bytes.find('\xF5'), bytes.size());
        model.feed(bytes.substr(0, text));
        bytes.remove_prefix(text);
        if (bytes.size() < 2) return model.feed(bytes);
        const auto size = static_cast<unsigned char>(bytes[1]);
        const int columns = 1 + size % 16 * 2;
        model.resize(model.columns(), 1 + size / 16);
        model.resize(columns, model.rows());
        bytes.remove_prefix(2);
    }
}

bool ends_in_size(std::string_view bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) at += bytes[at] == '\xF5' ? 2 : 1;
    return at > bytes.size();
}

std::string picture(const Model &model) {
    std::string text = std::to_string(model.columns()) + "x" + std::to_string(model.rows()) + " ";
    text += std::to_string(model.cursor().row) + "," + std::to_string(model.cursor().column) + (model.cursor().wrap ? "w\n" : "\n");
    for (int y = 0; y < model.rows(); ++y) text += model.row_text(y, true) + (model.row(y).wrapped ? "\\\n" : "\n");
    return text;
}

void check_equal(const Model &got, const Model &wanted, std::size_t history, const char *what) {
    check_same(picture(got), picture(wanted), what);
    check_same(got.paint(history), wanted.paint(history), what);
}

/// What only the user's settings decide is set to the contrary of what the program chose, and so again and again.
std::string without_users_modes(std::string text) {
    for (const Mode &mode : kModes) {
        for (const char final : {'h', 'l'}) {
            const std::string told = "\033[?" + std::to_string(mode.number) + final;
            if (const std::size_t at = text.find(told); mode.initial < 0 && at != std::string::npos) text.erase(at, told.size());
        }
    }
    return text;
}

void check_output(std::string_view output, Cuts cuts, int columns = 20, int rows = 6) {
    // What is wider than the window and has scrolled off can only be painted as several lines.
    const std::size_t history = output.find('\xF5') == std::string_view::npos ? 64 << 10 : 0;
    Model whole(columns, rows);
    feed(whole, output);
    Model pieces(columns, rows);
    for (std::string_view rest = output; !rest.empty();) {
        std::string_view piece = cuts.take(rest);
        if (ends_in_size(piece) && !rest.empty()) {  // what changes the size is no output that could be cut
            piece = {piece.data(), piece.size() + 1};
            rest.remove_prefix(1);
        }
        feed(pieces, piece);
        if (!cuts.marked()) continue;
        const std::string paint = pieces.paint(history);
        show("output", output.substr(0, output.size() - rest.size()));
        show("paint", paint);
        show("rest", rest);
        Model fresh(pieces.columns(), pieces.rows());
        fresh.feed(paint);
        check_equal(fresh, pieces, history, "a paint does not give the same state");
        Model used = whole;
        used.resize(pieces.columns(), pieces.rows());
        used.feed(pieces.paint(0, true));
        check_same(picture(used), picture(pieces), "a paint on a terminal with a past does not give the same state");
        if (rest.find('\xF5') != std::string_view::npos) continue;
        feed(fresh, rest);
        check_equal(fresh, whole, history, "a paint does not go on as the same");
    }
    check_equal(pieces, whole, history, "the model depends on the cuts");
    whole.feed(whole.undo());
    check_same(without_users_modes(whole.undo()), "", "there is more to undo");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view output = as_text(data, size);
    const Cuts cuts(output);
    check_output(output, cuts);
    std::string pieces;
    for (const char c : output.substr(0, 400)) pieces += kPieces[static_cast<unsigned char>(c) % std::size(kPieces)];
    check_output(pieces, cuts);
    if (output.size() < 2) return 0;
    const auto columns = static_cast<unsigned char>(output[0]), rows = static_cast<unsigned char>(output[1]);
    check_output(write_forms(output.substr(2, 400)), cuts, columns < 8 ? columns + 1 : columns % 50 + 1, rows % 13 + 1);
    return 0;
}
