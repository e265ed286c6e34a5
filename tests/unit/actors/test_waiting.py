"""Why nothing moves in a run."""

from datetime import timedelta

from actors.record import RunState
from actors.waiting import MAX_TEXT_CHARS, Waiting, waits_for
from actors.workflow import StepSpec, WorkflowSpec
from bus.payloads import CancelRequested, PauseRequested, StallNoticed
from tests.unit.actors.simulation import START, SimulatedRun

PAIR = WorkflowSpec(
    name="pair",
    nodes=(
        StepSpec(name="code", role="coder"),
        StepSpec(name="test", role="tester", inputs=("code",), approval=True),
    ),
)


def started(workflow: WorkflowSpec = PAIR) -> SimulatedRun:
    run = SimulatedRun(workflow)
    run.submit()
    run.settle()
    return run


def waiting(run: SimulatedRun) -> Waiting:
    return waits_for(run.state, run.now)


def test_a_run_that_nobody_knows_waits_to_be_asked_for() -> None:
    assert waits_for(RunState(), START).code == "unsubmitted"


def test_a_run_that_the_coordinator_has_not_seen_waits_for_it() -> None:
    run = SimulatedRun(PAIR)
    run.submit()
    told = waiting(run)
    assert (told.code, told.step, told.since) == ("decision", None, START)


def test_an_assignment_that_nobody_takes_is_named_with_its_role() -> None:
    run = started()
    run.wait(90.0)
    told = waiting(run)
    assert (told.code, told.step, told.role, told.since) == ("unclaimed", "code", "coder", START)
    assert told.text == (
        "no agent of role coder has taken step code, attempt 1, since 2026-01-01T12:00:00Z"
    )


def test_a_claimed_step_is_named_with_its_agent_and_epoch() -> None:
    run = started()
    run.claim(run.assigned("code"), agent="ada")
    run.wait(5.0)
    run.claim(run.assigned("code"), epoch=2, agent="bob")
    told = waiting(run)
    assert (told.code, told.agent, told.epoch, told.since) == ("claimed", "bob", 2, run.now)
    assert told.text == (
        "coder/bob works on step code under epoch 2 of attempt 1 since 2026-01-01T12:00:05Z"
    )


def test_a_backoff_is_named_with_its_end_and_its_reason() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")))
    told = waiting(run)
    assert (told.code, told.step, told.since) == ("backoff", "code", START)
    assert told.text == (
        "attempt 2 at step code (coder) begins at 2026-01-01T12:00:01Z, "
        "after deadline at 2026-01-01T12:00:00Z"
    )


def test_an_approval_is_named_with_its_id() -> None:
    run = started()
    run.do("code")
    told = waiting(run)
    question = run.question("test")
    assert (told.code, told.step, told.since) == ("approval", "test", question.time)
    assert question.id in told.text


def test_a_pause_is_named_with_who_asked_for_it() -> None:
    run = started()
    run.ask(PauseRequested, reason="lunch")
    told = waiting(run)
    assert told.code == "paused"
    assert told.text == "paused by ann since 2026-01-01T12:00:00Z: lunch"


def test_a_run_that_is_over_waits_for_nothing() -> None:
    run = started()
    run.wait(3.0)
    run.ask(CancelRequested)
    run.settle()
    run.wait(60.0)
    told = waiting(run)
    assert (told.code, told.since) == ("ended", START + timedelta(seconds=3))
    assert told.text == "the run is cancelled since 2026-01-01T12:00:03Z"


def test_of_several_the_oldest_claim_comes_first_and_the_rest_is_counted() -> None:
    names = [f"{'long' * 10}-{number}" for number in range(9)]
    steps = tuple(StepSpec(name=name, role="coder") for name in names)
    run = started(WorkflowSpec(name="wide", nodes=steps))
    run.wait(1.0)
    run.claim(run.assigned(names[7]))
    run.wait(1.0)
    run.claim(run.assigned(names[3]))
    told = waiting(run)
    assert (told.code, told.step) == ("claimed", names[7])
    assert told.text.index(names[7]) < told.text.index(names[3]) < told.text.index(names[0])
    assert told.text.endswith("; and 6 more")
    assert len(told.text) <= MAX_TEXT_CHARS


def test_the_notice_of_a_stall_is_no_movement() -> None:
    run = started()
    before = run.state.moved_at
    run.wait(60.0)
    claim = run.claim(run.assigned("code"))
    assert run.state.moved_at == run.now != before
    moved_at = run.now
    run.wait(60.0)
    run.log.append(
        type(claim)(
            id="stall",
            run=claim.run,
            role="coordinator",
            agent="coordinator-1",
            time=run.now,
            payload=StallNoticed(code="claimed", waits_for="coder/a", since=moved_at, step="code"),
        )
    )
    assert run.state.moved_at == moved_at
