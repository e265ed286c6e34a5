"""A workflow as JSON, and back."""

import json

import pytest
from pydantic import JsonValue

from actors.definition import definition_of, workflow_from
from actors.errors import BadDefinition
from actors.sparc import SPARC
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.payloads import RunFailed, StepAssigned
from tests.unit.actors.simulation import LISTING, SimulatedRun

OWN = WorkflowSpec(
    name="own",
    nodes=(
        StepSpec(
            name="list",
            role="lister",
            max_attempts=5,
            deadline_s=7.0,
            backoff_s=2.5,
            approval=True,
            answer_schema=LISTING,
        ),
        StepSpec(name="code", role="coder", inputs=("list",), for_each="list.list"),
        LoopSpec(
            name="loop",
            steps=(StepSpec(name="verdict", role="judge", inputs=("code",)),),
            verdict_step="verdict",
            limit=4,
        ),
    ),
)


@pytest.mark.parametrize("workflow", [SPARC, OWN], ids=lambda workflow: workflow.name)
def test_a_workflow_survives_the_way_through_json(workflow: WorkflowSpec) -> None:
    text = json.dumps(definition_of(workflow))
    assert workflow_from(json.loads(text)) == workflow


def test_what_a_definition_leaves_out_has_its_default() -> None:
    definition: dict[str, JsonValue] = {
        "name": "short",
        "nodes": [{"kind": "step", "name": "code", "role": "coder"}],
    }
    code = StepSpec(name="code", role="coder")
    assert workflow_from(definition) == WorkflowSpec(name="short", nodes=(code,))


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ({}, "name: Field required"),
        ({"name": "w", "nodes": []}, "workflow w has no steps"),
        ({"name": "w", "nodes": [{"name": "a"}]}, "discriminator"),
        ({"name": "w", "nodes": [{"kind": "step", "name": "a", "role": "poet"}]}, "no role 'poet'"),
        ({"name": "w", "version": 2, "nodes": []}, "version"),
        ({"name": "w", "nodes": [], "secret": 1}, "secret"),
        (
            {"name": "w", "nodes": [{"kind": "step", "name": "a", "role": "coder", "inputs": "b"}]},
            "inputs",
        ),
        (
            {
                "name": "w",
                "nodes": [{"kind": "step", "name": "a", "role": "coder", "inputs": ["b"]}],
            },
            "step a reads 'b'",
        ),
        (
            {
                "name": "w",
                "nodes": [{"kind": "step", "name": "a", "role": "coder", "max_attempts": "3"}],
            },
            "max_attempts",
        ),
    ],
)
def test_what_is_no_workflow_is_refused_with_the_reason(
    definition: dict[str, JsonValue], reason: str
) -> None:
    with pytest.raises(BadDefinition, match=reason):
        workflow_from(definition)


def test_the_definition_in_the_log_is_what_is_run() -> None:
    run = SimulatedRun(SPARC)
    run.submit(workflow="own", definition=definition_of(OWN))
    run.settle()
    assert run.state.workflow == OWN
    run.approve("list")
    (assigned,) = run.settle()
    assert isinstance(assigned, StepAssigned)
    assert assigned.role == "lister"
    assert assigned.answer_schema == LISTING


def test_a_run_whose_definition_cannot_be_read_fails() -> None:
    run = SimulatedRun(SPARC)
    submitted = run.submit(definition={"name": "w", "nodes": []})
    (draft,) = run.drafts
    assert draft.payload == RunFailed(
        code="bad_definition", message="workflow w has no steps", step=None
    )
    assert draft.cause == submitted.id
