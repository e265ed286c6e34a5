"""Runs: hand one in, see how far it is, follow its events."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import StreamingResponse

from actors.definition import definition_of
from actors.workflow import WorkflowSpec
from bus.budget import RunBudget
from bus.errors import PublishConflict
from bus.event import Draft, StoredEvent, derive_id
from bus.log import Expected
from bus.payloads import (
    Name,
    Payload,
    Priority,
    RunSubmitted,
)
from bus.storable import STORABLE
from bus.subjects import run_filter, run_of, subject_for
from policies.budgets import needs_price, run_budget, tokens_limit
from policies.caller import Caller
from serve.access import Parts, Reader, Submitter, still_welcome
from serve.known_run import check_run_id, know_run, read_run
from serve.ports import GatewayParts
from serve.problems import FieldReason, InvalidFields, NotAllowed, Unavailable
from serve.run_list import RunLine, list_runs
from serve.run_view import RunView, view_run
from serve.stream import (
    MEDIA_TYPE,
    EventView,
    ends_run,
    last_retry,
    run_events,
    while_welcome,
)

router = APIRouter(prefix="/v1/runs", tags=["runs"])

MAX_DEADLINE_S: Final = 30 * 86_400.0
"""No credential lives longer."""


class RunRequest(BaseModel):
    """A job for the swarm."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    objective: Annotated[str, STORABLE] = Field(
        min_length=1, description="What is wanted, in plain words."
    )
    workflow: str = Field("sparc", max_length=64)
    model: str | None = Field(None, max_length=200, description="The swarm's model if left out.")
    priority: Priority = "normal"
    deadline_s: float | None = Field(
        None, gt=0, le=MAX_DEADLINE_S, description="Seconds after which the run fails."
    )
    instructions: Annotated[dict[Name, str], STORABLE] = Field(
        default_factory=dict, description="What to tell the agent of a step, by step."
    )
    budget_tokens: int | None = Field(
        None,
        ge=1,
        lt=2**53,
        description="Tokens after which the run is stopped; the policy's limit if left out.",
    )

    @field_validator("objective")
    @classmethod
    def _says_something(cls, objective: str) -> str:
        if not objective.strip():
            raise ValueError("must say something")
        return objective


class RunAccepted(BaseModel):
    """The run is in the log; the swarm works on it from here on."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: str = "submitted"
    events_url: str


class RunList(BaseModel):
    """Runs in the order in which they were handed in."""

    model_config = ConfigDict(frozen=True)
    runs: tuple[RunLine, ...]


IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="A repeat with the same key is one run."),
]


@router.post("", status_code=202)
async def submit(
    job: RunRequest,
    parts: Parts,
    caller: Submitter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> RunAccepted:
    """Hand in a job. When this answers, it is stored durably and will be worked on.

    With an Idempotency-Key, a repeat by the same user is the same run: send one, and a
    request whose answer was lost can be sent again.
    """
    payload = _payload(job, parts, caller)
    run = run_id(caller, idempotency_key)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        stored = await store_submission(parts, run, payload, caller)
    if not asks_the_same(stored.payload(), payload):
        field = FieldReason(field="Idempotency-Key", reason="was used for another request")
        raise InvalidFields("This Idempotency-Key was used for another request.", fields=(field,))
    location = f"{router.prefix}/{run}"
    response.headers["Location"] = location
    return RunAccepted(id=run, events_url=f"{location}/events")


@router.get("")
async def runs(
    parts: Parts, caller: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> RunList:
    """The newest runs, in the order in which they were handed in.

    A user gets their own, a viewer those of their tenant, an admin everybody's.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        return RunList(runs=tuple(await list_runs(parts.log, caller, limit)))


