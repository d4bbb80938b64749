// record: reads the recordings that shim writes (asciicast v2), and those of any other program (v1, v2, v3).
//
//   record play    [-s SPEED] [-i IDLE] [-t START] [-f] FILE        again, with its timing
//   record cat     [-f] [--from N] [--to N] [--no-queries] FILE     the output's exact bytes
//   record info    [--json] FILE...                                 what it is, and whether it still runs
//   record convert -t v2|v3|raw|txt|ttyrec|script [-o OUT] FILE     as a file of another kind
//
//                    ┌────────┐ lines ┌──────────────┐ events ┌──────────────────────┐ bytes
//   session.cast ───►│ Window ├──────►│  Recording   ├───────►│ cat, play, info, ... ├───────► standard output
//                    └────────┘       │ (uses: Json) │        └──────────────────────┘
//                                     └──────────────┘
// Every command is a loop over events, and one event is in memory at a time: a recording of a year costs no more than
// one of a second. The longest line that is read has 2 MiB; shim's longest is 400 KiB.
//
// A line of the file is `[time, "kind", "text"]`. What is not UTF-8 cannot stand in JSON, so shim writes such output
// twice: exact, as base64 in a `b` event, and right after it as the `o` event that other players show. Here the former
// takes the latter's place.
//
// The writer may be killed at any byte, so the last line may be torn: without a newline, and not a whole event. That is
// no error, and shows nothing. Whether the writer lives is asked of the kernel: it holds a record lock on the file.
//
// Sections: 1 bytes out · 2 JSON · 3 the recording · 4 cat · 5 info · 6 control sequences · 7 play · 8 the screen as
// text · 9 convert · 10 the command line
//
// Exit status: 0, also when the reader of our output goes away; 1 for a file that cannot be read or written; 2 usage.
// Beside it: https://docs.asciinema.org/manual/asciicast/v2 and v3, RFC 8259 (JSON), fcntl(2), termios(3)

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <getopt.h>  // getopt_long: not POSIX, but in every libc
#include <poll.h>
#include <sys/ioctl.h>  // TIOCGWINSZ
#include <sys/select.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

namespace {

constexpr char kProgram[] = "record";

// >>> errors and the owning descriptor: the same in shim.cpp, attach.cpp and record.cpp
/// Writes "program: what: why" and a newline to standard error, in one write(2) so that lines of several processes
/// do not mix. `what` names the thing that the user knows: a file, an address, an option.
void complain(std::string_view what, std::string_view why) {
    std::string line(kProgram);
    line.append(": ").append(what).append(": ").append(why).append("\n");
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

using Micros = std::int64_t;  // times of a recording, in microseconds: whole numbers, so that sums come back exactly
constexpr Micros kSecond = 1'000'000;
constexpr Micros kForever = 900'000'000'000 * kSecond;  // no time in a recording is later
constexpr std::size_t kMaxLine = 2 << 20;               // bytes of one line
constexpr int kPollMillis = 50;                         // how often a growing file is looked at
constexpr Micros kPollMicros = kPollMillis * 1000;

// === 1. Bytes out ====================================================================================================
// write(2) may take less than it was given, and SIGPIPE, which we ignore, becomes EPIPE: our reader has seen enough,
// which is no error of anybody's.

volatile std::sig_atomic_t g_signal = 0;  // the last signal that came, while play has handlers for them

/// A buffer before a descriptor. A failed write is remembered: then nothing more is written, and `status` tells.
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

private:
    static constexpr std::size_t kRoom = 64 << 10;

    bool write_all(std::string_view bytes) {
        while (!bytes.empty() && !closed_) {
            const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
            if (n >= 0) bytes.remove_prefix(static_cast<std::size_t>(n));
            else if (errno != EINTR) handle_error();
            else if (g_signal != 0) closed_ = true;
        }
        return !closed_;
    }

    void handle_error() {
        if (errno == EAGAIN || errno == EWOULDBLOCK) {  // somebody else made this open file non-blocking: wait
            pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
            ::poll(&ready, 1, -1);
            return;
        }
        closed_ = true;
        if (errno == EPIPE || errno == ECONNRESET) return;
        complain_errno(name_);
        status_ = 1;
    }

    int fd_;
    std::string name_;    // for messages
    std::string buffer_;
    bool closed_ = false;  // a write has failed
    int status_ = 0;
};

// === 2. JSON =========================================================================================================
// RFC 8259, strictly: a reader that guesses hides a broken writer. Text is copied eight bytes at a time for as long as
// none of them is special, which makes the cost of a recording that of reading it.

/// The length of the well-formed UTF-8 sequence that begins at `at` (RFC 3629, section 4), 0 if there is none.
std::size_t utf8_length(const char *at, const char *end) {
    const auto byte = [at](std::ptrdiff_t i) { return static_cast<unsigned char>(at[i]); };
    const auto in = [&byte](std::ptrdiff_t i, unsigned low, unsigned high) { return byte(i) >= low && byte(i) <= high; };
    const std::ptrdiff_t room = end - at;
    if (room < 1) return 0;
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    if (first < 0xE0) return room > 1 && in(1, 0x80, 0xBF) ? 2 : 0;
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;   // no overlong forms
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;  // no surrogates, nothing over U+10FFFF
    if (room < 3 || !in(1, low, high) || !in(2, 0x80, 0xBF)) return 0;
    if (first < 0xF0) return 3;
    return room > 3 && in(3, 0x80, 0xBF) ? 4 : 0;
}

/// Writes `code` as UTF-8 at `out` (4 bytes of room); gives back the place after it.
char *put_utf8(char *out, std::uint32_t code) {
    const int tails = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr std::array<std::uint32_t, 4> marks{0, 0xC0, 0xE0, 0xF0};
    *out++ = static_cast<char>(marks[static_cast<std::size_t>(tails)] | (code >> (6 * tails)));
    for (int i = tails - 1; i >= 0; --i) *out++ = static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
    return out;
}

/// A cursor over one JSON text. Each function takes one thing, after white space; the first that cannot gives false,
/// as do all after it, and `why` tells. `room` is where decoded strings are put: the views live until the next one.
class Json {
public:
    Json(std::string_view text, std::vector<char> &room)
        : at_(text.data()), end_(text.data() + text.size()), room_(room) {}

