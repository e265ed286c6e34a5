"""What a step can declare, and what it cannot."""

from typing import Any

import pytest

from actors.errors import InvalidLoop, InvalidStep, UnknownRole
from actors.step import MAX_BACKOFF_S
from actors.workflow import LoopSpec, StepSpec
from tests.unit.actors.simulation import LISTING


def test_a_role_that_is_not_built_in_needs_a_schema() -> None:
    StepSpec(name="poem", role="poet", answer_schema=LISTING)
    with pytest.raises(UnknownRole):
        StepSpec(name="poem", role="poet")


@pytest.mark.parametrize("role", ["", "two words", "Poet", "poet_1", "x" * 65])
def test_a_role_is_named_as_in_the_source_of_an_event(role: str) -> None:
    with pytest.raises(InvalidStep, match="cannot name a role"):
        StepSpec(name="poem", role=role, answer_schema=LISTING)


def test_a_schema_must_be_one() -> None:
    with pytest.raises(InvalidStep, match="no JSON schema"):
        StepSpec(name="poem", role="poet", answer_schema={"type": "text"})


def test_the_backoff_doubles_up_to_an_hour() -> None:
    step = StepSpec(name="code", role="coder", backoff_s=2.0)
    assert [step.backoff_after_s(n) for n in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert step.backoff_after_s(10_000) == MAX_BACKOFF_S


@pytest.mark.parametrize("backoff_s", [-1.0, MAX_BACKOFF_S + 1, float("inf"), float("nan")])
def test_a_backoff_is_at_most_an_hour(backoff_s: float) -> None:
    with pytest.raises(InvalidStep, match="backoff"):
        StepSpec(name="code", role="coder", backoff_s=backoff_s)


@pytest.mark.parametrize("for_each", ["list", "list.", ".list", "other.list"])
def test_a_fan_out_is_over_a_field_of_an_input(for_each: str) -> None:
    with pytest.raises(InvalidStep, match="is for each"):
        StepSpec(name="part", role="coder", inputs=("list",), for_each=for_each)


def test_a_fan_out_within_a_loop_is_over_what_every_round_has() -> None:
    def step(name: str, **more: Any) -> StepSpec:
        return StepSpec(name=name, role="worker", answer_schema=LISTING, **more)

    parts = step("parts", inputs=("list",), for_each="list.list")
    end = StepSpec(name="verdict", role="judge")
    LoopSpec(name="loop", steps=(step("list"), parts, end), verdict_step="verdict", limit=2)
    with pytest.raises(InvalidLoop, match="the first round of loop loop does not have"):
        LoopSpec(name="loop", steps=(parts, step("list"), end), verdict_step="verdict", limit=2)


def test_a_verdict_may_come_from_any_role_but_not_in_parts() -> None:
    LoopSpec(
        name="loop",
        steps=(StepSpec(name="end", role="worker", answer_schema=LISTING),),
        verdict_step="end",
        limit=1,
    )
    with pytest.raises(InvalidLoop, match="no boolean `accepted`"):
        LoopSpec(
            name="loop",
            steps=(StepSpec(name="end", role="judge", inputs=("list",), for_each="list.list"),),
            verdict_step="end",
            limit=1,
        )
