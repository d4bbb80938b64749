// Fuzzes the recording's writer: what shim.cpp's Recorder writes is one strict JSON text a line, in UTF-8, and what
// record.cpp reads of it (record_side.cpp) are the same bytes.
//
// The input is a plan of cuts (fuzz.hpp), a byte of choices, and the output. With a marked piece what was collected is
// written, and the first bytes of the piece also stand in an event of another kind (bit 0: typed, bit 1: a marker).
// Bit 2 sets a limit to the file. Checked:
//   * the output comes back byte for byte, with a limit a beginning of it, and the file keeps to the limit;
//   * text that is UTF-8 has no `b` event; what is typed comes back, with U+FFFD for what is not UTF-8;
//   * the header's strings come back, and the exit event is the last.
#include "fuzz.hpp"

#define main shim_main
#include "../../shim.cpp"
#undef main

#include "record_side.hpp"

namespace {

/// Where a recording may be created: a name in a folder that goes with the process.
const std::string &file_name() {
    static const std::string name = [] {
        const char *folder = std::getenv("TMPDIR");
        return std::string(folder != nullptr ? folder : "/tmp") + "/fuzz-encoder-" + std::to_string(::getpid()) +
               ".cast";
    }();
    return name;
}

/// `bytes` as JSON can hold them: by the rule of the Unicode standard (section 3.9) each longest part that could begin
/// a character, or else each byte, is one U+FFFD.
std::string as_unicode(std::string_view bytes) {
    std::string text;
    while (!bytes.empty()) {
        std::size_t n = one_character(bytes);
        if (n != 0) text += bytes.substr(0, n);
        else {
            text += "\xEF\xBF\xBD";
            const auto could_begin = [](std::string_view part) {  // some tail makes a character of it
                for (const std::string_view tail :
                     {"\x80", "\xA0", "\x90", "\x80\x80", "\xA0\x80", "\x90\x80", "\x80\x80\x80", "\x90\x80\x80"})
                    if (one_character(std::string(part).append(tail)) > part.size()) return true;
                return false;
            };
            for (n = 1; n < bytes.size() && could_begin(bytes.substr(0, n + 1)); ++n) {
            }
        }
        bytes.remove_prefix(n);
    }
    return text;
}

/// What was written, and what it should come to.
struct Written {
    std::string output, typed;
    bool utf8 = true;  // all that each event holds was
};

Written record_all(Recorder &recording, Cuts &cuts, std::string_view output, unsigned choices) {
    Written written;
    std::string read;  // behind what was kept of the read before
    while (!output.empty()) {
        const std::string_view piece = cuts.take(output);
        read += piece;
        const std::size_t kept = output.empty() || (choices & 8) != 0 ? 0 : count_cut_bytes(read);
        const std::string_view whole = std::string_view(read).substr(0, read.size() - kept);
        if (!whole.empty()) recording.output(whole);
        written.output += whole;
        written.utf8 = written.utf8 && is_utf8(whole);
        read.erase(0, whole.size());
        if (!cuts.marked() && !output.empty()) continue;
        if ((choices & 1) != 0) {
            recording.event('i', piece.substr(0, 16));
            written.typed += as_unicode(piece.substr(0, 16));
        }
        if ((choices & 2) != 0) recording.event('m', piece.substr(0, 16));
        recording.commit();
    }
    recording.end(7);
    return written;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::string_view text = as_text(data, size);
    Cuts cuts(text);
    const unsigned choices = text.empty() ? 0 : static_cast<unsigned char>(text[0]);
    text.remove_prefix(std::min<std::size_t>(1, text.size()));
    const std::string command(text.substr(0, 40));
    const std::string header =
        R"({"version": 2, "width": 80, "height": 24, "command": )" + json_string(command) + "}\n";
    const std::uint64_t limit = (choices & 4) != 0 ? header.size() + 160 + (choices >> 4) * 64U : kUnlimited;

    Recorder recording;  // removes its file when it goes, for nobody told it to keep it
    check(recording.open(file_name(), header, limit), "cannot make a recording");
    const Written written = record_all(recording, cuts, text, choices);
    const std::string file = read_file(file_name());
    const RecordSide read = read_with_record(file_name());

    check(file.size() <= limit && file.ends_with('\n'), "the file's size or its end");
    for_each_line(file, [](std::string_view line) {
        if (!is_json(line)) check_same(line, "", "a line is no JSON");
    });
    check(read.good && read.kinds.ends_with('x') && read.status == "7", "record does not take it, or not to its end");
    check_same(read.command, as_unicode(command), "the header's command");
    if (limit != kUnlimited) {
        check_same(read.output, std::string_view(written.output).substr(0, read.output.size()),
                   "the output up to the limit");
        return 0;
    }
    check_same(read.output, written.output, "the output");
    check_same(read.typed, written.typed, "what was typed");
    check(written.utf8 == (read.kinds.find('b') == std::string::npos), "a b event for text, or none for bytes");
    return 0;
}
