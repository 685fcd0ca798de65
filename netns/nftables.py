"""The door to nftables: rulesets as data, applied in one transaction.

A `Table` says what a table is to hold, and a list of `Change` what is to be different; `text`
turns them into nft's language, and `apply` hands that to ``nft -f -``, which makes one netlink
batch of it: all of it holds afterwards, or nothing does.

Through the program nft and not pyroute2, whose nftables module knows neither maps of
concatenated keys nor dnat by map, and has no parser to read back what is there.  The program
comes with the kernel's own documentation, works in whichever namespace it is started in, and an
error of it names the word it did not take.  It costs some 3 ms.
"""

from __future__ import annotations

from netns import settings
from netns.errors import RulesRefused, RulesUnavailable
from netns.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal, TypeAlias

    from netns.namespace import Namespace

    Family: TypeAlias = Literal["inet", "ip", "ip6", "bridge"]

NFT = "nft"
EXISTS = "File exists"
ABSENT = "No such file or directory"


class Chain(Record):
    """A chain and its rules; with a hook it is a base chain, which the kernel calls."""

    name: str
    rules: tuple[str, ...]
    hook: str = ""  # prerouting, input, forward, output, postrouting
    type: str = "filter"  # or nat, route
    priority: int = 0


class Set(Record):
    """A set, or with ``value`` a map: typed keys, looked up by rules."""

    name: str
    key: str  # nft's type: ifname, ipv4_addr . inet_service
    value: str = ""
    has_ranges: bool = False  # a key may be a whole network


class Table(Record):
    """What a table is to hold, without the elements of its sets."""

    name: str
    family: Family = "inet"
    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()


class Element(Record):
    """One key of a set, or one key and its value of a map; the comment tells whose it is."""

    key: tuple[str | int, ...]
    value: tuple[str | int, ...] = ()
    comment: str = ""


class Declare(Record):
    """Make the table as it is described, or make it so again; elements of sets stay."""

    table: Table


class Put(Record):
    """Put elements into a set; ``new`` makes one that is there already an error."""

    table: Table
    set: str
    elements: tuple[Element, ...]
    new: bool = False


class Take(Record):
    """Take elements out of a set.

    One that is not there is nothing to do; one whose value is another's is an error.
    """

    table: Table
    set: str
    elements: tuple[Element, ...]


class Drop(Record):
    """Remove the table with all that is in it; one that is not there is nothing to do."""

    table: Table


if TYPE_CHECKING:
    Change: TypeAlias = Declare | Put | Take | Drop


def text(changes: Iterable[Change]) -> str:
    """The changes in nft's language, one command a line."""
    return "".join(f"{line}\n" for change in changes for line in _lines(change))


def apply(changes: Iterable[Change], *, namespace: Namespace | None = None) -> None:
    """Carry out all the changes in one transaction, or none of them: `RulesRefused`."""
    asked = text(changes)
    if asked:
        _run(("-f", "-"), asked, namespace)


def elements(
    table: Table, *names: str, namespace: Namespace | None = None
) -> dict[str, tuple[Element, ...]]:
    """The elements of these sets as the kernel has them; a set that is gone is left out.

    The whole table is read at once: nft reads all of it for one set, too.
    """
    try:
        found = _listed(("list", "table", table.family, table.name), namespace)
    except RulesRefused as error:
        if ABSENT in error.reason:
            return {}
        raise
    sets = (entry.get("set") or entry.get("map") or {} for entry in found)
    return {
        one["name"]: tuple(_element(item) for item in one.get("elem", ()))
        for one in sets
        if one.get("name") in names
    }


def exists(table: Table, *, namespace: Namespace | None = None) -> bool:
    """Whether there is a table of that family and name."""
    found = _listed(("list", "tables", table.family), namespace)
    return any(entry.get("table", {}).get("name") == table.name for entry in found)


def base_chains(*, namespace: Namespace | None = None) -> tuple[tuple[str, str, Chain, str], ...]:
    """Every base chain of every table: family, table, chain without its rules, policy."""
    found = []
    for entry in _listed(("list", "chains"), namespace):
        chain = entry.get("chain")
        if chain and "hook" in chain:
            read = Chain(
                name=chain["name"],
                rules=(),
                hook=chain["hook"],
                type=chain.get("type", "filter"),
                priority=int(chain.get("prio", 0)),
            )
            found.append((chain["family"], chain["table"], read, chain.get("policy", "accept")))
    return tuple(found)


def commented_rules(
    family: str, table: str, chain: str, *, namespace: Namespace | None = None
) -> tuple[tuple[int, str], ...]:
    """Handle and comment of each rule of a chain that has a comment."""
    rules = (
        entry["rule"]
        for entry in _listed(("-a", "list", "chain", family, table, chain), namespace)
        if "rule" in entry
    )
    return tuple((int(rule["handle"]), rule["comment"]) for rule in rules if "comment" in rule)


