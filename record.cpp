// record: reads the recordings that shim writes (asciicast v2), and those of any other program (v1, v2, v3).
//
//   record play    [-s SPEED] [-i IDLE] [-t START] [-flm] FILE      replays, with its timing
//   record cat     [-f] [--from N] [--to N] FILE...                 the output, byte for byte
//   record info    [--json] [FILE...]                               what it is, and whether it still runs
//   record convert -t v2|v3|raw|txt|ttyrec|script [-o OUT] FILE     as a file of another type
//   record screen  [-e] [-t TIME | -u REGEX [-w SECONDS]] FILE      what is on the screen
//   record paint   [-H SIZE] FILE                                   what brings a terminal to that state
//   record serve   [-H SIZE]                                        answers a shim's questions about the past
//
//                   ┌────────────┐ lines ┌─────────────────┐ events ┌──────────────────┐ bytes
//   session.cast ──►│ FileWindow ├──────►│ RecordingReader ├───────►│ cat info convert ├──────► standard output
//                   └────────────┘       └─────────────────┘        │ play screen:     │
//                     ▲ pread(2)                                    │ Model, a terminal│
//           questions │    ┌──────┐ events  ┌───────┐ paint         │ that shows       │
//   shim ◄────────────┴───►│ Past ├────────►│ Model ├──────► shim   │ nothing          │
//          socket pair     └──────┘         └───────┘               └──────────────────┘
//
// Every command is a loop over events, and holds one event in memory at a time: a recording of a year takes no
// more memory than one of a second.
//
// A line of the file is `[time, "kind", "text"]`. Bytes that are not UTF-8 cannot stand in JSON, so shim writes
// such output twice: exactly, as base64 in a `b` event, and right after it as the `o` event that other players
// show. record takes the `b` event for the output, and passes over that `o` event.
//
// The writer may be killed at any byte, so the last line may be torn: without a newline, and not a whole event. A
// torn line is no error, and shows nothing. The kernel knows whether the writer lives: a shim holds a record lock
// on the file.
//
// Sections: 1 bytes out · 2 JSON · 3 the recording · 4 control sequences · 5 rows and lines · 6 the model ·
// 7 painting · 8 cat · 9 info · 10 play · 11 the screen as text · 12 convert · 13 paint, screen · 14 serve ·
// 15 the command line
//
// Exit status: 0, also when the reader of the output goes away; 1 for a file that cannot be read or written; 2 for
// a usage error. Read beside it: https://docs.asciinema.org/manual/asciicast/v2 and v3, RFC 8259 (JSON), fcntl(2),
// termios(3)

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <cerrno>
#include <charconv>
#include <climits>
#include <clocale>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <cwchar>  // wcwidth, which is POSIX
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>  // getopt_long: not POSIX, but in every libc
#include <poll.h>
#include <pwd.h>
#include <regex.h>
#include <sys/ioctl.h>  // TIOCGWINSZ
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

namespace {

constexpr char kProgram[] = "record";

// >>> errors and the owning descriptor: the same in shim.cpp, attach.cpp and record.cpp
/// The length of the UTF-8 character that `text` begins with, when a terminal only shows it. 0: a byte that is not
/// UTF-8, a control character (C0, DEL, C1), or one that turns the direction of the text beside it (U+202E).
std::size_t shown_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const std::uint32_t first = byte(0);
    if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
    if (first < 0xC2 || first > 0xF4) return 0;
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    std::uint32_t code = first & (0x7FU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 0;
        code = code << 6 | (byte(i) & 0x3F);
    }
    const auto is_in = [code](std::uint32_t low, std::uint32_t high) { return code >= low && code <= high; };
    const bool is_invalid = code < (length == 4 ? 0x10000U : length == 3 ? 0x800U : 0U) || code > 0x10FFFF;
    const bool is_unshown = is_in(0x80, 0x9F) || is_in(0x202A, 0x202E) || is_in(0x2066, 0x2069);
    return is_invalid || is_in(0xD800, 0xDFFF) || is_unshown ? 0 : length;
}

/// `text`, of whatever origin, as a message or a list may show it: what shown_length() refuses is written as \x1b.
std::string printable(std::string_view text) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string shown;
    while (!text.empty()) {
        const std::size_t length = shown_length(text);
        const auto byte = static_cast<unsigned char>(text.front());
        if (length > 0) shown.append(text.substr(0, length));
        else shown.append("\\x").append({kDigits[byte >> 4], kDigits[byte & 0xF]});
        text.remove_prefix(length > 0 ? length : 1);
    }
    return shown;
}

/// Writes "program: what: why" and a newline to standard error, in one write(2) so that lines of several processes
/// do not mix. `what` names the thing that the user knows: a file, an address, an option.
void complain(std::string_view what, std::string_view why) {
    std::string line(kProgram);
    line.append(": ").append(printable(what)).append(": ").append(printable(why)).append("\n");
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

/// The same, with the text of `errno` (of a system call that has just failed) for the reason.
void complain_errno(std::string_view what) { complain(what, std::strerror(errno)); }

/// An owning descriptor: close(2) when it goes out of scope, never twice. It can be moved, not copied.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset(int fd = -1) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// A whole number in decimal, all of `text`; nothing else is taken (no sign, no space, nothing over 64 bits).
std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}
// <<< errors and the owning descriptor

using Micros = std::int64_t;  // times of a recording, in microseconds: sums of whole numbers come back exactly
constexpr Micros kSecond = 1'000'000;
constexpr Micros kForever = 900'000'000'000 * kSecond;  // no time in a recording is later
constexpr std::size_t kMostLine = 64 << 20;             // bytes of a line, or of a document of version 1
constexpr int kPollMillis = 50;                         // between two looks at a growing file

volatile std::sig_atomic_t g_signal = 0;  // the last signal that play's handlers have caught

// === 1. Bytes out ===============================================================================================
// write(2) may take fewer bytes than it was given. record ignores SIGPIPE, so a reader that has seen enough shows
// as EPIPE, which is no error.

/// A buffer before a descriptor. After a failed write, it writes nothing more; `status` is the exit status.
class Output {
public:
    Output(int fd, std::string name) : fd_(fd), name_(std::move(name)) { buffer_.reserve(kRoom); }

    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] int status() const { return status_; }

    bool put(std::string_view bytes) {
        if (buffer_.size() + bytes.size() > kRoom && !flush()) return false;
        if (bytes.size() >= kRoom) return write_all(bytes);
        buffer_.append(bytes);
        return !closed_;
    }

    bool flush() {
        const bool written = write_all(buffer_);
        buffer_.clear();
        return written;
    }

    /// One write(2) past the buffer: gives the number of bytes taken, 0 where there was no room, and nothing after
    /// a write that failed.
    std::optional<std::size_t> write_some(std::string_view bytes) {
        const ssize_t n = closed_ ? 0 : ::write(fd_, bytes.data(), bytes.size());
        if (n < 0 && errno != EAGAIN && errno != EINTR) close();
        return closed_ ? std::nullopt : std::optional(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }

private:
    static constexpr std::size_t kRoom = 64 << 10;

    /// Waits for room even so: another process may have set O_NONBLOCK, which belongs to the open file, open(2).
    bool write_all(std::string_view bytes) {
        pollfd room{.fd = fd_, .events = POLLOUT, .revents = 0};
        while (!bytes.empty() && !closed_) {
            const std::size_t taken = write_some(bytes).value_or(0);
            if (taken == 0 && !closed_) ::poll(&room, 1, -1);
            bytes.remove_prefix(taken);
        }
        return !closed_;
    }

    void close() {
        closed_ = true;
        if (errno == EPIPE || errno == ECONNRESET) return;
        complain_errno(name_);
        status_ = 1;
    }

    int fd_;
    std::string name_;  // for messages
    std::string buffer_;
    bool closed_ = false;  // a write has failed
    int status_ = 0;
};

/// Writes `text` to standard output; gives the exit status.
int print(std::string_view text) {
    Output out(STDOUT_FILENO, "standard output");
    out.put(text);
    out.flush();
    return out.status();
}

// === 2. JSON ====================================================================================================
// RFC 8259, strictly: a reader that guesses hides a broken writer. The reader copies text eight bytes at a time
// for as long as none of them is special, so that reading a recording costs little more than reading its file.

/// The length of the well-formed UTF-8 sequence that begins at `at` (RFC 3629, section 4), 0 if there is none.
std::size_t utf8_length(const char *at, const char *end) {
    const auto in = [at](int i, unsigned low, unsigned high) {
        const auto byte = static_cast<unsigned char>(at[i]);
        return byte >= low && byte <= high;
    };
    const std::ptrdiff_t room = end - at;
    const unsigned first = room > 0 ? static_cast<unsigned char>(*at) : 0xFFU;
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    if (first < 0xE0) return room > 1 && in(1, 0x80, 0xBF) ? 2 : 0;
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;   // no overlong forms
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;  // no surrogates, no U+110000
    if (room < 3 || !in(1, low, high) || !in(2, 0x80, 0xBF)) return 0;
    if (first < 0xF0) return 3;
    return room > 3 && in(3, 0x80, 0xBF) ? 4 : 0;
}

/// The character of the well-formed sequence of `length` bytes at `at`.
char32_t decode_utf8(const char *at, std::size_t length) {
    char32_t code = static_cast<unsigned char>(*at) & (length == 1 ? 0x7FU : 0x7FU >> length);
    for (std::size_t i = 1; i < length; ++i) code = code << 6 | (static_cast<unsigned char>(at[i]) & 0x3F);
    return code;
}

/// Writes `code` as UTF-8 at `out` (4 bytes of room); gives back the place after it.
char *put_utf8(char *out, std::uint32_t code) {
    const int tails = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr std::array<std::uint32_t, 4> marks{0, 0xC0, 0xE0, 0xF0};
    *out++ = static_cast<char>(marks[static_cast<std::size_t>(tails)] | (code >> (6 * tails)));
    for (int i = tails - 1; i >= 0; --i) *out++ = static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
    return out;
}

constexpr std::uint64_t kOnes = 0x0101010101010101;  // times a byte: eight of it

/// Marks (by its high bit) the first of eight characters that is a control or not ASCII. The subtraction's borrow
/// may mark later ones wrongly.
constexpr auto mark_unprintable = [](std::uint64_t word) { return (word - kOnes * 0x20) | word | (word + kOnes); };

/// The same for a character that cannot stand for itself in a JSON string.
constexpr auto mark_special = [](std::uint64_t word) {
    const std::uint64_t quote = word ^ (kOnes * '"'), backslash = word ^ (kOnes * '\\');
    return ((quote - kOnes) & ~quote) | ((backslash - kOnes) & ~backslash) | (word - kOnes * 0x20) | word;
};

/// The number of characters at the beginning of `text` of which `mark` marks none. Copies them to `out`, if given,
/// eight at a time: `out` needs room for seven more.
template <typename Mark> inline std::size_t count_unmarked(std::string_view text, Mark mark, char *out = nullptr) {
    std::size_t length = 0;
    for (std::uint64_t word = 0, marks = 0; length < text.size(); length += 8) {
        if (text.size() - length >= 8) std::memcpy(&word, text.data() + length, 8);
        else std::memcpy(&word, text.data() + length, text.size() - length);
        if (out != nullptr) std::memcpy(out + length, &word, 8);
        if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
        marks = mark(word) & kOnes * 0x80;
        if (marks == 0) continue;
        length += static_cast<std::size_t>(std::countr_zero(marks)) / 8;
        break;
    }
    return std::min(length, text.size());
}

/// The number of characters of printable ASCII at the beginning of `text`.
inline std::size_t plain_length(std::string_view text) { return count_unmarked(text, mark_unprintable); }

/// The number in the four hexadecimal digits at `at`; -1 if there are none.
int hex4(const char *at, const char *end) {
    std::uint16_t code = 0;
    return end - at >= 4 && std::from_chars(at, at + 4, code, 16).ptr == at + 4 ? code : -1;
}

/// Decodes the escape at `at`, and moves both; gives back what is wrong with it, or nothing.
const char *decode_escape(const char *&at, const char *end, char *&out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char name = end - at >= 2 ? at[1] : '\0';
    if (name != 'u') {
        const std::size_t known = kNames.find(name);
        if (known == std::string_view::npos) return "an unknown escape stands in a string";
        *out++ = kMeanings[known];
        at += 2;
        return nullptr;
    }
    int code = hex4(at + 2, end);
    if (code < 0) return "\\u wants four hexadecimal digits";
    at += 6;
    if (code >= 0xD800 && code < 0xE000) {  // one half of a pair: RFC 8259, section 7
        const int low = end - at > 2 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2, end) : -1;
        if (code >= 0xDC00 || low < 0xDC00 || low >= 0xE000) return "half a surrogate pair stands in a string";
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
    }
    out = put_utf8(out, static_cast<std::uint32_t>(code));
    return nullptr;
}

/// A cursor over one JSON text. Each function takes one thing, after white space. The first that fails gives
/// false, as do all later ones, and `why` gives the reason. Decoded strings stand in `room`: each view lives until
/// the next one.
class Json {
public:
    Json(std::string_view text, std::vector<char> &room)
        : at_(text.data()), end_(text.data() + text.size()), room_(room) {}

    [[nodiscard]] const char *why() const { return why_; }
    [[nodiscard]] const char *at() const { return at_; }
    [[nodiscard]] const char *failed_at() const { return failed_at_; }

    bool fail(const char *why) {
        if (why_ == nullptr) failed_at_ = at_;
        if (why_ == nullptr) why_ = why;
        at_ = end_;
        return false;
    }

    void skip_space() {
        while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
    }

    bool next_is(char c) {
        skip_space();
        return at_ < end_ && *at_ == c;
    }

    /// Takes `c` if it is next, else nothing.
    bool accept(char c) {
        const bool next = next_is(c);
        at_ += next ? 1 : 0;
        return next;
    }

    bool expect(char c, const char *why) { return accept(c) || fail(why); }

    bool end() {
        skip_space();
        return why_ == nullptr && (at_ == end_ || fail("there is more after the end"));
    }

    /// The cursor stands in local variables here, for speed: for all the compiler knows, a write through a `char
    /// *` might change any member.
    bool string(std::string_view &text) {
        if (!expect('"', "a string is missing")) return false;
        const std::size_t most = static_cast<std::size_t>(end_ - at_) + 8;  // decoding never makes text longer
        if (room_.size() < most) room_.resize(std::max(most, std::size_t{4096}));
        const char *at = at_;
        char *out = room_.data();
        while (true) {
            const std::size_t plain = count_unmarked({at, static_cast<std::size_t>(end_ - at)}, mark_special, out);
            at += plain;
            out += plain;
            if (at == end_) return fail("a string is not closed");
            if (*at == '"') break;
            if (*at == '\\') {
                if (const char *why = decode_escape(at, end_, out)) return fail(why);
                continue;
            }
            if ((*at & 0x80) == 0) return fail("a control character stands in a string");
            while (at < end_ && (*at & 0x80) != 0) {
                const std::size_t length = utf8_length(at, end_);
                if (length == 0) return fail("a string is not UTF-8");
                for (std::size_t i = 0; i < length; ++i) *out++ = *at++;
            }
        }
        at_ = at + 1;
        text = {room_.data(), static_cast<std::size_t>(out - room_.data())};
        return true;
    }

    /// A number, in millionths (so that a time is in microseconds), rounded; kForever at most.
    bool number(Micros &value) {
        const bool minus = accept('-');
        const char *const first = at_;
        std::uint64_t scaled = 0;
        int exponent = 6;
        if (!digits(scaled, exponent, false)) return false;
        if (*first == '0' && at_ - first > 1) return fail("a number begins with 0");
        if (at_ < end_ && *at_ == '.') {
            ++at_;
            if (!digits(scaled, exponent, true)) return false;
        }
        if (at_ < end_ && (*at_ | 0x20) == 'e') {
            std::uint64_t power = 0;
            int ignored = 0;
            const bool is_small = ++at_ < end_ && *at_ == '-';
            if (is_small || (at_ < end_ && *at_ == '+')) ++at_;
            if (!digits(power, ignored, false)) return false;
            exponent += static_cast<int>(std::min<std::uint64_t>(power, 1000)) * (is_small ? -1 : 1);
        }
        for (; exponent > 0 && scaled != 0 && scaled < kForever; --exponent) scaled *= 10;
        for (; exponent < 0 && scaled != 0; ++exponent) scaled = exponent == -1 ? (scaled + 5) / 10 : scaled / 10;
        value = static_cast<Micros>(std::min<std::uint64_t>(scaled, kForever)) * (minus ? -1 : 1);
        return true;
    }

    /// An object; `member(key)` takes each value.
    template <typename Member> bool object(Member &&member) {
        std::string_view key;
        if (!expect('{', "an object is missing")) return false;
        if (accept('}')) return true;
        do {
            if (!string(key)) return false;
            const std::string kept(key);
            if (!expect(':', "a colon is missing") || !member(kept)) return false;
        } while (accept(','));
        return expect('}', "an object is not closed");
    }

    /// One value or more, with commas between them.
    bool skip_list(int depth = 0) {
        do {
            if (!skip(depth)) return false;
        } while (accept(','));
        return true;
    }

    /// Any value at all, as it stands in the text.
    bool raw(std::string_view &value) {
        skip_space();
        const char *const start = at_;
        if (!skip()) return false;
        value = {start, static_cast<std::size_t>(at_ - start)};
        return true;
    }

    /// Checks any value at all, and forgets it.
    bool skip(int depth = 0) {
        Micros ignored = 0;
        if (depth > kMostDepth) return fail("nested too deep");
        if (next_is('{')) return object([&](const std::string &) { return skip(depth + 1); });
        if (accept('[')) return accept(']') || (skip_list(depth + 1) && expect(']', "an array is not closed"));
        if (next_is('"')) {
            std::string_view text;
            return string(text);
        }
        for (const std::string_view word : {"true", "false", "null"}) {
            if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) continue;
            at_ += word.size();
            return true;
        }
        return number(ignored);
    }

private:
    static constexpr int kMostDepth = 64;

    /// Decimal digits, one at least; a digit that no longer fits 64 bits only moves the exponent.
    bool digits(std::uint64_t &value, int &exponent, bool fraction) {
        const char *const first = at_;
        for (; at_ < end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
            const bool fits = value < 100'000'000'000'000'000;
            if (fits) value = value * 10 + static_cast<std::uint64_t>(*at_ - '0');
            if (fits == fraction) exponent += fraction ? -1 : 1;
        }
        return at_ > first || fail("a digit is missing");
    }

    const char *at_;
    const char *end_;
    const char *why_ = nullptr, *failed_at_ = nullptr;
    std::vector<char> &room_;
};

/// Seconds, or a factor, in millionths.
std::optional<Micros> parse_decimal(std::string_view text) {
    std::vector<char> room;
    const std::string whole = text.starts_with('.') ? "0" + std::string(text) : std::string(text);
    Json json(whole, room);
    Micros value = 0;
    return json.number(value) && json.end() && value >= 0 ? std::optional(value) : std::nullopt;
}

std::string json_quote(std::string_view text) {
    std::string quoted = "\"";
    while (!text.empty()) {
        const std::size_t length = utf8_length(text.data(), text.data() + text.size());
        const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
        text.remove_prefix(character.size());
        std::array<char, 8> escape{};
        const char32_t code = length > 0 ? decode_utf8(character.data(), length) : 0xFFFD;
        std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(code));
        if (character == "\"" || character == "\\") quoted += '\\';
        if (shown_length(character) > 0) quoted += character;
        else quoted += escape.data();  // all unshown characters are in the basic plane
    }
    return quoted + '"';
}

/// Seconds with six decimals, as in a recording.
std::string format_seconds(Micros time) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%lld.%06lld", static_cast<long long>(time / kSecond),
                  static_cast<long long>(time % kSecond));
    return text.data();
}

/// The members of a JSON object: their names, and their values as they stand in it.
class Object {
public:
    using Member = std::pair<std::string, std::string>;
    using Members = std::vector<Member>;

    Object() = default;
    explicit Object(std::string_view text) {
        std::vector<char> room;
        Json json(text, room);
        read(json);
    }

    /// False where `json` holds no object; keeps the members before the error.
    bool read(Json &json) {
        return json.object([&](const std::string &key) { return read_member(json, key); });
    }

    bool read_member(Json &json, const std::string &key) {
        std::string_view value;
        if (!json.raw(value)) return false;
        add(key, std::string(value));
        return true;
    }

    /// A known member keeps its place; an empty value adds none. (Values of v1 may stand on many lines.)
    void add(std::string key, std::string value) {
        std::ranges::replace_if(value, [](char c) { return c == '\n' || c == '\r'; }, ' ');
        const auto known = std::ranges::find(members_, key, &Member::first);
        if (known != members_.end()) known->second = std::move(value);
        else if (!value.empty()) members_.emplace_back(std::move(key), std::move(value));
    }
    void add(const Members &others) {
        for (const auto &[key, value] : others) add(key, value);
    }
    [[nodiscard]] const Members &members() const { return members_; }

    [[nodiscard]] std::string value(std::string_view key) const {
        const auto known = std::ranges::find(members_, key, &Member::first);
        return known != members_.end() ? known->second : "";
    }

    /// The text of a string; nothing, where the value is of another type.
    [[nodiscard]] std::string string(std::string_view key) const {
        std::vector<char> room;
        std::string_view text;
        Json(value(key), room).string(text);
        return std::string(text);
    }

    /// A number, in millionths.
    [[nodiscard]] std::optional<Micros> number(std::string_view key) const {
        std::vector<char> room;
        Micros number = 0;
        return Json(value(key), room).number(number) ? std::optional(number) : std::nullopt;
    }

    /// Gives the value of a member, or nothing, and removes it.
    std::string take(std::string_view key) {
        std::string taken = value(key);
        std::erase_if(members_, [key](const Member &member) { return member.first == key; });
        return taken;
    }

    /// Nothing, if it has no members.
    [[nodiscard]] std::string text() const {
        std::string text;
        for (const auto &[key, value] : members_) {
            text.append(text.empty() ? "{" : ", ").append(json_quote(key)).append(": ").append(value);
        }
        return text + (text.empty() ? "" : "}");
    }

private:
    Members members_;
};

// === 3. The recording ===========================================================================================
// record reads a recording forwards, line by line; only version 1, a single JSON document, is read whole. A
// growing recording ends where its writer is just now: read(2) gives 0 there, and more later.

/// The result of reading: an event; none yet (the recording grows); the end of the recording; an error (a message
/// has said which).
enum class Got { some, wait, end, bad };

