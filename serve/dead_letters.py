"""Dead letters: assignments that agents gave up, because nobody brought them to an end."""

from contextlib import aclosing
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from bus.event import StoredEvent
from bus.payloads import AssignmentDead, RetryRequested
from bus.subjects import kind_filter, kind_of
from policies.caller import Caller
from serve.known_run import visible_runs
from serve.ports import Log
from serve.problems import NotFound

UNKNOWN_LETTER: Final = "There is no dead letter of that id."


class DeadLetterView(BaseModel):
    """An assignment that was given up; the id is that of the event that says so."""

    model_config = ConfigDict(frozen=True)
    id: str
    run: str
    step: str
    iteration: int
    item: int = 0
    attempt: int
    role: str
    agent: str = Field(description="Who gave it up.")
    deliveries: int = Field(description="How often it was handed out.")
    reason: str
    stored_at: datetime
    redriven: bool = Field(description="Whether its run was retried since.")


async def list_dead_letters(log: Log, caller: Caller, limit: int) -> list[DeadLetterView]:
    """The newest dead letters of runs that the caller may see, in the order of the log."""
    visible = frozenset(await visible_runs(log, caller))
    retried = await _retried(log)
    async with aclosing(log.read(kind_filter(kind_of(AssignmentDead.TYPE)))) as events:
        letters = [
            stored
            async for stored in events
            if isinstance(stored, StoredEvent) and stored.event.run in visible
        ]
    return [_view(stored, retried) for stored in letters[-limit:]]


async def find_dead_letter(log: Log, caller: Caller, letter: str) -> DeadLetterView:
    """The dead letter of that id, of a run that the caller may see.

    Raises:
        NotFound: there is none.
    """
    visible = frozenset(await visible_runs(log, caller))
    async with aclosing(log.read(kind_filter(kind_of(AssignmentDead.TYPE)))) as events:
        async for stored in events:
            if not isinstance(stored, StoredEvent) or stored.event.id != letter:
                continue
            if stored.event.run in visible:
                return _view(stored, await _retried(log))
    raise NotFound(UNKNOWN_LETTER)


async def _retried(log: Log) -> dict[str, int]:
    """The stream sequence of the last retry of each run that had one."""
    async with aclosing(log.read(kind_filter(kind_of(RetryRequested.TYPE)))) as events:
        return {
            stored.event.run: stored.stream_sequence
            async for stored in events
            if isinstance(stored, StoredEvent)
        }


def _view(stored: StoredEvent, retried: dict[str, int]) -> DeadLetterView:
    event = stored.event
    dead = AssignmentDead.model_validate_json(event.body)
    return DeadLetterView(
        id=event.id,
        run=event.run,
        step=dead.step,
        iteration=dead.iteration,
        item=dead.item,
        attempt=dead.attempt,
        role=event.role,
        agent=event.agent,
        deliveries=dead.deliveries,
        reason=dead.reason,
        stored_at=stored.stored_at,
        redriven=retried.get(event.run, 0) > stored.stream_sequence,
    )
