/* Append to the event log.  Assumes to be the monitor, in the host's namespaces: the path is the
 * engine's own, and nobody else can write there. */
#define _GNU_SOURCE
#include "events.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The full file becomes the old one; whoever else sees it full is content with that. */
static void rotate(const char *path, int fd)
{
    char other[PATH_MAX];
    struct stat held, there;
    if (snprintf(other, sizeof(other), "%s.lock", path) >= (int)sizeof(other))
        return;
    int lock_fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock_fd < 0)
        return;
    snprintf(other, sizeof(other), "%s.1", path);
    if (flock(lock_fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &held) == 0 &&
        stat(path, &there) == 0 && held.st_dev == there.st_dev && held.st_ino == there.st_ino)
        rename(path, other);
    close(lock_fd);
}

void events_append(const struct settings *settings, const char *action, const char *format, ...)
{
    char line[EVENTS_MAX_LINE];
    struct timespec now;
    va_list arguments;
    if (settings->events_path[0] == '\0')
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    int head = snprintf(line, sizeof(line), "\x1e%lld%09ld\tcontainer\t%s\t%s",
                        (long long)now.tv_sec, now.tv_nsec, action, settings->id);
    if (head < 0 || head >= (int)sizeof(line))
        return;
    va_start(arguments, format);
    int rest = vsnprintf(line + head, sizeof(line) - (size_t)head, format, arguments);
    va_end(arguments);
    if (rest < 0 || head + rest >= (int)sizeof(line))
        return;
    line[head + rest] = '\n';
    int fd =
        open(settings->events_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    /* What a full disk cuts off, readers leave out. */
    if (write(fd, line, (size_t)(head + rest) + 1) > 0 && lseek(fd, 0, SEEK_CUR) > EVENTS_MAX_BYTES)
        rotate(settings->events_path, fd);
    close(fd);
}
