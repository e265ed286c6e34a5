"""When a coordinator says something: backoff, deadlines, and what an assignment carries."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.decide import decide, wake_at
from actors.record import RunState
from actors.workflow import StepSpec, WorkflowSpec
from bus.payloads import PauseRequested, ResumeRequested, RetryRequested, RunFailed, StepAssigned
from tests.unit.actors.simulation import LISTING, START, SimulatedRun

ONE = WorkflowSpec(
    name="one", nodes=(StepSpec(name="code", role="coder", max_attempts=4, backoff_s=3.0),)
)


def started(workflow: WorkflowSpec = ONE, **changes: Any) -> SimulatedRun:
    run = SimulatedRun(workflow)
    run.submit(**changes)
    run.settle()
    return run


def test_another_attempt_waits_twice_as_long_each_time() -> None:
    run = started()
    for attempt, backoff_s in ((1, 3.0), (2, 6.0), (3, 12.0)):
        run.wait(100.0)
        failed = run.fail(run.claim(run.assigned("code", attempt=attempt)))
        assert run.drafts == []
        assert wake_at(run.state, run.now) == failed.time + timedelta(seconds=backoff_s)
        run.wait(backoff_s - 0.001)
        assert run.drafts == []
        run.wait(0.001)
        (again,) = run.settle()
        assert isinstance(again, StepAssigned)
        assert again.attempt == attempt + 1
        assert wake_at(run.state, run.now) is None


def test_the_backoff_begins_anew_after_a_retry() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")), retryable=False)
    run.settle()
    run.ask(RetryRequested)
    run.settle()
    failed = run.fail(run.claim(run.assigned("code", attempt=2)))
    assert wake_at(run.state, run.now) == failed.time + timedelta(seconds=3)


def test_a_backoff_that_ends_in_a_pause_is_over_when_the_run_goes_on() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")))
    run.ask(PauseRequested)
    assert wake_at(run.state, run.now) is None
    run.wait(60.0)
    assert run.drafts == []
    run.ask(ResumeRequested)
    assert len(run.settle()) == 1


def test_a_run_past_its_deadline_fails() -> None:
    run = started(deadline_s=60.0)
    assert wake_at(run.state, run.now) == run.state.deadline_at == START + timedelta(seconds=60)
    run.wait(59.9)
    assert run.drafts == []
    run.wait(0.1)
    (draft,) = run.drafts
    assert draft.payload == RunFailed(
        code="run_deadline", message="the run was not done within 60 s", step=None
    )
    assert draft.cause == run.log[0].id
    run.settle()
    assert wake_at(run.state, run.now) is None


def test_a_backoff_that_has_passed_hides_no_later_moment() -> None:
    """What may begin may have to wait for a place in the queue of its role."""
    run = started(deadline_s=60.0)
    failed = run.fail(run.claim(run.assigned("code")))
    assert wake_at(run.state, run.now) == failed.time + timedelta(seconds=3)
    run.wait(3.0)
    assert wake_at(run.state, run.now) == run.state.deadline_at
    run.wait(57.0)
    assert wake_at(run.state, run.now) is None


def test_the_deadline_goes_on_in_a_pause() -> None:
    run = started(deadline_s=60.0)
    run.ask(PauseRequested)
    assert wake_at(run.state, run.now) == run.state.deadline_at
    run.wait(60.0)
    run.settle()
    assert run.state.status == "failed"


def test_what_is_done_before_anybody_looks_is_not_too_late() -> None:
    run = started(deadline_s=60.0)
    run.complete(run.claim(run.assigned("code")))
    run.wait(3_600.0)
    run.settle()
    assert run.state.status == "completed"


def test_a_retried_run_has_its_whole_time_again() -> None:
    run = started(deadline_s=60.0)
    run.wait(100.0)
    run.settle()
    run.ask(RetryRequested)
    assert run.state.deadline_at == run.now + timedelta(seconds=60)
    run.settle()
    run.do("code", attempt=2)
    assert run.state.status == "completed"


@pytest.mark.parametrize("deadline_s", [1e12, 1e308, float("inf")])
def test_a_deadline_beyond_all_time_is_none(deadline_s: float) -> None:
    run = started(deadline_s=deadline_s)
    assert run.state.deadline_at == datetime.max.replace(tzinfo=UTC)
    run.do("code")
    assert run.state.status == "completed"


def test_nothing_is_to_be_waited_for_in_an_empty_or_a_flawed_run() -> None:
    assert wake_at(RunState(), START) is None
    run = SimulatedRun(ONE)
    run.submit(workflow="poem", deadline_s=5.0)
    assert wake_at(run.state, run.now) is None
    assert len(decide(run.state, START)) == 1


def test_the_priority_of_a_run_is_that_of_its_steps() -> None:
    run = SimulatedRun(ONE)
    run.submit(priority="high")
    (draft,) = run.drafts
    assert draft.suffix == ("coder", "high")


def test_an_assignment_carries_its_instructions_and_its_schema() -> None:
    poem = StepSpec(name="poem", role="poet", answer_schema=LISTING)
    workflow = WorkflowSpec(name="poetry", nodes=(poem, StepSpec(name="code", role="coder")))
    run = started(workflow, instructions={"poem": "in verse"})
    payloads = {name: run.assigned(name).payload for name in ("poem", "code")}
    told = {
        name: (payload.instructions, payload.answer_schema)
        for name, payload in payloads.items()
        if isinstance(payload, StepAssigned)
    }
    assert told == {"poem": ("in verse", LISTING), "code": ("", None)}


def test_an_answer_is_held_to_the_schema_of_its_assignment() -> None:
    poem = StepSpec(name="poem", role="poet", answer_schema=LISTING, max_attempts=1)
    run = started(WorkflowSpec(name="poetry", nodes=(poem,)))
    run.complete(run.claim(run.assigned("poem")), {"list": 1, "accepted": True})
    run.settle()
    ended = run.state.ended
    assert isinstance(ended, RunFailed)
    assert ended.code == "answer_rejected"
    assert ended.message.endswith('does not fit its schema: list: type "array"')


def test_a_step_of_a_built_in_role_may_declare_another_shape() -> None:
    plan = StepSpec(name="plan", role="planner", answer_schema=LISTING)
    run = started(WorkflowSpec(name="own", nodes=(plan,)))
    run.do("plan", answer={"list": [], "accepted": True})
    assert run.state.status == "completed"
