// Fuzzes the command line of shim.cpp: sizes, windows, addresses and options.
//
// The input is a command line, a word a line. Checked:
//   * each word is a SIZE, a window and an address, or not, by the grammar written down a second time;
//   * an address that resolves is named by a text that resolves to the same;
//   * the command line is taken, or refused with exit status 2 and one line that begins with "shim: ".
// No name service is asked: getaddrinfo(3) takes numbers only here.
#include "fuzz.hpp"

#include <netdb.h>

int numeric_getaddrinfo(const char *host, const char *port, const addrinfo *hints, addrinfo **list) {
    addrinfo numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    return ::getaddrinfo(host, port, &numeric, list);
}

#define main program_main
#define getaddrinfo numeric_getaddrinfo
#include "../../shim.cpp"
#undef getaddrinfo
#undef main

namespace {

/// The number that `digits` are, if they are digits only and it is not over `most`.
std::optional<std::uint64_t> read_digits(std::string_view digits, std::uint64_t most) {
    unsigned __int128 value = 0;
    if (digits.empty()) return std::nullopt;
    for (const char c : digits) {
        if (c < '0' || c > '9') return std::nullopt;
        value = std::min(value * 10 + static_cast<unsigned>(c - '0'), static_cast<unsigned __int128>(most) + 1);
    }
    return value <= most ? std::optional(static_cast<std::uint64_t>(value)) : std::nullopt;
}

std::optional<std::uint64_t> read_size(std::string_view text) {
    unsigned shift = 0;
    if (text.ends_with('K')) shift = 10;
    if (text.ends_with('M')) shift = 20;
    if (text.ends_with('G')) shift = 30;
    if (shift != 0) text.remove_suffix(1);
    const auto number = read_digits(text, UINT64_MAX >> shift);
    return number ? std::optional(*number << shift) : std::nullopt;
}

void check_window(std::string_view text) {
    const std::optional<winsize> size = parse_window(text);
    const std::size_t x = std::min(text.find('x'), text.size());
    const auto columns = read_digits(text.substr(0, x), 65535),
               rows = read_digits(text.substr(std::min(x + 1, text.size())), 65535);
    check(size.has_value() == (columns && rows && *columns > 0 && *rows > 0),
          "a window is taken for none, or the other way round");
    check(!size || (size->ws_col == *columns && size->ws_row == *rows), "another window");
}

/// The name of a session: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; not digits alone, nor with `.` or `-` in front.
bool is_session(std::string_view text) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    bool number = true;
    for (const char c : text) {
        number = number && is_digit(c);
        if (!is_letter(c) && !is_digit(c) && c != '.' && c != '_' && c != '-' && c != '@') return false;
    }
    return !number && text.size() <= 64 && text.front() != '.' && text.front() != '-';
}

bool same_address(const SocketAddress &a, const SocketAddress &b) {
    return a.length == b.length && std::memcmp(&a.storage, &b.storage, a.length) == 0;
}

void check_address(std::string_view text) {
    const Resolved found = resolve(text);
    check(found.addresses.empty() == !found.why.empty(), "neither an address nor a reason, or both");
    check(!found.malformed || found.addresses.empty(), "a malformed address is one");
    const bool path = text.find('/') != std::string_view::npos;
    if (path) check(found.malformed == (text.size() >= sizeof(sockaddr_un{}.sun_path)), "the length of a path");
    const bool port = read_digits(text, 65535).has_value();
    if (port)
        check(!found.addresses.empty() && is_loopback(found.addresses[0]),
              "a port alone is not on the loopback interface");
    if (is_session(text)) check(!found.malformed, "the name of a session is malformed");
    else if (!path && !read_digits(text.substr(text.rfind(':') + 1), 65535)) check(found.malformed, "no port, and taken");
    if (found.addresses.empty()) return;
    const std::string name = to_text(found.addresses[0]);
    if (path) check_same(name, text, "the name of a path");
    const Resolved again = resolve(name);
    check(!again.addresses.empty() && same_address(again.addresses[0], found.addresses[0]),
          "the name of an address is another's");
}

void check_command_line(std::vector<std::string> words) {
    static const MemoryFile said("said");
    said.set("");
    ::dup2(said.fd(), STDERR_FILENO);
    words.insert(words.begin(), "shim");
    std::vector<char *> argv;
    for (std::string &word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::optind = 0;  // glibc: begin anew
    Options options;
    const auto status = parse_command_line(static_cast<int>(words.size()), argv.data(), options);
    const std::string text = said.get();
    if (status == 2)
        check(text.starts_with("shim: ") && text.find('\n') == text.size() - 1, "a usage error is not one line");
    else check(text.empty() && status.value_or(0) == 0, "a message without an error, or another exit status");
    if (!status) check(options.program != nullptr && options.program[0] != nullptr, "no program, and no error");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::vector<std::string> words;
    std::string text(as_text(data, size));
    std::erase(text, '\0');
    for_each_line(text, [&words](std::string_view line) { words.emplace_back(line); });
    for (const std::string &word : words) {
        check(parse_size(word) == read_size(word), "a size");
        check_window(word);
        check_address(word);
    }
    check_command_line(words);
    return 0;
}
