"""`swarm cancel`, `pause`, `resume`, `retry`, `approvals`, `approve`, `deny`, `dead-letters`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer, show_approvals, show_dead_letters
from swarm.client import AsyncSwarm
from swarm.run import AsyncRun
from swarm.view import Approval, RunStatus

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="As in: swarm approvals.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]
NeededReason = Annotated[str, typer.Option("--reason", help="Why; the run fails with it.")]
Redrive = Annotated[
    str | None, typer.Option("--redrive", metavar="ID", help="Retry the run of this one.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (cancel, pause, resume, retry, approvals, approve, deny):
        app.command()(command)
    app.command(name="dead-letters")(dead_letters)


def cancel(run_id: RunId, *, reason: Reason = "") -> None:
    """End a run; what its agents work on is let go of."""
    asyncio.run(_control(run_id, lambda run: run.cancel(reason)))


def pause(run_id: RunId, *, reason: Reason = "") -> None:
    """Begin no further step of a run; what has begun goes on."""
    asyncio.run(_control(run_id, lambda run: run.pause(reason)))


def resume(run_id: RunId, *, reason: Reason = "") -> None:
    """Let a paused run go on."""
    asyncio.run(_control(run_id, lambda run: run.resume(reason)))


def retry(run_id: RunId, *, reason: Reason = "") -> None:
    """Take a failed run up again from the steps that failed."""
    asyncio.run(_control(run_id, lambda run: run.retry(reason)))


def approvals(*, as_json: Json = False) -> None:
    """Show the steps that wait for a person to let them begin."""
    asyncio.run(_approvals(as_json=as_json))


def approve(approval_id: ApprovalId, *, reason: Reason = "") -> None:
    """Let a step begin."""
    asyncio.run(_answer(lambda swarm: swarm.approve(approval_id, reason)))


def deny(approval_id: ApprovalId, *, reason: NeededReason) -> None:
    """Do not let a step begin; its run fails."""
    asyncio.run(_answer(lambda swarm: swarm.deny(approval_id, reason=reason)))


def dead_letters(*, as_json: Json = False, redrive: Redrive = None) -> None:
    """Show what agents gave up because nobody brought it to an end, or have one done again."""
    asyncio.run(_dead_letters(redrive, as_json=as_json))


async def _control(run_id: str, act: Callable[[AsyncRun], Awaitable[RunStatus]]) -> None:
    async with await local_swarm() as swarm:
        _say(await act(swarm.run(run_id)))


async def _approvals(*, as_json: bool) -> None:
    async with await local_swarm() as swarm:
        waiting = await swarm.approvals()
    if as_json:
        print_json([approval.model_dump(mode="json") for approval in waiting])
    else:
        show_approvals(waiting)


async def _answer(answer: Callable[[AsyncSwarm], Awaitable[Approval]]) -> None:
    async with await local_swarm() as swarm:
        approval = await answer(swarm)
    printer().print(
        harmless(
            f"Step {approval.step} of run {approval.run}: {approval.status} "
            f"by {approval.answered_by}"
        )
    )


async def _dead_letters(redrive: str | None, *, as_json: bool) -> None:
    async with await local_swarm() as swarm:
        if redrive is not None:
            _say(await swarm.redrive(redrive))
            return
        letters = await swarm.dead_letters()
    if as_json:
        print_json([letter.model_dump(mode="json") for letter in letters])
    else:
        show_dead_letters(letters)


def _say(status: RunStatus) -> None:
    """Where the run stands, and what it waits for."""
    cancelling = status.cancellation is not None and not status.ended
    word = "is being cancelled" if cancelling else f"is {status.status}"
    why = f": {status.waits_for.text}" if status.waits_for and not cancelling else ""
    printer().print(harmless(f"Run {status.id} {word}{why}"))
