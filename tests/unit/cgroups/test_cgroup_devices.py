"""Device rules: v1's lists, and v2's program, carried out by a small machine here."""

from struct import iter_unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cgroups.cgroupfs import FakeKernel

import cgroups
from cgroups import DeviceRule, Limits
from cgroups.v1.devices import plan
from cgroups.v2.devices import assemble

ACCESS = {"m": 1, "r": 2, "w": 4}
KIND = {"b": 1, "c": 2}
NULL = DeviceRule(allow=True, kind="c", major=1, minor=3)
PTS = DeviceRule(allow=True, kind="c", major=136, access="rw")
MKNOD = DeviceRule(allow=True, access="m")
ALL = DeviceRule(allow=True)
NOTHING = DeviceRule(allow=False)


# v1


def test_v1_denies_everything_first_and_allows_through_one_file() -> None:
    assert plan((NULL, PTS, MKNOD), fresh=True) == [
        ("devices", "devices.deny", ("a",)),
        ("devices", "devices.allow", ("c 1:3 rwm", "c 136:* rw", "b *:* m", "c *:* m")),
    ]


def test_v1_list_without_rules_denies_everything() -> None:
    assert plan((), fresh=True) == [("devices", "devices.deny", ("a",))]


def test_v1_deny_everything_in_front_changes_nothing() -> None:
    assert plan((NOTHING, NULL), fresh=True) == plan((NULL,), fresh=True)


def test_v1_rule_for_everything_clears_what_was_before_it() -> None:
    assert plan((NULL, NOTHING, PTS), fresh=True) == plan((PTS,), fresh=True)


def test_v1_new_group_that_may_use_everything_is_left_as_its_parent_made_it() -> None:
    assert plan((ALL,), fresh=True) == []
    assert plan((ALL,), fresh=False) == [("devices", "devices.allow", ("a",))]


def test_v1_after_everything_is_allowed_the_exceptions_are_denied() -> None:
    disk = DeviceRule(allow=False, kind="b", major=8)

    assert plan((ALL, disk), fresh=True) == [("devices", "devices.deny", ("b 8:* rwm",))]


def test_v1_later_rule_takes_access_back() -> None:
    no_write = DeviceRule(allow=False, kind="c", major=1, minor=3, access="w")

    assert plan((NULL, no_write), fresh=True)[1:] == [("devices", "devices.allow", ("c 1:3 rm",))]


def test_v1_wider_deny_takes_narrower_ones_back() -> None:
    assert plan((NULL, DeviceRule(allow=False, kind="c", major=1)), fresh=True) == [
        ("devices", "devices.deny", ("a",))
    ]


def test_v1_piece_cut_out_of_a_wider_rule_cannot_be_enforced() -> None:
    piece = DeviceRule(allow=False, kind="c", major=136, minor=0)

    with pytest.raises(cgroups.LimitUnavailable, match=r"cannot take 'c 136:0 rwm' out of"):
        plan((PTS, piece), fresh=True)


def test_v1_rules_are_written_into_the_group(legacy: FakeKernel) -> None:
    cgroup = cgroups.create(legacy.detect(), "e/one", Limits(devices=(NULL,)))

    assert [w for w in legacy.written("one") if "devices" in w[0]] == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rwm"),
    ]
    assert [e.by for e in cgroup.enforcement] == ["cgroup1"]


# v2


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """What the kernel would do with the program."""
    wanted = sum(ACCESS[letter] for letter in access)
    context = {0: wanted << 16 | KIND[kind], 4: major, 8: minor}
    code = list(iter_unpack("=BBhi", program))
    registers = [0] * 11
    at = 0
    while True:
        opcode, both, offset, value = code[at]
        target, source = both & 15, both >> 4
        at += 1
        match opcode:
            case 0x61:
                registers[target] = context[offset]
            case 0x54:
                registers[target] &= value & 0xFFFFFFFF
            case 0x74:
                registers[target] >>= value
            case 0xBC:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = value
            case 0x05:
                at += offset
            case 0x55:
                at += offset if registers[target] != value else 0
            case 0x45:
                at += offset if registers[target] & value else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(hex(opcode))


def expected(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """The rule in words: each bit is decided by the last rule that speaks of it."""

    def allowed(letter: str) -> bool:
        verdict = False
        for rule in rules:
            if (
                rule.kind in ("a", kind)
                and rule.major in (None, major)
                and rule.minor in (None, minor)
                and letter in rule.access
            ):
                verdict = rule.allow
        return verdict

    return all(allowed(letter) for letter in access)


NUMBERS = st.sampled_from([None, 0, 1, 3])
LETTERS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm", "mwr"])
RULES = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        kind=st.sampled_from(["a", "b", "c"]),
        major=NUMBERS,
        minor=NUMBERS,
        access=LETTERS,
    ),
    max_size=6,
).map(tuple)


@given(
    rules=RULES,
    kind=st.sampled_from("bc"),
    major=st.sampled_from([0, 1, 2, 3]),
    minor=st.sampled_from([0, 1, 2, 3]),
    access=LETTERS,
)
def test_v2_program_decides_each_bit_by_the_last_rule_that_speaks_of_it(
    rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str
) -> None:
    program = assemble(rules)

    decided = run(program, kind, major, minor, access) if program else True

    assert decided == expected(rules, kind, major, minor, access)


@given(rules=RULES)
def test_v2_program_has_no_instruction_that_cannot_be_reached(
    rules: tuple[DeviceRule, ...],
) -> None:
    code = list(iter_unpack("=BBhi", assemble(rules)))
    seen: set[int] = set()
    pending = [0] if code else []
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        opcode, _, offset, _ = code[at]
        if opcode == 0x95:
            continue
        if opcode != 0x05:
            pending.append(at + 1)
        if opcode in (0x05, 0x55, 0x45):
            pending.append(at + 1 + offset)

    assert seen == set(range(len(code)))


def test_v2_everything_allowed_needs_no_program() -> None:
    assert assemble((NULL, ALL)) == b""


def test_v2_no_rules_deny() -> None:
    assert not run(assemble(()), "c", 1, 3, "r")


@pytest.mark.parametrize("access", ["", "x", "rwx"])
def test_access_of_other_letters_is_refused(access: str) -> None:
    rule = DeviceRule(allow=True, kind="c", access=access)

    with pytest.raises(cgroups.InvalidLimit):
        assemble((rule,))
    with pytest.raises(cgroups.InvalidLimit):
        plan((rule,), fresh=True)


def test_v2_rules_without_bpf_are_a_limit_that_cannot_be_enforced(
    unified: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, program: bytes) -> None:
        raise PermissionError(1, "Operation not permitted", "bpf")

    monkeypatch.setattr("cgroups.v2.bpf.replace_program", refuse)

    with pytest.raises(cgroups.LimitUnavailable, match=r"devices.*operation not permitted"):
        cgroups.create(unified.detect(), "one", Limits(devices=(NULL,)))
    assert unified.groups() == []


def test_v2_rules_are_attached_to_the_group(
    unified: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("cgroups.v2.bpf.replace_program", lambda *call: calls.append(call))

    cgroup = cgroups.create(unified.detect(), "one", Limits(devices=(NULL,)))

    assert calls == [(f"{unified.root}/one", assemble((NULL,)))]
    assert [(e.limit, e.by) for e in cgroup.enforcement] == [("devices", "cgroup2")]
