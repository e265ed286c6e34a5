"""A model's answer to a program, by the OpenAI interface: asked, judged, and sent on."""

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response, StreamingResponse

from actors.fact import GATEWAY
from bus.errors import SwarmError
from serve.completion import Task
from serve.fingerprint import FALLBACK, origin_of
from serve.ports import GatewayParts
from serve.problems import (
    FieldReason,
    InvalidFields,
    ModelFailed,
    NotAllowed,
    RequestRefused,
    TooManyRequests,
    Unavailable,
    refusal_of,
    short,
)
from serve.stream import MEDIA_TYPE

log = structlog.get_logger()

PROVIDER_HEADER: Final = "X-Swarm-Provider"
"""On an answer of a fallback provider: its name."""
FAILURES: dict[int | str, dict[str, str]] = {
    502: {"description": "The model failed to answer."},
    504: {"description": "The answer did not come in time."},
}


class ModelRequest(BaseModel):
    """What every OpenAI request has; what is not named goes to the model as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    model: Annotated[str | None, Field(max_length=200)] = None
    stream: bool = False


async def answered(request: ModelRequest, parts: GatewayParts, task: Task) -> Response:
    """Ask the model: one document, or server-sent ones with [DONE] at the end.

    Raises:
        RequestRefused: there is no such model, the policy keeps it from people, or it refused or
            failed before it said anything.
    """
    if task != "embedding":  # there the app itself says whether it is the one that is meant
        await _check_model(request.model, parts)
    _check_policy(request.model or parts.model_name, parts)
    asked = {"model": parts.model_name, **request.model_dump(mode="json", exclude_none=True)}
    pieces = parts.model.stream(asked, deadline_s=parts.limits.chat_timeout_s, task=task)
    first = await anext(pieces, None)
    refusal = ModelFailed() if first is None else _refusal_in(first)
    if refusal is not None or not request.stream:
        await pieces.aclose()
    if refusal is not None or first is None:
        raise refusal or ModelFailed
    headers = _marks(first)
    if not request.stream:
        return Response(first, headers=headers, media_type="application/json")
    return StreamingResponse(_server_sent(first, pieces), headers=headers, media_type=MEDIA_TYPE)


def _marks(first: str) -> dict[str, str]:
    """Says who answered in place of the swarm's own model, where somebody did."""
    if FALLBACK not in first:
        return {}
    provider = origin_of(json.loads(first).get("system_fingerprint")).provider
    return {PROVIDER_HEADER: provider} if provider else {}


async def _check_model(model: str | None, parts: GatewayParts) -> None:
    if model in (None, parts.model_name):
        return
    async with asyncio.timeout(parts.limits.call_timeout_s):
        listed = (await parts.model.models()).get("data")
    names = (
        [str(m["id"]) for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    )
    if model not in names:
        reason = f"there are {', '.join(names)}"
        raise InvalidFields(
            f"model: {reason}.", fields=(FieldReason(field="model", reason=reason),)
        )


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


async def _server_sent(first: str, pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Chunks as server-sent events; a failure on the way is the last one before [DONE]."""
    async with aclosing(pieces):
        yield f"data: {first}\n\n"
        try:
            async for piece in pieces:
                yield f"data: {piece}\n\n"
        except SwarmError as error:
            log.warning("chat.broken", error=type(error).__name__, reason=str(error)[:200])
            refusal = refusal_of(error) or ModelFailed()
            broken = {"error": {"message": str(refusal), "code": refusal.status}}
            yield f"data: {json.dumps(broken)}\n\n"
    yield "data: [DONE]\n\n"


def _refusal_in(piece: str) -> RequestRefused | None:
    """What an error document says, as a refusal; a fault of the model's own is not quoted."""
    document = json.loads(piece)
    error = document.get("error") if isinstance(document, dict) else None
    if error is None:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    message = short(str(error.get("message", ""))) if isinstance(error, dict) else ""
    log.info("chat.refused", code=code)
    match code:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TooManyRequests(headers={"Retry-After": "1"})
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return Unavailable("No model is up to answer.", headers={"Retry-After": "2"})
        case int() if 400 <= code < 500:  # noqa: PLR2004 - a client error in HTTP
            return InvalidFields(message)
        case _:
            return ModelFailed()
