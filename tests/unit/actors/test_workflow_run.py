"""A run as a fold: what follows from what, up to the end."""

import pickle
from dataclasses import replace

import pytest
from pydantic import JsonValue

from actors.decide import decide, draft_of
from actors.record import Fact, RunState
from actors.run_state import evolve, fold
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.event import derive_id
from bus.memory_payloads import ItemReference
from bus.payloads import (
    AgentStarted,
    RetryRequested,
    RunCompleted,
    RunFailed,
    StepAssigned,
)
from bus.reference import MAX_OBJECT_BYTES
from tests.unit.actors.simulation import (
    RUN,
    START,
    SimulatedRun,
    answer_for,
    claim_of,
    completion_of,
    failure_of,
)

PAIR = WorkflowSpec(
    name="pair",
    nodes=(
        StepSpec(name="code", role="coder", max_attempts=2, deadline_s=60.0, backoff_s=0.0),
        StepSpec(name="test", role="tester", inputs=("code",)),
    ),
)


def started(workflow: WorkflowSpec = PAIR) -> SimulatedRun:
    run = SimulatedRun(workflow)
    run.submit()
    run.settle()
    return run


def test_a_step_without_inputs_is_assigned_on_submission() -> None:
    run = SimulatedRun(PAIR)
    submitted = run.submit()
    (draft,) = run.drafts
    assert draft.id == derive_id("step.assigned", RUN, "code", "1", "1")
    assert draft.suffix == ("coder", "normal")
    assert draft.cause == submitted.id
    assert draft.on_behalf_of == "ann"
    assert draft.traceparent == "00-1-2-01"
    assert draft.payload == StepAssigned(
        step="code",
        iteration=1,
        attempt=1,
        role="coder",
        objective="Sort a list of names",
        inputs={},
        deadline_s=60.0,
    )


def test_a_step_gets_the_answers_it_reads_and_names_the_last_as_its_cause() -> None:
    run = started()
    completed = run.do("code")
    assigned = run.assigned("test")
    assert isinstance(assigned.payload, StepAssigned)
    assert assigned.payload.inputs == {"code": answer_for("coder", "code")}
    assert assigned.cause == completed.id


def test_an_empty_log_asks_for_nothing() -> None:
    assert decide(RunState(), START) == ()
    assert RunState().status == "running"


def test_the_last_step_ends_the_run() -> None:
    run = started()
    run.do("code")
    last = run.do("test")
    ended = run.log[-1]
    assert isinstance(ended.payload, RunCompleted)
    assert ended.id == derive_id("run.ended", RUN)
    assert ended.cause == last.id
    assert run.state.status == "completed"
    assert run.drafts == []


def test_an_unknown_workflow_fails_the_run() -> None:
    run = SimulatedRun(PAIR)
    submitted = run.submit(workflow="poem")
    (draft,) = run.drafts
    assert draft.payload == RunFailed(
        code="unknown_workflow", message="there is no workflow poem", step=None
    )
    assert draft.cause == submitted.id


def test_a_retryable_failure_is_followed_by_another_attempt() -> None:
    run = started()
    failed = run.fail(run.claim(run.assigned("code")))
    (draft,) = run.drafts
    assert draft.id == derive_id("step.assigned", RUN, "code", "1", "2")
    assert draft.cause == failed.id


def test_when_the_attempts_are_used_up_the_run_fails() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")))
    run.settle()
    failed = run.fail(run.claim(run.assigned("code", attempt=2)))
    (draft,) = run.drafts
    assert draft.payload == RunFailed(
        code="deadline",
        message="step code failed 2 times: no answer within 300 s",
        step="code",
    )
    assert draft.cause == failed.id


def test_a_failure_that_cannot_be_retried_fails_the_run_at_once() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")), retryable=False)
    run.settle()
    assert run.state.status == "failed"


def test_the_shape_of_the_last_attempt_decides_the_run() -> None:
    run = started()
    for attempt in (1, 2):
        run.complete(run.claim(run.assigned("code", attempt=attempt)), {})
        run.settle()
    ended = run.state.ended
    assert isinstance(ended, RunFailed)
    assert (ended.code, ended.step) == ("answer_rejected", "code")


def test_a_repeat_changes_nothing() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code")))
    run.settle()
    run.do("code", attempt=2)
    once = run.state
    assert fold(once, run.log) == once


def test_a_fact_of_another_run_is_not_of_this_one() -> None:
    run = started()
    before = run.state
    stray = replace(claim_of(run.assigned("code")), run="rother")
    assert evolve(before, stray) == before


def test_an_event_that_is_no_part_of_a_run_changes_no_decision() -> None:
    run = started()
    before = run.state
    started_event = AgentStarted(role="coder", name="a", pid=1, node="n")
    fact = Fact(id="x", run=RUN, role="coder", agent="a", payload=started_event, time=START)
    assert decide(evolve(before, fact), START) == decide(before, START)


