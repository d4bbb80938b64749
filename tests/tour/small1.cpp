// A program on a terminal of its own; what it prints is copied to standard output.      small1 PROGRAM [ARG]...
#include <pty.h>  // openpty, and ioctl
#include <sys/wait.h>
#include <unistd.h>

int main(int, char** argv) {
    int master = -1, slave = -1;
    openpty(&master, &slave, nullptr, nullptr, nullptr);
    if (fork() == 0) {                                   // the child becomes the program:
        setsid();                                        // it leads a session of its own,
        ioctl(slave, TIOCSCTTY, 0);                      // which this terminal controls,
        for (int fd = 0; fd < 3; fd++) dup2(slave, fd);  // and which is its standard streams
        close(master);
        close(slave);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    close(slave);  // or the last one would be ours, and its end never seen
    char buffer[4096];
    for (ssize_t n = read(master, buffer, sizeof buffer); n > 0; n = read(master, buffer, sizeof buffer))
        write(1, buffer, static_cast<size_t>(n));
    int status = 0;
    wait(&status);
    return WEXITSTATUS(status);
}
