/* Pack folders in one process, for the sanitizers.
 *
 *     pack_driver OVERLAY|- FOLDER... > ARCHIVES
 *
 * One archive behind the other; one line on stderr says what became of each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/native/pack.h"

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        struct pack_options options = {
            .dir = open(argv[i], O_PATH | O_DIRECTORY | O_CLOEXEC),
            .out = STDOUT_FILENO,
            .name = ".",
            .overlay = strcmp(argv[1], "-") != 0 ? argv[1] : NULL,
            .max_bytes = 1u << 30,
        };
        struct progress progress = {0};
        struct pack_result result;
        struct fault fault = {0};
        int error = pack_tree(&options, &progress, &result, &fault);

        if ((error < 0) != (fault.kind != FAULT_NONE)) {
            fprintf(stderr, "error %d with fault %d\n", error, fault.kind);
            return 3;
        }
        fprintf(stderr, "%d %llu %s %s\n", fault.kind, (unsigned long long)result.entries,
                fault.call, fault.problem);
        close(options.dir);
    }
    return 0;
}