def test_a_second_submission_is_ignored() -> None:
    run = started()
    first = run.state.submission
    run.write(replace(run.log[0], id="other", agent="gateway-2"))
    assert run.state.submission == first


def test_an_assignment_that_no_event_could_hold_fails_the_run() -> None:
    text: dict[str, JsonValue] = {"type": "object"}
    long = StepSpec(name="long", role="writer", answer_schema=text)
    read = StepSpec(name="read", role="tester", inputs=("long",))
    run = started(WorkflowSpec(name="wide", nodes=(long, read)))
    run.do("long", answer={"text": "\x01" * (MAX_OBJECT_BYTES // 6)})
    assert isinstance(run.state.ended, RunFailed)
    assert run.state.ended.code == "inputs_too_large"
    assert run.state.ended.step == "read"


def test_a_result_that_no_event_could_hold_fails_the_run() -> None:
    """The document is cut; what its answers were made from is not."""
    run = started(WorkflowSpec(name="short", nodes=(StepSpec(name="code", role="coder"),)))
    completed = completion_of(run.claim(run.assigned("code")))
    namespace = "/".join(["shared", *["n" * 64] * 3])
    recalled = tuple(
        ItemReference(namespace=namespace, item=f"{number:0128}", version=1)
        for number in range(MAX_OBJECT_BYTES // 400)
    )
    payload = completed.payload.model_copy(update={"recalled": recalled})
    run.write(replace(completed, payload=payload))
    for _ in range(2):
        run.settle()
        assert isinstance(run.state.ended, RunFailed)
        assert run.state.ended.code == "result_too_large"
        run.ask(RetryRequested)


def test_a_step_outside_a_loop_reads_its_last_round() -> None:
    loop = LoopSpec(
        name="loop",
        steps=(
            StepSpec(name="code", role="coder", inputs=("verdict",)),
            StepSpec(name="verdict", role="judge", inputs=("code",)),
        ),
        verdict_step="verdict",
        limit=3,
    )
    end = StepSpec(name="end", role="planner", inputs=("verdict",))
    run = started(WorkflowSpec(name="looped", nodes=(end, loop)))
    for iteration, accepted in ((1, False), (2, True)):
        run.do("code", iteration)
        run.do("verdict", iteration, accepted=accepted)
    assigned = run.assigned("end").payload
    assert isinstance(assigned, StepAssigned)
    assert assigned.inputs["verdict"]["accepted"] is True
    assert ("code", 3, 0) not in run.state.assignments


def test_the_status_of_each_step_is_told() -> None:
    run = started()
    assert [step.status for step in run.state.steps] == ["assigned"]
    claim = run.claim(run.assigned("code"), agent="ada")
    (claimed,) = run.state.steps
    assert (claimed.status, claimed.agent, claimed.epoch) == ("claimed", "ada", 1)
    run.complete(claim)
    (completed,) = run.state.steps
    assert (completed.status, completed.model) == ("completed", "scripted")
    assert completed.duration_ms == 1_200
    assert completed.usage is not None


def test_a_failed_step_is_told_with_its_agent() -> None:
    run = started()
    run.fail(run.claim(run.assigned("code"), agent="ada"))
    (failed,) = run.state.steps
    assert (failed.status, failed.agent, failed.attempt) == ("failed", "ada", 1)


def test_a_state_crosses_processes() -> None:
    run = started()
    run.do("code")
    assert pickle.loads(pickle.dumps(run.state)) == run.state  # noqa: S301 - our own bytes


@pytest.mark.parametrize("position", range(1, 8))
def test_a_coordinator_that_restarts_anywhere_goes_on_the_same(position: int) -> None:
    run = started()
    run.do("code")
    run.do("test")
    resumed = SimulatedRun(PAIR, run.log[:position])
    live = RunState(workflows=run.workflows)
    for fact in run.log[:position]:
        live = evolve(live, fact)
    assert [draft_of(c, live).id for c in decide(live, START)] == [d.id for d in resumed.drafts]


def test_failures_of_unrelated_steps_do_not_stop_a_claimed_one_before_the_retry() -> None:
    run = started(
        WorkflowSpec(
            name="twins",
            nodes=(
                StepSpec(name="a", role="coder", backoff_s=0.0),
                StepSpec(name="b", role="coder"),
            ),
        )
    )
    other = run.claim(run.assigned("b"))
    run.write(failure_of(run.claim(run.assigned("a"))))
    assert [payload.step for payload in run.settle() if isinstance(payload, StepAssigned)] == ["a"]
    run.complete(other)
    assert ("b", 1, 0) in run.state.results
