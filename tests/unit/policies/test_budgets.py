"""Budgets: what is spent, what is left, and when a run may not go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.budget import ModelPrice, RoleBudget, RunBudget
from bus.payloads import (
    Usage,
)
from policies.budgets import (
    Exhausted,
    Spent,
    WithinBudget,
    cost_of,
    judge,
    needs_price,
    run_budget,
    tokens_left,
    tokens_limit,
    with_usage,
)
from policies.capabilities import Capabilities

BUNDLE = b"""
version: 1
prices:
  small: {prompt: 150, completion: 600}
roles:
  coordinator: {spend: {tokens_per_run: 1000, cost_per_run: unlimited}}
  coder: {spend: {tokens_per_run: 400, cost_per_run: 5}}
  critic: {spend: {tokens_per_run: unlimited, cost_per_run: unlimited}}
  mute: {}
"""
POLICY = Capabilities(BUNDLE)


def usage(prompt: int, completion: int = 0) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


usages = st.builds(usage, st.integers(0, 500), st.integers(0, 500))
spending = st.lists(
    st.tuples(st.sampled_from(["coder", "critic"]), st.sampled_from(["small", "big"]), usages)
)


def spent_of(told: list[tuple[str, str, Usage]]) -> Spent:
    spent: Spent = {}
    for role, model, used in told:
        spent = with_usage(spent, role, model, used)
    return spent


def test_the_budget_of_a_run_is_what_the_policy_says() -> None:
    assert run_budget(POLICY, ["critic", "coder", "coder", "mute"]) == RunBudget(
        tokens=1000,
        cost=None,
        roles={
            "coder": RoleBudget(tokens=400, cost=5),
            "critic": RoleBudget(tokens=None, cost=None),
            "mute": RoleBudget(tokens=0, cost=0),
        },
        prices={"small": ModelPrice(prompt=150, completion=600)},
    )
    assert tokens_limit(POLICY) == 1000


@pytest.mark.parametrize(("asked", "given_"), [(None, 1000), (1, 1), (999, 999), (5000, 1000)])
def test_a_user_narrows_the_budget_and_never_widens_it(asked: int | None, given_: int) -> None:
    assert run_budget(POLICY, [], asked).tokens == given_


def test_where_the_policy_says_nothing_nothing_may_be_spent() -> None:
    budget = run_budget(Capabilities(b"version: 1\nroles: {}"), ["coder"])
    assert (budget.tokens, budget.cost) == (0, 0)
    assert isinstance(judge(budget, {}), WithinBudget)  # who asks no model needs no budget
    assert isinstance(judge(budget, {("coder", "small"): usage(1)}), Exhausted)
    assert tokens_left(budget, {}, "coder") == 0


@pytest.mark.parametrize(
    ("spent", "found"),
    [
        ({}, None),
        ({("critic", "small"): usage(999)}, None),
        (
            {("critic", "small"): usage(600, 400)},
            Exhausted(budget="tokens_per_run", role="", spent=1000, limit=1000),
        ),
        (
            {("coder", "small"): usage(1, 399)},
            Exhausted(budget="tokens_per_run", role="coder", spent=400, limit=400),
        ),
        ({("coder", "small"): usage(0, 6)}, None),  # 3.6, rounded up to 4
        (
            {("coder", "small"): usage(1, 7)},  # 4.35, rounded up
            Exhausted(budget="cost_per_run", role="coder", spent=5, limit=5),
        ),
        (
            {("coder", "free?"): usage(1)},  # a model without a price may have cost anything
            Exhausted(budget="cost_per_run", role="coder", spent=5, limit=5),
        ),
        ({("coder", "none"): usage(0)}, None),
        ({("mute", "small"): usage(0)}, None),
    ],
)
def test_which_budget_is_used_up_is_told(spent: Spent, found: Exhausted | None) -> None:
    budget = run_budget(POLICY, ["coder", "critic", "mute"])
    assert judge(budget, spent) == (found or WithinBudget())


def test_the_reason_names_budget_spent_and_limit() -> None:
    told = str(Exhausted(budget="tokens_per_run", role="coder", spent=410, limit=400))
    assert told == "role coder has spent 410 of 400 tokens"
    assert "the run has spent" in str(Exhausted(budget="cost_per_run", role="", spent=2, limit=1))


@given(spending)
def test_who_has_something_left_may_go_on_and_who_has_nothing_may_not(
    told: list[tuple[str, str, Usage]],
) -> None:
    budget = RunBudget(tokens=1000, roles={"coder": RoleBudget(tokens=400)})
    spent = spent_of(told)
    left = [tokens_left(budget, spent, role) for role in ("coder", "critic")]
    assert (0 in left) == isinstance(judge(budget, spent), Exhausted)


@given(spending, st.randoms(use_true_random=False))
def test_the_order_in_which_it_is_spent_does_not_count(
    told: list[tuple[str, str, Usage]], order: object
) -> None:
    shuffled = sorted(told, key=lambda _: order.random())  # type: ignore[attr-defined]
    assert spent_of(told) == spent_of(shuffled)


@given(spending, usages)
def test_spending_more_never_makes_a_run_go_on(
    told: list[tuple[str, str, Usage]], more: Usage
) -> None:
    budget = run_budget(POLICY, ["coder", "critic"])
    spent = spent_of(told)
    if isinstance(judge(budget, spent), Exhausted):
        assert isinstance(judge(budget, with_usage(spent, "critic", "small", more)), Exhausted)


def test_a_cost_is_that_of_the_role_that_is_asked_for() -> None:
    spent = spent_of([("coder", "small", usage(1000, 1000)), ("critic", "small", usage(2000, 0))])
    prices = {"small": ModelPrice(prompt=150, completion=600)}
    assert cost_of(spent, prices) == 750 + 300
    assert cost_of(spent, prices, "critic") == 300
    assert cost_of(spent, {}) is None
    assert cost_of({}, {}) == 0


def test_a_limited_cost_needs_a_price() -> None:
    assert needs_price(RunBudget(cost=1), "small")
    assert needs_price(RunBudget(roles={"coder": RoleBudget(cost=1)}), "small")
    assert not needs_price(RunBudget(tokens=1), "small")
    assert not needs_price(
        RunBudget(cost=1, prices={"small": ModelPrice(prompt=1, completion=1)}), "small"
    )


def test_a_run_without_a_budget_may_spend_anything() -> None:
    assert isinstance(judge(None, {("coder", "small"): usage(10**9)}), WithinBudget)
    assert tokens_left(None, {}, "coder") is None
