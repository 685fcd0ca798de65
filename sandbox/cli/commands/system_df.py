"""``system df``: what images, containers and volumes take of the disk, as du counts it."""

from __future__ import annotations

from .. import listing, output, times
from ..containerview import ContainerView
from ..errors import Failure
from ..imageview import NONE, short_id
from ..template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.usage import Usage
    from ..main import Call

HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def run(call: Call) -> int:
    """Print a line for each kind of thing, or with ``-v`` for each thing."""
    form = call.options.get("format", "")
    found = call.engine.usage()
    if call.options.get("verbose"):
        if form:
            raise Failure("the verbose and the format options conflict")
        output.write(_verbose(found))
        return 0
    rows = _rows(found)
    output.write(listing.shown(rows, form or "table", tuple(HEADINGS), HEADINGS))
    return 0


class Row(View):
    """One kind of thing."""

    type_name = "*formatter.diskUsageContext"
    names = tuple(HEADINGS)

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        share = f" ({100 * reclaimable // size}%)" if size else ""
        self._values = {
            "Type": kind,
            "TotalCount": str(total),
            "Active": str(active),
            "Size": output.size(size, digits=4),
            "Reclaimable": output.size(reclaimable, digits=4) + share,
        }

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        return self._values[name]


def _rows(found: Usage) -> list[Row]:
    return [
        Row(
            "Images",
            len(found.images),
            sum(1 for each in found.images if each.containers),
            found.image_bytes,
            found.reclaimable_image_bytes,
        ),
        Row(
            "Containers",
            len(found.containers),
            sum(1 for each in found.containers if each.is_live),
            sum(each.bytes for each in found.containers),
            sum(each.bytes for each in found.containers if not each.is_live),
        ),
        Row(
            "Local Volumes",
            len(found.volumes),
            sum(1 for each in found.volumes if each.links),
            sum(each.bytes for each in found.volumes),
            sum(each.bytes for each in found.volumes if not each.links),
        ),
        Row("Build Cache", 0, 0, 0, 0),
    ]


def _verbose(found: Usage) -> str:
    images = [
        "REPOSITORY|TAG|IMAGE ID|CREATED|SIZE|SHARED SIZE|UNIQUE SIZE|CONTAINERS".split("|"),
    ]
    for usage in found.images:
        image = usage.image
        for name in image.names or (f"{NONE}:{NONE}",):
            repository, _, tag = name.rpartition(":")
            created = times.ago(times.parse_timestamp(image.created))
            sizes = [
                usage.shared_bytes + usage.unique_bytes,
                usage.shared_bytes,
                usage.unique_bytes,
            ]
            images.append(
                [repository, tag, short_id(image.id), created]
                + [output.size(size, digits=4) for size in sizes]
                + [str(usage.containers)]
            )
    containers = [
        "CONTAINER ID|IMAGE|COMMAND|LOCAL VOLUMES|SIZE|CREATED|STATUS|NAMES".split("|"),
    ]
    for each in found.containers:
        view = ContainerView(each.container, truncated=True, with_size=False)
        texts = {"Size": output.size(each.bytes)}
        names = "ID Image Command LocalVolumes Size RunningFor Status Names".split()
        containers.append([texts.get(name) or str(view.field(name)) for name in names])
    volumes = ["VOLUME NAME|LINKS|SIZE".split("|")]
    volumes += [
        [each.volume.name, str(each.links), output.size(each.bytes)] for each in found.volumes
    ]
    return (
        f"Images space usage:\n\n{output.table(images)}\n"
        f"Containers space usage:\n\n{output.table(containers)}\n"
        f"Local Volumes space usage:\n\n{output.table(volumes)}\n"
        "Build cache usage: 0B\n\n"
        "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n"
    )
