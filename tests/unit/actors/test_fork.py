"""A run that branches off from another and takes its answers over."""

from typing import Any

from pydantic import JsonValue

from actors.workflow import StepSpec, WorkflowSpec
from bus.payloads import AdoptedResult, Fork, RunCompleted, RunFailed, StepAssigned, Usage
from tests.unit.actors.simulation import SimulatedRun, answer_for

PAIR = WorkflowSpec(
    name="pair",
    nodes=(
        StepSpec(name="code", role="coder"),
        StepSpec(name="test", role="tester", inputs=("code",)),
    ),
)


def adopted(step: str, answer: dict[str, JsonValue], **more: Any) -> AdoptedResult:
    return AdoptedResult(
        step=step,
        iteration=1,
        event=f"{step}-of-the-parent",
        answer=answer,
        model="scripted",
        usage=Usage(prompt_tokens=100, completion_tokens=50),
        **more,
    )


def forked(*results: AdoptedResult) -> SimulatedRun:
    run = SimulatedRun(PAIR)
    run.submit(fork=Fork(parent="parent", at="event", adopted=results))
    run.settle()
    return run


def test_an_adopted_answer_is_read_and_not_asked_for() -> None:
    answer = {**answer_for("coder", "code"), "code": "print()"}
    run = forked(adopted("code", answer, changed=True))
    work = run.assigned("test")
    assert isinstance(work.payload, StepAssigned)
    assert work.payload.inputs == {"code": answer}
    assert work.cause == run.log[0].id, "the parent's event is none of this run"
    assert not any(
        isinstance(fact.payload, StepAssigned) and fact.payload.step == "code" for fact in run.log
    )
    assert run.state.submission is not None
    assert run.state.submission.parent == "parent"


def test_its_usage_is_what_it_asked_for_itself() -> None:
    run = forked(adopted("code", answer_for("coder", "code")))
    run.do("test")
    ended = run.state.ended
    assert isinstance(ended, RunCompleted)
    assert (ended.steps, ended.usage.prompt_tokens) == (2, 10)


def test_its_steps_say_what_was_adopted() -> None:
    code, test = forked(adopted("code", answer_for("coder", "code"))).state.steps
    assert (code.status, code.adopted, code.role, code.attempt) == ("completed", True, "coder", 0)
    assert (code.agent, code.epoch, code.duration_ms) == (None, None, None)
    assert (test.status, test.adopted) == ("assigned", False)


def test_a_run_that_adopts_everything_is_done_at_once() -> None:
    run = forked(
        adopted("code", answer_for("coder", "code")),
        adopted("test", answer_for("tester", "test")),
    )
    assert run.state.status == "completed"
    assert run.log[-1].cause == run.log[0].id


def test_a_changed_answer_of_the_wrong_shape_fails_the_run() -> None:
    run = forked(adopted("code", {"code": 7}, changed=True))
    ended = run.state.ended
    assert isinstance(ended, RunFailed)
    assert ended.code == "bad_fork"
    assert ended.message.startswith("step code: the answer is not a Code")


def test_an_answer_of_a_step_that_is_not_there_fails_the_run() -> None:
    ended = forked(adopted("poem", {})).state.ended
    assert isinstance(ended, RunFailed)
    assert ended.code == "bad_fork"


def test_the_first_of_two_answers_to_one_step_is_adopted() -> None:
    one, two = ({**answer_for("coder", "code"), "code": text} for text in ("one", "two"))
    run = forked(adopted("code", one), adopted("code", two))
    assert run.state.results["code", 1, 0].answer == one
