from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import DamagedDocument, DigestMismatch
from sandbox.oci import digest, imageconfig, manifest
from sandbox.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from sandbox.oci.imageconfig import Healthcheck, History, ImageConfig, ImageDocument

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def descriptor(**changes: object) -> dict[str, Any]:
    made = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": A, "size": 3}
    return {**made, **changes}


def manifest_value(**changes: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "config": descriptor(),
        "layers": [descriptor(digest=B)],
        **changes,
    }


def config_value(**config: object) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [A]},
    }


@pytest.mark.parametrize(
    "text",
    ["", "a" * 64, f"sha512:{'a' * 64}", f"sha256:{'A' * 64}", f"sha256:{'a' * 63}",
     f"sha256:{'a' * 65}", f"sha256:{'a' * 62}/.", f"sha256:{'a' * 63}\n", None, 3, [A]],
)  # fmt: skip
def test_what_is_not_a_sha256_digest_never_becomes_a_path(text: object) -> None:
    assert not digest.is_digest(text)
    with pytest.raises(DamagedDocument):
        digest.require(text, what="test")


def test_content_that_is_not_what_its_digest_says_is_refused() -> None:
    stated = digest.of_bytes(b"one")

    with pytest.raises(DigestMismatch) as caught:
        digest.verify(b"two", stated, what="blob")

    assert caught.value.expected == stated
    assert caught.value.actual == digest.of_bytes(b"two")


def test_manifest_is_read() -> None:
    made = manifest.parse(encoded(manifest_value(mediaType=DOCKER_MANIFEST)), what="m")

    assert isinstance(made, manifest.Manifest)
    assert made.media_type == DOCKER_MANIFEST
    assert made.config.digest == A
    assert [layer.digest for layer in made.layers] == [B]


def test_manifest_that_is_written_is_read_back() -> None:
    made = manifest.parse(encoded(manifest_value()), what="m")

    assert manifest.parse(made.encode(), what="m") == made


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {},
        manifest_value(schemaVersion=1),
        manifest_value(schemaVersion=True),
        manifest_value(schemaVersion="2"),
        manifest_value(mediaType=4),
        manifest_value(mediaType="text/plain"),
        manifest_value(mediaType=OCI_INDEX),
        manifest_value(manifests=[]),
        manifest_value(layers=None),
        manifest_value(layers={}),
        manifest_value(layers=[None]),
        manifest_value(layers=[descriptor()] * 501),
        manifest_value(config=None),
        manifest_value(config=[]),
        manifest_value(config=descriptor(digest="../../etc")),
        manifest_value(config=descriptor(digest=None)),
        manifest_value(config=descriptor(size=-1)),
        manifest_value(config=descriptor(size=True)),
        manifest_value(config=descriptor(size=1 << 60)),
        manifest_value(config=descriptor(size="3")),
        manifest_value(config=descriptor(mediaType=None)),
        manifest_value(config=descriptor(annotations=[])),
        manifest_value(config=descriptor(annotations={"a": 1})),
        manifest_value(config=descriptor(platform="linux")),
        manifest_value(config=descriptor(platform={"os": 1})),
        {"schemaVersion": 2, "manifests": None},
        {"schemaVersion": 2, "manifests": [descriptor()] * 1001},
    ],
)
def test_manifest_of_wrong_types_is_refused(value: object) -> None:
    with pytest.raises(DamagedDocument):
        manifest.parse(encoded(value), what="m")


def test_media_type_other_than_announced_is_refused() -> None:
    with pytest.raises(DamagedDocument, match="announced"):
        manifest.parse(
            encoded(manifest_value(mediaType=OCI_MANIFEST)), media_type=DOCKER_MANIFEST, what="m"
        )


def test_manifest_longer_than_four_mebibytes_is_refused() -> None:
    content = encoded(manifest_value()) + b" " * (4 << 20)

    with pytest.raises(DamagedDocument, match="longer"):
        manifest.parse(content, what="m")


