"""A run that has spent its budget is stopped, by decisions that depend on its log alone."""

from dataclasses import replace
from typing import Any

from actors.fact import Fact
from actors.record import RunState
from actors.run_state import fold
from actors.workflow import StepSpec, WorkflowSpec
from bus.budget import RoleBudget, RunBudget, SpentBudget
from bus.payload import LARGEST
from bus.payloads import (
    PauseRequested,
    RetryRequested,
    RunCompleted,
    RunFailed,
    StepAssigned,
    StepCompleted,
    Usage,
)
from tests.unit.actors.simulation import LISTING, USAGE, SimulatedRun, completion_of, failure_of

SPENT = USAGE.prompt_tokens + USAGE.completion_tokens
"""By each answer."""
THREE = WorkflowSpec(
    name="three",
    nodes=(
        StepSpec(name="one", role="lister", answer_schema=LISTING),
        StepSpec(name="two", role="lister", inputs=("one",), answer_schema=LISTING),
        StepSpec(name="three", role="teller", inputs=("two",), answer_schema=LISTING),
    ),
)


def started(**budget: Any) -> SimulatedRun:
    run = SimulatedRun(THREE)
    run.submit(budget=RunBudget(**budget))
    run.settle()
    return run


def ended(run: SimulatedRun) -> RunFailed:
    end = run.state.ended
    assert isinstance(end, RunFailed)
    return end


def test_a_run_within_its_budget_completes() -> None:
    run = started(tokens=3 * SPENT)
    for step in ("one", "two", "three"):
        run.do(step)
    assert isinstance(run.state.ended, RunCompleted)


def test_a_run_that_has_spent_its_budget_fails_and_says_which() -> None:
    run = started(tokens=2 * SPENT - 1)
    run.do("one")
    assert run.state.ended is None
    run.do("two")
    end = ended(run)
    assert (end.code, end.step) == ("budget_exhausted", None)
    assert end.budget == SpentBudget(budget="tokens_per_run", spent=2 * SPENT, limit=2 * SPENT - 1)
    assert end.message == f"the run has spent {2 * SPENT} of {2 * SPENT - 1} tokens"


def test_the_budget_of_a_role_is_its_own() -> None:
    run = started(tokens=10 * SPENT, roles={"lister": RoleBudget(tokens=2 * SPENT)})
    run.do("one")
    run.do("two")
    assert ended(run).budget == SpentBudget(
        budget="tokens_per_run", role="lister", spent=2 * SPENT, limit=2 * SPENT
    )


def test_what_is_done_is_not_too_dear() -> None:
    run = started(tokens=2 * SPENT + 1)
    for step in ("one", "two", "three"):
        run.do(step)
    assert isinstance(run.state.ended, RunCompleted)


def test_an_assignment_says_how_much_is_left() -> None:
    run = started(tokens=100, roles={"lister": RoleBudget(tokens=40)})
    run.do("one")
    run.do("two")
    left = [f.payload.tokens_left for f in run.log if isinstance(f.payload, StepAssigned)]
    assert left == [40, 40 - SPENT, 100 - 2 * SPENT]


def test_what_was_spent_in_vain_is_spent() -> None:
    run = started(tokens=SPENT)
    claim = run.claim(run.assigned("one"))
    failed = failure_of(claim)
    payload = failed.payload.model_copy(update={"model": "scripted", "usage": USAGE})
    run.write(replace(failed, payload=payload))
    run.settle()
    assert ended(run).code == "budget_exhausted"


def test_what_a_refused_answer_has_cost_is_spent() -> None:
    run = started(tokens=2 * SPENT)
    claim = run.claim(run.assigned("one"))
    run.complete(claim, {"nonsense": True})
    run.complete(run.claim(run.assigned("one"), epoch=2))
    run.settle()
    assert ended(run).budget is not None


def test_an_answer_that_is_told_twice_is_paid_once() -> None:
    run = started(tokens=2 * SPENT)
    completed = run.complete(run.claim(run.assigned("one")))
    run.write(completed)
    assert sum(u.prompt_tokens + u.completion_tokens for u in run.state.spent.values()) == SPENT


def test_a_rogue_that_says_it_used_all_the_tokens_there_are_stops_no_more_than_its_run() -> None:
    run = started(tokens=2 * SPENT)
    all_of_them = Usage(prompt_tokens=LARGEST, completion_tokens=LARGEST)
    completed = run.complete(run.claim(run.assigned("one")))
    assert isinstance(completed.payload, StepCompleted)
    for name in ("first", "second"):
        payload = completed.payload.model_copy(update={"usage": all_of_them})
        run.write(replace(completed, id=name, payload=payload))
    assert all_of_them in run.state.spent.values()
    run.settle()
    assert ended(run).code == "budget_exhausted"


def test_the_tokens_of_a_run_are_counted_as_far_as_a_count_goes() -> None:
    run = SimulatedRun(THREE)
    run.submit()
    run.settle()
    used = {"usage": Usage(prompt_tokens=LARGEST, completion_tokens=1)}
    for step in ("one", "two", "three"):
        completed = completion_of(run.claim(run.assigned(step)))
        run.write(replace(completed, payload=completed.payload.model_copy(update=used)))
        run.settle()
    assert isinstance(run.state.ended, RunCompleted)
    assert run.state.ended.usage == Usage(prompt_tokens=LARGEST, completion_tokens=3)


def test_a_failure_without_tokens_costs_nothing() -> None:
    run = started(tokens=1)
    run.fail(run.claim(run.assigned("one")))
    assert run.state.spent == {}
    assert run.state.ended is None


def test_a_run_over_its_budget_is_stopped_in_a_pause_and_again_after_a_retry() -> None:
    run = started(tokens=SPENT)
    run.ask(PauseRequested)
    run.do("one")
    assert ended(run).code == "budget_exhausted"
    run.ask(RetryRequested)
    run.settle()
    assert ended(run).code == "budget_exhausted"
    assert sum(isinstance(fact.payload, RunFailed) for fact in run.log) == 2


def test_a_run_that_was_submitted_without_a_budget_has_none() -> None:
    run = SimulatedRun(THREE)
    run.submit()
    run.settle()
    for step in ("one", "two", "three"):
        run.do(step)
    assert isinstance(run.state.ended, RunCompleted)


def test_spending_does_not_depend_on_how_the_log_is_read() -> None:
    run = started(tokens=2 * SPENT)
    run.do("one")
    run.do("two")
    log: list[Fact] = run.log
    start = RunState(workflows=run.workflows)
    for cut in range(len(log)):
        assert fold(fold(start, log[:cut]), log[cut:]) == run.state
    assert Usage(prompt_tokens=20, completion_tokens=10) in run.state.spent.values()
