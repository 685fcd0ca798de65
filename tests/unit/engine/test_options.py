"""Every option of a run is checked at the door, in docker's words."""

import pytest

from sandbox.engine.options import (
    InvalidOption,
    RunOptions,
    Ulimit,
    VolumeMount,
    check_volume_name,
    options_document,
    options_from_document,
    parse_mount,
    parse_options,
)
from sandbox.errors import UsageError


def options(**keywords: object) -> RunOptions:
    return parse_options("busybox", ["true"], keywords)


def test_sizes_are_dockers_binary_units() -> None:
    parsed = options(memory="64m", shm_size="1g", output_limit="10k")

    assert (parsed.memory, parsed.shm_size, parsed.output_limit) == (64 << 20, 1 << 30, 10 << 10)


def test_numbers_are_taken_as_they_are() -> None:
    parsed = options(memory=64 << 20, cpus=0.5, pids=64, timeout=5)

    assert (parsed.memory, parsed.cpus, parsed.pids_limit, parsed.timeout_s) == (
        64 << 20,
        0.5,
        64,
        5.0,
    )


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"memory": "1"}, "Minimum memory limit allowed is 6MB"),
        ({"memory": "4m"}, "Minimum memory limit allowed is 6MB"),
        ({"cpu_shares": "-1"}, "shares: invalid argument"),
        (
            {"memory_swap": "10m"},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            {"memory": "20m", "memory_swap": "10m"},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"rm": True, "restart": "always"},
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (
            {"name": "bad/name"},
            "Invalid container name (bad/name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            {"volume": ["/nosuch/rel:rel"]},
            "invalid volume specification: '/nosuch/rel:rel': invalid mount config for type "
            "\"bind\": invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            {"log_driver": "nosuch"},
            'error looking up logging plugin nosuch: plugin "nosuch" not found',
        ),
        ({"volume": ["/a:/"]}, "invalid volume specification: '/a:/': destination can't be '/'"),
    ],
)
def test_what_cannot_be_meant_is_refused(keywords: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        options(**keywords)

    assert str(raised.value) == sentence


def test_cpus_beyond_this_machine_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Range of CPUs is from 0\.01 to \d+\.00, as there are"):
        options(cpus=100000)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("memory", "abc", "invalid size: 'abc'"),
        ("env", ["=x"], "invalid environment variable: =x"),
        ("pids_limit", "many", 'strconv.ParseInt: parsing "many": invalid syntax'),
        (
            "ulimit",
            "nofile=9:1",
            "ulimit soft limit must be less than or equal to hard limit: 9 > 1",
        ),
    ],
)
def test_a_bad_value_names_its_option(option: str, value: object, problem: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        options(**{option: value})

    assert (raised.value.option, raised.value.problem) == (option, problem)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UsageError, match="unknown option 'memroy'"):
        options(memroy="64m")


def test_a_command_in_one_string_is_refused() -> None:
    with pytest.raises(UsageError, match="list of strings"):
        parse_options("busybox", "echo hi")


def test_a_bare_variable_takes_the_callers_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "7")
    monkeypatch.delenv("NOT_THERE", raising=False)

    assert options(env=["FROM_OUTSIDE", "NOT_THERE", "A=b=c"]).env == (
        ("FROM_OUTSIDE", "7"),
        ("A", "b=c"),
    )


def test_volumes_of_all_spellings() -> None:
    parsed = options(volumes={"/host": {"bind": "/a", "mode": "ro"}, "/other": "/b"})

    assert [(v.source, v.target, v.readonly) for v in parsed.volume] == [
        ("/host", "/a", True),
        ("/other", "/b", False),
    ]
    assert options(volume="data:/data").volume[0].kind == "volume"


def test_mount_reads_its_fields() -> None:
    assert parse_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave") == VolumeMount(
        kind="bind", source="/a", target="/b", readonly=True, options=("rslave",)
    )
    assert parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700").size_bytes == 1 << 20


def test_a_volume_mount_reads_its_fields() -> None:
    text = (
        "src=data,dst=/d,volume-nocopy,volume-label=a=b,volume-label=c,"
        'volume-opt=type=none,"volume-opt=o=bind,ro",volume-opt=device=/srv'
    )

    assert parse_mount(text) == VolumeMount(
        kind="volume",
        source="data",
        target="/d",
        nocopy=True,
        labels=(("a", "b"), ("c", "")),
        driver_options=(("type", "none"), ("o", "bind,ro"), ("device", "/srv")),
    )
    with pytest.raises(InvalidOption, match=r"cannot mix 'volume-\*' options"):
        parse_mount("type=tmpfs,dst=/t,volume-label=a")
    with pytest.raises(InvalidOption, match="quoted-field"):
        parse_mount('src=data,dst=/d,"volume-label=a')


@pytest.mark.parametrize("name", ["a", "../up", "a/b", "-a", "a b", "ä1", "n" * 256])
def test_a_name_that_no_volume_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^create "):
        check_volume_name(name)


def test_options_survive_their_document() -> None:
    parsed = options(
        memory="64m",
        env={"A": "1"},
        volume=["/a:/b:ro", "/anonymous"],
        mount=["src=v1,dst=/v,volume-label=a=b"],
        volumes_from=["first:ro"],
        tmpfs=["/t:size=1m"],
        ulimit=["nofile=10:20"],
        device_read_bps=["/dev/sda:1m"],
        label={"x": "y"},
        timeout=1.5,
    )

    assert options_from_document(options_document(parsed)) == parsed
    assert parsed.ulimit == (Ulimit(name="nofile", soft=10, hard=20),)