    [[nodiscard]] const char *why() const { return why_; }
    [[nodiscard]] const char *at() const { return at_; }

    bool fail(const char *why) {
        if (why_ == nullptr) why_ = why;
        at_ = end_;
        return false;
    }

    bool next_is(char c) {
        while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
        return at_ < end_ && *at_ == c;
    }

    bool next_is_number() { return next_is('-') || (at_ < end_ && *at_ >= '0' && *at_ <= '9'); }

    bool take(char c, const char *why) {
        if (!next_is(c)) return fail(why);
        ++at_;
        return true;
    }

    bool end() {
        next_is(' ');
        return why_ == nullptr && (at_ == end_ || fail("there is more after the end"));
    }

    bool string(std::string_view &text);
    bool number(Micros &value);
    bool skip(int depth = 0);

    /// An object; `member(key)` takes each value.
    template <typename Member> bool object(Member &&member) {
        if (!take('{', "an object is missing")) return false;
        if (next_is('}')) return take('}', "");
        do {
            std::string_view text;
            if (!string(text)) return false;
            const std::string key(text);
            if (!take(':', "a colon is missing") || !member(key)) return false;
        } while (next_is(',') && take(',', ""));
        return take('}', "an object is not closed");
    }

private:
    static constexpr int kMaxDepth = 64;

    char *copy_plain(char *out);
    bool escape(char *&out);
    bool hex4(std::uint32_t &code);
    bool digits(std::uint64_t &value, int &exponent, bool fraction);
    bool word(std::string_view expected);
    bool array(int depth);

