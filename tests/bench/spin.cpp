// spin: keeps a core awake. bench.py runs one on each core, in the scheduler's class SCHED_IDLE (sched(7)): any other
// task preempts it at once. In a virtual machine a core that goes idle takes some 50 us to wake, as the host has to be
// asked; a program that sleeps for a moment after every 4 KiB, as all do that read a terminal, then measures only that.
#include <sys/prctl.h>

#include <csignal>

int main() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause(); // leaves the core's other thread its share
#endif
    }
}