/// The part of a file that is in memory: 256 KiB, or more for a longer line.
class FileWindow {
public:
    /// "-" is standard input, from where it stands.
    bool open(const std::string &name) {
        if (name != "-") return adopt(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
        const bool is_open = adopt(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
        if (is_seekable_) next_ = ::lseek(fd(), 0, SEEK_CUR);
        return is_open;
    }

    /// Reads this descriptor from now on, and will close it.
    bool adopt(int fd) {
        fd_.reset(fd);
        is_seekable_ = fd_ && ::lseek(fd, 0, SEEK_CUR) >= 0;
        return static_cast<bool>(fd_);
    }

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool seekable() const { return is_seekable_; }
    [[nodiscard]] std::string_view rest() const { return {buffer_.data() + begin_, end_ - begin_}; }
    /// Whether the file has become shorter than what was read of it.
    [[nodiscard]] bool is_truncated() const { return seekable() && size() < static_cast<std::uint64_t>(next_); }
    /// Whether read(2) would return at once: always for a file; for a pipe, when its writer has written or is
    /// gone.
    [[nodiscard]] bool has_more() const {
        pollfd ready{.fd = fd(), .events = POLLIN, .revents = 0};
        return seekable() || ::poll(&ready, 1, 0) != 0;
    }
    [[nodiscard]] std::uint64_t size() const {
        struct stat file {};
        return seekable() && ::fstat(fd(), &file) == 0 ? static_cast<std::uint64_t>(file.st_size) : 0;
    }
    [[nodiscard]] off_t tell() const { return next_ - static_cast<off_t>(end_ - begin_); }
    void drop(std::size_t bytes) { begin_ += bytes; }

    /// Takes the next line, if all of it is in memory. Its first `seen` bytes hold no newline; moves `seen` on.
    bool take_line(std::string_view &line, std::size_t &seen) {
        const std::string_view held = rest();
        const std::size_t newline = held.find('\n', seen);
        seen = held.size();
        if (newline == std::string_view::npos) return false;
        line = held.substr(0, newline);
        drop(newline + 1);
        return true;
    }
    void seek(off_t place) {
        begin_ = is_held_ ? static_cast<std::size_t>(place) : end_;
        if (!is_held_) next_ = place;
    }

    /// From now on, the file ends at `place`.
    void end_at(off_t place) { limit_ = place; }

    /// From now on, `text` stands for the file.
    void hold(std::string_view text) {
        buffer_.assign(text.begin(), text.end());
        begin_ = 0;
        end_ = text.size();
        next_ = static_cast<off_t>(end_);
        is_held_ = true;
    }

    /// Reads on: 1, or 0 at the end of the file, or -1 with errno (EMSGSIZE: the buffer holds `most` bytes
    /// already).
    int fill(std::size_t most) {
        if (is_held_) return 0;
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= std::exchange(begin_, 0);
        if (end_ >= most) {
            errno = EMSGSIZE;
            return -1;
        }
        if (end_ == buffer_.size()) buffer_.resize(2 * end_);
        char *const at = buffer_.data() + end_;
        const std::size_t room = std::min(buffer_.size() - end_, static_cast<std::size_t>(limit_ - next_));
        ssize_t n;
        do n = seekable() ? ::pread(fd(), at, room, next_) : ::read(fd(), at, room);
        while (n < 0 && errno == EINTR && g_signal == 0);
        if (n <= 0) return static_cast<int>(n);
        end_ += static_cast<std::size_t>(n);
        next_ += n;
        return 1;
    }

private:
    Fd fd_;
    bool is_seekable_ = false;  // it is no pipe
    off_t next_ = 0;    // the next byte to read
    off_t limit_ = std::numeric_limits<off_t>::max();
    bool is_held_ = false;  // the buffer stands for the file
    std::vector<char> buffer_ = std::vector<char>(256 << 10);
    std::size_t begin_ = 0, end_ = 0;  // what is in the buffer
};

constexpr int kMostSize = 65535;  // columns or rows

struct Header {
    std::string text;  // its line in the file; of v1 nothing
    Object members;    // but v1's events
    int version = 0;   // 0: there is none
    int columns = -1, rows = -1;
    std::int64_t timestamp = -1;  // seconds since 1970
    Micros idle_limit = -1;
    std::string command, title, term, address;
    int pid = 0;  // of the shim
};

struct Event {
    Micros time = 0;         // since the start
    Micros date = 0;         // since 1970
    char kind = '?';         // o i r m x b t, or ? for an unknown one
    bool output = false;     // printed by the program: an `o`, or the `b` that stands for the `o` after it
    std::string_view bytes;  // its data, decoded
    std::string_view tail;   // the event as it stands in the file, from the end of the time
};

/// Decodes base64 (RFC 4648); false if `text` is something else.
bool decode_base64(std::string_view text, std::string &bytes) {
    static constexpr auto kValues = [] {
        constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::array<std::int8_t, 256> values{};
        values.fill(-1);
        std::int8_t value = 0;
        for (const char c : kDigits) values[static_cast<unsigned char>(c)] = value++;
        return values;
    }();
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    if (text.size() % 4 != 0) return false;
    bytes.resize(text.size() / 4 * 3);
    char *out = bytes.data();
    for (std::size_t i = 0; i < text.size(); i += 4) {
        std::int32_t bits = 0;  // stays negative once a value was
        for (std::size_t k = i; k < i + 4; ++k) {
            bits = bits << 6 | (k < text.size() - padding ? kValues[static_cast<unsigned char>(text[k])] : 0);
        }
        if (bits < 0) return false;
        for (int shift = 16; shift >= 0; shift -= 8) *out++ = static_cast<char>(bits >> shift);
    }
    bytes.resize(bytes.size() - padding);
    return true;
}

/// The member `key`, if there is one: a whole number up to `most`, also as a string, as r-lib's asciicast once
/// wrote sizes. False for anything else.
bool read_whole(const Object &object, std::string_view key, int most, int &into) {
    if (object.value(key).empty()) return true;
    const auto number = object.number(key);
    const Micros whole = number && *number % kSecond == 0 ? *number / kSecond : -1;
    const auto given = parse_number(object.string(key)).value_or(static_cast<std::uint64_t>(whole));
    if (given > static_cast<std::uint64_t>(most)) return false;
    into = static_cast<int>(given);
    return true;
}

/// Fills in the header from its members; gives what is wrong with them, or nothing. A value of another type is an
/// error only in a member that record needs.
const char *understand(Header &header) {
    const Object &all = header.members;
    const Object term(all.value("term")), env(all.value("env")), shim(all.value("shim"));
    header.command = all.string("command");
    header.title = all.string("title");
    header.address = shim.string("address");
    header.term = term.value("type").empty() ? env.string("TERM") : term.string("type");
    header.idle_limit = all.number("idle_time_limit").value_or(-1);
    header.timestamp = all.number("timestamp").value_or(-kSecond) / kSecond;
    if (!read_whole(all, "version", 3, header.version)) return "the version is not 1, 2 or 3";
    if (header.version == 0) return "the header has no version";
    const bool is_size = read_whole(all, "width", kMostSize, header.columns) &&
                         read_whole(all, "height", kMostSize, header.rows) &&
                         read_whole(term, "cols", kMostSize, header.columns) &&
                         read_whole(term, "rows", kMostSize, header.rows);
    if (!is_size) return "the size is not a whole number from 0 to 65535";
    if (header.columns < 0 || header.rows < 0) return "the header has no size";
    return read_whole(shim, "pid", INT_MAX, header.pid) ? nullptr : "the pid is not a number";
}

// >>> recordings of named sessions: the same in shim.cpp, attach.cpp and record.cpp
/// Their folder: $SHIM_RECORDS, else the one that the XDG Base Directory Specification has for state. Recordings
/// are found there from any folder, years later.
std::string records_folder() {
    const auto variable = [](const char *name) {
        const char *value = std::getenv(name);
        return std::string(value != nullptr ? value : "");
    };
    if (std::string chosen = variable("SHIM_RECORDS"); !chosen.empty()) return chosen;
    if (const std::string state = variable("XDG_STATE_HOME"); state.starts_with('/')) return state + "/shim";
    const std::string home = variable("HOME");
    if (!home.empty()) return home + "/.local/state/shim";
    const passwd *user = ::getpwuid(::geteuid());  // a service may have no HOME
    return std::string(user != nullptr ? user->pw_dir : "") + "/.local/state/shim";
}
// <<< recordings of named sessions

/// A recording of a named session, and what its file's name says: SESSION-<UTC time>.cast, or SESSION-<UTC
/// time>-2.cast for the second one that began in a second.
struct SessionRecording {
    std::string time{};
    std::uint64_t number = 1;
    std::string session{}, path{};
    // The newer one is greater. NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes a 0 in it for a pointer
    auto operator<=>(const SessionRecording &) const = default;
};

/// Takes the last time in the name: a session's name may hold dashes, and even such a time.
std::optional<SessionRecording> parse_recording_name(const std::string &path) {
    static const regex_t like = [] {
        regex_t compiled;
        ::regcomp(&compiled, "([^/]+)-([0-9]{8}T[0-9]{6}Z)(-([0-9]+))?\\.cast$", REG_EXTENDED);
        return compiled;
    }();
    std::array<regmatch_t, 5> parts{};
    if (::regexec(&like, path.c_str(), parts.size(), parts.data(), 0) != 0) return std::nullopt;
    const auto part = [&](std::size_t i) {
        return std::string(path.c_str() + parts[i].rm_so, path.c_str() + parts[i].rm_eo);
    };
    const auto number = parts[4].rm_so < 0 ? 1 : parse_number(part(4));
    return number ? std::optional(SessionRecording{part(2), *number, part(1), path}) : std::nullopt;
}

/// All recordings of named sessions, the newest first.
std::vector<SessionRecording> session_recordings() {
    std::vector<SessionRecording> found;
    const std::string folder = records_folder();
    const auto close = [](DIR *dir) { ::closedir(dir); };
    const std::unique_ptr<DIR, decltype(close)> dir(::opendir(folder.c_str()), close);
    const dirent *entry = dir ? ::readdir(dir.get()) : nullptr;
    for (; entry != nullptr; entry = ::readdir(dir.get())) {
        auto recording = parse_recording_name(folder + "/" + entry->d_name);
        if (recording && entry->d_name[0] != '.') found.push_back(std::move(*recording));
    }
    std::ranges::sort(found, std::greater{});
    return found;
}

/// The file that FILE on a command line means: the newest recording of the session of that name, if there is one.
std::string find_recording(const std::string &name) {
    if (name == "-" || name.find('/') != std::string::npos) return name;
    const std::vector<SessionRecording> all = session_recordings();
    const auto newest = std::ranges::find(all, name, &SessionRecording::session);
    return newest == all.end() ? name : newest->path;
}

/// Reads a recording, event by event. Where a pipe has nothing yet, `next` gives `wait`. With `follow`, the end of
/// the file is the end only after an `x` event, or when a shim that wrote it is dead; until then, `wait` as well.
class RecordingReader {
public:
    /// A place before some line, with all that reading on from there needs.
    struct Place {
        off_t offset = 0;
        long line = 0;         // the number of the line before
        Micros time = 0;       // of the last event
        Micros start = 0;      // the time of day, since 1970, when the recording's time was 0
        bool covered = false;  // the `o` event for which the last `b` event stands is still to come
        bool exited = false;   // the last event was an `x`
    };

    /// FILE as it stands on a command line: see find_recording().
    bool open(const std::string &name, bool follow = false) {
        path_ = find_recording(name);
        name_ = path_ == "-" ? "standard input" : path_;
        follow_ = follow;
        if (window_.open(path_)) return open_header();
        const bool could_be_session = errno == ENOENT && !name.empty() && name.find('/') == std::string::npos;
        if (!could_be_session) complain_errno(name_);
        else complain(name, "no such file, nor a recording of a session of that name in " + records_folder());
        return false;
    }

    /// Reads only lines of version 2, each with its newline, in the file that is open there.
    void adopt(int fd) {
        window_.adopt(fd);
        needs_newlines_ = true;
        name_ = "descriptor " + std::to_string(fd);
        header_.version = 2;
    }

    Got next(Event &event) {
        while (header_.version != 0) {
            std::string_view text;
            const Got got = take_line(text);
            if (got != Got::some) return got;
            const bool is_blank = text.find_first_not_of(" \t\r") == std::string_view::npos;
            if (is_blank || (header_.version == 3 && text.starts_with('#'))) continue;
            const char *const why = parse(text, event);
            if (why == nullptr) return Got::some;
            if (!torn_) return complain_here(why);
        }
        return Got::end;
    }

    /// Goes on with the first whole line of the last MiB, if times there need nothing before them.
    void jump_to_tail() {
        const off_t offset = static_cast<off_t>(window_.size()) - (1 << 20);
        if (header_.version == 2 && offset > window_.tell()) skip_line(offset);
    }

    /// Goes on behind the line that stands at the offset; `end`, if it does not end in the file.
    Got skip_line(off_t offset) {
        std::string_view line;
        window_.seek(offset);
        return take_line(line);
    }

    [[nodiscard]] Place place() const {
        Place place = at_;
        place.offset = window_.tell();
        return place;
    }
    void go_to(const Place &place) {
        window_.seek(place.offset);
        at_ = place;
        torn_ = writer_gone_ = false;
    }

    [[nodiscard]] const Header &header() const { return header_; }
    [[nodiscard]] const std::string &name() const { return name_; }  // for messages
    [[nodiscard]] const std::string &path() const { return path_; }
    [[nodiscard]] FileWindow &window() { return window_; }
    [[nodiscard]] const FileWindow &window() const { return window_; }

    /// The process that writes the file now: 0 for one that is not visible from here (another container's).
    [[nodiscard]] std::optional<pid_t> writer() const {
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        if (::fcntl(window_.fd(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
        return lock.l_pid;
    }

    /// Whether the shim was killed before it wrote an `x` event; known at the end, when following.
    [[nodiscard]] bool died() const {
        return writer_gone_ && !at_.exited && header_.pid != 0 && window_.seekable();
    }

    /// Says what is wrong at the present line.
    [[nodiscard]] Got complain_here(std::string_view why) const {
        complain(name_ + ":" + std::to_string(std::max(at_.line, 1L)), why);
        return Got::bad;
    }

private:
    static constexpr char kComma[] = "a comma is missing";

    /// `[time, "kind", "text"]`: gives what is wrong with it, or nothing. The views in `event` live until the next
    /// call.
    const char *parse(std::string_view text, Event &event) {
        Json json(text, room_);
        Micros time = 0;
        std::string_view kind;
        if (!json.expect('[', "an event is not an array") || !json.number(time)) return json.why();
        event.tail = text.substr(static_cast<std::size_t>(json.at() - text.data()));
        bool good = json.expect(',', kComma) && json.string(kind) && json.expect(',', kComma);
        event.kind = kind.size() == 1 && kind.find_first_of("oirmxbt") == 0 ? kind[0] : '?';
        good = good && (time >= 0 || json.fail("a time is negative")) && read_data(json, event);
        if (!good || !json.expect(']', "an event is not closed") || !json.end()) return json.why();
        if (header_.version == 2) at_.time = std::max(at_.time, time);
        else at_.time = std::min(at_.time + time, kForever);
        event.time = at_.time;
        const auto date = event.kind == 't' ? parse_decimal(event.bytes) : std::nullopt;
        if (date) at_.start = *date - event.time;
        event.date = at_.start + event.time;
        at_.exited = event.kind == 'x';
        return nullptr;
    }

    bool read_data(Json &json, Event &event) {
        event.bytes = {};
        event.output = event.kind == 'b' || (event.kind == 'o' && !at_.covered);
        if (event.kind == '?') return json.skip_list();
        if (!json.string(event.bytes)) return false;
        if (event.kind == 'o') at_.covered = false;
        if (event.kind != 'b') return true;
        if (!decode_base64(event.bytes, exact_)) return json.fail("a b event is not base64");
        event.bytes = exact_;
        at_.covered = true;
        return true;
    }

    /// Whether more may come. A shim holds a lock; other writers are not visible.
    [[nodiscard]] bool is_written() const {
        if (at_.exited) return false;
        return header_.pid != 0 ? writer().has_value() : window_.seekable();
    }

    /// Reads more of the file. Asks whether the writer is gone *before* the last attempt to read, which then still
    /// finds what the writer wrote last.
    Got more() {
        while (true) {
            if (!window_.has_more()) return Got::wait;
            const int n = window_.fill(kMostLine);
            if (n > 0) return Got::some;
            if (n < 0) return complain_reading();
            if (!follow_ || writer_gone_ || header_.version == 1) return Got::end;
            if (window_.is_truncated()) {
                complain(name_, "was truncated while it was read");
                return Got::bad;
            }
            if (is_written()) return Got::wait;
            writer_gone_ = true;
        }
    }

    Got complain_reading() {
        ++at_.line;
        if (errno == EMSGSIZE) return complain_here("a line is longer than 64 MiB");
        complain_errno(name_);
        return Got::bad;
    }

    Got take_line(std::string_view &text) {
        Got got = Got::some;
        for (std::size_t seen = 0; got == Got::some; got = more()) {
            if (!window_.take_line(text, seen)) continue;
            ++at_.line;
            return Got::some;
        }
        torn_ = got == Got::end;
        if (!torn_ || window_.rest().empty() || needs_newlines_) return got;
        text = window_.rest();
        window_.drop(text.size());
        ++at_.line;
        return Got::some;
    }

    bool open_header() {
        Got got = read_header();
        for (; got == Got::wait && g_signal == 0; got = read_header()) ::poll(nullptr, 0, kPollMillis);
        if (got == Got::end) complain(name_ + ":1", "the header is torn: nothing was recorded");
        at_.start = std::max<std::int64_t>(header_.timestamp, 0) * kSecond;
        return got != Got::bad;
    }

    /// The header is the first line. A first line that is not a whole JSON object begins a document of version 1,
    /// or the file is torn there.
    Got read_header() {
        std::string_view line;
        header_ = Header();
        const Got got = take_line(line);
        if (got == Got::end) return complain_here("not a recording: it is empty");
        if (got != Got::some) return got;
        if (!line.substr(std::min(line.find_first_not_of(" \t"), line.size())).starts_with('{')) {
            return complain_here("not a recording: no JSON object begins it");
        }
        header_.text = line;
        Json json(header_.text, room_);
        const bool is_closed = header_.members.read(json);
        const auto version = header_.members.number("version");
        if (version == kSecond || !(is_closed || version || torn_)) return read_document();
        if (is_closed && json.end()) return check_header();
        if (is_closed || !torn_) return complain_here(std::string("the header: ") + json.why());
        header_ = Header();
        return Got::end;
    }

    /// Turns the events of v1 into lines of v3, which `next` reads from then on.
    Got read_document() {
        std::string text = std::move(header_.text) + (torn_ ? "" : "\n");
        int n = 0;
        do n = window_.fill(kMostLine);
        while (n > 0);
        if (n < 0) return complain_reading();
        text += window_.rest();
        Json json(text, room_);
        std::optional<std::string> events;
        header_ = Header();
        const bool is_whole = json.object([&](const std::string &key) {
            return key == "stdout" ? read_delays(json, events.emplace()) : header_.members.read_member(json, key);
        });
        if (!is_whole || !json.end()) {
            at_.line = 1 + static_cast<long>(std::count(std::as_const(text).data(), json.failed_at(), '\n'));
            return complain_here(json.why());
        }
        torn_ = false;
        window_.hold(events.value_or(""));
        const Got got = check_header();
        return got == Got::bad || events ? got : complain_here("a version 1 without \"stdout\"");
    }

    static bool read_delays(Json &json, std::string &events) {
        if (!json.expect('[', "\"stdout\" is not an array")) return false;
        if (json.accept(']')) return true;
        do {
            Micros delay = 0;
            std::string_view text;
            const bool good = json.expect('[', "an event is not an array") && json.number(delay) &&
                              (delay >= 0 || json.fail("a time is negative")) &&
                              json.expect(',', kComma) &&
                              (json.next_is('"') || json.fail("a string is missing")) && json.raw(text) &&
                              json.expect(']', "an event is not closed");
            if (!good) return false;
            events.append("[" + format_seconds(delay) + ", \"o\", ").append(text).append("]\n");
        } while (json.accept(','));
        return json.expect(']', kComma);
    }

    Got check_header() {
        const char *const why = understand(header_);
        return why != nullptr ? complain_here(why) : Got::some;
    }

    std::string path_, name_;
    bool follow_ = false, needs_newlines_ = false;
    FileWindow window_;
    Header header_;
    Place at_;  // but its offset
    std::vector<char> room_;    // for strings that are decoded
    std::string exact_;         // the bytes of the last `b` event
    bool torn_ = false;         // the present line has no newline, and the file ends there
    bool writer_gone_ = false;  // no process writes the file any more
};

/// Columns and rows, as an `r` event has them.
std::optional<std::pair<int, int>> parse_size(std::string_view text) {
    const std::size_t x = std::min(text.find('x'), text.size());
    const auto columns = parse_number(text.substr(0, x));
    const auto rows = parse_number(text.substr(std::min(x + 1, text.size())));
    if (!columns || !rows || *columns > kMostSize || *rows > kMostSize) return std::nullopt;
    return std::pair(static_cast<int>(*columns), static_cast<int>(*rows));
}

// === 4. Control sequences =======================================================================================
// Output is text, control characters, and sequences that begin with ESC (ECMA-48). To leave out or obey a
// sequence, one must know where it ends. The states below are those of the VT500 parser, as far as they matter for
// that. 8-bit controls are text, as in xterm's UTF-8 mode.

/// A part of the output, as Sequences cuts it. `ascii` is text of printable ASCII alone.
enum class Part { ascii, text, control, sequence };

/// Whether a control sequence begins `bytes`. Spelled out: starts_with(), called for every sequence, was
/// measured to cost 5 % of the model's time.
inline bool begins_csi(std::string_view bytes) {
    return bytes.size() > 1 && bytes[0] == '\x1B' && bytes[1] == '[';
}

class Sequences {
public:
    /// Calls visit(Part, bytes) for each part of `bytes`, in order. A sequence that has not ended is kept for the
    /// next call; of a sequence over kLongest bytes (a picture, for instance) only the beginning is kept. Control
    /// characters inside a sequence act at once: they are given before it, and are not in it. A sequence that the
    /// next one cuts short is given without an end.
    template <typename Visit> void feed(std::string_view bytes, Visit &&visit) {
        while (!bytes.empty()) {
            if (state_ == State::ground) {
                feed_ground(bytes, visit);
                continue;
            }
            const Step step = advance(bytes[0]);
            if (step == Step::aside) visit(Part::control, bytes.substr(0, 1));
            if ((step == Step::more || step == Step::last) && held_.size() < kLongest) held_ += bytes[0];
            if (step != Step::before) bytes.remove_prefix(1);
            if (step == Step::more || step == Step::aside) continue;
            visit(Part::sequence, std::string_view(held_));
            held_ = state_ == State::closing && step == Step::before ? "\x1B" : "";
            state_ = held_.empty() ? State::ground : State::escape;
        }
    }

    /// The bytes that bring a fresh parser to the state of this one. For a sequence over kLongest bytes, which no
    /// terminal obeys, they begin another one that is ignored and has the same kind of end.
    [[nodiscard]] std::string unfinished() const {
        const bool is_closing = state_ == State::closing;
        const bool is_osc = state_ == State::osc || (is_closing && held_[1] == ']');
        const std::string_view ignored = is_osc ? "\x1B]7777;"
                                         : state_ == State::string || is_closing ? "\x1BX"
                                         : state_ == State::dcs ? "\x1BP<<"
                                         : state_ == State::csi ? "\x1B[<<"
                                                                : "\x1B##";
        if (held_.size() < kLongest && !held_.starts_with(ignored)) return held_;
        return std::string(ignored) + (is_closing ? "\x1B" : "");
    }

    static constexpr std::size_t kLongest = 4096;

private:
    enum class State { ground, escape, intermediate, csi, dcs, osc, string, closing };  // closing: ESC in a string
    /// A byte belongs to the sequence, ends it, is the first one behind it, or acts by itself.
    enum class Step { more, last, before, aside };

    template <typename Visit> void feed_ground(std::string_view &bytes, Visit &visit) {
        const std::size_t ascii = plain_length(bytes);
        std::size_t length = ascii;
        while (length < bytes.size() && (bytes[length] & 0xE0) != 0) ++length;
        if (length > 0) visit(length == ascii ? Part::ascii : Part::text, std::string_view(bytes.data(), length));
        bytes.remove_prefix(length);
        if (bytes.empty()) return;
        const std::size_t whole = length_of_csi(bytes);
        if (whole > 0) {
            visit(Part::sequence, bytes.substr(0, whole));
        } else if (bytes[0] == '\x1B') {
            state_ = State::escape;
            held_ = bytes[0];
        } else {
            visit(Part::control, bytes.substr(0, 1));
        }
        bytes.remove_prefix(std::max<std::size_t>(whole, 1));
    }

    /// The length of the control sequence that begins `bytes`, if it is whole and holds no other characters: a
    /// short cut for the most common kind of sequence. Else 0.
    static std::size_t length_of_csi(std::string_view bytes) {
        if (!begins_csi(bytes)) return 0;
        std::size_t at = 2;
        while (at < bytes.size() && (bytes[at] & 0xE0) == 0x20) ++at;
        return at < bytes.size() && bytes[at] >= '@' && bytes[at] < '\x7F' && at < kLongest ? at + 1 : 0;
    }

    Step advance(char c) {
        if (state_ == State::closing) return c == '\\' ? Step::last : Step::before;
        if (c == '\x18' || c == '\x1A') return Step::last;  // CAN and SUB cancel it
        if (state_ == State::osc || state_ == State::string) {
            if (c == '\a' && state_ == State::osc) return Step::last;
            if (c == '\x1B') state_ = State::closing;
            return Step::more;
        }
        if (c == '\x1B') return Step::before;
        const bool in_character = state_ == State::intermediate && (held_.back() & 0x80) != 0;
        const bool is_tail = (c & 0xC0) == 0x80;  // xterm takes a whole character for the name of a set: ESC ( €
        if (in_character && !is_tail) return Step::before;
        if (in_character || (state_ == State::intermediate && (c & 0xC0) == 0xC0)) return Step::more;
        if ((c & 0x80) != 0) return Step::before;
        if (c < ' ' || c == '\x7F') return Step::aside;
        if (state_ == State::csi) return c >= '@' ? Step::last : Step::more;
        if (state_ == State::dcs && c < '@') return Step::more;
        state_ = state_after(state_, c);
        return state_ == State::ground ? Step::last : Step::more;
    }

    /// The state after `c`, which stands behind ESC or ends the parameters of a DCS; ground: it ends the sequence.
    static State state_after(State state, char c) {
        if (state == State::dcs) return State::string;
        if (c < '0') return State::intermediate;
        if (state == State::intermediate) return State::ground;
        switch (c) {
        case '[': return State::csi;
        case 'P': return State::dcs;
        case ']': return State::osc;
        case 'X': case '^': case '_': return State::string;
        default: return State::ground;
        }
    }

    State state_ = State::ground;
    std::string held_;  // the present sequence
};

/// A control sequence of the kind `ESC [ ? 25 h`.
struct Csi {
    char prefix = 0, intermediate = 0, final = 0;  // 0 for none; without `final` it is no such sequence
    std::size_t count = 0;        // of the numbers
    std::uint32_t parts = 0;      // a bit for each: it stands behind a colon, as a part of the one before
    std::array<int, 32> numbers;  // only the first `count` are set

    [[nodiscard]] bool is_part(std::size_t index) const { return index < count && (parts >> index & 1) != 0; }

    /// The number at `index`, or `missing` if it is absent or 0.
    [[nodiscard]] int at(std::size_t index, int missing) const {
        return index < count && numbers[index] > 0 ? numbers[index] : missing;
    }

    void add_digit(int digit) { numbers[count - 1] = std::min(numbers[count - 1] * 10 + digit, 99999); }
    void begin_number(bool is_part_of_last) {
        count = std::min(count + 1, numbers.size());
        numbers[count - 1] = 0;
        parts |= (is_part_of_last ? 1U : 0U) << (count - 1);
    }
};

/// Splits a control sequence. One with a prefix or a number in a wrong place has no `final`: terminals ignore it.
Csi parse_csi(std::string_view bytes) {
    Csi csi;
    bool misplaced = !begins_csi(bytes);
    for (std::size_t i = 2; i < bytes.size() && !misplaced; ++i) {
        const char c = bytes[i];
        if (c >= '0' && c <= ';') {
            misplaced = csi.intermediate != 0;
            if (csi.count == 0) csi.numbers[csi.count++] = 0;
            if (c <= '9') csi.add_digit(c - '0');
            else csi.begin_number(c == ':');
        } else if (c >= '<' && c <= '?') {
            misplaced = csi.prefix != 0 || csi.intermediate != 0 || csi.count > 0;
            csi.prefix = c;
        } else if (c < '0') {
            csi.intermediate = c;
        } else {
            csi.final = c;
        }
    }
    if (misplaced || csi.final < '@' || csi.final > '~') csi.final = 0;
    return csi;
}

// === 5. Rows and lines ==========================================================================================
// The contents of a terminal's screen. A row consists of cells, and a cell is a character and its rendition. A row
// holds only the cells in use, and one rendition for all cells behind them: so clearing a row takes no time. Rare
// and long things, characters with combining marks and links, stand once in Ink, and cells refer to them by
// number. Lines that scrolled off are kept as cells, too; cells become bytes only when they are painted.

constexpr std::size_t kMostMarks = 16;                       // on one character
constexpr std::size_t kMostInk = 16 << 10, kMostInkBytes = 1 << 20;
constexpr std::size_t kMostLinkLength = 2048;                // bytes

// Ranges of characters, the first and the last of each. They add what newer C libraries know (glibc 2.36 has
// Unicode 14, musl 12), and the common characters for a system without a UTF-8 locale.
constexpr std::array kWide = std::to_array<char32_t>({
    0x1100, 0x115F, 0x231A, 0x231B, 0x2329, 0x232A, 0x23E9, 0x23EC, 0x23F0, 0x23F0, 0x23F3, 0x23F3, 0x25FD, 0x25FE,
    0x2614, 0x2615, 0x2648, 0x2653, 0x267F, 0x267F, 0x2693, 0x2693, 0x26A1, 0x26A1, 0x26AA, 0x26AB, 0x26BD, 0x26BE,
    0x26C4, 0x26C5, 0x26CE, 0x26CE, 0x26D4, 0x26D4, 0x26EA, 0x26EA, 0x26F2, 0x26F3, 0x26F5, 0x26F5, 0x26FA, 0x26FA,
    0x26FD, 0x26FD, 0x2705, 0x2705, 0x270A, 0x270B, 0x2728, 0x2728, 0x274C, 0x274C, 0x274E, 0x274E, 0x2753, 0x2755,
    0x2757, 0x2757, 0x2795, 0x2797, 0x27B0, 0x27B0, 0x27BF, 0x27BF, 0x2B1B, 0x2B1C, 0x2B50, 0x2B50, 0x2B55, 0x2B55,
    0x2E80, 0x3029, 0x302E, 0x303E, 0x3041, 0x3096, 0x309B, 0xA4C6, 0xA960, 0xA97C, 0xAC00, 0xD7A3, 0xF900, 0xFAD9,
    0xFE10, 0xFE19, 0xFE30, 0xFE6B, 0xFF01, 0xFF60, 0xFFE0, 0xFFE6, 0x16FE0, 0x16FE3, 0x16FF0, 0x1B2FB,
    0x1F004, 0x1F004, 0x1F0CF, 0x1F0CF, 0x1F18E, 0x1F18E, 0x1F191, 0x1F19A, 0x1F200, 0x1F320, 0x1F32D, 0x1F335,
    0x1F337, 0x1F37C, 0x1F37E, 0x1F393, 0x1F3A0, 0x1F3CA, 0x1F3CF, 0x1F3D3, 0x1F3E0, 0x1F3F0, 0x1F3F4, 0x1F3F4,
    0x1F3F8, 0x1F43E, 0x1F440, 0x1F440, 0x1F442, 0x1F4FC, 0x1F4FF, 0x1F53D, 0x1F54B, 0x1F54E, 0x1F550, 0x1F567,
    0x1F57A, 0x1F57A, 0x1F595, 0x1F596, 0x1F5A4, 0x1F5A4, 0x1F5FB, 0x1F64F, 0x1F680, 0x1F6C5, 0x1F6CC, 0x1F6CC,
    0x1F6D0, 0x1F6D2, 0x1F6D5, 0x1F6DF, 0x1F6EB, 0x1F6EC, 0x1F6F4, 0x1F6FC, 0x1F7E0, 0x1F7F0, 0x1F90C, 0x1F93A,
    0x1F93C, 0x1F945, 0x1F947, 0x1F9FF, 0x1FA70, 0x1FAF6, 0x20000, 0x3134A});
constexpr std::array kMarks = std::to_array<char32_t>({
    0x300, 0x36F, 0x483, 0x489, 0x591, 0x5BD, 0x5BF, 0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7, 0x5C7, 0x610, 0x61A,
    0x64B, 0x65F, 0x670, 0x670, 0x6D6, 0x6DC, 0x6DF, 0x6E4, 0x6E7, 0x6E8, 0x6EA, 0x6ED, 0x898, 0x89F, 0x8CA, 0x8D2,
    0x8E3, 0x902, 0x93C, 0x93C, 0x941, 0x948, 0x94D, 0x94D, 0x951, 0x957, 0x962, 0x963, 0xB55, 0xB55, 0xC3C, 0xC3C,
    0xD81, 0xD81, 0xE31, 0xE31, 0xE34, 0xE3A, 0xE47, 0xE4E, 0xEB1, 0xEB1, 0xEB4, 0xEBC, 0xEC8, 0xECD,
    0x1160, 0x11FF, 0x180F, 0x180F, 0x1ABF, 0x1ACE, 0x1DC0, 0x1DFF, 0x200B, 0x200F, 0x202A, 0x202E, 0x2060, 0x206F,
    0x20D0, 0x20F0, 0x302A, 0x302D, 0x3099, 0x309A, 0xA82C, 0xA82C, 0xFE00, 0xFE0F, 0xFE20, 0xFE2F, 0xFEFF, 0xFEFF,
    0x10EAB, 0x10EAC, 0x10F82, 0x10F85, 0x11070, 0x11070, 0x11073, 0x11074, 0x110C2, 0x110C2, 0x111CF, 0x111CF,
    0x1193B, 0x1193C, 0x1193E, 0x1193E, 0x11943, 0x11943, 0x16FE4, 0x16FE4, 0x1CF00, 0x1CF46, 0x1E2AE, 0x1E2AE,
    0xE0001, 0xE01EF});
constexpr std::array kNarrow = std::to_array<char32_t>({
    0x600, 0x605, 0x6DD, 0x6DD, 0x70F, 0x70F, 0x8E2, 0x8E2, 0x1734, 0x1734, 0x110BD, 0x110BD, 0x110CD, 0x110CD,
    0x1F93B, 0x1F93B, 0x1F946, 0x1F946});

/// The columns that a character takes: 0 (it combines), 1 or 2. The ranges above come first, then wcwidth(3) in
/// the first UTF-8 locale that exists.
int find_width(char32_t c) {
    constexpr std::array kLocales = {"C.UTF-8", "en_US.UTF-8", ""};
    static const bool has_locale = std::ranges::any_of(kLocales, [](const char *name) {
        return std::setlocale(LC_CTYPE, name) && ::wcwidth(L'\u4E2D') == 2;
    });
    const auto is_in = [c](std::span<const char32_t> ranges) {
        const auto next = std::ranges::upper_bound(ranges, c);
        return (next - ranges.begin()) % 2 == 1 || (next != ranges.begin() && next[-1] == c);
    };
    if (is_in(kWide)) return 2;
    if (is_in(kMarks)) return 0;
    const int width = has_locale && !is_in(kNarrow) ? ::wcwidth(static_cast<wchar_t>(c)) : 1;
    return width < 0 ? 1 : width;
}

/// The same, from a table: find_width() is called once for each character.
int width_of(char32_t c) {
    static std::array<signed char, 0x20000> known{};  // the width plus 1; 0: not known yet
    if (c < 0x300) return 1;
    if (c >= known.size()) return find_width(c);
    if (known[c] == 0) known[c] = static_cast<signed char>(find_width(c) + 1);
    return known[c] - 1;
}

/// A rendition: what SGR sets, and the link (OSC 8). A colour is 0 (the default), n + 1 (n of 256) or kRgb +
/// 0xRRGGBB.
struct Pen {
    enum Flag : std::uint16_t {
        bold = 1, faint = 2, italic = 4, underline = 8 | 16 | 32, underline_once = 8, blink = 64, inverse = 128,
        hidden = 256, struck = 512, overline = 1024
    };
    static constexpr std::uint32_t kRgb = 1 << 24;
    std::uint32_t foreground = 0, background = 0;
    std::uint16_t flags = 0;
    std::uint16_t extra = 0;  // a number of Ink's: the colour of an underline, the link

    bool operator==(const Pen &) const = default;
};

/// The numbers of SGR that set a flag and clear it (ECMA-48, 8.3.117): the model reads them, the painter writes
/// them. Underlines, of which there are several kinds, are apart.
struct Rendition {
    int flag, sets, clears;
};
constexpr std::array kRenditions{
    Rendition{Pen::bold, 1, 22},    Rendition{Pen::faint, 2, 22},  Rendition{Pen::italic, 3, 23},
    Rendition{Pen::blink, 5, 25},   Rendition{Pen::inverse, 7, 27}, Rendition{Pen::hidden, 8, 28},
    Rendition{Pen::struck, 9, 29},  Rendition{Pen::overline, 53, 55}};

struct Cell {
    static constexpr char32_t kRight = 0, kMarked = 0x110000;
    char32_t code = ' ';  // a character; kRight: right half of a wide one; kMarked + a number of Ink's: with marks
    Pen pen;

    bool operator==(const Cell &) const = default;
};

/// Gives each value a number, equal values the same one; T() has 0.
template <typename T> class Numbered {
public:
    [[nodiscard]] const T &at(std::size_t number) const { return values_[number]; }
    [[nodiscard]] std::size_t size() const { return values_.size(); }

    std::size_t number_of(const T &value) {
        const auto [known, is_new] = numbers_.try_emplace(value, values_.size());
        if (is_new) values_.push_back(value);
        return known->second;
    }

private:
    std::map<T, std::size_t> numbers_{{T(), 0}};
    std::vector<T> values_{T()};
};

/// Cells of a row without the blanks at its end that look like the blanks behind them.
inline std::span<const Cell> without_blanks(std::span<const Cell> cells, const Pen &fill) {
    while (!cells.empty() && cells.back() == Cell{' ', fill}) cells = cells.first(cells.size() - 1);
    return cells;
}

/// The things that cells refer to by number. When Ink is full, the model strips all its cells of them (tidy) and
/// begins with an empty one: filling it takes far more output than there are cells to strip.
class Ink {
public:
    struct Extra {
        std::uint32_t underline_colour = 0;
        std::string link;  // as OSC 8 has it: parameters, a semicolon, the address

        bool operator<(const Extra &other) const {
            return std::tie(underline_colour, link) < std::tie(other.underline_colour, other.link);
        }
    };

    [[nodiscard]] const Extra &extra(const Pen &pen) const { return extras_.at(pen.extra); }
    void set_extra(Pen &pen, const Extra &extra) {
        const std::size_t known = extras_.size();
        pen.extra = static_cast<std::uint16_t>(extras_.number_of(extra));
        if (extras_.size() > known) bytes_ += extra.link.size();
    }

    /// The code for a character with one more mark on it.
    char32_t add_mark(char32_t code, char32_t mark) {
        const std::u32string all = characters(code) + mark;
        return all.size() > kMostMarks + 1 ? code : Cell::kMarked + static_cast<char32_t>(marked_.number_of(all));
    }

    void append_text(const Cell &cell, std::string &text) const {
        std::array<char, 4> bytes{};
        const auto append = [&](char32_t c) { text.append(bytes.data(), put_utf8(bytes.data(), c)); };
        if (cell.code == Cell::kRight) return;
        if (cell.code < 0x80) text += static_cast<char>(cell.code);
        else if (cell.code < Cell::kMarked) append(cell.code);
        else std::ranges::for_each(characters(cell.code), append);
    }

    [[nodiscard]] bool is_full() const {
        return extras_.size() >= kMostInk || marked_.size() >= kMostInk || bytes_ >= kMostInkBytes;
    }
    /// Makes the cell independent of this Ink.
    void strip(Cell &cell) const {
        cell.pen.extra = 0;
        if (cell.code >= Cell::kMarked) cell.code = characters(cell.code)[0];
    }

private:
    [[nodiscard]] std::u32string characters(char32_t code) const {
        return code < Cell::kMarked ? std::u32string(1, code) : marked_.at(code - Cell::kMarked);
    }

    Numbered<Extra> extras_;
    Numbered<std::u32string> marked_;
    std::size_t bytes_ = 0;  // of the links
};

/// A row of a screen. Columns count from 0, and `to` is one more than the last one. When the screen becomes
/// narrower, the cells beyond its edge stay until it is wide again; erasing up to the edge erases them, too.
struct Row {
    int columns = 0;          // the columns that are seen
    int used = 0;             // the number of cells in use, hidden ones included; behind them is blank
    Pen fill;                 // the pen of these blanks, as far as they are seen
    bool wrapped = false;     // the text goes on in the next row
    Micros time = 0;          // of the last change
    std::vector<Cell> cells;  // none before the first use, then one for each column

    /// All cells in use, also those that are hidden.
    [[nodiscard]] std::span<const Cell> text() const { return {cells.data(), static_cast<std::size_t>(used)}; }
    /// The cells that are seen, without a wide character at the edge of which only half would be seen.
    [[nodiscard]] std::span<const Cell> shown() const {
        const int end = std::min(used, columns);
        return text().first(static_cast<std::size_t>(is_right_half(end) ? end - 1 : end));
    }
    /// The cell at `x`, in use or not.
    [[nodiscard]] Cell at(int x) const { return x < used ? *(cells.data() + x) : Cell{' ', fill}; }
    [[nodiscard]] bool is_right_half(int x) const { return x >= 0 && at(x).code == Cell::kRight; }

    /// Makes all cells before `to` cells in use. Gives the first cell of the row.
    Cell *reach(int to) {
        if (cells.empty()) cells.resize(static_cast<std::size_t>(columns));
        Cell *const first = cells.data();
        if (used < to) std::fill(first + used, first + to, Cell{' ', fill});
        used = std::max(used, to);
        return first;
    }

    void clear(const Pen &pen) {
        used = 0;
        fill = pen;
        wrapped = false;
    }

    /// A wide character across the left side of column `x` becomes two blanks.
    void split(int x, const Pen &pen) {
        if (is_right_half(x) && x > 0) std::fill_n(cells.data() + x - 1, 2, Cell{' ', pen});
    }

    void drop_hidden() {
        split(columns, fill);
        used = std::min(used, columns);
    }

    /// Prepares the cells [from, to) to be overwritten; gives the first one.
    Cell *open(int from, int to, const Pen &pen) {
        if (from < used) {
            split(from, pen);
            split(to, pen);
        }
        reach(from);
        used = std::max(used, to);
        return cells.data() + from;
    }

    void erase(int from, int to, const Pen &pen) {
        split(from, pen);
        split(to, pen);
        if (to < columns) {
            Cell *const first = reach(to);
            return std::fill(first + from, first + to, Cell{' ', pen});
        }
        if (fill != pen) reach(from);
        used = std::min(used, from);
        fill = pen;
        wrapped = false;
    }

    /// Moves the cells of [from, to) to the right (left if negative); the columns that become free are blank.
    void shift(int from, int to, int count, const Pen &pen) {
        const int n = std::min(std::abs(count), to - from);
        if (n <= 0) return;
        Cell *const first = reach(to) + from, *const last = cells.data() + to;
        if (to == columns) drop_hidden();
        split(from, pen);
        split(to, pen);
        split(count < 0 ? from + n : to - n, pen);
        if (count < 0) std::fill(std::copy(first + n, last, first), last, Cell{' ', pen});
        else std::fill(first, std::copy_backward(first, last - n, last), Cell{' ', pen});
    }

    /// A wider row shows its hidden cells again, and behind them blanks without a background.
    void set_columns(int count) {
        if (count == columns) return;
        if (fill != Pen()) reach(columns);
        fill = Pen();
        columns = count;
        if (!cells.empty() && std::ssize(cells) < count) cells.resize(static_cast<std::size_t>(count));
    }
};

/// The lines that have scrolled off the main screen, the oldest first. Their cells stand in pages, and a page is
/// freed with its last line: nothing is moved.
class History {
public:
    struct Line {
        std::size_t page;      // counted from the first page ever
        std::uint32_t begin, length;
        int columns;           // of the screen that the line was on
        Pen fill;
        bool wrapped;
    };

    [[nodiscard]] std::size_t size() const { return lines_.size(); }
    [[nodiscard]] const Line &line(std::size_t i) const { return lines_[i]; }
    [[nodiscard]] std::span<const Cell> cells(const Line &line) const {
        return std::span<const Cell>(pages_[line.page - gone_]).subspan(line.begin, line.length);
    }
    /// Whether the text of line `i` goes on in the next line; that of the newest line, on a screen of so many
    /// columns.
    [[nodiscard]] bool goes_on(std::size_t i, int columns) const {
        const Line &each = line(i);
        const bool is_whole = each.length <= static_cast<std::size_t>(each.columns);
        return each.wrapped && is_whole && each.columns == (i + 1 < size() ? line(i + 1).columns : columns);
    }
    void clear() { *this = History(); }

    /// Adds a line, and forgets the oldest ones: painting the others takes `most` bytes or a little more, and
    /// their memory is bounded.
    void push(const Row &row, std::size_t most) {
        std::span<const Cell> text = row.text();
        if (!row.wrapped) text = without_blanks(text, row.fill);
        std::uint32_t begin = lines_.empty() ? 0 : lines_.back().begin + lines_.back().length;
        if (pages_.empty() || pages_.back().size() - begin < text.size()) {
            pages_.push_back(std::exchange(spare_, {}));
            pages_.back().resize(std::max(kPage, text.size()));
            const std::size_t cell_bytes = std::min(pages_.size() * kPage * sizeof(Cell), kMostMemory);
            most_lines_ = (kMostMemory - cell_bytes) / sizeof(Line);
            begin = 0;
        }
        std::copy(text.data(), text.data() + text.size(), pages_.back().data() + begin);
        const auto length = static_cast<std::uint32_t>(text.size());
        lines_.push_back({gone_ + pages_.size() - 1, begin, length, row.columns, row.fill, row.wrapped});
        weight_ += weight(lines_.back());
        while ((weight_ > most || size() > most_lines_) && size() > 1) {
            weight_ -= weight(lines_.front());
            lines_.pop_front();
            for (; gone_ < lines_.front().page; ++gone_) {
                spare_ = std::move(pages_.front());
                pages_.pop_front();
            }
        }
    }

    /// Takes the newest line back.
    Row pop() {
        const Line line = lines_.back();
        const std::span<const Cell> text = cells(line);
        Row row{.columns = line.columns, .used = static_cast<int>(line.length), .fill = line.fill,
                .wrapped = line.wrapped, .cells = {text.begin(), text.end()}};
        if (std::ssize(row.cells) < line.columns) row.cells.resize(static_cast<std::size_t>(line.columns));
        lines_.pop_back();
        if (!lines_.empty()) pages_.resize(lines_.back().page - gone_ + 1);
        weight_ -= weight(line);
        return row;
    }

    void strip(const Ink &ink) {
        for (auto &page : pages_) std::ranges::for_each(page, [&](Cell &cell) { ink.strip(cell); });
    }

private:
    static constexpr std::size_t kPage = 4096;            // cells
    static constexpr std::size_t kMostMemory = 16 << 20;  // bytes

    /// The fewest bytes that painting a line takes.
    static std::size_t weight(const Line &line) { return line.length + (line.wrapped ? 0 : 2); }

    std::deque<std::vector<Cell>> pages_;  // a page is in use up to the end of its last line
    std::vector<Cell> spare_;              // the page that was freed last
    std::deque<Line> lines_;
    std::size_t gone_ = 0;        // the number of pages freed
    std::size_t weight_ = 0;      // the bytes that painting all lines takes
    std::size_t most_lines_ = 0;  // the number of lines for which there is memory beside the pages
};

// === 6. The model ===============================================================================================
// The model is a terminal that shows nothing: it has the two screens and the state of a terminal after some
// output. Where terminals differ, it does what most of xterm, kitty, alacritty, VTE and tmux do. The meaning of
// each sequence is in xterm's manual (ctlseqs), DEC's manuals and ECMA-48. The model holds everything that can be
// seen or typed later: characters, renditions, the cursor, modes, keys; but no pictures, no sound, no lines of
// double size. It takes any bytes in any state, cut anywhere, in bounded memory and time, and never asks or
// answers.
//
// Its parts come first: renditions, settings, a screen, characters out of bytes. The model follows, which has the
// cursor and moves it.

constexpr int kMostColumns = 8192, kMostRows = 1024, kMostCells = 128 << 10;  // of a screen; a larger one is cut
constexpr std::size_t kMostTitle = 1024, kMostTitles = 10, kMostColour = 64, kMostKeyboards = 16;

// --- renditions (SGR)

void set_flags(Pen &pen, int cleared, int set = 0) {
    pen.flags = static_cast<std::uint16_t>((pen.flags & ~cleared) | set);
}

void set_flag(Pen &pen, int n) {
    for (const Rendition &each : kRenditions) {
        if (n == each.sets || n == each.clears) set_flags(pen, each.flag, n == each.sets ? each.flag : 0);
    }
}

/// Everything as by default, except the link (OSC 8).
void reset_rendition(Pen &pen, Ink &ink) {
    const Pen before = std::exchange(pen, Pen());
    if (before.extra != 0) ink.set_extra(pen, {.link = ink.extra(before).link});
}

void set_rendition(Pen &pen, Ink &ink, int n) {
    const auto colour = [n](int base) { return static_cast<std::uint32_t>(n - base + 1); };
    const int tens = n / 10, unit = n % 10;
    if (n == 0) reset_rendition(pen, ink);
    else if (tens == 3) pen.foreground = unit == 9 ? 0 : colour(30);
    else if (tens == 4) pen.background = unit == 9 ? 0 : colour(40);
    else if (tens == 9 && unit < 8) pen.foreground = colour(90 - 8);
    else if (tens == 10 && unit < 8) pen.background = colour(100 - 8);
    else if (n == 59) ink.set_extra(pen, {.link = ink.extra(pen).link});
    else if (n == 4) set_flags(pen, Pen::underline, Pen::underline_once);
    else if (n == 21) set_flags(pen, Pen::underline, 2 * Pen::underline_once);
    else if (n == 24) set_flags(pen, Pen::underline);
    else set_flag(pen, n == 6 ? 5 : n);  // xterm blinks at one speed
}

/// Obeys 38, 48 or 58 at number `i`. Semicolons separate the numbers behind it, or colons (`parts` of them; then a
/// colour space may stand before red, green and blue). Gives how many numbers belong to it.
std::size_t set_colour(Pen &pen, Ink &ink, const Csi &csi, std::size_t i, std::size_t parts) {
    const auto number = [&](std::size_t at) { return static_cast<std::uint32_t>(std::min(csi.at(at, 0), 255)); };
    const std::uint32_t kind = number(i + 1);
    const std::size_t first = i + (kind == 2 && parts >= 5 ? 3 : 2);
    const std::uint32_t rgb = Pen::kRgb | number(first) << 16 | number(first + 1) << 8 | number(first + 2);
    const std::uint32_t colour = kind == 5 ? number(first) + 1 : rgb;
    if (kind != 5 && kind != 2) return parts;
    if (csi.numbers[i] == 38) pen.foreground = colour;
    else if (csi.numbers[i] == 48) pen.background = colour;
    else ink.set_extra(pen, {.underline_colour = colour, .link = ink.extra(pen).link});
    return parts > 0 ? parts : kind == 5 ? 2 : 4;
}

void set_renditions(Pen &pen, Ink &ink, const Csi &csi) {
    for (std::size_t i = 0; i < std::max<std::size_t>(csi.count, 1); ++i) {
        std::size_t parts = 0;
        while (csi.is_part(i + parts + 1)) ++parts;
        const int n = csi.at(i, 0);
        if (n == 38 || n == 48 || n == 58) {
            i += set_colour(pen, ink, csi, i, parts);
            continue;
        }
        const bool has_kind = n == 4 && parts > 0;  // 4:3, a curly underline
        if (has_kind) set_flags(pen, Pen::underline, std::min(csi.numbers[i + 1], 5) * Pen::underline_once);
        else set_rendition(pen, ink, n);
        i += parts;
    }
}

// --- settings

/// The modes that programs set and reset, by SM (negative here) and by DECSET. Missing are modes that are actions
/// (47, 1047 to 1049), and 132 columns (3), which no terminal allows by default.
struct Mode {
    int number;
    signed char initial = 0;  // in a terminal just switched on: 0 reset, 1 set, -1 as the user has configured it
    int group = 0;            // 1: setting or resetting one resets the others; 2: only setting one does
};
constexpr std::array kModes{
    Mode{-2}, Mode{-4}, Mode{-12, 1}, Mode{-20},           // keyboard locked, insert, no local echo, LF returns
    Mode{1}, Mode{66}, Mode{67, -1},                       // cursor keys, keypad, backspace
    Mode{4}, Mode{5},                                      // slow scroll, reverse video
    Mode{6}, Mode{7, 1}, Mode{69},                         // origin, autowrap, side margins
    Mode{12, -1}, Mode{25, 1},                             // the cursor blinks, is seen
    Mode{41}, Mode{42}, Mode{44}, Mode{80}, Mode{1070, -1},  // tab fix, NRCS, bell; sixel
    Mode{9, 0, 1}, Mode{1000, 0, 1}, Mode{1001, 0, 1}, Mode{1002, 0, 1}, Mode{1003, 0, 1},  // mouse
    Mode{1005, 0, 2}, Mode{1006, 0, 2}, Mode{1015, 0, 2}, Mode{1016, 0, 2},                 // form of its reports
    Mode{1004}, Mode{1007, -1}, Mode{1010, -1}, Mode{1011, -1},  // focus, wheel as arrows, scrolling to the bottom
    Mode{1034, -1}, Mode{1035, -1}, Mode{1036, -1}, Mode{1037, -1}, Mode{1039, -1},  // Meta, NumLock, Alt, Delete
    Mode{1042, -1}, Mode{1043, -1},                                                  // bell
    Mode{1050, -1}, Mode{1051, -1}, Mode{1052, -1}, Mode{1053, -1},  // function keys
    Mode{1060, -1}, Mode{1061, -1},
    Mode{2004}, Mode{2026}, Mode{2031},                    // paste, output held back, colour scheme
    Mode{2048}, Mode{9001}};                               // reports of the size, Win32 keys

/// The index of a mode in kModes; the number of modes when it is not there.
constexpr std::size_t mode_index(int number) {
    std::size_t i = 0;
    while (i < kModes.size() && kModes[i].number != number) ++i;
    return i;
}

/// Takes the part before the next semicolon off `text`.
std::string_view cut_field(std::string_view &text) {
    const std::string_view field = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(field.size() + 1, text.size()));
    return field;
}

/// Settings that belong to neither screen.
struct Settings {
    std::array<signed char, kModes.size()> modes;  // 0, 1; -1: as the user has it
    std::array<int, 8> modify{};                   // xterm's modifyOtherKeys and such: n + 1; 0: unset; -1: off
    int shape = -1;                                // of the cursor (DECSCUSR); -1: as the user has it
    std::map<std::string, std::string> colours;    // of the palette ("4;1") and of things ("11"): names of X11

    Settings() : modes() { std::ranges::transform(kModes, modes.begin(), &Mode::initial); }

    template <int number> [[nodiscard]] bool is_on() const {
        static_assert(mode_index(number) < kModes.size());
        return modes[mode_index(number)] == 1;
    }

    void set_mode(int number, bool set) {
        const std::size_t index = mode_index(number);
        if (number == 12 && shape > 0) shape = (shape + 1) / 2 * 2 - (set ? 1 : 0);
        if (index == kModes.size() || (number == 12 && shape > 0)) return;
        for (std::size_t i = 0; i < kModes.size(); ++i) {
            const int group = kModes[index].group;
            if (group != 0 && kModes[i].group == group && (set || group == 1)) modes[i] = 0;
        }
        modes[index] = set ? 1 : 0;
    }

    /// DECSCUSR: odd shapes blink. Mode 12 sets the same property; the last of the two counts.
    void set_shape(int to) {
        if (to > 6) return;
        shape = to;
        modes[mode_index(12)] = -1;
    }

    void set_key_modifiers(const Csi &csi) {
        const auto which = static_cast<std::size_t>(csi.at(0, 0));
        if (csi.count == 0 && csi.final != 'n') return modify.fill(0);
        if (which >= modify.size()) return;
        modify[which] = csi.final == 'n' ? -1 : csi.count > 1 ? std::min(csi.numbers[1], 99) + 1 : 0;
    }

    void set_colour(const std::string &which, std::string_view colour) {
        if (!colour.empty() && colour != "?" && colour.size() < kMostColour) colours[which] = colour;
    }
    /// OSC 4: pairs of an index and a colour.
    void set_palette(std::string_view text) {
        while (!text.empty()) {
            const auto index = parse_number(cut_field(text));
            const std::string_view colour = cut_field(text);
            if (index && *index < 256) set_colour("4;" + std::to_string(*index), colour);
        }
    }
    void reset_palette(std::string_view text) {
        const auto is_palette = [](const auto &colour) { return colour.first.starts_with("4;"); };
        if (text.empty()) std::erase_if(colours, is_palette);
        while (!text.empty()) colours.erase("4;" + std::string(cut_field(text)));
    }
    /// OSC 10 to 19 set one colour, and further texts the colours behind it; 110 to 119 take them back.
    void set_colours(std::uint64_t number, std::string_view text) {
        if (number >= 110 && number <= 119) colours.erase(std::to_string(number - 100));
        for (; number >= 10 && number <= 19 && !text.empty(); ++number) {
            set_colour(std::to_string(number), cut_field(text));
        }
    }
};

// --- a screen

/// The state that DECSC saves.
struct Cursor {
    int row = 0, column = 0;
    bool wrap = false;    // 'pending wrap': the last column is written, and the next character wraps
    bool origin = false;  // DECOM: rows and columns count from the margins
    Pen pen;
    std::array<bool, 2> draws{};  // G0, G1: line drawing instead of ASCII
    std::size_t set = 0;          // the index of the set in use

    bool operator==(const Cursor &) const = default;
};

/// The rows and columns that scroll; both ends are included.
struct Margins {
    int top = 0, bottom = 0, left = 0, right = 0;

    [[nodiscard]] bool has(int column) const { return column >= left && column <= right; }
};

struct Screen {
    std::vector<Row> rows;
    std::vector<std::uint16_t> order;  // which row is shown where: a scroll moves these numbers
    Cursor saved;                      // perhaps outside of the screen, when that has become smaller
    std::vector<int> keyboard{0};      // kitty's protocol: flags, the ones pushed last at the end

    Row &row(int y) { return rows[order[static_cast<std::size_t>(y)]]; }
    [[nodiscard]] const Row &row(int y) const { return rows[order[static_cast<std::size_t>(y)]]; }

    /// Gives the screen a size. Its rows from `first` on stay, behind the rows in `above`.
    void fit(int columns, int count, int first, std::vector<Row> above) {
        for (int y = first; y < std::ssize(rows); ++y) above.push_back(std::move(row(y)));
        above.resize(static_cast<std::size_t>(count));
        for (Row &each : above) each.set_columns(columns);
        above.back().wrapped = false;
        rows = std::move(above);
        order.resize(rows.size());
        std::iota(order.begin(), order.end(), std::uint16_t{0});
    }

    /// Moves whole lines from `top` to `bottom` up (down if negative). Gives the first line that becomes free.
    int scroll(int top, int bottom, int lines) {
        const int n = std::abs(lines);
        const auto first = order.begin() + top, last = order.begin() + bottom + 1;
        std::rotate(first, lines > 0 ? first + n : last - n, last);
        return lines > 0 ? bottom + 1 - n : top;
    }

    /// The same between left and right margins: cells are moved.
    void scroll_part(int top, const Margins &margins, int lines, const Pen &blank) {
        const int width = margins.right + 1 - margins.left;
        for (int y = top; y <= margins.bottom; ++y) {
            row(y).reach(margins.right + 1);
            row(y).split(margins.left, blank);
            row(y).split(margins.right + 1, blank);
        }
        for (int i = 0; i <= margins.bottom - top; ++i) {
            const int y = lines > 0 ? top + i : margins.bottom - i, source = y + lines;
            Cell *const into = row(y).cells.data() + margins.left;
            if (source < top || source > margins.bottom) std::fill_n(into, width, Cell{' ', blank});
            else std::copy_n(row(source).cells.data() + margins.left, width, into);
        }
    }

    /// kitty's keyboard protocol: > pushes, < pops, = changes the present flags.
    void set_keyboard(const Csi &csi) {
        const int flags = csi.at(0, 0) & 31, how = csi.at(1, 1);
        if (csi.prefix == '>') {
            if (keyboard.size() > kMostKeyboards) keyboard.erase(keyboard.begin() + 1);
            return keyboard.push_back(flags);
        }
        if (csi.prefix == '<') {
            const auto n = static_cast<std::size_t>(csi.at(0, 1));
            if (n >= keyboard.size()) return keyboard.assign(1, 0);
            return keyboard.resize(keyboard.size() - n);
        }
        int &now = keyboard.back();
        now = how == 1 ? flags : how == 2 ? now | flags : how == 3 ? now & ~flags : now;
    }
};

// --- characters

/// The character that `size` bytes encode, or U+FFFD. (U+FFFE is no character.)
char32_t decode(const char *bytes, std::size_t size) {
    if (utf8_length(bytes, bytes + size) != size) return U'\uFFFD';
    const char32_t code = decode_utf8(bytes, size);
    return code == 0xFFFE ? U'\uFFFD' : code;
}

/// Joins bytes to characters (RFC 3629). A broken sequence, or one of the older, longer forms, is one U+FFFD.
class Characters {
public:
    /// Calls put(character) for each character that `byte` completes.
    template <typename Put> void feed(unsigned char byte, Put &&put) {
        const bool is_tail = (byte & 0xC0) == 0x80;
        if (!is_tail) end(put);
        if (byte >= 0xFE || (is_tail && missing_ == 0)) put(U'\uFFFD');
        else if (!is_tail) {
            bytes_[0] = static_cast<char>(byte);
            size_ = 1;
            missing_ = std::countl_one(byte) - 1;
        } else {
            bytes_[size_++] = static_cast<char>(byte);
            if (--missing_ == 0) put(decode(bytes_.data(), size_));
        }
    }

    /// A sequence follows: an incomplete character becomes U+FFFD.
    template <typename Put> void end(Put &&put) {
        if (missing_ == 0) return;
        missing_ = 0;
        put(U'\uFFFD');
    }

    [[nodiscard]] bool is_whole() const { return missing_ == 0; }
    [[nodiscard]] std::string_view unfinished() const { return {bytes_.data(), missing_ == 0 ? 0 : size_}; }

private:
    std::array<char, 6> bytes_{};
    std::size_t size_ = 0;
    int missing_ = 0;  // bytes
};

/// A character of the set for line drawing. Few terminals have sets besides this one and ASCII.
char32_t draw(char32_t c) {
    constexpr std::u32string_view kGraphics = U" ◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·";  // _ to ~
    return c >= '_' && c <= '~' ? kGraphics[c - '_'] : c;
}

// --- the model

class Painter;

class Model {
public:
    /// What is about to happen to rows; Transcript, which writes them down, is told before. `cut`: the window
    /// becomes lower, and rows with text on the main screen, shown or not, are lost.
    enum class Change { row_leaves, row_returns, wipe, to_alternate, from_alternate, cut };
    using Watcher = std::function<void(Change, const Row *)>;

    Model(int columns, int rows, std::size_t history_bytes = kHistory)
        : history_most_(std::max(history_bytes, kHistory)) {
        resize(columns, rows);
    }

    /// Takes the program's output.
    void feed(std::string_view bytes) {
        sequences_.feed(bytes, [this](Part part, std::string_view piece) {
            if (part == Part::ascii && characters_.is_whole()) return put_ascii(piece);
            if (part == Part::ascii || part == Part::text) return put_text(piece);
            characters_.end([this](char32_t c) { put(c); });
            const char32_t last = std::exchange(last_, 0);
            if (part == Part::control) obey_control(piece[0]);
            else obey_sequence(piece, last);
            settle();
        });
    }

    void resize(int columns, int rows);

    /// The bytes that bring a terminal of this size to this state. A terminal that shows a shell's prompt also
    /// gets the last lines that scrolled off, at most `history_bytes` of them; one that is `used`, has had bytes
    /// before, does not.
    [[nodiscard]] std::string paint(std::size_t history_bytes, bool used = false) const;
    /// The bytes that bring a terminal which shows this state back to a prompt.
    [[nodiscard]] std::string undo() const;

    [[nodiscard]] int columns() const { return columns_; }
    [[nodiscard]] int rows() const { return rows_; }
    [[nodiscard]] bool alternate() const { return alternate_; }
    [[nodiscard]] const Cursor &cursor() const { return cursor_; }
    [[nodiscard]] const Row &row(int y) const { return screens_[alternate_].row(y); }
    [[nodiscard]] const Row &main_row(int y) const { return screens_[0].row(y); }
    /// The text of a row, hidden cells included; without the blanks at its end, unless the row is wrapped.
    [[nodiscard]] std::string text_of(const Row &row) const {
        std::string text;
        for (const Cell &cell : row.text()) ink_.append_text(cell, text);
        return row.wrapped ? text : text.erase(text.find_last_not_of(' ') + 1);
    }
    /// The text of a row as it is seen, without the blanks at its end; with SGR if `colours`.
    [[nodiscard]] std::string row_text(int y, bool colours) const;

    void watch(Watcher watcher) { watcher_ = std::move(watcher); }
    /// Sets the time of the output that comes next.
    void set_time(Micros now) { now_ = now; }

private:
    friend class Painter;
    static constexpr std::size_t kHistory = 64 << 10;

    // --- state

    Screen &screen() { return screens_[alternate_]; }
    Row &at(int y) { return screen().row(y); }
    Row &cursor_row() { return at(cursor_.row); }

    /// The pen of erased cells: only its background is seen.
    [[nodiscard]] Pen blank() const { return {.background = cursor_.pen.background}; }

    void tell(Change change, const Row *row = nullptr) const {
        if (watcher_) watcher_(change, row);
    }

    /// Notes that the program depends on places of the main screen.
    void note_place() { addressed_ = addressed_ || !alternate_; }

    /// Ink is full: strips all cells of it.
    void tidy() {
        const auto strip = [this](Cell &cell) { ink_.strip(cell); };
        for (Screen &each : screens_) {
            for (Row &row : each.rows) std::for_each_n(row.cells.begin(), row.used, strip);
            each.saved.pen.extra = 0;
        }
        history_.strip(ink_);
        cursor_.pen.extra = 0;
        ink_ = Ink();
    }

    void reset_margins() { margins_ = {.bottom = rows_ - 1, .right = columns_ - 1}; }
    [[nodiscard]] bool is_narrowed() const { return margins_.left > 0 || margins_.right < columns_ - 1; }
    [[nodiscard]] bool has_margins() const {
        return margins_.top > 0 || margins_.bottom < rows_ - 1 || is_narrowed();
    }
    [[nodiscard]] bool is_between_margins() const { return margins_.has(cursor_.column); }
    [[nodiscard]] bool is_in_region() const {
        return cursor_.row >= margins_.top && cursor_.row <= margins_.bottom && is_between_margins();
    }
    /// The column at which text wraps; never one before the cursor.
    [[nodiscard]] int right_limit() const {
        return cursor_.column > margins_.right ? columns_ - 1 : margins_.right;
    }

    // --- scrolling and erasing

    /// The rows above go into the history.
    void keep_lines(int count) {
        addressed_ = addressed_ || count > 0;  // all rows are in use
        for (int y = 0; y < count; ++y) {
            tell(Change::row_leaves, &at(y));
            history_.push(at(y), history_most_);
        }
    }

    void clear(Row &row) const {
        row.clear(blank());
        row.time = now_;
    }

    /// Moves the lines of the region from `top` to the bottom margin up (down if negative): IND, RI, IL, DL, SU,
    /// SD. No line moves further than out of the region. So for any number, each row is touched once; between side
    /// margins, each cell.
    void scroll(int top, int lines) {
        const int bottom = margins_.bottom, n = std::min(std::abs(lines), bottom + 1 - top);
        const bool is_narrow = is_narrowed();
        if (is_narrow) screen().scroll_part(top, margins_, lines < 0 ? -n : n, blank());
        else if (lines > 0 && top == 0 && !alternate_) keep_lines(n);
        const int free = is_narrow ? bottom + 1 : screen().scroll(top, bottom, lines < 0 ? -n : n);
        for (int y = free; y < free + n && !is_narrow; ++y) clear(at(y));
        if (bottom == rows_ - 1) at(bottom).wrapped = false;  // no row follows it
    }

    /// Blanks columns [from, to) of a row. A pending wrap stays, as in kitty, alacritty and tmux.
    void erase(int y, int from, int to) {
        at(y).time = now_;
        at(y).erase(from, to, blank());
    }

    void erase_rows(int from, int to) {
        for (int y = from; y < to; ++y) clear(at(y));
    }

    /// EL. While a wrap is pending, nothing is to the right of the cursor; xterm alone differs.
    void erase_line(int mode) {
        const int column = cursor_.column;
        if (mode > 2 || (mode == 0 && cursor_.wrap)) return;
        erase(cursor_.row, mode == 0 ? column : 0, mode == 1 ? column + 1 : columns_);
    }

    /// ED. A row is cleared without touching its cells.
    void erase_screen(int mode) {
        const bool is_first = cursor_.row == 0 && cursor_.column == 0;
        const bool is_last = cursor_.row == rows_ - 1 && cursor_.column == columns_ - 1;
        if (mode == 3) history_.clear();
        if (mode > 2) return;
        if (mode != 0) note_place();
        if (mode == 2 || (mode == 0 && is_first) || (mode == 1 && is_last)) return wipe();
        if (mode == 0) erase_rows(cursor_.row + 1, rows_);
        else erase_rows(0, cursor_.row);
        erase(cursor_.row, mode == 0 ? cursor_.column : 0, mode == 1 ? cursor_.column + 1 : columns_);
    }

    void wipe() {
        tell(Change::wipe);
        erase_rows(0, rows_);
    }

    /// DECFRA: fills a rectangle.
    void fill_area(const Csi &csi) {
        note_place();
        const bool inner = cursor_.origin;
        const int y = inner ? margins_.top : 0, x = inner ? margins_.left : 0, c = csi.at(0, 0);
        const int left = x + csi.at(2, 1) - 1;
        const int last = std::min(y + csi.at(3, rows_), inner ? margins_.bottom + 1 : rows_);
        const int right = std::min(x + csi.at(4, columns_), inner ? margins_.right + 1 : columns_);
        if (left >= right || c < ' ' || (c >= 0x7F && c < 0xA0) || c > 0xFF) return;
        for (int row = y + csi.at(1, 1) - 1; row < last; ++row) {
            const Cell cell{static_cast<char32_t>(c), cursor_.pen};
            std::fill_n(at(row).open(left, right, cursor_.pen), right - left, cell);
        }
    }

    /// ICH, DCH.
    void shift_characters(int count) {
        if (is_between_margins()) cursor_row().shift(cursor_.column, margins_.right + 1, count, blank());
    }

    void align() {  // DECALN
        note_place();
        set_origin(false);
        cursor_.pen = {.foreground = cursor_.pen.foreground, .background = cursor_.pen.background,
                       .extra = cursor_.pen.extra};
        reset_margins();
        move(0, 0);
        for (int y = 0; y < rows_; ++y) {
            at(y).clear(Pen());
            std::fill_n(at(y).open(0, columns_, Pen()), columns_, Cell{'E', Pen()});
        }
    }

    // --- the cursor

    void stay() { cursor_.wrap = false; }
    /// The cursor stays where it is, though margins may have changed: a wrap is pending only where text wraps.
    /// When the last row is coloured, or the cursor stands in it, all rows are in use.
    void settle() {
        cursor_.wrap = cursor_.wrap && cursor_.column == right_limit();
        if (addressed_) return;
        addressed_ = main_row(rows_ - 1).fill != Pen() || (!alternate_ && cursor_.row == rows_ - 1);
    }
    void set_row(int row) {
        cursor_.row = row;
        stay();
    }
    void set_column(int column) {
        cursor_.column = column;
        stay();
    }

    /// Moves the cursor to a place, which counts from the margins in origin mode.
    void move(int row, int column) {
        const bool inner = cursor_.origin;
        const int x = inner ? margins_.left : 0, y = inner ? margins_.top : 0;
        cursor_.column = std::clamp(column + x, 0, inner ? margins_.right : columns_ - 1);
        set_row(std::clamp(row + y, 0, inner ? margins_.bottom : rows_ - 1));
    }
    void move_to(int row, int column) {
        note_place();
        move(row, column);
    }
    [[nodiscard]] int shown_row() const { return cursor_.row - (cursor_.origin ? margins_.top : 0); }
    [[nodiscard]] int shown_column() const { return cursor_.column - (cursor_.origin ? margins_.left : 0); }

    void go_up(int n) {
        const int limit = cursor_.row < margins_.top ? 0 : margins_.top;
        if (cursor_.row - n < limit) note_place();
        set_row(std::max(cursor_.row - n, limit));
    }
    void go_down(int n) {
        const int limit = cursor_.row > margins_.bottom ? rows_ - 1 : margins_.bottom;
        set_row(std::min(cursor_.row + n, limit));
    }
    void go_right(int n) {
        const bool inner = settings_.is_on<69>() && cursor_.column <= margins_.right;
        set_column(std::min(cursor_.column + n, inner ? margins_.right : columns_ - 1));
    }

    void go_left(int n) {
        set_column(std::max(cursor_.column - n, cursor_.column < margins_.left ? 0 : margins_.left));
    }

    /// Moves the cursor `count` tab stops to the right (left if negative); the ends of the line are stops, too.
    void go_to_tab(int count) {
        const int step = count < 0 ? -1 : 1, last = settings_.is_on<69>() ? margins_.right : columns_ - 1;
        const int limit = count > 0 ? last : cursor_.origin ? margins_.left : 0;
        int column = cursor_.column;
        for (; count != 0 && (limit - column) * step > 0; count -= step) {
            do column += step;
            while (column != limit && !tabs_[static_cast<std::size_t>(column)]);
        }
        if (column != cursor_.column) set_column(column);  // else a pending wrap stays
    }
    void set_tab(bool set) { tabs_[static_cast<std::size_t>(cursor_.column)] = set; }
    void reset_tabs() {
        static const Tabs usual = [] {
            Tabs tabs;
            for (std::size_t x = 0; x < tabs.size(); x += 8) tabs.set(x);
            return tabs;
        }();
        tabs_ = usual;
    }

    void return_to_margin() {
        set_column(cursor_.origin || cursor_.column >= margins_.left ? margins_.left : 0);
    }

    /// Moves the cursor down one line, or scrolls.
    void index() {
        cursor_row().time = now_;
        if (cursor_.row == margins_.bottom && is_between_margins()) scroll(margins_.top, 1);
        else if (cursor_.row != margins_.bottom && cursor_.row < rows_ - 1) ++cursor_.row;
        if (cursor_.row == rows_ - 1) note_place();  // all rows are in use
        stay();
    }
    void reverse_index() {
        if (cursor_.row != margins_.top || !is_between_margins()) return go_up(1);
        note_place();
        scroll(margins_.top, -1);
        stay();
    }

    void wrap_line() {
        const bool scrolls = cursor_.row == margins_.bottom && is_between_margins();
        cursor_row().drop_hidden();
        cursor_row().wrapped = scrolls || cursor_.row < rows_ - 1;  // below the region the last row is overwritten
        index();
        cursor_.column = margins_.left;
    }

    void save_cursor() {
        screen().saved = cursor_;
        if (cursor_.column != columns_ - 1) screen().saved.wrap = false;  // the wrap is pending at a margin
    }
    void restore_cursor() {
        cursor_ = screen().saved;
        set_origin(cursor_.origin);
        const bool wrap = cursor_.wrap;
        move(shown_row(), shown_column());
        cursor_.wrap = wrap && cursor_.column == columns_ - 1;
    }

    void set_origin(bool origin) {
        cursor_.origin = origin;
        settings_.set_mode(6, origin);
    }

    // --- printing

    void put_text(std::string_view text) {
        const auto put_it = [this](char32_t c) { put(c); };
        while (!text.empty()) {
            const std::size_t n = plain_length(text);
            std::size_t length = utf8_length(text.data(), text.data() + text.size());
            if (n > 0) {
                characters_.end(put_it);
                put_ascii(text.substr(0, n));
            } else if (text[0] == '\x7F') {
                characters_.end(put_it);
                last_ = 0;
            } else if (length > 0 && characters_.is_whole()) {
                put(decode(text.data(), length));
            } else {
                characters_.feed(static_cast<unsigned char>(text[0]), put_it);
                length = 1;
            }
            text.remove_prefix(std::max(n, length));
        }
    }

    [[nodiscard]] bool draws() const { return cursor_.draws[cursor_.set]; }

    void put_ascii(std::string_view text) {
        if (draws() || settings_.is_on<-4>()) {
            for (const char c : text) put(static_cast<unsigned char>(c));
            return;
        }
        const Cell pattern{' ', cursor_.pen};
        last_ = static_cast<unsigned char>(text.back());
        while (!text.empty()) {
            if (std::exchange(cursor_.wrap, false) && settings_.is_on<7>()) wrap_line();
            const int from = cursor_.column, room = right_limit() + 1 - from;
            const int n = text.size() < static_cast<std::size_t>(room) ? static_cast<int>(text.size()) : room;
            Cell *const cells = open(from, from + n);
            const char *const written = text.data();
            const auto put_one = [&](int i) {
                std::memcpy(cells + i, &pattern, sizeof pattern);  // 16 bytes at once: half the time
                cells[i].code = static_cast<unsigned char>(written[i]);
            };
            int done = 0;
            for (; done + 4 <= n; done += 4) {  // four in a turn: 5 % of all the time
                put_one(done);
                put_one(done + 1);
                put_one(done + 2);
                put_one(done + 3);
            }
            for (; done < n; ++done) put_one(done);
            text.remove_prefix(static_cast<std::size_t>(n));
            cursor_.wrap = n == room;
            cursor_.column = from + n - (cursor_.wrap ? 1 : 0);
        }
    }

    Cell *open(int from, int to) {
        Row &row = cursor_row();
        row.time = now_;
        return row.open(from, to, blank());
    }

    void put(char32_t c) {
        const char32_t shown = draws() ? draw(c) : c;
        const int width = width_of(shown);
        const auto fits = [&] { return cursor_.column + width <= right_limit() + 1; };
        if (shown >= 0x80 && shown < 0xA0) return;  // controls, which xterm ignores when they are UTF-8
        if (width == 0) return combine(shown);
        if (std::exchange(cursor_.wrap, false) && settings_.is_on<7>()) wrap_line();
        if (!fits() && settings_.is_on<7>() && cursor_.column > margins_.left) wrap_line();
        last_ = 0;
        if (!fits()) return stay();  // a wide character that has no place
        const int right = right_limit(), x = cursor_.column;
        if (settings_.is_on<-4>()) shift_characters(width);
        Cell *const cells = open(x, x + width);
        cells[0] = {shown, cursor_.pen};
        if (width == 2) cells[1] = {Cell::kRight, cursor_.pen};
        cursor_.wrap = x + width > right;
        cursor_.column = cursor_.wrap ? right : x + width;
        last_ = c;
    }

    /// The column of the character before the cursor; for a cursor in the first column, that column.
    [[nodiscard]] static int column_before(int column, bool wrap, const Row &row) {
        const int x = std::max(column - (wrap ? 0 : 1), 0);
        return x > 0 && row.is_right_half(x) ? x - 1 : x;
    }

    void combine(char32_t mark) {
        const int x = column_before(cursor_.column, cursor_.wrap, cursor_row());
        char32_t &code = cursor_row().reach(x + 1)[x].code;
        code = ink_.add_mark(code, mark);
        if (ink_.is_full()) tidy();
    }

    /// REP repeats for two lines at most. So even when each wrap moves all cells between side margins, it costs no
    /// more than moving two screens of cells.
    void repeat(char32_t c, int n) {
        if (c == 0 || width_of(c) == 0) return;
        for (int i = std::min(n, 2 * columns_); i > 0; --i) put(c);
        last_ = 0;
    }

    // --- controls and escape sequences

    void obey_control(char c) {
        switch (c) {
        case '\b': return go_left(1);
        case '\t': return go_to_tab(1);
        case '\n': case '\v': case '\f':
            index();
            return settings_.is_on<-20>() ? return_to_margin() : void();
        case '\r': return return_to_margin();
        case '\x0E': case '\x0F': cursor_.set = c == '\x0E' ? 1 : 0; return;  // SO, SI
        case '\x1A': return put(U'␦');                                  // SUB, as xterm shows it
        default: return;
        }
    }

    void obey_sequence(std::string_view bytes, char32_t last) {
        if (begins_csi(bytes)) return obey_csi(parse_csi(bytes), last);
        if (bytes.size() < 2 || bytes.size() >= Sequences::kLongest) return;
        switch (bytes[1]) {
        case ']':
            if (bytes.ends_with('\a')) obey_osc(bytes.substr(2, bytes.size() - 3));
            else if (bytes.ends_with("\x1B\\")) obey_osc(bytes.substr(2, bytes.size() - 4));
            return;
        case 'P': case 'X': case '^': case '_': return;
        case '#': return bytes == "\x1B#8" ? align() : void();
        case '(': case ')':
            if (bytes.back() < '0') return;  // cut short
            cursor_.draws[bytes[1] == '(' ? 0 : 1] = bytes.substr(2) == "0";
            return;
        default: return bytes.size() == 2 ? obey_escape(bytes[1]) : void();
        }
    }

    void obey_escape(char c) {
        switch (c) {
        case 'D': return index();
        case 'E':
            index();
            return return_to_margin();
        case 'H': return set_tab(true);
        case 'M': return reverse_index();
        case '7': return save_cursor();
        case '8': return restore_cursor();
        case '=': case '>': return settings_.set_mode(66, c == '=');
        case 'c': return reset();
        default: return;
        }
    }

    /// RIS. Each row of both screens is cleared without touching its cells; the tab stops are set by one copy.
    void reset() {
        if (alternate_) tell(Change::from_alternate);
        alternate_ = addressed_ = false;
        tell(Change::wipe);
        settings_ = Settings();
        cursor_ = Cursor();
        for (Screen &each : screens_) {
            each.saved = Cursor();
            each.keyboard = {0};
            for (Row &row : each.rows) clear(row);
        }
        history_.clear();
        reset_margins();
        reset_tabs();
    }

    void soft_reset() {  // DECSTR
        const Cursor before = cursor_;
        for (const int mode : {-2, -4, 1, 6, 7, 12, 25, 66, 69}) {
            settings_.modes[mode_index(mode)] = kModes[mode_index(mode)].initial;
        }
        settings_.modify = {};
        settings_.shape = -1;
        screen().saved = cursor_ = Cursor();
        cursor_.row = before.row;
        cursor_.column = before.column;
        cursor_.wrap = before.wrap;
        reset_margins();
    }

    // --- modes

    void set_mode(int number, bool set) {
        switch (number) {
        case 47: case 1047: case 1049: return set_alternate(number, set);
        case 1048: return set ? save_cursor() : restore_cursor();
        default: settings_.set_mode(number, set);
        }
        if (number == 6) {
            cursor_.origin = set;
            move_to(0, 0);
        }
        if (number == 69 && !set) {
            margins_.left = 0;
            margins_.right = columns_ - 1;
        }
    }

    /// Switches to one of the screens. Only 1049 saves and restores the cursor, and clears; leaving 1047 clears.
    void set_alternate(int mode, bool set) {
        if (set && mode == 1049) save_cursor();
        if (set != alternate_) {
            tell(set ? Change::to_alternate : Change::from_alternate);
            alternate_ = set;
        }
        if (set && mode == 1049) {
            wipe();
            return stay();
        }
        if (set) return;
        if (mode != 47) std::ranges::for_each(screens_[1].rows, [](Row &row) { row.clear(Pen()); });
        if (mode == 1049) restore_cursor();
        if (mode != 1049 || has_margins()) note_place();
    }

    // --- control sequences

    void obey_csi(const Csi &csi, char32_t last) {
        const int key = csi.prefix << 16 | csi.intermediate << 8 | csi.final;
        constexpr int kPrivate = '?' << 16, kGreater = '>' << 16, kDollar = '$' << 8, kSpace = ' ' << 8;
        const int first = csi.at(0, 0), n = csi.at(0, 1);
        if (key == 'm') {  // by far the most frequent
            set_renditions(cursor_.pen, ink_, csi);
            return ink_.is_full() ? tidy() : void();
        }
        switch (key) {
        case 'b': return repeat(last, n);
        case 'h': case 'l': case kPrivate | 'h': case kPrivate | 'l':
            for (std::size_t i = 0; i < csi.count; ++i) {
                set_mode(csi.prefix == 0 ? -csi.numbers[i] : csi.numbers[i], csi.final == 'h');
            }
            return;
        case kPrivate | 'J': return erase_screen(first);
        case kPrivate | 'K': return erase_line(first);
        case kPrivate | 'W': return first == 5 ? reset_tabs() : void();
        case kSpace | 'q': return settings_.set_shape(first);
        case '!' << 8 | 'p': return soft_reset();
        case kDollar | 'x': return fill_area(csi);
        case kGreater | 'm': case kGreater | 'n': return settings_.set_key_modifiers(csi);
        case kGreater | 'u': case '<' << 16 | 'u': case '=' << 16 | 'u': return screen().set_keyboard(csi);
        default: return csi.prefix == 0 && csi.intermediate == 0 ? move_by(csi, n) : void();
        }
    }

    /// The sequences that move the cursor; `n` counts from 1.
    void move_by(const Csi &csi, int n) {
        switch (csi.final) {
        case 'A': return go_up(n);
        case 'B': return go_down(n);
        case 'C': return go_right(n);
        case 'D': return go_left(n);
        case 'E': case 'F':
            if (csi.final == 'E') go_down(n);
            else go_up(n);
            return return_to_margin();
        case 'G': case '`': return move(shown_row(), n - 1);
        case 'H': case 'f': return move_to(n - 1, csi.at(1, 1) - 1);
        case 'I': return go_to_tab(n);
        case 'Z': return go_to_tab(-n);
        case 'a': return move(shown_row(), shown_column() + n);
        case 'd': return move_to(n - 1, shown_column());
        case 'e': return move(shown_row() + n, shown_column());
        case 'r': return set_margins(margins_.top, margins_.bottom, n, csi.at(1, rows_), rows_);
        case 's':
            if (settings_.is_on<69>())
                set_margins(margins_.left, margins_.right, n, csi.at(1, columns_), columns_);
            else if (csi.count == 0) save_cursor();
            return;
        case 'u': return csi.count == 0 ? restore_cursor() : void();
        default: return edit(csi, n, csi.at(0, 0));
        }
    }

    /// The sequences that change the contents of the screen; `mode` counts from 0.
    void edit(const Csi &csi, int n, int mode) {
        switch (const char key = csi.final; key) {
        case 'J': return erase_screen(mode);
        case 'K': return erase_line(mode);
        case 'X':
            erase(cursor_.row, cursor_.column, std::min(cursor_.column + n, columns_));
            cursor_row().wrapped = false;
            return;
        case '@': case 'P': return shift_characters(key == '@' ? n : -n);
        case 'L': case 'M':
            if (!is_in_region()) return;
            note_place();  // the row that becomes the last one may hold text
            set_column(margins_.left);
            return scroll(cursor_.row, key == 'L' ? -n : n);
        case 'S': case 'T': case '^':
            if (key == 'T' && csi.count > 0 && (csi.count > 1 || mode == 0)) return;  // about the mouse
            note_place();
            return scroll(margins_.top, key == 'S' ? n : -n);
        case 'g':
            if (mode == 0) set_tab(false);
            if (mode == 3) tabs_.reset();
            return;
        case 't': return (mode == 22 || mode == 23) && csi.at(1, 0) != 1 ? stack_title(mode == 22) : void();
        default: return;
        }
    }

    /// DECSTBM, DECSLRM. A region of one line or column is refused.
    void set_margins(int &low, int &high, int first, int last, int most) {
        if (last > most) last = most;
        if (last <= first) return;
        low = first - 1;
        high = last - 1;
        move_to(0, 0);
    }

    // --- titles, colours, links (OSC)

    void obey_osc(std::string_view text) {
        const auto number = parse_number(cut_field(text));
        if (!number) return;
        switch (*number) {
        case 0: case 2: return set_title(text);  // 1 is the title of the icon, which few terminals have
        case 4: return settings_.set_palette(text);
        case 8: return open_link(text);
        case 104: return settings_.reset_palette(text);
        default: return settings_.set_colours(*number, text);
        }
    }

    void set_title(std::string_view text) {
        std::size_t length = std::min(text.size(), kMostTitle);
        while (length > 0 && length < text.size() && (text[length] & 0xC0) == 0x80) --length;
        title_ = text.substr(0, length);
    }

    void stack_title(bool push) {
        if (push) {
            if (titles_.size() == kMostTitles) titles_.erase(titles_.begin());
            titles_.push_back(title_);
        } else if (!titles_.empty()) {
            title_ = titles_.back();
            titles_.pop_back();
        }
    }

    /// OSC 8: parameters, a semicolon, and the address; without an address it closes the link.
    void open_link(std::string_view text) {
        const bool is_link = text.find(';') < text.size() - 1 && text.size() <= kMostLinkLength;
        ink_.set_extra(cursor_.pen, {.underline_colour = ink_.extra(cursor_.pen).underline_colour,
                                     .link = std::string(is_link ? text : "")});
        if (ink_.is_full()) tidy();
    }

    using Tabs = std::bitset<kMostColumns>;

    int columns_ = 0, rows_ = 0;
    Margins margins_;
    bool alternate_ = false;      // which screen is shown
    bool addressed_ = false;      // the program depends on places of the main screen
    char32_t last_ = 0;           // the character for REP: the last one, if nothing has come since; else 0
    std::array<Screen, 2> screens_;  // main, alternate
    Ink ink_;
    Cursor cursor_;
    History history_;
    std::size_t history_most_;
    Tabs tabs_;
    Settings settings_;
    std::optional<std::string> title_;  // none: the terminal's own
    std::vector<std::optional<std::string>> titles_;
    Sequences sequences_;
    Characters characters_;
    Watcher watcher_;
    Micros now_ = 0;
};

/// Resizes as xterm does: lines are not broken anew. When there are fewer rows, rows above the cursor go into the
/// history; when there are more, they come back. In a wider window, text with a pending wrap goes on behind the
/// hidden cells, which are seen again.
void Model::resize(int columns, int rows) {
    columns = std::clamp(columns, 1, kMostColumns);
    rows = std::clamp(rows, 1, std::min(kMostCells / columns, kMostRows));
    if (rows == rows_ && columns == columns_) return;
    const int gone = std::max(cursor_.row - (rows - 1), 0), below = rows + (alternate_ ? 0 : gone);
    bool lost = false;
    for (int y = below; y < rows_; ++y) lost = lost || !text_of(main_row(y)).empty();
    if (lost) tell(Change::cut);
    const int old_rows = std::exchange(rows_, rows), old_columns = std::exchange(columns_, columns);
    if (old_rows == 0) reset_tabs();
    std::vector<Row> back;
    if (!alternate_) keep_lines(gone);
    for (int y = old_rows; y < rows_ && !alternate_ && history_.size() > 0; ++y) {
        tell(Change::row_returns);
        back.push_back(history_.pop());
    }
    std::ranges::reverse(back);
    cursor_.row = std::min(cursor_.row - gone + static_cast<int>(back.size()), rows_ - 1);
    screen().fit(columns_, rows_, gone, std::move(back));
    screens_[!alternate_].fit(columns_, rows_, 0, {});
    if (cursor_.wrap && cursor_.column == old_columns - 1 && columns_ != old_columns) {
        cursor_.column = std::max(cursor_.column, std::min(cursor_row().used, columns_) - 1);
        if (cursor_.column < columns_ - 1) set_column(cursor_.column + 1);
    }
    cursor_.column = std::min(cursor_.column, columns_ - 1);
    last_ = 0;
    addressed_ = addressed_ || main_row(rows_ - 1).used > 0;
    reset_margins();
    set_origin(false);
    settle();
}

// === 7. Painting ================================================================================================
// A paint brings a terminal that shows a shell's prompt to the state of the model, without asking it anything. It
// prints the lines that scrolled off and then the lines of the screen, as a program would: so the previous
// contents of the user's terminal scroll into its scrollback, and the terminal knows which lines wrapped. When the
// program has only printed lines, that is all, and they stand under the command. Else all rows are printed, blank
// ones too: then each row stands where the program thinks it does, whatever row the cursor was in.
//
// Terminals do not agree on the width of each character. So each row is printed as text from its left edge on. A
// gap of two blanks or more is crossed by going to the number of the column behind it. In the row with the cursor,
// the text left of the cursor is printed last, which leaves the cursor where the terminal itself thinks that the
// text ends.
//
// The order of the rest avoids side effects. Settings come before any text. Margins and origin mode move the
// cursor, and come behind the rows. Insert mode and character sets change what is printed. A wrap becomes pending
// only by printing the last column, and REP needs a character behind which nothing has come. An unfinished
// character or sequence is begun again at the very end.

constexpr char kScreenIsWiped[] = "\x1B[H\x1B[2J";
constexpr char kNoKeyboards[] = "\x1B[<99u\x1B[=0u";

/// Takes back any settings of a program; except margins and origin mode, which move the cursor, the title, and
/// modes that the user configures.
constexpr std::string_view kTakeBack =
    "\x1B[0 q\x1B]8;;\x1B\\\x1B]104\x1B\\"                   // shape of the cursor, link, palette
    "\x1B]110\x1B\\\x1B]111\x1B\\\x1B]112\x1B\\\x1B]117\x1B\\\x1B]119\x1B\\"  // colours
    "\x1B[?1;4;5;41;42;44;45;66;69;80;1045l\x1B>"            // cursor keys, reverse video ... side margins; keypad
    "\x1B[?9;1000;1001;1002;1003;1004;1005;1006;1015;1016l"  // mouse, focus
    "\x1B[?2004;2026;2031;2048;9001l"                        // paste ... Win32 keys
    "\x1B[?7;25h\x1B[2;4;20l\x1B[12h\x1B[?5W"                 // autowrap, cursor; keyboard, insert; tab stops
    "\x1B(B\x1B)B\x1B*B\x1B+B\x0F\x1B[>m\x1B[>4m\x1B[>f\x1B[m";  // character sets, xterm's keys, rendition

/// Writes characters and lines with their renditions.
class Brush {
public:
    /// `crosses`: gaps are crossed by the number of a column. Lines that scrolled off are printed without that.
    Brush(const Ink &ink, int columns, bool crosses)
        : ink_(ink), columns_(static_cast<std::size_t>(columns)), crosses_(crosses) {}

    [[nodiscard]] std::string &out() { return out_; }

    void set_pen(const Pen &pen) {
        if (pen == pen_) return;
        const Ink::Extra &extra = ink_.extra(pen), &last = ink_.extra(pen_);
        if (extra.link != last.link) out_ += "\x1B]8;" + (extra.link.empty() ? ";" : extra.link) + "\x1B\\";
        const bool same = pen.foreground == pen_.foreground && pen.background == pen_.background &&
                          pen.flags == pen_.flags && extra.underline_colour == last.underline_colour;
        pen_ = pen;
        if (!same) put_rendition();
    }

    /// Writes the whole rendition by SGR.
    void put_rendition() {
        std::string text;
        for (const Rendition &each : kRenditions) {
            if ((pen_.flags & each.flag) != 0) text += ";" + std::to_string(each.sets);
        }
        const int underline = (pen_.flags & Pen::underline) / Pen::underline_once;
        if (underline == 1) text += ";4";
        if (underline == 2) text += ";21";  // xterm does not know 4:2
        if (underline > 2) text += ";4:" + std::to_string(underline);
        text += colour_text(30, pen_.foreground) + colour_text(40, pen_.background);
        text += colour_text(50, ink_.extra(pen_).underline_colour);
        out_ += "\x1B[" + (text.empty() ? "" : "0" + text) + "m";
    }

    void put_cell(const Cell &cell) {
        set_pen(cell.pen);
        ink_.append_text(cell, out_);
        is_sure_ = is_sure_ && cell.code < 0x80;
    }

    /// Cells [from, to) of a row, which is blank behind `cells`; the cursor is at `from`.
    void put_cells(std::span<const Cell> cells, std::size_t from, std::size_t to, const Pen &rest) {
        const auto cell = [&](std::size_t x) { return x < cells.size() ? cells[x] : Cell{' ', rest}; };
        for (std::size_t x = from; x < to;) {
            std::size_t end = x;
            while (end < to && cell(end).code == ' ' && cell(end).pen == cell(x).pen) ++end;
            const bool is_gap = crosses_ && end >= x + 2 && end < columns_;
            const bool is_empty = is_gap && cell(x).pen == Pen();
            for (end = std::max(end, x + 1); x < end && !is_empty; ++x) put_cell(cell(x));
            if (is_empty || (is_gap && !is_sure_)) put_column(x = end);
        }
    }

    void put_column(std::size_t x) {
        out_ += "\x1B[" + std::to_string(x + 1) + "G";
        is_sure_ = true;
    }

    static bool has_background(const Cell &cell) { return cell.pen.background != 0; }

    /// A line to be printed.
    struct Line {
        std::span<const Cell> cells;
        Pen fill;                      // of the blanks behind the cells
        bool is_wrapped_into = false;  // the line before has wrapped into it, and may have coloured all of it
        std::size_t wraps_at = 0;      // it is filled up to here, so that the next character wraps; 0: it ends
        std::size_t begin = 0;         // the first column that is printed
    };

    void put_line(const Line &line) {
        const std::size_t size = line.cells.size();
        const Pen rest = size < columns_ ? line.fill : size == columns_ ? erased_pen(line.cells.back()) : Pen();
        const bool wraps = line.wraps_at > 0;
        const auto cells = wraps ? line.cells.first(std::min(size, line.wraps_at))
                                 : without_blanks(line.cells, rest);
        const std::size_t end = std::max({cells.size(), line.wraps_at, line.begin});
        is_sure_ = true;
        const Cell first = cells.empty() ? Cell{' ', rest} : cells[0];
        const bool prints_blanks = line.is_wrapped_into && has_background(first);
        const bool crosses = std::exchange(crosses_, crosses_ && !prints_blanks);
        const bool is_seen = end > line.begin || rest.background != 0;
        if (line.is_wrapped_into) put_cell(first);  // only a character makes the line before wrap
        else if (line.begin > 0 && line.begin < columns_ && is_seen) put_column(line.begin);
        put_cells(cells, line.is_wrapped_into ? 1 : line.begin, end, rest);
        crosses_ = crosses;
        if (wraps) return;
        const bool may_be_coloured = (line.is_wrapped_into || cells.size() > columns_) &&
                                     std::ranges::any_of(cells, has_background);
        const bool at_edge = end > 0 && end % columns_ == 0;
        if (!at_edge && (rest.background != 0 || may_be_coloured)) {
            set_pen(rest);
            out_ += "\x1B[K";
        }
        set_pen(Pen());
    }

private:
    /// The pen that erasing would leave in a cell that looks like this one. A space with only a background is
    /// painted as an erased cell, even if it was written.
    [[nodiscard]] static Pen erased_pen(const Cell &cell) {
        return cell.code == ' ' && cell.pen == Pen{.background = cell.pen.background} ? cell.pen : Pen();
    }

    /// `base`: 30 for the foreground, 40 for the background, 50 for an underline. The colour of an underline is
    /// written with colons and a colour space, so that a terminal that does not know it ignores all of it.
    static std::string colour_text(std::uint32_t base, std::uint32_t colour) {
        const char *const between = base == 50 ? ":" : ";";
        const auto number = [between](std::uint32_t n) { return between + std::to_string(n); };
        if (colour == 0) return "";
        const std::uint32_t first = colour <= 8 ? base : base + 60 - 8;  // 30 to 37, and the bright ones 90 to 97
        if (base < 50 && colour <= 16) return ";" + std::to_string(first + colour - 1);
        const std::string text = ";" + std::to_string(base + 8);
        if (colour < Pen::kRgb) return text + number(5) + number(colour - 1);
        const std::string rgb = number(colour >> 16 & 255) + number(colour >> 8 & 255) + number(colour & 255);
        return text + number(2) + (base == 50 ? ":" : "") + rgb;
    }

    const Ink &ink_;
    std::size_t columns_;
    bool crosses_;
    Pen pen_;
    bool is_sure_ = true;  // all terminals agree on the cursor's column: only ASCII since it was last set
    std::string out_;
};

class Painter {
public:
    explicit Painter(const Model &model)
        : model_(model), brush_(model.ink_, model.columns_, true), out_(brush_.out()),
          aligned_(model.addressed_) {}

    std::string paint(std::size_t history_bytes, bool used) {
        const Screen &main = model_.screens_[0];
        if (used) start_over();
        else out_ += "\r\x1B[m\x1B[J";
        put_tabs();
        put_titles();
        put_settings();
        put_keyboard(main.keyboard);
        const bool goes_on = !used && put_history(history_bytes);
        const int with_cursor = std::max(model_.alternate_ ? 0 : model_.cursor_.row, saved_on(main).row);
        const int last = aligned_ ? model_.rows_ - 1 : last_row(main, with_cursor);
        aligned_ = last == model_.rows_ - 1;
        put_rows(main, last, goes_on);
        if (model_.alternate_) enter_alternate();
        else visit_alternate();
        put_saved(saved_on(model_.screens_[model_.alternate_]));
        put_margins();
        put_cursor();
        out_ += model_.characters_.unfinished();
        out_ += model_.sequences_.unfinished();
        return std::move(out_);
    }

    std::string undo() {
        const Cursor &left = model_.alternate_ ? model_.screens_[0].saved : model_.cursor_;  // the main screen's
        const bool margins = model_.has_margins();
        if (!model_.sequences_.unfinished().empty()) out_ += '\x18';
        if (margins || model_.cursor_.origin) out_ += "\x1B[?6l\x1B[r";
        if (model_.alternate_) out_ += undo_keyboard(model_.screens_[1].keyboard) + "\x1B[?1049l";
        out_ += undo_keyboard(model_.screens_[0].keyboard);
        undo_settings();
        if (left.origin) out_ += "\x1B[?6l";
        if (left.origin || (margins && !model_.alternate_)) put_place(left.row, left.column);
        if (left.pen != Pen()) out_ += "\x1B]8;;\x1B\\\x1B[m";
        put_sets(left, Cursor());
        return std::move(out_);
    }

private:
    // --- lines

    /// Prepares a terminal that shows a session already, perhaps in the middle of a sequence: takes all settings
    /// back, wipes it, and goes to its first row.
    void start_over() {
        out_.append("\x18\x1B\\").append(kNoKeyboards).append("\x1B[?1049l").append(kNoKeyboards);
        out_.append("\x1B[?12;1007;1034;1036;1039r");  // as attach has kept them
        out_.append(kTakeBack).append("\x1B[?6l\x1B[r").append(kScreenIsWiped).append("\x1B" "7");
    }

    /// Prints the last lines that scrolled off, `most` bytes of them. Gives whether they go on in the first row.
    bool put_history(std::size_t most) {
        std::vector<std::string> lines;
        std::size_t bytes = 0;
        for (std::size_t i = model_.history_.size(); i > 0; --i) {
            std::string line = history_line(i - 1);
            bytes += line.size();
            if (bytes > most) break;
            lines.push_back(std::move(line));
        }
        std::ranges::reverse(lines);
        for (const std::string &line : lines) out_ += line;
        return !lines.empty() && model_.history_.goes_on(model_.history_.size() - 1, model_.columns_);
    }

    [[nodiscard]] std::string history_line(std::size_t i) const {
        const History &history = model_.history_;
        const History::Line &line = history.line(i);
        const bool goes_on = history.goes_on(i, model_.columns_), is_newest = i + 1 == history.size();
        const std::span<const Cell> cells = history.cells(line);
        const std::span<const Cell> next = is_newest ? model_.row(0).text() : history.cells(history.line(i + 1));
        Brush brush(model_.ink_, model_.columns_, false);
        const std::size_t width = line.columns == model_.columns_ ? fill_of(cells, line.fill, next) : cells.size();
        brush.put_line({.cells = cells, .fill = line.fill, .is_wrapped_into = i > 0 && history.goes_on(i - 1, 0),
                        .wraps_at = goes_on ? width : 0});
        brush.set_pen(Pen());
        return brush.out() + (goes_on ? "" : "\r\n");
    }

    /// The columns that a line must fill so that `next` wraps. The last column is left out when it is blank and a
    /// wide character follows, which has no place there. (The model cannot tell whether that blank was written.)
    [[nodiscard]] std::size_t fill_of(std::span<const Cell> cells, const Pen &fill,
                                      std::span<const Cell> next) const {
        const auto columns = static_cast<std::size_t>(model_.columns_);
        const Cell last = cells.size() < columns ? Cell{' ', fill} : cells[columns - 1];
        const bool is_short = columns > 1 && last == Cell();
        const bool next_is_wide = next.size() > 1 && next[1].code == Cell::kRight;
        return columns - (is_short && next_is_wide && std::ranges::none_of(cells, Brush::has_background) ? 1 : 0);
    }

    /// Prints the rows up to `last`. In the row with the cursor, the text left of the cursor waits for
    /// put_cursor(), unless that would break a wrapped line.
    void put_rows(const Screen &screen, int last, bool from_wrap) {
        const bool shows_cursor = &screen == &model_.screens_[model_.alternate_];
        for (int y = 0; y <= last; ++y) {
            const Row &row = screen.row(y);
            const bool goes_on = row.wrapped && y < last;
            const std::size_t wraps_at = goes_on ? fill_of(row.shown(), row.fill, screen.row(y + 1).shown()) : 0;
            const bool is_last = shows_cursor && y == model_.cursor_.row;
            const bool waits = is_last && !from_wrap && !goes_on && !model_.is_narrowed();
            const std::size_t size = out_.size();
            brush_.put_line({.cells = row.shown(), .fill = row.fill, .is_wrapped_into = from_wrap,
                             .wraps_at = wraps_at, .begin = waits ? text_end() : 0});
            at_start_ = !from_wrap && out_.size() == size;
            if (!goes_on && y < last) out_ += "\r\n";
            from_wrap = goes_on;
        }
        row_ = last;
    }

    /// The last row that must be printed: `least`, or a later one with text, or one that text wraps into.
    [[nodiscard]] int last_row(const Screen &screen, int least) const {
        int last = model_.rows_ - 1;
        while (last > least && is_blank(screen.row(last)) && !screen.row(last - 1).wrapped) --last;
        return last;
    }

    [[nodiscard]] static bool is_blank(const Row &row) {
        const auto blank = [](const Cell &cell) { return cell == Cell(); };
        return std::ranges::all_of(row.shown(), blank) && (row.used >= row.columns || row.fill == Pen());
    }

    // --- the cursor

    void put_number(const char *before, int number, char final) {
        out_ += before + std::to_string(number) + final;
    }

    void put_place(int row, int column) {
        out_ += "\x1B[" + std::to_string(row + 1) + ";" + std::to_string(column + 1) + "H";
    }

    void go(int row, int column) {
        const bool is_there = std::exchange(at_start_, column == 0) && column == 0 && row == row_;
        if (is_there) return;
        if (aligned_) put_place(row, column);
        else if (row != row_) put_number("\x1B[", std::abs(row - row_), row < row_ ? 'A' : 'B');
        if (!aligned_ && column > 0) put_number("\x1B[", column + 1, 'G');
        else if (!aligned_) out_ += "\r";
        row_ = row;
    }

    void put_sets(const Cursor &from, const Cursor &to) {
        for (std::size_t i = 0; i < to.draws.size(); ++i) {
            if (from.draws[i] == to.draws[i]) continue;
            out_.append("\x1B").append(i == 0 ? "(" : ")").append(to.draws[i] ? "0" : "B");
        }
        if (from.set != to.set) out_ += to.set == 1 ? '\x0E' : '\x0F';
    }

    /// A screen's saved cursor as it would be restored now, when the window may have another size.
    [[nodiscard]] Cursor saved_on(const Screen &screen) const {
        Cursor saved = screen.saved;
        saved.row = std::min(saved.row, model_.rows_ - 1);
        saved.column = std::min(saved.column, model_.columns_ - 1);
        saved.wrap = saved.wrap && saved.column == model_.columns_ - 1;
        return saved;
    }

    /// Goes to the saved cursor's place and saves it. Margins are not set yet.
    void put_saved(const Cursor &saved) {
        if (saved == Cursor() && !saved_another_) return;  // some terminals save one cursor for both screens
        place_saved(saved);
        out_ += "\x1B" "7";
        leave_saved(saved);
    }
    void place_saved(const Cursor &saved) {
        const Row &row = model_.screens_[on_alternate_].row(saved.row);
        const int column = saved.wrap ? Model::column_before(saved.column, true, row) : saved.column;
        if (saved.origin) out_ += "\x1B[?6h";
        at_start_ = at_start_ && !saved.origin;  // DECOM moves the cursor home
        go(saved.row, column);
        at_start_ = false;
        if (saved.wrap) brush_.put_cell(row.at(column));
        brush_.set_pen(saved.pen);
        put_sets(Cursor(), saved);
    }
    void leave_saved(const Cursor &saved) {
        if (saved.origin) out_ += "\x1B[?6l";
        put_sets(saved, Cursor());
        brush_.set_pen(Pen());
    }

    /// Switches from the main screen, whose cursor 1049 saves.
    void enter_alternate() {
        const Cursor saved = saved_on(model_.screens_[0]);
        place_saved(saved);
        out_ += "\x1B[?1049h";
        leave_saved(saved);
        out_ += kScreenIsWiped;
        aligned_ = on_alternate_ = true;
        put_screen_of_alternate();
    }

    void put_screen_of_alternate() {
        const Screen &alternate = model_.screens_[1];
        put_rows(alternate, last_row(alternate, 0), false);
        put_keyboard(alternate.keyboard);
    }

    /// Paints what a program left on the alternate screen, which is not shown now, and returns.
    void visit_alternate() {
        const Screen &alternate = model_.screens_[1];
        const Cursor saved = saved_on(alternate);
        const bool blank = std::ranges::all_of(alternate.rows, is_blank);
        if (blank && saved == Cursor() && alternate.keyboard == std::vector{0}) return;
        const bool aligned = std::exchange(aligned_, true);
        const int row = row_;
        out_ += "\x1B[?1049h\x1B[H";
        on_alternate_ = true;
        put_screen_of_alternate();
        put_saved(saved);
        out_ += blank ? "\x1B[?1049l" : "\x1B[?47l";
        saved_another_ = true;
        on_alternate_ = at_start_ = false;
        aligned_ = aligned;
        row_ = row;
    }

    /// The column up to which put_cursor() prints the cursor's row.
    [[nodiscard]] std::size_t text_end() const {
        const int x = model_.cursor_.wrap ? model_.columns_ : model_.cursor_.column;
        const bool is_inside = x < model_.columns_ && model_.row(model_.cursor_.row).is_right_half(x);
        const int end = is_inside ? x + 1 : x;
        return static_cast<std::size_t>(end);
    }

    /// Prints the text left of the cursor, which leaves the cursor there. (Side margins would be in the way of the
    /// text: then only the character before the cursor is printed, if that matters.) When REP could follow, the
    /// last character is printed at the very end, under the same modes as the program had. Without autowrap, no
    /// wrap is pending.
    void put_cursor() {
        const Cursor &cursor = model_.cursor_;
        const Row &row = model_.row(cursor.row);
        const int before = Model::column_before(cursor.column, cursor.wrap, row);
        const int shift = cursor.column - model_.shown_column();
        const bool repeatable = model_.last_ != 0, narrowed = model_.is_narrowed();
        const int from = !narrowed ? 0 : cursor.wrap || repeatable ? before : cursor.column;
        const int end = !narrowed ? static_cast<int>(text_end()) : cursor.column + (cursor.wrap ? 1 : 0);
        const int to = repeatable ? before : end;
        go(model_.shown_row(), from - shift);
        brush_.put_cells(row.shown(), static_cast<std::size_t>(from), static_cast<std::size_t>(to), row.fill);
        if (!cursor.wrap && end != cursor.column) put_number("\x1B[", model_.shown_column() + 1, 'G');
        const bool inserts = model_.settings_.is_on<-4>();
        if (repeatable && inserts) put_number("\x1B[", std::max(width_of(model_.last_), 1), 'P');
        brush_.set_pen(cursor.pen);
        if (!repeatable && to > from) brush_.put_rendition();  // a sequence: REP has nothing to repeat then
        put_sets(Cursor(), cursor);
        for (const int mode : {-4, 7}) put_changed_mode(mode_index(mode));
        if (repeatable) put_repeatable(row.at(before));
    }

    /// Prints the last character as the program wrote it, which the character set may show as another one, and its
    /// marks.
    void put_repeatable(const Cell &cell) {
        std::array<char, 4> bytes{};
        std::string text;
        out_.append(bytes.data(), put_utf8(bytes.data(), model_.last_));
        model_.ink_.append_text(cell, text);
        if (cell.code >= Cell::kMarked) out_ += text.substr(utf8_length(text.data(), text.data() + text.size()));
    }

    // --- the rest

    void put_keyboard(const std::vector<int> &stack) {
        if (stack[0] != 0) put_number("\x1B[=", stack[0], 'u');
        for (std::size_t i = 1; i < stack.size(); ++i) put_number("\x1B[>", stack[i], 'u');
    }
    static std::string undo_keyboard(const std::vector<int> &stack) {
        const std::string popped = stack.size() > 1 ? "\x1B[<" + std::to_string(stack.size() - 1) + "u" : "";
        return popped + (stack[0] != 0 ? "\x1B[=0u" : "");
    }

    /// Sets tab stops. When the program has cleared them, all are cleared first: a terminal has more than the
    /// window shows.
    void put_tabs() {
        const bool cleared = !model_.tabs_[kMostColumns - 8];
        const std::size_t size = out_.size();
        if (cleared) out_ += "\x1B[3g";
        for (int x = 0; x < model_.columns_; ++x) {
            const bool set = model_.tabs_[static_cast<std::size_t>(x)];
            if (set == (!cleared && x % 8 == 0)) continue;
            put_number("\x1B[", x + 1, 'G');
            out_ += set ? "\x1BH" : "\x1B[g";
        }
        if (out_.size() > size) out_ += "\r";
    }

    void put_title(const std::optional<std::string> &title, const char *then) {
        if (title) out_ += "\x1B]2;" + *title + "\x1B\\";
        out_ += then;
    }
    void put_titles() {
        for (const auto &title : model_.titles_) put_title(title, "\x1B[22;0t");
        put_title(model_.title_, "");
    }

    void put_mode(int number, bool set) {
        if (number == 66) out_ += set ? "\x1B=" : "\x1B>";
        else put_number(number < 0 ? "\x1B[" : "\x1B[?", std::abs(number), set ? 'h' : 'l');
    }
    void put_changed_mode(std::size_t i) {
        const auto &modes = model_.settings_.modes;
        if (modes[i] != kModes[i].initial) put_mode(kModes[i].number, modes[i] == 1);
    }

    /// All settings except those of the cursor: insert, autowrap, origin, margins.
    void put_settings() {
        const Settings &settings = model_.settings_;
        if (settings.shape >= 0) out_ += "\x1B[" + std::to_string(settings.shape) + " q";  // before mode 12
        for (std::size_t i = 0; i < kModes.size(); ++i) {
            const int number = kModes[i].number;
            if (number != -4 && number != 7 && number != 6 && number != 69) put_changed_mode(i);
        }
        for (std::size_t i = 0; i < settings.modify.size(); ++i) {
            const std::string which = "\x1B[>" + std::to_string(i);
            if (settings.modify[i] < 0) out_ += which + "n";
            if (settings.modify[i] > 0) out_ += which + ";" + std::to_string(settings.modify[i] - 1) + "m";
        }
        for (const auto &[which, colour] : settings.colours) {
            out_.append("\x1B]").append(which).append(";").append(colour).append("\x1B\\");
        }
    }

    /// Undoes each setting that the program chose.
    void undo_settings() {
        const Settings &settings = model_.settings_;
        for (std::size_t i = 0; i < kModes.size(); ++i) {
            const auto [number, initial, group] = kModes[i];
            const bool set = initial < 0 ? settings.modes[i] == 0 : initial == 1;
            if (settings.modes[i] != initial) put_mode(number, set);
        }
        for (std::size_t i = 0; i < settings.modify.size(); ++i) {
            if (settings.modify[i] != 0) out_ += "\x1B[>" + std::to_string(i) + "m";
        }
        if (settings.shape > 0) out_ += "\x1B[0 q";
        for (const auto &[which, colour] : settings.colours) {
            out_ += "\x1B]1" + (which.size() > 2 ? "0" + which : which) + "\x1B\\";  // 4;n by 104;n, 10 by 110
        }
    }

    void put_margins() {
        const std::size_t size = out_.size();
        const auto range = [this](int first, int last, char final) {
            out_ += "\x1B[" + std::to_string(first + 1) + ";" + std::to_string(last + 1) + final;
        };
        const Margins &margins = model_.margins_;
        if (model_.settings_.is_on<69>()) out_ += "\x1B[?69h";
        if (model_.is_narrowed()) range(margins.left, margins.right, 's');
        if (margins.top > 0 || margins.bottom < model_.rows_ - 1) range(margins.top, margins.bottom, 'r');
        if (model_.cursor_.origin) out_ += "\x1B[?6h";
        at_start_ = at_start_ && out_.size() == size;
    }

    const Model &model_;
    Brush brush_;
    std::string &out_;            // the output of the brush
    bool aligned_;                // the rows of the terminal are those of the model
    bool on_alternate_ = false;   // the alternate screen is being printed
    bool saved_another_ = false;  // the main screen's saved cursor has been overwritten
    bool at_start_ = true;        // the cursor is in the first column of `row_`
    int row_ = 0;                 // the model's row in which the cursor is
};

std::string Model::paint(std::size_t history_bytes, bool used) const {
    return Painter(*this).paint(history_bytes, used);
}
std::string Model::undo() const { return Painter(*this).undo(); }
std::string Model::row_text(int y, bool colours) const {
    const Row &row = this->row(y);
    Brush brush(ink_, columns_, false);
    if (!colours) {
        std::string text;
        for (const Cell &cell : row.shown()) ink_.append_text(cell, text);
        return text.erase(text.find_last_not_of(' ') + 1);
    }
    const bool is_full = std::ssize(row.shown()) == columns_;
    const bool to_the_edge = (is_full ? row.shown().back().pen : row.fill).background != 0;
    brush.put_line({.cells = row.shown(), .fill = row.fill,
                    .wraps_at = to_the_edge ? static_cast<std::size_t>(columns_) : 0});
    brush.set_pen(Pen());
    return brush.out();
}

/// A model as large as the recording's first window.
Model model_for(const Header &header, std::uint64_t history = 0) {
    return {header.columns > 0 ? header.columns : 80, header.rows > 0 ? header.rows : 24, history};
}

/// Resizes the model if the event is a resize.
void resize(Model &model, const Event &event) {
    const auto size = event.kind == 'r' ? parse_size(event.bytes) : std::nullopt;
    if (size) model.resize(size->first, size->second);
}

// === 8. cat =====================================================================================================

/// The options of all commands.
struct Options {
    std::vector<const char *> files;
    bool follow = false, json = false, force = false;
    std::uint64_t from = 0, to = UINT64_MAX;
    bool loop = false, pause_on_markers = false;
    Micros speed = kSecond;  // in millionths: twice as fast is 2,000,000
    Micros idle = -1;        // the longest pause; -1: as the header says
    Micros start = 0;
    std::string_view type;
    std::string out = "-";
    std::uint64_t history = 64 << 10;  // bytes of the lines that scrolled off
    bool colours = false, times = false;
    const char *until = nullptr;  // a POSIX extended regular expression
    Micros within = kForever;
};

/// Waits `millis` for more of the recording, or less, when a pipe has more; false when the reader of `out` is
/// gone.
bool pause_for_more(const RecordingReader &recording, const Output &out, int millis = kPollMillis) {
    const int pipe = recording.window().seekable() ? -1 : recording.window().fd();
    std::array<pollfd, 2> both{{{pipe, POLLIN, 0}, {out.fd(), 0, 0}}};
    ::poll(both.data(), both.size(), millis);  // poll(2) always tells errors and hang-ups
    return (both[1].revents & (POLLERR | POLLHUP)) == 0;
}

/// Calls visit(event) for each event, for as long as it gives true and the recording goes on; waits for a live
/// one. Gives the last result of reading: `some` when visit() wanted no more, `wait` when the reader of `out` is
/// gone.
template <typename Visit> Got for_each_event(RecordingReader &recording, Output &out, Visit &&visit) {
    Event event;
    const int millis = recording.window().seekable() ? kPollMillis : -1;
    while (true) {
        const Got got = recording.next(event);
        const bool waits = got == Got::wait && out.flush() && pause_for_more(recording, out, millis);
        if (!waits && (got != Got::some || !visit(event))) return got;
    }
}

/// The part that lies in [from, to) of `bytes`, which begin at `position` of the output.
std::string_view clip(std::string_view bytes, std::uint64_t position, std::uint64_t from, std::uint64_t to) {
    if (to - position < bytes.size()) bytes = bytes.substr(0, to - position);
    if (position < from) bytes.remove_prefix(std::min<std::uint64_t>(bytes.size(), from - position));
    return bytes;
}

/// After a loop over events: writes the rest of the output, and gives the exit status.
int finish(const RecordingReader &recording, Output &out, Got got) {
    out.flush();
    if (got == Got::end && recording.died()) complain(recording.name(), "the session died: it has no exit event");
    return got == Got::bad ? 1 : out.status();
}

/// Writes the wanted part of `file`. `position` is that of its first byte in the whole output; moves it on.
int cat_file(const char *file, const Options &options, Output &out, std::uint64_t &position) {
    RecordingReader recording;
    if (!recording.open(file, options.follow)) return 1;
    const auto visit = [&](const Event &event) {
        if (!event.output) return true;
        const std::string_view bytes = clip(event.bytes, position, options.from, options.to);
        position += event.bytes.size();
        return out.put(bytes) && position < options.to;
    };
    return finish(recording, out, position < options.to ? for_each_event(recording, out, visit) : Got::some);
}

int cat(const Options &options) {
    Output out(STDOUT_FILENO, "standard output");
    std::uint64_t position = 0;
    int status = 0;
    for (const char *file : options.files) status = std::max(status, cat_file(file, options, out, position));
    return status;
}

// === 9. info ====================================================================================================
// A session runs for as long as its shim holds the lock: no pid file that could be stale, no process to ask.

struct Summary {
    std::string name;
    Header header;
    std::optional<pid_t> writer;
    std::string status;      // of the `x` event
    std::uint64_t size = 0;  // of the file
    std::uint64_t bytes = 0, events = 0;
    Micros length = 0, last_output = -1;
    std::int64_t last_date = -1;  // of the last output, in seconds since 1970
};

/// Reads all of the recording, or its last MiB, which is enough to know its length and its status.
Got read_events(RecordingReader &recording, Output &out, Summary &summary, bool all) {
    if (!all) recording.jump_to_tail();
    return for_each_event(recording, out, [&](const Event &event) {
        summary.events += event.kind == 'b' ? 0 : 1;
        summary.length = event.time;
        if (event.kind == 'x') summary.status = event.bytes;
        else if (event.kind != '?') summary.status.clear();  // the session was not over then
        if (!event.output) return true;
        summary.bytes += event.bytes.size();
        summary.last_output = event.time;
        if (event.date > event.time) summary.last_date = event.date / kSecond;
        return true;
    });
}

bool summarize(const std::string &file, Output &out, Summary &summary, bool all = true) {
    RecordingReader recording;
    if (!recording.open(file)) return false;
    const Got got = read_events(recording, out, summary, all);
    if (!all && got == Got::end && summary.events == 0) return summarize(file, out, summary);
    summary.name = recording.name();
    summary.header = recording.header();
    summary.size = recording.window().size();
    if (summary.status.empty()) summary.writer = recording.writer();  // after that, it only sees to its clients
    return got != Got::bad;
}

std::string format_date(std::int64_t seconds, const char *format) {
    const auto when = static_cast<std::time_t>(seconds);
    std::array<char, 64> text{};
    std::tm local{};
    if (seconds < 0 || ::localtime_r(&when, &local) == nullptr) return "-";
    return {text.data(), std::strftime(text.data(), text.size(), format, &local)};
}

constexpr char kDate[] = "%Y-%m-%d %H:%M:%S";

/// Hours, minutes and seconds.
std::string format_duration(Micros time) {
    std::array<char, 32> text{};
    const auto seconds = static_cast<long long>(time / kSecond);
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", seconds / 3600, seconds / 60 % 60, seconds % 60);
    return text.data();
}

/// A number of bytes in four characters, in units of 1024.
std::string format_bytes(std::uint64_t bytes) {
    std::array<char, 32> text{};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 999.5) {
        value /= 1024;
        ++unit;
    }
    std::snprintf(text.data(), text.size(), unit > 0 && value < 9.95 ? "%.1f" : "%.0f", value);
    return text.data() + std::string(unit > 0 ? 1 : 0, " KMGTPE"[unit]);
}

std::string format_size(int columns, int rows) { return std::to_string(columns) + "x" + std::to_string(rows); }

std::string describe_state(const Summary &s) {
    if (s.writer) return "running (pid " + std::to_string(*s.writer) + ", " + printable(s.header.address) + ")";
    if (!s.status.empty()) return "ended (status " + printable(s.status) + ")";
    return s.header.pid != 0 ? "died" : "ended";
}

/// What is known of a recording: for a person, under a label, and for a script, under a key.
struct Fact {
    std::string_view label;
    std::string text;
    std::string_view key;
    std::string json;
};

std::vector<Fact> facts_of(const Summary &s) {
    const Header &h = s.header;
    const auto status = parse_number(s.status);
    const auto or_null = [](bool known, const std::string &json) { return known ? json : "null"; };
    const auto date_or_null = [&](std::int64_t date) { return or_null(date >= 0, std::to_string(date)); };
    const std::string length = format_seconds(s.length), version = std::to_string(h.version);
    return {
        {"file", printable(s.name) + " (asciicast v" + version + ")", "file", json_quote(s.name)},
        {"", "", "version", version},
        {"command", printable(h.command), "command", json_quote(h.command)},
        {"title", printable(h.title), "title", json_quote(h.title)},
        {"state", describe_state(s), "running", s.writer ? "true" : "false"},
        {"", "", "pid", or_null(h.pid != 0 || s.writer, std::to_string(s.writer.value_or(h.pid)))},
        {"", "", "address", or_null(!h.address.empty(), json_quote(h.address))},
        {"", "", "status", or_null(status.has_value(), std::to_string(status.value_or(0)))},
        {"started", format_date(h.timestamp, kDate), "timestamp", date_or_null(h.timestamp)},
        {"last output", format_date(s.last_date, kDate), "last_date", date_or_null(s.last_date)},
        {"", "", "last_output", or_null(s.last_output >= 0, format_seconds(s.last_output))},
        {"length", length + " s", "length", length},
        {"size", format_size(h.columns, h.rows), "width", std::to_string(h.columns)},
        {"", "", "height", std::to_string(h.rows)},
        {"output", std::to_string(s.bytes) + " bytes", "bytes", std::to_string(s.bytes)},
        {"events", std::to_string(s.events), "events", std::to_string(s.events)}};
}

/// A block, or a JSON object.
std::string describe(const std::vector<Fact> &facts, bool json) {
    std::string text;
    for (const Fact &fact : facts) {
        if (json) {
            text.append(text.empty() ? "{\"" : ", \"").append(fact.key).append("\": ").append(fact.json);
        } else if (!fact.label.empty() && !fact.text.empty()) {
            text.append(fact.label).append(":").append(12 - fact.label.size(), ' ').append(fact.text).append("\n");
        }
    }
    return text + (json ? "}\n" : "");
}

/// The cells of a line. The state of a named session is said in short: attach lists its pid and its address.
std::array<std::string, 6> describe_in_line(const Summary &s, bool session) {
    const std::string ended = s.status.empty() ? describe_state(s) : "ended " + printable(s.status);
    return {!session ? describe_state(s) : s.writer ? "running" : ended,
            printable(session ? parse_recording_name(s.name)->session : s.name),
            format_date(s.header.timestamp, "%Y-%m-%d %H:%M"), format_duration(s.length), format_bytes(s.size),
            printable(s.header.command.empty() ? s.header.title : s.header.command)};
}

/// `text` in at most `columns` of a terminal: what does not fit is cut off.
std::string fit(const std::string &text, std::size_t columns) {
    const char *const end = text.data() + text.size();
    const char *at = text.data(), *cut = at;  // the beginning up to `cut` leaves room for the ellipsis
    for (std::size_t used = 0; at < end && used <= columns;) {
        const std::size_t length = std::max<std::size_t>(utf8_length(at, end), 1);
        if (used < columns) cut = at;
        used += static_cast<std::size_t>(width_of(decode_utf8(at, length)));
        if (used > columns) return text.substr(0, static_cast<std::size_t>(cut - text.data())) + "…";
        at += length;
    }
    return text;
}

/// Writes a line for each, with the columns below each other; numbers stand to the right. The lines of sessions
/// fit the terminal, if there is one, and a cell that is longer than 20 characters pushes only its own line.
void put_table(const std::vector<Summary> &all, bool sessions, Output &out) {
    const std::size_t widest = sessions ? 20 : SIZE_MAX;
    winsize size{};
    const bool fits = sessions && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    std::vector<std::array<std::string, 6>> lines;
    std::array<std::size_t, 6> widths{};
    for (const Summary &summary : all) {
        lines.push_back(describe_in_line(summary, sessions));
        for (std::size_t i = 0; i < widths.size(); ++i) {
            widths[i] = std::max(widths[i], std::min(lines.back()[i].size(), widest));
        }
    }
    for (const auto &cells : lines) {
        std::string line;
        for (std::size_t i = 0; i + 1 < cells.size(); ++i) {
            const std::string blanks(widths[i] - std::min(widths[i], cells[i].size()), ' ');
            const bool right = i == 3 || i == 4;
            line.append(right ? blanks + cells[i] : cells[i] + blanks).append("  ");
        }
        line += cells.back();
        out.put((fits ? fit(line, size.ws_col > 0 ? size.ws_col : 80) : line) + "\n");
    }
}

/// A block for one file, and lines for several, the running ones first; or JSON, a line each. Without files, a
/// line for each recording of a named session.
int info(const Options &options) {
    Output out(STDOUT_FILENO, "standard output");
    const bool sessions = options.files.empty();
    std::vector<std::string> files(options.files.begin(), options.files.end());
    std::vector<Summary> all;
    int status = 0;
    for (const SessionRecording &recording : sessions ? session_recordings() : std::vector<SessionRecording>()) {
        files.push_back(recording.path);
    }
    for (const std::string &file : files) {
        Summary summary;
        if (!summarize(file, out, summary, !sessions || options.json)) status = 1;
        else all.push_back(std::move(summary));
    }
    const auto rank = [](const Summary &summary) { return std::pair(!summary.writer, -summary.header.timestamp); };
    std::ranges::stable_sort(all, std::less{}, rank);
    if (!options.json && options.files.size() != 1) put_table(all, sessions, out);
    else for (const Summary &summary : all) out.put(describe(facts_of(summary), options.json));
    out.flush();
    return std::max(status, out.status());
}

// === 10. play ===================================================================================================
// Two clocks: the recording's, with long pauses cut short, and the player's, which runs at some speed or stands
// still. The player shows an event when its own clock has reached the event's time.
//
// A jump shows nothing that lies between: it feeds the model silently, and paints the one screen of its target.
// For jumps back, the player keeps some states of the model, as the bytes that paint them, at places that lie ever
// further apart the longer the recording is (kMostKept in all); the model goes on from the last state before the
// target.
//
// The player obeys a key within a moment, however slow the terminal is: it writes only as much as the terminal has
// room for, and hears keys while it waits for room. A recording asks the terminal its old questions again, and the
// terminal's answers come in like keys: the player tells them from keys by their form, and at the end waits for
// the last ones.

constexpr Micros kSlowest = kSecond / 10, kFastest = 1000 * kSecond;  // speeds, in millionths
constexpr Micros kStep = 5 * kSecond;                                 // of the arrow keys
constexpr Micros kLongestWait = 3600 * kSecond;                       // for a key
constexpr Micros kMarkerSlack = kSecond;  // after a marker, in which `[` goes to the one before
constexpr std::size_t kMostKept = 4 << 20;                            // bytes of all states that are kept
constexpr std::size_t kStateHistory = 16 << 10;               // ... and of the lines above the screen in one
constexpr std::size_t kWorkBetweenKeys = 256 << 10;           // bytes of the recording: far less than 10 ms
constexpr int kPartingMillis = 40;                            // for the terminal to take the last bytes
constexpr int kAnswerMillis = 500;                            // ... and to answer: as long as a slow line takes

// Keys of more than one byte, and signals, as bytes that do not occur in UTF-8: the arrows, SIGTSTP, and the
// signals after which the screen needs painting (SIGCONT, SIGWINCH).
constexpr char kLeft = '\xF8', kRight = '\xF9', kStop = '\xFA', kRepaint = '\xFB';
constexpr char kCtrlC = '\x03', kCtrlZ = '\x1A';

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};

Micros now_micros() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return Micros{now.tv_sec} * kSecond + now.tv_nsec / 1000;
}

volatile std::sig_atomic_t g_stop = 0;     // SIGTSTP came
volatile std::sig_atomic_t g_repaint = 0;  // SIGCONT or SIGWINCH came

/// Standard output, and the keys of its terminal in raw mode. A write to a terminal does not block. An output that
/// is no terminal has no keys.
class UserTerminal {
public:
    UserTerminal() {
        if (!is_terminal_) return;
        keys_.reset(::isatty(STDIN_FILENO) != 0 ? ::dup(STDIN_FILENO) : ::open("/dev/tty", O_RDONLY | O_CLOEXEC));
        if (!keys_ || ::tcgetattr(keys_.get(), &saved_) != 0) keys_.reset();
        for (const int number : kSignals) handle(number);
        enter();
    }
    UserTerminal(const UserTerminal &) = delete;
    UserTerminal &operator=(const UserTerminal &) = delete;
    ~UserTerminal() { leave(); }

