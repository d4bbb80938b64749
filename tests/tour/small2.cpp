// A shim in 60 lines: a program on a terminal that all share who connect.      small2 SOCKET PROGRAM [ARG]...
#include <pty.h>  // openpty, and ioctl
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <set>

int start(char** argv) {  // small1, but that the loop is main's; gives the master
    int master = -1, slave = -1;
    openpty(&master, &slave, nullptr, nullptr, nullptr);
    if (fork() == 0) {
        setsid();
        ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; fd++) dup2(slave, fd);
        for (int fd = 3; fd <= slave; fd++) close(fd);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(slave);
    return master;
}

int listen_at(const char* path) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    return listener;
}

int main(int, char** argv) {
    const int listener = listen_at(argv[1]), master = start(argv + 2);
    std::set<int> clients;
    char buffer[4096];
    for (ssize_t n = 1; n > 0;) {
        fd_set ready;
        FD_ZERO(&ready);
        for (int fd : clients) FD_SET(fd, &ready);
        FD_SET(listener, &ready);
        FD_SET(master, &ready);
        select(FD_SETSIZE, &ready, nullptr, nullptr, nullptr);
        if (FD_ISSET(listener, &ready)) clients.insert(accept(listener, nullptr, nullptr));
        if (FD_ISSET(master, &ready)) {  // the program prints: for everybody
            n = read(master, buffer, sizeof buffer);
            for (int fd : clients) write(fd, buffer, n > 0 ? static_cast<size_t>(n) : 0);
        }
        for (int fd : std::set(clients)) {  // somebody types (a copy of the set: who leaves is erased)
            if (!FD_ISSET(fd, &ready)) continue;
            const ssize_t typed = read(fd, buffer, sizeof buffer);
            if (typed > 0) {
                write(master, buffer, static_cast<size_t>(typed));
            } else {
                close(fd);
                clients.erase(fd);
            }
        }
    }
    for (int fd : clients) close(fd);
    unlink(argv[1]);
    int status = 0;
    wait(&status);
    return WEXITSTATUS(status);
}
