"""The model itself, by the OpenAI interface."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from serve.access import Chatter, Parts
from serve.model_answer import FAILURES, ModelRequest, answered
from serve.stream import MEDIA_TYPE

router = APIRouter(prefix="/v1", tags=["model"])

CHAT: dict[str, JsonValue] = {
    "type": "object",
    "description": "A chat completion as OpenAI's API has it.",
    "required": ["choices"],
    "properties": {"choices": {"type": "array", "items": {"type": "object"}}},
}
TEXT: dict[str, JsonValue] = {**CHAT, "description": "A completion as OpenAI's API has it."}
Message = Annotated[dict[str, JsonValue], Field(min_length=1)]
Prompt = Annotated[str, Field(min_length=1)]


class ChatRequest(ModelRequest):
    """An OpenAI chat completion request; what is not named here goes to the model as it is."""

    messages: list[Message] = Field(min_length=1, max_length=1_000)


class CompletionRequest(ModelRequest):
    """An OpenAI completion request; what is not named here goes to the model as it is."""

    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=100)]


@router.post(
    "/chat/completions",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": CHAT}, MEDIA_TYPE: {}}},
        **FAILURES,
    },
)
async def complete(request: ChatRequest, http: Request, parts: Parts, _: Chatter) -> Response:
    """Ask the model. With `stream`, the answer comes in server-sent chunks, then [DONE]."""
    return await answered(request, http, parts, "chat")


@router.post(
    "/completions",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": TEXT}, MEDIA_TYPE: {}}},
        **FAILURES,
    },
)
async def go_on(request: CompletionRequest, http: Request, parts: Parts, _: Chatter) -> Response:
    """Let the model say how a text goes on, or each of several."""
    return await answered(request, http, parts, "completion")