    [[nodiscard]] bool is_terminal() const { return is_terminal_; }
    [[nodiscard]] Output &out() { return out_; }

    void enter() const {
        if (!keys_) return;
        termios raw = saved_;
        ::cfmakeraw(&raw);
        ::tcsetattr(keys_.get(), TCSANOW, &raw);
    }

    void leave() const {
        if (keys_) ::tcsetattr(keys_.get(), TCSANOW, &saved_);  // not TCSADRAIN: it may be frozen (Ctrl-S)
    }

    [[nodiscard]] std::optional<winsize> size() const {
        winsize size{};
        const bool known = ::ioctl(screen_.get(), TIOCGWINSZ, &size) == 0;
        return known && size.ws_col > 0 && size.ws_row > 0 ? std::optional(size) : std::nullopt;
    }

    /// Waits for keys, at most `micros`; or, with `for_room`, until the output has room; or until `input` has
    /// something to read. Gives the keys; a signal counts as one, and a terminal that is gone as `q`. pselect(2)
    /// lets signals in: one that came just before the wait ends it too.
    std::string_view wait(Micros micros, bool for_room, int input) {
        sigset_t blocked, before;
        fd_set readable, writable;
        sigemptyset(&blocked);  // without ::, for it may be a macro
        for (const int number : kSignals) sigaddset(&blocked, number);
        ::sigprocmask(SIG_BLOCK, &blocked, &before);
        FD_ZERO(&readable);
        FD_ZERO(&writable);
        if (keys_) FD_SET(keys_.get(), &readable);
        if (input >= 0) FD_SET(input, &readable);
        if (for_room) FD_SET(screen_.get(), &writable);
        const timespec limit{.tv_sec = micros / kSecond, .tv_nsec = micros % kSecond * 1000};
        const int count = std::max({keys_.get(), input, screen_.get()}) + 1;
        const bool told = g_signal != 0 || g_stop != 0 || g_repaint != 0;
        const int ready = told ? -1 : ::pselect(count, &readable, &writable, nullptr, &limit, &before);
        ::sigprocmask(SIG_SETMASK, &before, nullptr);
        if (g_signal != 0) return {&kCtrlC, 1};
        if (std::exchange(g_stop, 0) != 0) return {&kStop, 1};
        if (std::exchange(g_repaint, 0) != 0) return {&kRepaint, 1};
        if (ready <= 0 || !keys_ || !FD_ISSET(keys_.get(), &readable)) return "";
        const ssize_t n = ::read(keys_.get(), typed_.data(), typed_.size());
        return n > 0 ? std::string_view(typed_.data(), static_cast<std::size_t>(n)) : "q";
    }

