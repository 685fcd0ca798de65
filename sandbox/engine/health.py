"""What is checked of a container's health: the options over the image's word, docker's defaults.

Loaded only for a container that is checked.  The monitor carries it out: here the
plan of one check is compiled, which is an exec's, so that the command is held as
the container's own processes are.
"""

from __future__ import annotations

from ..errors import UsageError
from ..native.plan import encode
from ..oci.imageconfig import Healthcheck
from ..runtime.exec import ExecSettings, compile_exec
from ..runtime.launch import Check
from .specify import check_process, id_maps, seccomp_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..oci.imageconfig import ImageConfig
    from ..oci.spec import Spec
    from ..runtime.launch import Group
    from .launching import Launching
    from .options import RunOptions

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
# Where nobody says anything.
DEFAULT_INTERVAL_NS = 30 * NS_PER_S
DEFAULT_TIMEOUT_NS = 30 * NS_PER_S
DEFAULT_START_INTERVAL_NS = 5 * NS_PER_S
DEFAULT_RETRIES = 3
DEFAULT_SHELL = ("/bin/sh", "-c")
# What an image may ask for by itself: the time that it takes to start a check is nobody's limit's.
LEAST_OF_IMAGE_NS = 100 * NS_PER_MS
# As much as the monitor takes.
MOST_MS = 10**12


def healthcheck_of(options: RunOptions, config: ImageConfig) -> Healthcheck | None:
    """What was asked for, completed by the image; 0 is still docker's default."""
    if options.no_healthcheck:
        return Healthcheck(test=("NONE",))
    said = config.healthcheck
    asked = Healthcheck(
        test=options.health_cmd,
        interval_ns=_ns(options.health_interval_s),
        timeout_ns=_ns(options.health_timeout_s),
        start_period_ns=_ns(options.health_start_period_s),
        start_interval_ns=_ns(options.health_start_interval_s),
        retries=options.health_retries or 0,
    )
    if asked == Healthcheck(test=()):
        return said
    if said is None:
        return asked
    return Healthcheck(
        test=asked.test or said.test,
        interval_ns=asked.interval_ns or said.interval_ns,
        timeout_ns=asked.timeout_ns or said.timeout_ns,
        start_period_ns=asked.start_period_ns or said.start_period_ns,
        start_interval_ns=asked.start_interval_ns or said.start_interval_ns,
        retries=asked.retries or said.retries,
    )


def check_argv(check: Healthcheck | None, shell: tuple[str, ...]) -> tuple[str, ...]:
    """The command of a check; empty when there is nothing to check."""
    kind, *words = check.test if check is not None and check.test else ("NONE",)
    if kind == "CMD-SHELL":
        return (*(shell or DEFAULT_SHELL), *words)
    return tuple(words) if kind == "CMD" else ()


def compile_check(launching: Launching, groups: tuple[Group, ...], held: Spec) -> Check | None:
    """The plan and the times of the checks of one start; ``held`` chooses the filter."""
    options, config = launching.options, launching.root.config
    check = healthcheck_of(options, config)
    argv = check_argv(check, config.shell)
    if check is None or not argv:
        return None
    uid_mappings, gid_mappings = id_maps(options)
    ops = compile_exec(
        check_process(argv, options, launching.root, launching.folder, launching.hostname),
        ExecSettings(
            id=launching.record.id,
            # Whoever is process 1 by then: the monitor fills it in.
            pid=0,
            start_time=0,
            groups=groups,
            uid_mappings=uid_mappings,
            gid_mappings=gid_mappings,
            with_launcher=True,
            oom_score_adj=options.oom_score_adj,
        ),
        seccomp_filter(launching.engine, options, held),
    )
    try:
        plan = encode(ops)
    except ValueError as error:
        raise UsageError(f"too much to pass on to the health check: {error}") from error
    interval_ns, start_interval_ns = check.interval_ns, check.start_interval_ns
    if options.health_interval_s is None and interval_ns:
        interval_ns = max(interval_ns, LEAST_OF_IMAGE_NS)
    if options.health_start_interval_s is None and start_interval_ns:
        start_interval_ns = max(start_interval_ns, LEAST_OF_IMAGE_NS)
    return Check(
        plan=plan,
        interval_ms=_ms(interval_ns or DEFAULT_INTERVAL_NS),
        timeout_ms=_ms(check.timeout_ns or DEFAULT_TIMEOUT_NS),
        retries=min(check.retries or DEFAULT_RETRIES, MOST_MS),
        start_period_ms=_ms(check.start_period_ns),
        start_interval_ms=_ms(start_interval_ns or DEFAULT_START_INTERVAL_NS),
    )


def _ns(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * NS_PER_S)


def _ms(nanoseconds: int) -> int:
    return min(-(-nanoseconds // NS_PER_MS), MOST_MS)