def is_available(*, namespace: Namespace | None = None) -> bool:
    """Whether this host has the program and its kernel the rules."""
    import os

    from netns import nfnetlink

    folders = _path().split(":")
    if not any(os.access(f"{folder}/{NFT}", os.X_OK) for folder in folders if folder):
        return False
    with settings.entered(namespace):
        return nfnetlink.has_nftables()


def _path() -> str:
    import os

    return f"{os.environ.get('PATH', '') or os.defpath}:/usr/sbin:/sbin"


def run_text(commands: str, *, namespace: Namespace | None = None) -> None:
    """One transaction in nft's own words, for what `Change` has no word for."""
    _run(("-f", "-"), commands, namespace)


def _lines(change: Change) -> list[str]:
    table = f"{change.table.family} {change.table.name}"
    if isinstance(change, Declare):
        return _declaration(change.table, table)
    if isinstance(change, Drop):
        # "delete" of what is not there would fail the whole transaction.
        return [f"add table {table}", f"delete table {table}"]
    if not change.elements:
        return []
    if isinstance(change, Put):
        verb = "create" if change.new else "add"
        listed = ", ".join(_pair(element) for element in change.elements)
        return [f"{verb} element {table} {change.set} {{ {listed} }}"]
    added = ", ".join(_pair(element) for element in change.elements)
    taken = ", ".join(_dotted(element.key) for element in change.elements)
    return [
        f"add element {table} {change.set} {{ {added} }}",
        f"delete element {table} {change.set} {{ {taken} }}",
    ]


def _declaration(table: Table, name: str) -> list[str]:
    lines = [f"add table {name}"]
    for one in table.sets:
        kind = "map" if one.value else "set"
        type_ = f"{one.key} : {one.value}" if one.value else one.key
        flags = " flags interval;" if one.has_ranges else ""
        lines.append(f"add {kind} {name} {one.name} {{ type {type_};{flags} }}")
    # All chains before any rule, for a rule may jump to a later one.
    for chain in table.chains:
        hook = ""
        if chain.hook:
            hook = (
                f" {{ type {chain.type} hook {chain.hook} priority {chain.priority};"
                " policy accept; }"
            )
        lines += [f"add chain {name} {chain.name}{hook}", f"flush chain {name} {chain.name}"]
    for chain in table.chains:
        lines += [f"add rule {name} {chain.name} {rule}" for rule in chain.rules]
    return lines


def _pair(element: Element) -> str:
    comment = f' comment "{element.comment}"' if element.comment else ""
    value = f" : {_dotted(element.value)}" if element.value else ""
    return f"{_dotted(element.key)}{comment}{value}"


def _dotted(parts: tuple[str | int, ...]) -> str:
    return " . ".join(str(part) for part in parts)


def _element(item: Any) -> Element:
    value: tuple[str | int, ...] = ()
    if isinstance(item, list):
        item, value = item[0], _parts(item[1])
    comment = ""
    if isinstance(item, dict) and "elem" in item:
        comment, item = item["elem"].get("comment", ""), item["elem"]["val"]
    return Element(key=_parts(item), value=value, comment=comment)


def _parts(value: Any) -> tuple[str | int, ...]:
    parts = value["concat"] if isinstance(value, dict) else [value]
    return tuple(part if isinstance(part, int) else str(part) for part in parts)


def _listed(arguments: tuple[str, ...], namespace: Namespace | None) -> list[dict[str, Any]]:
    import json  # with re, some 10 ms

    answer = json.loads(_run(("-j", *arguments), "", namespace))
    listed: list[dict[str, Any]] = answer["nftables"]
    return listed


def _run(arguments: tuple[str, ...], stdin: str, namespace: Namespace | None) -> str:
    import subprocess

    argv = (NFT, *arguments)
    environ = {"PATH": _path(), "LC_ALL": "C"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, input=stdin, capture_output=True, text=True, env=environ, check=False
        )

    try:
        if namespace is None:
            done = run()
        else:
            with namespace.entered():
                done = run()
    except FileNotFoundError as error:
        raise RulesUnavailable(
            "there is no program nft", hint="install the package nftables"
        ) from error
    if done.returncode != 0:
        raise RulesRefused(_reason(done.stderr), text=stdin or " ".join(argv))
    return done.stdout


def _reason(stderr: str) -> str:
    # Each error is followed by the line it is about and a line of carets.
    errors = [line.partition("Error: ")[2] for line in stderr.splitlines() if "Error: " in line]
    return "; ".join(errors) or stderr.strip() or "it failed without a word"
