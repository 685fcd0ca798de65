/* The control socket.  Assumes that the run folder is the owner's alone; asks the kernel who is
 * there all the same.  A message is hostile until it is parsed: bounded, digits only, descriptors
 * taken over or closed. */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL_NAME "control"
#define MAX_WORDS 3

static const struct {
    const char *word;
    enum verb verb;
    int numbers, fds;
    bool may_stop;
} verbs[] = {
    {"signal", VERB_SIGNAL, 1, 0, true},
    {"kill", VERB_KILL, 0, 0, false},
    {"resize", VERB_RESIZE, 2, 0, false},
    {"attach", VERB_ATTACH, 1, 3, false},
    {"close_stdin", VERB_CLOSE_STDIN, 0, 0, false},
    {"status", VERB_STATUS, 0, 0, false},
    {"wait", VERB_WAIT, 0, 0, false},
    {"restart", VERB_RESTART, 2, 0, false},
    {"endpoints", VERB_ENDPOINTS, 0, 1, false},
};

void control_start(struct control *control, int fd)
{
    control->listening = -1;
    control->slot = NO_SLOT;
    for (int i = 0; i < CONTROL_PEERS; i++)
        control->peers[i] = (struct peer){.fd = -1, .slot = NO_SLOT};
    control->peers[LAUNCHER].fd = fd;
}

int control_listen(struct control *control, int run_fd, struct error_record *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By way of the folder's descriptor: a path to a socket has at most 107 bytes. */
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" CONTROL_NAME, run_fd);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(error, NULL, errno, "socket", CONTROL_NAME);
    unlinkat(run_fd, CONTROL_NAME, 0);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        fchmodat(run_fd, CONTROL_NAME, 0600, 0) < 0 || listen(fd, CONTROL_PEERS) < 0) {
        int result = fail(error, NULL, errno, "bind", CONTROL_NAME);
        close(fd);
        return result;
    }
    control->listening = fd;
    return 0;
}

#define RIGHTS_MAX 253 /* descriptors of one message, the kernel's bound */

/* They were sent before the plan was whole, so they are there.  Nobody has to know their numbers:
 * they are closed by the end of the process, and by the clone of any other (launch.c). */
int control_keep(struct control *control, int64_t count, struct error_record *error)
{
    _Alignas(struct cmsghdr) char rights[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
    while (count > 0) {
        char byte;
        struct iovec part = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = rights,
                                 .msg_controllen = sizeof(rights)};
        ssize_t n = recvmsg(control->peers[LAUNCHER].fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        struct cmsghdr *given = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(error, NULL, errno, "recvmsg", "descriptors to keep");
        /* Cut where this process may have no more open. */
        if (message.msg_flags & MSG_CTRUNC)
            return fail(error, NULL, EMFILE, "recvmsg", "descriptors to keep");
        if (given == NULL || given->cmsg_level != SOL_SOCKET || given->cmsg_type != SCM_RIGHTS)
            return fail(error, NULL, EBADF, "recvmsg", "descriptors to keep");
        count -= (int64_t)((given->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    }
    return 0;
}

void control_watch(struct control *control, struct pollset *set)
{
    control->slot = pollset_add(set, control->listening, POLLIN);
    for (int i = 0; i < CONTROL_PEERS; i++)
        control->peers[i].slot = pollset_add(set, control->peers[i].fd, POLLIN);
}

void control_accept(struct control *control)
{
    struct ucred who;
    socklen_t size = sizeof(who);
    int fd = accept4(control->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
        (who.uid == 0 || who.uid == geteuid())) {
        for (int i = LAUNCHER + 1; i < CONTROL_PEERS; i++) {
            if (control->peers[i].fd >= 0)
                continue;
            control->peers[i] = (struct peer){.fd = fd, .slot = NO_SLOT};
            return;
        }
    }
    close(fd);
}

static bool parse_number(const char *word, int64_t *number)
{
    char *end;
    if (word[0] < '0' || word[0] > '9' || strlen(word) > 10)
        return false;
    *number = strtoll(word, &end, 10);
    return *end == '\0';
}

/* Returns 0 or -errno. */
static int parse(char *text, int fd_count, struct request *request)
{
    char *words[MAX_WORDS + 1] = {NULL}, *rest = NULL;
    int count = 0;
    text[strcspn(text, "\n")] = '\0';
    for (char *word = strtok_r(text, " ", &rest); word != NULL && count <= MAX_WORDS;
         word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    for (size_t i = 0; count > 0 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(words[0], verbs[i].word) != 0)
            continue;
        request->stop = verbs[i].may_stop && count == verbs[i].numbers + 2 &&
                        strcmp(words[count - 1], "stop") == 0;
        if (count - 1 - request->stop != verbs[i].numbers || fd_count != verbs[i].fds)
            return -EINVAL;
        for (int n = 0; n < verbs[i].numbers; n++)
            if (!parse_number(words[n + 1], &request->numbers[n]))
                return -EINVAL;
        request->verb = verbs[i].verb;
        return 0;
    }
    return -ENOSYS;
}

/* Take over the descriptors of a message; how many there were. */
static int take_fds(struct msghdr *message, struct request *request)
{
    int count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t fds = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++, count++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (count < 3)
                request->fds[count] = fd;
            else
                close(fd);
        }
    }
    return count;
}

void control_receive(struct control *control, int peer, struct request *request)
{
    char text[CONTROL_MESSAGE + 1];
    _Alignas(struct cmsghdr) char rights[CMSG_SPACE(4 * sizeof(int))];
    struct iovec part = {.iov_base = text, .iov_len = CONTROL_MESSAGE};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof(rights)};
    *request = (struct request){.fds = {-1, -1, -1}};
    ssize_t n = recvmsg(control->peers[peer].fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        request->verb = VERB_GONE;
        return;
    }
    int fd_count = take_fds(&message, request);
    text[n] = '\0';
    int result =
        (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? -EMSGSIZE : parse(text, fd_count, request);
    if (result == 0)
        return;
    request->verb = VERB_NONE;
    for (int i = 0; i < 3; i++)
        if (request->fds[i] >= 0)
            close(request->fds[i]);
    control_answer(control, peer, result);
}

bool control_send(struct control *control, int peer, const char *text, size_t size)
{
    int fd = control->peers[peer].fd;
    if (fd < 0)
        return false;
    if (send(fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (peer != LAUNCHER)
        shutdown(fd, SHUT_RDWR); /* the poll loop finds it gone, and detaches its streams */
    return false;
}

void control_answer(struct control *control, int peer, int result)
{
    char text[128];
    int n = result < 0 ? snprintf(text, sizeof(text), "error %d %s\n", -result, strerror(-result))
                       : snprintf(text, sizeof(text), "ok\n");
    control_send(control, peer, text, (size_t)n);
}

bool control_send_all(struct control *control, const char *text, size_t size)
{
    bool told = control_send(control, LAUNCHER, text, size);
    for (int i = LAUNCHER + 1; i < CONTROL_PEERS; i++)
        control_send(control, i, text, size);
    return told;
}

void control_drop(struct control *control, int peer)
{
    if (control->peers[peer].fd >= 0)
        close(control->peers[peer].fd);
    control->peers[peer].fd = -1;
    control->peers[peer].slot = NO_SLOT;
}

void control_close(struct control *control, int run_fd)
{
    if (control->listening >= 0) {
        unlinkat(run_fd, CONTROL_NAME, 0);
        close(control->listening);
    }
    control->listening = -1;
    for (int i = 0; i < CONTROL_PEERS; i++)
        control_drop(control, i);
}
