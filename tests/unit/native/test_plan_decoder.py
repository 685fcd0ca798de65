"""The plan in Python and in C: the same numbers, and a decoder that trusts no byte."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
import requires

from netns import Endpoint, Route, packed
from sandbox.native import plan
from sandbox.native.build_monitor import build_monitor
from sandbox.native.plan import op

NATIVE = Path(plan.__file__).parent
HEADER = (NATIVE / "launch.h").read_text()
STREAM = str(Path(__file__).parents[2] / "kit/plan_stream.c")
MUTATIONS = 20_000


def test_operations_have_the_same_numbers_in_the_header() -> None:
    in_c = {
        name.lower(): int(number) for name, number in re.findall(r"\bOP_([A-Z_]+) = (\d+)", HEADER)
    }

    assert in_c == {name: code for name, (code, _, _) in plan.OPS.items()}


def test_comments_of_the_header_name_the_same_fields() -> None:
    lines = re.findall(r"\bOP_([A-Z_]+) = \d+,\s*/\* (?:nothing|(\w+): (.*)) \*/", HEADER)

    assert {
        name.lower(): (kinds, tuple(names.split(", ")) if names else ())
        for name, kinds, names in lines
    } == {name: (kinds, names) for name, (_, kinds, names) in plan.OPS.items()}


def test_flags_and_bounds_have_the_same_values_in_the_header() -> None:
    in_c = {
        name: int(value)
        for name, value in re.findall(
            r"#define ((?:STDIO|LIFETIME|OVERLAY|MOUNT|WORKDIR|EXEC|ENDPOINT)_\w+) (\d+)$",
            HEADER,
            re.MULTILINE,
        )
    }
    in_python = {
        name: getattr(plan, name)
        for name in dir(plan)
        if re.match("(STDIO|LIFETIME|OVERLAY|MOUNT|WORKDIR|EXEC|ENDPOINT)_", name)
    }

    assert in_c == in_python
    assert f"#define PLAN_VERSION {plan.VERSION}\n" in HEADER
    assert f"#define FIRST_INIT_OP {plan.FIRST_INIT_OP}\n" in HEADER
    assert plan.MAX_BYTES == 4 << 20
    assert "#define PLAN_MAX_BYTES (4u << 20)\n" in HEADER


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decoder") / "stream"
    build_monitor(
        str(out),
        sanitize="address,undefined",
        sources=("plan.c", "fuzz_plan.c"),
        extra_sources=(STREAM,),
    )
    return out


def _accepted(decoder: Path, plans: list[bytes]) -> list[bool]:
    done = subprocess.run(
        [str(decoder)],
        input=b"".join(struct.pack("<I", len(data)) + data for data in plans),
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [line == b"1" for line in done.stdout.split()]


VALUES = {"i": -5, "s": "a string", "b": b"\0\1\2", "v": ("one", "", "three"), "l": (1, -2, 3)}
EXEC = op("exec", ("true",), ("A=b",), 0)
ROWS = packed.plumbing(
    Endpoint(
        link="ve1",
        addresses=("10.0.0.2/24", "fd00::2/64"),
        routes=(Route(destination="default", gateway="10.0.0.1"),),
    ),
    "br0",
    9,
)
LINK = op("endpoint", "ve1", "eth0", "br0", 0, *ROWS)


def _every_operation() -> list[plan.Op]:
    made = []
    for name, (_, kinds, _) in plan.OPS.items():
        values = [VALUES[kind] for kind in kinds]
        if name == "cgroup":
            values[0] = 2
        if name != "exec":
            made.append(op(name, *values))
    made.sort(key=lambda each: plan.OPS[each.name][0])
    return [*made, EXEC]


def _raw(code: int, body: bytes) -> bytes:
    return struct.pack("<II", code, len(body)) + body


def _plan(
    *parts: bytes, count: int | None = None, version: int = 1, magic: bytes = plan.MAGIC
) -> bytes:
    body = b"".join(parts)
    number = len(parts) if count is None else count
    return struct.pack("<8sIIII", magic, version, 24 + len(body), number, 0) + body


def _exec() -> bytes:
    return plan.encode([EXEC])[24:]


@requires.sanitizers
def test_decoder_knows_the_kinds_of_every_field(decoder: Path) -> None:
    out = subprocess.run([str(decoder), "kinds"], capture_output=True, text=True, check=True).stdout

    in_c = {int(line.split()[0]): line.partition(" ")[2] for line in out.splitlines()}
    assert in_c == {code: kinds for code, kinds, _ in plan.OPS.values()}


@requires.sanitizers
def test_decoder_accepts_what_python_encodes(decoder: Path) -> None:
    edges = [
        op("id", ""),
        op("exec", (), (), 0),
        op("exec", ("x",) * 3000, tuple(f"V{i}={'y' * (i % 9)}" for i in range(100)), 1),
        op("exec", ("é\udcff",), (), 0),
    ]
    plans = [plan.encode(_every_operation()), plan.encode([EXEC])]
    plans += [plan.encode([each]) for each in edges[1:]]
    plans += [plan.encode([edges[0], EXEC]), plan.encode([op("cgroup", 1, "a", "b")] * 24 + [EXEC])]

    assert all(_accepted(decoder, plans))


@requires.sanitizers
def test_decoder_refuses_what_breaks_the_format(decoder: Path) -> None:
    good = plan.encode(_every_operation())
    identity = plan.encode([op("id", "x"), EXEC])[24:40]
    pivot = _raw(111, b"")
    string = struct.pack("<I", 1) + b"x\0\0\0"
    bad = {
        "nothing": b"",
        "less than a header": good[:20],
        "one byte less": good[:-1],
        "eight bytes less": good[:-8],
        "eight bytes more": good + bytes(8),
        "another magic": _plan(_exec(), magic=b"SBXPLAN1"),
        "another version": _plan(_exec(), version=2),
        "no operation": _plan(),
        "no exec": _plan(pivot),
        "exec twice": _plan(_exec(), _exec()),
        "something after exec": _plan(_exec(), pivot),
        "a setting after an operation": _plan(pivot, identity, _exec()),
        "a setting twice": _plan(identity, identity, _exec()),
        "an unknown operation": _plan(_raw(99, b""), _exec()),
        "a huge code": _plan(_raw(0xFFFFFFFF, b""), _exec()),
        "more operations than said": _plan(pivot, _exec(), count=1),
        "fewer operations than said": _plan(_exec(), count=2),
        "too many operations": _plan(*[pivot] * 4096, _exec()),
        "bytes after the fields": _plan(_raw(111, bytes(8)), _exec()),
        "a string that is too long": _plan(
            _raw(1, struct.pack("<I", 0xFFFFFFFF) + b"x\0\0\0"), _exec()
        ),
        "a string without its NUL": _plan(_raw(1, struct.pack("<I", 4) + b"xxxx"), _exec()),
        "a string with a NUL": _plan(_raw(1, struct.pack("<I", 2) + b"\0x\0\0"), _exec()),
        "a field that is cut": _plan(_raw(1, string[:4]), _exec()),
        "an odd size": _plan(_raw(1, string + b"\0"), _exec()),
        "a vector with fewer strings": _plan(
            _raw(
                126,
                struct.pack("<II", 2, 2) + b"x\0" + bytes(6) + struct.pack("<II", 0, 0) + bytes(8),
            )
        ),
        "a vector without its last NUL": _plan(
            _raw(
                126,
                struct.pack("<II", 1, 2) + b"\0x" + bytes(6) + struct.pack("<II", 0, 0) + bytes(8),
            )
        ),
        "a list that is too long": _plan(
            _raw(122, bytes(16) + struct.pack("<II", 0x20000001, 0) + bytes(8)), _exec()
        ),
    }

    accepted = _accepted(decoder, list(bad.values()))

    assert [name for name, yes in zip(bad, accepted, strict=True) if yes] == []
    assert _accepted(decoder, [_plan(identity, pivot, _exec())]) == [True]


def _mutate(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(changed))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            at &= ~3
            value = chance.choice((0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF))
            changed[at : at + 4] = struct.pack("<I", value)
        elif kind == 2:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            del changed[at & ~7 : (at & ~7) + 8 * chance.randrange(1, 4)]
        elif kind == 4:
            changed[at & ~7 : at & ~7] = chance.randbytes(8)
        else:
            other = chance.randrange(len(changed)) & ~7
            changed[at & ~7 : (at & ~7) + 16] = changed[other : other + 16]
        if not changed:
            return b""
    if chance.random() < 0.8 and len(changed) >= 24:
        changed[12:16] = struct.pack("<I", len(changed))
    return bytes(changed)


@requires.sanitizers
def test_decoder_survives_mutated_plans(decoder: Path) -> None:
    chance = random.Random(20)  # the same plans each time
    seeds = [
        plan.encode(_every_operation()),
        plan.encode([op("id", "x"), op("ids", 1, 2, (3, 4)), EXEC]),
        plan.encode(
            [op("root_overlay", ("/a", "/b"), "/u", "/w", 1), op("seccomp", bytes(64), 0), EXEC]
        ),
        plan.encode([LINK, LINK, op("network"), EXEC]),
        plan.encode([op("enter", 1, 2), LINK, op("network")]),
    ]

    plans = [_mutate(chance, chance.choice(seeds)) for _ in range(MUTATIONS)]
    accepted = _accepted(decoder, plans)

    assert len(accepted) == MUTATIONS
    assert 100 < sum(accepted) < MUTATIONS


@requires.sanitizers
def test_a_check_s_plan_in_a_plan_is_decoded_with_the_same_distrust(decoder: Path) -> None:
    check = plan.encode([op("enter", 0, 0), EXEC])
    whole = plan.encode([op("health", check, 1, 1, 1, 0, 1), EXEC])
    dice = random.Random(7)
    start = whole.index(check)
    broken = []
    for _ in range(MUTATIONS // 10):
        data = bytearray(whole)
        data[start + dice.randrange(len(check))] = dice.randrange(256)
        broken.append(bytes(data))

    # The plan around it is a good one, whatever its bytes are.
    assert all(_accepted(decoder, [whole, *broken]))


@requires.sanitizers
def test_messages_of_an_endpoint_stay_in_their_field(decoder: Path) -> None:
    whole = plan.encode([LINK, op("network"), EXEC])
    dice = random.Random(17)
    start = whole.index(ROWS[0])
    broken = []
    for _ in range(MUTATIONS // 10):
        data = bytearray(whole)
        at = start + dice.randrange(sum(map(len, ROWS)))
        data[at] = dice.choice((0, 1, 15, 24, 0x7F, 0xFF, dice.randrange(256)))
        broken.append(bytes(data))

    # The decoder takes them for bytes; the fuzz target ends where reading them as messages would
    # leave the field, or a message the room that there is for one.
    _accepted(decoder, [whole, *broken])


def test_settings_are_put_into_a_plan_that_is_encoded() -> None:
    more = [op("endpoint", "ve1", "eth0", "br0", 1, b"a", b"", b"c"), op("keep", 3)]
    rest = [op("id", "x"), op("network"), EXEC]

    assert plan.with_settings(plan.encode(rest), more) == plan.encode([*more, *rest])
    assert plan.with_settings(plan.encode(rest), ()) == plan.encode(rest)
    with pytest.raises(ValueError, match="bytes, more than"):
        plan.with_settings(plan.encode(rest), [op("id", "x" * plan.MAX_BYTES)])


def test_messages_are_described_by_what_they_do() -> None:
    assert plan.describe([LINK]) == (
        "endpoint link='ve1' name='eth0' bridge='br0' flags=0 make=<2 messages: new link, new link>"
        " plumb=<4 messages: new address, new address, new link, new route>"
        " settle=<2 messages: get link, get link>\n"
    )
    assert "make=<no messages>" in plan.describe([op("endpoint", "a", "b", "c", 0, b"", b"x", b"")])
