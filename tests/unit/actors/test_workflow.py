"""Workflows as data: what can be declared, and what cannot."""

import pickle

import pytest

from actors.errors import (
    DuplicateName,
    EmptyWorkflow,
    InvalidLoop,
    InvalidStep,
    UnknownInput,
    UnknownRole,
    UnknownWorkflow,
    WorkflowCycle,
)
from actors.sparc import SPARC, workflow_named
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec

CODE = StepSpec(name="code", role="coder", inputs=("verdict",))
VERDICT = StepSpec(name="verdict", role="judge", inputs=("code",))


def test_a_diamond_may_be_declared_in_any_order() -> None:
    workflow = WorkflowSpec(
        name="diamond",
        nodes=(
            StepSpec(name="end", role="planner", inputs=("left", "right")),
            StepSpec(name="right", role="tester", inputs=("start",)),
            StepSpec(name="left", role="critic", inputs=("start",)),
            StepSpec(name="start", role="coder"),
        ),
    )
    assert [step.name for step in workflow.steps()] == ["end", "right", "left", "start"]


def test_a_workflow_needs_a_step() -> None:
    with pytest.raises(EmptyWorkflow, match="workflow none has no steps"):
        WorkflowSpec(name="none", nodes=())


def test_a_loop_needs_a_step() -> None:
    with pytest.raises(EmptyWorkflow, match="loop none"):
        LoopSpec(name="none", steps=(), verdict_step="verdict", limit=1)


def test_an_input_must_be_a_step_of_the_workflow() -> None:
    with pytest.raises(UnknownInput, match="step code reads 'verdict'"):
        WorkflowSpec(name="w", nodes=(CODE,))


def test_a_loop_cannot_be_an_input() -> None:
    loop = LoopSpec(name="refinement", steps=(CODE, VERDICT), verdict_step="verdict", limit=1)
    end = StepSpec(name="end", role="planner", inputs=("refinement",))
    with pytest.raises(UnknownInput):
        WorkflowSpec(name="w", nodes=(loop, end))


@pytest.mark.parametrize("inputs", [("a",), ("b",)])
def test_steps_that_wait_for_each_other_are_a_cycle(inputs: tuple[str, ...]) -> None:
    first = StepSpec(name="a", role="coder", inputs=inputs)
    second = StepSpec(name="b", role="coder", inputs=("a",))
    with pytest.raises(WorkflowCycle, match="a, b"):
        WorkflowSpec(name="w", nodes=(first, second))


def test_a_cycle_through_a_loop_is_a_cycle() -> None:
    loop = LoopSpec(
        name="refinement",
        steps=(StepSpec(name="verdict", role="judge", inputs=("end",)),),
        verdict_step="verdict",
        limit=2,
    )
    end = StepSpec(name="end", role="planner", inputs=("verdict",))
    with pytest.raises(WorkflowCycle, match="end, refinement"):
        WorkflowSpec(name="w", nodes=(loop, end))


def test_steps_of_a_loop_may_read_each_other_and_themselves() -> None:
    code = StepSpec(name="code", role="coder", inputs=("code", "verdict"))
    loop = LoopSpec(name="loop", steps=(code, VERDICT), verdict_step="verdict", limit=2)
    WorkflowSpec(name="w", nodes=(loop,))
    assert loop.reads_same_round(VERDICT, "code")
    assert not loop.reads_same_round(code, "verdict")
    assert not loop.reads_same_round(code, "code")


def test_names_are_unique_across_steps_and_loops() -> None:
    loop = LoopSpec(name="code", steps=(CODE, VERDICT), verdict_step="verdict", limit=1)
    with pytest.raises(DuplicateName, match="code is named more than once"):
        WorkflowSpec(name="w", nodes=(loop,))


def test_an_input_is_named_once() -> None:
    with pytest.raises(DuplicateName):
        StepSpec(name="code", role="coder", inputs=("a", "a"))


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_deadline_is_positive_and_finite(deadline_s: float) -> None:
    with pytest.raises(InvalidStep, match="deadline"):
        StepSpec(name="code", role="coder", deadline_s=deadline_s)


def test_a_step_is_tried_at_least_once() -> None:
    with pytest.raises(InvalidStep, match="attempts"):
        StepSpec(name="code", role="coder", max_attempts=0)


@pytest.mark.parametrize("name", ["", "two words", "a.b", "x" * 65])
def test_names_are_tokens_of_a_subject(name: str) -> None:
    with pytest.raises(InvalidStep):
        StepSpec(name=name, role="coder")
    with pytest.raises(InvalidStep):
        WorkflowSpec(name=name, nodes=(StepSpec(name="a", role="coder"),))
    with pytest.raises(InvalidLoop):
        LoopSpec(name=name, steps=(VERDICT,), verdict_step="verdict", limit=1)


def test_a_role_that_nobody_plays_is_refused() -> None:
    with pytest.raises(UnknownRole, match="there is no role 'poet'; there are architect, coder"):
        StepSpec(name="poem", role="poet")


def test_a_loop_ends_by_a_boolean_verdict_of_its_own() -> None:
    with pytest.raises(InvalidLoop, match="no boolean `accepted`"):
        LoopSpec(name="loop", steps=(CODE, VERDICT), verdict_step="code", limit=1)
    with pytest.raises(InvalidLoop, match="has no step 'end'"):
        LoopSpec(name="loop", steps=(CODE, VERDICT), verdict_step="end", limit=1)
    with pytest.raises(InvalidLoop, match="limit of 0"):
        LoopSpec(name="loop", steps=(CODE, VERDICT), verdict_step="verdict", limit=0)


def test_a_workflow_is_found_by_name() -> None:
    assert workflow_named("sparc") is SPARC


def test_an_unknown_workflow_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownWorkflow, match=r"no workflow 'poem'; there are: sparc"):
        workflow_named("poem")


def test_a_workflow_crosses_processes() -> None:
    assert pickle.loads(pickle.dumps(SPARC)) == SPARC  # noqa: S301 - our own bytes
