"""A run made again from its log, without a model. Pure.

Every decision of a coordinator is made anew and held against the record: the same id,
subject, cause and payload, by SHA-256. Every accepted answer is worked out anew as far as
that goes without a model (`actors.rework`). What was verified when it was read is folded;
what was not is an alteration, unless the log itself says that it was refused at the time.

**From which state.** A coordinator stores a decision only if nothing was stored in the run
since the state it decided on, but for its own decisions of the same time; whichever of
several coordinators does. So a stored decision was made from the state right before it, or
from one before the decisions that stand directly before it.

**At which moment.** The clock was read between the last event of that state and the
signature. `decide` is asked for the moment of the signature first, then for the earliest
one that it can have been.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from actors.command import draft_of
from actors.decide import decide
from actors.digest import StateDigests, recorded_digest, remade_digest
from actors.divergence import Divergence, decision_differs
from actors.errors import ActorError, CannotReplay
from actors.fact import COORDINATOR, fact_of
from actors.model import Model
from actors.record import RunState
from actors.rework import RAISING, rework
from actors.run_state import evolve
from actors.suspicion import suspects
from bus.event import Draft, StoredEvent
from bus.payloads import (
    ApprovalRequested,
    ResultRefused,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepAssigned,
    StepCompleted,
)
from bus.received import Received, RefusedEvent

DECISIONS: Final = frozenset(
    model.TYPE
    for model in (
        StepAssigned,
        ResultRefused,
        ApprovalRequested,
        RunCompleted,
        RunFailed,
        RunCancelled,
    )
)
"""What a coordinator decides. A notice of a stall is not among them: it says what was seen."""

Kind = Literal["fact", "decision", "answer", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event of a replay.

    Attributes:
        event: its id; empty for one that was refused.
        stream_sequence: its place in the log.
        kind: what it was to the replay.
        state: hex SHA-256 of all that is known of the run after it.
        asked: hex SHA-256 of what a model was asked, for an answer.
    """

    event: str
    stream_sequence: int
    kind: Kind
    state: str
    asked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of making a run again."""

    run: str
    status: str
    steps: tuple[Step, ...] = field(repr=False)
    divergence: Divergence | None = None

    @property
    def is_equal(self) -> bool:
        """Whether everything came out as recorded."""
        return self.divergence is None

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the states of all steps: equal for equal replays."""
        return hashlib.sha256("".join(step.state for step in self.steps).encode()).hexdigest()

    def count(self, kind: Kind) -> int:
        """How many events were of a kind."""
        return sum(step.kind == kind for step in self.steps)


def replay(
    events: Sequence[Received], *, start: RunState | None = None, model: Model = RAISING
) -> Replay:
    """Make a run again.

    Args:
        events: all that the log holds of one run, verified, in its order.
        start: with the workflows of submissions that have no definition.
        model: asked where the record has no answer. Nothing asks it.

    Raises:
        CannotReplay: what was said in it is erased, or sealed for somebody whose key is not here.
    """
    _see_that_it_can_be_read(events)
    fold = _Fold(state=start or RunState(), model=model)
    for received in events:
        fold.take(received)
    differences = [*suspects(events), *fold.differences]
    return Replay(
        run=fold.state.run,
        status=fold.state.status,
        steps=tuple(fold.steps),
        divergence=min(differences, key=lambda each: each.stream_sequence, default=None),
    )


def first_difference_between(one: Replay, other: Replay) -> str | None:
    """Id of the first event after which two replays know different things; None for equal ones.

    Where one of them has no such event, that of the other is named.
    """
    for mine, its in zip(one.steps, other.steps, strict=False):
        if (mine.event, mine.state, mine.asked) != (its.event, its.state, its.asked):
            return mine.event or its.event
    longer = max(one.steps, other.steps, key=len)
    shorter = min(len(one.steps), len(other.steps))
    return longer[shorter].event if len(longer) > shorter else None