    /// Writes the last bytes; false when the terminal is gone, or takes nothing. Where the terminal is too slow,
    /// discards the output that it has not taken yet.
    [[nodiscard]] bool part(std::string_view bytes) {
        pollfd room{.fd = screen_.get(), .events = POLLOUT, .revents = 0};
        for (bool flushed = false; !bytes.empty();) {
            const bool stuck = ::poll(&room, 1, kPartingMillis) == 0;
            if (stuck && std::exchange(flushed, true)) return false;
            if (stuck) ::tcflush(screen_.get(), TCOFLUSH);
            const auto taken = out_.write_some(stuck ? kCancel : bytes);
            if (!taken) return false;
            if (!stuck) bytes.remove_prefix(*taken);
        }
        return true;
    }

    /// Discards the answers that are still on their way, if the terminal `has_answered` before, or does so now. A
    /// terminal answers in order: its answer to one more question, for its status (DSR), is the last one.
    void discard_answers(bool has_answered) {
        constexpr std::string_view kStatus = "\x1B[5n", kReady = "\x1B[0n";
        const Micros end = now_micros() + kAnswerMillis * 1000;
        std::string heard;
        pollfd ready{.fd = keys_.get(), .events = POLLIN, .revents = 0};
        if (!keys_ || (!has_answered && ::poll(&ready, 1, kAnswerMillis / 25) <= 0) || !part(kStatus)) return;
        while (heard.find(kReady) == std::string::npos && now_micros() < end) {
            std::array<char, 256> bytes{};
            if (::poll(&ready, 1, static_cast<int>((end - now_micros()) / 1000) + 1) <= 0) continue;
            const ssize_t n = ::read(keys_.get(), bytes.data(), bytes.size());
            if (n <= 0) break;
            heard.append(bytes.data(), static_cast<std::size_t>(n));
        }
        ::tcflush(keys_.get(), TCIFLUSH);
    }

