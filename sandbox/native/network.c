/* The links of a container: rtnetlink messages that come packed in the plan, sent and answered for.
 *
 * network_prepare() and network_make() run in the monitor, in the host's network: the latter makes
 * each pair of links, whose inner end is born in init's network, while init mounts its root.
 * do_network() runs in init, which waits for that, in its own network.  The questions of "settle"
 * it asks over the monitor's socket, which stays one of the host's network whoever uses it: they
 * are to be answered before the program runs, and need no authority.
 *
 * Every message asks for an answer and is waited for (by the kernel within the call; the bound is
 * for what cannot happen).  plan.c has looked at lengths and flags.  Nothing is left after a
 * failure: a pair goes with init's network, and one in a network that was there before is removed
 * by who fails. */
#include "init.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#define NETLINK_ROUTE 0
#define MESSAGE_ERROR 2 /* an errno, or 0: the end of an answer */
#define NEW_LINK 16
#define REMOVE_LINK 17
#define GET_LINK 18
#define SET_LINK 19
#define NEW_ADDRESS 20
#define NEW_ROUTE 24
#define REQUEST_ACK 5
#define IFLA_NAME 3
#define IFLA_BRIDGE 10 /* IFLA_MASTER */
#define LINK_BYTES 32  /* the header and struct ifinfomsg; attributes follow */
#define ANSWER_S 10
#define MAX_ANSWERS 64

struct header {
    uint32_t length;
    uint16_t type, flags;
    uint32_t sequence, port;
};

/* struct sockaddr_nl */
struct address {
    sa_family_t family;
    uint16_t padding;
    uint32_t port, groups;
};

/* A message on its way: a copy, for the plan is not to be written to. */
union message {
    struct header header;
    uint8_t bytes[MAX_MESSAGE];
    struct {
        struct header header;
        uint8_t family, rest[3];
        uint32_t index; /* of addresses and of links */
    } on;
};

/* A link's removal by its name. */
struct removal {
    struct header header;
    uint8_t about[16]; /* struct ifinfomsg, of no index */
    uint16_t size, type;
    char name[MAX_LINK_NAME + 1];
};

static const char *name_of(uint16_t type)
{
    switch (type) {
    case NEW_LINK:
        return "RTM_NEWLINK";
    case REMOVE_LINK:
        return "RTM_DELLINK";
    case GET_LINK:
        return "RTM_GETLINK";
    case SET_LINK:
        return "RTM_SETLINK";
    case NEW_ADDRESS:
        return "RTM_NEWADDR";
    case NEW_ROUTE:
        return "RTM_NEWROUTE";
    default:
        return "netlink";
    }
}