@dataclass(slots=True)
class _Fold:
    """The replay as far as it has come."""

    state: RunState
    model: Model
    steps: list[Step] = field(default_factory=list)
    differences: list[Divergence] = field(default_factory=list)
    batch: list[RunState] = field(default_factory=list)
    """The states before each of the decisions that stand directly before this place."""
    batch_began: datetime | None = None
    assigned: dict[str, StepAssigned] = field(default_factory=dict)
    digests: StateDigests = field(default_factory=StateDigests)

    def take(self, received: Received) -> None:
        """One event more."""
        if isinstance(received, RefusedEvent):
            self._note("", received.stream_sequence, "refused")
            return
        before, fact, asked = self.state, fact_of(received), None
        kind: Kind = "fact"
        self.state = evolve(before, fact)
        if fact.role == COORDINATOR and fact.payload.TYPE in DECISIONS:
            kind = "decision"
            self._decide(received, before)
        else:
            self.batch, self.batch_began = [], None
        match fact.payload:
            case StepAssigned() as assigned if fact.role == COORDINATOR:
                self.assigned[fact.id] = assigned
            case StepCompleted() as completed if self._counts(before, fact.id, completed):
                key = completed.step, completed.iteration, completed.item
                assigned = self.assigned[before.assignments[key].id]
                kind, asked = "answer", self._rework(received, assigned, completed)
        self._note(fact.id, received.stream_sequence, kind, asked)

    def _note(self, event: str, stream_sequence: int, kind: Kind, asked: str | None = None) -> None:
        state = self.digests.of(self.state)
        self.steps.append(
            Step(event=event, stream_sequence=stream_sequence, kind=kind, state=state, asked=asked)
        )

    def _decide(self, stored: StoredEvent, before: RunState) -> None:
        """Make a decision again, from each state that it can have been made from."""
        recorded, wanted = stored.payload(), recorded_digest(stored.event)
        if not any(
            draft.id == stored.event.id
            and remade_digest(draft, recorded, withheld=stored.event.is_withheld) == wanted
            for state in (before, *reversed(self.batch))
            for moment in self._moments(state, stored)
            for draft in drafts(state, moment)
        ):
            said = tuple(drafts(before, stored.event.time))
            self.differences.append(decision_differs(stored, said))
        self.batch.append(before)
        self.batch_began = self.batch_began or stored.event.time

    def _moments(self, state: RunState, stored: StoredEvent) -> Iterator[datetime]:
        signed = stored.event.time
        yield signed
        for earlier in (self.batch_began, state.moved_at):
            if earlier is not None and earlier < signed:
                yield earlier

    def _counts(self, before: RunState, event: str, completed: StepCompleted) -> bool:
        """Whether this very event brought the accepted answer of its step."""
        key = completed.step, completed.iteration, completed.item
        result = self.state.results.get(key)
        return result is not None and result.id == event and key not in before.results

    def _rework(
        self, stored: StoredEvent, assigned: StepAssigned, completed: StepCompleted
    ) -> str | None:
        try:
            return rework(self.state.run, assigned, completed, self.model)
        except ActorError as error:
            self.differences.append(
                Divergence(
                    event=stored.event.id,
                    stream_sequence=stored.stream_sequence,
                    type=stored.event.type,
                    code="answer",
                    recorded=f"an answer of {completed.step} from {stored.event.source}",
                    remade=f"its agent could not have given it: {error}",
                )
            )
            return None


def _see_that_it_can_be_read(events: Sequence[Received]) -> None:
    """What others said of the run may be gone: a decision that quotes them is compared without."""
    for received in events:
        event = received.event if isinstance(received, StoredEvent) else None
        if event is not None and event.type == RunSubmitted.TYPE and event.is_withheld:
            how = "erased" if event.is_erased else "sealed, and there is no key to it"
            raise CannotReplay(f"run {event.run}: what was said in it is {how}")


def drafts(state: RunState, now: datetime) -> Iterator[Draft]:
    """The events that a coordinator would store now."""
    return (draft_of(command, state) for command in decide(state, now))
