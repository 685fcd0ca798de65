"""`sandbox.run` and `Engine`, on a real image and the real kernel."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def test_a_run_returns_everything_about_it(busybox: Store) -> None:
    result = sandbox.run(
        "busybox",
        ["sh", "-c", "cat; echo err >&2; exit 3"],
        stdin=b"hello",
        memory="64m",
        cpus=0.5,
        pids=64,
        timeout=30,
    )

    assert (result.stdout, result.stderr) == (b"hello", b"err\n")
    assert (result.exit_code, result.signal, result.verdict) == (3, None, "nonzero")
    assert result.receipt.stdout_bytes == 5
    assert result.receipt.peak_memory_bytes
    assert result.receipt.layer_bytes == 0
    enforced = {each.limit: each.by for each in result.enforcement}
    assert enforced["timeout"] == "monitor"
    assert enforced["memory"] in ("cgroup1", "cgroup2")
    assert enforced["pids"] in ("cgroup1", "cgroup2")


def test_nothing_of_a_run_stays(busybox: Store) -> None:
    sandbox.run("busybox", ["touch", "/x"])

    assert os.listdir(busybox.root / "containers") == []
    assert os.listdir(busybox.root / "names") == []
    assert os.listdir(busybox.root / "staging") == []
    assert os.listdir(busybox.run / "containers") == []


def test_bytes_in_and_out_are_the_same(busybox: Store) -> None:
    data = os.urandom(3 << 20)

    assert sandbox.run("busybox", ["cat"], stdin=data).stdout == data


def test_a_command_that_reads_nothing_may_ignore_its_input(busybox: Store) -> None:
    result = sandbox.run("busybox", ["true"], stdin=b"x" * (1 << 20))

    assert result.ok


def test_both_streams_can_be_flooded_at_once(busybox: Store) -> None:
    command = "yes out | head -c 3000000 & yes err | head -c 3000000 >&2; wait"

    result = sandbox.run("busybox", ["sh", "-c", command])

    assert (len(result.stdout), len(result.stderr)) == (3000000, 3000000)
    assert set(result.stdout.split()) | set(result.stderr.split()) >= {b"out", b"err"}


def test_check_raises_with_the_result(busybox: Store) -> None:
    with pytest.raises(sandbox.RunFailed) as raised:
        sandbox.run("busybox", ["sh", "-c", "echo partly; exit 9"], check=True)

    assert raised.value.result.exit_code == 9
    assert raised.value.result.stdout == b"partly\n"


@pytest.mark.parametrize(
    ("command", "reason", "sentence"),
    [
        (["nosuch"], "not_found", 'exec: "nosuch": executable file not found in $PATH'),
        (["/nosuch"], "not_found", 'exec: "/nosuch": stat /nosuch: no such file'),
        (["/etc/passwd"], "not_executable", 'exec: "/etc/passwd": permission denied'),
        (["/etc"], "not_executable", 'exec: "/etc": permission denied'),
    ],
)
def test_what_cannot_be_executed_is_no_run(
    busybox: Store, command: list[str], reason: str, sentence: str
) -> None:
    with pytest.raises(sandbox.ExecFailed) as raised:
        sandbox.run("busybox", command)

    assert raised.value.reason == reason
    assert sentence in str(raised.value)
    assert os.listdir(busybox.root / "containers") == []


def test_an_unknown_user_is_dockers_sentence(busybox: Store) -> None:
    with pytest.raises(sandbox.UsageError, match="unable to find user nosuch: no matching entries"):
        sandbox.run("busybox", ["true"], user="nosuch")


def test_a_workdir_that_is_a_file_is_dockers_sentence(busybox: Store) -> None:
    with pytest.raises(sandbox.LaunchFailed, match="Cannot mkdir: /etc/passwd is not a directory"):
        sandbox.run("busybox", ["true"], workdir="/etc/passwd")


def test_the_environment_is_built_from_empty(
    busybox: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")

    out = sandbox.run("busybox", ["env"], env={"A": "b c"}, hostname="box").text

    assert sorted(line for line in out.splitlines() if not line.startswith("SHLVL")) == [
        "A=b c",
        "HOME=/root",
        "HOSTNAME=box",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_user_workdir_and_hostname_are_as_asked(busybox: Store) -> None:
    out = sandbox.run(
        "busybox",
        ["sh", "-c", "id -u; id -g; pwd; hostname"],
        user="nobody",
        workdir="/made/here",
        hostname="box",
    ).text

    assert out.split() == ["65534", "65534", "/made/here", "box"]


def test_every_namespace_is_new(busybox: Store) -> None:
    script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done"

    inside = sandbox.run("busybox", ["sh", "-c", script]).text.split()

    ours = [
        os.readlink(f"/proc/self/ns/{n}") for n in ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    ]
    assert len(inside) == 6
    assert not set(inside) & set(ours)


def test_a_user_namespace_maps_root_to_nobody_here(busybox: Store, tmp_path: Path) -> None:
    result = sandbox.run(
        "busybox",
        ["sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u /bin/busybox; echo x >/new; sync"],
        userns="auto",
    )

    assert result.text.split() == ["0", "0", "100000", "65536", "0"]


def test_the_root_can_be_read_only(busybox: Store) -> None:
    script = "touch /x 2>/dev/null && echo writable; touch /t/x && echo tmpfs; touch /dev/x || true"

    result = sandbox.run("busybox", ["sh", "-c", script], read_only=True, tmpfs=["/t"])

    assert result.text.split() == ["tmpfs"]


def test_binds_are_read_write_or_read_only(busybox: Store, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()

    sandbox.run("busybox", ["sh", "-c", "echo hi >/d/file"], volumes=[f"{shared}:/d"], check=True)
    refused = sandbox.run("busybox", ["touch", "/d/other"], volumes=[f"{shared}:/d:ro"])

    assert (shared / "file").read_text() == "hi\n"
    assert refused.exit_code == 1
    assert b"Read-only file system" in refused.stderr
    assert os.listdir(shared) == ["file"]


def test_a_missing_source_of_a_mount_is_refused(busybox: Store) -> None:
    with pytest.raises(sandbox.UsageError, match="bind source path does not exist: /nosuchdir"):
        sandbox.run("busybox", ["true"], mount="type=bind,src=/nosuchdir,dst=/x")


def test_a_plain_folder_is_a_root_and_stays_as_it_is(busybox: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes((busybox_binary()).read_bytes())
    (root / "bin" / "sh").chmod(0o755)

    result = sandbox.run(str(root), ["sh", "-c", "echo >/made; echo /*"], rootfs=True)

    assert b"/made" in result.stdout
    assert sorted(os.listdir(root)) == ["bin"]


def test_this_machine_is_an_image_called_host(busybox: Store) -> None:
    result = sandbox.run("host", ["sh", "-c", "test -x /usr/bin/env && echo >/usr/made && echo ok"])

    assert result.text == "ok\n"
    assert not os.path.exists("/usr/made")


def test_the_host_image_does_not_show_the_store(busybox: Store) -> None:
    result = sandbox.run("host", ["sh", "-c", f"ls -A {busybox.root} 2>&1 | head -c 100"])

    assert b"layers" not in result.stdout


def test_the_network_is_lo_alone_or_the_hosts(busybox: Store) -> None:
    names = ["sh", "-c", "ls /sys/class/net"]

    assert sandbox.run("busybox", names).text.split() == ["lo"]
    assert sandbox.run("busybox", names, network="host").text.split() == sorted(
        os.listdir("/sys/class/net")
    )
    with pytest.raises(sandbox.NetworkNotFound):
        sandbox.run("busybox", ["true"], network="nosuch")


def test_capabilities_are_dockers_fourteen(busybox: Store) -> None:
    def effective(**options: object) -> int:
        out = sandbox.run("busybox", ["grep", "CapEff", "/proc/self/status"], **options).text  # type: ignore[arg-type]  # any option
        return int(out.split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective(cap_drop="ALL") == 0
    assert effective(cap_drop="ALL", cap_add="NET_ADMIN") == 1 << 12
    assert effective(user="nobody") == 0


def test_the_default_filter_refuses_what_docker_refuses(busybox: Store) -> None:
    denied = sandbox.run("busybox", ["unshare", "-m", "true"])
    allowed = sandbox.run(
        "busybox", ["unshare", "-m", "true"], cap_add="SYS_ADMIN", security_opt="seccomp=unconfined"
    )

    assert denied.exit_code == 1
    assert b"Operation not permitted" in denied.stderr
    assert allowed.ok


def test_masked_and_read_only_paths(busybox: Store) -> None:
    script = (
        "wc -c </proc/interrupts; ls /sys/firmware | wc -l; "
        "echo 1 >/proc/sys/kernel/panic || echo ro; ls /proc/acpi 2>/dev/null | wc -l"
    )

    result = sandbox.run("busybox", ["sh", "-c", script])

    assert result.text.split() == ["0", "0", "ro", "0"]


def test_signals_mask_umask_and_descriptors_are_fresh(busybox: Store) -> None:
    previous = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    old_mask = os.umask(0)
    try:
        out = sandbox.run(
            "busybox",
            ["sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status; umask; ls /proc/self/fd"],
        ).text
    finally:
        signal.signal(signal.SIGPIPE, previous)
        os.umask(old_mask)

    words = out.split()
    assert words[1] == "0000000000000000"
    assert words[3] == "0000000000000000"
    assert words[4] == "0022"
    # ls itself holds the folder open.
    assert words[5:] == ["0", "1", "2", "3"]


def test_ulimits_sysctls_and_devices_are_as_asked(busybox: Store) -> None:
    out = sandbox.run(
        "busybox",
        ["sh", "-c", "ulimit -n; cat /proc/sys/net/ipv4/ip_forward; ls -l /dev/fuse | cut -c1"],
        ulimit="nofile=64:64",
        sysctl={"net.ipv4.ip_forward": "1"},
        device="/dev/fuse",
    ).text

    assert out.split() == ["64", "1", "c"]


def test_a_device_that_was_not_given_cannot_be_opened(busybox: Store) -> None:
    result = sandbox.run("busybox", ["sh", "-c", "mknod /tmp/m c 1 1 && head -c 1 /tmp/m"])

    assert result.exit_code == 1
    assert b"Operation not permitted" in result.stderr


def test_init_reaps_and_passes_the_end_on(busybox: Store) -> None:
    result = sandbox.run("busybox", ["sh", "-c", "echo $$; kill -9 $$"], init=True)

    assert result.text.strip() != "1"
    assert result.exit_code == 137


def test_partial_output_is_kept_at_the_limit(busybox: Store) -> None:
    result = sandbox.run("busybox", ["yes"], output_limit="10k")

    assert (result.verdict, len(result.stdout)) == ("output_limit", 10240)


def test_partial_output_is_kept_at_a_timeout(busybox: Store) -> None:
    result = sandbox.run("busybox", ["sh", "-c", "echo partly; sleep 60"], timeout=0.3)

    assert (result.verdict, result.stdout) == ("wall_timeout", b"partly\n")


def test_an_image_that_is_not_there(store: Store) -> None:
    with pytest.raises(sandbox.ImageNotFound, match="No such image: nosuch:latest"):
        sandbox.run("nosuch", ["true"])


def test_a_bad_reference_is_dockers_sentence(store: Store) -> None:
    with pytest.raises(
        sandbox.InvalidReference,
        match="invalid reference format: repository name must be lowercase",
    ):
        sandbox.run("UPPER/case", ["true"])


def test_an_engine_of_another_store_sees_nothing(busybox: Store, tmp_path: Path) -> None:
    other = sandbox.Engine(root=str(tmp_path / "other"), run=str(tmp_path / "other-run"))

    with pytest.raises(sandbox.ImageNotFound):
        other.run("busybox", ["true"])


def busybox_binary() -> Path:
    from pathlib import Path

    return Path("/bin/busybox")


@pytest.mark.parametrize("options", [{"tmpfs": "/proc"}, {"volumes": "/tmp:/proc/."}])
def test_nothing_is_mounted_in_the_place_of_proc(busybox: Store, options: dict[str, str]) -> None:
    with pytest.raises(sandbox.UsageError, match='"/proc" cannot be mounted'):
        sandbox.run("busybox", ["true"], **options)  # type: ignore[arg-type]  # either option
