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
from bus.subjects import is_reserved, is_token, kind_filter, kind_of, run_filter
from policies.caller import Caller, Owner, may_see, may_touch
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
    def owner(self) -> Owner:
        """Whose it is."""
        return owner_of(self.submitted, self.submission)

    @property
    def is_erased(self) -> bool:
        """Whether what was said in it cannot be read any more; words of others do not count."""
        about = self.submitted.event.sealed_for
        return any(
            stored.event.is_erased and stored.event.sealed_for == about for stored in self.events
        )

    @property
    def stream_sequence(self) -> int:
        """The last event that this knows of."""
        return self.seen[-1].stream_sequence


def check_run_id(run: str) -> None:
    """Refuse what cannot be the id of a run.

    Raises:
        NotFound: it is malformed, or names what is not a run.
    """
    if not is_token(run) or is_reserved(run):
        raise NotFound(UNKNOWN_RUN)


async def read_run(log: Log, run: str, caller: Caller) -> list[Received]:
    """Everything that the log holds of a run that is the caller's to see.

    Refused events are among it.

    Raises:
        NotFound: nobody has submitted such a run, or it is not theirs: which of the two is
            not said.
    """
    async with aclosing(log.read(run_filter(run))) as events:
        seen = [received async for received in events]
    submitted = _submission(seen)
    if submitted is None or not may_see(caller, owner_of(*submitted)):
        raise NotFound(UNKNOWN_RUN)
    return seen


async def know_run(log: Log, run: str, caller: Caller, *, to_touch: bool = False) -> KnownRun:
    """Read a run and fold it.

    Args:
        log: where it is.
        run: its id.
        caller: who wants to know.
        to_touch: because they want to act on it, which takes more than seeing it.

    Raises:
        NotFound: there is no such run, or it is not theirs, or that is no id of one.
    """
    check_run_id(run)
    known = known_run(run, await read_run(log, run, caller))
    if to_touch and not may_touch(caller, known.owner):
        raise NotFound(UNKNOWN_RUN)
    return known


async def visible_runs(log: Log, caller: Caller) -> list[str]:
    """The runs that are the caller's to see, in the order in which they were submitted."""
    submissions = kind_filter(kind_of(RunSubmitted.TYPE))
    async with aclosing(log.read(submissions, unseal=False)) as events:
        return list(
            dict.fromkeys(
                [
                    stored.event.run
                    async for stored in events
                    if isinstance(stored, StoredEvent)
                    and isinstance(asked := stored.payload(), RunSubmitted)
                    and may_see(caller, owner_of(stored, asked))
                ]
            )
        )


def owner_of(submitted: StoredEvent, submission: RunSubmitted) -> Owner:
    """Whose a run is; the gateway, which nobody else can speak for, says so in its submission."""
    return Owner(user=submitted.event.on_behalf_of or "", tenant=submission.tenant)


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
