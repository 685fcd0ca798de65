"""What unpacking a layer has to give, said a second time and as simply as can be.

A tree of nodes in memory; one method a kind of entry.  It knows nothing of handles,
caches or system calls, so that it cannot be wrong in the same way as the unpacker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .trees import Entry

FILE, HARD_LINK, SYMLINK, CHARACTER, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"5", b"6"
OPAQUE = ("trusted.overlay.opaque", b"y")
MAX_LINKS = 40


class Refused(Exception):
    """The archive is not to be unpacked."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: bytes
    kind: bytes = FILE
    link: bytes = b""
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0


@dataclass(eq=False)
class Node:
    kind: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int | None = None
    content: bytes = b""
    children: dict[bytes, Node] = field(default_factory=dict)
    is_opaque: bool = False
    is_whiteout: bool = False


def clean(name: bytes) -> list[bytes]:
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise Refused("leaves the root")
            parts.pop()
        elif part not in (b"", b"."):
            if len(part) > 255:
                raise Refused("long component")
            parts.append(part)
    if not name or b"\0" in name or len(b"/".join(parts)) > 4095:
        raise Refused("name")
    return parts


class Model:
    """A tree and the layers that are unpacked into it."""

    def __init__(self, *, is_applied: bool = False) -> None:
        self.root = Node(DIRECTORY)
        self.is_applied = is_applied
        self.made: set[tuple[Node, bytes]] = set()
        self.holders: set[Node] = set()

    def unpack(self, members: list[Member]) -> None:
        self.made, self.holders = set(), set()
        _forget_times(self.root)
        for member in members:
            self.add(member)

    def add(self, member: Member) -> None:
        parts = clean(member.name)
        if not parts:
            if member.kind != DIRECTORY:
                raise Refused("root")
            self.describe(self.root, member)
            return
        for number, part in enumerate(parts):
            if not part.startswith(b".wh."):
                continue
            is_last = number == len(parts) - 1
            if is_last and part == b".wh..wh..opq":
                break
            if part.startswith(b".wh..wh."):
                return
            if not is_last:
                raise Refused("below a whiteout")
        stack = self.find(parts[:-1], member)
        parent, name = stack[-1], parts[-1]
        self.holders |= set(stack[1:])
        if name == b".wh..wh..opq":
            self.make_opaque(parent)
        elif name.startswith(b".wh."):
            self.hide(parent, name[4:])
        else:
            self.make(parent, name, member)
            self.made.add((parent, name))

    def find(self, parts: list[bytes], member: Member | None) -> list[Node]:
        """The nodes from the root to this directory; with a member, missing ones are made."""
        stack, rest, links = [self.root], list(parts), 0
        while rest:
            part = rest.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(stack) > 1:
                    stack.pop()
                continue
            if len(part) > 255:
                raise Refused("long component")
            here = stack[-1]
            node = here.children.get(part)
            if node is not None and node.kind == SYMLINK:
                links += 1
                if links > MAX_LINKS:
                    raise Refused("links")
                if node.content.startswith(b"/"):
                    stack = [self.root]
                rest = node.content.split(b"/") + rest
                continue
            if member is not None and (node is None or (node.is_whiteout and not self.is_applied)):
                hides = node is not None
                node = Node(DIRECTORY, mtime=member.mtime, is_opaque=hides)
                here.children[part] = node
                self.made.add((here, part))
            if node is None or node.kind != DIRECTORY:
                raise Refused("parent")
            stack.append(node)
        return stack

    def describe(self, node: Node, member: Member) -> None:
        node.mode, node.uid, node.gid = member.mode, member.uid, member.gid
        node.mtime = member.mtime

    def make(self, parent: Node, name: bytes, member: Member) -> None:
        there = parent.children.get(name)
        if member.kind == HARD_LINK:
            parent.children[name] = self.linked(there, member)
            return
        if member.kind == DIRECTORY and there is not None and there.kind == DIRECTORY:
            self.describe(there, member)
            return
        if member.kind == SYMLINK and not member.link:
            raise Refused("link without a target")
        node = Node(member.kind, content=member.content)
        self.describe(node, member)
        if member.kind == SYMLINK:
            node.content, node.mode = member.link, 0o777
        if member.kind == DIRECTORY and there is not None and there.is_whiteout:
            node.is_opaque = not self.is_applied
        parent.children[name] = node

    def linked(self, there: Node | None, member: Member) -> Node:
        parts = clean(member.link)
        if not parts:
            raise Refused("link to the root")
        stack = self.find(parts[:-1], None)
        source = stack[-1].children.get(parts[-1])
        if source is None or source.is_whiteout or source.kind == DIRECTORY:
            raise Refused("link to nothing")
        if there is not None and there in stack:
            raise Refused("link to what it replaces")
        return source

    def make_opaque(self, folder: Node) -> None:
        if self.is_applied:
            self.purge(folder)
        else:
            folder.is_opaque = True

    def hide(self, parent: Node, name: bytes) -> None:
        if name in (b"", b".", b".."):
            raise Refused("whiteout of nothing")
        there = parent.children.get(name)
        if self.is_applied:
            if there is not None:
                self.purge_entry(parent, name, there)
        elif there is None:
            parent.children[name] = Node(CHARACTER, mode=0, is_whiteout=True)
        elif there.kind == DIRECTORY:
            there.is_opaque = True

    def purge(self, folder: Node) -> None:
        for name, node in list(folder.children.items()):
            self.purge_entry(folder, name, node)

    def purge_entry(self, parent: Node, name: bytes, node: Node) -> None:
        is_ours = (parent, name) in self.made
        if node.kind == DIRECTORY and (is_ours or node in self.holders):
            self.purge(node)
        elif not is_ours:
            del parent.children[name]

    def picture(self) -> dict[str, Entry]:
        """The tree in the form of `kit.trees.picture`, as far as it is determined."""
        found: dict[str, tuple[str, Node]] = {}
        names: dict[Node, list[str]] = {}
        _walk(self.root, ".", found, names)
        return {
            name: (
                node.kind,
                node.mode,
                (node.uid, node.gid),
                None if node.is_whiteout else node.mtime,
                node.content,
                tuple(sorted(names[node])) if node.kind != DIRECTORY else (),
                (OPAQUE,) if node.is_opaque else (),
            )
            for name, (_, node) in found.items()
        }


def _forget_times(node: Node) -> None:
    """A folder of a lower layer that this one does not list has the time of the last change."""
    if node.kind == DIRECTORY:
        node.mtime = None
    for child in node.children.values():
        _forget_times(child)


def _walk(
    node: Node, path: str, found: dict[str, tuple[str, Node]], names: dict[Node, list[str]]
) -> None:
    found[path] = (path, node)
    names.setdefault(node, []).append(path)
    for name, child in node.children.items():
        text = name.decode("utf-8", "surrogateescape")
        _walk(child, text if path == "." else f"{path}/{text}", found, names)
