"""`swarm replay`: make runs again from the log, without a model."""

import asyncio
from typing import Annotated

import typer

from actors.divergence import Divergence
from actors.errors import CannotReplay
from actors.replay import Replay, replay
from cluster.settings import Settings
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.reading import observed_log, read_run, read_runs
from swarm.cli.show import harmless, printer

EQUAL = 0
DIVERGED = 1
MaybeRun = Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id.")]
All = Annotated[bool, typer.Option("--all", help="Every run in the stream.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="replay")(replay_command)


def replay_command(run_id: MaybeRun = None, *, every: All = False, as_json: Json = False) -> int:
    """Make a run again from its log, without a model, and compare it step by step.

    The log is read from the broker itself, a run that was trimmed from the audit log; every
    signature is verified here.
    """
    if every == (run_id is not None):
        raise typer.BadParameter("name a run, or give --all")
    return asyncio.run(_replay(run_id, as_json=as_json))


def document_of(made: Replay) -> dict[str, object]:
    """A replay as `--json` prints it."""
    found = made.divergence
    return {
        "run": made.run,
        "status": made.status,
        "equal": made.is_equal,
        "events": len(made.steps),
        "decisions": made.count("decision"),
        "answers": made.count("answer"),
        "refused": made.count("refused"),
        "digest": made.digest,
        "divergence": None if found is None else _document(found),
    }


async def _replay(run_id: str | None, *, as_json: bool) -> int:
    made: list[Replay] = []
    erased = 0
    settings = Settings.load()
    async with observed_log(settings) as log:
        for run in await read_runs(log) if run_id is None else [run_id]:
            try:
                made.append(replay(await read_run(log, settings, run)))
            except CannotReplay:
                if run_id is not None:
                    raise
                erased += 1
                continue
            if not as_json:
                _show(made[-1], brief=run_id is None)
    diverged = sum(not each.is_equal for each in made)
    if as_json:
        documents = [document_of(each) for each in made]
        print_json(documents[0] if run_id is not None else documents)
    elif run_id is None:
        rest = f", {erased} erased" if erased else ""
        printer().print(f"{len(made)} runs: {len(made) - diverged} equal, {diverged} differ{rest}")
    return DIVERGED if diverged else EQUAL


def _show(made: Replay, *, brief: bool) -> None:
    out, found = printer(), made.divergence
    word = "equal" if found is None else "differs"
    counts = (
        f"{len(made.steps)} events, {made.count('decision')} decisions and "
        f"{made.count('answer')} answers made again"
    )
    if made.count("refused"):
        counts += f", {made.count('refused')} refused"
    out.print(f"Run {made.run or '?'}, {made.status}: {word}")
    if not brief or found is not None:
        out.print(f"  {counts}")
    if found is not None:
        event = f"{found.type or 'an unreadable event'} {found.event}"
        out.print(harmless(f"  first difference   {event}, place {found.stream_sequence}"))
        out.print(harmless(f"  the log holds      {found.recorded}"))
        out.print(harmless(f"  the replay makes   {found.remade}"))
    elif not brief:
        out.print(f"  digest {made.digest}")


def _document(found: Divergence) -> dict[str, object]:
    return {
        "event": found.event,
        "stream_sequence": found.stream_sequence,
        "type": found.type,
        "code": found.code,
        "recorded": found.recorded,
        "remade": found.remade,
    }
