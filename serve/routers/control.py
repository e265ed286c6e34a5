"""Control over runs: end one, hold it, let it go on, take it up again."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter

from bus.errors import PublishConflict
from bus.event import Draft
from policies.caller import Caller
from serve import control
from serve.access import Canceller, Controller, Parts
from serve.control import Asker
from serve.known_run import KnownRun, know_run
from serve.ports import GatewayParts
from serve.problems import Problem, Unavailable
from serve.reason import Because, BecauseOf
from serve.run_view import RunView, view_run

ANSWERS: dict[int | str, dict[str, object]] = {
    404: {"model": Problem, "description": "There is no such thing."},
    409: {"model": Problem, "description": "It makes no sense as things are."},
}
"""What a request about something that is there may be answered besides."""
router = APIRouter(prefix="/v1/runs/{run}", tags=["control"], responses=ANSWERS)


@router.post("/cancel", status_code=202)
async def cancel(
    run: str, parts: Parts, caller: Canceller, because: Because | None = None
) -> RunView:
    """End a run. What its agents work on is let go of; no result comes of it."""
    return await ask(
        parts, run, caller, lambda known: control.cancel(known, asker(caller, because))
    )


@router.post("/pause", status_code=202)
async def pause(
    run: str, parts: Parts, caller: Controller, because: Because | None = None
) -> RunView:
    """Begin no further step of a run. What has begun goes on."""
    by = asker(caller, because)
    return await ask(parts, run, caller, lambda known: control.pause(known, by))


@router.post("/resume", status_code=202)
async def resume(
    run: str, parts: Parts, caller: Controller, because: Because | None = None
) -> RunView:
    """Let a paused run go on."""
    return await ask(
        parts, run, caller, lambda known: control.resume(known, asker(caller, because))
    )


@router.post("/retry", status_code=202)
async def retry(
    run: str, parts: Parts, caller: Controller, because: Because | None = None
) -> RunView:
    """Take a failed run up again from the steps that failed; answers it has are kept."""
    by = asker(caller, because)
    return await ask(parts, run, caller, lambda known: control.retry(known, by))


async def ask(
    parts: GatewayParts, run: str, caller: Caller, judge: Callable[[KnownRun], Draft | None]
) -> RunView:
    """Store what a request comes to, judged by the run as it is; then the run as it is after.

    A run that ends in between has ended: the fold passes over what comes too late. Of one that
    leaves the log in between nothing can be asked.

    Raises:
        NotFound: there is no such run, or it is not the caller's.
        Conflict: the request makes no sense; nothing was stored.
        Unavailable: the log was made anew meanwhile.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        known = await know_run(parts.log, run, caller, to_touch=True)
        draft = judge(known)
        if draft is not None:
            try:
                await parts.log.append(draft, expected=control.while_there(known))
            except PublishConflict:
                await know_run(parts.log, run, caller)
                raise Unavailable("The request could not be stored; try again.") from None
            known = await know_run(parts.log, run, caller)
    return view_run(known, parts.clock())


def asker(caller: Caller, because: Because | BecauseOf | None) -> Asker:
    """Who asks, and why if they say."""
    reason = "" if because is None else because.reason
    return Asker(user=caller.user, name=caller.username[:128], reason=reason)
