"""DiffIDs and ChainIDs: the name of one unpacked layer, and of a stack of them.

image-spec: ``ChainID(L0) = DiffID(L0)``, and ``ChainID(L0|...|Ln) = sha256(ChainID(
L0|...|Ln-1) + " " + DiffID(Ln))``.  It names what a tree is made of, so that a layer
over other layers is another one.
"""

from __future__ import annotations

from ..oci import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def chain_id(parent: str, diff_id: str) -> str:
    """The ChainID of the layer ``diff_id`` over the stack ``parent``; empty for the lowest."""
    digests.require(diff_id, what="DiffID")
    if not parent:
        return diff_id
    digests.require(parent, what="ChainID")
    return digests.of_bytes(f"{parent} {diff_id}".encode())


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The ChainID of each layer over those before it, lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else "", diff_id))
    return tuple(chain)
