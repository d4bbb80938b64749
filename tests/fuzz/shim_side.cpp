#include "shim_side.hpp"

#include "fuzz.hpp"

#define main shim_main
#include "../../shim.cpp"
#undef main

std::string modes_by_shim(std::string_view output) {
    Follower follower;
    std::vector<Range> ignored;
    follower.feed(output, ignored);
    return follower.modes().sequences();
}
