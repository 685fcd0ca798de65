"""Network namespaces and what joins them: veth, bridges, NAT, published ports, leases."""

from __future__ import annotations

from netns.errors import (
    AddressesExhausted,
    AddressNotHere,
    AddressTaken,
    InvalidValue,
    LeaseError,
    LeasesDamaged,
    LinkError,
    LinkExists,
    LinkNotFound,
    LinkRefused,
    NamespaceError,
    NamespaceExists,
    NamespaceNotFound,
    NamespaceRefused,
    NetnsError,
    PortTaken,
    RulesError,
    RulesRefused,
    RulesUnavailable,
    SettingRefused,
)
from netns.model import Endpoint, Lease, Link, NetworkConfig, PortMapping, Route, Subnet
from netns.namespace import Namespace, delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.ipam import FileLeases, LeaseStore
    from netns.netlink import Netlink
    from netns.network import Network
    from netns.ports import Reservation

__all__ = [
    "AddressNotHere",
    "AddressTaken",
    "AddressesExhausted",
    "Endpoint",
    "FileLeases",
    "InvalidValue",
    "Lease",
    "LeaseError",
    "LeaseStore",
    "LeasesDamaged",
    "Link",
    "LinkError",
    "LinkExists",
    "LinkNotFound",
    "LinkRefused",
    "Namespace",
    "NamespaceError",
    "NamespaceExists",
    "NamespaceNotFound",
    "NamespaceRefused",
    "Netlink",
    "NetnsError",
    "Network",
    "NetworkConfig",
    "PortMapping",
    "PortTaken",
    "Reservation",
    "Route",
    "RulesError",
    "RulesRefused",
    "RulesUnavailable",
    "SettingRefused",
    "Subnet",
    "delete",
]

_LATER = {
    "FileLeases": "ipam",
    "LeaseStore": "ipam",
    "Netlink": "netlink",
    "Network": "network",
    "Reservation": "ports",
}


def __getattr__(name: str) -> object:
    """Load the modules of the verbs when one is first named."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f"netns.{_LATER[name]}"), name)
    raise AttributeError(f"module 'netns' has no attribute {name!r}")
