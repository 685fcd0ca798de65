"""``ps``: list containers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.container import Container
    from ...engine.publishing import Port
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each container, the newest first."""
    from ..output import write

    options = call.options
    if not (options.get("filter") or options.get("size") or "format" in options):
        return _quickly(call)
    found = _chosen(call)
    if options.get("quiet") and "format" not in options:
        cut = 64 if options.get("no_trunc") else 12
        write("".join(f"{container.id[:cut]}\n" for container in found))
        return 0
    # From here on it is for eyes; `ps -q` does not pay for templates and tables.
    from .. import containerrows, containerview, listing

    text = options.get("format", "table")
    template = None if listing.is_table(text) and text == "table" else listing.parse_format(text)
    named = template.fields() if template is not None else set()
    with_size = bool(options.get("size")) or bool(named & {"Size", "."})
    views = [
        containerview.ContainerView(
            container, truncated=not options.get("no_trunc"), with_size=with_size
        )
        for container in found
    ]
    columns = (*containerrows.COLUMNS, "Size") if with_size else containerrows.COLUMNS
    write(listing.shown(views, text, columns, containerrows.HEADINGS))
    return 0


def _quickly(call: Call) -> int:
    """The usual list, from what is kept of containers that have not changed."""
    # Without the engine, whose import costs as much as looking at a thousand containers.
    from ...engine.summary import summaries
    from ..output import write

    options = call.options
    last = 1 if options.get("latest") else options.get("last", -1)
    found = summaries(call.paths, all=bool(options.get("all")) or last > 0)
    if last > 0:
        found = found[:last]
    if options.get("quiet"):
        cut = 64 if options.get("no_trunc") else 12
        write("".join([f"{each.id[:cut]}\n" for each in found]))
        return 0
    # For eyes: `ps -q` does not pay for tables.
    from .. import containerrows, output

    def health_of(container_id: str) -> str:
        checked = call.engine.container(container_id).health()
        return "" if checked is None else checked.status

    def ports_of(container_id: str) -> tuple[Port, ...]:
        return call.engine.ports_of(container_id)

    truncated = not options.get("no_trunc")
    rows = containerrows.default_rows(found, health_of, ports_of, truncated=truncated)
    write(output.table(rows))
    return 0


def _chosen(call: Call) -> list[Container]:
    options = call.options
    last = 1 if options.get("latest") else options.get("last", -1)
    texts = options.get("filter", ())
    filters: dict[str, list[str]] = {}
    if texts:
        from ..containerview import FILTERS, parse_filters

        filters = parse_filters(texts, FILTERS)
    everything = bool(options.get("all")) or last > 0 or "status" in filters
    found = list(call.engine.containers(all=everything))
    if filters:
        from ..containerview import select

        found = select(call.engine, found, filters)
    return found[:last] if last > 0 else found