@router.get("/{run}")
async def status(run: str, parts: Parts, caller: Reader) -> RunView:
    """Where a run stands, folded from the log at this moment."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        return view_run(await know_run(parts.log, run, caller), parts.clock())


@router.get(
    "/{run}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": EventView.model_json_schema()}}},
        204: {"description": "The run has ended and all of it was seen: do not come back."},
    },
)
async def events(
    run: str,
    parts: Parts,
    caller: Reader,
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> Response:
    """Follow a run as server-sent events, until it ends for good or, as yet, by a failure.

    Each event's id is its place in the log. With `Last-Event-ID` (or `after`) the stream
    goes on behind it, without a gap and without a repeat. Comments keep it alive.
    """
    check_run_id(run)
    position = _position(last_event_id, after)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        seen = await read_run(parts.log, run, caller)
        last = seen[-1].stream_sequence
        if position > last:
            last = await parts.log.last_sequence()
    if position > last:
        raise InvalidFields(f"The log ends at {last}: nobody can have seen event {position}.")
    retried = last_retry(seen)
    if any(ends_run(event) and retried < event.stream_sequence <= position for event in seen):
        return Response(status_code=204)
    pieces = run_events(parts.log, run, after=position, limits=parts.limits, retried=retried)
    return StreamingResponse(
        while_welcome(pieces, still_welcome(request)),
        media_type=MEDIA_TYPE,
        headers={"X-Accel-Buffering": "no"},
    )


def run_id(caller: Caller, idempotency_key: str | None) -> str:
    """The id of a new run: random, or the same for the same user and key. It names the tenant."""
    own = secrets.token_hex(10)
    if idempotency_key is not None:
        own = derive_id("idempotency-key", caller.user, idempotency_key)[:20]
    return run_of(caller.tenant, f"r{own}")


def _payload(job: RunRequest, parts: GatewayParts, caller: Caller) -> RunSubmitted:
    limit = parts.limits.objective_chars
    if len(job.objective) > limit:
        raise _invalid("objective", f"has {len(job.objective)} characters, the limit is {limit}")
    if job.workflow not in parts.workflows:
        raise _invalid("workflow", f"there are {', '.join(sorted(parts.workflows))}")
    if job.model not in (None, parts.model_name):
        raise _invalid("model", f"the swarm's agents use {parts.model_name}")
    workflow = parts.workflows[job.workflow]
    _check_instructions(job.instructions, workflow, parts.limits.instructions_chars)
    return RunSubmitted(
        objective=job.objective,
        workflow=job.workflow,
        model=parts.model_name,
        requested_by=caller.username[:128],
        priority=job.priority,
        deadline_s=job.deadline_s,
        definition=definition_of(workflow),
        instructions=job.instructions,
        budget_tokens=job.budget_tokens,
        budget=budget_of(parts, (step.role for step in workflow.steps()), job.budget_tokens),
        tenant=caller.tenant,
    )


def budget_of(parts: GatewayParts, roles: Iterable[str], tokens: int | None) -> RunBudget:
    """What a run with steps of those roles may spend.

    Raises:
        InvalidFields: its user would allow it more than the policy does, or its cost is limited
            and cannot be told.
    """
    limit = tokens_limit(parts.policy)
    if tokens is not None and limit is not None and tokens > limit:
        raise _invalid("budget_tokens", f"is over the policy's limit of {limit}")
    asking = frozenset(roles)
    budget = run_budget(parts.policy, asking, tokens)
    for model in sorted({parts.role_models.get(role, parts.model_name) for role in asking}):
        if needs_price(budget, model):
            raise _invalid("model", f"{model} has no price, but the policy limits the cost")
    return budget


def _check_instructions(
    instructions: Mapping[str, str], workflow: WorkflowSpec, limit: int
) -> None:
    for step in instructions:
        if workflow.step(step) is None:
            names = ", ".join(each.name for each in workflow.steps())
            raise _invalid("instructions", f"the steps of {workflow.name} are {names}")
    chars = sum(map(len, instructions.values()))
    if chars > limit:
        raise _invalid("instructions", f"have {chars} characters, the limit is {limit}")


def asks_the_same(stored: Payload, payload: RunSubmitted) -> bool:
    """Whether two submissions differ in nothing but what followed from the time.

    How the workflow was defined, and what the policy let a run spend.
    """
    undefined = {"definition": None, "budget": None}
    return isinstance(stored, RunSubmitted) and (
        stored.model_copy(update=undefined) == payload.model_copy(update=undefined)
    )


async def store_submission(
    parts: GatewayParts,
    run: str,
    payload: RunSubmitted,
    caller: Caller,
    sealed_for: str | None = None,
) -> StoredEvent:
    """Append the event unless the run has one already; either way, what the log holds.

    Args:
        parts: with the log.
        run: its id.
        payload: what is asked.
        caller: who asks.
        sealed_for: whom it is about, if not about the caller.

    Raises:
        NotAllowed: whom it is about is forgotten: nothing of that is kept.
    """
    if not await parts.log.keeps(sealed_for or caller.user):
        raise NotAllowed("What this user says is not kept: the user was forgotten.")
    draft = Draft(
        run=run,
        payload=payload,
        id=derive_id("run.submitted", run),
        on_behalf_of=caller.user,
        sealed_for=sealed_for,
    )
    first = Expected(subject_filter=subject_for(run, RunSubmitted.TYPE), stream_sequence=0)
    try:
        return await parts.log.append(draft, expected=first)
    except PublishConflict:
        async for received in parts.log.read(run_filter(run)):
            if isinstance(received, StoredEvent) and received.event.type == RunSubmitted.TYPE:
                return received
        raise Unavailable("The run could not be stored; try again.") from None


def _position(last_event_id: str | None, after: int) -> int:
    """The header wins: a browser sends it when it reconnects to the first address."""
    if last_event_id is None:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):  # noqa: PLR2004 - int64
        raise _invalid("Last-Event-ID", "is not the id of an event in this stream")
    return int(last_event_id)


def _invalid(field: str, reason: str) -> InvalidFields:
    return InvalidFields(f"{field}: {reason}.", fields=(FieldReason(field=field, reason=reason),))
