/* A shim between a program and the C library that makes storage fail, dally, or be seen at work.
 *
 * Preloaded (LD_PRELOAD) into the process under test. FAULTFS names a control file that the test has
 * mapped and writes while the program runs; its layout is in faultfs.py and must agree with `struct
 * control` below. Every call that matters for durability passes here: it is compared with the rules,
 * and written to a log with two numbers of one counter that all processes share, taken before and after
 * the call, so that "A had ended before B began" can be read off the log.
 *
 * It fails closed: without a readable control file the program is not started at all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum call { FSYNC = 1, FDATASYNC = 2, WRITE = 4, PWRITE = 8, CREATE = 16, RENAME = 32, LINK = 64, SEND = 128,
            MKDIR = 256, TRUNCATE = 512, UNLINK = 1024, CONNECT = 2048 };
enum act { FAIL = 1, DELAY = 2, KILL_BEFORE = 3, KILL_AFTER = 4 };

#define RULES 16
#define MATCH 232

struct rule {
    uint32_t calls;  /* which calls; 0: the rule is off */
    uint32_t action;
    int32_t number;  /* errno, or milliseconds */
    int32_t skip;    /* matching calls still to let pass */
    int32_t times;   /* how often to act; below 0: always */
    uint32_t hits;   /* how often it acted */
    char match[MATCH]; /* in the path, for SEND in the first octets; a last $: at the end; empty: any */
};

struct control {
    uint64_t counter;
    uint32_t logged; /* which calls go to the log */
    uint32_t watched; /* all calls that some rule names */
    char log[256];
    int64_t clock_step; /* nanoseconds that the clock of the day is off */
    struct rule rules[RULES];
};

static struct control *control;
static int log_fd = -1;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULTFS");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) {
        fprintf(stderr, "faultfs: no control file %s\n", path ? path : "(FAULTFS is not set)");
        _exit(99);
    }
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (control == MAP_FAILED)
        _exit(99);
    int log = syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    log_fd = syscall(SYS_fcntl, log, F_DUPFD_CLOEXEC, 900); /* out of the way of programs that count */
    if (log_fd < 0)
        log_fd = log;
    else
        syscall(SYS_close, log);
}

static uint64_t tick(void)
{
    return __atomic_add_fetch(&control->counter, 1, __ATOMIC_SEQ_CST);
}

struct seen {
    enum call call;
    uint64_t begin;
    int socket; /* of SEND */
    char subject[512]; /* path, or the first octets sent */
    struct rule *after;
};

static void name_of(int fd, char *into, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, into, size - 1);
    into[n < 0 ? 0 : n] = 0;
}

static void absolute(int dir, const char *path, char *into, size_t size)
{
    into[0] = 0;
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (!getcwd(into, size))
                into[0] = 0;
        } else
            name_of(dir, into, size);
        strncat(into, "/", size - strlen(into) - 1);
    }
    strncat(into, path, size - strlen(into) - 1);
}

static int wanted(enum call call)
{
    return control && ((__atomic_load_n(&control->watched, __ATOMIC_RELAXED)
                        | __atomic_load_n(&control->logged, __ATOMIC_RELAXED)) & call);
}

static void record(struct seen *seen, long result, int error)
{
    uint64_t end = tick();
    if (!(control->logged & seen->call))
        return;
    char line[1024], subject[512];
    size_t j = 0;
    for (const char *s = seen->subject; *s && j < sizeof subject - 5; s++) {
        unsigned char c = *s;
        if (c < 0x20 || c == '\\' || c > 0x7e)
            j += snprintf(subject + j, 5, "\\x%02x", c);
        else
            subject[j++] = c;
    }
    subject[j] = 0;
    int n = snprintf(line, sizeof line, "%llu %llu %d %d %ld %d %s\n", (unsigned long long)seen->begin,
                     (unsigned long long)end, (int)getpid(), seen->call, result, result < 0 ? error : 0, subject);
    syscall(SYS_write, log_fd, line, n);
}

static int fits(const char *subject, const char *match)
{
    size_t length = strlen(match), size = strlen(subject);
    if (!length || match[length - 1] != '$')
        return strstr(subject, match) != NULL;
    length--;
    return size >= length && !memcmp(subject + size - length, match, length);
}

/* Before a call: 0 to let it happen, else an errno to fail with. */
static int before(struct seen *seen)
{
    seen->begin = tick();
    seen->after = NULL;
    int error = 0;
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &control->rules[i];
        if (!(__atomic_load_n(&rule->calls, __ATOMIC_ACQUIRE) & seen->call))
            continue;
        if (!fits(seen->subject, rule->match))
            continue;
        if (__atomic_load_n(&rule->skip, __ATOMIC_SEQ_CST) > 0
            && __atomic_sub_fetch(&rule->skip, 1, __ATOMIC_SEQ_CST) >= 0)
            continue;
        int32_t left = __atomic_load_n(&rule->times, __ATOMIC_SEQ_CST);
        if (left == 0 || (left > 0 && __atomic_sub_fetch(&rule->times, 1, __ATOMIC_SEQ_CST) < 0))
            continue;
        __atomic_add_fetch(&rule->hits, 1, __ATOMIC_SEQ_CST);
        switch (rule->action) {
        case FAIL:
            error = rule->number;
            break;
        case DELAY: {
            struct timespec pause = { rule->number / 1000, rule->number % 1000 * 1000000L };
            syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
            break;
        }
        case KILL_BEFORE:
            kill(getpid(), SIGKILL);
            for (;;)
                pause();
        case KILL_AFTER:
            seen->after = rule;
            break;
        }
    }
    if (error == ECONNRESET && seen->call == SEND) /* nothing comes from there any more either */
        shutdown(seen->socket, SHUT_RDWR);
    if (error)
        record(seen, -1, error);
    return error;
}

