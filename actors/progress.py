"""How far a run has come, worked out once for one decision. Pure.

A step that is done once has one answer for each iteration; one that is fanned out has as
many as the list that it is done for, and stands for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from actors.entry import Result
from actors.record import RunState
from actors.workflow import LoopSpec, Node, StepSpec, WorkflowSpec, steps_of

MAX_ITEMS: Final = 256
"""Of one fan-out: each is an assignment, and whoever reads them gets all answers at once."""

Answer = Mapping[str, JsonValue]
Place = tuple[str, int]
"""A step and its iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a step cannot be fanned out, by the event of that id, None for one adopted."""

    code: str
    message: str
    step: str
    cause: str | None


@dataclass(slots=True)
class Progress:
    """What is done and what may begin in one state of a run; nothing in it changes."""

    state: RunState
    workflow: WorkflowSpec
    _rounds: dict[str, int] = field(default_factory=dict)
    _results: dict[Place, tuple[Result, ...] | None] = field(default_factory=dict)
    _answers: dict[Place, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Work out each step after those that it reads, so that no chain of them is too deep."""
        for node in self.workflow.in_order:
            number = self.round(node)
            for step in steps_of(node):
                self.results(step, number)

    def round(self, node: Node) -> int:
        """The round that a node is in, or ended with; 1 for a step of its own."""
        if not isinstance(node, LoopSpec):
            return 1
        number = self._rounds.get(node.name)
        if number is None:
            number = 1
            while (
                number < node.limit
                and self._has_all(node, number)
                and not self.is_accepted(node, number)
            ):
                number += 1
            self._rounds[node.name] = number
        return number

    def final_round(self, node: Node) -> int:
        """The round whose answers stand for the node; 0 while it is not done."""
        last = self.round(node)
        return last if self._has_all(node, last) else 0

    def is_accepted(self, loop: LoopSpec, number: int) -> bool:
        """Whether the verdict of a round that is done accepts it."""
        return self.answer(loop.verdict_step, number).get("accepted") is True

    def results(self, step: StepSpec, iteration: int) -> tuple[Result, ...] | None:
        """The accepted results of a step, in the order of its list; None while one is missing."""
        place = step.name, iteration
        if place not in self._results:
            self._results[place] = self._find_results(step, iteration)
        return self._results[place]

    def answer(self, name: str, iteration: int) -> Answer:
        """What whoever reads a step gets to read; the step is done in that iteration."""
        place = name, iteration
        if place not in self._answers:
            step = self.workflow.step(name)
            results = self.results(step, iteration) if step else None
            if step is None or results is None:
                raise KeyError(place)
            self._answers[place] = (
                {"items": [dict(result.answer) for result in results]}
                if step.for_each
                else results[0].answer
            )
        return self._answers[place]

    def sources(self, node: Node, step: StepSpec, iteration: int) -> tuple[Place, ...] | None:
        """What a step reads, None while something of it is missing."""
        places: list[Place] = []
        for name in step.inputs:
            place = self._source(node, step, name, iteration)
            if place is None:
                return None
            if place[1] > 0:
                places.append(place)
        return tuple(places)

    def items(self, step: StepSpec, iteration: int) -> Sequence[JsonValue] | Misfit | None:
        """The list that a step is fanned out over; None while it is not there."""
        node = self.workflow.node_of(step.name)
        place = self._source(node, step, step.list_source, iteration)
        if place is None:
            return None
        items = self.answer(*place).get(step.list_field)
        if not isinstance(items, list):
            code, message = "not_a_list", f"{step.for_each} is not a list"
        elif len(items) > MAX_ITEMS:
            code = "too_many_items"
            message = f"{step.for_each} has {len(items)} items, at most {MAX_ITEMS}"
        else:
            return items
        return Misfit(
            code=code,
            message=f"step {step.name} cannot be done for each: {message}",
            step=step.name,
            cause=self.last_event([place]),
        )

    def last_event(self, places: Sequence[Place]) -> str | None:
        """The event that came last of those that complete the steps; None if all are adopted."""
        last: Result | None = None
        for name, iteration in places:
            for result in self._making(name, iteration):
                if not result.adopted and (last is None or result.place > last.place):
                    last = result
        return last.id if last else None

    def _making(self, name: str, iteration: int) -> tuple[Result, ...]:
        """The results that complete a step: its own, or those that left it nothing to do."""
        place: Place | None = (name, iteration)
        while place is not None:
            step = self.workflow.step(place[0])
            results = self.results(step, place[1]) if step else None
            if results or step is None or not step.for_each:
                return results or ()
            node = self.workflow.node_of(step.name)
            place = self._source(node, step, step.list_source, place[1])
        return ()

    def _find_results(self, step: StepSpec, iteration: int) -> tuple[Result, ...] | None:
        known = self.state.results
        if not step.for_each:
            result = known.get((step.name, iteration, 0))
            return None if result is None else (result,)
        items = self.items(step, iteration)
        if items is None or isinstance(items, Misfit):
            return None
        found = []
        for item in range(1, len(items) + 1):
            result = known.get((step.name, iteration, item))
            if result is None:
                return None
            found.append(result)
        return tuple(found)

    def _source(self, node: Node, step: StepSpec, name: str, iteration: int) -> Place | None:
        """Where a step reads an input: of round 0 where there is none yet to read."""
        origin = self.workflow.node_of(name)
        if origin is node and isinstance(node, LoopSpec):
            number = iteration - (not node.reads_same_round(step, name))
        else:
            number = self.final_round(origin)
            if number == 0:
                return None
        if number == 0:
            return name, 0
        source = self.workflow.step(name)
        return (name, number) if source and self.results(source, number) is not None else None

    def _has_all(self, node: Node, number: int) -> bool:
        return all(self.results(step, number) is not None for step in steps_of(node))