    const char *at_;
    const char *end_;
    const char *why_ = nullptr;
    std::vector<char> &room_;
};

/// The high bit of each byte of `word` that cannot stand for itself: a quote, a backslash, a control character, or part
/// of a longer UTF-8 sequence. (Bytes *after* the first such one may be marked wrongly: a borrow runs upwards.)
constexpr std::uint64_t special_bytes(std::uint64_t word) {
    constexpr std::uint64_t ones = 0x0101010101010101, high = ones * 0x80;
    const std::uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
    return (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | (word - ones * 0x20) | word) & high;
}

/// Copies up to the first special byte. Eight bytes are written at `out` even where fewer count: room_ has the space.
char *Json::copy_plain(char *out) {
    while (end_ - at_ >= 8) {
        std::uint64_t word;
        std::memcpy(&word, at_, 8);
        std::memcpy(out, &word, 8);
        const std::uint64_t special = special_bytes(word);
        if (std::endian::native != std::endian::little && special != 0) break;
        const int length = special == 0 ? 8 : std::countr_zero(special) / 8;
        at_ += length;
        out += length;
        if (special != 0) return out;
    }
    const auto plain = [](char c) { return (c & 0xE0) != 0 && (c & 0x80) == 0 && c != '"' && c != '\\'; };
    while (at_ < end_ && plain(*at_)) *out++ = *at_++;
    return out;
}

bool Json::string(std::string_view &text) {
    if (!take('"', "a string is missing")) return false;
    const std::size_t most = static_cast<std::size_t>(end_ - at_) + 8;  // decoding never makes text longer
    if (room_.size() < most) room_.resize(std::max(most, std::size_t{4096}));
    char *out = room_.data();
    while (true) {
        out = copy_plain(out);
        if (at_ == end_) return fail("a string is not closed");
        if (*at_ == '"') break;
        if (*at_ == '\\') {
            if (!escape(out)) return false;
            continue;
        }
        const std::size_t length = utf8_length(at_, end_);
        if (length == 0) return fail("a string is not UTF-8");
        if (length == 1) return fail("a control character stands in a string");
        for (std::size_t i = 0; i < length; ++i) *out++ = *at_++;
    }
    ++at_;
    text = {room_.data(), static_cast<std::size_t>(out - room_.data())};
    return true;
}

bool Json::hex4(std::uint32_t &code) {
    code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        const char c = at_ < end_ ? *at_ : ' ';
        const int lower = c | 0x20;
        if (c >= '0' && c <= '9') code = code << 4 | static_cast<std::uint32_t>(c - '0');
        else if (lower >= 'a' && lower <= 'f') code = code << 4 | static_cast<std::uint32_t>(lower - 'a' + 10);
        else return fail("\\u wants four hexadecimal digits");
    }
    return true;
}

bool Json::escape(char *&out) {
    constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    const char name = end_ - at_ >= 2 ? at_[1] : '\0';
    at_ += std::min<std::ptrdiff_t>(2, end_ - at_);
    if (name != 'u') {
        const std::size_t which = names.find(name);
        if (which == std::string_view::npos) return fail("an unknown escape stands in a string");
        *out++ = values[which];
        return true;
    }
    std::uint32_t code = 0, low = 0;
    if (!hex4(code)) return false;
    if (code >= 0xD800 && code < 0xE000) {  // one half of a pair: RFC 8259, section 7
        if (code >= 0xDC00 || end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return fail("half a surrogate pair");
        at_ += 2;
        if (!hex4(low)) return false;
        if (low < 0xDC00 || low >= 0xE000) return fail("half a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    out = put_utf8(out, code);
    return true;
}

/// Decimal digits, one at least; what no longer fits 64 bits only moves the exponent.
bool Json::digits(std::uint64_t &value, int &exponent, bool fraction) {
    const char *const first = at_;
    for (; at_ < end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
        const bool fits = value < 100'000'000'000'000'000;
        if (fits) value = value * 10 + static_cast<std::uint64_t>(*at_ - '0');
        if (fits == fraction) exponent += fraction ? -1 : 1;
    }
    return at_ > first || fail("a digit is missing");
}

/// A number, in millionths (so that a time is in microseconds), rounded; what is over kForever is kForever.
bool Json::number(Micros &value) {
    const bool minus = next_is('-');
    at_ += minus ? 1 : 0;
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
        const bool negative = ++at_ < end_ && *at_ == '-';
        if (at_ < end_ && (*at_ == '-' || *at_ == '+')) ++at_;
        std::uint64_t power = 0;
        int ignored = 0;
        if (!digits(power, ignored, false)) return false;
        exponent += static_cast<int>(std::min<std::uint64_t>(power, 1000)) * (negative ? -1 : 1);
    }
    for (; exponent > 0 && scaled != 0 && scaled < kForever; --exponent) scaled *= 10;
    for (; exponent < 0 && scaled != 0; ++exponent) scaled = exponent == -1 ? (scaled + 5) / 10 : scaled / 10;
    value = static_cast<Micros>(std::min<std::uint64_t>(scaled, kForever)) * (minus ? -1 : 1);
    return true;
}

bool Json::word(std::string_view expected) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(expected)) return fail("no JSON value");
    at_ += expected.size();
    return true;
}

bool Json::array(int depth) {
    take('[', "");
    if (next_is(']')) return take(']', "");
    do {
        if (!skip(depth)) return false;
    } while (next_is(',') && take(',', ""));
    return take(']', "an array is not closed");
}

/// Any value at all: checked, and forgotten.
bool Json::skip(int depth) {
    std::string_view text;
    Micros number_ = 0;
    if (depth > kMaxDepth) return fail("nested too deep");
    if (next_is('{')) return object([&](const std::string &) { return skip(depth + 1); });
    if (at_ == end_) return fail("a value is missing");
    switch (*at_) {
    case '[': return array(depth + 1);
    case '"': return string(text);
    case 't': return word("true");
    case 'f': return word("false");
    case 'n': return word("null");
    default: return number(number_);
    }
}

