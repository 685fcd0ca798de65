/* The exit record's text and its file.  Assumes nothing about the container: an ending that is not
 * reaped gives a record without exit_code and signal, which reads as unknown, never as 0. */
#define _GNU_SOURCE
#include "exitstatus.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct text {
    char *at;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void line(struct text *text, const char *format, ...)
{
    va_list arguments;
    size_t room = EXIT_TEXT - text->used;
    va_start(arguments, format);
    int n = vsnprintf(text->at + text->used, room, format, arguments);
    va_end(arguments);
    if (n > 0 && (size_t)n < room)
        text->used += (size_t)n;
}

static void line_string(struct text *text, const char *key, const char *value)
{
    char escaped[2 * sizeof(((struct error_record *)0)->path)];
    size_t n = 0;
    if (value[0] == '\0')
        return;
    for (; *value != '\0' && n + 2 < sizeof(escaped); value++) {
        if (*value == '\\' || *value == '\n')
            escaped[n++] = '\\';
        escaped[n++] = *value == '\n' ? 'n' : *value;
    }
    escaped[n] = '\0';
    line(text, "%s %s\n", key, escaped);
}

static void write_failure(struct text *text, const struct error_record *error)
{
    line(text, "step %u\nindex %u\nerrno %d\n", error->step, error->index, error->error);
    line_string(text, "syscall", error->syscall);
    line_string(text, "path", error->path);
    line_string(text, "reason", error->reason);
}

static void write_status(struct text *text, const struct ending *ending)
{
    int status = ending->wait_status;
    if (!ending->reaped)
        return;
    if (WIFEXITED(status))
        line(text, "exit_code %d\n", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        line(text, "signal %d\ncore_dumped %d\n", WTERMSIG(status), WCOREDUMP(status) ? 1 : 0);
    line(text, "rusage_user_us %lld\n",
         (long long)ending->usage.ru_utime.tv_sec * 1000000 + ending->usage.ru_utime.tv_usec);
    line(text, "rusage_system_us %lld\n",
         (long long)ending->usage.ru_stime.tv_sec * 1000000 + ending->usage.ru_stime.tv_usec);
    line(text, "rusage_max_rss_kib %ld\n", ending->usage.ru_maxrss);
}

static void write_numbers(struct text *text, const struct account *account)
{
    for (int key = 0; key < ACCOUNT_KEYS; key++) {
        const struct number *number = &account->numbers[key];
        const char *name = account_name(key);
        if (number->source != NULL)
            line(text, "%s %llu\n%s_source %s\n", name, (unsigned long long)number->value, name,
                 number->source);
    }
}

size_t ending_text(const struct ending *ending, const struct account *account,
                   char text_buffer[EXIT_TEXT])
{
    struct text text = {.at = text_buffer};
    line(&text, "version 1\nstatus %s\n", ending->failed ? "failed" : "exited");
    if (ending->pid > 0)
        line(&text, "pid %d\n", (int)ending->pid);
    if (ending->has_reaper)
        line(&text, "reaper 1\n");
    if (ending->failed)
        write_failure(&text, &ending->error);
    else
        write_status(&text, ending);
    if (ending->started_ns > 0)
        line(&text, "started_ns %lld\nwall_ns %lld\n", (long long)ending->started_ns,
             (long long)ending->wall_ns);
    line(&text, "finished_ns %lld\n", (long long)ending->finished_ns);
    line_string(&text, "boot_id", ending->boot_id);
    if (ending->kill_reason != NULL)
        line(&text, "kill_reason %s\nkill_signal %d\nkilled_ns %lld\n", ending->kill_reason,
             SIGKILL, (long long)ending->killed_ns);
    if (ending->user_signal > 0)
        line(&text, "user_signal %d\n", ending->user_signal);
    if (ending->stopping)
        line(&text, "stopping 1\n");
    if (ending->restarts > 0)
        line(&text, "restarts %d\n", ending->restarts);
    if (!ending->failed)
        line(&text, "stdout_bytes %llu\nstderr_bytes %llu\n",
             (unsigned long long)ending->stdout_bytes, (unsigned long long)ending->stderr_bytes);
    if (ending->undelivered_bytes > 0)
        line(&text, "undelivered_bytes %llu\n", (unsigned long long)ending->undelivered_bytes);
    if (ending->log_dropped_bytes > 0)
        line(&text, "log_dropped_bytes %llu\n", (unsigned long long)ending->log_dropped_bytes);
    write_numbers(&text, account);
    return text.used;
}

int write_record(int folder_fd, const char *name, const char *text, size_t size, bool durable)
{
    char temporary[64];
    int result = 0;
    snprintf(temporary, sizeof(temporary), ".%s.new", name);
    int fd = openat(folder_fd, temporary,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < size && result == 0;) {
        ssize_t n = write(fd, text + done, size - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            result = -errno;
    }
    if (result == 0 && durable && fsync(fd) < 0)
        result = -errno;
    close(fd);
    if (result == 0 && renameat(folder_fd, temporary, folder_fd, name) < 0)
        result = -errno;
    if (result < 0)
        unlinkat(folder_fd, temporary, 0);
    else if (durable)
        result = fsync(folder_fd) < 0 ? -errno : 0;
    return result;
}