static int open_wire(void)
{
    const struct timeval patience = {.tv_sec = ANSWER_S};
    cleanup_fd int wire = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (wire < 0 || setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        return -errno;
    return steal_fd(&wire);
}

/* The kernel's verdict on one message; what else it answers is not for us. */
static int receive(int wire, uint32_t sequence)
{
    for (int i = 0; i < MAX_ANSWERS; i++) {
        struct {
            struct header header;
            int32_t error;
        } answer = {0};
        struct address from = {0};
        socklen_t room = sizeof from;
        ssize_t size =
            recvfrom(wire, &answer, sizeof answer, 0, (struct sockaddr *)(void *)&from, &room);

        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        /* From the kernel: others on this network may send to us, too. */
        if (from.port != 0 || answer.header.sequence != sequence)
            continue;
        if (answer.header.type == MESSAGE_ERROR)
            return size == sizeof answer && answer.error <= 0 ? answer.error : -EPROTO;
    }
    return -EPROTO;
}

static int ask(int wire, struct header *header)
{
    static uint32_t last; /* one for all sockets: on none is anything left to be answered */

    header->sequence = ++last;
    header->port = 0;
    for (;;) {
        ssize_t size = send(wire, header, header->length, 0);

        if (size == (ssize_t)header->length)
            return receive(wire, header->sequence);
        if (size >= 0 || errno != EINTR)
            return size < 0 ? -errno : -EPROTO;
    }
}

/* The next message of a row, copied; false at its end. */
static bool take(struct messages *row, union message *message)
{
    uint32_t length;

    if (row->size == 0)
        return false;
    memcpy(&length, row->data, sizeof length);
    memcpy(message->bytes, row->data, length);
    row->data += length;
    row->size -= length;
    return true;
}

static int remove_link(int wire, const char *name)
{
    struct removal removal = {
        .header = {.length = sizeof removal, .type = REMOVE_LINK, .flags = REQUEST_ACK},
        .size = 4 + MAX_LINK_NAME + 1,
        .type = IFLA_NAME,
    };
    int result;

    memcpy(removal.name, name, strlen(name));
    result = ask(wire, &removal.header);
    return result == -ENODEV ? 0 : result;
}

/* ---- settings of a link, in the network of whoever calls ---- */

static int set(int sysctl_fd, const char *link, const char *name, char value)
{
    char path[64], now = 0;
    cleanup_fd int fd = -1;

    snprintf(path, sizeof path, "ipv6/conf/%s/%s", link, name);
    fd = openat(sysctl_fd, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* a kernel without IPv6 */
    /* Looked at first: to write some of them is to wait for a lock of the whole kernel. */
    if (read(fd, &now, 1) == 1 && now == value)
        return 0;
    return pwrite(fd, &value, 1, 0) == 1 ? 0 : -errno;
}

/* No router is heard.  Without IPv6, there is none of it, not even an address of the link; with it
 * its addresses are used at once, for who gives them gives them once. */
static int harden(int sysctl_fd, const char *link, bool ipv6)
{
    int result = set(sysctl_fd, link, "accept_ra", '0');

    if (result == 0 && ipv6)
        result = set(sysctl_fd, link, "accept_dad", '0');
    return result < 0 ? result : set(sysctl_fd, link, "disable_ipv6", ipv6 ? '0' : '1');
}

/* ---- monitor ---- */

int network_prepare(const struct settings *settings, struct init *init, struct error_record *error)
{
    if (settings->endpoint_count == 0)
        return 0;
    if (settings->enter_pid == 0 && (settings->namespaces & NS_NET) == 0)
        return fail(error, NULL, EINVAL, "clone3", "no network of its own for its endpoints");
    init->wire_fd = open_wire();
    if (init->wire_fd < 0)
        return fail(error, NULL, -init->wire_fd, "socket", "netlink");
    init->sysctl_fd = open("/proc/sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (init->sysctl_fd < 0 || !is_on(init->sysctl_fd, PROC_MAGIC))
        return fail(error, NULL, init->sysctl_fd < 0 ? errno : ENOTDIR, "open", "/proc/sys/net");
    return 0;
}

/* Which link it is, of all that there are on the network of the socket. */
static int index_of(int wire, const char *name, uint32_t *index)
{
    struct ifreq request = {0};

    memcpy(request.ifr_name, name, strlen(name));
    if (ioctl(wire, SIOCGIFINDEX, &request) < 0)
        return -errno;
    *index = (uint32_t)request.ifr_ifindex;
    return 0;
}

/* A bridge that was removed and made again since the message was packed has another index. */
static int name_bridge(union message *message, uint32_t index)
{
    uint32_t at = LINK_BYTES;
    uint16_t size, type;

    while (at + 8 <= message->header.length) {
        memcpy(&size, message->bytes + at, sizeof size);
        memcpy(&type, message->bytes + at + 2, sizeof type);
        if (type == IFLA_BRIDGE && size == 8) {
            memcpy(message->bytes + at + 4, &index, sizeof index);
            return 0;
        }
        if (size < 4)
            break;
        at += (size + 3u) & ~3u;
    }
    return -EINVAL;
}

/* The pair: its inner end is in the network of the descriptor from the first moment. */
static int make_pair(int wire, union message *message, int network)
{
    int32_t fd = network;

    memcpy(message->bytes + message->header.length - sizeof fd, &fd, sizeof fd);
    return ask(wire, &message->header);
}

static int make_endpoint(const struct endpoint *endpoint, const struct init *init, int network,
                         bool is_new, struct error_record *error)
{
    const struct op where = {.code = OP_ENDPOINT, .index = endpoint->index};
    struct messages row = endpoint->make;
    union message message;
    uint32_t bridge = 0;
    int result = index_of(init->wire_fd, endpoint->bridge, &bridge);

    if (result < 0)
        return fail(error, &where, -result, "ioctl", endpoint->bridge);
    take(&row, &message);
    result = name_bridge(&message, bridge);
    if (result < 0)
        return fail(error, &where, -result, "plan", endpoint->link);
    result = make_pair(init->wire_fd, &message, network);
    if (result == -EEXIST && is_new) {
        /* Of an earlier run of this container, whose network the kernel has not yet dropped. */
        result = remove_link(init->wire_fd, endpoint->link);
        if (result == 0)
            result = make_pair(init->wire_fd, &message, network);
    }
    if (result < 0)
        return fail(error, &where, -result, name_of(message.header.type), endpoint->link);
    /* A port of a bridge needs no address, and so no IPv6, of its own. */
    result = harden(init->sysctl_fd, endpoint->link, false);
    if (result < 0)
        fail(error, &where, -result, "write", endpoint->link);
    while (result == 0 && take(&row, &message)) {
        result = ask(init->wire_fd, &message.header);
        if (result < 0)
            fail(error, &where, -result, name_of(message.header.type), endpoint->link);
    }
    if (result < 0 && !is_new)
        remove_link(init->wire_fd, endpoint->link);
    return result;
}

/* Init's network: that of the monitor's own child, whose number is its own while it is not reaped;
 * or the one that it joins, which prepare.c has opened. */
static int open_network(const struct settings *settings, const struct init *init, pid_t pid,
                        struct error_record *error)
{
    char path[32];
    int fd = -1;

    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    if (settings->enter_pid == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? fail(error, NULL, errno, "open", path) : fd;
    }
    for (int i = 0; i < settings->join_count; i++)
        if (settings->joins[i].kind == NS_NET && init->join_fds[i] >= 0)
            fd = fcntl(init->join_fds[i], F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? fail(error, NULL, EINVAL, "setns", "it has the host's network") : fd;
}

int network_make(const struct settings *settings, const struct init *init, pid_t pid,
                 struct error_record *error)
{
    bool is_new = settings->enter_pid == 0;
    cleanup_fd int network = open_network(settings, init, pid, error);
    int result = network < 0 ? network : 0;

    for (int i = 0; i < settings->endpoint_count && result == 0; i++)
        result = make_endpoint(&settings->endpoints[i], init, network, is_new, error);
    return result;
}

/* ---- init ---- */

static int plumb(const struct endpoint *endpoint, struct init *init, int wire,
                 const struct op *where)
{
    struct messages row = endpoint->plumb;
    union message message;
    uint32_t index = 0;
    int result = index_of(wire, endpoint->name, &index);

    if (result < 0)
        return fail(init->error, where, -result, "ioctl", endpoint->name);
    result = harden(init->sysctl_fd, endpoint->name, (endpoint->flags & ENDPOINT_IPV6) != 0);
    if (result < 0)
        return fail(init->error, where, -result, "write", endpoint->name);
    while (take(&row, &message)) {
        if (message.header.type == NEW_ADDRESS && message.on.index == 0)
            message.on.index = index;
        result = ask(wire, &message.header);
        if (result < 0)
            return fail(init->error, where, -result, name_of(message.header.type), endpoint->name);
    }
    for (row = endpoint->settle; take(&row, &message);) {
        result = ask(init->wire_fd, &message.header);
        if (result < 0)
            return fail(init->error, where, -result, name_of(message.header.type), endpoint->link);
    }
    return 0;
}

int do_network(struct init *init, struct op *op)
{
    const struct settings *settings = init->settings;
    cleanup_fd int wire = -1;
    int result = 0;

    if (settings->endpoint_count == 0)
        return 0;
    wait_for_monitor(init);
    wire = open_wire();
    if (wire < 0)
        return fail(init->error, op, -wire, "socket", "netlink");
    for (int i = 0; i < settings->endpoint_count && result == 0; i++)
        result = plumb(&settings->endpoints[i], init, wire, op);
    /* In a network that was there before, the inner end takes the outer one with it. */
    for (int i = 0; i < settings->endpoint_count && result < 0 && settings->enter_pid > 0; i++)
        remove_link(wire, settings->endpoints[i].name);
    close_fd(&init->wire_fd);
    close_fd(&init->sysctl_fd);
    close_fd(&init->sync_fd);
    return result;
}
