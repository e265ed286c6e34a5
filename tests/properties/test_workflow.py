"""A run under a hostile bus: whatever it delivers, the run stays legal and comes to an end."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.command import RefuseResult
from actors.decide import decide, draft_of
from actors.record import Fact, Key, Result, RunState
from actors.roles import ROLES
from actors.run_state import evolve, fold
from actors.workflow import LoopSpec, Node, StepSpec, WorkflowSpec, steps_of
from bus.payloads import (
    RunCompleted,
    RunFailed,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
)
from tests.unit.actors.simulation import (
    SimulatedRun,
    answer_for,
    claim_of,
    completion_of,
    failure_of,
    stated,
)

ROUNDS_TO_END = 200
SETTINGS = settings(
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

step_roles = st.sampled_from(sorted(ROLES))


@st.composite
def workflows(draw: st.DrawFn) -> WorkflowSpec:
    """Any workflow of up to four nodes, declared in any order."""
    nodes: list[Node] = []
    names: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        is_loop = draw(st.booleans())
        node: Node = draw(_loops(number, names)) if is_loop else draw(_steps(f"s{number}", names))
        nodes.append(node)
        names += [step.name for step in steps_of(node)]
    return WorkflowSpec(name="drawn", nodes=tuple(draw(st.permutations(nodes))))


@st.composite
def _steps(
    draw: st.DrawFn, name: str, sources: list[str], roles: st.SearchStrategy[str] = step_roles
) -> StepSpec:
    inputs = draw(st.lists(st.sampled_from(sources), unique=True, max_size=3)) if sources else []
    return StepSpec(
        name=name,
        role=draw(roles),
        inputs=tuple(inputs),
        max_attempts=draw(st.integers(1, 3)),
    )


@st.composite
def _loops(draw: st.DrawFn, number: int, sources: list[str]) -> LoopSpec:
    names = [f"l{number}-{letter}" for letter in "abc"[: draw(st.integers(1, 3))]]
    verdict = draw(st.sampled_from(names))
    steps = [
        draw(_steps(name, [*sources, *names], st.just("judge") if name == verdict else step_roles))
        for name in names
    ]
    return LoopSpec(
        name=f"loop{number}",
        steps=tuple(steps),
        verdict_step=verdict,
        limit=draw(st.integers(1, 3)),
    )


def bring_to_an_end(run: SimulatedRun, answer: Callable[[Fact], Fact]) -> RunState:
    """Agents claim and answer whatever is open until the run has ended."""
    for _ in range(ROUNDS_TO_END):
        run.settle()
        state = run.state
        if state.ended is not None:
            return state
        waiting = {
            assignment.id: assignment
            for key, assignment in state.assignments.items()
            if key not in state.results
        }
        assert waiting, "nobody has anything to do, and the run has not ended"
        for assigned in {fact.id: fact for fact in run.log if fact.id in waiting}.values():
            last = state.last_claim(waiting[assigned.id])
            claim = claim_of(assigned, epoch=last.epoch + 1 if last else 1, agent="late")
            run.write(claim)
            run.write(answer(claim))
    raise AssertionError("the run does not end")


def accepted_by_the_rules(log: list[Fact]) -> dict[Key, str]:
    """The ids of the results that count, told once more in the plainest way."""
    accepted: dict[Key, str] = {}
    over: set[str] = set()
    for position, fact in enumerate(log):
        payload = fact.payload
        before = log[:position]
        if not isinstance(payload, StepCompleted | StepFailed):
            continue
        if fact.mark in {each.mark for each in before}:
            continue
        key = payload.step, payload.iteration
        if key in accepted or any(
            isinstance(each.payload, RunCompleted | RunFailed) for each in before
        ):
            continue
        assigned = [
            each
            for each in before
            if isinstance(each.payload, StepAssigned)
            and (each.payload.step, each.payload.iteration) == key
        ]
        current = max(assigned, key=_attempt, default=None)
        if current is None or current.id in over or _attempt(current) != payload.attempt:
            continue
        claims = [
            each
            for each in before
            if isinstance(each.payload, StepClaimed)
            and each.cause == current.id
            and each.role == _role(current)
        ]
        answered = {_epoch(each) for each in claims if each.id == fact.cause}
        if fact.role != _role(current) or payload.epoch not in answered:
            continue
        if payload.epoch < max(map(_epoch, claims)):
            continue
        if isinstance(payload, StepFailed) or "other" in payload.answer:
            over.add(current.id)
        else:
            accepted[key] = fact.id
    return accepted


def _attempt(assigned: Fact) -> int:
    assert isinstance(assigned.payload, StepAssigned)
    return assigned.payload.attempt


def _role(assigned: Fact) -> str:
    assert isinstance(assigned.payload, StepAssigned)
    return assigned.payload.role


def _epoch(claim: Fact) -> int:
    assert isinstance(claim.payload, StepClaimed)
    return claim.payload.epoch


class HostileBus(RuleBasedStateMachine):
    """Agents write in any order, under any epoch, twice or not at all; coordinators restart."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Fact] = []
        self.accepted: dict[Key, Result] = {}

    @initialize(workflow=workflows())
    def submit(self, workflow: WorkflowSpec) -> None:
        self.run = SimulatedRun(workflow)
        self.live = RunState(workflows=self.run.workflows)
        self.store(self.run.submit, [])

    def store(self, make: Callable[..., Fact], arguments: list[Fact]) -> None:
        self.live = evolve(self.live, make(*arguments))

    def facts(self, *kinds: type) -> list[Fact]:
        return [fact for fact in (*self.run.log, *self.sent) if isinstance(fact.payload, kinds)]

    @rule(cut=st.integers(0, 4))
    def a_coordinator_decides_and_may_die_in_between(self, cut: int) -> None:
        drafts = self.run.drafts
        for draft in drafts[: cut or len(drafts)]:
            self.store(self.run.write, [stated(draft)])

    @rule(share=st.floats(0, 1))
    def a_coordinator_that_lags_behind_decides(self, share: float) -> None:
        past = SimulatedRun(self.run.workflow, self.run.log[: int(share * len(self.run.log))])
        known = {fact.id for fact in self.run.log}
        for draft in past.drafts:
            if draft.id not in known:
                self.store(self.run.write, [stated(draft)])

    @precondition(lambda self: self.facts(StepAssigned))
    @rule(data=st.data(), epoch=st.integers(1, 4), agent=st.sampled_from("ab"))
    def an_agent_claims(self, data: st.DataObject, epoch: int, agent: str) -> None:
        assigned = data.draw(st.sampled_from(self.facts(StepAssigned)))
        self.sent.append(claim_of(assigned, epoch=epoch, agent=agent))

    @precondition(lambda self: self.facts(StepClaimed))
    @rule(data=st.data(), accepted=st.booleans(), fits=st.sampled_from([True, True, False]))
    def an_agent_answers(self, data: st.DataObject, *, accepted: bool, fits: bool) -> None:
        claim = data.draw(st.sampled_from(self.facts(StepClaimed)))
        assert isinstance(claim.payload, StepClaimed)
        answer = answer_for(claim.role, claim.payload.step, accepted=accepted)
        self.sent.append(completion_of(claim, answer if fits else {"other": 1}))

    @precondition(lambda self: self.facts(StepClaimed))
    @rule(data=st.data(), retryable=st.sampled_from([True, True, True, False]))
    def an_agent_fails(self, data: st.DataObject, *, retryable: bool) -> None:
        claim = data.draw(st.sampled_from(self.facts(StepClaimed)))
        self.sent.append(failure_of(claim, retryable=retryable))

    @precondition(lambda self: self.facts(StepCompleted))
    @rule(
        data=st.data(),
        role=step_roles,
        changed=st.fixed_dictionaries(
            {},
            optional={
                "epoch": st.integers(1, 4),
                "attempt": st.integers(1, 3),
                "iteration": st.integers(1, 3),
            },
        ),
    )
    def a_rogue_answers(self, data: st.DataObject, role: str, changed: dict[str, int]) -> None:
        stolen = data.draw(st.sampled_from(self.facts(StepCompleted)))
        payload = stolen.payload.model_copy(update=changed)
        name = f"rogue-{len(self.sent)}-{len(self.run.log)}"
        keeps_role = data.draw(st.booleans())
        self.sent.append(
            replace(
                stolen,
                id=name,
                agent=name,
                role=stolen.role if keeps_role else role,
                payload=payload,
            )
        )

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def the_bus_delivers_something(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.sent) - 1))
        self.store(self.run.write, [self.sent.pop(number)])

    @precondition(lambda self: self.sent)
    @rule()
    def the_bus_delivers_everything(self) -> None:
        while self.sent:
            self.store(self.run.write, [self.sent.pop(0)])

    @rule(data=st.data())
    def the_bus_repeats_itself(self, data: st.DataObject) -> None:
        self.store(self.run.write, [data.draw(st.sampled_from(self.run.log))])

    @rule()
    def the_coordinator_restarts(self) -> None:
        assert self.run.state == self.live
        self.live = self.run.state

    @invariant()
    def an_accepted_result_stays_the_only_one(self) -> None:
        for key, result in self.accepted.items():
            assert self.live.results[key] == result
        self.accepted = dict(self.live.results)

    @invariant()
    def a_decision_is_new_and_the_same_for_everybody(self) -> None:
        mine = [draft_of(command, self.live) for command in decide(self.live)]
        assert mine == self.run.drafts
        ids = [draft.id for draft in mine]
        assert len(ids) == len(set(ids))
        assert not set(ids) & {fact.id for fact in self.run.log}

    @invariant()
    def after_the_end_results_are_only_refused(self) -> None:
        if self.live.ended is not None:
            assert all(isinstance(command, RefuseResult) for command in decide(self.live))

    @invariant()
    def what_is_assigned_was_accepted(self) -> None:
        answers = [result.answer for result in self.live.results.values()]
        for fact in self.facts(StepAssigned):
            assert isinstance(fact.payload, StepAssigned)
            assert all(answer in answers for answer in fact.payload.inputs.values())

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        bring_to_an_end(self.run, completion_of)
        self.run.settle()
        assert self.run.drafts == []
        state = self.run.state
        accepted = {key: result.id for key, result in state.results.items()}
        assert accepted == accepted_by_the_rules(self.run.log)
        for fact in self.run.log:
            if isinstance(fact.payload, StepCompleted):
                assert fact.id in state.refused or fact.id in accepted.values()
            elif isinstance(fact.payload, StepAssigned | StepClaimed):
                assert fact.id not in state.refused
        if isinstance(state.ended, RunCompleted):
            steps = {step.name for step in self.run.workflow.steps()}
            assert {step for step, _ in state.results} == steps


