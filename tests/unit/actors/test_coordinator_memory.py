"""Which runs the coordinator keeps, and when one of them counts as standing still."""

from datetime import UTC, datetime, timedelta

from actors.memory import REMEMBERED, Memory, Names
from actors.open_run import OpenRun, stall_notice, stalls_at
from actors.workflow import StepSpec, WorkflowSpec
from bus.errors import BadSignature
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import (
    PauseRequested,
    Payload,
    ResultRefused,
    RetryRequested,
    RunFailed,
    StallNoticed,
    StepClaimed,
    StepFailed,
)
from bus.received import RefusedEvent
from bus.signing import Sender
from tests.sending import new_sender, submitted
from tests.unit.actors.simulation import START, SimulatedRun

RUN = "r1"
NOW = datetime.now(UTC)
GATEWAY = new_sender()
COORDINATOR = new_sender("coordinator", "coordinator-1")
CODER = new_sender("coder", "coder-1")


def stored(
    place: int, sender: Sender, payload: Payload, *, run: str = RUN, cause: str | None = None
) -> StoredEvent:
    suffix = ("coder",) if sender is CODER else ()
    event_id = derive_id("event", str(place))
    draft = Draft(run=run, payload=payload, id=event_id, suffix=suffix, cause=cause)
    return StoredEvent(event=sender.sign(draft), stream_sequence=place, stored_at=NOW)


def submission(place: int, run: str = RUN) -> StoredEvent:
    event = GATEWAY.sign(submitted(run))
    return StoredEvent(event=event, stream_sequence=place, stored_at=NOW)


def outcome(place: int) -> StoredEvent:
    payload = StepFailed(
        step="s", iteration=1, attempt=1, epoch=1, code="x", message="y", retryable=False
    )
    return stored(place, CODER, payload)


def refusal(place: int, refused: StoredEvent) -> StoredEvent:
    payload = ResultRefused(
        step="s", iteration=1, attempt=1, epoch=1, refused=refused.event.id, reason="late"
    )
    return stored(place, COORDINATOR, payload)


def test_an_ended_run_is_read_again_only_for_what_calls_for_an_answer() -> None:
    memory = Memory()
    assert memory.take(submission(1))
    assert memory.take(stored(2, COORDINATOR, RunFailed(code="x", message="y")))
    assert memory.runs[RUN].is_over
    memory.close(RUN)
    assert RUN not in memory.runs
    assert not memory.take(stored(2, COORDINATOR, RunFailed(code="x", message="y")))
    claim = StepClaimed(step="s", iteration=1, attempt=1, epoch=1, agent="coder-1")
    assert not memory.take(stored(3, CODER, claim))
    assert not memory.unread
    late = outcome(4)
    assert not memory.take(late)
    assert list(memory.unread) == [RUN]
    memory.take(refusal(5, late))
    assert not memory.unread, "it was answered already"
    memory.take(stored(6, GATEWAY, RetryRequested(requested_by="ann")))
    memory.take(refusal(7, late))
    assert list(memory.unread) == [RUN]


def test_a_name_that_was_used_is_looked_up_in_the_log() -> None:
    memory = Memory()
    memory.take(submission(1))
    memory.take(stored(2, COORDINATOR, RunFailed(code="x", message="y")))
    memory.close(RUN)
    for number in range(REMEMBERED + 1):
        name = f"other{number}"
        memory.runs[name] = OpenRun(position=number + 3)
        memory.close(name)
    assert not memory.take(submission(9_000)), "it is not taken for a new run"
    assert list(memory.unread) == [RUN]


def test_what_nobody_believes_counts_for_the_place_only() -> None:
    memory = Memory()
    memory.take(submission(1))
    event = submission(2).event
    refused = RefusedEvent(
        subject=event.subject,
        headers=event.headers,
        data=event.data,
        stream_sequence=2,
        stored_at=NOW,
        error=BadSignature(),
    )
    before = memory.runs[RUN].state
    assert memory.take(refused)
    assert (memory.runs[RUN].state, memory.runs[RUN].position) == (before, 2)
    assert not memory.take(refused)


def test_few_names_are_taken_for_others() -> None:
    names = Names()
    assert all(names.add(f"run{n}") for n in range(20_000))
    assert not any(names.add(f"run{n}") for n in range(20_000))


def open_run(*events: StoredEvent) -> OpenRun:
    run = OpenRun()
    for event in (submission(1), *events):
        assert run.take(event)
    return run


def test_a_run_stalls_after_its_last_fact_or_the_start_of_the_coordinator() -> None:
    run = open_run()
    moved_at = run.state.moved_at
    assert moved_at is not None
    before, after = moved_at - timedelta(hours=1), moved_at + timedelta(hours=1)
    assert stalls_at(run, NOW, before, 30) == moved_at + timedelta(seconds=30)
    assert stalls_at(run, NOW, after, 30) == after + timedelta(seconds=30)


def test_a_standstill_is_noticed_once_until_something_moves() -> None:
    run = open_run()
    draft = stall_notice(run, NOW, ())
    assert isinstance(draft.payload, StallNoticed)
    assert draft.cause == submission(1).event.id
    event = COORDINATOR.sign(draft)
    run.take(StoredEvent(event=event, stream_sequence=2, stored_at=NOW))
    assert stalls_at(run, NOW, NOW, 30) is None
    run.take(outcome(3))
    assert stalls_at(run, NOW, NOW, 30) is not None
    assert stall_notice(run, NOW, ()).id != draft.id


def test_a_paused_run_and_one_that_is_over_do_not_stall() -> None:
    paused = open_run(stored(2, GATEWAY, PauseRequested(requested_by="ann")))
    assert stalls_at(paused, NOW, NOW, 30) is None
    ended = open_run(stored(2, COORDINATOR, RunFailed(code="x", message="y")))
    assert stalls_at(ended, NOW, NOW, 30) is None


def test_a_run_that_waits_for_nothing_but_an_approval_does_not_stall() -> None:
    """A person takes their time; that all agents of a role are gone is told all the same."""
    deploy = StepSpec(name="deploy", role="coder", approval=True)
    run = SimulatedRun(
        WorkflowSpec(name="two", nodes=(deploy, StepSpec(name="code", role="coder")))
    )
    run.submit()
    run.settle()
    both = OpenRun(state=run.state)
    assert stalls_at(both, run.now, START, 30) == run.now + timedelta(seconds=30)
    told = stall_notice(both, run.now, ()).payload
    assert isinstance(told, StallNoticed)
    assert (told.code, told.step) == ("unclaimed", "code")
    run.do("code")
    assert stalls_at(OpenRun(state=run.state), run.now, START, 30) is None
