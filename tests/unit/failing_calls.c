/* Makes calls of the process that loads it fail, by what FAIL says: "call:errno:part of the path".
 * call is fsync, write or open; errno a name, or SHORT for writes that take one octet; a $ at the end of
 * the part means that the path ends there. Used by test_archive.py through LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { NO = 0, SHORT = -1 };

static int failure(const char *call, const char *path)
{
    static const struct { const char *name; int number; } known[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE}, {"EROFS", EROFS},
        {"SHORT", SHORT},
    };
    char wish[512];
    const char *given = getenv("FAIL");
    if (given == NULL || strlen(given) >= sizeof wish)
        return NO;
    strcpy(wish, given);
    char *rest = wish;
    char *name = strsep(&rest, ":");
    char *error = strsep(&rest, ":");
    if (rest == NULL || strcmp(name, call) != 0)
        return NO;
    size_t length = strlen(rest);
    if (length && rest[length - 1] == '$') {
        rest[--length] = 0;
        if (strlen(path) < length || strcmp(path + strlen(path) - length, rest) != 0)
            return NO;
    } else if (strstr(path, rest) == NULL) {
        return NO;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, error) == 0)
            return known[i].number;
    return NO;
}

static const char *path_of(int fd, char *buffer, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, size - 1);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

int fsync(int fd)
{
    static int (*real)(int);
    char path[4096];
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "fsync");
    int error = failure("fsync", path_of(fd, path, sizeof path));
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t count)
{
    static ssize_t (*real)(int, const void *, size_t);
    char path[4096];
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "write");
    int error = failure("write", path_of(fd, path, sizeof path));
    if (error == SHORT)
        return real(fd, data, count > 1 ? count / 2 : count);
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd, data, count);
}

static int opened(int at, const char *path, int flags, mode_t mode)
{
    static int (*real)(int, const char *, int, ...);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "openat64");
    int error = flags & O_CREAT ? failure("open", path) : NO;
    if (error) {
        errno = error;
        return -1;
    }
    return real(at, path, flags, mode);
}

#define MODE(flags) mode_t mode = 0; if ((flags) & O_CREAT) { \
    va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
