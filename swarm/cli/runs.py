"""`swarm run`, `swarm runs` and `swarm events`."""

import asyncio
import sys
import time
from contextlib import aclosing, suppress
from typing import Annotated

import typer

from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import printer, show_result, show_runs, show_step, show_summary
from swarm.errors import NotReachable, Unavailable, WaitTimeout
from swarm.run import AsyncRun
from swarm.view import AuditSummary, Priority, RunStatus

FROM_STDIN = "-"
AUDIT_DEADLINE_S = 30.0
AUDIT_POLL_S = 0.1
_OBJECTIVE_LIMIT = 1 << 21

Objective = Annotated[str, typer.Argument(help="What is wanted, in plain words; - reads stdin.")]
Workflow = Annotated[str, typer.Option("--workflow", help="How to go about it.")]
RunModel = Annotated[str | None, typer.Option("--model", help="Refuse if it is not this one.")]
RunPriority = Annotated[Priority, typer.Option("--priority", help="Which work is taken first.")]
Deadline = Annotated[
    float | None, typer.Option("--deadline", min=0.1, help="Seconds after which the run fails.")
]
Budget = Annotated[
    int | None,
    typer.Option("--budget-tokens", min=1, help="Tokens after which the run is stopped."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.1, help="Seconds to wait.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(name="run")(run)
    app.command(name="runs")(runs)
    app.command(name="events")(events)


def run(
    objective: Objective,
    *,
    workflow: Workflow = "sparc",
    model: RunModel = None,
    priority: RunPriority = "normal",
    deadline: Deadline = None,
    budget_tokens: Budget = None,
    as_json: Json = False,
    timeout: Timeout = None,
) -> int:
    """Give the swarm a job, watch it, and print the result and its audit."""
    if objective == FROM_STDIN:
        objective = sys.stdin.read(_OBJECTIVE_LIMIT)
    return asyncio.run(
        do_run(
            objective,
            workflow,
            model,
            priority=priority,
            deadline_s=deadline,
            budget_tokens=budget_tokens,
            as_json=as_json,
            timeout_s=timeout,
        )
    )


def runs(*, limit: Limit = 20, as_json: Json = False) -> None:
    """Show the newest runs and how they stand."""
    asyncio.run(_runs(limit, as_json=as_json))


def events(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    *,
    as_json: Json = False,
) -> None:
    """Print the events of a run, until it has ended."""
    asyncio.run(_events(run_id, as_json=as_json))


async def do_run(
    objective: str,
    workflow: str,
    model: str | None,
    *,
    priority: Priority = "normal",
    deadline_s: float | None = None,
    budget_tokens: int | None = None,
    as_json: bool = False,
    timeout_s: float | None = None,
) -> int:
    """Submit, watch, show; 0 if the run completed, 1 if it ended otherwise or took too long.

    Raises:
        NotReachable, Unavailable: no swarm is running, or it went away and did not come back.
        Refused: the objective, workflow or model is not accepted.
        WaitTimeout: the run has not ended in time; it goes on.
    """
    err = printer(to_stderr=True)
    async with await local_swarm() as swarm:
        began = time.monotonic()
        handle = await swarm.submit(
            objective,
            workflow=workflow,
            model=model,
            priority=priority,
            deadline_s=deadline_s,
            budget_tokens=budget_tokens,
        )
        err.print(f"Run {handle.id}, workflow {workflow}")
        try:
            async with asyncio.timeout(timeout_s):
                seen = await _watch(handle)
                status = await handle.wait()
        except TimeoutError as error:
            raise WaitTimeout(
                f"Run {handle.id} has not ended within {timeout_s:g} s; it goes on."
            ) from error
        except (NotReachable, Unavailable) as error:
            raise type(error)(
                f"{error} Run {handle.id} is kept, and goes on once the swarm is back;"
                f" watch it with: swarm events {handle.id}"
            ) from error
        seconds = time.monotonic() - began
        audit = await complete_audit(handle, seen)
        if as_json:
            print_json(_document(status, seconds, audit))
        else:
            show_result(status)
            show_summary(status, seconds, audit)
    return 0 if status.status == "completed" else 1


async def complete_audit(run: AsyncRun, events: int) -> AuditSummary | None:
    """What the audit log has of a run, once it has that many events; None if it lags too far.

    A gateway that is away meanwhile takes no result from who waited for the run.
    """
    try:
        async with asyncio.timeout(AUDIT_DEADLINE_S):
            while True:
                with suppress(NotReachable, Unavailable):
                    audit = await run.audit()
                    if audit.events >= events:
                        return audit
                await asyncio.sleep(AUDIT_POLL_S)
    except TimeoutError:
        return None


async def _watch(run: AsyncRun) -> int:
    """Print a run's steps as they happen; how many events it had when it ended."""
    seen = 0
    async with aclosing(run.events()) as following:
        async for event in following:
            seen += 1
            show_step(event)
    return seen


async def _runs(limit: int, *, as_json: bool) -> None:
    async with await local_swarm() as swarm:
        newest = await swarm.runs(limit)
    if as_json:
        print_json([run.model_dump(mode="json") for run in newest])
    else:
        show_runs(newest)


async def _events(run_id: str, *, as_json: bool) -> None:
    out = printer()
    async with (
        await local_swarm() as swarm,
        aclosing(swarm.run(run_id).events()) as following,
    ):
        async for event in following:
            if as_json:
                typer.echo(event.model_dump_json())
            else:
                source = event.source or "refused"
                out.print(
                    f"{event.stream_sequence:>8} {event.stored_at:%H:%M:%S.%f} "
                    f"{source:<32} {event.type} {event.code or ''}"
                )


def _document(status: RunStatus, seconds: float, audit: AuditSummary | None) -> dict[str, object]:
    return {
        **status.model_dump(mode="json"),
        "seconds": round(seconds, 3),
        "audit": None if audit is None else audit.model_dump(mode="json"),
    }
