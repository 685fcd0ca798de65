"""Device rules of v2: no file holds them, an eBPF program does.

`assemble` makes the program out of rules and needs nothing; `apply` loads and
attaches it through ``cgroups.v2.bpf``, which costs an import of ctypes.  A
caller with a bpf(2) of its own takes the bytes and attaches them itself.

Each bit of a request (read, write, mknod) is decided by the last rule that
speaks of it and of the device; a bit that none speaks of is denied, and so is a
request with one denied bit.
"""

from __future__ import annotations

from _struct import pack

from cgroups.errors import InvalidLimit, LimitUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import DeviceRule

# <linux/bpf.h>: bits of the access and kinds of device in bpf_cgroup_dev_ctx.
_ACCESS = {"m": 1, "r": 2, "w": 4}
_KIND = {"b": 1, "c": 2}
_ALL = 7

# Opcodes: class, operation and operand kind in one byte.
_LOAD_WORD = 0x61
_AND32, _SHIFT_RIGHT32, _MOVE32, _SET = 0x54, 0x74, 0xBC, 0xB7
_JUMP, _JUMP_IF_NOT, _JUMP_IF_ANY, _EXIT = 0x05, 0x55, 0x45, 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = range(6)


def apply(path: str, rules: tuple[DeviceRule, ...]) -> None:
    """Let these rules take the place of those that the group has."""
    from cgroups.v2 import bpf  # ctypes: several milliseconds, so only where it is used

    try:
        bpf.replace_program(path, assemble(rules))
    except OSError as error:
        reason = f"bpf(2) for {path}: {(error.strerror or '').lower()}"
        raise LimitUnavailable("devices", reason) from error


def assemble(rules: tuple[DeviceRule, ...]) -> bytes:
    """The program, or nothing at all when everything is allowed."""
    body = b""
    for rule in reversed(rules):
        mask = _mask(rule)
        body += _rule(rule, mask)
        if rule.kind == "a" and rule.major is None and rule.minor is None and mask == _ALL:
            # The verifier refuses what cannot be reached.
            if rule.allow and rule is rules[-1]:
                return b""
            break
    else:
        body += _return(allow=False)
    return (
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, offset=0)
        + _instruction(_MOVE32, _WANTED, _TYPE)
        + _instruction(_SHIFT_RIGHT32, _WANTED, value=16)
        + _instruction(_AND32, _TYPE, value=0xFFFF)
        + _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, offset=4)
        + _instruction(_LOAD_WORD, _MINOR, _CONTEXT, offset=8)
        + body
    )


def _rule(rule: DeviceRule, mask: int) -> bytes:
    """One rule: fall through to the next when it does not decide."""
    if mask == _ALL:
        end = _return(allow=rule.allow)
    elif rule.allow:
        # What is left of the request goes on to the next rule.
        end = _instruction(_AND32, _WANTED, value=_ALL & ~mask)
        end += _instruction(_JUMP_IF_NOT, _WANTED, offset=2) + _return(allow=True)
    else:
        end = _instruction(_JUMP_IF_ANY, _WANTED, offset=1, value=mask)
        end += _instruction(_JUMP, offset=2) + _return(allow=False)
    tests = []
    if rule.kind != "a":
        tests.append((_TYPE, _KIND[rule.kind]))
    if rule.major is not None:
        tests.append((_MAJOR, rule.major))
    if rule.minor is not None:
        tests.append((_MINOR, rule.minor))
    for register, value in reversed(tests):
        end = _instruction(_JUMP_IF_NOT, register, offset=len(end) // 8, value=value) + end
    return end


def _mask(rule: DeviceRule) -> int:
    mask = 0
    for letter in rule.access:
        mask |= _ACCESS.get(letter, 0)
    if not mask or set(rule.access) - set(_ACCESS):
        raise InvalidLimit(f"device access is letters of rwm, not {rule.access!r}")
    return mask


def _return(*, allow: bool) -> bytes:
    return _instruction(_SET, _RESULT, value=int(allow)) + _instruction(_EXIT)


def _instruction(
    opcode: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0
) -> bytes:
    return pack("=BBhi", opcode, target | source << 4, offset, value)
