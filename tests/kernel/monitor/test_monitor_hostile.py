"""What a container may do to keep its end from being seen, and what is judged all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import requires

from sandbox.monitor import exitrecord

if TYPE_CHECKING:
    from kit.monitored import Monitored

pytestmark = requires.root

TRACER = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
print(libc.ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)  # PTRACE_SEIZE
time.sleep(60)
"""


def test_a_tracer_that_never_waits_does_not_hold_the_monitor(monitored: Monitored) -> None:
    launch = monitored.start(["sleep", "60"], namespaces=(0,), limits=(1500, 0, 0))
    pid = launch.wait_started(timeout_s=30).pid
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], stdout=subprocess.PIPE)
    try:
        assert tracer.stdout is not None
        assert tracer.stdout.readline().strip() == b"0"
        record = launch.wait(timeout_s=20)
    finally:
        tracer.kill()
        tracer.communicate()

    # Only the tracer could see how it ended: never "ok", and in time.
    assert exitrecord.verdict_of(record)[0] != exitrecord.OK


def test_output_that_is_cut_after_the_end_is_judged_so(monitored: Monitored) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def read_late() -> None:
        time.sleep(1.0)
        while os.read(read_end, 65536):
            pass

    reader = threading.Thread(target=read_late)
    try:
        monitored.shell(
            "head -c 131072 /dev/zero; sleep 0.2; head -c 60000 /dev/zero",
            stdio=(nothing, write_end, nothing),
            limits=(0, 0, 150000),
        )
        os.close(write_end)
        reader.start()
        record = monitored.end()
        reader.join()
    finally:
        os.close(read_end)
        os.close(nothing)

    assert exitrecord.verdict_of(record)[0] == exitrecord.OUTPUT_LIMIT
