/* The container's stdio: pipes or a pty on one side, the log and any number of clients on the
 * other.
 *
 * Output is read into one buffer a stream and leaves it when the log and every lossless client have
 * it; until then no more is read, so a slow client slows the container down (back-pressure) and
 * nothing else.  A lossy client gets what it can take at once and a note of what it missed.
 * Nothing here blocks: see struct port.
 */
#ifndef SANDBOX_STREAMS_H
#define SANDBOX_STREAMS_H

#include "launch.h"
#include "logfile.h"
#include "pollset.h"

#define STREAM_BUFFER (64u << 10)
#define INPUT_BUFFER (16u << 10)
#define STREAM_CLIENTS 18
#define OWNER_FIRST (-1) /* the client that is the monitor's own 0, 1 and 2 */
#define NO_FD (-1)

#define CLIENT_STDIN 1
#define CLIENT_LOSSY 2

/* A client's descriptor, and how to use it without ever blocking and without changing the flags
 * that the caller's own processes see. */
enum port_kind {
    PORT_OWN,     /* opened anew by us, non-blocking */
    PORT_SOCKET,  /* MSG_DONTWAIT */
    PORT_PLAIN,   /* a regular file: never blocks for long */
    PORT_CAREFUL, /* could not be opened anew: ask poll, then a little at a time */
};

struct port {
    int fd;
    enum port_kind kind;
    int slot;
};

struct sink {
    struct port port;
    uint32_t sent;   /* of the source's buffer, by a lossless client */
    uint64_t missed; /* by a lossy client */
};

struct stream_client {
    bool used, lossy;
    int owner;
    struct port in;
    struct sink sinks[2];
};

struct source {
    int fd, slot;
    bool ended;
    int64_t left;    /* how much is still to come; -1 is unknown: until the end */
    uint64_t bytes;  /* taken, and delivered as far as anyone listens */
    uint32_t length; /* in the buffer */
    char buffer[STREAM_BUFFER];
};

struct streams {
    struct logfile *log;
    bool tty, input_wanted, once, close_input, resized;
    bool input_ended; /* the first client has no more, for this run and the next */
    bool passed;      /* the output limit */
    int64_t limit;    /* bytes of both streams; 0 is none */
    uint16_t rows, columns;
    int terminal;          /* the pty's master: open until the end, or its session gets SIGHUP */
    int input, input_slot; /* the container's stdin; with a pty the same descriptor */
    uint64_t undelivered;  /* what a client's descriptor refused with an error */
    struct stream_client clients[STREAM_CLIENTS];
    uint32_t input_at, input_length;
    char input_buffer[INPUT_BUFFER];
    struct source sources[2];
};

/* Before the first launch: take the settings and the monitor's own 0, 1 and 2 as first client. */
void streams_start(struct streams *streams, const struct settings *settings, struct logfile *log);

/* For each launch: make the pipes; stdio are init's ends (/dev/null with a pty). */
int streams_open(struct streams *streams, int stdio[3], struct error_record *error);

/* The pty's master has come.  Keeps fd. */
void streams_terminal(struct streams *streams, int fd);
int streams_resize(struct streams *streams, int64_t rows, int64_t columns);

/* Add a client; keeps (closes in the end) each fd that is not -1, also on failure. */
int streams_attach(struct streams *streams, int owner, const int fds[3], int64_t flags);
void streams_detach(struct streams *streams, int owner);
/* The run that this client was attached to is over: tell it what it missed, and let it go.
 * Returns whether there was such a client. */
bool streams_dismiss(struct streams *streams, int owner);

/* No more input for the container. */
void streams_close_input(struct streams *streams);

void streams_watch(struct streams *streams, struct pollset *set);
void streams_serve(struct streams *streams, const struct pollset *set);

/* The container's processes are gone: what is in the pipes now is all there will be. */
void streams_drain(struct streams *streams);
/* All that came is read, and every lossless client has it. */
bool streams_done(const struct streams *streams);
/* Do not wait any longer for more output ... */
void streams_end_sources(struct streams *streams);
/* ... or for an attached client that does not take it; first_too: nor for the first one. */
void streams_give_up(struct streams *streams, bool first_too);
/* How much has moved so far: unchanged means that nobody makes progress. */
uint64_t streams_progress(const struct streams *streams);
/* Close what one launch opened. */
void streams_close(struct streams *streams);
/* Tell lossy clients what they missed, close every client. */
void streams_finish(struct streams *streams);

#endif
