/* A small process 1: forwards signals, reaps, and ends as the program ends.
 *
 * Runs in init after everything else is done, with the program's own ids and under its seccomp
 * filter.  Nothing of the host is open in it any more but the standard descriptors. */
#include "init.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Signals that this process would get for faults of its own, or for job control of others. */
static bool is_own(int signal)
{
    return signal == SIGCHLD || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
           signal == SIGILL || signal == SIGTRAP || signal == SIGABRT || signal == SIGSYS ||
           signal == SIGTTIN || signal == SIGTTOU;
}

static void reap(pid_t program)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != program)
            continue;
        _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static _Noreturn void serve(pid_t program, const sigset_t *waited)
{
    for (;;) {
        siginfo_t info;
        int signal = sigwaitinfo(waited, &info);

        if (signal < 0)
            continue;
        if (!is_own(signal))
            kill(program, signal);
        reap(program);
    }
}

static void lead_terminal(bool has_console)
{
    pid_t own = getpid();

    setpgid(0, 0);
    if (has_console)
        ioctl(0, TIOCSPGRP, &own);
}

/* Returns 0 in the child, which goes on to execve; the parent stays as process 1. */
int reaper_fork(struct init *init, const struct op *op)
{
    sigset_t all, none;
    pid_t child;

    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, NULL);
    child = or_errno(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
    if (child < 0)
        return fail(init->error, op, -child, "clone", "");
    if (child == 0) {
        lead_terminal(init->has_console); /* SIGTTOU is blocked here */
        sigprocmask(SIG_SETMASK, &none, NULL);
        return 0;
    }
    /* The error pipe among them: execve in the child is to be its last end. */
    if (sys_close_range(3, ~0u, 0) < 0)
        close(init->error_fd);
    prctl(PR_SET_NAME, "init", 0, 0, 0);
    serve(child, &all);
}
