// What the fuzz targets share: how an input is cut into pieces, a failed check, and a strict reader of JSON.
//
// A target includes the source file that it tests, whole, with `main` renamed, so that it reaches what stands in its
// anonymous namespace; tests/fuzz/run.sh builds and runs them. Each is libFuzzer's: LLVMFuzzerTestOneInput() takes one
// input and ends the process when something is wrong with what our code made of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>  // memfd_create
#include <unistd.h>

#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wunused-function"  // a target uses a part of its source
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#endif

/// Standard output and error are our programs' own here: what they say is not for the one who runs the target.
/// libFuzzer keeps a descriptor of its own for its reports, and so do we.
inline const int g_reports = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);

extern "C" __attribute__((used)) inline int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static char mute[] = "-close_fd_mask=3";
    static std::vector<char *> arguments(*argv, *argv + *argc);
    arguments.insert(arguments.begin() + 1, mute);
    *argc = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    *argv = arguments.data();
    return 0;
}

inline std::string_view as_text(const std::uint8_t *data, std::size_t size) {
    return {reinterpret_cast<const char *>(data), size};
}

/// Ends the process when something is wrong. libFuzzer then keeps the input.
inline void check(bool good, const char *what) {
    if (good) return;
    ::dprintf(g_reports, "fuzz: wrong: %s\n", what);
    std::abort();
}

/// The same, and shows what was compared.
inline void check_same(std::string_view got, std::string_view wanted, const char *what) {
    if (got == wanted) return;
    const auto show = [](const char *name, std::string_view bytes) {
        ::dprintf(g_reports, "%s (%zu bytes): ", name, bytes.size());
        for (const char c : bytes.substr(0, 400))
            if (c >= ' ' && c < 0x7F && c != '\\') ::dprintf(g_reports, "%c", c);
            else ::dprintf(g_reports, "\\x%02x", static_cast<unsigned char>(c));
        ::dprintf(g_reports, "\n");
    };
    show("   got", got);
    show("wanted", wanted);
    check(false, what);
}

/// A plan of cuts, taken off the front of an input: its first byte says how many bytes of plan follow (0 to 15), each
/// of those how long a piece is and whether it has the mark. After the last the first comes again; without any there is
/// one piece.
class Cuts {
public:
    explicit Cuts(std::string_view &input) {
        const std::size_t length = input.empty() ? 0 : static_cast<unsigned char>(input[0]) % 16;
        input.remove_prefix(std::min<std::size_t>(1, input.size()));
        plan_ = input.substr(0, length);
        input.remove_prefix(plan_.size());
    }

    /// Takes the next piece off `bytes`.
    std::string_view take(std::string_view &bytes) {
        const unsigned step = plan_.empty() ? 0 : static_cast<unsigned char>(plan_[next_++ % plan_.size()]);
        marked_ = (step & 0x80) != 0;
        const unsigned length = (step & 0x7F) < 0x60 ? (step & 0x7F) + 1 : ((step & 0x1F) + 1) * 256;
        const std::string_view piece = bytes.substr(0, plan_.empty() ? bytes.size() : length);
        bytes.remove_prefix(piece.size());
        return piece;
    }

    /// Whether the last piece has the mark: what that means is the target's.
    [[nodiscard]] bool marked() const { return marked_; }

private:
    std::string_view plan_;
    std::size_t next_ = 0;
    bool marked_ = false;
};

/// A file in memory.
class MemoryFile {
public:
    explicit MemoryFile(const char *name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {}
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

    /// Sets what the file holds; reading and writing begin at its start.
    void set(std::string_view bytes) const {
        check(::ftruncate(fd_, 0) == 0 && ::lseek(fd_, 0, SEEK_SET) == 0, "cannot empty a file of our own");
        check(::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "cannot write it");
    }

    [[nodiscard]] std::string get() const {
        std::string bytes(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_END)), '\0');
        check(::pread(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "cannot read it");
        return bytes;
    }

private:
    int fd_;
};

