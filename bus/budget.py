"""What a run may spend, as its submission says it, and what it has spent when it is stopped.

The wire contract of bus/payloads.py holds: fields are only added, with a default.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Role = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
_Amount = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPrice(_Part):
    """What a model costs, in millionths of a currency for 1,000 tokens."""

    prompt: _Amount
    completion: _Amount


class RoleBudget(_Part):
    """What agents of one role may spend on a run; None is no limit."""

    tokens: _Amount | None = None
    cost: _Amount | None = Field(None, description="In millionths of the currency of the prices.")


class RunBudget(RoleBudget):
    """What a run may spend, all agents together, and those of each role."""

    roles: dict[_Role, RoleBudget] = Field(default_factory=dict)
    prices: dict[str, ModelPrice] = Field(default_factory=dict, description="By model.")


class SpentBudget(_Part):
    """A budget that is used up."""

    budget: str = Field(description="The limit of the policy, by its name there.", max_length=64)
    role: _Role | None = Field(None, description="Whose it is; None for that of the whole run.")
    spent: _Amount = Field(description="Tokens, or millionths of the currency of the prices.")
    limit: _Amount
