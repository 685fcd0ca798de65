/* Seccomp rules become a filter program, through libseccomp.
 *
 * May assume: well-formed options; names from an image's or a user's profile, of any content.
 * Nothing is loaded into the kernel here: the program's bytes are returned, to be cached and to be
 * loaded by the launch core.
 */
#include "filter.h"

#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BINARY_TREE 2

static int add_rule(scmp_filter_ctx filter, const struct filter_options *options,
                    const struct filter_rule *rule)
{
    struct scmp_arg_cmp conditions[6];
    int number = seccomp_syscall_resolve_name(rule->name), error;

    /* Saying again what holds anyway is an error to libseccomp. */
    if (number == __NR_SCMP_ERROR || rule->action == options->default_action)
        return 0;
    if (rule->condition_count > 6)
        return -EINVAL;
    for (uint32_t i = 0; i < rule->condition_count; i++)
        conditions[i] = (struct scmp_arg_cmp){
            .arg = rule->conditions[i].argument,
            .op = (enum scmp_compare)rule->conditions[i].op,
            .datum_a = rule->conditions[i].value,
            .datum_b = rule->conditions[i].value2,
        };
    error = seccomp_rule_add_array(filter, rule->action, number, rule->condition_count, conditions);
    return error == -EEXIST ? 0 : error;
}

static int export(scmp_filter_ctx filter, uint8_t **program, size_t *size)
{
    int fd = memfd_create("filter", MFD_CLOEXEC), error;
    struct stat st;

    if (fd < 0)
        return -errno;
    error = seccomp_export_bpf(filter, fd);
    if (!error && fstat(fd, &st))
        error = -errno;
    if (!error) {
        *size = (size_t)st.st_size;
        *program = malloc(*size ? *size : 1);
        if (!*program)
            error = -ENOMEM;
        else if (pread(fd, *program, *size, 0) != (ssize_t)*size)
            error = -EIO;
    }
    close(fd);
    return error;
}

static int fill(scmp_filter_ctx filter, const struct filter_options *options, size_t *bad_rule)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, options->bad_arch_action);

    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, BINARY_TREE);
    for (size_t i = 0; i < options->architecture_count && !error; i++) {
        error = seccomp_arch_add(filter, options->architectures[i]);
        if (error == -EEXIST)
            error = 0;
    }
    for (size_t i = 0; i < options->rule_count && !error; i++) {
        error = add_rule(filter, options, &options->rules[i]);
        if (error)
            *bad_rule = i;
    }
    return error;
}

int filter_compile(const struct filter_options *options, uint8_t **program, size_t *size,
                   size_t *bad_rule)
{
    scmp_filter_ctx filter = seccomp_init(options->default_action);
    int error;

    *program = NULL;
    *size = 0;
    *bad_rule = SIZE_MAX;
    if (!filter)
        return -EINVAL;
    error = fill(filter, options, bad_rule);
    if (!error)
        error = export(filter, program, size);
    seccomp_release(filter);
    if (error) {
        free(*program);
        *program = NULL;
    }
    return error;
}

void filter_free(uint8_t *program)
{
    free(program);
}

uint32_t filter_architecture(const char *name)
{
    return seccomp_arch_resolve_name(name);
}
