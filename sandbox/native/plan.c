/* The plan's decoder.
 *
 * plan_check() assumes nothing about the bytes but that they start on a multiple of eight; it is
 * the only place that distrusts them.  The readers assume a plan that it has passed. */
#include "launch.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES 24u
#define OP_HEADER_BYTES 8u

/* As netlink(7) has it: a header of length, type, flags, sequence number and port. */
#define NETLINK_HEADER_BYTES 16u
#define NETLINK_BODY_BYTES 8u /* of every kind that there is, at least; its index is the second */
#define NETLINK_REQUEST 1
#define NETLINK_ACK 4
#define NETLINK_DUMP 0x300
#define NETLINK_NAMESPACE_FD 28

static const char *const KINDS[] = {
    [OP_ID] = "s",
    [OP_FOLDERS] = "sss",
    [OP_STDIO] = "iii",
    [OP_LOG] = "sii",
    [OP_LIMITS] = "iii",
    [OP_CGROUP] = "iss",
    [OP_NAMESPACES] = "i",
    [OP_JOIN] = "is",
    [OP_ID_MAP] = "ss",
    [OP_LIFETIME] = "i",
    [OP_EXIT_COMMAND] = "vv",
    [OP_RESTART] = "ii",
    [OP_DISK] = "sss",
    [OP_ENTER] = "ii",
    [OP_HEALTH] = "biiiii",
    [OP_EVENTS] = "ss",
    [OP_ENDPOINT] = "sssibbb",
    [OP_KEEP] = "i",
    [OP_PROPAGATION] = "i",
    [OP_ROOT_OVERLAY] = "vssi",
    [OP_ROOT_BIND] = "si",
    [OP_MOUNT] = "sssivi",
    [OP_BIND] = "ssiii",
    [OP_MASK] = "s",
    [OP_READONLY] = "s",
    [OP_MKDIR] = "siii",
    [OP_SYMLINK] = "ss",
    [OP_MKNOD] = "siiiii",
    [OP_CONSOLE] = "ii",
    [OP_PIVOT] = "",
    [OP_ROOT_READONLY] = "",
    [OP_SYSCTL] = "ss",
    [OP_HOSTNAME] = "s",
    [OP_DOMAINNAME] = "s",
    [OP_LOOPBACK_UP] = "",
    [OP_OOM_SCORE_ADJ] = "i",
    [OP_RLIMIT] = "iii",
    [OP_WORKDIR] = "si",
    [OP_UMASK] = "i",
    [OP_KEYRING] = "s",
    [OP_IDS] = "iil",
    [OP_CAPABILITIES] = "iiiii",
    [OP_NO_NEW_PRIVILEGES] = "",
    [OP_SECCOMP] = "bi",
    [OP_EXEC] = "vvi",
    [OP_CGROUP_NAMESPACE] = "",
    [OP_NICE] = "i",
    [OP_NETWORK] = "",
};
#define KNOWN_CODES (sizeof KINDS / sizeof *KINDS)

const char *op_kinds(uint32_t code)
{
    return code < KNOWN_CODES ? KINDS[code] : NULL;
}