// === 3. The recording ================================================================================================
// A recording is read forwards only, line by line (v2, v3) or element by element (v1, one JSON text for all of it). One
// that is still written ends where the writer is just now: read(2) gives 0 there, and more later.

/// What reading gave: something, nothing yet (a live recording), the end, or an error (that has been said).
enum class Got { some, wait, end, bad };

/// The part of a file that is in memory: 256 KiB, more only for longer lines.
class Window {
public:
    bool open(const char *name) {
        const bool standard_input = std::string_view(name) == "-";
        fd_.reset(standard_input ? ::dup(STDIN_FILENO) : ::open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY));
        const off_t here = fd_ ? ::lseek(fd_.get(), 0, SEEK_CUR) : -1;
        start_ = at_ = standard_input ? here : std::min<off_t>(here, 0);  // BSD's /dev/fd/3 shares its writer's offset
        return static_cast<bool>(fd_);
    }

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool seekable() const { return start_ >= 0; }
    [[nodiscard]] std::string_view rest() const { return {buffer_.data() + begin_, end_ - begin_}; }
    void drop(std::size_t bytes) { begin_ += bytes; }

    /// Reads some more: 1, or 0 at the end of the file, or -1 with errno (EMSGSIZE: more than kMaxLine would be held).
    int fill() {
        std::copy(buffer_.begin() + offset(begin_), buffer_.begin() + offset(end_), buffer_.begin());
        end_ -= std::exchange(begin_, 0);
        if (end_ >= kMaxLine) return errno = EMSGSIZE, -1;
        if (end_ == buffer_.size()) buffer_.resize(std::max<std::size_t>(256 << 10, 2 * end_));
        const std::size_t room = buffer_.size() - end_;
        ssize_t n;
        do {
            n = seekable() ? ::pread(fd(), buffer_.data() + end_, room, at_) : ::read(fd(), buffer_.data() + end_, room);
        } while (n < 0 && errno == EINTR && g_signal == 0);
        if (n <= 0) return static_cast<int>(n);
        end_ += static_cast<std::size_t>(n);
        at_ += n;
        return 1;
    }

    void rewind() {
        begin_ = end_ = 0;
        at_ = start_;
    }

private:
    static std::ptrdiff_t offset(std::size_t index) { return static_cast<std::ptrdiff_t>(index); }

    Fd fd_;
    off_t start_ = -1;  // of the recording in the file; -1 for a pipe
    off_t at_ = 0;      // the next byte to read
    std::vector<char> buffer_;
    std::size_t begin_ = 0, end_ = 0;  // what is in the buffer
};

/// Follows the brackets and strings of JSON, byte by byte, without looking at anything else.
struct Nesting {
    int depth = 0;
    bool in_string = false, escaped = false;

    void take(char c) {
        if (escaped) escaped = false;
        else if (c == '"') in_string = !in_string;
        else if (in_string) escaped = c == '\\';
        else if (c == '[' || c == '{') ++depth;
        else if (c == ']' || c == '}') --depth;
    }
};

struct Header {
    std::string text;  // as it stands in the file
    int version = 0;   // 0: there is none (yet)
    int columns = -1, rows = -1;
    std::int64_t timestamp = -1;  // seconds since 1970
    Micros idle_limit = -1;
    std::string command, title, term, address;
    int pid = 0;  // of the shim
};

struct Event {
    Micros time = 0;         // since the start
    char kind = '?';         // o i r m x b, or ? for one that we do not know
    std::string_view bytes;  // what it holds, decoded; of an `o` event with a `b` before it, the exact bytes
    std::string_view tail;   // the event as it stands in the file, from the end of the time
};

/// What each letter of base64 (RFC 4648) stands for; -1 for what is none.
constexpr std::array<signed char, 256> kBase64 = [] {
    std::array<signed char, 256> values{};
    values.fill(-1);
    signed char value = 0;
    for (const char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) {
        values[static_cast<unsigned char>(c)] = value++;
    }
    return values;
}();

/// False if `text` is something else.
bool decode_base64(std::string_view text, std::string &bytes) {
    bytes.clear();
    if (text.size() % 4 != 0) return false;
    text.remove_suffix(text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0);
    std::uint32_t bits = 0;
    int held = 0;
    for (const char c : text) {
        const int value = kBase64[static_cast<unsigned char>(c)];
        if (value < 0) return false;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        held += 6;
        if (held >= 8) bytes.push_back(static_cast<char>(bits >> (held -= 8)));
    }
    return true;
}