def test_config_longer_than_eight_mebibytes_is_refused() -> None:
    content = encoded(config_value()) + b" " * (8 << 20)

    with pytest.raises(DamagedDocument, match="longer"):
        imageconfig.parse(content)


@pytest.mark.parametrize("parse", [lambda b: manifest.parse(b, what="m"), imageconfig.parse])
def test_document_nested_too_deep_is_refused(parse: Any) -> None:
    with pytest.raises(DamagedDocument, match="deeper"):
        parse(b"[" * 200_000 + b"]" * 200_000)


def test_image_config_is_an_allow_list() -> None:
    value = config_value(
        Env=["A=1"], Cmd=["sh"], Entrypoint=None, User="me", WorkingDir="/w",
        Volumes={"/data": {}}, ExposedPorts={"80/tcp": {}}, StopSignal="SIGINT",
        Labels={"k": "v"}, Shell=["/bin/bash"], OnBuild=["RUN x"],
        Healthcheck={"Test": ["CMD", "true"], "Interval": 5, "Retries": 2},
        Runtime="/evil", Hooks={"prestart": "/evil"}, Hostname="x",
    )  # fmt: skip

    made = imageconfig.parse(encoded(value))

    assert made.config == ImageConfig(
        env=("A=1",),
        cmd=("sh",),
        user="me",
        working_dir="/w",
        volumes=("/data",),
        exposed_ports=("80/tcp",),
        stop_signal="SIGINT",
        labels=(("k", "v"),),
        shell=("/bin/bash",),
        on_build=("RUN x",),
        healthcheck=Healthcheck(test=("CMD", "true"), interval_ns=5, retries=2),
    )
    assert b"evil" not in json.dumps(made.config.document()).encode()


def test_image_config_survives_writing_and_reading() -> None:
    document = ImageDocument(
        architecture="arm64",
        os="linux",
        variant="v8",
        author="someone",
        config=ImageConfig(env=("A=",), cmd=(), entrypoint=("x", ""), labels=(("a", "ü"),)),
        diff_ids=(A, B),
        history=(History(created_by="step", empty_layer=True),),
    )

    assert imageconfig.parse(document.encode()) == document


@pytest.mark.parametrize(
    "config",
    [
        {"Env": "A=1"}, {"Env": [1]}, {"Env": ["A=\0"]}, {"Env": {}}, {"Cmd": "sh"},
        {"Cmd": [None]}, {"Entrypoint": {}}, {"User": 3}, {"WorkingDir": []}, {"Volumes": []},
        {"ExposedPorts": "80"}, {"Labels": {"a": 1}}, {"Labels": []}, {"StopSignal": 15},
        {"Healthcheck": []}, {"Healthcheck": {"Test": "x"}}, {"Healthcheck": {"Retries": -1}},
        {"Healthcheck": {"Interval": 1.5}}, {"Healthcheck": {"Timeout": True}},
        {"Env": ["\ud800"]},
    ],
)  # fmt: skip
def test_image_config_of_wrong_types_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(DamagedDocument):
        imageconfig.parse(encoded(config_value(**config)))


@pytest.mark.parametrize(
    "changes",
    [
        {"rootfs": None},
        {"rootfs": []},
        {"rootfs": {"diff_ids": {}}},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": [A] * 501}},
        {"architecture": 1},
        {"os": []},
        {"created": 0},
        {"history": {}},
        {"history": [None]},
        {"history": [{"empty_layer": 1}]},
        {"config": []},
    ],
)
def test_image_document_of_wrong_types_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DamagedDocument):
        imageconfig.parse(encoded({**config_value(), **changes}))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "config", "layers", "manifests", "mediaType", "digest", "size",
                 "rootfs", "diff_ids", "Env", "Labels", "history", "Healthcheck"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(JSON)
def test_any_json_is_a_document_or_refused(value: object) -> None:
    for parse in (lambda b: manifest.parse(b, what="m"), imageconfig.parse):
        try:
            parse(encoded(value))
        except DamagedDocument:
            continue
