"""The example of the library's README runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requires

import netns
from netns import Namespace, Netlink

README = Path(netns.__file__).with_name("README.md")


@requires.root
@requires.program("nft")
def test_the_example_runs_and_takes_back_what_it_made(
    host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)

    with host.entered():
        exec(compile(example, str(README), "exec"), {})

    assert "10.77.0.2/24" in capfd.readouterr().out
    with Netlink.open(host) as netlink:
        assert {link.name for link in netlink.links()} <= {"lo", "ve-job-17"}
    assert netns.nftables.base_chains(namespace=host) == ()
    assert netns.ipam.leased(netns.FileLeases("leases")) == ()
