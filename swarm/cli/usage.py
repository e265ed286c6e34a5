"""`swarm usage`."""

import asyncio
from datetime import datetime
from typing import Annotated, Final, get_args

import typer

from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import printer, show_table
from swarm.client import AsyncSwarm
from swarm.errors import NotFound
from swarm.usage import EVERYBODY, UsagePart, UsageReport, UsageTotal

_PARTS: Final = get_args(UsagePart)

By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        help=f"What to tell totals apart by; may be repeated: {', '.join(_PARTS)}."
        " Day and model if left out.",
    ),
]
Whose = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Another user, or * for everybody; admins only."),
]
OfRun = Annotated[str | None, typer.Option("--run", help="One run only.")]
Since = Annotated[
    datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="The first day, in UTC.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="The last day, in UTC.")
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="usage")(usage)


def usage(
    *,
    by: By = None,
    user: Whose = None,
    run: OfRun = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Show what you used up of the models; by user, agent or run, and of others, if you may."""
    parts = _parts(by or ["day", "model"])

    async def ask() -> UsageReport:
        async with await local_swarm() as swarm:
            return await swarm.usage(
                parts,
                user=None if user is None else await _id_of(swarm, user),
                run=run,
                since=None if since is None else since.date(),
                until=None if until is None else until.date(),
            )

    report = asyncio.run(ask())
    if as_json:
        print_json(report.model_dump(mode="json", exclude_none=True))
        return
    heads = (*parts, "questions", "read", "written")
    nothing = f"Nothing was used up from {report.since} to {report.until}."
    show_table(heads, [_row(total, parts) for total in report.totals], nothing)
    _say_more(report)


def _parts(names: list[str]) -> list[UsagePart]:
    known: dict[str, UsagePart] = {part: part for part in _PARTS}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(_PARTS)}")
    return [known[name] for name in names]


def _row(total: UsageTotal, parts: list[UsagePart]) -> tuple[str, ...]:
    numbers = (total.questions, total.prompt_tokens, total.completion_tokens)
    return (*(str(getattr(total, part) or "") for part in parts), *(f"{n:,}" for n in numbers))


def _say_more(report: UsageReport) -> None:
    if not report.is_whole:
        printer().print("There are more: ask for fewer days.")
    budget = report.budget
    if budget is not None and budget.tokens_per_day is not None:
        printer().print(f"Today: {budget.used_today:,} of {budget.tokens_per_day:,} tokens.")


async def _id_of(swarm: AsyncSwarm, name: str) -> str:
    if name == EVERYBODY:
        return name
    for user in await swarm.people.users():
        if user.username.casefold() == name.casefold():
            return user.id
    raise NotFound(f"There is no user named {name}.")
