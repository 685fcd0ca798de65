"""Container names, taken by exclusive creation.

``names/<name>`` is a symbolic link whose text is the container's id: one
system call takes a name together with its owner, and two takers have exactly
one winner.
"""

from __future__ import annotations

import os

from ..errors import NameInUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..paths import Paths

_LEFT = (
    "agile amber azure bold brave bright brisk calm candid clever cosmic crisp curious daring "
    "deft eager earnest elegant fair fearless fluent frank gentle golden grand happy hardy "
    "honest humble jolly keen kind lively lucid lunar mellow merry mild modest nimble noble "
    "patient placid plucky polite proud quick quiet rapid ready serene sharp silent silver "
    "sincere solid steady stoic sturdy subtle sunny swift tidy tranquil trusty upbeat valiant "
    "vivid warm wise witty zesty"
).split()
_RIGHT = (
    "abel agnesi archimedes babbage banach bardeen bernoulli bohr boole borg brahe cantor "
    "carson cerf church clarke codd curie darwin dijkstra dirac edison einstein engelbart "
    "euclid euler faraday fermat fermi feynman franklin galileo galois gauss germain goedel "
    "goldberg gould hamilton hawking heisenberg hilbert hodgkin hopper hypatia jepsen johnson "
    "joliot kalam kepler knuth kovalevskaya lamarr lamport leakey liskov lovelace mccarthy "
    "meitner mendel mirzakhani morse napier newton nobel noether panini pascal pasteur payne "
    "perlman pike planck poincare ptolemy ramanujan ride ritchie rosalind shannon sinoussi "
    "tesla thompson torvalds turing villani volhard wescoff wilson wright yalow yonath"
).split()


def take(paths: Paths, name: str, container_id: str) -> None:
    """Take the name, or raise `NameInUse` with its owner."""
    path = f"{paths.names}/{name}"
    while True:
        try:
            os.symlink(container_id, path)
        except FileExistsError:
            found = owner(paths, name)
            if found is None:
                continue
            if not os.path.lexists(paths.container(found)):
                # Its container is gone: a removal was interrupted here.
                _release(path)
                continue
            raise NameInUse(name, found) from None
        return


def take_any(paths: Paths, container_id: str) -> str:
    """Take a free name of our own making."""
    number = 0
    while True:
        first, second, third = os.urandom(3)
        name = f"{_LEFT[first % len(_LEFT)]}_{_RIGHT[second % len(_RIGHT)]}"
        if number > 4:
            name += str(third % (10 ** min(number - 4, 6)))
        try:
            take(paths, name, container_id)
        except NameInUse:
            number += 1
            continue
        return name


def owner(paths: Paths, name: str) -> str | None:
    """The id of the container that has the name."""
    try:
        return os.readlink(f"{paths.names}/{name}")
    except (FileNotFoundError, OSError):
        return None


def release(paths: Paths, name: str, container_id: str) -> None:
    """Give a name back, if it is this container's."""
    if name and owner(paths, name) == container_id:
        _release(f"{paths.names}/{name}")


def release_all(paths: Paths, container_id: str) -> None:
    """Give back whatever name points to this container; for one whose document says none."""
    for name in os.listdir(paths.names):
        release(paths, name, container_id)


def _release(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
