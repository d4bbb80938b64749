// Fuzzes record on files of any kind: every command that reads one, through its main.
//
// The input is the file. Since a control character cannot stand in JSON, some are directions here: \x02 N C are 8 N KiB
// of the character C, so that lines longer than record's window are tried too; and an input that begins with \x01 is a
// plan of cuts (fuzz.hpp) and output, of which the target makes a recording in exact bytes, with a new size after each
// marked piece. Checked, beside that nothing crashes or leaks (each input by a part of this, as its bytes have it):
//   * cat, cat -f, play without pauses, convert -t raw, and cat from a pipe give the same bytes and exit status;
//   * cat --from A --to B is that part of them;
//   * what convert writes as v2 or v3 is strict JSON, gives the same bytes, and back and forth is the same file;
//   * ttyrec and script hold the same bytes; txt and info hold no control character, info --json is JSON;
//   * exit statuses are 0 or 1, and what is said is one line that begins with "record: ".
#include "fuzz.hpp"

#define main program_main
#include "../../record.cpp"
#undef main

namespace {

constexpr std::size_t kShort = 64 << 10;  // more is run with fewer commands

/// What a run of record came to.
struct Run {
    int status = 0;
    std::string output, said;
    bool operator==(const Run &other) const { return status == other.status && output == other.output; }
};

/// Runs `record WORDS...`, with standard output and error as files in memory.
Run run(std::vector<std::string> words) {
    static const MemoryFile output("output"), said("said");
    output.set("");
    said.set("");
    ::dup2(output.fd(), STDOUT_FILENO);
    ::dup2(said.fd(), STDERR_FILENO);
    words.insert(words.begin(), "record");
    std::vector<char *> argv;
    for (std::string &word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::optind = 0;  // glibc: begin anew
    Run result;
    result.status = program_main(static_cast<int>(words.size()), argv.data());
    std::fflush(stdout);
    result.output = output.get();
    result.said = said.get();
    check(result.status == 0 || result.status == 1, "an exit status that is neither 0 nor 1");
    check(result.status == 0 || !result.said.empty(), "an error without a message");
    for_each_line(result.said,
                  [](std::string_view line) { check(line.starts_with("record: "), "a message of another form"); });
    check(result.said.empty() || result.said.ends_with('\n'), "a message without an end");
    return result;
}

std::string base64(std::string_view bytes) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    unsigned bits = 0, held = 0;
    for (const char c : bytes) {
        bits = bits << 8 | static_cast<unsigned char>(c);
        for (held += 8; held >= 6; held -= 6) text += kDigits[bits >> (held - 6) & 63];
    }
    if (held > 0) text += kDigits[bits << (6 - held) & 63];
    while (text.size() % 4 != 0) text += '=';
    return text;
}

/// A recording of `output`, in pieces half a second apart.
std::string recording_of(std::string_view output) {
    Cuts cuts(output);
    std::string file = R"({"version": 2, "width": 20, "height": 6, "timestamp": 1700000000})"
                       "\n";
    for (unsigned time = 0; !output.empty(); ++time) {
        const std::string piece(cuts.take(output)), at = "[" + std::to_string(time / 2) + (time % 2 == 0 ? "" : ".5");
        file += at + R"(, "b", ")" + base64(piece) + "\"]\n" + at +
                R"(, "o", "..."])"
                "\n";
        if (!cuts.marked() || piece.empty()) continue;
        const auto number = static_cast<unsigned char>(piece[0]);
        file += at + R"(, "r", ")" + std::to_string(number % 32) + "x" + std::to_string(number / 16) + "\"]\n";
    }
    return file;
}

/// The file that an input stands for.
std::string unfold(std::string_view input) {
    if (input.starts_with('\x01')) return recording_of(input.substr(1));
    constexpr std::size_t kMost = 1400 << 10;
    std::string file;
    for (std::size_t at = 0; at < input.size() && file.size() < kMost; ++at) {
        if (input[at] != '\x02' || at + 2 >= input.size()) {
            file += input[at];
            continue;
        }
        file.append(
            std::min<std::size_t>(static_cast<unsigned char>(input[at + 1]) * std::size_t{8192}, kMost - file.size()),
            input[at + 2]);
        at += 2;
    }
    return file;
}

/// Whether a terminal would do more than show `text`: a control character, but a line feed.
bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]),
                   next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : ' ');
        if ((c < 0x20 && c != '\n') || c == 0x7F || (c == 0xC2 && next >= 0x80 && next < 0xA0)) return true;
    }
    return false;
}

void check_lines_are_json(const std::string &text, const char *what) {
    for_each_line(text, [what](std::string_view line) {
        if (!is_json(line)) check_same(line, "", what);
    });
}

/// `record convert -t TYPE`, and that it reads as `wanted` again; gives what it wrote.
std::string check_cast(const std::string &type, const std::string &path, const Run &wanted) {
    static const MemoryFile again("again");
    const Run converted = run({"convert", "-t", type, path});
    check(converted.status == wanted.status, "convert ends otherwise than cat");
    if (converted.status != 0 || converted.output.empty()) return "";
    check_lines_are_json(converted.output, "convert wrote what is no JSON");
    again.set(converted.output);
    const Run read = run({"cat", again.path()});
    check(read.status == 0, "what convert wrote cannot be read");
    check_same(read.output, wanted.output, "what convert wrote has other output");
    return converted.output;
}

/// The lines behind the header's.
std::string_view events_of(std::string_view file) { return file.substr(std::min(file.find('\n'), file.size())); }

