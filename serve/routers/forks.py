"""Forks: a new run that is the same as another up to an event."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from actors.errors import CannotFork, UnknownForkEvent
from actors.fork import Changes, fork_run
from bus.payloads import Name, RunSubmitted
from bus.storable import STORABLE
from policies.caller import Caller
from serve.access import Parts, Submitter
from serve.known_run import KnownRun, know_run
from serve.ports import GatewayParts
from serve.problems import Conflict, FieldReason, InvalidFields
from serve.routers.control import ANSWERS
from serve.routers.runs import (
    MAX_DEADLINE_S,
    IdempotencyKey,
    asks_the_same,
    budget_of,
    run_id,
    store_submission,
)

router = APIRouter(prefix="/v1/runs/{run}/fork", tags=["runs"], responses=ANSWERS)

MAX_CHANGES = 100


class ForkRequest(BaseModel):
    """Where to branch off, and what shall be different from there."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    at: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="Id of the last event that both share, or its place in the log.",
        ),
    ]
    values: Annotated[dict[str, JsonValue], STORABLE] = Field(
        default_factory=dict,
        alias="set",
        max_length=MAX_CHANGES,
        description="objective, priority, deadline_s, budget_tokens, or STEP.FIELD of an answer.",
    )
    instructions: Annotated[dict[Name, str], STORABLE] = Field(
        default_factory=dict, description="What to tell the agent of a step, by step."
    )


class SharedAnswer(BaseModel):
    """An answer that is not asked for again."""

    model_config = ConfigDict(frozen=True)
    step: str
    iteration: int
    item: int
    event: str = Field(description="The parent's event that holds it.")
    changed: bool


class ChangedValue(BaseModel):
    """What is different in the request itself."""

    model_config = ConfigDict(frozen=True)
    name: str
    was: JsonValue
    now: JsonValue


class Forked(BaseModel):
    """The new run is in the log; the swarm works on it from here on."""

    model_config = ConfigDict(frozen=True)
    id: str
    parent: str
    at: str
    shared: tuple[SharedAnswer, ...]
    changed: tuple[ChangedValue, ...]
    events_url: str


@router.post("", status_code=202)
async def fork(
    run: str,
    wanted: ForkRequest,
    parts: Parts,
    caller: Submitter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Forked:
    """Branch off from a run. Answers up to the event are shared; the rest is done anew.

    An answer that is shared may be changed, as long as it still fits its schema. With an
    Idempotency-Key, a repeat by the same user is the same run.
    """
    new = run_id(caller, idempotency_key)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        parent = await know_run(parts.log, run, caller)
        if parent.is_erased:
            raise Conflict("The run cannot be forked: what was said in it is erased.")
        payload = _payload(parent, wanted, parts, caller)
        about = parent.submitted.event.sealed_for
        stored = await store_submission(parts, new, payload, caller, sealed_for=about)
    if not asks_the_same(stored.payload(), payload):
        raise _invalid("Idempotency-Key", "was used for another request")
    response.headers["Location"] = f"/v1/runs/{new}"
    return _told(new, parent, payload)


def _payload(
    parent: KnownRun, wanted: ForkRequest, parts: GatewayParts, caller: Caller
) -> RunSubmitted:
    """The submission of the fork.

    Raises:
        InvalidFields: the parent has no such event, or the changes do not fit.
    """
    changes = Changes(values=wanted.values, instructions=wanted.instructions)
    try:
        payload = fork_run(parent.events, wanted.at, changes, requested_by=caller.username[:128])
    except UnknownForkEvent:
        raise _invalid("at", f"run {parent.id} has no such event") from None
    except CannotFork as error:
        raise InvalidFields(str(error)) from error
    _check_limits(payload, wanted.values, parts)
    workflow = parent.state.workflow
    roles = () if workflow is None else tuple(step.role for step in workflow.steps())
    budget = budget_of(parts, roles, payload.budget_tokens)
    return payload.model_copy(
        update={"model": parts.model_name, "budget": budget, "tenant": caller.tenant}
    )


def _check_limits(
    payload: RunSubmitted, values: Mapping[str, JsonValue], parts: GatewayParts
) -> None:
    """What is asked of a job that is handed in is asked of a fork as well."""
    chars = sum(map(len, payload.instructions.values()))
    if "objective" in values and not payload.objective.strip():
        raise _invalid("objective", "must say something")
    if len(payload.objective) > parts.limits.objective_chars:
        raise _invalid("objective", f"is over the limit of {parts.limits.objective_chars}")
    if payload.deadline_s is not None and payload.deadline_s > MAX_DEADLINE_S:
        raise _invalid("deadline_s", f"is over the limit of {MAX_DEADLINE_S:g}")
    if chars > parts.limits.instructions_chars:
        limit = parts.limits.instructions_chars
        raise _invalid("instructions", f"have {chars} characters, the limit is {limit}")


def _told(new: str, parent: KnownRun, payload: RunSubmitted) -> Forked:
    fork, was, now = payload.fork, parent.submission.model_dump(), payload.model_dump()
    if fork is None:
        raise TypeError(f"{new} is not a fork")
    names = ("objective", "priority", "deadline_s", "budget_tokens", "model", "instructions")
    return Forked(
        id=new,
        parent=fork.parent,
        at=fork.at,
        shared=tuple(
            SharedAnswer(
                step=each.step,
                iteration=each.iteration,
                item=each.item,
                event=each.event,
                changed=each.changed,
            )
            for each in fork.adopted
        ),
        changed=tuple(
            ChangedValue(name=name, was=was[name], now=now[name])
            for name in names
            if was[name] != now[name]
        ),
        events_url=f"/v1/runs/{new}/events",
    )


def _invalid(field: str, reason: str) -> InvalidFields:
    return InvalidFields(f"{field}: {reason}.", fields=(FieldReason(field=field, reason=reason),))