static uint32_t u32_at(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* The bytes that one field takes, or 0 when it is not a good one. */
static size_t field_size(char kind, const uint8_t *at, size_t left)
{
    size_t length, size;

    if (left < 8)
        return 0;
    length = u32_at(at);
    switch (kind) {
    case 'i':
        return 8;
    case 's':
    case 'b':
        if (length > left - 5)
            return 0;
        size = padded(4 + length + 1);
        if (size > left || at[4 + length] != 0)
            return 0;
        if (kind == 's' && memchr(at + 4, 0, length) != NULL)
            return 0;
        return size;
    case 'v': {
        size_t rest = u32_at(at + 4);
        size_t nuls = 0;

        if (rest > left - 8)
            return 0;
        size = padded(8 + rest);
        if (size > left || (rest > 0 && at[8 + rest - 1] != 0))
            return 0;
        for (size_t i = 0; i < rest; i++)
            nuls += at[8 + i] == 0;
        return nuls == length ? size : 0;
    }
    case 'l':
        if (length > (left - 8) / 8)
            return 0;
        return 8 + length * 8;
    default:
        return 0;
    }
}

static bool may_repeat(uint32_t code)
{
    return code == OP_CGROUP || code == OP_JOIN || code == OP_ENDPOINT;
}

static int check_op(const uint8_t *at, size_t left, uint32_t *code, size_t *size)
{
    const char *kinds;
    size_t body;

    if (left < OP_HEADER_BYTES)
        return -EINVAL;
    *code = u32_at(at);
    body = u32_at(at + 4);
    kinds = op_kinds(*code);
    if (kinds == NULL)
        return -ENOTSUP;
    if (body > left - OP_HEADER_BYTES)
        return -EINVAL;
    *size = OP_HEADER_BYTES + body;
    at += OP_HEADER_BYTES;
    for (; *kinds != 0; kinds++) {
        size_t field = field_size(*kinds, at, body);

        if (field == 0)
            return -EINVAL;
        at += field;
        body -= field;
    }
    return body == 0 ? 0 : -EINVAL;
}

static int check_ops(const uint8_t *data, uint32_t size, uint32_t count, struct op *where)
{
    const uint8_t *at = data + HEADER_BYTES;
    size_t left = size - HEADER_BYTES;
    uint32_t seen = 0; /* settings, by code */
    uint32_t last = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t code = 0;
        size_t op_size = 0;
        int result = check_op(at, left, &code, &op_size);

        *where = (struct op){.code = code, .index = i};
        if (result < 0)
            return result;
        if (last == OP_EXEC || (code < FIRST_INIT_OP && last >= FIRST_INIT_OP))
            return -EINVAL;
        if (code < FIRST_INIT_OP && !may_repeat(code)) {
            if (seen & (1u << code))
                return -EINVAL;
            seen |= 1u << code;
        }
        last = code;
        at += op_size;
        left -= op_size;
    }
    return left == 0 && (last == OP_EXEC || last == OP_NETWORK) ? 0 : -EINVAL;
}

int plan_check(const void *data, size_t size, struct plan *plan, struct error_record *error)
{
    const uint8_t *bytes = data;
    struct op where = {0};
    uint32_t count;
    int result;

    if (size < HEADER_BYTES || size > PLAN_MAX_BYTES || size % 8 != 0 ||
        ((uintptr_t)data) % 8 != 0 || memcmp(bytes, PLAN_MAGIC, 8) != 0)
        return fail(error, NULL, EINVAL, "plan", "header");
    if (u32_at(bytes + 8) != PLAN_VERSION)
        return fail(error, NULL, EPROTONOSUPPORT, "plan", "version");
    count = u32_at(bytes + 16);
    if (u32_at(bytes + 12) != size || u32_at(bytes + 20) != 0)
        return fail(error, NULL, EINVAL, "plan", "size");
    if (count > PLAN_MAX_OPS)
        return fail(error, NULL, E2BIG, "plan", "number of operations");
    result = check_ops(bytes, (uint32_t)size, count, &where);
    if (result < 0)
        return fail(error, &where, -result, "plan", "operation");
    *plan = (struct plan){.data = bytes, .size = (uint32_t)size, .count = count};
    plan->has_program = where.code == OP_EXEC;
    return 0;
}

bool plan_next(const struct plan *plan, struct op *op)
{
    const uint8_t *start = op->at == NULL ? plan->data + HEADER_BYTES : op->end;
    uint32_t index = op->at == NULL ? 0 : op->index + 1;

    if (index >= plan->count)
        return false;
    op->code = u32_at(start);
    op->index = index;
    op->at = start + OP_HEADER_BYTES;
    op->end = op->at + u32_at(start + 4);
    return true;
}

int64_t op_integer(struct op *op)
{
    int64_t value;

    memcpy(&value, op->at, sizeof value);
    op->at += 8;
    return value;
}

const char *op_string(struct op *op)
{
    uint32_t size;

    return op_bytes(op, &size);
}

const void *op_bytes(struct op *op, uint32_t *size)
{
    const uint8_t *start = op->at + 4;

    *size = u32_at(op->at);
    op->at += padded(4 + (size_t)*size + 1);
    return start;
}

uint32_t op_strings(struct op *op, const char **first)
{
    uint32_t count = u32_at(op->at);
    size_t rest = u32_at(op->at + 4);

    *first = (const char *)op->at + 8;
    op->at += padded(8 + rest);
    return count;
}

uint32_t op_integers(struct op *op, const int64_t **first)
{
    uint32_t count = u32_at(op->at);

    *first = (const int64_t *)(const void *)(op->at + 8);
    op->at += 8 + (size_t)count * 8;
    return count;
}

