/* Unpack many archives in one process, for the sanitizers.
 *
 *     unpack_driver FOLDER [apply] < FRAMES
 *
 * A frame is a 32-bit little-endian length and so many bytes of archive.  Each is unpacked below an
 * empty FOLDER/root, one line says what became of it, and the tree is deleted again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/native/tree.h"
#include "sandbox/native/unpack.h"

static const char *const KINDS[] = {"ok", "system", "damaged", "unsafe", "cancelled"};

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static int read_frame(void)
{
    static uint8_t buffer[1 << 20];
    uint32_t left;
    int fd;

    if (fread(&left, sizeof left, 1, stdin) != 1)
        return -1;
    fd = memfd_create("frame", MFD_CLOEXEC);
    if (fd < 0)
        fail("memfd_create");
    while (left > 0) {
        size_t n = fread(buffer, 1, left < sizeof buffer ? left : sizeof buffer, stdin);

        if (n == 0 || write(fd, buffer, n) != (ssize_t)n)
            fail("frame");
        left -= (uint32_t)n;
    }
    if (lseek(fd, 0, SEEK_SET) != 0)
        fail("lseek");
    return fd;
}

static void unpack_frame(int fd, int folder, int flags)
{
    struct unpack_options options = {
        .stream = {.fd = fd,
                   .expected_size = -1,
                   .max_bytes = 64 << 20,
                   .max_ratio = 200,
                   .ratio_floor = 16 << 20},
        .tar = {.max_path = 4095, .max_pax = 1 << 20, .max_xattr = 65536, .max_segments = 10000},
        .max_entries = 10000,
        .flags = flags,
        .opaque_xattr = "trusted.overlay.opaque",
    };
    struct unpack_result result;
    struct fault fault = {0};
    int error;

    if (mkdirat(folder, "root", 0755))
        fail("mkdirat");
    options.root = openat(folder, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    error = unpack_layer(&options, NULL, &result, &fault);
    if ((error < 0) != (fault.kind != FAULT_NONE)) {
        fprintf(stderr, "error %d with fault %d\n", error, fault.kind);
        exit(3);
    }
    printf("%s %s %d %s\n", KINDS[fault.kind], fault.call, fault.error, fault.problem);
    unpack_result_free(&result);
    close(options.root);
    error = tree_remove(folder, "root");
    if (error) {
        fprintf(stderr, "tree_remove: %s\n", strerror(-error));
        exit(4);
    }
}

int main(int argc, char **argv)
{
    int flags = argc > 2 && !strcmp(argv[2], "apply") ? UNPACK_APPLY : 0;
    int folder = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, fd;

    if (folder < 0)
        fail("folder");
    while ((fd = read_frame()) >= 0) {
        unpack_frame(fd, folder, flags);
        close(fd);
    }
    return 0;
}
