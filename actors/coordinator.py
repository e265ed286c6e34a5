"""The coordinator: folds the log, decides, publishes decisions. It owns no state.

Two coordinators do no harm: a decision is stored only if nothing happened in its run
since the state it was made from, and its id is the same whoever makes it.
"""

from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from actors.command import draft_of
from actors.decide import decide
from actors.run_state import RunState, evolve, fact_of
from bus.errors import PublishConflict
from bus.event import StoredEvent
from bus.log import EventLog, Expected
from bus.received import RefusedEvent
from bus.subjects import ALL_EVENTS, SYSTEM_RUN, run_filter

log = structlog.get_logger()


@dataclass(slots=True)
class _Run:
    """A run as far as it was read."""

    state: RunState = field(default_factory=RunState)
    position: int = 0
    awaits: int = 0
    """Stream sequence of our own last decision; nothing is decided before it is read."""


class Coordinator:
    """Drives every run of the log to its end."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._runs: dict[str, _Run] = {}

    async def run(self) -> None:
        """Read the whole log, then decide as it grows, until cancelled.

        Raises:
            PublishUnconfirmed: the broker did not confirm a decision in time; start again.
        """
        caught_up_at = await self._log.last_sequence()
        catching_up = caught_up_at > 0
        async with aclosing(self._log.follow(ALL_EVENTS)) as events:
            async for received in events:
                self._fold(received)
                if catching_up and received.stream_sequence >= caught_up_at:
                    catching_up = False
                    for run in list(self._runs):
                        await self._decide(run)
                elif not catching_up and isinstance(received, StoredEvent):
                    await self._decide(received.event.run)

    def _fold(self, received: StoredEvent | RefusedEvent) -> None:
        if isinstance(received, RefusedEvent):
            log.warning("coordinator.ignores", stream_sequence=received.stream_sequence)
            return
        if received.event.run == SYSTEM_RUN:
            return
        run = self._runs.setdefault(received.event.run, _Run())
        run.state = evolve(run.state, fact_of(received))
        run.position = received.stream_sequence

    async def _decide(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is None or run.position < run.awaits:
            return
        position = run.position
        for command in decide(run.state):
            draft = draft_of(command, run.state)
            expected = Expected(subject_filter=run_filter(run_id), stream_sequence=position)
            try:
                stored = await self._log.append(draft, expected=expected)
            except PublishConflict as conflict:
                # Something was stored meanwhile; it is on its way to us.
                log.debug(
                    "coordinator.decides_again",
                    run=run_id,
                    reason=str(conflict),
                    position=position,
                    draft=draft.payload.TYPE,
                )
                return
            position = run.awaits = max(run.awaits, stored.stream_sequence)
