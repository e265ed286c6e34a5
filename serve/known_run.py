"""A run read from the log: what was asked, and the coordinator's own fold over what came of it."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from actors.fact import fact_of
from actors.record import RunState
from actors.run_state import fold
from bus.event import StoredEvent
from bus.payloads import RunSubmitted
from bus.received import Received
from bus.subjects import RESERVED_RUNS, is_token, run_filter
from serve.ports import Log
from serve.problems import NotFound

UNKNOWN_RUN: Final = (
    "There is no run of that id. One that ended long ago may have left the log; its audit is kept."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run as the log tells of it: what was asked, its state, and the events these are from."""

    id: str
    submitted: StoredEvent
    submission: RunSubmitted
    state: RunState
    seen: Sequence[Received]

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """Those that may be acted on, in the order of the log."""
        return tuple(received for received in self.seen if isinstance(received, StoredEvent))

    @property
    def stream_sequence(self) -> int:
        """The last event that this knows of."""
        return self.seen[-1].stream_sequence


def check_run_id(run: str) -> None:
    """Refuse what cannot be the id of a run.

    Raises:
        NotFound: it is malformed, or names what is not a run.
    """
    if not is_token(run) or run in RESERVED_RUNS:
        raise NotFound(UNKNOWN_RUN)


async def read_run(log: Log, run: str) -> list[Received]:
    """Everything that the log holds of a run, refused events among it.

    Raises:
        NotFound: nobody has submitted such a run.
    """
    async with aclosing(log.read(run_filter(run))) as events:
        seen = [received async for received in events]
    if _submission(seen) is None:
        raise NotFound(UNKNOWN_RUN)
    return seen


async def know_run(log: Log, run: str) -> KnownRun:
    """Read a run and fold it.

    Raises:
        NotFound: there is no such run, or that is no id of one.
    """
    check_run_id(run)
    return known_run(run, await read_run(log, run))


def known_run(run: str, seen: Sequence[Received]) -> KnownRun:
    """The state that the events lead to.

    Args:
        run: its id.
        seen: its events in the order of the log, its submission among them.

    Raises:
        NotFound: there is no submission among them.
    """
    submitted = _submission(seen)
    if submitted is None:
        raise NotFound(UNKNOWN_RUN)
    stored, submission = submitted
    facts = (fact_of(received) for received in seen if isinstance(received, StoredEvent))
    return KnownRun(
        id=run,
        submitted=stored,
        submission=submission,
        state=fold(RunState(), facts),
        seen=seen,
    )


def _submission(seen: Sequence[Received]) -> tuple[StoredEvent, RunSubmitted] | None:
    for received in seen:
        if isinstance(received, StoredEvent) and received.event.type == RunSubmitted.TYPE:
            payload = received.payload()
            if isinstance(payload, RunSubmitted):
                return received, payload
    return None