    /// Stops until SIGCONT. Ctrl-Z stops the whole process group, as outside of raw mode: a shell script around
    /// the player, the rest of a pipeline.
    void stop(bool by_key) const {
        leave();
        std::signal(SIGTSTP, SIG_DFL);
        ::kill(by_key ? 0 : ::getpid(), SIGTSTP);
        handle(SIGTSTP);
        enter();
    }

    static constexpr std::string_view kCancel = "\x18";  // ends a sequence that was cut short

private:
    /// A terminal opened anew has an O_NONBLOCK of its own: the shell shares that of descriptor 1.
    static int open_screen() {
        const char *const name = ::ttyname(STDOUT_FILENO);
        const int fd = name != nullptr ? ::open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
        return fd >= 0 ? fd : ::dup(STDOUT_FILENO);
    }

    static void handle(int number) {
        struct sigaction action {};
        action.sa_handler = [](int which) {
            if (which == SIGTSTP) g_stop = 1;
            else if (which == SIGCONT || which == SIGWINCH) g_repaint = 1;
            else g_signal = which;
        };
        ::sigaction(number, &action, nullptr);  // no SA_RESTART: a read(2) that waits ends too
    }

    const bool is_terminal_ = ::isatty(STDOUT_FILENO) != 0;
    const Fd screen_{open_screen()};
    Output out_{screen_.get(), "standard output"};
    Fd keys_;
    termios saved_{};
    std::array<char, 64> typed_{};
};

/// Finds the keys in a terminal's input. A sequence is an arrow, or an answer or a report of the terminal, whose
/// letters are no keys.
class KeyReader {
public:
    /// Calls press(key) for each key in `typed`.
    template <typename Press> void cut(std::string_view typed, Press &&press) {
        const auto arrow = [&](char last) {
            if (last == 'C' || last == 'D') press(last == 'C' ? kRight : kLeft);
        };
        sequences_.feed(typed, [&](Part part, std::string_view bytes) {
            if (part == Part::sequence) {
                application_ = bytes == "\x1BO";  // the arrow in application mode (DECCKM): one character follows
                rest_ = application_ ? 1 : bytes == "\x1B[M" ? 3 : 0;  // three after the X10 mouse report
                const bool is_arrow = bytes == "\x1B[C" || bytes == "\x1B[D";
                has_answers_ = has_answers_ || !(is_arrow || application_);
                return is_arrow ? arrow(bytes[2]) : void();
            }
            for (const char key : bytes) {
                if (rest_ == 0) press(key);
                else if (--rest_ == 0 && application_) arrow(key);
            }
        });
        if (sequences_.unfinished() == "\x1B") sequences_ = Sequences();  // the key Esc itself
    }

