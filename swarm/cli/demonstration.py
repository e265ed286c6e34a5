"""`swarm demo`: start, do a job, show the audit, stop; nothing is left, whenever it is stopped."""

import asyncio
import signal
from typing import Annotated, Final

import typer

from cluster.errors import AlreadyRunning
from cluster.settings import Settings
from swarm.cli.lifecycle import Model, settings_with, start, stop
from swarm.cli.runs import do_run
from swarm.cli.show import printer

OBJECTIVE: Final = "Design a rate limiter for a public HTTP API"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="demo")(demo)


def demo(
    objective: Annotated[str, typer.Argument(help="What is wanted.")] = OBJECTIVE,
    *,
    model: Model = None,
) -> int:
    """Start a swarm, let it do a job, show the audit, and stop it again."""
    return asyncio.run(_demo(objective, settings_with(model)))


async def _demo(objective: str, settings: Settings) -> int:
    _end_on_signals()
    err = printer(to_stderr=True)
    try:
        await start(settings)
    except AlreadyRunning:
        err.print("A swarm is running here already: it does the job, and is left running.")
        return await do_run(objective, "sparc", None)
    try:
        err.print(f'$ swarm run "{objective}"')
        return await do_run(objective, "sparc", None)
    finally:
        await stop(settings)


def _end_on_signals() -> None:
    """Let what ends a terminal session end the demonstration as Ctrl-C does."""
    task = asyncio.current_task()
    if task is None:
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
