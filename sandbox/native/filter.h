/* Seccomp rules become a filter program. */
#ifndef SANDBOX_FILTER_H
#define SANDBOX_FILTER_H

#include <stddef.h>
#include <stdint.h>

struct filter_condition {
    uint32_t argument;
    uint32_t op; /* enum scmp_compare */
    uint64_t value, value2;
};

struct filter_rule {
    const char *name; /* of the system call; one that libseccomp does not know is passed over */
    uint32_t action;  /* SCMP_ACT_*, with its errno */
    uint32_t condition_count;
    struct filter_condition conditions[6];
};

struct filter_options {
    uint32_t default_action;
    uint32_t bad_arch_action;
    const uint32_t *architectures; /* SCMP_ARCH_*, beside the native one */
    size_t architecture_count;
    const struct filter_rule *rules;
    size_t rule_count;
};

/* *program is malloc'ed: struct sock_filter after struct sock_filter.  *bad_rule is the rule that
 * could not be added.  0 or -errno. */
int filter_compile(const struct filter_options *options, uint8_t **program, size_t *size,
                   size_t *bad_rule);
void filter_free(uint8_t *program);

/* The number of an architecture by libseccomp's name ("x86_64"), 0 if it has none. */
uint32_t filter_architecture(const char *name);

#endif
