// A stub, not Apple's header: the compiler that `make cross` uses has macOS's headers but for this one. It declares what
// the shim takes from <util.h>, as openpty(3) of macOS has it, so that the rest of the file is compiled against Apple's.
#pragma once

#include <termios.h>
#include <sys/ioctl.h>

extern "C" int openpty(int *master, int *slave, char *name, struct termios *settings, struct winsize *size);