/// The whole file at `path`.
inline std::string read_file(const std::string &path) {
    std::string bytes;
    std::array<char, 4096> some;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check(fd >= 0, "a file is missing");
    for (ssize_t n = 0; (n = ::read(fd, some.data(), some.size())) > 0;) bytes.append(some.data(), std::size_t(n));
    ::close(fd);
    return bytes;
}

/// Reads UTF-8 by the book (RFC 3629): decodes, then looks whether that was the shortest form of a scalar value. Gives
/// the length of the character at the front of `text`, 0 when there is none.
inline std::size_t one_character(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text.empty() ? 0xFF : text[0]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || text.size() < length) return 0;
    std::uint32_t code = length == 1 ? lead : lead & (0x7FU >> length);
    for (const char tail : text.substr(1, length - 1)) {
        if ((tail & 0xC0) != 0x80) return 0;
        code = code << 6 | (tail & 0x3F);
    }
    constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
    const bool scalar = code < 0xD800 || (code > 0xDFFF && code < 0x110000);
    return scalar && code >= kLeast[length] ? length : 0;
}

inline bool is_utf8(std::string_view text) {
    for (std::size_t n = 0; !text.empty(); text.remove_prefix(n))
        if (n = one_character(text); n == 0) return false;
    return true;
}

/// Whether a text is one JSON value and nothing else, by RFC 8259 to the letter: a recogniser of its grammar.
class JsonChecker {
public:
    explicit JsonChecker(std::string_view text) : text_(text) {}
    bool good() {
        const bool whole = is_utf8(text_) && (space(), value()) && (space(), text_.empty());
        return whole;
    }

private:
    bool is(char c) const { return !text_.empty() && text_[0] == c; }
    bool digit() const { return !text_.empty() && text_[0] >= '0' && text_[0] <= '9'; }
    bool take(std::string_view word) {
        const bool there = text_.starts_with(word);
        if (there) text_.remove_prefix(word.size());
        return there;
    }
    void space() { text_.remove_prefix(std::min(text_.find_first_not_of(" \t\r\n"), text_.size())); }

    bool value() {
        if (is('{')) return list('{', '}', true);
        if (is('[')) return list('[', ']', false);
        if (is('"')) return string();
        return take("true") || take("false") || take("null") || number();
    }
    bool list(char open, char close, bool named) {
        take({&open, 1});
        space();
        if (take({&close, 1})) return true;
        do {
            space();
            if (named && !(string() && (space(), take(":")))) return false;
            space();
            if (!value()) return false;
            space();
        } while (take(","));
        return take({&close, 1});
    }
    bool string() {
        if (!take("\"")) return false;
        while (!text_.empty() && !is('"')) {
            if (static_cast<unsigned char>(text_[0]) < 0x20) return false;
            if (!take("\\")) text_.remove_prefix(1);
            else if (take("u")) {
                for (int i = 0; i < 4; ++i, text_.remove_prefix(1))
                    if (text_.empty() || std::string_view("0123456789abcdefABCDEF").find(text_[0]) == text_.npos)
                        return false;
            } else if (text_.empty() || std::string_view("\"\\/bfnrt").find(text_[0]) == text_.npos) return false;
            else text_.remove_prefix(1);
        }
        return take("\"");
    }
    bool digits() {
        if (!digit()) return false;
        while (digit()) text_.remove_prefix(1);
        return true;
    }
    bool number() {
        take("-");
        if (!take("0") && !digits()) return false;
        if (take(".") && !digits()) return false;
        if (!take("e") && !take("E")) return true;
        if (!take("+")) take("-");
        return digits();
    }

    std::string_view text_;
};

inline bool is_json(std::string_view text) { return JsonChecker(text).good(); }

/// Calls take(line) with each line of `text`, without its newline; the last may lack one.
template <typename Take> void for_each_line(std::string_view text, Take &&take) {
    while (!text.empty()) {
        const std::size_t length = std::min(text.find('\n'), text.size());
        take(text.substr(0, length));
        text.remove_prefix(std::min(length + 1, text.size()));
    }
}
