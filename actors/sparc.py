"""The workflows that ship with the swarm; SPARC is the one for software.

SPARC = Specification, Pseudocode, Architecture, Refinement, Completion. Research runs
beside the specification. In the refinement the coder reads the critique, the test and
the verdict of the round before; critic and tester work side by side.
"""

from collections.abc import Mapping
from typing import Final

from actors.errors import UnknownWorkflow
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec

REFINEMENT_ROUNDS: Final = 2
"""Each round costs four model calls; a second one mends most of what the first got wrong."""

SPARC: Final = WorkflowSpec(
    name="sparc",
    nodes=(
        StepSpec(name="specification", role="specifier"),
        StepSpec(name="research", role="researcher"),
        StepSpec(name="pseudocode", role="planner", inputs=("specification", "research")),
        StepSpec(name="architecture", role="architect", inputs=("specification", "pseudocode")),
        LoopSpec(
            name="refinement",
            steps=(
                StepSpec(
                    name="code",
                    role="coder",
                    inputs=(
                        "specification",
                        "pseudocode",
                        "architecture",
                        "code",
                        "critique",
                        "test",
                        "verdict",
                    ),
                ),
                StepSpec(
                    name="critique",
                    role="critic",
                    inputs=("specification", "architecture", "code"),
                ),
                StepSpec(name="test", role="tester", inputs=("specification", "code")),
                StepSpec(
                    name="verdict",
                    role="judge",
                    inputs=("specification", "code", "critique", "test"),
                ),
            ),
            verdict_step="verdict",
            limit=REFINEMENT_ROUNDS,
        ),
        StepSpec(
            name="completion",
            role="planner",
            inputs=("specification", "architecture", "code", "test", "verdict"),
        ),
    ),
)

WORKFLOWS: Final[Mapping[str, WorkflowSpec]] = {workflow.name: workflow for workflow in (SPARC,)}


def workflow_named(name: str, workflows: Mapping[str, WorkflowSpec] = WORKFLOWS) -> WorkflowSpec:
    """The workflow of that name.

    Raises:
        UnknownWorkflow: none has it; the message lists those that exist.
    """
    try:
        return workflows[name]
    except KeyError as error:
        known = ", ".join(sorted(workflows)) or "none"
        raise UnknownWorkflow(f"there is no workflow {name[:64]!r}; there are: {known}") from error
