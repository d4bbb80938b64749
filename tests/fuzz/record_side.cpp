#include "record_side.hpp"

#include "fuzz.hpp"

#define main record_main
#include "../../record.cpp"
#undef main

RecordSide read_with_record(const std::string &path) {
    RecordSide found;
    RecordingReader recording;
    Event event;
    if (!recording.open(path.c_str())) return found;
    Got got = Got::some;
    while ((got = recording.next(event)) == Got::some) {
        found.kinds += event.kind;
        if (event.output) found.output += event.bytes;
        if (event.kind == 'i') found.typed += event.bytes;
        if (event.kind == 'x') found.status = event.bytes;
    }
    found.good = got == Got::end;
    found.command = recording.header().command;
    return found;
}
