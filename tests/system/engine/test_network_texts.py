"""What docker prints about networks, word for word; the engine has a host of the test's own."""

from __future__ import annotations

import re

import requires
from kit.enginehosts import Wired

from netns import Netlink

pytestmark = [requires.root, requires.overlay, requires.program("nft")]

ID = "<id>"
# Arguments, exit code, stdout, stderr; in this order.
SAID: list[tuple[list[str], int, str, str]] = [
    (["network", "create", "--subnet", "10.98.0.0/24", "net1"], 0, f"{ID}\n", ""),
    (["network", "create", "net1"], 1, "", "network with name net1 already exists\n"),
    (["network", "create", "--subnet", "10.98.0.0/24", "net2"], 1, "",
     "Pool overlaps with other one on this address space\n"),
    (["network", "create", "--subnet", "bogus", "net3"], 1, "",
     "Invalid subnet bogus : invalid CIDR address: bogus\n"),
    (["network", "create", "-d", "nosuch", "net4"], 1, "", 'plugin "nosuch" not found\n'),
    (["network", "create", "bridge"], 1, "",
     "operation is not permitted on predefined bridge network\n"),
    (["network", "rm", "bridge"], 1, "",
     "bridge is a pre-defined network and cannot be removed\n"),
    (["network", "rm", "nosuch"], 1, "", "network nosuch not found\n"),
    (["network", "inspect", "nosuch"], 1, "[]\n", "network nosuch not found\n"),
    (["run", "-d", "--name", "a1", "--network", "bridge", "busybox", "sleep", "600"], 0,
     f"{ID}\n", ""),
    (["create", "--name", "a4", "--network", "bridge", "busybox", "true"], 0, f"{ID}\n", ""),
    (["network", "connect", "net1", "a1"], 0, "", ""),
    (["network", "connect", "net1", "a1"], 1, "",
     "endpoint with name a1 already exists in network net1\n"),
    (["network", "rm", "net1"], 1, "",
     f"error while removing network: network net1 id {ID} has active endpoints\n"),
    (["network", "connect", "nosuch", "a1"], 1, "", "network nosuch not found\n"),
    (["network", "disconnect", "nosuch", "a1"], 1, "", "network nosuch not found\n"),
    (["network", "disconnect", "net1", "a4"], 1, "",
     f"container {ID} is not connected to network net1\n"),
    (["network", "connect", "host", "a1"], 1, "",
     "container cannot be disconnected from host network or connected to host network\n"),
    (["ps", "-a", "--filter", "network=bridge", "--format", "{{.Names}} {{.Networks}}"], 0,
     "a4 bridge\na1 bridge,net1\n", ""),
    (["network", "disconnect", "net1", "a1"], 0, "", ""),
    (["network", "rm", "net1"], 0, "net1\n", ""),
    (["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"], 0,
     "bridge bridge local\nhost host local\nnone null local\n", ""),
    (["network", "create", "--label", "a=b", "unused"], 0, f"{ID}\n", ""),
    (["network", "prune", "-f"], 0, "Deleted Networks:\nunused\n\n", ""),
    (["network", "prune", "-f"], 0, "", ""),
    (["inspect", "--type", "network", "-f", "{{.Name}} {{.Internal}}", "none"], 0,
     "none false\n", ""),
]  # fmt: skip


def test_texts_about_networks_are_dockers(wired: Wired) -> None:
    wrong = []
    for arguments, code, stdout, stderr in SAID:
        done = wired.run(*arguments)
        lines = [x for x in done.stderr.decode().splitlines(True) if not x.startswith("hint: ")]
        found = (done.returncode, said(done.stdout.decode()), said("".join(lines)))
        if found != (code, stdout, stderr):
            wrong.append(f"{' '.join(arguments)}:\n{found}\n{(code, stdout, stderr)}")

    assert not wrong, "\n\n".join(wrong)


def test_events_tell_of_networks_and_who_is_on_them(wired: Wired) -> None:
    wired.said("network", "create", "one")
    wired.said("run", "--rm", "--network", "one", "busybox", "true")
    wired.said("network", "rm", "one")

    shown = wired.said(
        *("events", "--since", "1h", "--until", "0s", "--filter", "type=network"),
        *("--format", "{{.Action}} {{.Actor.Attributes.name}}"),
    )

    expected = ["create one", "connect one", "disconnect one", "destroy one"]
    assert [line for line in shown.splitlines() if line.endswith(" one")] == expected


def said(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{64}\b", ID, text)


def test_nothing_is_made_of_networks_by_who_only_looks_or_removes(wired: Wired) -> None:
    wired.said("system", "prune", "-f")
    wired.said("__complete", "network", "inspect", "")
    wired.refused("inspect", "nosuch")
    wired.said("run", "--rm", "--network", "none", "busybox", "true")

    with Netlink.open(wired.host) as netlink:
        assert [link.name for link in netlink.links()] == ["lo"]
