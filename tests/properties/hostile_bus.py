"""A run under a hostile bus, as a state machine: who may say what, and what must hold then."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.command import AssignStep, RefuseResult, RequestApproval
from actors.decide import decide, draft_of, wake_at
from actors.entry import Assignment, Key, Result
from actors.record import Fact, RunState
from actors.run_state import evolve
from actors.waiting import MAX_TEXT_CHARS, waits_for
from actors.workflow import WorkflowSpec
from bus.event import Draft
from bus.payloads import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    CancelRequested,
    PauseRequested,
    ResultRefused,
    ResumeRequested,
    RetryRequested,
    RunCompleted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
)
from tests.properties.workflows import PlainRules, bring_to_an_end, step_roles, workflows
from tests.unit.actors.simulation import (
    SimulatedRun,
    answer_for,
    claim_of,
    completion_of,
    failure_of,
    stated,
)

WISHES = (CancelRequested, *(PauseRequested, ResumeRequested, RetryRequested, RetryRequested) * 3)
MOMENT = timedelta(microseconds=1)


class HostileBus(RuleBasedStateMachine):
    """Agents and people write in any order, twice or not at all; coordinators restart."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Fact] = []
        self.accepted: dict[Key, Result] = {}
        self.attempts: dict[Key, Assignment] = {}

    @initialize(workflow=workflows(), deadline_s=st.sampled_from([None, None, 60.0]))
    def submit(self, workflow: WorkflowSpec, deadline_s: float | None) -> None:
        self.run = SimulatedRun(workflow)
        self.live = RunState(workflows=self.run.workflows)
        self.live = evolve(self.live, self.run.submit(deadline_s=deadline_s))

    def store(self, fact: Fact) -> None:
        self.live = evolve(self.live, self.run.write(fact))

    def drafts(self) -> list[Draft]:
        return [draft_of(command, self.live) for command in decide(self.live, self.run.now)]

    def facts(self, *kinds: type) -> list[Fact]:
        return [fact for fact in (*self.run.log, *self.sent) if isinstance(fact.payload, kinds)]

    # The coordinators.

    @rule(cut=st.integers(0, 4))
    def a_coordinator_decides_and_may_die_in_between(self, cut: int) -> None:
        drafts = self.run.drafts
        for draft in drafts[: cut or len(drafts)]:
            assert draft in self.drafts(), "the log before it does not explain the decision"
            self.store(stated(draft, self.run.now))

    @rule(share=st.floats(0, 1))
    def a_coordinator_that_lags_behind_decides(self, share: float) -> None:
        past = SimulatedRun(self.run.workflow, self.run.log[: int(share * len(self.run.log))])
        past.now = self.run.now
        known = {fact.id for fact in self.run.log}
        for draft in past.drafts:
            if draft.id not in known:
                self.store(stated(draft, self.run.now))

    @rule()
    def the_coordinator_restarts(self) -> None:
        assert self.run.state == self.live
        self.live = self.run.state

    @rule(seconds=st.sampled_from([0.5, 1.0, 9.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.run.wait(seconds)

    # The agents.

    @precondition(lambda self: self.facts(StepAssigned))
    @rule(data=st.data(), epoch=st.integers(1, 4), agent=st.sampled_from("ab"))
    def an_agent_claims(self, data: st.DataObject, epoch: int, agent: str) -> None:
        assigned = data.draw(st.sampled_from(self.facts(StepAssigned)))
        claim = claim_of(assigned, epoch=epoch, agent=agent)
        self.sent.append(replace(claim, time=self.run.now))

    @precondition(lambda self: self.facts(StepAssigned))
    @rule(data=st.data(), slow_is_late=st.booleans(), fails=st.booleans())
    def two_agents_contend(self, data: st.DataObject, *, slow_is_late: bool, fails: bool) -> None:
        assigned = data.draw(st.sampled_from(self.facts(StepAssigned)))
        slow = claim_of(assigned, epoch=2, agent="slow")
        quick = claim_of(assigned, epoch=3, agent="quick")
        told = failure_of(slow) if fails else completion_of(slow)
        order = (slow, quick, told) if slow_is_late else (slow, told, quick)
        for fact in order:
            self.store(replace(fact, time=self.run.now))

    @precondition(lambda self: self.facts(StepClaimed))
    @rule(data=st.data(), accepted=st.booleans(), fits=st.sampled_from([True, True, False]))
    def an_agent_answers(self, data: st.DataObject, *, accepted: bool, fits: bool) -> None:
        claim = data.draw(st.sampled_from(self.facts(StepClaimed)))
        assert isinstance(claim.payload, StepClaimed)
        answer = answer_for(claim.role, claim.payload.step, accepted=accepted)
        completed = completion_of(claim, answer if fits else {"other": 1})
        self.sent.append(replace(completed, time=self.run.now))

    @precondition(lambda self: self.facts(StepClaimed))
    @rule(data=st.data(), retryable=st.sampled_from([True, True, True, False]))
    def an_agent_fails(self, data: st.DataObject, *, retryable: bool) -> None:
        claim = data.draw(st.sampled_from(self.facts(StepClaimed)))
        self.sent.append(replace(failure_of(claim, retryable=retryable), time=self.run.now))

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
                "item": st.integers(0, 3),
            },
        ),
    )
    def a_rogue_answers(self, data: st.DataObject, role: str, changed: dict[str, int]) -> None:
        stolen = data.draw(st.sampled_from(self.facts(StepCompleted)))
        payload = stolen.payload.model_copy(update=changed)
        name = f"rogue-{len(self.sent)}-{len(self.run.log)}"
        role = stolen.role if data.draw(st.booleans()) else role
        self.sent.append(replace(stolen, id=name, agent=name, role=role, payload=payload))

    # The people.

    @rule(wish=st.sampled_from(WISHES))
    def a_person_steers(self, wish: type) -> None:
        self.live = evolve(self.live, self.run.ask(wish))

    @precondition(lambda self: self.live.status == "failed")
    @rule()
    def a_person_wants_it_to_go_on(self) -> None:
        self.live = evolve(self.live, self.run.ask(RetryRequested))
        assert self.live.status == "running"

    @precondition(lambda self: self.facts(ApprovalRequested))
    @rule(data=st.data(), answer=st.sampled_from([ApprovalGiven, ApprovalGiven, ApprovalDenied]))
    def a_person_answers(self, data: st.DataObject, answer: type) -> None:
        question = data.draw(st.sampled_from(self.facts(ApprovalRequested)))
        self.live = evolve(self.live, self.run.ask(answer, approval=question.id))

    # The bus.

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def the_bus_delivers_something(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.sent) - 1))
        self.store(self.sent.pop(number))

    @precondition(lambda self: self.sent)
    @rule()
    def the_bus_delivers_everything(self) -> None:
        while self.sent:
            self.store(self.sent.pop(0))

    @rule(data=st.data())
    def the_bus_repeats_itself(self, data: st.DataObject) -> None:
        before = self.live
        self.store(data.draw(st.sampled_from(self.run.log)))
        assert self.live == before

    # What holds at every moment.

    @invariant()
    def an_accepted_result_stays_the_only_one(self) -> None:
        for key, result in self.accepted.items():
            assert self.live.results[key] == result
        self.accepted = dict(self.live.results)

    @invariant()
    def attempts_only_grow(self) -> None:
        for key, before in self.attempts.items():
            now = self.live.assignments[key]
            assert now.attempt > before.attempt or now.id == before.id
            assert now.failure is not None or before.failure is None or now.id != before.id
        self.attempts = dict(self.live.assignments)

    @invariant()
    def a_run_is_either_over_or_going_on(self) -> None:
        is_over = self.live.status in ("completed", "failed", "cancelled")
        assert is_over == (self.live.ended is not None) == (self.live.ended_at is not None)

    @invariant()
    def a_decision_is_new_and_the_same_for_everybody(self) -> None:
        mine = self.drafts()
        assert mine == self.run.drafts
        ids = [draft.id for draft in mine]
        assert len(ids) == len(set(ids))
        assert not set(ids) & {fact.id for fact in self.run.log}

    @invariant()
    def a_refusal_is_told_once(self) -> None:
        refusals = {fact.mark: fact.payload for fact in self.facts(ResultRefused)}.values()
        told = [refusal.refused for refusal in refusals if isinstance(refusal, ResultRefused)]
        assert len(told) == len(set(told))

    @invariant()
    def nothing_begins_after_the_end_in_a_pause_or_without_a_yes(self) -> None:
        for command in decide(self.live, self.run.now):
            assert self.live.ended is None or isinstance(command, RefuseResult)
            if isinstance(command, AssignStep | RequestApproval):
                assert not self.live.paused
            if isinstance(command, AssignStep):
                step = self.run.workflow.step(command.step)
                approval = self.live.approvals.get((command.step, command.iteration, 0))
                assert step is not None
                assert not step.approval or (approval and approval.status == "given")

    @invariant()
    def it_wakes_when_there_is_something_to_say_and_not_before(self) -> None:
        wakes, says = wake_at(self.live, self.run.now), decide(self.live, self.run.now)
        if wakes is None:
            return
        assert wakes > self.run.now
        assert decide(self.live, wakes - MOMENT) == says
        assert says or decide(self.live, wakes)

    @invariant()
    def it_is_known_what_it_waits_for(self) -> None:
        waiting = waits_for(self.live, self.run.now)
        assert 0 < len(waiting.text) <= MAX_TEXT_CHARS
        if self.live.ended is None:
            assert (waiting.code == "decision") == bool(decide(self.live, self.run.now))

    @invariant()
    def what_is_assigned_was_accepted(self) -> None:
        answers = [result.answer for result in self.live.results.values()]
        for fact in self.facts(StepAssigned):
            assert isinstance(fact.payload, StepAssigned)
            for answer in fact.payload.inputs.values():
                read = answer["items"] if answer.keys() == {"items"} else [answer]
                assert isinstance(read, list)
                assert all(each in answers for each in read)

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        bring_to_an_end(self.run, completion_of)
        self.run.settle()
        assert self.run.drafts == []
        state = self.run.state
        accepted = {key: result.id for key, result in state.results.items()}
        assert accepted == PlainRules().read(self.run.log)
        for fact in self.run.log:
            if isinstance(fact.payload, StepCompleted):
                assert fact.id in state.refused or fact.id in accepted.values()
            elif isinstance(fact.payload, StepAssigned | StepClaimed):
                assert fact.id not in state.refused
        if isinstance(state.ended, RunCompleted):
            done = {step for step, _, _ in state.results}
            once = {step.name for step in self.run.workflow.steps() if not step.for_each}
            assert once <= done