    [[nodiscard]] bool has_answers() const { return has_answers_; }

private:
    Sequences sequences_;
    int rest_ = 0;  // characters to come that belong to a sequence
    bool application_ = false;
    bool has_answers_ = false;  // some sequence was no arrow
};

/// The recording's clock, with no pause longer than `idle` between two visible events.
struct Timeline {
    Micros idle = kForever;
    Micros last = 0;  // the last one's time in the recording
    Micros at = 0;    // ... and when it is shown

    [[nodiscard]] Micros at_of(Micros time) const { return at + std::min(time - last, idle); }

    void advance(Micros time) {
        at = at_of(time);
        last = time;
    }
};

/// Shows the events of a recording, one after the other. In a jump, which has a `target_`, their output goes to
/// the model alone; else to the terminal, and to the model as far as the terminal has taken it.
class Player {
public:
    Player(const Options &options, RecordingReader &recording) : options_(options), recording_(recording) {
        const Micros limit = recording.header().idle_limit;
        if (limit > 0) timeline_.idle = limit;
        if (options.idle >= 0) timeline_.idle = options.idle;
        states_.push_back({recording_.place(), timeline_, ""});
        if (start_ > 0) begin_jump(kForever);
    }

    /// Plays to the end, or until a key or a signal quits. Gives the last result of reading.
    Got run() {
        while (!quit_) {
            if (!unwritten_.empty()) write_some();
            else if (next_ != Next::event) {
                const Got got = read_event();
                if (got == Got::end || got == Got::bad) return got;
            } else if (target_ && at_ > *target_) arrive();
            else if (!target_ && pace_ != Pace::steps && at_ > position()) wait_for_event();
            else show();
            press_typed();
        }
        return Got::end;
    }

