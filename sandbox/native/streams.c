/* Stdio between the container and its clients.  Assumes that SIGPIPE is ignored and that /proc is
 * the host's.  Every descriptor that a client gave is used without blocking; the container's pipes
 * are ours and non-blocking. */
#define _GNU_SOURCE
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#define CAREFUL_BYTES 512

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = NO_FD;
}

/* --- ports --- */

static void port_close(struct port *port)
{
    close_fd(&port->fd);
    port->slot = NO_SLOT;
}

/* Takes fd over. */
static void port_open(struct port *port, int fd, int access_mode)
{
    struct stat st;
    *port = (struct port){.fd = NO_FD, .slot = NO_SLOT};
    if (fd < 0)
        return;
    /* Opened anew, the write end of a pipe would be a second read end: only what the client has. */
    int flags = fcntl(fd, F_GETFL);
    bool usable =
        flags >= 0 && ((flags & O_ACCMODE) == access_mode || (flags & O_ACCMODE) == O_RDWR);
    if (!usable || fstat(fd, &st) < 0) {
        close(fd);
        return;
    }
    port->fd = fd;
    port->kind = PORT_PLAIN;
    if (S_ISSOCK(st.st_mode)) {
        port->kind = PORT_SOCKET;
    } else if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev != makedev(1, 3))) {
        char path[40];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int own = open(path, access_mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        port->kind = own >= 0 ? PORT_OWN : PORT_CAREFUL;
        if (own >= 0) {
            close(fd);
            port->fd = own;
        }
    }
}

static bool port_can(const struct port *port, short events)
{
    struct pollfd one = {.fd = port->fd, .events = events};
    return poll(&one, 1, 0) > 0;
}