/// There and back: the times are in whole microseconds, so nothing may be lost. (A header's members may change places.)
void check_back_and_forth(const std::string &path, const Run &wanted) {
    static const MemoryFile middle("middle");
    for (const auto &[there, back] : {std::pair("v2", "v3"), std::pair("v3", "v2")}) {
        const std::string first = check_cast(there, path, wanted);
        middle.set(first);
        if (first.empty()) continue;
        const std::string second = check_cast(back, middle.path(), wanted);
        middle.set(second);
        const std::string third = check_cast(there, middle.path(), wanted);
        check_same(events_of(third), events_of(first), "converted there and back it is another");
    }
}

void check_ttyrec(const Run &ttyrec, const Run &wanted) {
    std::string_view rest = ttyrec.output;
    std::string output;
    while (rest.size() >= 12) {
        std::size_t length = 0;
        for (std::size_t i = 0; i < 4; ++i) length |= std::size_t{static_cast<unsigned char>(rest[8 + i])} << (8 * i);
        rest.remove_prefix(12);
        check(length <= rest.size(), "a length in a ttyrec");
        output += rest.substr(0, length);
        rest.remove_prefix(length);
    }
    check(rest.empty(), "the end of a ttyrec");
    check_same(output, wanted.output, "the ttyrec has other output");
}

/// Through files of our own, for script writes two.
void check_script(const std::string &path, const Run &wanted) {
    const char *folder = std::getenv("TMPDIR");
    const std::string out =
        std::string(folder != nullptr ? folder : "/tmp") + "/fuzz-reader-" + std::to_string(::getpid());
    const Run script = run({"convert", "-t", "script", "--force", "-o", out, path});
    check(script.status == wanted.status, "convert -t script ends otherwise than cat");
    if (::access(out.c_str(), F_OK) != 0) return check(wanted.status != 0, "convert -t script wrote nothing");
    const std::string written = read_file(out), timing = read_file(out + ".timing");
    ::unlink(out.c_str());
    ::unlink((out + ".timing").c_str());
    if (script.status == 0 && !written.empty())
        check_same(std::string_view(written).substr(written.find('\n') + 1), wanted.output,
                   "the script has other output");
    check(!has_control(timing), "a control character in a script's timing");
}

/// `record cat -` with the file in a pipe. What stands behind the events of a v1 file is not looked at there.
void check_pipe(const std::string &file, const Run &wanted) {
    std::array<int, 2> ends{};
    if (file.find("stdout") != std::string::npos) return;
    check(::pipe2(ends.data(), O_CLOEXEC) == 0 && ::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) > 0, "cannot make a pipe");
    check(::write(ends[1], file.data(), file.size()) == static_cast<ssize_t>(file.size()), "cannot fill it");
    ::close(ends[1]);
    const Run piped = run({"cat", "/proc/self/fd/" + std::to_string(ends[0])});
    ::close(ends[0]);
    check(piped == wanted, "from a pipe it is not the same");
}

void check_part(const std::string &path, const Run &whole, std::size_t seed) {
    const std::size_t size = whole.output.size(), from = seed % (size + 2), to = seed / 7 % (size + 3);
    const Run part = run({"cat", "--from", std::to_string(from), "--to", std::to_string(to), path});
    const std::size_t first = std::min(from, size);
    check_same(part.output, std::string_view(whole.output).substr(first, std::max(to, first) - first),
               "a part of the output");
    check(part.status <= whole.status, "a part cannot be read, but the whole can");
}

void check_info(const std::string &path, const Run &wanted) {
    for (const Run &shown : {run({"info", path}), run({"info", path, path}), run({"info", "--json", path})}) {
        check(shown.status == wanted.status, "info ends otherwise than cat");
        check(!has_control(shown.output) && is_utf8(shown.output), "a control character from info");
        if (shown.status == 0 && shown.output.starts_with('{')) check_lines_are_json(shown.output, "info --json");
    }
}

void check_readers(const std::string &path, const std::string &file, const Run &whole, std::size_t seed) {
    check(run({"convert", "-t", "raw", path}) == whole, "convert -t raw is not the same");
    check(run({"play", "-i", "0", path}) == whole, "play is not the same");
    check_pipe(file, whole);
    check_part(path, whole, seed);
}

void check_text(const std::string &path, const Run &whole) {
    const Run text = run({"convert", "-t", "txt", path});
    check(text.status == whole.status, "convert -t txt ends otherwise than cat");
    if (has_control(text.output) || !is_utf8(text.output))
        check_same(text.output, "", "a control character in the text");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static const MemoryFile input("input");
    static unsigned slow = 0;
    const std::string file = unfold(as_text(data, size));
    if (file.size() > kShort && ++slow > 16 && slow % 32 != 0) return 0;  // few of those that take long, but the seeds
    const std::string path = input.path();
    input.set(file);
    const Run whole = run({"cat", path});
    std::size_t seed = size;
    for (std::size_t i = 0; i < size; ++i) seed = seed * 16777619 ^ data[i];
    if (file.size() > kShort) {
        check_cast("v3", path, whole);
        check_part(path, whole, seed / 8);
        return 0;
    }
    switch (seed % 4) {
    case 0: check_readers(path, file, whole, seed / 8); break;
    case 1: check_back_and_forth(path, whole); break;
    case 2:
        check_ttyrec(run({"convert", "-t", "ttyrec", path}), whole);
        check_script(path, whole);
        check_info(path, whole);
        break;
    default: check_text(path, whole); break;
    }
    return 0;
}
