"""`swarm fork`: branch off from a run, and see what came of it."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from swarm.cli.connection import local_swarm
from swarm.cli.difference import Answers, answers_of, compare_answers, compare_texts, name_of
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer
from swarm.cli.steps import step_line
from swarm.errors import WaitTimeout
from swarm.run import AsyncRun
from swarm.view import Forked, RunEvent, RunStatus

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run to branch off from.")]
At = Annotated[
    str,
    typer.Option("--at", metavar="EVENT", help="The last event that both share: id or place."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="objective, priority, deadline_s, budget_tokens, or STEP.FIELD=JSON of an answer.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt-file", metavar="STEP=FILE", help="What to tell a step besides its prompt."
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Until it has ended; then the difference.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.1, help="Seconds to wait.")]
_PLAIN = frozenset({"objective", "priority"})
_MAX_PROMPT_CHARS = 1 << 20


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="fork")(fork)


def fork(
    run_id: RunId,
    *,
    at: At,
    changes: Set = None,
    prompt_files: Prompts = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Start a run that is the same as another up to an event, with changes from there."""
    values = dict(map(_value, changes or ()))
    instructions = dict(map(_prompt, prompt_files or ()))
    forking = _fork(run_id, at, values, instructions, timeout_s=timeout, wait=wait, as_json=as_json)
    return asyncio.run(forking)


async def _fork(
    run_id: str,
    at: str,
    values: dict[str, JsonValue],
    instructions: dict[str, str],
    *,
    timeout_s: float | None,
    wait: bool,
    as_json: bool,
) -> int:
    async with await local_swarm() as swarm:
        parent = swarm.run(run_id)
        forked = await parent.fork(at, set=values, instructions=instructions)
        told = forked.forked
        document: dict[str, object] = {}
        if told is not None:
            document = told.model_dump(mode="json")
            _show_fork(told, to_stderr=as_json)
        status = await _wait(forked, timeout_s) if wait else None
        if status is not None:
            document |= await _differences(parent, forked, status, show=not as_json)
    if as_json:
        print_json(document)
    return 0 if status is None or status.status == "completed" else 1


def _show_fork(told: Forked, *, to_stderr: bool) -> None:
    out = printer(to_stderr=to_stderr)
    out.print(f"Run {told.id}, a fork of {told.parent} at {told.at}")
    for each in told.shared:
        word = "changed" if each.changed else "shared"
        out.print(f"  {word:<8} {name_of(each.step, each.iteration, each.item)}")
    for value in told.changed:
        was, now = (json.dumps(each, ensure_ascii=False) for each in (value.was, value.now))
        out.print(harmless(f"  {value.name}: {was} -> {now}"))


async def _wait(run: AsyncRun, timeout_s: float | None) -> RunStatus:
    """Watch a run to its end.

    Raises:
        WaitTimeout: it has not ended in time; it goes on.
    """
    err = printer(to_stderr=True)
    try:
        async with asyncio.timeout(timeout_s), aclosing(run.events()) as following:
            async for event in following:
                line = step_line(event)
                if line is not None:
                    err.print(harmless(line))
    except TimeoutError as error:
        raise WaitTimeout(f"Run {run.id} has not ended within {timeout_s:g} s.") from error
    return await run.status()


async def _differences(
    parent: AsyncRun, forked: AsyncRun, status: RunStatus, *, show: bool
) -> dict[str, object]:
    """What the two made of it, as far as the parent has come."""
    was = await parent.status()
    both = await _answers(parent, was), await _answers(forked, status)
    parts, lines = compare_answers(*both), list(compare_texts(was, status, *both))
    if show:
        out = printer()
        out.print(f"Run {was.id} {was.status}, run {status.id} {status.status}")
        for part in parts:
            out.print(f"  {part.name:<18} {part.verdict}")
        _show_diff(lines)
    return {
        "status": status.status,
        "parent_status": was.status,
        "steps": {part.name: part.verdict for part in parts},
        "diff": lines,
    }


def _show_diff(lines: Sequence[str]) -> None:
    out = printer()
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        out.print(harmless(line), style=styles.get(line[:1]))


async def _answers(run: AsyncRun, status: RunStatus) -> Answers:
    """The answers of a run up to where its status was asked for; it may go on."""
    seen: list[RunEvent] = []
    async with aclosing(run.events()) as following:
        async for event in following:
            seen.append(event)
            if event.stream_sequence >= status.stream_sequence:
                break
    return answers_of(seen)


def _value(text: str) -> tuple[str, JsonValue]:
    """KEY=VALUE; the value is JSON, or else the text as it stands."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text[:64]!r} is not KEY=VALUE")
    if name in _PLAIN:
        return name, value
    try:
        parsed: JsonValue = json.loads(value)
    except ValueError:
        return name, value
    return name, parsed


def _prompt(text: str) -> tuple[str, str]:
    """STEP=FILE; what the file holds."""
    step, separator, path = text.partition("=")
    if not separator or not step:
        raise typer.BadParameter(f"{text[:64]!r} is not STEP=FILE")
    try:
        with Path(path).open(encoding="utf-8") as file:
            return step, file.read(_MAX_PROMPT_CHARS)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error
