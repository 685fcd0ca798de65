/* The decoder's fuzz target: any bytes, every reader.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined fuzz_plan.c plan.c
 *
 * Assumes nothing about its input; plan_check() is what is tested, and that after it no reader
 * leaves the plan. */
#include "launch.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_string(const char *string)
{
    uint64_t sum = strlen(string);

    while (*string != 0)
        sum += (unsigned char)*string++;
    return sum;
}

static uint64_t read_field(struct op *op, char kind)
{
    const char *string;
    const uint8_t *bytes;
    const int64_t *integers;
    uint32_t count;
    uint64_t sum = 0;

    switch (kind) {
    case 'i':
        return (uint64_t)op_integer(op);
    case 's':
        return sum_string(op_string(op));
    case 'b':
        bytes = op_bytes(op, &count);
        for (uint32_t i = 0; i < count; i++)
            sum += bytes[i];
        return sum;
    case 'v':
        count = op_strings(op, &string);
        for (uint32_t i = 0; i < count; i++, string += strlen(string) + 1)
            sum += sum_string(string);
        return sum;
    default:
        count = op_integers(op, &integers);
        for (uint32_t i = 0; i < count; i++)
            sum += (uint64_t)integers[i];
        return sum;
    }
}

/* As network.c takes them: nothing is looked at again. */
static uint64_t read_messages(struct messages row)
{
    uint8_t message[MAX_MESSAGE];
    uint64_t sum = 0;

    while (row.size > 0) {
        uint32_t length;

        memcpy(&length, row.data, sizeof length);
        if (length < 24 || length > sizeof message || length % 4 != 0 || length > row.size)
            abort();
        memcpy(message, row.data, length);
        for (uint32_t i = 0; i < length; i++)
            sum += message[i];
        row.data += length;
        row.size -= length;
    }
    return sum;
}

static uint64_t read_endpoint(const struct endpoint *endpoint)
{
    if (strlen(endpoint->link) > MAX_LINK_NAME || strlen(endpoint->name) > MAX_LINK_NAME ||
        strlen(endpoint->bridge) > MAX_LINK_NAME || endpoint->make.size == 0)
        abort();
    return read_messages(endpoint->make) + read_messages(endpoint->plumb) +
           read_messages(endpoint->settle);
}

/* Returns 1 for a plan that was accepted. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of exactly this size, on a multiple of eight: one byte too far is seen. */
    uint8_t *copy = malloc(size > 0 ? size : 1);
    struct error_record error = {0};
    struct settings settings;
    struct plan plan;
    struct op op = {0};
    volatile uint64_t sum = 0;
    int accepted;

    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    accepted = plan_check(copy, size, &plan, &error) == 0;
    if (accepted != (error.error == 0))
        abort();
    while (accepted && plan_next(&plan, &op)) {
        for (const char *kind = op_kinds(op.code); *kind != 0; kind++)
            sum += read_field(&op, *kind);
        if (op.at != op.end)
            abort();
    }
    if (accepted && settings_read(&plan, &settings, &error) == 0) {
        sum += sum_string(settings.id);
        for (int i = 0; i < settings.endpoint_count; i++)
            sum += read_endpoint(&settings.endpoints[i]);
        /* A plan in a plan, shorter each time. */
        if (settings.health_plan != NULL)
            sum += (uint64_t)LLVMFuzzerTestOneInput(settings.health_plan, settings.health_size);
    }
    free(copy);
    return accepted;
}
