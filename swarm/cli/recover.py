"""`swarm recover`."""

import asyncio
import time
from typing import Final

import typer

from cluster import recovery
from cluster.recover import Recovered
from cluster.settings import Settings
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer

NAMED: Final = 10
"""Lost events that are named; all are counted."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="recover")(recover)


def recover(*, as_json: Json = False) -> int:
    """Refill the streams of a stopped swarm from the audit log, where they have lost something.

    Can be run again after any interruption.
    """
    settings = Settings.load()
    printer(to_stderr=True).print(
        f"Comparing the stream in {settings.located_home().root} with the audit log"
    )
    began = time.monotonic()
    done = asyncio.run(recovery.recover(settings))
    if as_json:
        print_json(document(done))
    else:
        for line in lines(done, time.monotonic() - began):
            printer().print(harmless(line))
    return 1 if done.gone else 0


def lines(done: Recovered, seconds: float) -> list[str]:
    """What a recovery did, for people."""
    whole = f"The stream has everything that the audit log has. ({seconds:.1f} s)"
    if done.was_whole:
        return [whole]
    return [*_events(done), f"Objects put back: {done.objects}", *_gone(done), whole]


def _events(done: Recovered) -> list[str]:
    found = [f"Lost events: {len(done.lost)}"]
    found += [f"  {lost}" for lost in done.lost[:NAMED]]
    found += ["  ..."] if len(done.lost) > NAMED else []
    found += ["An earlier recovery had been interrupted."] if done.interrupted else []
    rate = done.refilled / done.seconds if done.seconds else 0.0
    return [
        *found,
        f"Events put back: {done.refilled}, in {done.seconds:.1f} s ({rate:.0f}/s)",
        f"Events that only the stream had, kept behind them: {done.survivors}",
    ]


def _gone(done: Recovered) -> list[str]:
    if not done.gone:
        return []
    named = [f"  {owed}" for owed in done.gone[:NAMED]]
    named += ["  ..."] if len(done.gone) > NAMED else []
    return [f"Objects that the audit log has lost as well: {len(done.gone)}", *named]


def document(done: Recovered) -> dict[str, object]:
    """The same as a document."""
    return {
        "whole": done.was_whole,
        "lost": [
            {
                "stream_sequence": lost.stream_sequence,
                "sender": lost.sender,
                "sequence": lost.sequence,
                "how": lost.how,
            }
            for lost in done.lost
        ],
        "interrupted": done.interrupted,
        "refilled": done.refilled,
        "survivors": done.survivors,
        "objects": done.objects,
        "gone": [
            {"leaf_index": owed.leaf_index, "run": owed.run, "digest": owed.reference.digest}
            for owed in done.gone
        ],
        "seconds": round(done.seconds, 3),
    }
