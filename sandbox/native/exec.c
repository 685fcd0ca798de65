/* Become the program.
 *
 * Runs in init, inside the root, with the ids and capabilities of the program.  A failure says what
 * was tried and why it did not run; nothing that was found is read but the first bytes of a file
 * that the kernel took for no program. */
#include "init.h"

#include <elf.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OWN_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define OWN_MACHINE EM_PPC64
#elif defined(__s390x__)
#define OWN_MACHINE EM_S390
#else
#define OWN_MACHINE EM_NONE
#endif

static int fail_exec(struct init *init, const struct op *op, int error, const char *reason,
                     const char *path)
{
    int result = fail(init->error, op, error, "execve", path);

    strcpy(init->error->reason, reason);
    return result;
}

static const char *no_program(const char *path)
{
    cleanup_fd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    unsigned char head[20] = {0};
    unsigned machine;

    if (fd < 0 || pread(fd, head, sizeof head, 0) != sizeof head ||
        memcmp(head, ELFMAG, SELFMAG) != 0)
        return REASON_NOT_EXECUTABLE;
    machine = head[EI_DATA] == ELFDATA2MSB ? (unsigned)head[18] << 8 | head[19]
                                           : (unsigned)head[19] << 8 | head[18];
    return machine != OWN_MACHINE ||
                   head[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)
               ? REASON_WRONG_ARCH
               : REASON_NOT_EXECUTABLE;
}

static int explain(struct init *init, const struct op *op, int error, const char *path)
{
    struct stat info;

    switch (error) {
    case ENOENT:
    case ENOTDIR:
        /* The file is there: it is its interpreter that is not. */
        if (error == ENOENT && stat(path, &info) == 0)
            return fail_exec(init, op, ENOENT, REASON_BAD_INTERPRETER, path);
        return fail_exec(init, op, error, REASON_NOT_FOUND, path);
    case EACCES:
    case EISDIR:
        return fail_exec(init, op, EACCES, REASON_NOT_EXECUTABLE, path);
    case ENOEXEC:
        return fail_exec(init, op, ENOEXEC, no_program(path), path);
    case ELIBBAD:
        return fail_exec(init, op, ELIBBAD, REASON_BAD_INTERPRETER, path);
    default:
        return fail_exec(init, op, error, "", path);
    }
}

static const char *search_path(char **envp)
{
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return DEFAULT_PATH;
}

/* The next candidate of PATH; an empty element is the working folder.  Returns false at the end. */
static bool candidate(const char **search, const char *name, char path[PATH_MAX])
{
    size_t size, name_size = strlen(name);

    while (*search != NULL) {
        const char *start = *search;

        size = strcspn(start, ":");
        *search = start[size] == ':' ? start + size + 1 : NULL;
        if (size + 1 + name_size + 1 > PATH_MAX)
            continue;
        memcpy(path, start, size);
        if (size > 0)
            path[size++] = '/';
        memcpy(path + size, name, name_size + 1);
        return true;
    }
    return false;
}

/* Asked before the filter is in force, which may forbid to ask, and because a refused execve costs
 * as much as thirty questions. */
void exec_skip_missing(struct init *init)
{
    const char *search = search_path(init->envp), *next = search;
    char path[PATH_MAX];
    struct stat info;

    if (init->argv[0] == NULL || init->argv[0][0] == 0 || strchr(init->argv[0], '/') != NULL)
        return;
    while (candidate(&next, init->argv[0], path)) {
        if (stat(path, &info) == 0 || (errno != ENOENT && errno != ENOTDIR)) {
            init->search = search;
            return;
        }
        search = next;
    }
}

static int exec_by_search(struct init *init, const struct op *op)
{
    const char *name = init->argv[0];
    char path[PATH_MAX], refused[PATH_MAX] = "";
    const char *search = init->search != NULL ? init->search : search_path(init->envp);
    struct stat info;

    if (name[0] == 0)
        return fail_exec(init, op, ENOENT, REASON_NOT_FOUND, name);
    while (candidate(&search, name, path)) {
        execve(path, init->argv, init->envp);
        if (errno == EACCES || errno == EISDIR) {
            if (refused[0] == 0)
                strcpy(refused, path);
        } else if (errno != ENOENT && errno != ENOTDIR) {
            return explain(init, op, errno, path);
        } else if (errno == ENOENT && stat(path, &info) == 0) {
            return fail_exec(init, op, ENOENT, REASON_BAD_INTERPRETER, path);
        }
    }
    if (refused[0] != 0)
        return fail_exec(init, op, EACCES, REASON_NOT_EXECUTABLE, refused);
    return fail_exec(init, op, ENOENT, REASON_NOT_FOUND, name);
}

int do_exec(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *unused;
    int64_t flags;

    op_strings(&cursor, &unused);
    op_strings(&cursor, &unused);
    flags = op_integer(&cursor);
    if (init->argv[0] == NULL)
        return fail_exec(init, op, EINVAL, REASON_NOT_FOUND, "");
    if ((init->settings->stdio_flags & STDIO_TTY) && !init->has_console)
        return fail(init->error, op, EINVAL, "console", "a terminal was asked for and not made");
    if (!init->umask_set)
        umask(022);
    if (flags & EXEC_INIT) {
        int result = reaper_fork(init, op);

        if (result < 0)
            return result;
    }
    if (strchr(init->argv[0], '/') == NULL)
        return exec_by_search(init, op);
    execve(init->argv[0], init->argv, init->envp);
    return explain(init, op, errno, init->argv[0]);
}
