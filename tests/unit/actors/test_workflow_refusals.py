"""What does not count in a run, and how often that is said."""

from dataclasses import replace

import pytest

from actors.command import FailRun
from actors.decide import decide, draft_of
from actors.record import Fact
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import derive_id
from bus.payloads import (
    Payload,
    ResultRefused,
    RunFailed,
    StepAssigned,
    StepCompleted,
)
from tests.unit.actors.simulation import (
    RUN,
    START,
    SimulatedRun,
    claim_of,
    completion_of,
    stated,
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


def refusals(written: list[Payload]) -> list[str]:
    return [payload.reason for payload in written if isinstance(payload, ResultRefused)]


def test_an_answer_of_the_wrong_shape_is_refused_and_costs_an_attempt() -> None:
    run = started()
    completed = run.complete(run.claim(run.assigned("code")), {"code": 7})
    refused, assigned = run.settle()
    assert isinstance(refused, ResultRefused)
    assert refused.refused == completed.id
    assert refused.reason.startswith("the answer is not a Code: language: Field required")
    assert isinstance(assigned, StepAssigned)
    assert assigned.attempt == 2


def test_a_refusal_names_the_refused_event() -> None:
    run = started()
    run.do("code")
    late = run.complete(run.claim(run.assigned("code"), epoch=2))
    (draft,) = run.drafts
    assert draft.id == derive_id("result.refused", late.id)
    assert draft.cause == late.id
    assert draft.suffix == ()
    assert isinstance(draft.payload, ResultRefused)
    assert draft.payload.epoch == 2


def test_a_second_result_is_refused_once() -> None:
    run = started()
    run.do("code")
    run.complete(run.claim(run.assigned("code"), epoch=2))
    assert refusals(run.settle()) == ["step code, iteration 1 has an accepted result already"]
    assert run.drafts == []


def test_a_result_under_a_superseded_epoch_is_refused() -> None:
    run = started()
    assigned = run.assigned("code")
    slow, quick = run.claim(assigned), run.claim(assigned, epoch=2, agent="b")
    run.complete(slow)
    assert refusals(run.settle()) == ["epoch 1 is superseded by 2, claimed by b"]
    run.complete(quick)
    assert run.state.results["code", 1, 0].agent == "b"


def test_a_failure_under_a_superseded_epoch_does_not_end_the_attempt() -> None:
    run = started()
    assigned = run.assigned("code")
    slow, quick = run.claim(assigned), run.claim(assigned, epoch=2, agent="b")
    run.fail(slow, retryable=False)
    assert refusals(run.settle()) == ["epoch 1 is superseded by 2, claimed by b"]
    run.complete(quick)
    assert ("code", 1, 0) in run.state.results


def test_a_result_of_an_attempt_that_was_followed_is_refused() -> None:
    run = started()
    first = run.assigned("code")
    claim = run.claim(first)
    run.fail(claim)
    run.settle()
    run.complete(claim)
    assert refusals(run.settle()) == ["attempt 1 is not the current one, 2"]


def test_a_result_after_a_failure_of_the_same_attempt_is_refused() -> None:
    run = started()
    claim = run.claim(run.assigned("code"))
    run.fail(claim)
    run.complete(claim)
    assert refusals(run.settle()) == ["attempt 1 is over: deadline"]


def test_a_result_of_another_role_is_refused() -> None:
    run = started()
    claim = run.claim(run.assigned("code"))
    run.write(replace(completion_of(claim), role="tester"))
    (reason,) = refusals(run.settle())
    assert reason == "step code, iteration 1 was assigned to role coder, not tester"


def test_a_result_without_a_claim_is_refused() -> None:
    run = started()
    run.complete(claim_of(run.assigned("code")))
    assert refusals(run.settle()) == ["no known claim of this attempt stands behind epoch 1"]


def test_a_result_cannot_claim_another_epoch_than_its_claim() -> None:
    run = started()
    completed = completion_of(run.claim(run.assigned("code")))
    assert isinstance(completed.payload, StepCompleted)
    payload = completed.payload.model_copy(update={"epoch": 9})
    run.write(replace(completed, payload=payload))
    assert refusals(run.settle()) == ["no known claim of this attempt stands behind epoch 9"]


def test_a_claim_of_an_earlier_attempt_is_none_of_this_one() -> None:
    run = started()
    claim = run.claim(run.assigned("code"))
    run.fail(claim)
    run.settle()
    completed = completion_of(claim)
    assert isinstance(completed.payload, StepCompleted)
    payload = completed.payload.model_copy(update={"attempt": 2})
    run.write(replace(completed, payload=payload))
    assert refusals(run.settle()) == ["no known claim of this attempt stands behind epoch 1"]


def test_two_senders_of_one_id_are_refused_by_one_event() -> None:
    run = started()
    stray = completion_of(claim_of(run.assigned("code")))
    run.write(stray)
    run.write(replace(stray, agent="b"))
    assert len(run.drafts) == 1


def test_a_copy_of_the_accepted_result_by_another_sender_is_not_refused_under_its_id() -> None:
    run = started()
    run.write(replace(run.do("code"), agent="b"))
    assert refusals(run.settle()) == []
    assert run.state.results["code", 1, 0].agent == "a"


def test_a_copy_of_a_failure_that_counted_is_not_refused_under_its_id() -> None:
    run = started()
    run.write(replace(run.fail(run.claim(run.assigned("code"))), agent="b"))
    assert refusals(run.settle()) == []


def test_a_second_assignment_of_the_same_attempt_changes_nothing() -> None:
    run = started()
    assigned = run.assigned("code")
    run.write(replace(assigned, id="second"))
    assert run.state.assignments["code", 1, 0].id == assigned.id


def test_an_event_with_an_id_that_none_of_ours_has_changes_nothing() -> None:
    """A refusal could not name it."""
    run = started()
    before = run.state
    run.write(replace(claim_of(run.assigned("code")), id="x" * 65))
    assert run.state == before


def test_a_repeated_assignment_does_not_revive_a_failed_attempt() -> None:
    run = started()
    assigned = run.assigned("code")
    run.fail(run.claim(assigned))
    run.write(replace(assigned, agent="coordinator-2"))
    assert run.state.assignments["code", 1, 0].failure is not None


def test_an_assignment_after_the_accepted_result_changes_nothing() -> None:
    run = started()
    run.do("code")
    before = run.state.assignments
    assigned = run.assigned("code")
    payload = assigned.payload.model_copy(update={"attempt": 2})
    run.write(replace(assigned, id="second", payload=payload))
    assert run.state.assignments == before


def test_a_claim_by_another_role_fences_nobody_off() -> None:
    run = started()
    assigned = run.assigned("code")
    claim = run.claim(assigned)
    run.write(replace(claim_of(assigned, epoch=99, agent="b"), role="tester"))
    run.complete(claim)
    assert ("code", 1, 0) in run.state.results


def test_a_result_of_a_step_that_was_not_assigned_is_refused() -> None:
    run = started()
    claim = run.claim(run.assigned("code"))
    completed = completion_of(claim)
    assert isinstance(completed.payload, StepCompleted)
    payload = completed.payload.model_copy(update={"step": "test"})
    run.write(replace(completed, payload=payload))
    assert refusals(run.settle()) == ["step test, iteration 1 was not assigned"]


def test_a_result_after_the_end_is_refused_and_nothing_is_assigned() -> None:
    run = started()
    claim = run.claim(run.assigned("code"))
    run.write(stated(draft_of(fail_run(), run.state)))
    run.complete(claim)
    assert refusals(run.settle()) == ["the run has failed"]
    assert run.state.status == "failed"


def test_the_first_end_counts() -> None:
    run = started()
    run.write(stated(draft_of(fail_run(), run.state)))
    other = draft_of(fail_run(code="other"), run.state)
    run.write(replace(stated(other), id="other", agent="coordinator-2"))
    assert isinstance(run.state.ended, RunFailed)
    assert run.state.ended.code == "stopped"


def test_only_the_coordinator_assigns_refuses_and_ends() -> None:
    run = started()
    before = run.state
    run.write(replace(stated(draft_of(fail_run(), before)), role="coder"))
    assert run.state.ended is None
    assert decide(run.state, START) == decide(before, START)


@pytest.mark.parametrize("role", ["tester", "coder"])
def test_an_id_used_up_by_another_sender_hides_nothing(role: str) -> None:
    """A rogue agent sends its own event under the id that another agent's result will have."""
    run = started()
    claim = run.claim(run.assigned("code"))
    run.write(replace(completion_of(claim), role=role, agent="rogue", cause=None))
    run.complete(claim)
    assert run.state.results["code", 1, 0].agent == "a"


def test_a_refusal_read_before_what_it_refuses_is_not_repeated() -> None:
    run = started()
    run.do("code")
    late = completion_of(claim_of(run.assigned("code"), epoch=2))
    refused = ResultRefused(
        step="code", iteration=1, attempt=1, epoch=2, refused=late.id, reason="late"
    )
    run.write(
        Fact(
            id="x",
            run=RUN,
            role="coordinator",
            agent="c",
            time=START,
            payload=refused,
            cause=late.id,
        )
    )
    run.write(late)
    assert run.drafts == []


def fail_run(code: str = "stopped") -> FailRun:
    return FailRun(code=code, message="m" * 3_000, step=None, cause="x")
