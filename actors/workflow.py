"""Workflows as data: which role does which step, and what each step may read.

A workflow is a set of nodes, in any order; a node is a step or a loop of steps. A step
starts when every answer it reads is there, so steps that do not read each other run side
by side.

Within a loop the order of the steps counts. A step that reads one listed before it gets
that answer of the same round; a step that reads itself or one listed after it gets the
answer of the round before, and nothing in the first round. Outside the loop its steps
stand for their answers of the last round.

A step may be done once for each item of a list that it reads; who reads such a step gets
all answers in the order of the list.

Limits: a loop holds steps, not loops; there are no conditions but the verdict of a loop.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.errors import (
    DuplicateName,
    EmptyWorkflow,
    InvalidLoop,
    InvalidStep,
    UnknownInput,
    WorkflowCycle,
)
from actors.step import StepSpec
from bus.subjects import is_token

__all__ = ["LoopSpec", "Node", "StepSpec", "WorkflowSpec", "steps_of"]


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
        InvalidLoop: the verdict step is missing or gives no boolean ``accepted``, or limit < 1,
            or a step is fanned out over a list that the first round does not have.
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
        if not verdict.gives_verdict:
            raise InvalidLoop(
                f"the answer of step {verdict.name} ({verdict.role}) has no boolean `accepted`, "
                f"so it cannot end loop {self.name}"
            )
        own = {step.name for step in self.steps}
        for step in self.steps:
            if step.list_source in own and not self.reads_same_round(step, step.list_source):
                raise InvalidLoop(
                    f"step {step.name} is for each {step.for_each[:80]!r}, which the first "
                    f"round of loop {self.name} does not have"
                )

    def reads_same_round(self, step: StepSpec, source: str) -> bool:
        """Whether the step reads `source` of its own round rather than the one before."""
        names = [each.name for each in self.steps]
        return names.index(source) < names.index(step.name)


Node = StepSpec | LoopSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSpec:
    """A workflow that can be run to its end.

    Attributes:
        in_order: the nodes, each after those that it reads.

    Raises:
        EmptyWorkflow: no nodes.
        InvalidStep: the name is not a token.
        DuplicateName: two steps or loops share a name.
        UnknownInput: a step reads one that is not there.
        WorkflowCycle: nodes wait for each other; the message names them.
    """

    name: str
    nodes: tuple[Node, ...]
    in_order: tuple[Node, ...] = field(init=False, repr=False, compare=False)
    _steps: dict[str, StepSpec] = field(init=False, repr=False, compare=False)
    _homes: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_token(self.name):
            raise InvalidStep(f"{self.name[:80]!r} cannot name a workflow: use A-Z a-z 0-9 _ -")
        if not self.nodes:
            raise EmptyWorkflow(f"workflow {self.name} has no steps")
        loops = [node.name for node in self.nodes if isinstance(node, LoopSpec)]
        names = [step.name for step in self.steps()]
        _require_unique(f"workflow {self.name}", (*names, *loops))
        homes = {step.name: node for node in self.nodes for step in steps_of(node)}
        object.__setattr__(self, "_steps", {step.name: step for step in self.steps()})
        object.__setattr__(self, "_homes", homes)
        for step in self.steps():
            for source in step.inputs:
                if source not in homes:
                    raise UnknownInput(
                        f"step {step.name} reads {source[:80]!r}, which is not a step of "
                        f"workflow {self.name}"
                    )
        object.__setattr__(self, "in_order", _in_order(self))

    def steps(self) -> Iterator[StepSpec]:
        """Every step, those of loops included, in the order of declaration."""
        for node in self.nodes:
            yield from steps_of(node)

    def step(self, name: str) -> StepSpec | None:
        """The step of that name, None if there is none."""
        return self._steps.get(name)

    def node_of(self, step: str) -> Node:
        """The node that holds the step.

        Raises:
            UnknownInput: no such step.
        """
        try:
            return self._homes[step]
        except KeyError:
            raise UnknownInput(f"workflow {self.name} has no step {step[:80]!r}") from None


def steps_of(node: Node) -> tuple[StepSpec, ...]:
    """The steps of a node: itself, or those of the loop."""
    return node.steps if isinstance(node, LoopSpec) else (node,)


def _require_unique(where: str, names: tuple[str, ...]) -> None:
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise DuplicateName(f"{where}: {', '.join(repeated)} is named more than once")


def _in_order(workflow: WorkflowSpec) -> tuple[Node, ...]:
    """The nodes, each after those that it reads.

    Raises:
        WorkflowCycle: there is no such order.
    """
    nodes = {node.name: node for node in workflow.nodes}
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    waits_for = dict.fromkeys(nodes, 0)
    for node in workflow.nodes:
        sources = {workflow.node_of(name).name for step in steps_of(node) for name in step.inputs}
        if isinstance(node, LoopSpec):
            sources.discard(node.name)
        for source in sources:
            readers[source].append(node.name)
        waits_for[node.name] = len(sources)
    order = [name for name, number in waits_for.items() if number == 0]
    for name in order:
        for reader in readers[name]:
            waits_for[reader] -= 1
            if waits_for[reader] == 0:
                order.append(reader)
    waiting = sorted(nodes.keys() - set(order))
    if waiting:
        raise WorkflowCycle(
            f"in workflow {workflow.name} these wait for each other: {', '.join(waiting)}"
        )
    return tuple(nodes[name] for name in order)
