"""A step that is done once for each item of a list."""

from itertools import pairwise
from typing import Any

import pytest
from pydantic import JsonValue

from actors.progress import MAX_ITEMS
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import derive_id
from bus.payloads import RunCompleted, RunFailed, StepAssigned
from tests.unit.actors.simulation import RUN, SimulatedRun

ANY: dict[str, JsonValue] = {"type": "object"}


def step(name: str, **more: Any) -> StepSpec:
    return StepSpec(name=name, role="worker", answer_schema=ANY, backoff_s=0.0, **more)


FAN = WorkflowSpec(
    name="fan",
    nodes=(
        step("list"),
        step("part", inputs=("list",), for_each="list.names", max_attempts=2),
        step("end", inputs=("part",)),
    ),
)


def fanned(names: JsonValue, workflow: WorkflowSpec = FAN) -> SimulatedRun:
    """A run whose first step has given the list."""
    run = SimulatedRun(workflow)
    run.submit()
    run.settle()
    run.do("list", answer={"names": names})
    return run


def work(run: SimulatedRun, name: str, **place: int) -> StepAssigned:
    payload = run.assigned(name, **place).payload
    assert isinstance(payload, StepAssigned)
    return payload


def test_each_item_is_assigned_by_itself() -> None:
    run = fanned(["ann", {"name": "bob"}, None])
    parts = [work(run, "part", item=item) for item in (1, 2, 3)]
    assert [part.each for part in parts] == ["ann", {"name": "bob"}, None]
    assert parts[0].inputs == {"list": {"names": ["ann", {"name": "bob"}, None]}}
    ids = {run.assigned("part", item=item).id for item in (1, 2, 3)}
    assert derive_id("step.assigned", RUN, "part", "1", "1", "2") in ids
    assert len(ids) == 3


def test_who_reads_a_fan_out_gets_all_answers_in_the_order_of_the_list() -> None:
    run = fanned(["ann", "bob"])
    last = [run.do("part", item=item, answer={"of": item}) for item in (2, 1)][-1]
    assigned = run.assigned("end")
    assert work(run, "end").inputs == {"part": {"items": [{"of": 1}, {"of": 2}]}}
    assert assigned.cause == last.id


def test_it_waits_for_all_of_them() -> None:
    run = fanned(["ann", "bob"])
    run.do("part", item=1)
    assert run.drafts == []


def test_an_empty_list_is_done_at_once() -> None:
    run = fanned([])
    assert work(run, "end").inputs == {"part": {"items": []}}
    listed = run.state.results["list", 1, 0].id
    assert run.assigned("end").cause == listed
    run.do("end")
    assert isinstance(run.state.ended, RunCompleted)
    assert "The list was empty" in run.state.ended.document


def test_a_part_that_fails_is_tried_again_alone() -> None:
    run = fanned(["ann", "bob"])
    run.fail(run.claim(run.assigned("part", item=2)))
    (again,) = run.settle()
    assert isinstance(again, StepAssigned)
    assert (again.item, again.attempt, again.each) == (2, 2, "bob")
    run.fail(run.claim(run.assigned("part", item=2, attempt=2)))
    run.settle()
    assert isinstance(run.state.ended, RunFailed)
    assert run.state.ended.message.startswith("step part, item 2, failed 2 times")


@pytest.mark.parametrize("names", ["ann", {"a": 1}, None, 7])
def test_what_is_not_a_list_fails_the_run(names: JsonValue) -> None:
    run = fanned(names)
    assert isinstance(run.state.ended, RunFailed)
    assert run.state.ended.code == "not_a_list"
    assert run.state.ended.step == "part"
    assert run.log[-1].cause == run.state.results["list", 1, 0].id


def test_a_list_has_an_end() -> None:
    run = fanned(list(range(MAX_ITEMS + 1)))
    assert isinstance(run.state.ended, RunFailed)
    assert run.state.ended.code == "too_many_items"
    assert fanned(list(range(MAX_ITEMS))).state.ended is None


def test_a_fan_out_over_a_fan_out_takes_its_answers() -> None:
    again = step("again", inputs=("part",), for_each="part.items")
    run = fanned(["ann"], WorkflowSpec(name="twice", nodes=(*FAN.nodes[:2], again)))
    run.do("part", item=1, answer={"of": "ann"})
    assert work(run, "again", item=1).each == {"of": "ann"}


def test_one_yes_lets_all_parts_begin() -> None:
    asks = step("part", inputs=("list",), for_each="list.names", approval=True)
    run = fanned(["ann", "bob"], WorkflowSpec(name="asks", nodes=(FAN.nodes[0], asks)))
    given = run.approve("part")
    assert [type(payload) for payload in run.settle()] == [StepAssigned, StepAssigned]
    assert run.assigned("part", item=2).cause == given.id


def test_nobody_is_asked_about_an_empty_list() -> None:
    asks = step("part", inputs=("list",), for_each="list.names", approval=True)
    run = fanned([], WorkflowSpec(name="asks", nodes=(FAN.nodes[0], asks)))
    assert run.state.status == "completed"


def test_a_result_counts_for_its_item_only() -> None:
    run = fanned(["ann", "bob"])
    run.do("part", item=1)
    assert [(s.step, s.item, s.status) for s in run.state.steps] == [
        ("list", 0, "completed"),
        ("part", 1, "completed"),
        ("part", 2, "assigned"),
    ]


def test_a_long_chain_of_fan_outs_is_no_trouble() -> None:
    """Declared backwards, so that nothing is worked out before what it reads."""
    names = [f"s{number}" for number in range(400)]
    chain = [
        step(name, inputs=(before,), for_each=f"{before}.items") for before, name in pairwise(names)
    ]
    run = SimulatedRun(WorkflowSpec(name="deep", nodes=(*reversed(chain), step("s0"))))
    run.submit()
    run.settle()
    run.do("s0", answer={"items": []})
    assert run.state.status == "completed"
