/* Feed plans to the decoder: on standard input, each a u32 size and its bytes.
 *
 * For each one line: "1" when it was accepted, "0" when not.  With an argument, the table of
 * operations instead: code and kinds. */
#include "launch.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    uint32_t size;

    (void)argv;
    for (uint32_t code = 0; argc > 1 && code < 1000; code++)
        if (op_kinds(code) != NULL)
            printf("%u %s\n", code, op_kinds(code));
    while (argc == 1 && fread(&size, sizeof size, 1, stdin) == 1) {
        uint8_t *data = malloc(size + 1);

        if (data == NULL || fread(data, 1, size, stdin) != size)
            return 2;
        printf("%d\n", LLVMFuzzerTestOneInput(data, size));
        free(data);
    }
    return 0;
}
