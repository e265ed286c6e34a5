"""What was used up of the models: by oneself, and for who manages users by anybody."""

import asyncio
from datetime import date, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from policies.roles import Allow, Permission
from serve.access import Parts, UsageReader
from serve.allowance import day_of
from serve.ports import GatewayParts
from serve.problems import FieldReason, InvalidFields, NotAllowed
from storage.usage import MOST_TOTALS, Part, Scope, Total

router = APIRouter(prefix="/v1/usage", tags=["usage"])

DAYS: Final = 30
"""That are looked at where nothing is said."""
EVERYBODY: Final = "*"

By = Annotated[list[Part] | None, Query(max_length=8, description="What to tell totals apart by.")]
Whose = Annotated[
    str | None,
    Query(max_length=64, description="A user's id, or * for everybody; oneself if left out."),
]
OfRun = Annotated[str | None, Query(max_length=128, description="One run only.")]
Since = Annotated[date | None, Query(description="The first day, in UTC.")]
Until = Annotated[date | None, Query(description="The last day, in UTC.")]


class UsageTotal(BaseModel):
    """What was used up; the fields before the numbers are those that were asked for."""

    model_config = ConfigDict(frozen=True)
    user: str | None = None
    api_key: str | None = Field(None, description="Its id; empty where it was none.")
    day: date | None = None
    model: str | None = None
    task: str | None = Field(None, description="chat, completion, embedding or step.")
    run: str | None = Field(None, description="Empty for what was asked through the gateway.")
    role: str | None = None
    agent: str | None = None
    questions: int
    prompt_tokens: int
    completion_tokens: int


class UsageBudget(BaseModel):
    """What one may use up today by asking models through the gateway."""

    model_config = ConfigDict(frozen=True)
    tokens_per_day: int | None = Field(None, description="None: as many as one likes.")
    used_today: int


class UsageReport(BaseModel):
    """Totals, as far as the audit log has come."""

    model_config = ConfigDict(frozen=True)
    since: date
    until: date
    totals: tuple[UsageTotal, ...]
    is_whole: bool = Field(description="False where there are more totals than are told.")
    budget: UsageBudget | None = Field(None, description="One's own, where one asks of oneself.")


@router.get("", response_model_exclude_none=True)
async def usage(
    parts: Parts,
    caller: UsageReader,
    by: By = None,
    user: Whose = None,
    run: OfRun = None,
    since: Since = None,
    until: Until = None,
) -> UsageReport:
    """What was used up of the models, from the audit log: in total, or by user, day and so on."""
    is_own = user in (None, caller.user)
    if not is_own and not isinstance(caller.may(Permission.USER_MANAGE), Allow):
        raise NotAllowed("Who does not manage users sees what he used up himself.")
    last = until or day_of(parts.clock())
    scope = Scope(
        since=since or _before(last),
        until=last,
        user=None if user == EVERYBODY else user or caller.user,
        run=run,
    )
    if scope.since > scope.until:
        reason = "it is after the last day"
        raise InvalidFields(
            f"since: {reason}.", fields=(FieldReason(field="since", reason=reason),)
        )
    async with asyncio.timeout(parts.limits.call_timeout_s):
        totals = await parts.usage.totals(scope, by or ())
        budget = await _budget(parts, caller.user, caller.username) if is_own else None
    return UsageReport(
        since=scope.since,
        until=scope.until,
        totals=tuple(map(_view, totals[:MOST_TOTALS])),
        is_whole=len(totals) <= MOST_TOTALS,
        budget=budget,
    )


def _before(last: date) -> date:
    return last - timedelta(days=min(DAYS - 1, (last - date.min).days))


async def _budget(parts: GatewayParts, user: str, username: str) -> UsageBudget:
    spent = await parts.usage.spent(user, day_of(parts.clock()))
    return UsageBudget(
        tokens_per_day=parts.policy.tokens_per_day(username), used_today=spent.tokens
    )


def _view(total: Total) -> UsageTotal:
    numbers = {
        "questions": total.questions,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
    }
    return UsageTotal.model_validate({**total.parts, **numbers})
