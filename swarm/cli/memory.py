"""`swarm memory`: what the swarm remembers, its upkeep, and quarantine of what an agent wrote."""

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from cluster import quarantine as quarantines
from cluster.quarantine import Quarantined
from cluster.settings import Settings
from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer, show_table
from swarm.errors import Refused
from swarm.memory_view import MemoryItem, MemoryKind, MemorySearch, MetadataValue

LINE_CHARS = 60
app = typer.Typer(name="memory", help="What the swarm remembers.", no_args_is_help=True)

Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Such as shared/notes.")]
Item = Annotated[str, typer.Argument(metavar="ITEM", help="The item's own name.")]
Below = Annotated[str, typer.Argument(metavar="NAMESPACE", help="All below it as well.")]
Base = Annotated[
    int | None, typer.Option("--base", min=0, help="The version that you saw; 0 for none.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]
Kind = Annotated[MemoryKind, typer.Option("--kind", help="session, episodic or semantic.")]
Within = Annotated[
    list[str] | None, typer.Option("--in", metavar="NAMESPACE", help="Where; may be repeated.")
]
Meta = Annotated[
    list[str] | None,
    typer.Option("--meta", metavar="KEY=VALUE", help="Of its metadata; may be repeated."),
]
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Since = Annotated[
    datetime | None, typer.Option("--since", formats=TIMES, help="Written then or later; in UTC.")
]
Before = Annotated[
    datetime | None, typer.Option("--before", formats=TIMES, help="Written earlier; in UTC.")
]
Author = Annotated[
    str | None, typer.Option("--author", metavar="AGENT", help="Who wrote it: coder/coder-1.")
]
InRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Written in this run.")]


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    for command in (write, read, delete, search, export, reindex, rebuild, quarantine, release):
        app.command()(command)
    app.command(name="list")(list_)
    parent.add_typer(app)


def write(
    namespace: Namespace,
    item: Item,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What it says.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", exists=True, dir_okay=False, help="What it says, from a file."),
    ] = None,
    base: Base = None,
    kind: Kind = "semantic",
    ttl: Annotated[int | None, typer.Option("--ttl", min=1, help="Life in seconds.")] = None,
    meta: Meta = None,
    reason: Reason = "",
) -> None:
    """Write the next version of an item."""
    if (text is None) == (file is None):
        raise Refused("Give either a text or --file.")
    content = text if file is None else file.read_text(encoding="utf-8")
    metadata = _metadata(meta)

    async def put() -> MemoryItem:
        async with await local_swarm() as swarm:
            return await swarm.memory.write(
                *(namespace, item, content or ""),
                base=base,
                kind=kind,
                metadata=metadata,
                ttl_s=ttl,
                reason=reason,
            )

    written = asyncio.run(put())
    printer().print(harmless(f"{_name(written)} is at version {written.version}."))


def read(namespace: Namespace, item: Item, *, as_json: Json = False) -> None:
    """Print an item; where it is from goes to standard error."""

    async def get() -> MemoryItem:
        async with await local_swarm() as swarm:
            return await swarm.memory.read(namespace, item)

    found = asyncio.run(get())
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    worse = " A part of the memory is away: this may not be the last version."
    printer(to_stderr=True).print(
        harmless(
            f"Version {found.version}, by {found.author}, {found.written_at:%Y-%m-%d %H:%M:%S}Z."
            + (worse if found.degraded else "")
        )
    )
    typer.echo(harmless(found.content))


def delete(namespace: Namespace, item: Item, *, base: Base = None, reason: Reason = "") -> None:
    """Delete an item."""

    async def drop() -> None:
        async with await local_swarm() as swarm:
            await swarm.memory.delete(namespace, item, base=base, reason=reason)

    asyncio.run(drop())
    printer().print(harmless(f"{namespace}/{item} is deleted."))


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is to be about.")],
    *,
    within: Within = None,
    author: Author = None,
    run: InRun = None,
    since: Since = None,
    before: Before = None,
    meta: Meta = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 10,
    as_json: Json = False,
) -> None:
    """Find what is about a text, the best first."""
    metadata = _metadata(meta)

    async def ask() -> MemorySearch:
        async with await local_swarm() as swarm:
            return await swarm.memory.search(
                *(text, within or None),
                author=author,
                run=run,
                since=_utc(since),
                before=_utc(before),
                metadata=metadata,
                limit=limit,
            )

    result = asyncio.run(ask())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    rows = [
        (f"{each.score:.4f}", _name(each.item), str(each.item.version), _line(each.item))
        for each in result.found
    ]
    show_table(("score", "item", "version", "content"), rows, "Nothing is about that.")
    if result.degraded:
        printer(to_stderr=True).print("Searched by words only: the vector index is away.")


