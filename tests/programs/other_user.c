/* A program that becomes another user, as sudo does: installed setuid root, it says READY and its pid, and waits. With an
 * argument it ignores the hang-up too. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && argv[1][0] != '\0') signal(SIGHUP, SIG_IGN);
    if (setresuid(0, 0, 0) != 0) return 1;
    printf("READY %d\n", (int)getpid());
    fflush(stdout);
    for (;;) pause();
}