/// A whole number in [low, high]; anything else is an error, for the reason `why`.
bool take_whole(Json &json, int &into, int low, int high, const char *why) {
    Micros value = 0;
    if (!json.next_is_number()) return json.fail(why);
    if (!json.number(value)) return false;
    if (value % kSecond != 0 || value / kSecond < low || value / kSecond > high) return json.fail(why);
    into = static_cast<int>(value / kSecond);
    return true;
}

/// A string, if there is one: where it matters little, another type is let pass.
bool take_text(Json &json, std::string &into) {
    std::string_view text;
    if (!json.next_is('"')) return json.skip();
    if (!json.string(text)) return false;
    into = text;
    return true;
}

/// A number likewise, in millionths.
bool take_number(Json &json, Micros &into) {
    return json.next_is_number() ? json.number(into) : json.skip();
}

constexpr char kBadSize[] = "the size is not a whole number from 0 to 65535";

bool take_term(Json &json, Header &header, const std::string &key) {
    if (key == "cols") return take_whole(json, header.columns, 0, 65535, kBadSize);
    if (key == "rows") return take_whole(json, header.rows, 0, 65535, kBadSize);
    return key == "type" ? take_text(json, header.term) : json.skip();
}

bool take_member(Json &json, Header &header, const std::string &key) {
    if (key == "version") return take_whole(json, header.version, 1, 3, "the version is not 1, 2 or 3");
    if (key == "width") return take_whole(json, header.columns, 0, 65535, kBadSize);
    if (key == "height") return take_whole(json, header.rows, 0, 65535, kBadSize);
    if (key == "command") return take_text(json, header.command);
    if (key == "title") return take_text(json, header.title);
    if (key == "idle_time_limit") return take_number(json, header.idle_limit);
    if (key == "timestamp") {
        Micros time = -kSecond;
        const bool taken = take_number(json, time);
        header.timestamp = time / kSecond;
        return taken;
    }
    if (!json.next_is('{')) return json.skip();
    if (key == "term") return json.object([&](const std::string &k) { return take_term(json, header, k); });
    if (key == "env") {
        return json.object([&](const std::string &k) { return k == "TERM" ? take_text(json, header.term) : json.skip(); });
    }
    if (key != "shim") return json.skip();
    return json.object([&](const std::string &k) {
        if (k == "pid") return take_whole(json, header.pid, 0, INT_MAX, "the pid is not a number");
        return k == "address" ? take_text(json, header.address) : json.skip();
    });
}

/// Reads a recording, event by event. With `follow`, the end of the file is the end only when the writer is gone or has
/// written an `x` event; until then `next` gives `wait` there.
class Recording {
public:
    bool open(const char *name, bool follow = false);
    Got next(Event &event);
    bool rewind();

    [[nodiscard]] const Header &header() const { return header_; }
    [[nodiscard]] const std::string &name() const { return name_; }
    [[nodiscard]] const Window &window() const { return window_; }
    /// The process that writes the file now: 0 for one that cannot be seen from here (another container's).
    [[nodiscard]] std::optional<pid_t> writer() const;
    /// Whether the writer went away without an `x` event; known at the end, when following.
    [[nodiscard]] bool died() const { return writer_gone_ && !exited_ && window_.seekable(); }
    /// Whether `next` might have to wait for a slow pipe: a good moment to write out what has been read so far.
    [[nodiscard]] bool might_block() const {
        return !window_.seekable() && window_.rest().find('\n') == std::string_view::npos;
    }
    /// Says what is wrong at the present line.
    Got complain_here(std::string_view why) const {
        complain(name_ + ":" + std::to_string(std::max(line_, 1L)), why);
        return Got::bad;
    }

private:
    Got more();
    Got read_header();
    Got cut_head(std::string &head);
    Got cut_line(std::string_view &text);
    Got peek(char &c);
    Got cut_element(std::string_view &text);
    Got finish_document();
    bool parse(std::string_view text, Event &event, const char *&why);
    bool parse_text(Json &json, Event &event);

    std::string name_;
    bool follow_ = false;
    Window window_;
    Header header_;
    std::vector<char> room_;          // for strings that are decoded
    std::string exact_;               // what the last `b` event held
    bool exact_waits_ = false;        // ... and the `o` event that it is for has not come yet
    long line_ = 0;                   // the present line, from 1
    Micros time_ = 0;                 // of the last event
    bool torn_ = false;               // the present line has no newline, and the file ends there
    bool exited_ = false;             // an `x` event has come
    bool writer_gone_ = false;        // nobody writes the file any more
    bool first_element_ = true;       // v1: no comma is wanted yet
};

