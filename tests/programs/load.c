/* Many clients in one process: trust_load SOCKET CLIENTS FILE connects that often to the Unix-domain socket, writes
   READY when the first byte has come to each, and reads until each has got every byte of FILE, comparing as it goes.
   Ends with 0 when all have; says what was wrong and ends with 1 otherwise. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int die(const char *what, int client)
{
    printf("client %d: %s: %s\n", client, what, strerror(errno));
    exit(1);
}

static int connected(const char *path, int client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect", client);
    if (write(fd, "\xFF\xFFss\0\0\0\0\0\0\0", 12) != 12) die("write", client); /* a pipe: every byte counts */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    const int clients = atoi(argv[2]), file = open(argv[3], O_RDONLY), epoll = epoll_create1(0);
    struct stat s;
    if (fstat(file, &s) < 0) die(argv[3], -1);
    const size_t size = (size_t)s.st_size;
    const char *wanted = mmap(0, size, PROT_READ, MAP_PRIVATE, file, 0);
    int *fds = calloc((size_t)clients, sizeof *fds), begun = 0, done = 0;
    size_t *got = calloc((size_t)clients, sizeof *got);
    for (int i = 0; i < clients; ++i) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        fds[i] = connected(argv[1], i);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0) die("epoll_ctl", i);
    }
    while (done < clients) {
        static char buffer[1 << 18];
        struct epoll_event events[64];
        const int n = epoll_wait(epoll, events, 64, 30000);
        if (n <= 0) return printf("nothing comes: %d of %d clients have all\n", done, clients), 1;
        for (int e = 0; e < n; ++e) {
            const int i = (int)events[e].data.u32;
            const ssize_t r = read(fds[i], buffer, sizeof buffer);
            if (r == 0) return printf("client %d: closed after %zu bytes\n", i, got[i]), 1;
            if (r < 0 && errno == EAGAIN) continue;
            if (r < 0) die("read", i);
            if (got[i] + (size_t)r > size || memcmp(buffer, wanted + got[i], (size_t)r) != 0)
                return printf("client %d: other bytes than those wanted from %zu on\n", i, got[i]), 1;
            if (got[i] == 0 && ++begun == clients) puts("READY"), fflush(stdout);
            got[i] += (size_t)r;
            if (got[i] == size) ++done;
        }
    }
    return 0;
}