    /// The largest window that the session has had so far.
    [[nodiscard]] std::pair<int, int> largest() const { return largest_; }

    /// Leaves the terminal as it was before, with room for a prompt under the last line.
    Output &restore() {
        part(quit_);
        terminal_.leave();
        return terminal_.out();
    }

private:
    enum class Next { unread, event, none };   // the state of `event_`; none: the recording has no more yet
    enum class Pace { runs, stands, steps };   // steps: stands, but the next event is shown

    /// A state to go on from: the place in the recording, and the bytes that paint the screen of that time.
    struct State {
        RecordingReader::Place place;
        Timeline timeline;
        std::string paint;
    };

    // --- the clock

    /// The player's clock. At the live end of a session that it follows, it stands at the last event.
    [[nodiscard]] Micros position() const {
        if (pace_ != Pace::runs) return base_;
        if (is_live()) return timeline_.at;
        const auto passed = static_cast<double>(now_micros() - base_time_) * static_cast<double>(speed_) / kSecond;
        return base_ + static_cast<Micros>(std::min(passed, static_cast<double>(kForever)));
    }

    [[nodiscard]] bool is_live() const { return next_ == Next::none && options_.follow; }

    void set_clock(Micros position) {
        base_ = position;
        base_time_ = now_micros();
    }

    void set_pace(Pace pace) {
        set_clock(position());
        pace_ = pace;
    }

    void set_speed(Micros speed) {
        set_clock(position());
        speed_ = std::clamp(speed, kSlowest, kFastest);
    }

    // --- events

    /// Reads the next event. Gives `end` only when nothing is left to be done there.
    Got read_event() {
        keep_state();
        const bool was_live = is_live();
        const Got got = recording_.next(event_);
        next_ = got == Got::some ? Next::event : got == Got::wait ? Next::none : Next::unread;
        if (got == Got::some) prepare(was_live);
        if (got != Got::wait && got != Got::end) return got;
        if (pace_ == Pace::steps) pace_ = Pace::stands;
        if (target_) arrive();
        if (!unwritten_.empty() || !typed_.empty()) return Got::wait;
        if (got == Got::wait) return wait_for_more();
        if (!options_.loop || !recording_.window().seekable() || recording_.header().version == 0) return got;
        hear(kLeastRound);
        if (!typed_.empty()) return Got::wait;
        begin_jump(0);
        go_on_from(states_.front());
        return Got::wait;
    }

    /// Finds out when the event is due. An event of a live session is due when it comes.
    void prepare(bool was_live) {
        at_ = timeline_.at_of(event_.time);
        count_work(event_);
        if (start_ > 0 && event_.time >= start_) target_ = timeline_.at_of(std::exchange(start_, 0));
        if (was_live && pace_ == Pace::runs) set_clock(at_);
        if (target_ && !terminal_.is_terminal()) resize(model_, event_);
        if (const auto size = event_.kind == 'r' ? parse_size(event_.bytes) : std::nullopt) {
            largest_ = {std::max(largest_.first, size->first), std::max(largest_.second, size->second)};
        }
        if (!is_seen(event_) && !is_pause(event_)) next_ = Next::unread;
    }

    static bool is_seen(const Event &event) { return event.output || event.kind == 'x'; }
    [[nodiscard]] bool is_pause(const Event &e) const { return e.kind == 'm' && options_.pause_on_markers; }

    void wait_for_event() {
        const double left = static_cast<double>(at_ - position()) * kSecond / static_cast<double>(speed_);
        hear(pace_ == Pace::runs ? static_cast<Micros>(std::min(left, double{kLongestWait})) + 1 : kLongestWait);
    }

    /// More may come, from a writer that lives or from a slow pipe.
    Got wait_for_more() {
        const FileWindow &window = recording_.window();
        if (window.seekable()) hear(kPollMillis * 1000);
        else hear(kLongestWait, false, window.fd());
        quit_ = quit_ || !pause_for_more(recording_, terminal_.out(), 0);
        return Got::wait;
    }

    /// Shows the event, which is due, or lies on the way of a jump.
    void show() {
        next_ = Next::unread;
        if (!target_ && (is_pause(event_) || pace_ == Pace::steps)) {
            set_clock(at_);
            pace_ = Pace::stands;
        }
        if (!is_seen(event_)) return;
        timeline_.advance(event_.time);
        if (!event_.output) return;
        if (target_) return model_.feed(event_.bytes);
        undo_.reset();
        unwritten_ = event_.bytes;
    }

    /// Writes as much as the terminal has room for, and hears keys while it has none.
    void write_some() {
        constexpr std::size_t kPiece = 4096;                         // between two looks at keys
        constexpr std::string_view kAsking = "\x1B\x05\xC2";         // begin a question: ESC, ENQ, 8-bit CSI
        hear(kLongestWait, true);
        if (quit_) return;
        const auto taken = terminal_.out().write_some(unwritten_.substr(0, kPiece));
        const std::string_view piece = unwritten_.substr(0, taken.value_or(0));
        quit_ = quit_ || !taken;
        unwritten_.remove_prefix(piece.size());
        if (!undo_ && terminal_.is_terminal()) {
            model_.feed(piece);
            may_ask_ = may_ask_ || piece.find_first_of(kAsking) != std::string_view::npos;
        }
        if (unwritten_.empty() && !target_) undo_.reset();
    }

    // --- jumps

    /// A model of the user's terminal, if there is one.
    [[nodiscard]] Model fresh_model() const {
        const auto size = terminal_.size();
        return size ? Model(size->ws_col, size->ws_row) : model_for(recording_.header());
    }

    /// From here on, the player shows nothing up to `target`.
    void begin_jump(Micros target) {
        if (!undo_) {
            undo_ = model_.undo() + kScreenIsWiped;
            model_.feed(unwritten_);
        }
        unwritten_ = {};
        target_ = target;
    }

    /// Ends a jump: the clock goes on from its target. A key may end the painting early: `undo_` also undoes a
    /// part of it.
    void arrive() {
        set_clock(*target_ < kForever ? *target_ : timeline_.at);
        target_.reset();
        start_ = 0;
        painting_ = *undo_ + model_.paint(0);
        undo_ = std::string(UserTerminal::kCancel) + kSoftReset + model_.undo() + kScreenIsWiped;
        unwritten_ = painting_;
    }

    void seek(Micros target) {
        target = std::clamp<Micros>(target, 0, kForever);
        const bool back = target < timeline_.at;
        if (back && !recording_.window().seekable()) return;  // a pipe cannot be read again
        begin_jump(target);
        const auto at = [](const State &state) { return state.timeline.at; };
        const State &known = *std::prev(std::ranges::upper_bound(states_, target, std::less{}, at));
        if (back || known.place.offset > recording_.window().tell()) go_on_from(known);
    }

    void go_on_from(const State &state) {
        next_ = Next::unread;
        recording_.go_to(state.place);
        timeline_ = state.timeline;
        model_ = fresh_model();
        model_.feed(state.paint);
    }

    /// Keeps the state now and then, ever less often the longer the recording is.
    void keep_state() {
        const bool due = recording_.window().tell() >= states_.back().place.offset + interval_;
        if (!due || !terminal_.is_terminal() || !recording_.window().seekable()) return;
        states_.push_back({recording_.place(), timeline_, model_.paint(kStateHistory)});
        std::size_t kept = 0, index = 0;
        for (const State &state : states_) kept += state.paint.size();
        if (kept < kMostKept) return;
        std::erase_if(states_, [&](const State &) { return index++ % 2 == 1; });  // never the first one
        interval_ *= 2;
    }

    /// Jumps to the next marker, or to the one before; stays if there is none. Reads the recording once more for
    /// that.
    void seek_marker(bool forth) {
        const Micros here = position(), before = here - (pace_ == Pace::runs ? kMarkerSlack : 0);
        RecordingReader reader;
        Timeline timeline{.idle = timeline_.idle};
        Event event;
        std::optional<Micros> found;
        if (!recording_.window().seekable() || !reader.open(recording_.path())) return;
        while (!quit_ && reader.next(event) == Got::some) {
            const Micros at = timeline.at_of(event.time);
            count_work(event);
            if (forth ? found.has_value() : at >= before) break;
            if (event.kind == 'm' && (!forth || at > here)) found = at;
            if (is_seen(event)) timeline.advance(event.time);
        }
        if (found) seek(*found);
    }

    // --- keys

    /// Waits for keys, as UserTerminal::wait() does. Obeys the keys that leave at once, and keeps the others.
    void hear(Micros most, bool for_room = false, int input = -1) {
        constexpr std::size_t kMostTyped = 1024;
        work_ = 0;
        reader_.cut(terminal_.wait(most, for_room, input), [this](char key) {
            if (key == kCtrlC && g_signal == 0) g_signal = SIGINT;
            if (key == kCtrlC || key == 'q') quit_ = true;
            else if (key == kCtrlZ || key == kStop) stop(key == kCtrlZ);
            else if (typed_.size() < kMostTyped) typed_ += key;
        });
    }

    /// Looks for keys now and then while the player reads.
    void count_work(const Event &event) {
        work_ += event.tail.size();
        if (work_ > kWorkBetweenKeys) hear(0);
    }

    /// A key behind one that jumps or steps waits until that is done.
    void press_typed() {
        const auto is_painting = [this] { return target_ || (undo_ && !unwritten_.empty()); };
        while (!typed_.empty() && pace_ != Pace::steps && !is_painting()) {
            const char key = typed_[0];
            typed_.erase(0, 1);
            press(key);
        }
    }

    void press(char key) {
        switch (key) {
        case kLeft: return seek(position() - kStep);
        case kRight: return seek(position() + kStep);
        case ']':
        case '[': return seek_marker(key == ']');
        case '.': return set_pace(Pace::steps);
        case ' ': return set_pace(pace_ == Pace::runs ? Pace::stands : Pace::runs);
        case '+':
        case '=': return set_speed(speed_ * 2);
        case '-': return set_speed(speed_ / 2);
        case '\f':
        case kRepaint: return repaint();
        default: return;
        }
    }

    /// Paints the screen again, after a stop or at another size of the terminal.
    void repaint() {
        terminal_.enter();
        begin_jump(position());
        const auto size = terminal_.size();
        if (!size || (size->ws_col == model_.columns() && size->ws_row == model_.rows())) return;
        model_.resize(size->ws_col, size->ws_row);
        states_.resize(1);
        interval_ = kFirstInterval;
    }

    /// Stops, as job control wants it. The clock stands still meanwhile.
    void stop(bool by_key) {
        part(true);
        begin_jump(target_.value_or(position()));
        terminal_.stop(by_key);
        undo_ = "";
    }

    /// Undoes all modes, and with `room`, makes room for a prompt under the last line. Plain text has asked the
    /// terminal nothing.
    void part(bool room) {
        if (!terminal_.is_terminal()) return;
        const bool in_line = !undo_ && !model_.alternate() && model_.cursor().column > 0;
        std::string words = undo_ ? *undo_ : model_.undo();
        if (room) words.append(in_line ? "\r\n" : "").append("\x1B[J");
        if (terminal_.part(words) && may_ask_) terminal_.discard_answers(reader_.has_answers());
    }

    static constexpr char kSoftReset[] = "\x1B[?1049l\x1B[!p";  // DECSTR: margins, origin, insert, character sets
    static constexpr off_t kFirstInterval = 1 << 20;    // of the file, between states that are kept
    static constexpr Micros kLeastRound = kSecond / 10;  // a recording without time would loop at full speed

    const Options &options_;
    RecordingReader &recording_;
    UserTerminal terminal_;
    KeyReader reader_;
    std::string typed_;    // keys that wait
    std::size_t work_ = 0;  // bytes of the recording since the last look at keys
    bool quit_ = false;
    Event event_;
    Next next_ = Next::unread;
    Micros at_ = 0;  // when `event_` is due
    Timeline timeline_;
    Pace pace_ = Pace::runs;
    Micros base_ = 0, base_time_ = now_micros();  // the player's clock stood at base_ at the real time base_time_
    Micros speed_ = options_.speed;
    std::optional<Micros> target_;  // of a jump
    Micros start_ = options_.start;  // the first target in the recording's own time; 0 once it is known
    Model model_ = fresh_model();
    std::optional<std::string> undo_ = "";  // wipes the terminal, where it does not show the model's screen
    std::string painting_;
    std::string_view unwritten_;  // the rest of `painting_`, or else of the event
    bool may_ask_ = false;        // the bytes written might hold questions
    std::vector<State> states_;   // the first is the beginning
    off_t interval_ = kFirstInterval;
    std::pair<int, int> largest_;
};

/// Says in a line that the recording's window was larger than the terminal: the reason why its lines are broken.
bool compare_sizes(const RecordingReader &recording, int columns, int rows) {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return false;
    if (size.ws_col >= columns && size.ws_row >= rows) return false;
    const std::string ours = format_size(size.ws_col, size.ws_row);
    complain(recording.name(), format_size(columns, rows) + " in a window of " + ours);
    return true;
}

int play(const Options &options) {
    RecordingReader recording;
    if (!recording.open(options.files[0], options.follow)) return 1;
    const Header &header = recording.header();
    const bool said = compare_sizes(recording, header.columns, header.rows);
    Player player(options, recording);
    const Got got = player.run();
    Output &out = player.restore();
    if (!said) compare_sizes(recording, player.largest().first, player.largest().second);
    const int status = finish(recording, out, got);
    if (g_signal != 0) {  // end by the signal: the parent may want to know
        ::signal(g_signal, SIG_DFL);
        ::raise(g_signal);
    }
    return status;
}

// === 11. The screen as text =====================================================================================
// The text that a person would have read. A model keeps the screen, and the transcript writes a line when it
// scrolls off the top, as it looked last. Three rules make text of screens:
//   * a line that the terminal wrapped is one line;
//   * the transcript writes a screen before a program wipes it (ED 2, RIS) or leaves it (the alternate screen),
//     if it stood for a second at least: no person reads faster;
//   * it writes the main screen when a program switches to the alternate one, which keeps the order.
// At the end, it writes the last screen. It loses colours, and changes to lines that it has written already.

class Transcript {
public:
    /// With `times`, begins each line with the time of day when it changed last.
    Transcript(Output &out, const Header &header, bool times)
        : out_(out), times_(times), model_(model_for(header)) {
        model_.watch([this](Model::Change change, const Row *row) { heed(change, row); });
    }

    void feed(const Event &event) {
        now_ = event.time;
        model_.set_time(event.date);
        if (event.output) model_.feed(event.bytes);
        resize(model_, event);
        for (Page *page : {&page_, &main_}) page->written = std::min(page->written, model_.rows());
    }

    /// Writes the screen at the end.
    void finish() {
        write_page();
        if (!model_.alternate()) return;
        page_ = main_;
        write_rows(page_.written, last_row(true), true);
    }

private:
    struct Page {
        int written = 0;   // rows at the top that the transcript has written already
        Micros since = 0;  // when it was blank last
    };

    void heed(Model::Change change, const Row *row) {
        switch (change) {
        case Model::Change::row_leaves:
            if (page_.written > 0) --page_.written;
            else write(*row);
            return;
        case Model::Change::row_returns: ++page_.written; return;
        case Model::Change::wipe: return end_page();
        case Model::Change::to_alternate:
            write_rows(page_.written, model_.cursor().row, false);  // the line with the cursor is not finished
            page_.written = std::max(page_.written, model_.cursor().row);
            main_ = std::exchange(page_, {.since = now_});
            return;
        case Model::Change::from_alternate:
            end_page();
            page_ = main_;
            return;
        case Model::Change::cut: {
            Page &page = model_.alternate() ? main_ : page_;
            write_rows(page.written, last_row(true), true);
            page.written = std::max(page.written, last_row(true));
            return;
        }
        }
    }

    void write(const Row &row) {
        constexpr std::size_t kLongest = 1 << 20;
        line_ += model_.text_of(row);
        if (row.wrapped && line_.size() < kLongest) return;
        if (times_) out_.put(format_date(row.time / kSecond, kDate) + " ");
        out_.put(line_);
        out_.put("\n");
        line_.clear();
    }

    /// A wrapped line ends with the last row.
    void write_rows(int from, int to, bool main) {
        for (int y = from; y < to; ++y) {
            Row row = main ? model_.main_row(y) : model_.row(y);
            row.wrapped = row.wrapped && y + 1 < to;
            write(row);
        }
    }

    /// One more than the last row with text.
    [[nodiscard]] int last_row(bool main) const {
        const auto row = [&](int y) -> const Row & { return main ? model_.main_row(y) : model_.row(y); };
        int end = model_.rows();
        while (end > 0 && model_.text_of(row(end - 1)).empty()) --end;
        return end;
    }

    void write_page() { write_rows(page_.written, last_row(false), false); }

    /// A program is about to wipe the screen, or to leave it.
    void end_page() {
        if (now_ - page_.since >= kSecond) write_page();
        page_ = {.since = now_};
    }

    Output &out_;
    const bool times_;
    Page page_, main_;  // the screen; the main one behind the alternate one
    Model model_;
    std::string line_;  // a wrapped one, so far
    Micros now_ = 0;    // in the recording
};

// === 12. convert ================================================================================================
// Between v2 and v3, the text of an event stays as it is. Only the times differ: since the start in v2, since the
// last event in v3; in whole microseconds, the way there and back is exact. Members of the header get other names.

/// A file that convert writes, and removes again unless it is to be kept.
class NewFile {
public:
    NewFile() = default;
    NewFile(const NewFile &) = delete;
    NewFile &operator=(const NewFile &) = delete;
    ~NewFile() {
        struct stat status {};
        const bool regular = fd_ && ::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode);
        if (regular && !kept_) ::unlink(name_.c_str());
    }

    /// Overwrites an existing file with `force` only, and never the recording itself. False after a message.
    bool open(const std::string &name, bool force, const RecordingReader &source) {
        constexpr int kCreate = O_WRONLY | O_CREAT | O_CLOEXEC;
        struct stat from {}, to {};
        const bool known = ::fstat(source.window().fd(), &from) == 0 && ::stat(name.c_str(), &to) == 0;
        const bool same = known && from.st_dev == to.st_dev && from.st_ino == to.st_ino;
        name_ = name;
        if (!same) fd_.reset(::open(name.c_str(), kCreate | (force ? O_TRUNC : O_EXCL), 0600));  // as a recording
        if (same) complain(name, "is the recording itself");
        else if (!fd_) complain_errno(name);
        return static_cast<bool>(fd_);
    }

    [[nodiscard]] Output out() const { return {fd_.get(), name_}; }
    void keep() { kept_ = true; }

private:
    Fd fd_;
    std::string name_;
    bool kept_ = false;
};

/// The header in another version. v3 keeps the size, the type and the theme of the terminal in "term". Other
/// members of that go to a "term" of v2 too, which its readers pass over.
std::string convert_header(const Header &header, int version) {
    const std::string columns = std::to_string(header.columns), rows = std::to_string(header.rows);
    const std::string type = header.term.empty() ? "" : json_quote(header.term);
    Object from = header.members, to, env;
    Object term(from.take("term"));
    const std::string theme = from.take("theme") + term.take("theme");  // the one or the other
    for (const std::string_view known : {"version", "width", "height"}) from.take(known);
    for (const std::string_view known : {"cols", "rows", "type"}) term.take(known);
    to.add("version", std::to_string(version));
    if (version == 3) {
        Object whole;
        whole.add({{"cols", columns}, {"rows", rows}, {"type", type}});
        whole.add(term.members());
        whole.add("theme", theme);
        to.add("term", whole.text());
    } else {
        to.add({{"width", columns}, {"height", rows}, {"theme", theme}, {"term", term.text()}});
        env.add("TERM", type);
        env.add(Object(from.value("env")).members());
        from.add("env", env.text());
    }
    to.add(from.members());
    return to.text();
}

enum class FileType { v2, v3, raw, txt, ttyrec, script };
constexpr std::array<std::string_view, 6> kTypes{"v2", "v3", "raw", "txt", "ttyrec", "script"};

/// Writes the events of a recording as a file of another type.
class Converter {
public:
    Converter(const Options &options, const Header &header, Output &out, Output &timing)
        : type_(static_cast<FileType>(std::ranges::find(kTypes, options.type) - kTypes.begin())), header_(header),
          out_(out), timing_(timing), text_(out, header, options.times) {
        if (type_ == FileType::v2 || type_ == FileType::v3) begin_cast();
        if (type_ == FileType::script) begin_script();
    }

    /// False, when the output takes no more.
    bool put(const Event &event) {
        switch (type_) {
        case FileType::v2:
        case FileType::v3: put_in_cast(event); break;
        case FileType::raw: out_.put(event.output ? event.bytes : ""); break;
        case FileType::txt: text_.feed(event); break;
        case FileType::ttyrec: put_in_ttyrec(event); break;
        case FileType::script: put_in_script(event); break;
        }
        return out_.put("");
    }

    /// Writes the end of the file; a message says how many events it cannot hold.
    void end(const std::string &name) {
        if (type_ == FileType::txt) text_.finish();
        if (type_ == FileType::script) {
            put_in_timing("DURATION", format_seconds(last_));
            put_in_timing("EXIT_CODE", status_);
            timing_.flush();
        }
        std::string list;
        for (const auto &[kind, count] : lost_) {
            list.append(list.empty() ? "" : ", ").append(std::to_string(count)).append(" ") += kind;
        }
        const std::string type(kTypes[static_cast<std::size_t>(type_)]);
        if (!list.empty()) complain(name, "events that " + type + " cannot hold: " + list);
    }

private:
    void begin_cast() {
        const int version = type_ == FileType::v2 ? 2 : 3;
        out_.put((header_.version == version ? header_.text : convert_header(header_, version)) + "\n");
    }

    void put_in_cast(const Event &event) {
        const Micros start = type_ == FileType::v3 ? std::exchange(last_, event.time) : 0;
        out_.put("[" + format_seconds(event.time - start));
        out_.put(event.tail.substr(0, event.tail.rfind(']') + 1));
        out_.put("\n");
    }

    /// Before each piece of output stand its time (seconds since 1970, microseconds) and its length, 32 bits each,
    /// the least significant byte first.
    void put_in_ttyrec(const Event &event) {
        const Micros time = std::max<std::int64_t>(header_.timestamp, 0) * kSecond + event.time;
        std::string head;
        if (!event.output) return count_lost(event, "imr");
        for (const Micros word : {time / kSecond, time % kSecond, static_cast<Micros>(event.bytes.size())}) {
            for (int shift = 0; shift < 32; shift += 8) head += static_cast<char>((word >> shift) & 0xFF);
        }
        out_.put(head);
        out_.put(event.bytes);
    }

    /// util-linux's script: the output with a line before it, and in `timing_` for each piece the time since the
    /// last one and its length (script(1), advanced format).
    void begin_script() {
        std::string date = format_date(std::max<std::int64_t>(header_.timestamp, 0), "%Y-%m-%d %H:%M:%S%z");
        date.insert(date.size() - 2, ":");
        put_in_timing("START_TIME", date);
        put_in_timing("TERM", header_.term);
        put_in_timing("COLUMNS", std::to_string(header_.columns));
        put_in_timing("LINES", std::to_string(header_.rows));
        put_in_timing("COMMAND", header_.command);
        out_.put("Script started on " + date + " [COMMAND=\"" + printable(header_.command) + "\"]\n");
    }

    /// A line of the timing's head or foot.
    void put_in_timing(std::string_view name, const std::string &value) {
        if (!value.empty()) timing_.put("H 0.000000 " + std::string(name) + " " + printable(value) + "\n");
    }

