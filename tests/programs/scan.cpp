// The least that any reader of a recording must do, for comparison with `record cat` (tests/bench/record_speed.py): reads the
// file, finds the strings of each line (JSON's quotes, with escapes in mind) and writes their raw text. Nothing is
// decoded, nothing is checked.
//
//     record_scan FILE > /dev/null
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;

/// Where the string that goes on at `from` ends: its closing quote, or `end` if the block ends first. `escaped` says
/// whether the character at `from` stands behind a backslash, and afterwards the same of the next block's first.
const char *end_of_string(const char *from, const char *end, bool &escaped) {
    for (const char *p = from; p < end; p++) {
        if (escaped) escaped = false;
        else if (*p == '\\') escaped = true;
        else if (*p == '"') return p;
    }
    return end;
}

} // namespace

int main(int argc, char **argv) {
    const int fd = argc == 2 ? ::open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 2;
    static char block[kBlockBytes];
    static char out[kBlockBytes];
    bool inside = false;
    bool escaped = false;
    for (ssize_t n = 0; (n = ::read(fd, block, sizeof block)) > 0;) {
        std::size_t kept = 0;
        const char *const end = block + n;
        for (const char *p = block; p < end;) {
            if (inside) {
                const char *const quote = end_of_string(p, end, escaped);
                std::memcpy(out + kept, p, static_cast<std::size_t>(quote - p));
                kept += static_cast<std::size_t>(quote - p);
                inside = quote == end;
                p = inside ? end : quote + 1;
            } else {
                const void *const quote = std::memchr(p, '"', static_cast<std::size_t>(end - p));
                inside = quote != nullptr;
                p = inside ? static_cast<const char *>(quote) + 1 : end;
            }
        }
        if (::write(STDOUT_FILENO, out, kept) != static_cast<ssize_t>(kept)) return 1;
    }
    return 0;
}
