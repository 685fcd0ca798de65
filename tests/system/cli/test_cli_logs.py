"""``logs``: details, tails, times, following over a rotation."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path

if TYPE_CHECKING:
    from conftest import Store

pytestmark = requires.root


def run(store: Store, script: str, *options: str) -> None:
    done = store.program("run", "-d", "--name", "aa", *options, "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr.decode()


def test_details_are_the_labels_and_variables_that_were_named(busybox: Store) -> None:
    run(
        busybox,
        "echo one; printf two",
        *("-l", "tier=a b,c", "-l", "other=x", "-e", "MODE=ü", "-e", "SECRET=s"),
        *("--log-opt", "labels=tier,none", "--log-opt", "env=MODE,NONE"),
    )
    busybox.program("wait", "aa")

    plain = busybox.program("logs", "--details", "aa").stdout
    timed = busybox.program("logs", "--details", "-t", "--tail", "1", "aa").stdout
    config = busybox.program("inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", "aa").stdout
    busybox.program("rm", "aa")

    details = b"MODE=%C3%BC,tier=a+b%2Cc "
    assert plain == details + b"one\n" + details + b"two"
    assert re.fullmatch(
        rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z " + re.escape(details) + b"two", timed
    )
    assert b'"labels":"tier,none","env":"MODE,NONE"' in config


def test_without_any_a_blank_stands_for_the_details(busybox: Store) -> None:
    run(busybox, "echo one")
    busybox.program("wait", "aa")

    done = busybox.program("logs", "--details", "aa")
    busybox.program("rm", "aa")

    assert done.stdout == b" one\n"


def test_a_container_without_a_log_says_so(busybox: Store) -> None:
    run(busybox, "echo one", "--log-driver", "none")
    busybox.program("wait", "aa")

    done = busybox.program("logs", "aa")
    busybox.program("rm", "aa")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"configured logging driver does not support reading\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tail", "2"], b"2\n3\n"),
        (["-n", "0"], b""),
        (["--tail", "all"], b"1\n2\n3\n"),
        (["--tail", "-1"], b"1\n2\n3\n"),
        (["--tail", "junk"], b"1\n2\n3\n"),
        (["--since", "1h"], b"1\n2\n3\n"),
        (["--until", "1h"], b""),
        (["--since", "2040-01-01"], b""),
        (["--until", "2040-01-01T00:00:00Z", "--tail", "1"], b"3\n"),
        (["-f", "--tail", "1"], b"3\n"),
    ],
)
def test_a_part_of_the_log_is_dockers_part(
    busybox: Store, options: list[str], expected: bytes
) -> None:
    run(busybox, "seq 1 3")
    busybox.program("wait", "aa")

    done = busybox.program("logs", *options, "aa")
    busybox.program("rm", "aa")

    assert (done.returncode, done.stdout) == (0, expected)


def test_following_goes_on_over_rotations_to_the_end(busybox: Store) -> None:
    script = "read x; seq 1 3000"
    run(busybox, script, "-i", "--log-opt", "max-size=8k", "--log-opt", "max-file=50")
    follower = subprocess.Popen(
        [program_path(), "logs", "-f", "aa"], env=busybox.environ, stdout=subprocess.PIPE
    )

    busybox.program("attach", "aa", stdin=b"go\n")
    out, _ = follower.communicate(timeout=60)
    busybox.program("rm", "aa")

    assert follower.returncode == 0
    assert out.split() == [b"%d" % number for number in range(1, 3001)]
