"""Dead letters: see what was given up, and have it done after all."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from bus.event import Draft
from serve import control
from serve.access import Controller, Parts, Reader
from serve.dead_letters import UNKNOWN_LETTER, DeadLetterView, find_dead_letter, list_dead_letters
from serve.known_run import KnownRun
from serve.problems import NotFound
from serve.reason import Because
from serve.routers.control import ANSWERS, ask, asker
from serve.run_view import RunView

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


class DeadLetters(BaseModel):
    """Dead letters in the order of the log."""

    model_config = ConfigDict(frozen=True)
    dead_letters: tuple[DeadLetterView, ...]


@router.get("")
async def dead_letters(
    parts: Parts, caller: Reader, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> DeadLetters:
    """The newest assignments that were given up."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        return DeadLetters(dead_letters=tuple(await list_dead_letters(parts.log, caller, limit)))


@router.post("/{letter}/redrive", status_code=202, responses=ANSWERS)
async def redrive(
    letter: str, parts: Parts, caller: Controller, because: Because | None = None
) -> RunView:
    """Retry the run of a dead letter; once that is done, a repeat changes nothing."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        dead = await find_dead_letter(parts.log, caller, letter)

    def judge(known: KnownRun) -> Draft | None:
        if dead.redriven and known.state.status != "failed":
            return None
        return control.retry(known, asker(caller, because))

    try:
        return await ask(parts, dead.run, caller, judge)
    except NotFound:  # theirs to see, and not to touch
        raise NotFound(UNKNOWN_LETTER) from None