/* How much was written, or -errno; -EAGAIN when the port is full. */
static ssize_t port_write(const struct port *port, const char *data, size_t size)
{
    ssize_t n;
    do {
        if (port->kind == PORT_SOCKET) {
            n = send(port->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else if (port->kind == PORT_CAREFUL) {
            if (!port_can(port, POLLOUT))
                return -EAGAIN;
            n = write(port->fd, data, size < CAREFUL_BYTES ? size : CAREFUL_BYTES);
        } else {
            n = write(port->fd, data, size);
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t port_read(const struct port *port, char *data, size_t size)
{
    ssize_t n;
    do {
        if (port->kind == PORT_SOCKET)
            n = recv(port->fd, data, size, MSG_DONTWAIT);
        else if (port->kind == PORT_CAREFUL && !port_can(port, POLLIN))
            return -EAGAIN;
        else
            n = read(port->fd, data, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* --- output --- */

/* As much as the port takes now; the sink is closed when its reader has gone. */
static size_t sink_write(struct streams *streams, struct sink *sink, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = port_write(&sink->port, data + done, size - done);
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            /* Gone, or a full disk: the container goes on, and the log has it. */
            if (n != -EPIPE && n != -ECONNRESET)
                streams->undelivered += size - done;
            port_close(&sink->port);
            break;
        }
        done += (size_t)n;
    }
    return done;
}

/* A lossy client takes what it can; what it missed before is told first. */
static void sink_offer(struct streams *streams, struct sink *sink, const char *data, size_t size)
{
    if (sink->missed > 0) {
        char note[64];
        int length = snprintf(note, sizeof(note), "\n[sandbox: %llu bytes not shown]\n",
                              (unsigned long long)sink->missed);
        if (sink_write(streams, sink, note, (size_t)length) == 0) {
            sink->missed += size;
            return;
        }
        sink->missed = 0;
    }
    sink->missed += size - sink_write(streams, sink, data, size);
}

static void source_deliver(struct streams *streams, int index)
{
    struct source *source = &streams->sources[index];
    bool waiting = false;
    if (source->length == 0)
        return;
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct stream_client *client = &streams->clients[i];
        struct sink *sink = &client->sinks[index];
        if (!client->used || client->lossy || sink->port.fd < 0)
            continue;
        sink->sent += (uint32_t)sink_write(streams, sink, source->buffer + sink->sent,
                                           source->length - sink->sent);
        waiting |= sink->port.fd >= 0 && sink->sent < source->length;
    }
    if (waiting)
        return;
    source->length = 0;
    for (int i = 0; i < STREAM_CLIENTS; i++)
        streams->clients[i].sinks[index].sent = 0;
}

static void source_end(struct streams *streams, int index)
{
    struct source *source = &streams->sources[index];
    if (source->ended)
        return;
    source->ended = true;
    if (streams->tty)
        source->fd = streams->input = NO_FD;
    else
        close_fd(&source->fd);
    logfile_end(streams->log, index);
}

static void source_take(struct streams *streams, int index, size_t size)
{
    struct source *source = &streams->sources[index];
    if (streams->limit > 0) {
        uint64_t total = streams->sources[0].bytes + streams->sources[1].bytes;
        uint64_t room = (uint64_t)streams->limit - total;
        if (size > room) {
            streams->passed = true;
            size = (size_t)room;
        }
    }
    if (size == 0)
        return;
    source->bytes += size;
    source->length = (uint32_t)size;
    logfile_append(streams->log, index, source->buffer, size);
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct stream_client *client = &streams->clients[i];
        if (client->used && client->lossy && client->sinks[index].port.fd >= 0)
            sink_offer(streams, &client->sinks[index], source->buffer, size);
    }
    source_deliver(streams, index);
}

static void source_read(struct streams *streams, int index)
{
    struct source *source = &streams->sources[index];
    size_t size = STREAM_BUFFER;
    if (source->left >= 0 && (uint64_t)source->left < size)
        size = (size_t)source->left;
    ssize_t n = size > 0 ? read(source->fd, source->buffer, size) : 0;
    if (n > 0) {
        if (source->left >= 0)
            source->left -= n;
        source_take(streams, index, (size_t)n);
        if (source->left == 0)
            source_end(streams, index);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        source_end(streams, index); /* EIO: the last slave of a pty was closed */
    }
}

/* --- input --- */

static void input_close(struct streams *streams)
{
    if (streams->tty) {
        /* A terminal has no end of file but the character that means it. */
        const char end = 4;
        if (streams->input >= 0 && write(streams->input, &end, 1) < 0)
            return;
    } else {
        close_fd(&streams->input);
    }
    streams->input_length = streams->input_at = 0;
    streams->close_input = false;
}

static void input_write(struct streams *streams)
{
    ssize_t n = write(streams->input, streams->input_buffer + streams->input_at,
                      streams->input_length - streams->input_at);
    if (n > 0)
        streams->input_at += (uint32_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        streams->input_at = streams->input_length;
        if (streams->tty)
            streams->input = NO_FD;
        else
            close_fd(&streams->input);
    }
    if (streams->input_at == streams->input_length) {
        streams->input_at = streams->input_length = 0;
        if (streams->close_input)
            input_close(streams);
    }
}

static void input_read(struct streams *streams, struct stream_client *client)
{
    ssize_t n = port_read(&client->in, streams->input_buffer, INPUT_BUFFER);
    if (n == -EAGAIN)
        return;
    if (n > 0) {
        streams->input_length = (uint32_t)n;
        streams->input_at = 0;
        input_write(streams);
        return;
    }
    port_close(&client->in);
    bool first = client->owner == OWNER_FIRST && !streams->tty;
    streams->input_ended |= first;
    if (streams->once || first)
        streams_close_input(streams);
}

void streams_close_input(struct streams *streams)
{
    if (streams->input < 0)
        return;
    if (streams->input_length > 0)
        streams->close_input = true;
    else
        input_close(streams);
}

/* --- life --- */

static bool is_null_device(int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

void streams_start(struct streams *streams, const struct settings *settings, struct logfile *log)
{
    struct stream_client *first = &streams->clients[0];
    streams->log = log;
    streams->tty = settings->stdio_flags & STDIO_TTY;
    streams->input_wanted = settings->stdio_flags & STDIO_STDIN;
    streams->once = settings->stdio_flags & STDIO_STDIN_ONCE;
    streams->limit = settings->output_bytes;
    streams->rows = (uint16_t)settings->rows;
    streams->columns = (uint16_t)settings->columns;
    streams->input = streams->terminal = NO_FD;
    for (int i = 0; i < 2; i++)
        streams->sources[i].fd = NO_FD;

    /* /dev/null is what a launcher gives that leaves: no end of input, nobody to write to. */
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = is_null_device(i) || (i == 0 && !streams->input_wanted)
                     ? NO_FD
                     : fcntl(i, F_DUPFD_CLOEXEC, 3);
    first->used = true;
    first->owner = OWNER_FIRST;
    port_open(&first->in, fds[0], O_RDONLY);
    streams->input_ended = fds[0] >= 0 && first->in.fd < 0;
    for (int i = 0; i < 2; i++) {
        first->sinks[i] = (struct sink){0};
        port_open(&first->sinks[i].port, fds[i + 1], O_WRONLY);
    }
}

static int make_pipe(int ends[2], struct error_record *error)
{
    return pipe2(ends, O_CLOEXEC) < 0 ? fail(error, NULL, errno, "pipe2", "") : 0;
}

int streams_open(struct streams *streams, int stdio[3], struct error_record *error)
{
    int ends[2], result = 0;
    stdio[0] = stdio[1] = stdio[2] = NO_FD;
    streams->input_at = streams->input_length = 0;
    for (int i = 0; i < 2; i++) {
        struct source *source = &streams->sources[i];
        source->fd = NO_FD;
        source->slot = NO_SLOT;
        source->length = 0;
        source->left = -1;
        source->ended = streams->tty && i == 1;
    }
    if (streams->tty) {
        /* Until init has its terminal. */
        for (int i = 0; i < 3 && result == 0; i++)
            if ((stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
                result = fail(error, NULL, errno, "open", "/dev/null");
        return result;
    }
    if (streams->input_wanted && (result = make_pipe(ends, error)) == 0) {
        stdio[0] = ends[0];
        streams->input = ends[1];
        fcntl(streams->input, F_SETFL, O_NONBLOCK);
    } else if (!streams->input_wanted) {
        stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (stdio[0] < 0)
            result = fail(error, NULL, errno, "open", "/dev/null");
    }
    for (int i = 0; i < 2 && result == 0; i++) {
        if ((result = make_pipe(ends, error)) < 0)
            break;
        streams->sources[i].fd = ends[0];
        stdio[i + 1] = ends[1];
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
    }
    if (result == 0 && streams->input_ended)
        input_close(streams);
    if (result < 0) {
        for (int i = 0; i < 3; i++)
            close_fd(&stdio[i]);
        streams_close(streams);
    }
    return result;
}

void streams_terminal(struct streams *streams, int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    streams->terminal = streams->sources[0].fd = streams->input = fd;
    if (streams->resized) /* since the launch, which made it in the plan's size */
        streams_resize(streams, streams->rows, streams->columns);
}

int streams_resize(struct streams *streams, int64_t rows, int64_t columns)
{
    if (!streams->tty)
        return -ENOTTY;
    if (rows < 0 || rows > UINT16_MAX || columns < 0 || columns > UINT16_MAX)
        return -EINVAL;
    streams->rows = (uint16_t)rows;
    streams->columns = (uint16_t)columns;
    streams->resized = true;
    struct winsize size = {.ws_row = streams->rows, .ws_col = streams->columns};
    if (streams->terminal >= 0 && ioctl(streams->terminal, TIOCSWINSZ, &size) < 0)
        return -errno;
    return 0;
}

int streams_attach(struct streams *streams, int owner, const int fds[3], int64_t flags)
{
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct stream_client *client = &streams->clients[i];
        if (client->used)
            continue;
        client->used = true;
        client->owner = owner;
        client->lossy = flags & CLIENT_LOSSY;
        bool in = (flags & CLIENT_STDIN) && streams->input_wanted;
        if (!in && fds[0] >= 0)
            close(fds[0]);
        port_open(&client->in, in ? fds[0] : NO_FD, O_RDONLY);
        for (int s = 0; s < 2; s++) {
            /* What is in the buffer already came before this client did. */
            client->sinks[s] = (struct sink){.sent = streams->sources[s].length};
            port_open(&client->sinks[s].port, fds[s + 1], O_WRONLY);
        }
        return 0;
    }
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return -EUSERS;
}

static void client_close(struct stream_client *client)
{
    port_close(&client->in);
    port_close(&client->sinks[0].port);
    port_close(&client->sinks[1].port);
    client->used = false;
}

void streams_detach(struct streams *streams, int owner)
{
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct stream_client *client = &streams->clients[i];
        if (!client->used || client->owner != owner)
            continue;
        bool ends_input = client->in.fd >= 0 && streams->once;
        client_close(client);
        if (ends_input)
            streams_close_input(streams);
    }
    source_deliver(streams, 0);
    source_deliver(streams, 1);
}

static void watch_input(struct streams *streams, struct pollset *set)
{
    if (streams->input < 0)
        return;
    if (streams->input_length > 0) {
        streams->input_slot = pollset_add(set, streams->input, POLLOUT);
        return;
    }
    for (int i = 0; i < STREAM_CLIENTS; i++)
        if (streams->clients[i].used)
            streams->clients[i].in.slot = pollset_add(set, streams->clients[i].in.fd, POLLIN);
}

void streams_watch(struct streams *streams, struct pollset *set)
{
    streams->input_slot = NO_SLOT;
    for (int i = 0; i < STREAM_CLIENTS; i++)
        streams->clients[i].in.slot = NO_SLOT;
    watch_input(streams, set);
    for (int s = 0; s < 2; s++) {
        struct source *source = &streams->sources[s];
        source->slot =
            source->length == 0 && !source->ended ? pollset_add(set, source->fd, POLLIN) : NO_SLOT;
        for (int i = 0; i < STREAM_CLIENTS; i++) {
            struct stream_client *client = &streams->clients[i];
            struct sink *sink = &client->sinks[s];
            sink->port.slot = NO_SLOT;
            if (client->used && !client->lossy && sink->sent < source->length)
                sink->port.slot = pollset_add(set, sink->port.fd, POLLOUT);
        }
    }
}

void streams_serve(struct streams *streams, const struct pollset *set)
{
    if (streams->input >= 0 && pollset_ready(set, streams->input_slot))
        input_write(streams);
    for (int i = 0; i < STREAM_CLIENTS && streams->input >= 0; i++) {
        struct stream_client *client = &streams->clients[i];
        if (client->used && client->in.fd >= 0 && streams->input_length == 0 &&
            pollset_ready(set, client->in.slot))
            input_read(streams, client);
    }
    for (int s = 0; s < 2; s++) {
        struct source *source = &streams->sources[s];
        bool ready = false;
        for (int i = 0; i < STREAM_CLIENTS; i++)
            ready |= pollset_ready(set, streams->clients[i].sinks[s].port.slot);
        if (ready)
            source_deliver(streams, s);
        if (source->fd >= 0 && source->length == 0 && pollset_ready(set, source->slot))
            source_read(streams, s);
    }
}

void streams_drain(struct streams *streams)
{
    if (streams->tty)
        return; /* the master says EIO when the last slave is closed and all is read */
    close_fd(&streams->input);
    for (int s = 0; s < 2; s++) {
        int left = 0;
        if (streams->sources[s].ended)
            continue;
        if (ioctl(streams->sources[s].fd, FIONREAD, &left) < 0)
            left = 0;
        streams->sources[s].left = left;
        if (left == 0)
            source_end(streams, s);
    }
}

bool streams_done(const struct streams *streams)
{
    for (int s = 0; s < 2; s++)
        if (!streams->sources[s].ended || streams->sources[s].length > 0)
            return false;
    return true;
}

void streams_end_sources(struct streams *streams)
{
    source_end(streams, 0);
    source_end(streams, 1);
}

void streams_give_up(struct streams *streams, bool first_too)
{
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct stream_client *client = &streams->clients[i];
        if (!client->used || client->lossy || (client->owner == OWNER_FIRST && !first_too))
            continue;
        for (int s = 0; s < 2; s++) {
            struct sink *sink = &client->sinks[s];
            if (sink->port.fd < 0 || sink->sent >= streams->sources[s].length)
                continue;
            streams->undelivered += streams->sources[s].length - sink->sent;
            port_close(&sink->port);
        }
    }
    source_deliver(streams, 0);
    source_deliver(streams, 1);
}

uint64_t streams_progress(const struct streams *streams)
{
    uint64_t sum = streams->sources[0].bytes + streams->sources[1].bytes;
    for (int i = 0; i < STREAM_CLIENTS; i++)
        sum += streams->clients[i].sinks[0].sent + streams->clients[i].sinks[1].sent;
    return sum;
}

void streams_close(struct streams *streams)
{
    streams_end_sources(streams);
    if (streams->tty)
        streams->input = NO_FD;
    close_fd(&streams->input);
    close_fd(&streams->terminal);
}

static void client_finish(struct streams *streams, struct stream_client *client)
{
    for (int s = 0; s < 2; s++)
        if (client->lossy && client->sinks[s].port.fd >= 0 && client->sinks[s].missed > 0)
            sink_offer(streams, &client->sinks[s], "", 0);
    client_close(client);
}

bool streams_dismiss(struct streams *streams, int owner)
{
    bool found = false;
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        if (!streams->clients[i].used || streams->clients[i].owner != owner)
            continue;
        client_finish(streams, &streams->clients[i]);
        found = true;
    }
    return found;
}

void streams_finish(struct streams *streams)
{
    for (int i = 0; i < STREAM_CLIENTS; i++)
        if (streams->clients[i].used)
            client_finish(streams, &streams->clients[i]);
}
