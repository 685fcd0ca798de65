from __future__ import annotations

import pytest

from sandbox.errors import UsageError
from sandbox.image.changes import apply, duration_ns
from sandbox.oci.imageconfig import Healthcheck, ImageConfig


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ('CMD ["a", "b c"]', ImageConfig(cmd=("a", "b c"))),
        ("cmd echo $X", ImageConfig(cmd=("/bin/sh", "-c", "echo $X"))),
        ("CMD [not json", ImageConfig(cmd=("/bin/sh", "-c", "[not json"))),
        ('ENTRYPOINT ["/init"]', ImageConfig(entrypoint=("/init",))),
        ("ENV A=1 B='x y'", ImageConfig(env=("A=1", "B=x y"))),
        ("ENV A some text", ImageConfig(env=("A=some text",))),
        ("LABEL a=b c=d", ImageConfig(labels=(("a", "b"), ("c", "d")))),
        ("EXPOSE 80 53/udp", ImageConfig(exposed_ports=("80/tcp", "53/udp"))),
        ("VOLUME /a /b", ImageConfig(volumes=("/a", "/b"))),
        ('VOLUME ["/a b"]', ImageConfig(volumes=("/a b",))),
        ("USER me:us", ImageConfig(user="me:us")),
        ("WORKDIR /x", ImageConfig(working_dir="/x")),
        ("STOPSIGNAL SIGQUIT", ImageConfig(stop_signal="SIGQUIT")),
        ("ONBUILD RUN x", ImageConfig(on_build=("RUN x",))),
        ("HEALTHCHECK NONE", ImageConfig(healthcheck=Healthcheck(test=("NONE",)))),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x",
            ImageConfig(
                healthcheck=Healthcheck(
                    test=("CMD-SHELL", "curl -f x"), interval_ns=90 * 10**9, retries=3
                )
            ),
        ),
    ],
)
def test_change_is_applied(change: str, config: ImageConfig) -> None:
    assert apply(ImageConfig(), [change]) == config


def test_later_change_replaces_a_variable_and_keeps_its_place() -> None:
    made = apply(ImageConfig(env=("A=1", "B=2")), ["ENV A=3"])

    assert made.env == ("A=3", "B=2")


@pytest.mark.parametrize(
    "change", ["", "CMD", "RUN x", "FROM x", "ENV A", "ENV A=1 B", "HEALTHCHECK x"]
)
def test_change_that_cannot_be_meant_is_refused(change: str) -> None:
    with pytest.raises(UsageError):
        apply(ImageConfig(), [change])


@pytest.mark.parametrize("text", ["", "1", "x", "1x", "1.2.3s", "s", "-1s"])
def test_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        duration_ns(text)