bool Recording::open(const char *name, bool follow) {
    name_ = std::string_view(name) == "-" ? "standard input" : name;
    follow_ = follow;
    if (!window_.open(name)) return complain_errno(name_), false;
    return rewind();
}

/// Begins again, with the header.
bool Recording::rewind() {
    window_.rewind();
    header_ = Header();
    exact_waits_ = torn_ = exited_ = writer_gone_ = false;
    line_ = 0;
    time_ = 0;
    first_element_ = true;
    Got got;
    while ((got = read_header()) == Got::wait && g_signal == 0) ::poll(nullptr, 0, kPollMillis);
    if (got == Got::end) complain(name_ + ":1", "the header is torn: nothing was recorded");
    return got != Got::bad;
}

std::optional<pid_t> Recording::writer() const {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(window_.fd(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
    return lock.l_pid;
}

/// Brings more of the file into the window. That the writer is gone is asked *before* the last attempt to read: what
/// it wrote between our last read and its end is then still found.
Got Recording::more() {
    while (true) {
        const int n = window_.fill();
        if (n > 0) return Got::some;
        if (n < 0 && errno == EMSGSIZE) return ++line_, complain_here("a line is longer than 2 MiB");
        if (n < 0) return complain_errno(name_), Got::bad;
        if (!follow_ || writer_gone_) return Got::end;
        if (writer()) return Got::wait;
        writer_gone_ = true;
    }
}

/// The first JSON object of the file: all of it (v2, v3), or up to and with the bracket of "stdout": [ (v1).
Got Recording::cut_head(std::string &head) {
    Nesting nesting;
    std::size_t at = 0, key = 0;  // key: where the last string of the outermost object began
    while (true) {
        const std::string_view rest = window_.rest();
        for (; at < rest.size(); ++at) {
            const char c = rest[at];
            if (nesting.depth == 0 && c != '{') return complain_here("not a recording: no JSON object begins it");
            if (nesting.depth == 1 && c == '"' && !nesting.in_string) key = at;
            nesting.take(c);
            if (nesting.depth == 2 && c == '[' && !nesting.in_string) {
                std::string before(rest.substr(key, at - key));
                std::erase_if(before, [](char space) { return space <= ' '; });
                if (before == "\"stdout\":") nesting.depth = 0;
            }
            if (nesting.depth > 0) continue;
            head = rest.substr(0, at + 1);
            window_.drop(at + 1);
            return Got::some;
        }
        const Got got = more();
        if (got == Got::some) continue;
        if (got != Got::end) return got;
        if (rest.empty()) return complain_here("not a recording: it is empty");
        return rest.find('\n') == std::string_view::npos ? Got::end : complain_here("the header is not closed");
    }
}

Got Recording::read_header() {
    const Got got = cut_head(header_.text);
    if (got != Got::some) return got;
    const bool document = header_.text.ends_with('[');
    const std::string whole = header_.text + (document ? "]}" : "");
    Json json(whole, room_);
    json.object([&](const std::string &key) { return take_member(json, header_, key); }) && json.end();
    if (json.why() != nullptr) return complain_here(std::string("the header: ") + json.why());
    if (header_.version == 0) return complain_here("the header has no version");
    if ((header_.version == 1) != document) return complain_here("version 1 has \"stdout\", versions 2 and 3 have not");
    if (header_.columns < 0 || header_.rows < 0) return complain_here("the header has no size");
    if (document) line_ = 1 + std::count(whole.begin(), whole.end(), '\n');
    else if (whole.find('\n') != std::string::npos) return complain_here("the header is longer than a line");
    return Got::some;
}

Got Recording::cut_line(std::string_view &text) {
    std::size_t seen = 0;
    while (true) {
        const std::string_view rest = window_.rest();
        const std::size_t newline = rest.find('\n', seen);
        if (newline != std::string_view::npos) {
            text = rest.substr(0, newline);
            window_.drop(newline + 1);
            break;
        }
        seen = rest.size();
        const Got got = more();
        if (got == Got::some) continue;
        if (got != Got::end || seen == 0) return got;
        text = window_.rest();
        window_.drop(seen);
        torn_ = true;
        break;
    }
    ++line_;
    return Got::some;
}

/// v1: the next character that is not white space.
Got Recording::peek(char &c) {
    while (true) {
        for (const char next : window_.rest()) {
            c = next;
            if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return Got::some;
            line_ += c == '\n' ? 1 : 0;
            window_.drop(1);
        }
        const Got got = more();
        if (got != Got::some) return got == Got::end ? complain_here("it ends in the middle") : got;
    }
}

/// v1: the next element of "stdout".
Got Recording::cut_element(std::string_view &text) {
    char c = 0;
    if (const Got got = peek(c); got != Got::some) return got;
    if (c == ']') return finish_document();
    if (!std::exchange(first_element_, false)) {
        if (c != ',') return complain_here("a comma is missing");
        window_.drop(1);
        if (const Got got = peek(c); got != Got::some) return got;
    }
    if (c != '[') return complain_here("an event is missing");
    Nesting nesting;
    for (std::size_t at = 0;; ++at) {
        if (at == window_.rest().size()) {
            const Got got = more();
            if (got != Got::some) return got == Got::end ? complain_here("it ends in the middle") : got;
        }
        nesting.take(window_.rest()[at]);
        if (nesting.depth > 0) continue;
        text = window_.rest().substr(0, at + 1);
        window_.drop(at + 1);
        return Got::some;
    }
}

/// v1: what follows "stdout": the rest of the object that began the file.
Got Recording::finish_document() {
    Got got;
    while ((got = more()) == Got::some) {}
    if (got != Got::end) return got;
    const std::string tail = "{\"\": [" + std::string(window_.rest());
    window_.drop(window_.rest().size());
    Json json(tail, room_);
    json.skip() && json.end();
    return json.why() == nullptr ? Got::end : complain_here(json.why());
}

Got Recording::next(Event &event) {
    while (header_.version != 0 && !(follow_ && exited_)) {
        std::string_view text;
        const Got got = header_.version == 1 ? cut_element(text) : cut_line(text);
        if (got != Got::some) return got;
        const bool blank = text.find_first_not_of(" \t\r") == std::string_view::npos;
        if (blank || (header_.version == 3 && text.starts_with('#'))) continue;
        const char *why = nullptr;
        if (parse(text, event, why)) return Got::some;
        if (!torn_) return complain_here(why);
    }
    return Got::end;
}

/// `[time, "kind", "text"]`, or `[delay, "text"]` in v1.
bool Recording::parse(std::string_view text, Event &event, const char *&why) {
    Json json(text, room_);
    Micros time = 0;
    std::string_view kind = "o";
    bool good = json.take('[', "an event is not an array") && json.number(time);
    event.tail = text.substr(good ? static_cast<std::size_t>(json.at() - text.data()) : 0);
    good = good && json.take(',', "a comma is missing");
    if (header_.version != 1) good = good && json.string(kind) && json.take(',', "a comma is missing");
    event.kind = kind.size() == 1 && kind.find_first_of("oirmxb") == 0 ? kind[0] : '?';
    good = good && (time >= 0 || json.fail("a time is negative")) && parse_text(json, event);
    good = good && json.take(']', "an event is not closed") && json.end();
    if (good && header_.version == 2) time_ = std::max(time_, time);
    else if (good) time_ = std::min(time_ + time, kForever);
    event.time = time_;
    exited_ = exited_ || (good && event.kind == 'x');
    why = json.why();
    return good;
}

bool Recording::parse_text(Json &json, Event &event) {
    event.bytes = {};
    if (event.kind == '?') {
        do {
            if (!json.skip()) return false;
        } while (json.next_is(',') && json.take(',', ""));
        return true;
    }
    if (!json.string(event.bytes)) return false;
    if (event.kind == 'b') {
        exact_waits_ = decode_base64(event.bytes, exact_);
        return exact_waits_ || json.fail("a b event is not base64");
    }
    if (event.kind == 'o' && std::exchange(exact_waits_, false)) event.bytes = exact_;
    return true;
}

/// What the command line says; each command looks at its own.
struct Options {
    std::vector<const char *> files;
    bool follow = false, no_queries = false, json = false, force = false;
    std::uint64_t from = 0, to = UINT64_MAX;
    Micros speed = kSecond;  // in millionths: twice as fast is 2,000,000
    Micros idle = -1;        // longest pause; -1: as the header says
    Micros start = 0;
    std::string type, out = "-";
};

// === 4. cat ==========================================================================================================

/// Waits for a moment, and less if nobody reads our output any more: then false.
bool pause_for_more(const Output &out) {
    pollfd closed{.fd = out.fd(), .events = 0, .revents = 0};  // errors and hang-ups are told without being asked for
    return ::poll(&closed, 1, kPollMillis) <= 0 || (closed.revents & (POLLERR | POLLHUP)) == 0;
}

/// The part of `bytes`, which begin at `position` of the output, that lies in [from, to).
std::string_view clip(std::string_view bytes, std::uint64_t position, std::uint64_t from, std::uint64_t to) {
    if (position + bytes.size() > to) bytes.remove_suffix(position + bytes.size() - std::max(position, to));
    if (position < from) bytes.remove_prefix(std::min<std::uint64_t>(bytes.size(), from - position));
    return bytes;
}

int cat(const Options &options) {
    Recording recording;
    if (!recording.open(options.files[0], options.follow)) return 1;
    Output out(STDOUT_FILENO, "standard output");
    std::uint64_t position = 0;
    Got got = Got::some;
    while (position < options.to) {
        Event event;
        if (recording.might_block() && !out.flush()) break;
        got = recording.next(event);
        if (got == Got::wait && out.flush() && pause_for_more(out)) continue;
        if (got != Got::some) break;
        if (event.kind != 'o') continue;
        if (!out.put(clip(event.bytes, position, options.from, options.to))) break;
        position += event.bytes.size();
    }
    out.flush();
    if (recording.died()) complain(recording.name(), "the session died: it has no exit event");
    return got == Got::bad ? 1 : out.status();
}

// === 5. info =========================================================================================================

// === 7. play =========================================================================================================

int play(const Options &options) {
    Recording recording;
    if (!recording.open(options.files[0], options.follow)) return 1;
    Output out(STDOUT_FILENO, "standard output");
    Micros last = 0;
    Got got = Got::some;
    const Micros idle = options.idle >= 0 ? options.idle : recording.header().idle_limit >= 0 ? recording.header().idle_limit : kForever;
    while (true) {
        Event event;
        got = recording.next(event);
        if (got == Got::wait && out.flush() && pause_for_more(out)) continue;
        if (got != Got::some) break;
        if (event.kind != 'o') continue;
        if (event.time > options.start) {
            Micros d = std::min(event.time - std::max(last, options.start), idle) * kSecond / options.speed;
            timespec t{.tv_sec = d / kSecond, .tv_nsec = d % kSecond * 1000};
            out.flush();
            ::nanosleep(&t, nullptr);
        }
        last = event.time;
        if (!out.put(event.bytes)) break;
    }
    out.flush();
    if (recording.died()) complain(recording.name(), "the session died: it has no exit event");
    return got == Got::bad ? 1 : out.status();
}

int info(const Options &options) {
    for (const char *file : options.files) {
        Recording recording;
        if (!recording.open(file)) return 1;
        Event event;
        Got got;
        std::uint64_t bytes = 0, events = 0;
        std::string status;
        while ((got = recording.next(event)) == Got::some) {
            events += 1;
            if (event.kind == 'o') bytes += event.bytes.size();
            if (event.kind == 'x') status = event.bytes;
        }
        const auto w = recording.writer();
        std::printf("%s: %s, %dx%d, %.6f s, %llu bytes, %llu events, %s %d %s\n", file, recording.header().command.c_str(), recording.header().columns, recording.header().rows, (double)event.time / 1e6,
            (unsigned long long)bytes, (unsigned long long)events, w ? "running" : status.empty() ? "died" : "ended", w.value_or(0), status.c_str());
    }
    return 0;
}

// === 10. The command line ============================================================================================

} // namespace

int main(int argc, char **argv) {
    Options o;
    ::signal(SIGPIPE, SIG_IGN);
    const option longs[] = {{"from", 1, nullptr, 1000}, {"to", 1, nullptr, 1001}, {"no-queries", 0, nullptr, 1002}, {"follow", 0, nullptr, 'f'}, {}};
    std::string cmd = argc > 1 ? argv[1] : "";
    int c;
    while ((c = getopt_long(argc - 1, argv + 1, "fs:i:t:", longs, nullptr)) != -1) {
        if (c == 'f') o.follow = true;
        if (c == 's') o.speed = (Micros)(atof(optarg) * 1e6);
        if (c == 'i') o.idle = (Micros)(atof(optarg) * 1e6);
        if (c == 't') o.start = (Micros)(atof(optarg) * 1e6);
        if (c == 1000) o.from = strtoull(optarg, nullptr, 10);
        if (c == 1001) o.to = strtoull(optarg, nullptr, 10);
    }
    for (int i = optind + 1; i < argc; ++i) o.files.push_back(argv[i]);
    if (o.files.empty()) { complain("usage", "record play|cat|info FILE"); return 2; }
    if (cmd == "cat") return cat(o);
    if (cmd == "play") return play(o);
    if (cmd == "info") return info(o);
    return 2;
}
