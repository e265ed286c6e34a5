"""A run under a hostile bus: whatever it delivers, the run stays legal and comes to an end."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from actors.decide import decide
from actors.definition import definition_of, workflow_from
from actors.record import Fact, RunState
from actors.run_state import fold
from actors.workflow import LoopSpec, WorkflowSpec, steps_of
from bus.payloads import AdoptedResult, Fork, StepAssigned, StepClaimed, StepCompleted, StepFailed
from tests.properties.hostile_bus import HostileBus
from tests.properties.workflows import bring_to_an_end, workflows
from tests.unit.actors.simulation import SimulatedRun, answer_for, completion_of, failure_of

SETTINGS = settings(
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def finished(workflow: WorkflowSpec) -> SimulatedRun:
    """A run in which every agent has answered at once."""
    run = SimulatedRun(workflow)
    run.submit()
    bring_to_an_end(run, completion_of)
    return run


@pytest.mark.timeout(900)
def test_a_run_survives_a_hostile_bus() -> None:
    run_state_machine_as_test(
        HostileBus, settings=settings(SETTINGS, max_examples=150, stateful_step_count=40)
    )


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(sound=True), accepted=st.booleans())
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
        (step.name, number): (1, 2) if step.for_each else (0,)
        for node in workflow.nodes
        for step in steps_of(node)
        for number in range(1, 2 if accepted or not isinstance(node, LoopSpec) else node.limit + 1)
    }
    assert set(state.results) == {(*place, item) for place in rounds for item in rounds[place]}
    assert not len(state.refused)


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(), retryable=st.booleans())
def test_a_run_fails_once_every_agent_fails(workflow: WorkflowSpec, *, retryable: bool) -> None:
    run = SimulatedRun(workflow)
    run.submit()
    state = bring_to_an_end(run, lambda claim: failure_of(claim, retryable=retryable))
    assert state.status == "failed"
    assert not state.results


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(sound=True), data=st.data())
def test_any_facts_in_any_order_are_legal_and_lead_to_an_end(
    workflow: WorkflowSpec, data: st.DataObject
) -> None:
    log = finished(workflow).log
    facts = data.draw(st.lists(st.sampled_from(log), max_size=40))
    run = SimulatedRun(workflow, facts)
    for position in range(len(facts) + 1):
        past = SimulatedRun(workflow, facts[:position])
        assert decide(past.state, past.now) == decide(past.state, past.now)
    run.submit()
    assert bring_to_an_end(run, completion_of).status == "completed"


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(sound=True), cuts=st.lists(st.floats(0, 1), max_size=4))
def test_a_log_gives_the_same_state_however_it_is_batched(
    workflow: WorkflowSpec, cuts: list[float]
) -> None:
    run = finished(workflow)
    state = RunState(workflows=run.workflows)
    borders = [0, *sorted(int(cut * len(run.log)) for cut in cuts), len(run.log)]
    for start, end in pairwise(borders):
        state = fold(state, run.log[start:end])
    assert state == run.state
    assert any(isinstance(fact.payload, StepCompleted) for fact in run.log)
    assert not any(isinstance(fact.payload, StepFailed) for fact in run.log)


@settings(SETTINGS, max_examples=30)
@given(workflow=workflows(sound=True), data=st.data())
def test_a_fork_adopts_what_it_is_given_and_does_the_rest(
    workflow: WorkflowSpec, data: st.DataObject
) -> None:
    parent = finished(workflow).state
    keys = data.draw(st.sets(st.sampled_from(sorted(parent.results))))
    fork = Fork(
        parent="parent",
        at="event",
        adopted=tuple(
            AdoptedResult(
                step=key[0],
                iteration=key[1],
                item=key[2],
                event=result.id,
                answer=dict(result.answer),
                model=result.model,
                usage=result.usage,
            )
            for key, result in parent.results.items()
            if key in keys
        ),
    )
    run = SimulatedRun(workflow)
    run.submit(fork=fork)
    state = bring_to_an_end(run, completion_of)
    assert state.status == "completed"
    assert state.results.keys() == parent.results.keys()
    assert {key for key, result in state.results.items() if result.adopted} == keys
    work = [fact.payload for fact in run.log if isinstance(fact.payload, StepAssigned)]
    assert not {(each.step, each.iteration, each.item) for each in work} & keys
    assert state.usage.prompt_tokens == 10 * (len(parent.results) - len(keys))


@settings(SETTINGS, max_examples=100)
@given(workflow=workflows())
def test_a_definition_is_the_workflow(workflow: WorkflowSpec) -> None:
    definition = definition_of(workflow)
    assert workflow_from(definition) == workflow
    assert definition_of(workflow_from(definition)) == definition
