"""Workflows drawn by hypothesis, agents that see a run through, and what ought to count."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from actors.decide import wake_at
from actors.entry import Key
from actors.fact import Fact, Mark
from actors.outcome import key_of
from actors.record import RunState
from actors.roles import ROLES
from actors.workflow import LoopSpec, Node, StepSpec, WorkflowSpec, steps_of
from bus.payloads import (
    ResumeRequested,
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
)
from tests.unit.actors.simulation import LISTING, SimulatedRun, claim_of

ROUNDS_TO_END = 300
WORKER = "worker"
"""The role that is not built in."""
step_roles = st.sampled_from([*sorted(ROLES), WORKER, WORKER, WORKER])


@st.composite
def workflows(draw: st.DrawFn, *, sound: bool = False) -> WorkflowSpec:
    """Any workflow of up to four nodes, declared in any order.

    A sound one can be completed: every fan-out is over what is a list.
    """
    nodes: list[Node] = []
    steps: list[StepSpec] = []
    for number in range(draw(st.integers(1, 4))):
        is_loop = draw(st.booleans())
        node: Node = (
            draw(_loops(number, steps, sound=sound))
            if is_loop
            else draw(_steps(f"s{number}", steps, sound=sound))
        )
        nodes.append(node)
        steps += steps_of(node)
    return WorkflowSpec(name="drawn", nodes=tuple(draw(st.permutations(nodes))))


@st.composite
def _steps(
    draw: st.DrawFn,
    name: str,
    sources: list[StepSpec],
    later: tuple[str, ...] = (),
    *,
    sound: bool,
    is_verdict: bool = False,
) -> StepSpec:
    names = [step.name for step in sources] + list(later)
    inputs = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
    lists = [
        f"{source.name}.{'items' if source.for_each else 'list'}"
        for source in sources
        if source.name in inputs and (source.for_each or source.role == WORKER)
    ]
    if not sound:
        lists += [f"{source.name}.nothing" for source in sources[:1] if source.name in inputs]
    fans_out = bool(lists) and not is_verdict and draw(st.booleans())
    role = draw(st.sampled_from(["judge", WORKER]) if is_verdict else step_roles)
    return StepSpec(
        name=name,
        role=role,
        inputs=tuple(inputs),
        max_attempts=draw(st.integers(1, 3)),
        backoff_s=draw(st.sampled_from([0.0, 0.0, 1.0, 10.0])),
        approval=draw(st.sampled_from([False, False, True])),
        for_each=draw(st.sampled_from(lists)) if fans_out else "",
        answer_schema=LISTING if role == WORKER else None,
    )


@st.composite
def _loops(draw: st.DrawFn, number: int, sources: list[StepSpec], *, sound: bool) -> LoopSpec:
    names = [f"l{number}-{letter}" for letter in "abc"[: draw(st.integers(1, 3))]]
    verdict = draw(st.sampled_from(names))
    steps: list[StepSpec] = []
    for place, name in enumerate(names):
        known, later = [*sources, *steps], tuple(names[place:])
        step = draw(_steps(name, known, later, sound=sound, is_verdict=name == verdict))
        steps.append(step)
    return LoopSpec(
        name=f"loop{number}",
        steps=tuple(steps),
        verdict_step=verdict,
        limit=draw(st.integers(1, 3)),
    )


def bring_to_an_end(run: SimulatedRun, answer: Callable[[Fact], Fact]) -> RunState:
    """People let everything begin, agents claim and answer what is open, until the run ends."""
    for _ in range(ROUNDS_TO_END):
        run.settle()
        state = run.state
        if state.ended is not None:
            return state
        if not _help(run, state, answer):
            wakes = wake_at(state, run.now)
            assert wakes is not None, "nobody has anything to do, and the run has not ended"
            run.now = wakes
    raise AssertionError("the run does not end")


def _help(run: SimulatedRun, state: RunState, answer: Callable[[Fact], Fact]) -> bool:
    """Whether anybody had something to do."""
    if state.paused:
        run.ask(ResumeRequested)
        return True
    pending = [key for key, each in state.approvals.items() if each.status == "pending"]
    for step, iteration, _ in pending:
        run.approve(step, iteration)
    waiting = {
        assignment.id: assignment
        for key, assignment in state.assignments.items()
        if key not in state.results and assignment.failure is None
    }
    for assigned in {fact.id: fact for fact in run.log if fact.id in waiting}.values():
        last = state.last_claim(waiting[assigned.id])
        claim = claim_of(assigned, epoch=last.epoch + 1 if last else 1, agent="late")
        run.write(claim)
        run.write(answer(claim))
    return bool(pending or waiting)


@dataclass
class PlainRules:
    """Which results count, told once more in the plainest way."""

    accepted: dict[Key, str] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    assigned: dict[Key, Fact] = field(default_factory=dict)
    claims: list[Fact] = field(default_factory=list)
    has_ended: bool = False
    has_failed: bool = False

    def read(self, log: list[Fact]) -> dict[Key, str]:
        """The ids of the results that count."""
        seen: set[Mark] = set()
        for fact in log:
            if fact.mark not in seen:
                self._take(fact)
            seen.add(fact.mark)
        return self.accepted

    def _take(self, fact: Fact) -> None:
        match fact.payload:
            case RunCompleted() | RunCancelled() | RunFailed() as ended if not self.has_ended:
                self.has_ended, self.has_failed = True, isinstance(ended, RunFailed)
            case RetryRequested() if self.has_failed:
                self.has_ended = self.has_failed = False
                open_ = (each for key, each in self.assigned.items() if key not in self.accepted)
                self.over |= {each.id for each in open_}
            case StepAssigned() as payload:
                current = self.assigned.get(key_of(payload))
                if key_of(payload) not in self.accepted and (
                    current is None or _attempt(current) < payload.attempt
                ):
                    self.assigned[key_of(payload)] = fact
            case StepClaimed():
                self.claims.append(fact)
            case StepCompleted() | StepFailed() as payload:
                self._judge(fact, payload)

    def _judge(self, fact: Fact, payload: StepCompleted | StepFailed) -> None:
        key = key_of(payload)
        current = self.assigned.get(key)
        if self.has_ended or key in self.accepted or current is None or current.id in self.over:
            return
        work = current.payload
        assert isinstance(work, StepAssigned)
        claims = [
            (each.id, each.payload.epoch)
            for each in self.claims
            if each.cause == current.id
            and each.role == work.role
            and isinstance(each.payload, StepClaimed)
        ]
        if (
            payload.attempt == work.attempt
            and fact.role == work.role
            and (fact.cause, payload.epoch) in claims
            and payload.epoch == max(epoch for _, epoch in claims)
        ):
            if isinstance(payload, StepFailed) or "other" in payload.answer:
                self.over.add(current.id)
            else:
                self.accepted[key] = fact.id


def _attempt(assigned: Fact) -> int:
    assert isinstance(assigned.payload, StepAssigned)
    return assigned.payload.attempt