static int read_cgroup(struct settings *settings, struct op *op, struct error_record *error)
{
    struct cgroup *cgroup = &settings->cgroups[settings->cgroup_count];
    int64_t version = op_integer(op);

    if (settings->cgroup_count == MAX_CGROUPS)
        return fail(error, op, E2BIG, "plan", "cgroup");
    if (version != 1 && version != 2)
        return fail(error, op, EINVAL, "plan", "cgroup");
    cgroup->version = (int)version;
    cgroup->controllers = op_string(op);
    cgroup->path = op_string(op);
    cgroup->dir_fd = -1;
    settings->cgroup_count++;
    return 0;
}

static int read_join(struct settings *settings, struct op *op, struct error_record *error)
{
    if (settings->join_count == MAX_JOINS)
        return fail(error, op, E2BIG, "plan", "join");
    settings->joins[settings->join_count].kind = (uint64_t)op_integer(op);
    settings->joins[settings->join_count].path = op_string(op);
    settings->join_count++;
    return 0;
}

static int read_enter(struct settings *settings, struct op *op, struct error_record *error)
{
    settings->enter_pid = op_integer(op);
    settings->enter_start_time = op_integer(op);
    if (settings->enter_pid < 1 || settings->enter_pid > INT32_MAX)
        return fail(error, op, EINVAL, "plan", "enter");
    return 0;
}

/* Far beyond what anybody waits for, and far from where clocks overflow. */
#define MAX_HEALTH_MS 1000000000000

static int read_health(struct settings *settings, struct op *op, struct error_record *error)
{
    settings->health_plan = op_bytes(op, &settings->health_size);
    int64_t *const numbers[] = {&settings->health_interval_ms, &settings->health_timeout_ms,
                                &settings->health_retries, &settings->health_start_period_ms,
                                &settings->health_start_interval_ms};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t least = numbers[i] != &settings->health_start_period_ms;

        *numbers[i] = op_integer(op);
        if (*numbers[i] < least || *numbers[i] > MAX_HEALTH_MS)
            return fail(error, op, EINVAL, "plan", "health");
    }
    return 0;
}

/* A name that is one part of a path, as the kernel has it too. */
static bool is_link_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= MAX_LINK_NAME && strchr(name, '/') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Requests that are answered once, by themselves, and no longer than what the sender has room
 * for. */
static bool are_messages(const struct messages *messages)
{
    uint32_t at = 0;

    while (at < messages->size) {
        const uint8_t *message = messages->data + at;
        uint32_t length;
        uint16_t type, flags;

        if (messages->size - at < NETLINK_HEADER_BYTES)
            return false;
        length = u32_at(message);
        memcpy(&type, message + 4, sizeof type);
        memcpy(&flags, message + 6, sizeof flags);
        if (length < NETLINK_HEADER_BYTES + NETLINK_BODY_BYTES || length > MAX_MESSAGE ||
            length % 4 != 0 || length > messages->size - at)
            return false;
        if ((flags & (NETLINK_REQUEST | NETLINK_ACK)) != (NETLINK_REQUEST | NETLINK_ACK) ||
            ((type & 3) == 2 && (flags & NETLINK_DUMP) != 0))
            return false;
        at += length;
    }
    return true;
}

/* The first message of "make" ends with the attribute of the namespace, whose value is filled in
 * by network.c. */
static bool has_namespace(const struct messages *make)
{
    static const uint8_t head[4] = {8, 0, NETLINK_NAMESPACE_FD, 0};
    uint32_t length = make->size > 0 ? u32_at(make->data) : 0;

    return length >= NETLINK_HEADER_BYTES + NETLINK_BODY_BYTES + 8 &&
           memcmp(make->data + length - 8, head, sizeof head) == 0;
}

