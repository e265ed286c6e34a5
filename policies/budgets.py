"""Budgets: what a run may spend, what it has spent, and whether it may go on. Pure.

The budget of a run is fixed when it is submitted, and stands in its submission: a change of
the policy changes no run that goes on, and the log alone tells why one was stopped. A budget
is used up when as much is spent as it allows; what is in work by then may still be spent, so
a run goes over its budget by the steps that it has in work at most.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from bus.budget import ModelPrice, RoleBudget, RunBudget
from bus.payloads import NO_USAGE, Usage
from policies.bundle import UNLIMITED, Spend
from policies.capabilities import Capabilities

DRIVER: Final = "coordinator"
"""The role whose `spend` is what all agents together may spend on a run."""
_PRICED_TOKENS: Final = 1_000

Spent = Mapping[tuple[str, str], Usage]
"""Tokens by role and model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinBudget:
    """The run may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """The run may not go on.

    Attributes:
        budget: the limit of the policy, by its name there.
        role: whose budget it is; empty for that of the whole run.
        spent: tokens, or millionths of the currency of the prices.
        limit: in the same unit.
    """

    budget: Literal["tokens_per_run", "cost_per_run"]
    role: str
    spent: int
    limit: int

    def __str__(self) -> str:
        who = f"role {self.role}" if self.role else "the run"
        unit = "tokens" if self.budget == "tokens_per_run" else "millionths of its currency"
        return f"{who} has spent {self.spent} of {self.limit} {unit}"


def run_budget(policy: Capabilities, roles: Iterable[str], tokens: int | None = None) -> RunBudget:
    """What a run may spend.

    Args:
        policy: in force.
        roles: of the steps of its workflow.
        tokens: what its user allows it, which narrows what the policy allows.
    """
    whole = policy.spend(DRIVER)
    limits = [each for each in (_number(whole.tokens_per_run), tokens) if each is not None]
    budgets = {role: _role_budget(policy.spend(role)) for role in sorted(set(roles))}
    return RunBudget(
        tokens=min(limits, default=None),
        cost=_number(whole.cost_per_run),
        roles=budgets,
        prices={
            model: ModelPrice(prompt=price.prompt, completion=price.completion)
            for model, price in policy.prices.items()
        },
    )


def tokens_limit(policy: Capabilities) -> int | None:
    """The most tokens that a user may allow a run; None for no limit."""
    return _number(policy.spend(DRIVER).tokens_per_run)


def needs_price(budget: RunBudget, model: str) -> bool:
    """Whether the cost of a run is limited, but that of the model is not known."""
    limited = any(each.cost is not None for each in (budget, *budget.roles.values()))
    return limited and model not in budget.prices


def with_usage(spent: Spent, role: str, model: str, usage: Usage) -> Spent:
    """What is spent after this was spent as well."""
    return {**spent, (role, model): spent.get((role, model), NO_USAGE) + usage}


def judge(budget: RunBudget | None, spent: Spent) -> WithinBudget | Exhausted:
    """Whether a run may spend more; the budget of the whole run is looked at first."""
    if budget is None:
        return WithinBudget()
    return next(_exhausted(budget, spent), WithinBudget())


def tokens_left(budget: RunBudget | None, spent: Spent, role: str) -> int | None:
    """Tokens that a role may still spend on a run; None for no limit."""
    if budget is None:
        return None
    own = budget.roles.get(role, RoleBudget())
    limits = ((budget.tokens, ""), (own.tokens, role))
    left = [limit - _tokens(spent, whose) for limit, whose in limits if limit is not None]
    return max(0, min(left)) if left else None


def cost_of(spent: Spent, prices: Mapping[str, ModelPrice], role: str = "") -> int | None:
    """What was spent in millionths, rounded up; None if a model that was asked has no price."""
    thousandfold = 0
    for (spender, model), usage in spent.items():
        if role not in ("", spender) or not usage.prompt_tokens + usage.completion_tokens:
            continue
        price = prices.get(model)
        if price is None:
            return None
        thousandfold += usage.prompt_tokens * price.prompt
        thousandfold += usage.completion_tokens * price.completion
    return -(-thousandfold // _PRICED_TOKENS)


def _exhausted(budget: RunBudget, spent: Spent) -> Iterator[Exhausted]:
    owners = {"": RoleBudget(tokens=budget.tokens, cost=budget.cost), **budget.roles}
    for role, own in owners.items():
        tokens = _tokens(spent, role)
        if own.tokens is not None and tokens >= own.tokens and tokens > 0:
            yield Exhausted(budget="tokens_per_run", role=role, spent=tokens, limit=own.tokens)
        if own.cost is None or not tokens:
            continue
        cost = cost_of(spent, budget.prices, role)
        if cost is None or cost >= own.cost:  # what has no price may have cost anything
            known = own.cost if cost is None else cost
            yield Exhausted(budget="cost_per_run", role=role, spent=known, limit=own.cost)


def _tokens(spent: Spent, role: str) -> int:
    return sum(
        usage.prompt_tokens + usage.completion_tokens
        for (spender, _), usage in spent.items()
        if role in ("", spender)
    )


def _role_budget(spend: Spend) -> RoleBudget:
    return RoleBudget(tokens=_number(spend.tokens_per_run), cost=_number(spend.cost_per_run))


def _number(limit: int | str) -> int | None:
    return None if limit == UNLIMITED or isinstance(limit, str) else limit