def list_(namespace: Below = "shared", *, as_json: Json = False) -> None:
    """Show the items of a namespace and of all below it."""

    async def collect() -> list[MemoryItem]:
        async with await local_swarm() as swarm:
            return [item async for item in swarm.memory.list(namespace)]

    items = asyncio.run(collect())
    if as_json:
        print_json([item.model_dump(mode="json") for item in items])
        return
    rows = [(_name(item), str(item.version), item.kind, item.author, _line(item)) for item in items]
    show_table(("item", "version", "kind", "by", "content"), rows, "Nothing is there.")


def export(namespace: Below = "shared") -> None:
    """Print every item of a namespace and of all below it, one JSON object a line."""

    async def pass_on() -> None:
        async with await local_swarm() as swarm:
            async for line in swarm.memory.export(namespace):
                sys.stdout.write(f"{line}\n")

    asyncio.run(pass_on())


def reindex() -> None:
    """Make the vector index and the sessions anew, from Postgres."""

    async def ask() -> int:
        async with await local_swarm() as swarm:
            return await swarm.memory.reindex()

    printer().print(f"{asyncio.run(ask())} items are being indexed anew.")


def rebuild() -> None:
    """Make all of the memory anew, from the audit log."""

    async def ask() -> None:
        async with await local_swarm() as swarm:
            await swarm.memory.rebuild()

    asyncio.run(ask())
    printer().print("The memory was made anew; its index follows.")


def quarantine(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Such as coder/coder-1.")],
    *,
    since: Annotated[str, typer.Option("--since", metavar="EVENT", help="The id of an event.")],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Hide what an agent wrote from an event on, and all that was derived from it."""
    done = asyncio.run(quarantines.quarantine(Settings.load(), agent, since, reason=reason))
    _say(done, as_json=as_json)
    if not as_json:
        printer().print(harmless(f"Undo it with: swarm memory release {done.event}"))


def release(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The id of the quarantine.")],
    *,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show again what a quarantine hid."""
    _say(asyncio.run(quarantines.release(Settings.load(), event, reason=reason)), as_json=as_json)


def _say(done: Quarantined, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    what = f"What {done.agent} wrote from place {done.since} of the log on"
    if done.items is None:
        printer().print(harmless(f"{what}: on record; the memory has not looked at it yet."))
    else:
        printer().print(harmless(f"{what}: {done.items} items are hidden by this quarantine."))


def _name(item: MemoryItem) -> str:
    return f"{item.namespace}/{item.item}"


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _metadata(meta: list[str] | None) -> dict[str, MetadataValue]:
    """What the options say: a number, true, false or null as such, the rest as text."""
    metadata: dict[str, MetadataValue] = {}
    for each in meta or ():
        key, equals, text = each.partition("=")
        if not equals or not key:
            raise Refused("Give --meta as KEY=VALUE.")
        metadata[key] = _value(text)
    return metadata


def _value(text: str) -> MetadataValue:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not isfinite(value):
        return text
    return value if value is None or isinstance(value, str | int | float) else text


def _line(item: MemoryItem) -> str:
    text = " ".join(item.content.split())
    return text if len(text) <= LINE_CHARS else f"{text[:LINE_CHARS]}…"
