/* What went wrong below a layer, told once.
 *
 * A function that can fail returns 0 (or something positive) or a negative errno after filling one
 * struct fault; the first fault wins and is never overwritten.  `kind` says whose fault it is: the
 * host's (a system call failed), the archive's (damaged), its maker's (unsafe), or the caller's
 * wish (cancelled).  Nothing here allocates or prints.
 */
#ifndef SANDBOX_FAULT_H
#define SANDBOX_FAULT_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_SYSTEM,
    FAULT_DAMAGED,
    FAULT_UNSAFE,
    FAULT_CANCELLED,
};

struct fault {
    int kind;
    int error;
    char call[24];
    char entry[4097];
    char problem[200];
};

static inline int fault_system(struct fault *fault, const char *call, int error)
{
    if (fault->kind == FAULT_NONE) {
        fault->kind = FAULT_SYSTEM;
        fault->error = error;
        snprintf(fault->call, sizeof fault->call, "%s", call);
    }
    return -error;
}

__attribute__((format(printf, 4, 5))) static inline int
fault_set(struct fault *fault, int kind, int error, const char *format, ...)
{
    if (fault->kind == FAULT_NONE) {
        va_list facts;

        fault->kind = kind;
        fault->error = error;
        va_start(facts, format);
        vsnprintf(fault->problem, sizeof fault->problem, format, facts);
        va_end(facts);
    }
    return -error;
}

#define fault_damaged(fault, ...) fault_set((fault), FAULT_DAMAGED, EBADMSG, __VA_ARGS__)
#define fault_unsafe(fault, ...) fault_set((fault), FAULT_UNSAFE, EPERM, __VA_ARGS__)

#endif
