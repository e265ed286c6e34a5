"""Workflows as data: which role does which step, and what each step may read.

A workflow is a set of nodes, in any order; a node is a step or a loop of steps. A step
starts when every answer it reads is there, so steps that do not read each other run side
by side.

Within a loop the order of the steps counts. A step that reads one listed before it gets
that answer of the same round; a step that reads itself or one listed after it gets the
answer of the round before, and nothing in the first round. Outside the loop its steps
stand for their answers of the last round.

Limits: a loop holds steps, not loops; there are no conditions but the verdict of a loop.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from actors.errors import (
    DuplicateName,
    EmptyWorkflow,
    InvalidLoop,
    InvalidStep,
    UnknownInput,
    WorkflowCycle,
)
from actors.roles import RoleSpec, role_spec
from bus.subjects import is_token

MAX_ATTEMPTS: Final = 3
DEADLINE_S: Final = 300.0
"""A small model on a shared CPU needs a minute for an answer; five leave room for a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step.

    Args:
        name: unique in the workflow; also names the task where the role has several.
        role: who does it.
        inputs: names of the steps whose answers it reads.
        max_attempts: how often it is tried before the run fails.
        deadline_s: seconds that an attempt may take once an agent has claimed it.

    Raises:
        InvalidStep: the name is not a token of a subject, or a limit is not positive.
        DuplicateName: an input is named twice.
        UnknownRole: nobody could take the step.
    """

    name: str
    role: str
    inputs: tuple[str, ...] = ()
    max_attempts: int = MAX_ATTEMPTS
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        if not is_token(self.name):
            raise InvalidStep(f"{self.name[:80]!r} cannot name a step: use A-Z a-z 0-9 _ -")
        if self.max_attempts < 1:
            raise InvalidStep(f"step {self.name} has {self.max_attempts} attempts, at least 1")
        if not (self.deadline_s > 0 and math.isfinite(self.deadline_s)):
            raise InvalidStep(f"step {self.name} has a deadline of {self.deadline_s} s")
        _require_unique(f"the inputs of step {self.name}", self.inputs)
        _ = self.work

    @property
    def work(self) -> RoleSpec:
        """The prompt and the answer of this step."""
        return role_spec(self.role, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSpec:
    """Steps that repeat until a verdict accepts the round, or the limit is reached.

    At the limit the run goes on with the last round, accepted or not.

    Args:
        name: unique in the workflow; heads its part of the document.
        steps: in the order in which they read each other within a round.
        verdict_step: the step whose answer's ``accepted`` ends the loop.
        limit: how many rounds at most.

    Raises:
        EmptyWorkflow: no steps.
        InvalidLoop: the verdict step is missing or gives no boolean ``accepted``, or limit < 1.
    """

    name: str
    steps: tuple[StepSpec, ...]
    verdict_step: str
    limit: int

    def __post_init__(self) -> None:
        if not is_token(self.name):
            raise InvalidLoop(f"{self.name[:80]!r} cannot name a loop: use A-Z a-z 0-9 _ -")
        if not self.steps:
            raise EmptyWorkflow(f"loop {self.name} has no steps")
        if self.limit < 1:
            raise InvalidLoop(f"loop {self.name} has a limit of {self.limit} rounds, at least 1")
        verdict = next((step for step in self.steps if step.name == self.verdict_step), None)
        if verdict is None:
            raise InvalidLoop(f"loop {self.name} has no step {self.verdict_step[:80]!r}")
        accepted = verdict.work.answer.model_fields.get("accepted")
        if accepted is None or accepted.annotation is not bool:
            raise InvalidLoop(
                f"the answer of step {verdict.name} ({verdict.role}) has no boolean `accepted`, "
                f"so it cannot end loop {self.name}"
            )

    def reads_same_round(self, step: StepSpec, source: str) -> bool:
        """Whether the step reads `source` of its own round rather than the one before."""
        names = [each.name for each in self.steps]
        return names.index(source) < names.index(step.name)


Node = StepSpec | LoopSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSpec:
    """A workflow that can be run to its end.

    Raises:
        EmptyWorkflow: no nodes.
        InvalidStep: the name is not a token.
        DuplicateName: two steps or loops share a name.
        UnknownInput: a step reads one that is not there.
        WorkflowCycle: nodes wait for each other; the message names them.
    """

    name: str
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not is_token(self.name):
            raise InvalidStep(f"{self.name[:80]!r} cannot name a workflow: use A-Z a-z 0-9 _ -")
        if not self.nodes:
            raise EmptyWorkflow(f"workflow {self.name} has no steps")
        loops = [node.name for node in self.nodes if isinstance(node, LoopSpec)]
        names = [step.name for step in self.steps()]
        _require_unique(f"workflow {self.name}", (*names, *loops))
        for step in self.steps():
            for source in step.inputs:
                if source not in names:
                    raise UnknownInput(
                        f"step {step.name} reads {source[:80]!r}, which is not a step of "
                        f"workflow {self.name}"
                    )
        _require_acyclic(self)

    def steps(self) -> Iterator[StepSpec]:
        """Every step, those of loops included, in the order of declaration."""
        for node in self.nodes:
            yield from steps_of(node)

    def step(self, name: str) -> StepSpec | None:
        """The step of that name, None if there is none."""
        return next((step for step in self.steps() if step.name == name), None)

    def node_of(self, step: str) -> Node:
        """The node that holds the step.

        Raises:
            UnknownInput: no such step.
        """
        for node in self.nodes:
            if any(each.name == step for each in steps_of(node)):
                return node
        raise UnknownInput(f"workflow {self.name} has no step {step[:80]!r}")


def steps_of(node: Node) -> tuple[StepSpec, ...]:
    """The steps of a node: itself, or those of the loop."""
    return node.steps if isinstance(node, LoopSpec) else (node,)


def _require_unique(where: str, names: tuple[str, ...]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DuplicateName(f"{where}: {', '.join(repeated)} is named more than once")


def _require_acyclic(workflow: WorkflowSpec) -> None:
    """Take away the nodes that wait for nobody until none is left, or none can be taken."""
    waiting = {
        node.name: {
            workflow.node_of(source).name for step in steps_of(node) for source in step.inputs
        }
        - ({node.name} if isinstance(node, LoopSpec) else set())
        for node in workflow.nodes
    }
    while waiting:
        free = {name for name, sources in waiting.items() if not sources & waiting.keys()}
        if not free:
            raise WorkflowCycle(
                f"in workflow {workflow.name} these wait for each other: "
                f"{', '.join(sorted(waiting))}"
            )
        waiting = {name: sources for name, sources in waiting.items() if name not in free}
