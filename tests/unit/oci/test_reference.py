from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import InvalidReference
from sandbox.oci import reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.37", "docker.io/library/busybox:1.37", "busybox:1.37"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("me/tool:v1", "docker.io/me/tool:v1", "me/tool:v1"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/none", "127.0.0.1:5000/none:latest", "127.0.0.1:5000/none:latest"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
        ("Example.COM/x", "Example.COM/x:latest", "Example.COM/x:latest"),
        ("a_b__c-d---e.f", "docker.io/library/a_b__c-d---e.f:latest", "a_b__c-d---e.f:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"q/x:1@{DIGEST}", f"docker.io/q/x:1@{DIGEST}", f"q/x:1@{DIGEST}"),
        ("x:_A.b-C", "docker.io/library/x:_A.b-C", "x:_A.b-C"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_reference_is_read_as_docker_reads_it(text: str, canonical: str, familiar: str) -> None:
    parsed = reference.parse(text)

    assert parsed.canonical == canonical
    assert parsed.familiar == familiar


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ""),
        (":", ""),
        ("x:", ""),
        ("/x", ""),
        ("x/", ""),
        ("a//b", ""),
        ("a___b", ""),
        ("a..b", ""),
        ("-a", ""),
        ("a-", ""),
        ("a/../b", ""),
        ("../etc", ""),
        ("a b", ""),
        ("x:-t", ""),
        ("x:.t", ""),
        ("x:a/b", ""),
        ("x:" + "t" * 129, ""),
        ("x@", ""),
        ("x@sha256:123", ""),
        (f"x@sha256:{HEX.upper()}", ""),
        (f"x@sha512:{HEX}{HEX}", ""),
        (f"@{DIGEST}", ""),
        ("[::1/x", ""),
        ("a.b:port/x", ""),
        ("a.b:/x", ""),
        ("-a.b/x", ""),
        ("x\0y", ""),
        ("naïve", ""),
        ("x:\u0661", ""),
        ("UPPER/case", "repository name must be lowercase"),
        ("X:1", "repository name must be lowercase"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_bad_reference_is_refused_in_dockers_words(text: str, problem: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.parse(text)

    assert str(caught.value) == "invalid reference format" + (f": {problem}" if problem else "")
    assert caught.value.text == text


def test_name_to_be_given_shows_the_repository_that_is_not_lowercase() -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.parse_name("X:1")

    assert str(caught.value) == (
        "invalid reference format: repository name (library/X) must be lowercase"
    )


def test_name_to_be_given_has_no_digest() -> None:
    with pytest.raises(InvalidReference, match="digest reference"):
        reference.parse_name(f"x@{DIGEST}")


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except InvalidReference:
        return

    assert reference.parse(parsed.canonical) == parsed
    assert reference.parse(parsed.familiar) == parsed
    assert ".." not in parsed.path.split("/")


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}", fullmatch=True)
HOST = st.from_regex(r"[a-zA-Z0-9]{1,6}(\.[a-zA-Z0-9]{1,5}){1,3}(:[0-9]{1,5})?", fullmatch=True)


@given(
    domain=HOST,
    path=st.lists(COMPONENT, min_size=1, max_size=4).map("/".join),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
)
def test_well_formed_reference_keeps_its_parts(domain: str, path: str, tag: str) -> None:
    parsed = reference.parse(f"{domain}/{path}:{tag}")

    assert parsed.tag == tag
    assert parsed.path.endswith(path)
    assert parsed.domain == ("docker.io" if domain == "index.docker.io" else domain)