static int read_endpoint(struct settings *settings, struct op *op, struct error_record *error)
{
    struct endpoint *endpoint = &settings->endpoints[settings->endpoint_count];
    const struct op where = *op;

    if (settings->endpoint_count == MAX_ENDPOINTS)
        return fail(error, &where, E2BIG, "plan", "endpoint");
    endpoint->index = op->index;
    endpoint->link = op_string(op);
    endpoint->name = op_string(op);
    endpoint->bridge = op_string(op);
    endpoint->flags = op_integer(op);
    endpoint->make.data = op_bytes(op, &endpoint->make.size);
    endpoint->plumb.data = op_bytes(op, &endpoint->plumb.size);
    endpoint->settle.data = op_bytes(op, &endpoint->settle.size);
    if (!is_link_name(endpoint->link) || !is_link_name(endpoint->name) ||
        !is_link_name(endpoint->bridge) || !are_messages(&endpoint->make) ||
        !are_messages(&endpoint->plumb) || !are_messages(&endpoint->settle) ||
        !has_namespace(&endpoint->make))
        return fail(error, &where, EINVAL, "plan", "endpoint");
    settings->endpoint_count++;
    return 0;
}

static int read_keep(struct settings *settings, struct op *op, struct error_record *error)
{
    settings->keep = op_integer(op);
    if (settings->keep < 0 || settings->keep > MAX_KEPT)
        return fail(error, op, EINVAL, "plan", "keep");
    return 0;
}

static int read_setting(struct settings *settings, struct op *op, struct error_record *error)
{
    switch (op->code) {
    case OP_ID:
        settings->id = op_string(op);
        return 0;
    case OP_FOLDERS:
        settings->state = op_string(op);
        settings->run = op_string(op);
        settings->mount_point = op_string(op);
        return 0;
    case OP_STDIO:
        settings->stdio_flags = op_integer(op);
        settings->rows = op_integer(op);
        settings->columns = op_integer(op);
        return 0;
    case OP_LOG:
        settings->log_path = op_string(op);
        settings->log_max_bytes = op_integer(op);
        settings->log_max_files = op_integer(op);
        return 0;
    case OP_LIMITS:
        settings->wall_ms = op_integer(op);
        settings->cpu_us = op_integer(op);
        settings->output_bytes = op_integer(op);
        return 0;
    case OP_CGROUP:
        return read_cgroup(settings, op, error);
    case OP_NAMESPACES:
        settings->namespaces = (uint64_t)op_integer(op);
        return 0;
    case OP_JOIN:
        return read_join(settings, op, error);
    case OP_ID_MAP:
        settings->uid_map = op_string(op);
        settings->gid_map = op_string(op);
        return 0;
    case OP_LIFETIME:
        settings->lifetime = op_integer(op);
        return 0;
    case OP_EXIT_COMMAND:
        settings->exit_argc = op_strings(op, &settings->exit_argv);
        settings->exit_envc = op_strings(op, &settings->exit_env);
        return 0;
    case OP_RESTART:
        settings->restart_policy = op_integer(op);
        settings->restart_max = op_integer(op);
        return 0;
    case OP_DISK:
        settings->disk_path = op_string(op);
        settings->disk_fstype = op_string(op);
        settings->disk_options = op_string(op);
        return 0;
    case OP_ENTER:
        return read_enter(settings, op, error);
    case OP_HEALTH:
        return read_health(settings, op, error);
    case OP_EVENTS:
        settings->events_path = op_string(op);
        settings->exec_id = op_string(op);
        return 0;
    case OP_ENDPOINT:
        return read_endpoint(settings, op, error);
    case OP_KEEP:
        return read_keep(settings, op, error);
    default:
        return 0;
    }
}

int settings_read(const struct plan *plan, struct settings *settings, struct error_record *error)
{
    struct op op = {0};

    memset(settings, 0, sizeof *settings);
    settings->id = settings->state = settings->run = settings->mount_point = "";
    settings->log_path = settings->events_path = settings->exec_id = "";
    while (plan_next(plan, &op) && op.code < FIRST_INIT_OP) {
        int result = read_setting(settings, &op, error);

        if (result < 0)
            return result;
    }
    return 0;
}

static void copy_text(char *to, size_t size, const char *from)
{
    size_t length = strnlen(from, size - 1);

    memcpy(to, from, length);
    to[length] = 0;
}

int fail(struct error_record *error, const struct op *op, int errno_value, const char *syscall,
         const char *path)
{
    if (error->error == 0) {
        error->step = op != NULL ? op->code : 0;
        error->index = op != NULL ? op->index : 0;
        error->error = errno_value;
        copy_text(error->syscall, sizeof error->syscall, syscall);
        copy_text(error->path, sizeof error->path, path != NULL ? path : "");
        error->reason[0] = 0;
    }
    return -errno_value;
}
