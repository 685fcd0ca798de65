/* The event log: a line for what happens to a container while nobody but its monitor looks.
 *
 * sandbox/state/events.py has the format, writes the engine's own lines, and reads both.  A line is
 * one write to a file that is only appended to, so nobody waits for anybody.
 */
#ifndef SANDBOX_EVENTS_H
#define SANDBOX_EVENTS_H

#include "launch.h"

#define EVENTS_MAX_BYTES (4 << 20) /* of one file, of which there are two */
#define EVENTS_MAX_LINE 4096

/* Append one event of the container.  The format gives its attributes, "\tKEY\tVALUE" each, in
 * which tab, newline and backslash are escaped already; "" for none.  Nothing fails for its sake:
 * a log that cannot be written is left alone. */
__attribute__((format(printf, 3, 4))) void
events_append(const struct settings *settings, const char *action, const char *format, ...);

#endif