static void after(struct seen *seen, long result)
{
    int error = errno;
    record(seen, result, error);
    if (seen->after) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = error;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define GUARDED(which, fill, invocation) \
    if (!wanted(which)) \
        return invocation; \
    struct seen seen = { .call = which, .socket = -1 }; \
    fill; \
    int error = before(&seen); \
    if (error) { \
        errno = error; \
        return -1; \
    } \
    __typeof__(invocation) result = invocation; \
    after(&seen, result); \
    return result

int fsync(int fd)
{
    REAL(fsync);
    GUARDED(FSYNC, name_of(fd, seen.subject, sizeof seen.subject), real(fd));
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    GUARDED(FDATASYNC, name_of(fd, seen.subject, sizeof seen.subject), real(fd));
}

static int is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void octets(struct seen *seen, int fd, const void *data, size_t size)
{
    seen->socket = fd;
    if (size > 200)
        size = 200;
    for (size_t i = 0; i < size; i++) /* a NUL would end the text */
        seen->subject[i] = ((const char *)data)[i] ? ((const char *)data)[i] : '?';
    seen->subject[size] = 0;
}

static void vectors(struct seen *seen, int fd, const struct iovec *iov, int count)
{
    char data[200];
    size_t n = 0;
    for (int i = 0; i < count && n < sizeof data; i++) {
        size_t m = iov[i].iov_len < sizeof data - n ? iov[i].iov_len : sizeof data - n;
        memcpy(data + n, iov[i].iov_base, m);
        n += m;
    }
    octets(seen, fd, data, n);
}

static enum call kind_of(int fd)
{
    return is_socket(fd) ? SEND : WRITE;
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    if (!wanted(WRITE | SEND))
        return real(fd, data, size);
    enum call kind = kind_of(fd);
    GUARDED(kind, kind == SEND ? octets(&seen, fd, data, size) : name_of(fd, seen.subject, sizeof seen.subject),
            real(fd, data, size));
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    REAL(writev);
    if (!wanted(WRITE | SEND))
        return real(fd, iov, count);
    enum call kind = kind_of(fd);
    GUARDED(kind, kind == SEND ? vectors(&seen, fd, iov, count) : name_of(fd, seen.subject, sizeof seen.subject),
            real(fd, iov, count));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite);
    GUARDED(PWRITE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, data, size, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64);
    GUARDED(PWRITE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, data, size, at));
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    REAL(pwritev);
    GUARDED(PWRITE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, iov, count, at));
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t at)
{
    REAL(pwritev64);
    GUARDED(PWRITE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, iov, count, at));
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(send);
    GUARDED(SEND, octets(&seen, fd, data, size), real(fd, data, size, flags));
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    REAL(sendto);
    GUARDED(SEND, octets(&seen, fd, data, size), real(fd, data, size, flags, to, length));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    GUARDED(SEND, vectors(&seen, fd, message->msg_iov, message->msg_iovlen), real(fd, message, flags));
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        if (!(flags & (O_CREAT | __O_TMPFILE))) \
            return real(path, flags); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        GUARDED(CREATE, absolute(AT_FDCWD, path, seen.subject, sizeof seen.subject), real(path, flags, mode)); \
    }

#define OPENAT(name) \
    int name(int dir, const char *path, int flags, ...) \
    { \
        REAL(name); \
        if (!(flags & (O_CREAT | __O_TMPFILE))) \
            return real(dir, path, flags); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        GUARDED(CREATE, absolute(dir, path, seen.subject, sizeof seen.subject), real(dir, path, flags, mode)); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int rename(const char *from, const char *to)
{
    REAL(rename);
    GUARDED(RENAME, absolute(AT_FDCWD, to, seen.subject, sizeof seen.subject), real(from, to));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    REAL(renameat);
    GUARDED(RENAME, absolute(to_dir, to, seen.subject, sizeof seen.subject), real(from_dir, from, to_dir, to));
}

int link(const char *from, const char *to)
{
    REAL(link);
    GUARDED(LINK, absolute(AT_FDCWD, to, seen.subject, sizeof seen.subject), real(from, to));
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    REAL(linkat);
    GUARDED(LINK, absolute(to_dir, to, seen.subject, sizeof seen.subject),
            real(from_dir, from, to_dir, to, flags));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    GUARDED(MKDIR, absolute(AT_FDCWD, path, seen.subject, sizeof seen.subject), real(path, mode));
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    GUARDED(TRUNCATE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, size));
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    GUARDED(TRUNCATE, name_of(fd, seen.subject, sizeof seen.subject), real(fd, size));
}

int unlink(const char *path)
{
    REAL(unlink);
    GUARDED(UNLINK, absolute(AT_FDCWD, path, seen.subject, sizeof seen.subject), real(path));
}

static void peer(struct seen *seen, const struct sockaddr *to, socklen_t length)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo(to, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(seen->subject, sizeof seen->subject, "%.255s:%.31s", host, port);
}

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
    REAL(connect);
    GUARDED(CONNECT, peer(&seen, to, length), real(fd, to, length));
}

/* The clock of the day; those that only count on (CLOCK_MONOTONIC) are what they are. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int result = real(clock, now);
    if (result || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    int64_t step = __atomic_load_n(&control->clock_step, __ATOMIC_RELAXED);
    now->tv_sec += step / 1000000000;
    now->tv_nsec += step % 1000000000;
    if (now->tv_nsec < 0 || now->tv_nsec >= 1000000000) {
        int more = now->tv_nsec < 0 ? -1 : 1;
        now->tv_sec += more;
        now->tv_nsec -= more * 1000000000L;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *into)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into)
        *into = exact.tv_sec;
    return exact.tv_sec;
}
