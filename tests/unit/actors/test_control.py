"""What people ask of a run: cancel, pause, resume, retry, approvals."""

from dataclasses import replace

import pytest

from actors.workflow import StepSpec, WorkflowSpec
from bus.event import derive_id
from bus.payloads import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    CancelRequested,
    PauseRequested,
    Payload,
    Request,
    ResultRefused,
    ResumeRequested,
    RetryRequested,
    RunCancelled,
    RunFailed,
    StepAssigned,
)
from tests.unit.actors.simulation import RUN, SimulatedRun

TWINS = WorkflowSpec(
    name="twins",
    nodes=(
        StepSpec(name="a", role="coder", max_attempts=1),
        StepSpec(name="b", role="coder", max_attempts=1),
        StepSpec(name="end", role="tester", inputs=("a", "b")),
    ),
)
GATED = WorkflowSpec(
    name="gated",
    nodes=(
        StepSpec(name="code", role="coder"),
        StepSpec(name="test", role="tester", inputs=("code",), approval=True),
    ),
)


def started(workflow: WorkflowSpec = TWINS) -> SimulatedRun:
    run = SimulatedRun(workflow)
    run.submit()
    run.settle()
    return run


def stands(run: SimulatedRun) -> str:
    return run.state.status


def assigned(written: list[Payload]) -> list[tuple[str, int]]:
    return [(each.step, each.attempt) for each in written if isinstance(each, StepAssigned)]


def test_a_cancelled_run_ends_by_the_wish_of_a_person() -> None:
    run = started()
    wish = run.ask(CancelRequested, reason="too slow")
    (draft,) = run.drafts
    assert draft.payload == RunCancelled(requested_by="ann", reason="too slow")
    assert (draft.id, draft.cause) == (derive_id("run.ended", RUN), wish.id)
    run.settle()
    assert run.state.status == "cancelled"
    assert run.state.ended_at == run.now


def test_a_result_of_a_cancelled_run_is_refused() -> None:
    run = started()
    claim = run.claim(run.assigned("a"))
    run.ask(CancelRequested)
    run.settle()
    run.complete(claim)
    (refused,) = run.settle()
    assert isinstance(refused, ResultRefused)
    assert refused.reason == "the run was cancelled"


def test_a_wish_to_cancel_comes_before_a_failure() -> None:
    run = started()
    run.fail(run.claim(run.assigned("a")), retryable=False)
    run.ask(CancelRequested)
    run.settle()
    assert run.state.status == "cancelled"


@pytest.mark.parametrize("request_", [CancelRequested, PauseRequested, RetryRequested])
def test_a_run_that_was_completed_stays_so(request_: type[Request]) -> None:
    run = started(WorkflowSpec(name="one", nodes=(StepSpec(name="a", role="coder"),)))
    run.do("a")
    run.ask(request_)
    assert run.drafts == []
    assert run.state.status == "completed"


def test_only_a_gateway_speaks_for_people() -> None:
    run = started()
    wish = run.ask(CancelRequested)
    run.log[-1] = replace(wish, role="coder")
    assert run.state.cancel is None


def test_while_a_run_is_paused_what_has_begun_goes_on_and_nothing_begins() -> None:
    run = started()
    run.ask(PauseRequested)
    assert stands(run) == "paused"
    run.do("a")
    run.do("b")
    assert {key[0] for key in run.state.results} == {"a", "b"}
    assert run.drafts == []
    run.ask(ResumeRequested)
    assert stands(run) == "running"
    assert assigned(run.settle()) == [("end", 1)]


def test_a_paused_run_still_refuses_fails_and_is_cancelled() -> None:
    run = started()
    run.ask(PauseRequested)
    run.fail(run.claim(run.assigned("a")), retryable=False)
    assert [draft.payload.TYPE for draft in run.drafts] == [RunFailed.TYPE]
    run.ask(CancelRequested)
    assert [draft.payload.TYPE for draft in run.drafts] == [RunCancelled.TYPE]


def test_a_wish_that_two_gateways_repeat_counts_once() -> None:
    run = started()
    pause = run.ask(PauseRequested)
    run.ask(ResumeRequested)
    run.write(replace(pause, agent="gateway-2"))
    assert stands(run) == "running"


def test_a_retried_run_goes_on_from_what_failed() -> None:
    run = started()
    run.do("a")
    run.fail(run.claim(run.assigned("b")))
    run.settle()
    assert stands(run) == "failed"
    wish = run.ask(RetryRequested)
    assert (run.state.status, run.state.retries, run.state.ended_at) == ("running", 1, None)
    assert assigned(run.settle()) == [("b", 2)]
    assert run.assigned("b", attempt=2).cause == wish.id
    run.do("b", attempt=2)
    assert assigned([fact.payload for fact in run.log[-1:]]) == [("end", 1)]


def test_attempts_are_counted_anew_after_a_retry() -> None:
    run = started()
    run.do("a")
    for attempt in (1, 2, 3):
        run.fail(run.claim(run.assigned("b", attempt=attempt)))
        run.settle()
        ended = run.state.ended
        assert isinstance(ended, RunFailed)
        assert ended.message.startswith("step b failed once")
        run.ask(RetryRequested)
        assert assigned(run.settle()) == [("b", attempt + 1)]


