/* Who may speak to the monitor, and what they say.
 *
 * The launch socket and <run>/control carry the same small text messages, one a packet
 * (SOCK_SEQPACKET), at most CONTROL_MESSAGE bytes, the command and its arguments on the first line:
 *
 *     signal NUMBER [stop]     to init; "stop": in order to end the container
 *     kill                     the whole container, at once
 *     resize ROWS COLUMNS      the terminal
 *     attach FLAGS             with three descriptors (in, out, err); CLIENT_* in streams.h
 *     close_stdin              no more input
 *     restart POLICY MOST      another restart policy, numbered as in the plan
 *     status                   answered by "ok" and lines of "key value"
 *     wait                     no answer of its own: the end is told to everybody
 *
 * Answers are "ok", or "error ERRNO TEXT".  Unasked, everybody gets "exited\n<record>" in the end,
 * and the launcher before it "started\n<facts>" or "failed\n<record>".  Who is attached gets the
 * record of that run alone, also when the restart policy starts another one.
 */
#ifndef SANDBOX_CONTROL_H
#define SANDBOX_CONTROL_H

#include "launch.h"
#include "pollset.h"

#define CONTROL_MESSAGE 4096
#define CONTROL_PEERS 17 /* the launcher, and sixteen others */
#define LAUNCHER 0

enum verb {
    VERB_NONE, /* nothing to do: refused already, or not a whole message */
    VERB_SIGNAL,
    VERB_KILL,
    VERB_RESIZE,
    VERB_ATTACH,
    VERB_CLOSE_STDIN,
    VERB_STATUS,
    VERB_WAIT,
    VERB_RESTART,
    VERB_ENDPOINTS,
    VERB_GONE, /* the peer has closed its end */
};

struct request {
    enum verb verb;
    int64_t numbers[2];
    bool stop;
    int fds[3]; /* for attach and endpoints; the taker closes them */
};

struct peer {
    int fd, slot;
};

struct control {
    int listening, slot;
    struct peer peers[CONTROL_PEERS];
};

/* fd becomes the launcher's peer. */
void control_start(struct control *control, int fd);

/* Hold open so many descriptors that wait in the launch socket, as long as this process lives. */
int control_keep(struct control *control, int64_t count, struct error_record *error);

/* Make <run>/control; run_fd is the folder. */
int control_listen(struct control *control, int run_fd, struct error_record *error);

void control_watch(struct control *control, struct pollset *set);

/* Let one more peer in, if there is one, with the uid of root or of the monitor. */
void control_accept(struct control *control);

/* The next message of a peer that is ready. */
void control_receive(struct control *control, int peer, struct request *request);

/* Send, or drop a peer that does not read what it is sent; whether it was sent. */
bool control_send(struct control *control, int peer, const char *text, size_t size);
void control_answer(struct control *control, int peer, int result); /* 0 or -errno */
/* To everybody; whether the launcher was told. */
bool control_send_all(struct control *control, const char *text, size_t size);

void control_drop(struct control *control, int peer);
void control_close(struct control *control, int run_fd);

#endif
