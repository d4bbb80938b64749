/* System calls that fail when the test says so (LD_PRELOAD). A file NAME in the folder $TRUST_FAULTS switches a fault
   on; its content is the fault's number:
     eio     every write to a regular file fails with EIO
     half    every write to a regular file writes half of what was asked (at least a byte)
     fork N  the Nth fork from the start fails with EAGAIN, and all after it
     accept N accept fails with errno N
     clock N the time of day is N seconds off (the monotonic clock is not); forward N: both are
     netlink socket(2) makes none of AF_NETLINK: EAFNOSUPPORT */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int fault(const char *name, long *value)
{
    const char *folder = getenv("TRUST_FAULTS");
    char path[512], text[32];
    const int saved = errno;
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        const long n = syscall(SYS_read, fd, text, sizeof text - 1);
        syscall(SYS_close, fd);
        text[n > 0 ? n : 0] = 0;
        if (value) *value = strtol(text, 0, 10);
    }
    errno = saved;
    return fd >= 0;
}

static int regular(int fd)
{
    struct stat s;
    const int saved = errno, is = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    errno = saved;
    return is;
}

static int broken(int fd) { return regular(fd) && fault("eio", 0); }

static size_t shortened(int fd, size_t n) { return n > 1 && regular(fd) && fault("half", 0) ? n / 2 : n; }

ssize_t write(int fd, const void *data, size_t size)
{
    if (broken(fd)) return errno = EIO, -1;
    return syscall(SYS_write, fd, data, shortened(fd, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    if (broken(fd)) return errno = EIO, -1;
    return syscall(SYS_pwrite64, fd, data, shortened(fd, size), at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (broken(fd)) return errno = EIO, -1;
    if (count > 0 && regular(fd) && fault("half", 0)) return write(fd, parts[0].iov_base, parts[0].iov_len);
    return syscall(SYS_writev, fd, parts, count);
}

static int no_fork(void)
{
    static long forks;
    long failing;
    ++forks;
    return fault("fork", &failing) && forks >= failing;
}

pid_t fork(void)
{
    static pid_t (*real)(void);
    if (no_fork()) return errno = EAGAIN, -1;
    if (!real) real = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
    return real();
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
                char *const argv[], char *const env[])
{
    static int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                       char *const *, char *const *);
    if (no_fork()) return EAGAIN;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
    return real(pid, path, actions, attr, argv, env);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
    long error;
    if (fault("accept", &error)) return errno = (int)error, -1;
    return (int)syscall(SYS_accept4, fd, address, length, flags);
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    return accept4(fd, address, length, 0);
}

int socket(int family, int type, int protocol)
{
    if (family == AF_NETLINK && fault("netlink", 0)) return errno = EAFNOSUPPORT, -1;
    return (int)syscall(SYS_socket, family, type, protocol);
}

static long step(const char *name)
{
    long seconds = 0;
    return fault(name, &seconds) ? seconds : 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    const int result = real(clock, t);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) t->tv_sec += step("clock");
    if (result == 0) t->tv_sec += step("forward");
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
