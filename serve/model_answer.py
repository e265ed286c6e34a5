"""A model's answer to a program, by the OpenAI interface: asked, judged, and sent on."""

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Final, cast

import structlog
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from actors.fact import GATEWAY
from bus.errors import SwarmError
from policies.caller import Caller
from serve.completion import Task, object_in
from serve.fingerprint import FALLBACK, origin_of
from serve.metering import Metered, Outcome, Question
from serve.ports import GatewayParts
from serve.problems import (
    InvalidFields,
    ModelFailed,
    NoSuchModel,
    NotAllowed,
    RequestRefused,
    TooManyRequests,
    Unavailable,
    refusal_of,
    short,
)
from serve.stream import MEDIA_TYPE

log = structlog.get_logger()

_ERROR = '{"error":'
"""How the document begins that a model breaks off with."""
PROVIDER_HEADER: Final = "X-Swarm-Provider"
"""On an answer of a fallback provider: its name."""
FAILURES: dict[int | str, dict[str, str]] = {
    404: {"description": "There is no such model."},
    502: {"description": "The model failed to answer."},
    504: {"description": "The answer did not come in time."},
}


class ModelRequest(BaseModel):
    """What every OpenAI request has; what is not named goes to the model as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    model: Annotated[str | None, Field(max_length=200)] = None
    stream: bool = False


async def answered(
    request: ModelRequest, http: Request, parts: GatewayParts, task: Task
) -> Response:
    """Ask the model: one document, or server-sent ones with [DONE] at the end.

    Raises:
        RequestRefused: there is no such model, the policy keeps it from people, who asks has
            used up his tokens of the day, or it refused or failed before it said anything.
    """
    if task != "embedding":  # there the app itself says whether it is the one that is meant
        _check_model(request.model, parts)
    model = request.model or parts.model_name
    _check_policy(model, parts)
    question = Question(
        caller=cast("Caller", http.state.caller),
        request=str(http.state.request_id),
        task=task,
        model=model,
        body={"model": parts.model_name, **request.model_dump(mode="json", exclude_none=True)},
    )
    async with asyncio.timeout(parts.limits.call_timeout_s):
        metered = await parts.meter.admit(question)
    with _ended_if_broken(metered):
        pieces = parts.model.stream(metered.body, deadline_s=parts.limits.chat_timeout_s, task=task)
        first = await _first(pieces, keep=request.stream)
    if request.stream:
        return _Stream(first, pieces, metered)
    metered.whole(first)
    metered.end("answered")
    await metered.recorded()
    return Response(first, headers=_marks(first), media_type="application/json")


async def _first(pieces: AsyncGenerator[str, None], *, keep: bool) -> str:
    """The first document; the rest is given up where there is a refusal, or nothing to keep."""
    first = await anext(pieces, None)
    refusal = ModelFailed() if first is None else _refusal_in(first)
    if refusal is not None or not keep:
        await pieces.aclose()
    if refusal is not None or first is None:
        raise refusal or ModelFailed
    return first


def _marks(first: str) -> dict[str, str]:
    """Says who answered in place of the swarm's own model, where somebody did."""
    if FALLBACK not in first:
        return {}
    mark = (object_in(first) or {}).get("system_fingerprint")
    provider = origin_of(mark if isinstance(mark, str) else None).provider
    return {PROVIDER_HEADER: provider} if provider else {}


@contextmanager
def _ended_if_broken(metered: Metered) -> Iterator[None]:
    """Say how a question ended that does not get to the end of the block."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        metered.end("abandoned")
        raise
    except BaseException:
        metered.end("failed")
        raise


def _check_model(model: str | None, parts: GatewayParts) -> None:
    """Told from what was set up, so that no model that is down holds up the others."""
    names = sorted({parts.model_name, *parts.role_models.values()})
    if model is not None and model not in names:
        raise NoSuchModel(f"There is no such model; there are {', '.join(names)}.")


def _check_policy(model: str, parts: GatewayParts) -> None:
    """Refuse what the gateway's own role may not ask, or not so often.

    Raises:
        NotAllowed: the policy does not let people ask this model.
        TooManyRequests: the minute is used up.
    """
    if parts.policy.call_refusal(GATEWAY, "model", model) or parts.chat_pace.allows_none:
        raise NotAllowed("The policy does not let people ask this model.")
    now = time.monotonic()
    wait_s = parts.chat_pace.wait_s(now)
    if wait_s > 0:
        raise TooManyRequests(headers={"Retry-After": str(math.ceil(wait_s))})
    parts.chat_pace.done(now)


class _Stream(StreamingResponse):
    """Chunks as server-sent events; a failure on the way is the last one before [DONE].

    However it ends, the model is let go and what it cost is recorded.
    """

    def __init__(self, first: str, pieces: AsyncGenerator[str, None], metered: Metered) -> None:
        self._first = first
        self._pieces = pieces
        self._metered = metered
        super().__init__(self._frames(), headers=_marks(first), media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._metered.end("abandoned")  # unless it has ended
            await self._pieces.aclose()

    async def _frames(self) -> AsyncGenerator[str, None]:
        outcome: Outcome = "answered"
        shown = self._metered.chunk(self._first)
        if shown is not None:
            yield f"data: {shown}\n\n"
        try:
            async for piece in self._pieces:
                if piece.startswith(_ERROR):
                    outcome = "failed"
                shown = self._metered.chunk(piece)
                if shown is not None:
                    yield f"data: {shown}\n\n"
        except SwarmError as error:
            outcome = "failed"
            log.warning("chat.broken", error=type(error).__name__, reason=str(error)[:200])
            refusal = refusal_of(error) or ModelFailed()
            broken = {"error": {"message": str(refusal), "code": refusal.status}}
            yield f"data: {json.dumps(broken)}\n\n"
        self._metered.end(outcome)
        await self._metered.recorded()
        yield "data: [DONE]\n\n"


def _refusal_in(piece: str) -> RequestRefused | None:
    """What an error document says, as a refusal; a fault of the model's own is not quoted."""
    document = object_in(piece)
    error = {} if document is None else document.get("error")
    if error is None:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    message = short(str(error.get("message", ""))) if isinstance(error, dict) else ""
    log.info("chat.refused", code=code)
    match code:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TooManyRequests(headers={"Retry-After": "1"})
        case HTTPStatus.SERVICE_UNAVAILABLE:
            wait = {"Retry-After": "2"}
            return Unavailable("No model is up to answer.", headers=wait, not_done=True)
        case HTTPStatus.NOT_FOUND:
            return NoSuchModel(message)
        case int() if 400 <= code < 500:  # noqa: PLR2004 - a client error in HTTP
            return InvalidFields(message)
        case _:
            return ModelFailed()
