// What record.cpp makes of a file, for targets that test another source: both have names in common, so each is a
// translation unit of its own.
#pragma once

#include <string>
#include <string_view>

/// What record's reader found in a recording.
struct RecordSide {
    bool good = false;    // read to its end, without an error
    std::string output;   // the exact bytes
    std::string typed;    // of all `i` events
    std::string kinds;    // of the events, a letter each
    std::string status;   // of the `x` event
    std::string command;  // of the header
};

RecordSide read_with_record(const std::string &path);