def test_a_retried_step_has_all_its_attempts_again() -> None:
    code = StepSpec(name="code", role="coder", max_attempts=2, backoff_s=0.0)
    run = started(WorkflowSpec(name="one", nodes=(code,)))
    for attempt in (1, 2):
        run.fail(run.claim(run.assigned("code", attempt=attempt)))
        run.settle()
    assert stands(run) == "failed"
    run.ask(RetryRequested)
    run.settle()
    run.fail(run.claim(run.assigned("code", attempt=3)))
    assert assigned(run.settle()) == [("code", 4)]
    run.fail(run.claim(run.assigned("code", attempt=4)))
    run.settle()
    assert stands(run) == "failed"


def test_each_end_of_a_retried_run_has_an_id_of_its_own() -> None:
    run = started()
    run.fail(run.claim(run.assigned("a")))
    run.settle()
    run.ask(RetryRequested)
    run.settle()
    run.fail(run.claim(run.assigned("a", attempt=2)))
    run.settle()
    ends = [fact.id for fact in run.log if isinstance(fact.payload, RunFailed)]
    assert ends == [derive_id("run.ended", RUN), derive_id("run.ended", RUN, "1")]


def test_an_end_that_was_lifted_does_not_come_back() -> None:
    run = started()
    run.fail(run.claim(run.assigned("a")))
    run.settle()
    end = run.log[-1]
    run.ask(RetryRequested)
    run.write(replace(end, agent="coordinator-2"))
    assert run.state.ended is None


def test_what_was_under_way_when_a_run_failed_is_done_anew() -> None:
    """Its agent may have answered meanwhile, and have been refused."""
    run = started()
    late = run.claim(run.assigned("b"))
    run.fail(run.claim(run.assigned("a")))
    run.settle()
    run.complete(late)
    run.settle()
    run.ask(RetryRequested)
    assert assigned(run.settle()) == [("a", 2), ("b", 2)]
    run.do("b", attempt=2)
    assert ("b", 1, 0) in run.state.results


def test_the_latest_wish_of_a_retried_run_is_to_go_on() -> None:
    run = started()
    run.fail(run.claim(run.assigned("a")))
    drafts = run.drafts
    run.ask(PauseRequested)
    run.ask(CancelRequested)
    run.write(replace(run.log[-1], id="end", role="coordinator", payload=drafts[0].payload))
    assert stands(run) == "failed"
    run.ask(RetryRequested)
    assert stands(run) == "running"
    assert assigned(run.settle()) == [("a", 2), ("b", 2)]


def test_a_run_that_did_not_fail_cannot_be_retried() -> None:
    run = started()
    run.ask(RetryRequested)
    assert (run.state.retries, run.drafts) == (0, [])


def test_people_are_asked_before_a_step_begins() -> None:
    run = started(GATED)
    done = run.do("code")
    question = run.question("test")
    assert question.payload == ApprovalRequested(step="test", iteration=1, role="tester")
    assert question.id == derive_id("approval.requested", RUN, "test", "1")
    assert question.cause == done.id
    assert run.state.approvals["test", 1, 0].status == "pending"
    assert run.drafts == []
    given = run.approve("test")
    assert assigned(run.settle()) == [("test", 1)]
    assert run.assigned("test").cause == given.id
    run.do("test")
    assert run.state.status == "completed"


def test_a_denied_approval_fails_the_run() -> None:
    run = started(GATED)
    run.do("code")
    denied = run.deny("test", reason="not like this")
    (draft,) = run.drafts
    assert draft.payload == RunFailed(
        code="approval_denied",
        message="step test was not approved by ann: not like this",
        step="test",
    )
    assert draft.cause == denied.id


def test_the_first_answer_stands() -> None:
    run = started(GATED)
    run.do("code")
    run.approve("test")
    run.deny("test")
    assert run.state.approvals["test", 1, 0].status == "given"


@pytest.mark.parametrize("answer", [ApprovalGiven, ApprovalDenied])
def test_an_answer_to_a_question_that_nobody_asked_changes_nothing(answer: type[Request]) -> None:
    run = started(GATED)
    run.do("code")
    run.ask(answer, approval="nobody-asked")
    assert run.state.approvals["test", 1, 0].status == "pending"
    assert run.drafts == []


def test_a_second_attempt_needs_no_second_yes() -> None:
    run = started(GATED)
    run.do("code")
    run.approve("test")
    run.settle()
    run.fail(run.claim(run.assigned("test")))
    run.wait(1.0)
    assert assigned(run.settle()) == [("test", 2)]


def test_a_retry_asks_again_what_was_denied() -> None:
    run = started(GATED)
    run.do("code")
    run.deny("test")
    run.settle()
    run.ask(RetryRequested)
    (question,) = run.settle()
    assert isinstance(question, ApprovalRequested)
    assert run.question("test").id == derive_id("approval.requested", RUN, "test", "1", "1")
    run.approve("test")
    assert assigned(run.settle()) == [("test", 1)]


def test_nobody_is_asked_while_the_run_is_paused() -> None:
    run = started(GATED)
    run.ask(PauseRequested)
    run.do("code")
    assert run.drafts == []
    run.ask(ResumeRequested)
    assert [type(payload) for payload in run.settle()] == [ApprovalRequested]
