"""Instructions for a run that branches off: whether anybody is going to read them."""

from collections.abc import Mapping

import pytest
from pydantic import JsonValue

from actors.errors import CannotFork
from actors.fork import Changes, fork_run
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.payloads import RunSubmitted
from tests.recording import Recording

FAN = WorkflowSpec(
    name="fan",
    nodes=(
        StepSpec(name="list", role="researcher"),
        StepSpec(name="part", role="coder", inputs=("list",), for_each="list.findings"),
        StepSpec(name="end", role="tester", inputs=("part",)),
    ),
)
LOOP = WorkflowSpec(
    name="loop",
    nodes=(
        LoopSpec(
            name="refine",
            steps=(
                StepSpec(name="code", role="coder"),
                StepSpec(name="judge", role="judge", inputs=("code",)),
            ),
            verdict_step="judge",
            limit=2,
        ),
        StepSpec(name="test", role="tester", inputs=("code",)),
    ),
)
TWO: dict[str, JsonValue] = {"findings": ["one", "two"], "risks": ["none"]}


def begun(workflow: WorkflowSpec) -> Recording:
    recording = Recording(workflow)
    recording.submit()
    recording.settle()
    return recording


def fanned(parts: int) -> Recording:
    """The list has two items, so many of which are done."""
    recording = begun(FAN)
    recording.answer(recording.claim(recording.open()[0]), TWO)
    recording.settle()
    for assigned in recording.open()[:parts]:
        recording.do(assigned)
    return recording


def looped(*verdicts: bool, more: int = 0) -> Recording:
    """A round for each verdict, and so many steps of the next."""
    recording = begun(LOOP)
    for accepted in verdicts:
        recording.do(recording.open()[0])
        recording.do(recording.open()[0], accepted=accepted)
    for _ in range(more):
        recording.do(recording.open()[0])
    return recording


def forked(
    recording: Recording, step: str, values: Mapping[str, JsonValue] | None = None
) -> RunSubmitted:
    changes = Changes(values=values or {}, instructions={step: "in verse"})
    at = recording.events[-1].event.id
    return fork_run(recording.events, at, changes, requested_by="ann")


@pytest.mark.parametrize(
    ("recording", "step"),
    [
        (fanned(0), "list"),
        (fanned(2), "part"),
        (looped(True), "code"),
        (looped(True), "judge"),
        (looped(False, True), "code"),
        (looped(False, False), "judge"),
        (looped(False, more=1), "code"),
    ],
)
def test_what_nobody_would_read_is_refused(recording: Recording, step: str) -> None:
    with pytest.raises(CannotFork, match=f"step {step} keeps its answer"):
        forked(recording, step)


@pytest.mark.parametrize(
    ("recording", "step"),
    [
        (fanned(0), "part"),
        (fanned(1), "part"),
        (fanned(2), "end"),
        (looped(True), "test"),
        (looped(), "judge"),
        (looped(more=1), "code"),
        (looped(False), "code"),
        (looped(False, more=1), "judge"),
    ],
)
def test_what_somebody_may_read_is_taken(recording: Recording, step: str) -> None:
    assert forked(recording, step).instructions == {step: "in verse"}


def test_changed_answers_decide_what_is_done_again() -> None:
    assert forked(looped(True), "code", {"judge.accepted": False}).instructions
    with pytest.raises(CannotFork):
        forked(looped(False), "code", {"judge.accepted": True})
    assert forked(fanned(2), "part", {"list.findings": ["one", "two", "three"]}).instructions
    with pytest.raises(CannotFork):
        forked(fanned(1), "part", {"list.findings": ["one"]})
