// A terminal that nobody here wrote, for the tests: libvterm behind a pipe.
//     vterm: reads commands on standard input, one a line, and answers `dump` on standard output
// new ROWS COLS | size ROWS COLS | feed BYTES (a newline, then so many bytes) | dump
// A dump has one line a fact: `key value`, `row`s with a tab between cells, and a dot at the end.
#include <vterm.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

void append_utf8(std::string &out, uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += static_cast<char>(0xc0 | c >> 6);
        out += static_cast<char>(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        out += static_cast<char>(0xe0 | c >> 12);
        out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        out += static_cast<char>(0x80 | (c & 0x3f));
    } else {
        out += static_cast<char>(0xf0 | c >> 18);
        out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
        out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        out += static_cast<char>(0x80 | (c & 0x3f));
    }
}

std::string colour(const VTermColor &c) {
    char text[32];
    if (VTERM_COLOR_IS_DEFAULT_FG(&c) || VTERM_COLOR_IS_DEFAULT_BG(&c)) return "-";
    if (VTERM_COLOR_IS_INDEXED(&c)) std::snprintf(text, sizeof text, "%d", c.indexed.idx);
    else std::snprintf(text, sizeof text, "#%02x%02x%02x", c.rgb.red, c.rgb.green, c.rgb.blue);
    return text;
}

// One cell: its characters, then its rendition where it has one. A cell where nothing is drawn shows its background
// alone.
std::string describe(const VTermScreenCell &cell) {
    if (cell.chars[0] == UINT32_MAX) return "<"; // the right half of a wide character
    std::string out;
    for (uint32_t c : cell.chars) {
        if (c == 0) break;
        append_utf8(out, c);
    }
    const auto &a = cell.attrs;
    if (out.empty()) out = " ";
    const bool shows_ink = out != " " || a.underline || a.reverse || a.strike;
    const bool inked_blank = out == " " && shows_ink;
    std::string pen = (shows_ink ? colour(cell.fg) : "-") + "," + colour(cell.bg) + ",";
    if (a.bold && shows_ink && !inked_blank) pen += 'b';
    if (a.italic && shows_ink && !inked_blank) pen += 'i';
    if (a.blink && shows_ink) pen += 'k';
    if (a.reverse) pen += 'r';
    if (a.strike) pen += 's';
    if (a.underline) pen += "u" + std::to_string(a.underline);
    if (a.font && shows_ink && !inked_blank) pen += "f" + std::to_string(a.font);
    if (a.dwl) pen += 'w';
    if (a.dhl) pen += "h" + std::to_string(a.dhl);
    return pen == "-,-," ? out : out + pen;
}

class Terminal {
public:
    Terminal(int rows, int cols) : vt_(vterm_new(rows, cols)) {
        vterm_set_utf8(vt_, 1);
        vterm_output_set_callback(
            vt_, [](const char *s, size_t n, void *me) { static_cast<Terminal *>(me)->answers_.append(s, n); }, this);
        screen_ = vterm_obtain_screen(vt_);
        static const VTermScreenCallbacks callbacks = {nullptr, nullptr, nullptr,   take_property,
                                                       nullptr, nullptr, take_line, nullptr};
        vterm_screen_set_callbacks(screen_, &callbacks, this);
        vterm_screen_enable_altscreen(screen_, 1);
        vterm_screen_reset(screen_, 1);
    }
    ~Terminal() { vterm_free(vt_); }
    Terminal(const Terminal &) = delete;
    Terminal &operator=(const Terminal &) = delete;

    void feed(const std::string &bytes) { vterm_input_write(vt_, bytes.data(), bytes.size()); }
    void resize(int rows, int cols) { vterm_set_size(vt_, rows, cols); }

    void dump() {
        VTermPos at;
        VTermState *state = vterm_obtain_state(vt_);
        vterm_state_get_cursorpos(state, &at);
        std::printf("cursor %d,%d\n", at.row, at.col);
        std::printf("pen %s\n", pen(state).c_str());
        for (const auto &[name, value] : properties_)
            std::printf("%s %s\n", name.c_str(), value.c_str());
        std::printf("answers ");
        for (char c : answers_)
            std::printf("%02x", static_cast<unsigned char>(c));
        std::printf("\n");
        for (const auto &line : scrolled_)
            std::printf("scrolled %s\n", line.c_str());
        int rows, cols;
        vterm_get_size(vt_, &rows, &cols);
        for (int row = 0; row < rows; ++row) {
            std::string line;
            for (int col = 0; col < cols; ++col) {
                VTermScreenCell cell;
                vterm_screen_get_cell(screen_, {row, col}, &cell);
                line += (col ? "\t" : "") + describe(cell);
            }
            std::printf("row %s\n", line.c_str());
        }
        std::printf(".\n");
        std::fflush(stdout);
    }

private:
    static std::string pen(VTermState *state) {
        std::string out;
        for (int attr = 1; attr < VTERM_N_ATTRS; ++attr) {
            VTermValue value;
            vterm_state_get_penattr(state, static_cast<VTermAttr>(attr), &value);
            const bool is_colour = vterm_get_attr_type(static_cast<VTermAttr>(attr)) == VTERM_VALUETYPE_COLOR;
            out += (attr > 1 ? "," : "") + (is_colour ? colour(value.color) : std::to_string(value.number));
        }
        return out;
    }
    static int take_property(VTermProp property, VTermValue *value, void *me) {
        static const char *const names[] = {"",     "visible", "blink", "alternate", "title",
                                            "icon", "reverse", "shape", "mouse"};
        const bool is_text = vterm_get_prop_type(property) == VTERM_VALUETYPE_STRING;
        std::string text = is_text ? value->string : std::to_string(value->number);
        for (auto &[name, old] : static_cast<Terminal *>(me)->properties_)
            if (name == names[property]) old = text;
        return 1;
    }
    static int take_line(int cols, const VTermScreenCell *cells, void *me) {
        std::string line;
        for (int col = 0; col < cols; ++col)
            line += (col ? "\t" : "") + describe(cells[col]);
        static_cast<Terminal *>(me)->scrolled_.push_back(line);
        return 1;
    }
    VTerm *vt_;
    VTermScreen *screen_ = nullptr;
    std::string answers_;
    std::vector<std::string> scrolled_;
    std::vector<std::pair<std::string, std::string>> properties_ = {
        {"visible", "1"}, {"blink", "0"},   {"alternate", "0"}, {"title", ""},
        {"icon", ""},     {"reverse", "0"}, {"shape", "1"},     {"mouse", "0"}};
};

} // namespace

int main() {
    Terminal *terminal = new Terminal(24, 80);
    char line[128];
    while (std::fgets(line, sizeof line, stdin)) {
        int rows, cols;
        size_t count;
        if (std::sscanf(line, "new %d %d", &rows, &cols) == 2) {
            delete terminal;
            terminal = new Terminal(rows, cols);
        } else if (std::sscanf(line, "size %d %d", &rows, &cols) == 2) {
            terminal->resize(rows, cols);
        } else if (std::sscanf(line, "feed %zu", &count) == 1) {
            std::string bytes(count, '\0');
            if (std::fread(bytes.data(), 1, count, stdin) != count) return 1;
            terminal->feed(bytes);
        } else if (std::strcmp(line, "dump\n") == 0) {
            terminal->dump();
        } else {
            return 2;
        }
    }
    delete terminal;
}
