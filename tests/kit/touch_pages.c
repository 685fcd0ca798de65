/* touch_pages PROCESSES MIB: fork, touch that much memory in each process, and be alive at once.
 *
 * Assumes nothing but a kernel: linked statically, no allocator, and no page is shared once it is
 * written.  Prints how many bytes were touched, and ends with 1 if a process could not. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PROCESSES 64

static int touch(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -1;
    madvise(memory, size, MADV_NOHUGEPAGE); /* what is touched is what counts */
    for (size_t at = 0; at < size; at += 4096)
        ((volatile char *)memory)[at] = 1;
    return 0;
}

int main(int argc, char **argv)
{
    int count = argc == 3 ? atoi(argv[1]) : 0, failed = 0, ready[2], go[2], status;
    size_t size = (argc == 3 ? (size_t)atoi(argv[2]) : 0) << 20;
    char byte = 0;

    if (count < 1 || count > MAX_PROCESSES || size == 0 || pipe(ready) < 0 || pipe(go) < 0)
        return 2;
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return 2;
        if (pid == 0) {
            close(go[1]);
            if (touch(size) < 0 || write(ready[1], &byte, 1) != 1)
                _exit(1);
            /* All have touched theirs before one goes. */
            _exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
        }
    }
    close(ready[1]);
    for (int i = 0; i < count; i++)
        failed |= read(ready[0], &byte, 1) != 1;
    close(go[1]);
    while (wait(&status) > 0)
        failed |= status != 0;
    printf("%zu\n", size * (size_t)count);
    return failed;
}
