"""A cgroup tree of plain files in tmp_path, which behaves as the kernel's in what matters here."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import cgroups
from cgroups.errors import FileError

NO_LIMIT = str((1 << 63) - 4096)
V1_FILES: dict[str, dict[str, str]] = {
    "cpu": {
        "cpu.shares": "1024",
        "cpu.cfs_quota_us": "-1",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "0",
        "cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0",
    },
    "cpuacct": {"cpuacct.usage": "0", "cpuacct.usage_user": "0", "cpuacct.usage_sys": "0"},
    "cpuset": {"cpuset.cpus": "", "cpuset.mems": ""},
    "memory": {
        "memory.limit_in_bytes": NO_LIMIT,
        "memory.memsw.limit_in_bytes": NO_LIMIT,
        "memory.soft_limit_in_bytes": NO_LIMIT,
        "memory.swappiness": "60",
        "memory.usage_in_bytes": "0",
        "memory.max_usage_in_bytes": "0",
        "memory.failcnt": "0",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
        "memory.stat": "total_cache 0\ntotal_swap 0\ntotal_inactive_file 0",
    },
    "devices": {"devices.allow": "", "devices.deny": "", "devices.list": "a *:* rwm"},
    "freezer": {"freezer.state": "THAWED"},
    "blkio": {
        "blkio.bfq.weight": "100",
        "blkio.bfq.weight_device": "",
        "blkio.throttle.read_bps_device": "",
        "blkio.throttle.write_bps_device": "",
        "blkio.throttle.read_iops_device": "",
        "blkio.throttle.write_iops_device": "",
        "blkio.throttle.io_service_bytes_recursive": "Total 0",
        "blkio.throttle.io_serviced_recursive": "Total 0",
    },
    "pids": {"pids.max": "max", "pids.current": "0", "pids.events": "max 0"},
    "hugetlb": {"hugetlb.2MB.limit_in_bytes": NO_LIMIT, "hugetlb.2MB.usage_in_bytes": "0"},
    "name=systemd": {},
}
V2_FILES: dict[str, dict[str, str]] = {
    "": {
        "cgroup.events": "populated 0\nfrozen 0",
        "cgroup.freeze": "0",
        "cgroup.kill": "",
        "cgroup.subtree_control": "",
        "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0",
        "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0",
    },
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000", "cpu.max.burst": "0"},
    "cpuset": {"cpuset.cpus": "", "cpuset.mems": ""},
    "memory": {
        "memory.max": "max",
        "memory.high": "max",
        "memory.low": "0",
        "memory.min": "0",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.current": "0",
        "memory.stat": "file 0\ninactive_file 0",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0",
    },
    "pids": {"pids.max": "max", "pids.current": "0"},
    "io": {"io.weight": "default 100", "io.max": "", "io.stat": ""},
    "hugetlb": {
        "hugetlb.2MB.max": "max",
        "hugetlb.2MB.current": "0",
        "hugetlb.2MB.rsvd.max": "max",
    },
}


class FakeKernel:
    """The tree, the tables in /proc, and a record of every write.

    ``writes`` are (path below the root, value); ``refuse`` maps a path below the
    root, or one file's name, to the errno that touching it gives.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.proc = root / "proc"
        self.writes: list[tuple[str, str]] = []
        self.refuse: dict[str, int] = {}
        self._hierarchies: dict[
            str, tuple[str, ...]
        ] = {}  # mount name -> v1 controllers, () for v2
        self._own: list[str] = []
        self._mounts: list[str] = []
        (self.proc / "self").mkdir(parents=True)

    def mount_v1(self, *controllers: str, own: str = "/", name: str = "") -> None:
        name = name or controllers[0].removeprefix("name=")
        self._hierarchies[name] = controllers
        self._own.append(f"{len(self._own) + 1}:{','.join(controllers)}:{own}")
        options = f"rw,xattr,{','.join(controllers)}"
        self._mounted(name, "cgroup", options)
        if "cpuset" in controllers:
            (self.root / name / "cpuset.cpus").write_text("0-3\n")
            (self.root / name / "cpuset.mems").write_text("0\n")

    def mount_v2(self, *controllers: str, own: str = "/", name: str = "unified") -> None:
        self._hierarchies[name] = ()
        self._own.append(f"0::{own}")
        self._mounted(name, "cgroup2", "rw")
        (self.root / name / "cgroup.controllers").write_text(" ".join(controllers) + "\n")

    def _mounted(self, name: str, kind: str, options: str) -> None:
        path = self.root / name if name else self.root
        path.mkdir(parents=True, exist_ok=True)
        self._fill(path)
        self._mounts.append(f"3{len(self._mounts)} 23 0:28 / {path} rw - {kind} {kind} {options}")
        (self.proc / "self/mountinfo").write_text(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n" + "\n".join(self._mounts) + "\n"
        )
        (self.proc / "self/cgroup").write_text("\n".join(self._own) + "\n")

    def detect(self) -> cgroups.Layout:
        return cgroups.detect(cgroup_root=str(self.root), proc=str(self.proc))

    def read(self, path: str) -> str:
        return (self.root / path).read_text().strip()

    def written(self, name: str) -> list[tuple[str, str]]:
        """What was written below one group, as (file, value)."""
        return [
            (path.rpartition("/")[2], value)
            for path, value in self.writes
            if f"/{name}/" in f"/{path.rpartition('/')[0]}/"
        ]

    def groups(self) -> list[str]:
        """Every directory that is not a mount point."""
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_dir() and str(path.relative_to(self.root)) not in self._hierarchies
        )

    # What stands in for cgroups.files

    def make_directory(self, path: str) -> None:
        self._check(path)
        os.mkdir(path)
        self._fill(Path(path))

    def remove_directory(self, path: str) -> None:
        self._check(path)
        here = Path(path)
        busy = any(child.is_dir() for child in here.iterdir())
        if busy or (here / "cgroup.procs").read_text().strip():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        shutil.rmtree(here)

    def write(self, path: str, *values: str) -> None:
        for value in values:
            try:
                self._check(path)
                if not Path(path).exists():
                    raise OSError(errno.ENOENT, "")
                self._accept(Path(path), value)
            except OSError as error:
                raise FileError(path, value, error.errno or 0) from error
            self.writes.append((os.path.relpath(path, self.root), value))

    def _check(self, path: str) -> None:
        below = os.path.relpath(path, self.root)
        code = self.refuse.get(below) or self.refuse.get(os.path.basename(path))
        if code:
            raise OSError(code, os.strerror(code), path)

    def _accept(self, path: Path, value: str) -> None:
        group, name = path.parent, path.name
        if name == "memory.limit_in_bytes":
            self._insist(_size(value) <= _size((group / "memory.memsw.limit_in_bytes").read_text()))
        if name == "memory.memsw.limit_in_bytes":
            self._insist(_size(value) >= _size((group / "memory.limit_in_bytes").read_text()))
        if name == "cgroup.subtree_control":
            asked = {word.lstrip("+") for word in value.split()}
            self._insist(asked <= set((group / "cgroup.controllers").read_text().split()))
            value = " ".join(sorted(asked | set(path.read_text().split())))
            path.write_text(value)
            for child in group.iterdir():
                if child.is_dir():
                    self._fill(child)
            return
        if name == "cgroup.kill":
            self._set_procs(group, "")
            return
        if name == "cgroup.procs":
            self._set_procs(group, (path.read_text() + value + "\n"))
            return
        if name == "cgroup.freeze":
            self._set_event(group, "frozen", value)
        path.write_text(value + "\n")

    def _insist(self, claim: bool) -> None:
        if not claim:
            raise OSError(errno.EINVAL, "")

    def _set_procs(self, group: Path, text: str) -> None:
        (group / "cgroup.procs").write_text(text)
        self._set_event(group, "populated", "1" if text.strip() else "0")

    def _set_event(self, group: Path, key: str, value: str) -> None:
        events = group / "cgroup.events"
        if events.exists():
            lines = dict(line.split() for line in events.read_text().splitlines())
            events.write_text("".join(f"{k} {v}\n" for k, v in (lines | {key: value}).items()))

    def _fill(self, path: Path) -> None:
        """The files that a group has, those that are there already left alone."""
        below = path.relative_to(self.root)
        top = below.parts[0] if below.parts else ""
        mount = top if top in self._hierarchies else ""
        controllers = self._hierarchies[mount]
        made = {"cgroup.procs": "", "tasks": ""}
        if controllers:
            made["cgroup.clone_children"] = "0"
            for controller in controllers:
                made |= V1_FILES[controller]
            clone = path.parent / "cgroup.clone_children"
            if "cpuset" in controllers and clone.exists() and clone.read_text().strip() == "1":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    made[name] = (path.parent / name).read_text().strip()
        else:
            control = path.parent / "cgroup.subtree_control"
            granted = control.read_text().split() if control.exists() else []
            made |= V2_FILES[""]
            if path != self.root / mount:
                made["cgroup.type"] = "domain"
                (path / "cgroup.controllers").write_text(" ".join(granted) + "\n")
            for controller in granted:
                made |= V2_FILES[controller]
        for name, value in made.items():
            if not (path / name).exists():
                (path / name).write_text(value + "\n" if value else "")


def _size(text: str) -> int:
    value = int(text)
    return 1 << 63 if value < 0 else value
