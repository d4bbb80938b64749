// What shim.cpp makes of output, for targets that test another source: both have names in common, so each is a
// translation unit of its own.
#pragma once

#include <string>
#include <string_view>

/// The sequences that set the modes which `output` has left on.
std::string modes_by_shim(std::string_view output);