    /// Leaves out an empty piece, which scriptreplay takes for an error.
    void put_in_script(const Event &event) {
        const auto size = event.kind == 'r' ? parse_size(event.bytes) : std::nullopt;
        const std::string since = " " + format_seconds(event.time - last_) + " ";
        if (event.kind == 'x') status_ = event.bytes;
        if (!size && (!event.output || event.bytes.empty())) return count_lost(event, "im");
        last_ = event.time;
        if (size) {
            const std::string rows = std::to_string(size->second), columns = std::to_string(size->first);
            timing_.put("S" + since + "SIGWINCH ROWS=" + rows + " COLS=" + columns + "\n");
        } else {
            timing_.put("O" + since + std::to_string(event.bytes.size()) + "\n");
            out_.put(event.bytes);
        }
    }

    /// Counts the event, if it is one of the `kinds` that a user would miss.
    void count_lost(const Event &event, std::string_view kinds) {
        const bool is_size = event.kind != 'r' || parse_size(event.bytes);
        if (is_size && kinds.find(event.kind) != std::string_view::npos) ++lost_[event.kind];
    }

    const FileType type_;
    const Header &header_;
    Output &out_, &timing_;
    Transcript text_;
    Micros last_ = 0;     // the time of the last event written
    std::string status_;  // of the `x` event
    std::map<char, std::uint64_t> lost_;
};

int convert(const Options &options) {
    RecordingReader recording;
    NewFile file, timing_file;
    const bool named = options.out != "-", timed = options.type == "script";
    if (!recording.open(options.files[0])) return 1;
    if (named && !file.open(options.out, options.force, recording)) return 1;
    if (timed && !timing_file.open(options.out + ".timing", options.force, recording)) return 1;
    Output out = named ? file.out() : Output(STDOUT_FILENO, "standard output"), timing = timing_file.out();
    Got got = Got::end;
    if (recording.header().version != 0) {  // else it is torn, and a message has said so
        Converter converter(options, recording.header(), out, timing);
        got = for_each_event(recording, out, [&](const Event &event) { return converter.put(event); });
        converter.end(recording.name());
    }
    const int status = std::max(finish(recording, out, got), timing.status());
    if (status == 0) {
        file.keep();
        timing_file.keep();
    }
    return status;
}

// === 13. paint, screen ==========================================================================================
// Both feed a model up to the end of the recording, or to some time, and write its screen.

constexpr std::uint64_t kMostHistory = 16 << 20;  // bytes of scrolled-off lines that a model keeps
constexpr std::size_t kLongestRegex = 4096;       // regcomp(3) of glibc recurses for each parenthesis

std::optional<Model> model_at(const Options &options, Micros until) {
    RecordingReader recording;
    if (!recording.open(options.files[0]) || recording.header().version == 0) return std::nullopt;
    Model model = model_for(recording.header(), options.history);
    Output out(STDOUT_FILENO, "standard output");
    const Got got = for_each_event(recording, out, [&](const Event &event) {
        if (event.time > until) return false;
        resize(model, event);
        if (event.output) model.feed(event.bytes);
        return true;
    });
    return got == Got::bad ? std::nullopt : std::optional(std::move(model));
}

int paint(const Options &options) {
    const std::optional<Model> model = model_at(options, kForever);
    return model ? print(model->paint(options.history)) : 1;
}

int put_screen(const Model &model, bool colours) {
    std::string rows;
    for (int y = 0; y < model.rows(); ++y) rows += model.row_text(y, colours) + "\n";
    return print(rows);
}

bool has_row(const Model &model, const regex_t &wanted) {
    for (int y = 0; y < model.rows(); ++y) {
        if (::regexec(&wanted, model.row_text(y, false).c_str(), 0, nullptr, 0) == 0) return true;
    }
    return false;
}

/// Writes the screen as soon as one of its rows matches `wanted`. Looks at the screen after all that the recording
/// holds at first, then after each event: earlier screens do not count.
int wait_for_row(const Options &options, const regex_t &wanted) {
    RecordingReader recording;
    Output out(STDOUT_FILENO, "standard output");
    const Micros end = now_micros() + options.within;
    if (!recording.open(options.files[0], true) || recording.header().version == 0) return 1;
    Model model = model_for(recording.header());
    Event event;
    for (bool is_now = false;;) {
        const Got got = recording.next(event);
        const bool is_new = got == Got::some || !is_now;
        is_now = is_now || got == Got::wait || got == Got::end;
        if (got == Got::some) resize(model, event);
        if (got == Got::some && event.output) model.feed(event.bytes);
        if (is_now && is_new && has_row(model, wanted)) return put_screen(model, options.colours);
        if (got == Got::bad || (got == Got::wait && !pause_for_more(recording, out))) return 1;
        if (got == Got::end && recording.died()) finish(recording, out, got);
        if (got == Got::end || (is_now && now_micros() >= end)) break;
    }
    const std::string when = now_micros() >= end ? "in that time" : "before the session ended";
    complain(recording.name(), "no row like " + std::string(options.until) + " " + when);
    return 1;
}

int screen(const Options &options) {
    if (options.until == nullptr) {
        const std::optional<Model> model = model_at(options, options.start > 0 ? options.start : kForever);
        return model ? put_screen(*model, options.colours) : 1;
    }
    regex_t wanted{};
    std::array<char, 256> why{};
    const int error = ::regcomp(&wanted, options.until, REG_EXTENDED | REG_NOSUB);
    ::regerror(error, &wanted, why.data(), why.size());
    if (error != 0) complain(options.until, why.data());
    const int status = error != 0 ? 2 : wait_for_row(options, wanted);
    if (error == 0) ::regfree(&wanted);
    return status;
}

// === 14. serve: questions about the past ========================================================================
// The shim knows nothing of terminals, and asks its helper, `record serve`. A question and its answer are one
// struct each, on the socket pair that is standard input. The two files grow meanwhile: the helper reads what the
// shim says has been written, with pread(2), as the shim shares their offsets.

// >>> questions about the past: the same in shim.cpp and record.cpp
/// What the shim asks `record serve`; an answer has the kind of its question, or `cannot`.
enum class PastKind : std::uint32_t { read = 1, paint = 2, bytes = 3, cannot = 4 };

/// The files of the helper: the recording, and the tail, which holds what the recording does not.
constexpr int kRecordingFd = 3, kTailFd = 4;
constexpr std::uint32_t kPastProtocol = 1;             // the version of what is described here
constexpr std::uint64_t kMostRead = 4 << 20;           // bytes of a file in one `read`
constexpr std::uint64_t kMostBytes = 64 << 10;         // bytes of output in one answer to `bytes`
constexpr std::uint64_t kMostAnswer = 17 << 20;        // bytes behind an answer: one with more is a fault

/// A question, or the header of an answer, which `length` bytes follow. Both ends run on one machine: its byte
/// order.
///
///   read   brings the model on by the whole lines of `file` from offset `from` to offset `to`. The first `read`
///          makes the model, of `columns` and `rows`; when it begins inside of a line, the rest of that line is
///          passed over. Answer: `to`, the offset behind the last line read; `from`, how many bytes of output the
///          model has been fed since it was made.
///   paint  answer: the bytes that bring a terminal to the model's state, behind `from` bytes of lines that have
///          scrolled off. `to` is 1 for a terminal that has had bytes before, else 0.
///   bytes  answer: the recording's output from its byte `from` on, up to byte `to`, kMostBytes at most. None: the
///          place is still looked for, ask again.
struct PastMessage {
    PastKind kind{};
    std::uint32_t protocol = kPastProtocol;
    std::uint64_t client = 0;                          // the client's number; an answer repeats it
    std::uint64_t from = 0, to = 0;
    std::uint32_t file = 0;                            // kRecordingFd or kTailFd
    std::uint16_t columns = 0, rows = 0;
    std::uint64_t length = 0;                          // bytes behind this; 0 in a question
};
// <<< questions about the past

constexpr off_t kMostScan = 64 << 20;              // bytes of the recording in one search for a place
constexpr std::uint64_t kNoteEvery = 256 << 10;    // bytes of output between two notes of places

/// The helper's knowledge: the model, and the places in the recording of the output's bytes.
class Past {
public:
    explicit Past(std::uint64_t history) : history_(history) {
        recording_.adopt(kRecordingFd);
        tail_.adopt(kTailFd);
    }

    /// Makes the header of the answer from the question; gives the bytes behind it.
    std::string answer(PastMessage &message) {
        std::string bytes;
        const bool done = message.kind == PastKind::read    ? read(message)
                          : message.kind == PastKind::paint ? paint(message, bytes)
                                                            : find_bytes(message, bytes);
        if (!done) {
            message.kind = PastKind::cannot;
            bytes.clear();
        }
        message.length = bytes.size();
        return bytes;
    }

private:
    /// Before some line of a file.
    struct Place {
        RecordingReader::Place line{};
        std::uint64_t position = 0;  // of the output
    };

    /// Makes the event at `place` the next one; moves `place` past a header. Lines that end behind the offset
    /// `end` are not read.
    void start(RecordingReader &reader, Place &place, off_t end) {
        reader.window().end_at(end);
        reader.go_to(place.line);
        const bool is_header = &reader == &recording_ && place.line.offset == 0;
        if (is_header && reader.skip_line(0) == Got::some) place.line = reader.place();
    }

    /// Reads the event at `place`, and moves it on.
    static Got step(RecordingReader &reader, Place &place, Event &event) {
        event = Event();
        const Got got = reader.next(event);
        place.line = reader.place();
        place.position += event.output ? event.bytes.size() : 0;
        return got;
    }

    bool read(PastMessage &message) {
        RecordingReader &reader = message.file == kTailFd ? tail_ : recording_;
        const FileWindow &file = reader.window();
        if (!file.seekable() || file.size() < message.to || message.to < message.from) return false;
        const auto end = static_cast<off_t>(std::min(message.to, message.from + kMostRead));
        Place place;
        place.line.offset = static_cast<off_t>(message.from);
        if (!model_ && message.from > 0) {
            reader.window().end_at(end);
            const Got got = reader.skip_line(place.line.offset - 1);  // only the newline, when a line begins there
            if (got == Got::end) message.to = std::exchange(message.from, 0);
            if (got != Got::some) return got == Got::end;
            place.line = reader.place();
        }
        if (!model_) {
            model_.emplace(message.columns, message.rows, history_);
            fed_ = 0;
        }
        const bool good = feed_model(reader, end, place);
        message.to = static_cast<std::uint64_t>(place.line.offset);
        if (good) message.from = fed_;
        else model_.reset();  // it has an unknown part of the lines
        return good;
    }

    /// Reads on from `place`. Takes notes where that continues the noted part of the recording.
    bool feed_model(RecordingReader &reader, off_t end, Place &place) {
        const auto where = [](const Place &p) { return std::pair(p.line.offset, p.line.covered); };
        Event event;
        place.line.covered = between_;
        const bool noted = &reader == &recording_ && where(place) == where(noted_);
        if (noted) place = noted_;
        start(reader, place, end);
        if (noted) note(place);
        Got got = step(reader, place, event);
        for (; got == Got::some; got = step(reader, place, event)) {
            if (noted) note(place);
            resize(*model_, event);
            if (!event.output) continue;
            model_->feed(event.bytes);
            fed_ += event.bytes.size();
        }
        between_ = place.line.covered;
        return got == Got::end;
    }

    bool paint(const PastMessage &message, std::string &bytes) const {
        if (!model_) return false;
        std::uint64_t history = std::min(message.from, history_);
        do {
            bytes = model_->paint(history, message.to == 1);
            history /= 2;
        } while (bytes.size() > kMostAnswer && history > 0);
        return bytes.size() <= kMostAnswer;
    }

    bool find_bytes(const PastMessage &message, std::string &bytes) {
        const std::uint64_t from = message.from, to = std::min(message.to, from + kMostBytes);
        const auto behind = std::ranges::upper_bound(notes_, from, std::less{}, &Place::position);
        Place place = noted_.position <= from ? noted_ : *std::prev(behind);
        const off_t most = place.line.offset + kMostScan;
        Event event;
        if (from >= to) return false;
        start(recording_, place, std::numeric_limits<off_t>::max());
        while (place.position < to && place.line.offset < most) {
            const std::uint64_t position = place.position;
            if (step(recording_, place, event) != Got::some) return !bytes.empty();
            note(place);
            bytes += clip(event.output ? event.bytes : "", position, from, to);
        }
        return true;
    }

    void note(const Place &place) {
        if (place.line.offset <= noted_.line.offset) return;
        noted_ = place;
        if (place.position >= notes_.back().position + kNoteEvery) notes_.push_back(place);
    }

    const std::uint64_t history_;
    RecordingReader recording_, tail_;
    std::optional<Model> model_;
    std::uint64_t fed_ = 0;             // bytes of output, since the model was made
    bool between_ = false;              // the model has a `b`, and its `o` is the next line
    std::vector<Place> notes_{Place()};  // a place for each kNoteEvery of output
    Place noted_;                        // the end of the noted part
};

/// Reads one question: 1, 0 when the shim has gone, -1 for anything else.
int read_question(PastMessage &message) {
    const ssize_t n = ::recv(STDIN_FILENO, &message, sizeof message, MSG_WAITALL);
    const bool kind_known = message.kind >= PastKind::read && message.kind < PastKind::cannot;
    const bool file_known = message.file == kRecordingFd || message.file == kTailFd;
    const bool good = kind_known && message.protocol == kPastProtocol && message.length == 0;
    if (n == 0) return 0;
    return n == ssize_t{sizeof message} && good && (file_known || message.kind != PastKind::read) ? 1 : -1;
}

int serve(const Options &options) {
    for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP}) ::signal(number, SIG_IGN);
    Past past(options.history);
    Output out(STDIN_FILENO, "standard input");
    PastMessage message;
    int got = read_question(message);
    for (; got > 0; got = read_question(message)) {
        const std::string bytes = past.answer(message);
        out.put({reinterpret_cast<const char *>(&message), sizeof message});
        out.put(bytes);
        if (!out.flush()) return out.status();
    }
    return got < 0 ? 1 : 0;
}

// === 15. The command line =======================================================================================

constexpr char kVersion[] = "record 1.0\n";
constexpr char kHelp[] =
    "Usage: record COMMAND [OPTION]... FILE\n"
    "Reads recordings of terminal sessions: asciicast v1, v2 and v3, from shim or any other program. FILE is\n"
    "the name of a session, a file, or - for standard input. A name stands for the session's newest recording\n"
    "in $SHIM_RECORDS, else ${XDG_STATE_HOME:-~/.local/state}/shim. A session comes before a file of the same\n"
    "name in the current folder: write ./work for the file.\n"
    "\n"
    "  play      replays a recording with its timing\n"
    "  cat       writes the output at once, byte for byte\n"
    "  info      describes recordings, and says whether their sessions run; without FILE, lists named sessions\n"
    "  convert   writes a recording as another type of file\n"
    "  screen    writes the text of the screen, or waits until a row matches\n"
    "  paint     writes the bytes that bring a terminal to the session's state\n"
    "  serve     answers a shim's questions about its session; for shim only\n"
    "\n"
    "  -h, --help      print this help, or after a COMMAND its own\n"
    "  -V, --version   print the version\n"
    "\n"
    "Exit status: 0; 1 if a file cannot be read or written; 2 for a usage error.\n";

constexpr char kPlayHelp[] =
    "Usage: record play [OPTION]... FILE\n"
    "Replays a recording with its timing.\n"
    "\n"
    "  -s, --speed SPEED     play SPEED times as fast, 0.1 to 1000\n"
    "  -i, --idle IDLE       shorten pauses to IDLE seconds (default: the recording's own limit, if it has one)\n"
    "  -t, --start START     begin START seconds in, with the screen as it was then\n"
    "  -f, --follow          continue as FILE grows (until when: record cat --help); with a START past the end,\n"
    "                        show what is there at once, then what is added\n"
    "  -l, --loop            begin again at the end\n"
    "  -m, --pause-on-markers\n"
    "\n"
    "Keys, at a terminal:\n"
    "  space         pause, go on\n"
    "  .             show the next output, and pause\n"
    "  right left    5 seconds forward, back\n"
    "  ] [           go to the next marker, to the one before\n"
    "  + -           double, halve the speed\n"
    "  Ctrl-L        paint the screen again\n"
    "  Ctrl-Z        stop, until the shell's fg\n"
    "  q, Ctrl-C     quit\n"
    "\n"
    "A jump (by these keys or START) shows only the screen at that time, as this terminal would show it.\n"
    "Jumping back takes 4 MiB of memory at most, however long the recording; a pipe cannot be played\n"
    "backwards. A recording made in a larger window than yours looks broken: one line says so. What your\n"
    "terminal answers to the program's old questions is discarded, and what the program left switched on is\n"
    "switched off at the end.\n";

constexpr char kCatHelp[] =
    "Usage: record cat [OPTION]... FILE...\n"
    "Writes the output at once, exactly the bytes that the program printed; several FILEs in the order given.\n"
    "\n"
    "  -f, --follow      continue as a FILE grows, until its session ends\n"
    "      --from N      leave out the first N bytes\n"
    "      --to N        end after byte N of the output; several FILEs are counted as one\n"
    "\n"
    "-f ends at the exit event in the recording. A killed shim writes none, but its lock on the recording is\n"
    "gone; that ends -f too, with a message. Other programs hold no lock, so their recordings are followed until\n"
    "an exit event or Ctrl-C. A FILE that is truncated meanwhile is an error.\n";

constexpr char kInfoHelp[] =
    "Usage: record info [OPTION]... [FILE]...\n"
    "Describes a recording: command, state, dates, length in seconds, window size, bytes of output, number of\n"
    "events. Several files, or without FILE the recordings of all named sessions, get one line each, running\n"
    "ones first, then the newest: state, name, start, length (hours, minutes, seconds), size of the file,\n"
    "command. At a terminal, the lines of sessions are cut to its width.\n"
    "\n"
    "      --json        write one JSON object per line, for scripts\n";

constexpr char kConvertHelp[] =
    "Usage: record convert -t TYPE [OPTION]... FILE\n"
    "Writes a recording as another type of file.\n"
    "\n"
    "  -t, --type TYPE   v2, v3   asciicast; the text of events stays the same to the byte, and times get six\n"
    "                             decimals, so a shim's recording comes back from v3 as it was\n"
    "                    raw      the output, byte for byte\n"
    "                    txt      what a person would have read (see below)\n"
    "                    ttyrec   for ttyplay\n"
    "                    script   for scriptreplay -t OUT.timing OUT; needs -o: the output goes to OUT and the\n"
    "                             times to OUT.timing (advanced format)\n"
    "  -o, --output OUT  write to this file instead of standard output; an existing file is not overwritten\n"
    "      --force       overwrite it\n"
    "      --times       txt: begin each line with the local time of day when it was finished\n"
    "\n"
    "If an error occurs, OUT is removed. ttyrec and script cannot hold markers and typed keys, and ttyrec\n"
    "cannot hold window sizes; a message says how many of these events (m, i, r) were left out.\n"
    "\n"
    "txt: each line is written when it scrolls off a small terminal's top, without escape sequences; a wrapped\n"
    "line is one line. A full screen (an editor's, or one before `clear`) is written as it last looked when it\n"
    "is cleared or left, if it stood for a second or longer. What is on the screen at the end is written last.\n";

constexpr char kScreenHelp[] =
    "Usage: record screen [OPTION]... FILE\n"
    "Writes what is on the screen at the end of a recording (of a running session: now), one line for each row.\n"
    "\n"
    "  -e, --escapes         with colours and other renditions, as escape sequences\n"
    "  -t, --start TIME      the screen at TIME, in seconds\n"
    "  -u, --until REGEX     wait until a row matches REGEX, a POSIX extended regular expression of 4096\n"
    "                        bytes at most; exit with status 1 if the session ends before\n"
    "  -w, --within SECONDS  wait no longer than SECONDS, then exit with status 1\n"
    "\n"
    "record checks the screen as it is now, then after each output. The terminal's echo of a command is on the\n"
    "screen as well: anchor REGEX, as in '^[0-9]+ passed', so that it does not match what was typed. A session\n"
    "started with shim -n has no recording to follow.\n";

constexpr char kPaintHelp[] =
    "Usage: record paint [OPTION]... FILE\n"
    "Writes the bytes that bring a terminal of the session's size to the state at the end of the recording:\n"
    "lines that have scrolled off, the screen, cursor and modes. A client that attaches late is shown the\n"
    "session like this.\n"
    "\n"
    "  -H, --history SIZE  bytes of scrolled-off lines (K, M, G; default 64K), none, or all (16M)\n";

constexpr char kServeHelp[] =
    "Usage: record serve [-H SIZE]\n"
    "Answers a shim's questions about the past of its session: standard input is the socket, descriptor 3 the\n"
    "recording, and descriptor 4 a file with what the recording does not hold.\n"
    "\n"
    "  -H, --history SIZE  keep so many bytes of scrolled-off lines (K, M, G; default 64K), none, or all (16M)\n";

/// All options; those without a short form have a capital letter for getopt_long to give back.
constexpr std::array kOptions{
    option{"help", no_argument, nullptr, 'h'},        option{"version", no_argument, nullptr, 'V'},
    option{"follow", no_argument, nullptr, 'f'},      option{"speed", required_argument, nullptr, 's'},
    option{"idle", required_argument, nullptr, 'i'},  option{"start", required_argument, nullptr, 't'},
    option{"from", required_argument, nullptr, 'F'},  option{"to", required_argument, nullptr, 'T'},
    option{"type", required_argument, nullptr, 'K'},  option{"output", required_argument, nullptr, 'o'},
    option{"force", no_argument, nullptr, 'W'},       option{"loop", no_argument, nullptr, 'l'},
    option{"until", required_argument, nullptr, 'u'}, option{"within", required_argument, nullptr, 'w'},
    option{"json", no_argument, nullptr, 'J'},        option{"history", required_argument, nullptr, 'H'},
    option{"escapes", no_argument, nullptr, 'e'},     option{"pause-on-markers", no_argument, nullptr, 'm'},
    option{"times", no_argument, nullptr, 'D'},       option{nullptr, 0, nullptr, 0}};

struct Command {
    std::string_view name;
    int (*run)(const Options &);
    std::string_view letters;  // its options
    std::size_t least, most;   // how many FILEs it takes
    const char *help;
};

constexpr std::array kCommands{
    Command{"play", play, "hVfsitlm", 1, 1, kPlayHelp}, Command{"cat", cat, "hVfFT", 1, SIZE_MAX, kCatHelp},
    Command{"info", info, "hVJ", 0, SIZE_MAX, kInfoHelp}, Command{"screen", screen, "hVetuw", 1, 1, kScreenHelp},
    Command{"convert", convert, "hVtKoWD", 1, 1, kConvertHelp}, Command{"paint", paint, "hVH", 1, 1, kPaintHelp},
    Command{"serve", serve, "hVH", 0, 0, kServeHelp}};

/// Says what is wrong with the command line; gives the exit status for that.
int complain_usage(std::string_view what, std::string_view why) {
    complain(what, std::string(why) + " (see record --help)");
    return 2;
}

/// Bytes of history: a number, with K, M or G for times 1024; all there are; or none.
std::optional<std::uint64_t> parse_history(std::string_view text) {
    constexpr std::string_view kUnits = "KMG";
    if (text == "none") return 0;
    if (text == "all") return kMostHistory;
    const std::size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
    if (unit != std::string_view::npos) text.remove_suffix(1);
    const auto number = parse_number(text);
    const unsigned shift = unit == std::string_view::npos ? 0 : 10 * (static_cast<unsigned>(unit) + 1);
    if (!number || *number > UINT64_MAX >> 34) return std::nullopt;
    return std::min(*number << shift, kMostHistory);
}

/// Keeps the value of an option, if it has one; false if not.
template <typename Kept, typename Value> bool set(Kept &kept, const std::optional<Value> &value) {
    if (value) kept = *value;
    return value.has_value();
}

/// Takes one option with its value; false for a bad value.
bool set_option(Options &options, const Command &command, int letter, const char *value) {
    switch (letter) {
    case 'f': return options.follow = true;
    case 'J': return options.json = true;
    case 'W': return options.force = true;
    case 'l': return options.loop = true;
    case 'm': return options.pause_on_markers = true;
    case 'e': return options.colours = true;
    case 'D': return options.times = true;
    case 'F': return set(options.from, parse_number(value));
    case 'T': return set(options.to, parse_number(value));
    case 's':
        return set(options.speed, parse_decimal(value)) && options.speed >= kSlowest && options.speed <= kFastest;
    case 'i': return set(options.idle, parse_decimal(value));
    case 'o': options.out = value; return !options.out.empty();
    case 'u': options.until = value; return true;
    case 'w': return set(options.within, parse_decimal(value));
    case 'H': return set(options.history, parse_history(value));
    case 't':
        if (command.run == play || command.run == screen) return set(options.start, parse_decimal(value));
        [[fallthrough]];
    default: options.type = value; return std::ranges::find(kTypes, options.type) != kTypes.end();
    }
}

/// Reads the command's own arguments (argv[0] is its name) and runs it.
int run_command(const Command &command, int argc, char **argv) {
    Options options;
    const auto next = [&] { return ::getopt_long(argc, argv, ":hVfs:i:t:lmo:H:eu:w:", kOptions.data(), nullptr); };
    opterr = 0;
    for (int letter = next(); letter != -1; letter = next()) {
        const std::string_view word = argv[std::min(optind, argc) - 1];  // musl passes a missing value
        const auto short_name = static_cast<char>(letter == '?' || letter == ':' ? optopt : letter);
        const std::string name = word.starts_with("--") ? std::string(word) : std::string{'-', short_name};
        if (letter == ':') return complain_usage(name, "a value is missing");
        if (command.letters.find(static_cast<char>(letter)) == std::string_view::npos) {
            return complain_usage(name, "unknown option");
        }
        if (letter == 'h') return print(command.help);
        if (letter == 'V') return print(kVersion);
        const bool set = set_option(options, command, letter, optarg);
        if (!set) return complain_usage(name, std::string(optarg) + " is no value for it");
    }
    options.files.assign(argv + optind, argv + argc);
    if (options.files.size() < command.least) return complain_usage(command.name, "a FILE is missing");
    if (options.files.size() > command.most) return complain_usage(command.name, "too many FILEs");
    if (command.run == convert && options.type.empty()) return complain_usage("convert", "-t TYPE is missing");
    if (options.until != nullptr && std::strlen(options.until) > kLongestRegex) {
        return complain_usage("-u", "the expression is longer than 4096 bytes");
    }
    if (options.until != nullptr && options.start > 0) return complain_usage("-u", "excludes -t");
    if (options.within < kForever && options.until == nullptr) return complain_usage("-w", "wants -u REGEX");
    if (options.type == "script" && options.out == "-") return complain_usage("convert", "script needs -o OUT");
    return command.run(options);
}

}  // namespace

int main(int argc, char **argv) {
    const std::string_view name = argc > 1 ? argv[1] : "";
    ::signal(SIGPIPE, SIG_IGN);
    if (name == "-h" || name == "--help") return print(kHelp);
    if (name == "-V" || name == "--version") return print(kVersion);
    for (const Command &command : kCommands) {
        if (command.name == name) return run_command(command, argc - 1, argv + 1);
    }
    if (argc < 2) return complain_usage("usage", "record play|cat|info|convert|screen|paint [OPTION]... FILE");
    return complain_usage(name, "unknown command");
}
