"""Everything this library raises, drawn once.

    NetnsError
      InvalidValue          a name, an address or a number that cannot be meant
      NamespaceError        about one network namespace
        NamespaceExists     something is pinned at that path already
        NamespaceNotFound   nothing is pinned there, or no such process
        NamespaceRefused    the kernel did not make, pin or enter it
      LinkError             about one link, its addresses or its routes
        LinkExists          there is a link of that name already
        LinkNotFound        there is no link of that name
        LinkRefused         the kernel did not take the request
      SettingRefused        a file below /proc/sys could not be written
      RulesError            about nftables
        RulesUnavailable    this host has no program nft
        RulesRefused        the transaction was not taken, and nothing of it holds
      LeaseError            about addresses of a subnet
        AddressTaken        the address has an owner already
        AddressesExhausted  every address of the range is taken
        LeasesDamaged       the file of leases cannot be read
      PortTaken             the host's port has an owner already
      AddressNotHere        no link of the host has the address of a published port

A message is lower case, without a full stop, with the name and the value in it; facts are
fields; ``hint`` says what a person can do and may be empty.
"""

from __future__ import annotations

import os


class NetnsError(Exception):
    """The base of the tree."""

    hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class InvalidValue(NetnsError):
    """A name, an address or a number that cannot be meant."""

    def __init__(self, what: str, value: object, reason: str) -> None:
        self.what, self.value, self.reason = what, value, reason
        super().__init__(f"invalid {what} {value!r}: {reason}")


class NamespaceError(NetnsError):
    """About one network namespace; ``path`` is where it is pinned, or where it was looked for."""

    def __init__(self, message: str, *, path: str, hint: str = "") -> None:
        self.path = path
        super().__init__(f"{message}: {path}", hint=hint)


class NamespaceExists(NamespaceError):
    """Something is pinned at that path already."""


class NamespaceNotFound(NamespaceError):
    """Nothing is pinned there, or there is no such process."""


class NamespaceRefused(NamespaceError):
    """The kernel did not make, pin or enter it."""

    def __init__(self, act: str, *, path: str, errno: int, hint: str = "") -> None:
        self.errno = errno
        super().__init__(
            f"cannot {act} a network namespace: {os.strerror(errno).lower()}", path=path, hint=hint
        )


class LinkError(NetnsError):
    """About one link, its addresses or its routes."""

    def __init__(self, message: str, *, name: str, errno: int, hint: str = "") -> None:
        self.name, self.errno = name, errno
        super().__init__(message, hint=hint)


class LinkExists(LinkError):
    """There is a link of that name already."""


class LinkNotFound(LinkError):
    """There is no link of that name."""


class LinkRefused(LinkError):
    """The kernel did not take the request."""


class SettingRefused(NetnsError):
    """A file below /proc/sys could not be written."""

    def __init__(self, path: str, value: str, errno: int) -> None:
        self.path, self.value, self.errno = path, value, errno
        super().__init__(f"cannot write {value!r} to {path}: {os.strerror(errno).lower()}")


class RulesError(NetnsError):
    """About nftables."""


class RulesUnavailable(RulesError):
    """This host has no program nft."""


class RulesRefused(RulesError):
    """The transaction was not taken, and nothing of it holds; ``text`` is what was asked."""

    def __init__(self, reason: str, *, text: str) -> None:
        self.reason, self.text = reason, text
        super().__init__(f"nft: {reason}")


class LeaseError(NetnsError):
    """About addresses of a subnet."""


class AddressTaken(LeaseError):
    """The address has an owner already."""

    def __init__(self, address: str, owner: str) -> None:
        self.address, self.owner = address, owner
        super().__init__(f"address {address} is in use by {owner}")


class AddressesExhausted(LeaseError):
    """Every address of the range is taken."""

    def __init__(self, range_: str, taken: int) -> None:
        self.range, self.taken = range_, taken
        super().__init__(
            f"no free address in {range_}: {taken} are in use",
            hint="remove what is no longer needed, or make a network with a larger subnet",
        )


class LeasesDamaged(LeaseError):
    """The file of leases cannot be read; it is left as it is."""

    def __init__(self, path: str, line: str) -> None:
        self.path, self.line = path, line
        super().__init__(f"damaged file of leases {path}: {line!r}")


class PortTaken(NetnsError):
    """The host's port has an owner already; ``owner`` is empty if it is a process of the host."""

    def __init__(self, address: str, port: int, protocol: str, owner: str) -> None:
        self.address, self.port, self.protocol, self.owner = address, port, protocol, owner
        shown = f"[{address}]" if ":" in address else address
        by = owner or "a process of this host"
        super().__init__(f"port {shown}:{port}/{protocol} is in use by {by}")


class AddressNotHere(NetnsError):
    """No link of the host has the address of a published port."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"no link of this host has the address {address}")
