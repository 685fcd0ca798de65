/* The launch core without the monitor: launch a plan, report, wait.
 *
 *   launch_driver PLAN [--times N] [--leaks] [--die]
 *
 * The program has the driver's stdio.  A failed launch is one line "launch-error TAB step TAB index
 * TAB errno TAB syscall TAB reason TAB path" on standard error and exit status 125; else the exit
 * status is the program's, or 128 and its signal.  --times launches N times and prints the
 * microseconds of each.  --leaks ends with "fds BEFORE AFTER" on standard error.  --die kills the
 * driver itself once the program runs.  With a terminal, what the program writes to it is copied to
 * standard output. */
#define _GNU_SOURCE
#include "launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int report(const struct error_record *error)
{
    fprintf(stderr, "launch-error\t%u\t%u\t%d\t%s\t%s\t%s\n", error->step, error->index,
            error->error, error->syscall, error->reason, error->path);
    return 125;
}

static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    while (folder != NULL && readdir(folder) != NULL)
        count++;
    if (folder != NULL)
        closedir(folder);
    return count;
}

static int receive_master(int socket)
{
    char byte;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    int fd = -1;

    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void copy_terminal(int socket)
{
    int master = receive_master(socket);
    char buffer[4096];
    ssize_t size;

    while (master >= 0 && (size = read(master, buffer, sizeof buffer)) > 0)
        if (write(1, buffer, (size_t)size) < 0)
            break;
    if (master >= 0)
        close(master);
}

static int finish(struct launch *launch, bool die)
{
    struct error_record error = {0};
    ssize_t size = read(launch->error_fd, &error, sizeof error);
    int status = 0;

    if (die)
        kill(getpid(), SIGKILL);
    if (size == 0 && launch->console_fd >= 0)
        copy_terminal(launch->console_fd);
    while (waitpid(launch->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(launch->pidfd);
    close(launch->error_fd);
    if (launch->console_fd >= 0)
        close(launch->console_fd);
    if (launch->disk_fd >= 0)
        close(launch->disk_fd);
    if (size == (ssize_t)sizeof error)
        return report(&error);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int launch_once(const struct plan *plan, struct settings *settings, bool die)
{
    static const int STDIO[3] = {0, 1, 2};
    struct error_record error = {0};
    struct launch launch;

    if (launch_start(plan, settings, STDIO, &launch, &error) < 0)
        return report(&error);
    return finish(&launch, die);
}

static long now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void *map_plan(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    void *data;

    if (fd < 0 || fstat(fd, &info) < 0)
        return NULL;
    *size = (size_t)info.st_size;
    data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    return data == MAP_FAILED ? NULL : data;
}

int main(int argc, char **argv)
{
    struct error_record error = {0};
    struct settings settings;
    struct plan plan;
    bool leaks = false, die = false;
    int times = 0, status = 0, before;
    size_t size = 0;
    void *data = argc > 1 ? map_plan(argv[1], &size) : NULL;

    if (data == NULL)
        return 2;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--times") == 0 && i + 1 < argc)
            times = atoi(argv[++i]);
        leaks |= strcmp(argv[i], "--leaks") == 0;
        die |= strcmp(argv[i], "--die") == 0;
    }
    if (plan_check(data, size, &plan, &error) < 0 || settings_read(&plan, &settings, &error) < 0)
        return report(&error);
    before = count_descriptors();
    if (times == 0)
        status = launch_once(&plan, &settings, die);
    for (int i = 0; i < times && status == 0; i++) {
        long start = now_us();

        status = launch_once(&plan, &settings, false);
        printf("%ld\n", now_us() - start);
    }
    for (int i = 0; i < settings.cgroup_count; i++)
        if (settings.cgroups[i].dir_fd >= 0)
            close(settings.cgroups[i].dir_fd);
    if (leaks)
        fprintf(stderr, "fds %d %d\n", before, count_descriptors());
    return status;
}