def test_a_run_survives_a_hostile_bus() -> None:
    run_state_machine_as_test(
        HostileBus, settings=settings(SETTINGS, max_examples=60, stateful_step_count=40)
    )


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(), accepted=st.booleans())
def test_a_run_completes_once_every_agent_answers(
    workflow: WorkflowSpec, *, accepted: bool
) -> None:
    run = SimulatedRun(workflow)
    run.submit()

    def answer(claim: Fact) -> Fact:
        assert isinstance(claim.payload, StepClaimed)
        return completion_of(claim, answer_for(claim.role, claim.payload.step, accepted=accepted))

    state = bring_to_an_end(run, answer)
    assert state.status == "completed"
    rounds = {
        step.name: 1 if accepted or not isinstance(node, LoopSpec) else node.limit
        for node in workflow.nodes
        for step in steps_of(node)
    }
    assert set(state.results) == {(name, n + 1) for name in rounds for n in range(rounds[name])}
    assert not state.refused


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(), retryable=st.booleans())
def test_a_run_fails_once_every_agent_fails(workflow: WorkflowSpec, *, retryable: bool) -> None:
    run = SimulatedRun(workflow)
    run.submit()
    state = bring_to_an_end(run, lambda claim: failure_of(claim, retryable=retryable))
    assert state.status == "failed"
    assert not state.results


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(), data=st.data())
def test_any_facts_in_any_order_are_legal_and_lead_to_an_end(
    workflow: WorkflowSpec, data: st.DataObject
) -> None:
    finished = SimulatedRun(workflow)
    finished.submit()
    bring_to_an_end(finished, completion_of)
    facts = data.draw(st.lists(st.sampled_from(finished.log), max_size=40))
    run = SimulatedRun(workflow, facts)
    for position in range(len(facts) + 1):
        state = SimulatedRun(workflow, facts[:position]).state
        assert decide(state) == decide(state)
    run.submit()
    assert bring_to_an_end(run, completion_of).status == "completed"


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(), cuts=st.lists(st.floats(0, 1), max_size=4))
def test_a_log_gives_the_same_state_however_it_is_batched(
    workflow: WorkflowSpec, cuts: list[float]
) -> None:
    run = SimulatedRun(workflow)
    run.submit()
    whole = bring_to_an_end(run, completion_of)
    state = RunState(workflows=run.workflows)
    borders = [0, *sorted(int(cut * len(run.log)) for cut in cuts), len(run.log)]
    for start, end in pairwise(borders):
        state = fold(state, run.log[start:end])
    assert state == whole
    assert any(isinstance(fact.payload, StepCompleted) for fact in run.log)
    assert not any(isinstance(fact.payload, StepFailed) for fact in run.log)
