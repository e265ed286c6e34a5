"""Texts as vectors, by the OpenAI interface."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from serve.access import Embeds, Parts
from serve.embedding import MOST_TEXTS
from serve.model_answer import FAILURES, ModelRequest, answered

router = APIRouter(prefix="/v1", tags=["model"])

EMBEDDINGS: dict[str, JsonValue] = {
    "type": "object",
    "description": "A list of embeddings as OpenAI's API has it.",
    "required": ["data"],
    "properties": {"data": {"type": "array", "items": {"type": "object"}}},
}
Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(ModelRequest):
    """An OpenAI embedding request, of texts: token ids mean nothing to another tokenizer."""

    model: str = Field(max_length=200)
    stream: Literal[False] = False
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Base64 is of 32-bit floats, low byte first."
    )
    dimensions: int | None = Field(None, gt=0, description="Only what the model has.")


@router.post(
    "/embeddings",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": EMBEDDINGS}}}, **FAILURES},
)
async def embed(request: EmbeddingRequest, http: Request, parts: Parts, _: Embeds) -> Response:
    """Turn a text, or each of several, into a vector."""
    return await answered(request, http, parts, "embedding")
