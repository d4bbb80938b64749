// Fuzzes `record cat --no-queries`, which writes the history of a session from its first byte (--history all), against
// the shim's own idea of a question: Follower of shim.cpp.
//
// The input is output of a program. Checked:
//   * what record's filter leaves holds no question;
//   * output without a question leaves a terminal in the same modes (a sequence that is none may go).
#include "fuzz.hpp"

#define main shim_main
#include "../../shim.cpp"
#undef main

#include "record_side.hpp"

namespace {

std::vector<Range> questions_in(std::string_view bytes) {
    Follower follower;
    std::vector<Range> queries;
    follower.feed(bytes, queries);
    return queries;
}

std::string modes_after(std::string_view bytes) {
    Follower follower;
    std::vector<Range> ignored;
    follower.feed(bytes, ignored);
    return follower.modes().sequences();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string_view bytes = as_text(data, size);
    const std::string left = without_queries_by_record(bytes);
    const std::vector<Range> asked = questions_in(left);
    if (!asked.empty())
        check_same(left.substr(asked[0].begin, asked[0].end - asked[0].begin), "", "a question is left by record");
    if (questions_in(bytes).empty())
        check_same(modes_after(left), modes_after(bytes), "record leaves out what matters");
    return 0;
}
