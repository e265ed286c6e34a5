"""What was used up of the models, over the SDK."""

from collections.abc import Sequence
from datetime import date
from typing import Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict

from swarm.answer import parse
from swarm.http import Call, Gateway

UsagePart = Literal["user", "api_key", "day", "model", "task", "run", "role", "agent"]
EVERYBODY = "*"


class _View(BaseModel):
    """What a gateway answers; what a newer one adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UsageTotal(_View):
    """What was used up; of the first fields those are there that totals are told apart by."""

    user: str | None = None
    api_key: str | None = None
    day: date | None = None
    model: str | None = None
    task: str | None = None
    run: str | None = None
    role: str | None = None
    agent: str | None = None
    questions: int
    prompt_tokens: int
    completion_tokens: int


class UsageBudget(_View):
    """What one may use up today through the gateway; None is as much as one likes."""

    tokens_per_day: int | None = None
    used_today: int


class UsageReport(_View):
    """Totals from the first day to the last, in UTC."""

    since: date
    until: date
    totals: tuple[UsageTotal, ...]
    is_whole: bool
    budget: UsageBudget | None = None


async def usage_of(
    gateway: Gateway,
    by: Sequence[UsagePart],
    *,
    user: str | None,
    run: str | None,
    since: date | None,
    until: date | None,
) -> UsageReport:
    """Ask for totals; see AsyncSwarm.usage."""
    asked = {"user": user, "run": run, "since": since, "until": until}
    query: list[tuple[str, str]] = [("by", part) for part in by]
    query += [(name, str(value)) for name, value in asked.items() if value is not None]
    path = "/v1/usage" + (f"?{urlencode(query)}" if query else "")
    return parse(UsageReport, await gateway.call(Call(method="GET", path=path)))
