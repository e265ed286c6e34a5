"""The JSON documents that a model app yields, as OpenAI's chat API defines them.

With `stream: true` they are `chat.completion.chunk` objects, else there is one
`chat.completion`; a failure is one `{"error": ...}` object either way.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue

_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer before it is put into documents."""

    id: str
    model: str
    pieces: tuple[str, ...]
    """The text, split where a stream splits it."""
    prompt_tokens: int
    truncated: bool = False

    @property
    def completion_tokens(self) -> int:
        """A piece is a token."""
        return len(self.pieces)

    @property
    def finish_reason(self) -> str:
        """Why the text ends, in OpenAI's words."""
        return "length" if self.truncated else "stop"

    @property
    def usage(self) -> dict[str, JsonValue]:
        """Token counts, in OpenAI's words."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def error_document(message: str, code: int) -> str:
    """The document for a request that cannot be answered; `code` is an HTTP status."""
    kind = _ERROR_TYPES.get(code, "server_error")
    return json.dumps({"error": {"message": message, "type": kind, "code": code}})


def completion_document(answer: Answer, *, created: int) -> str:
    """The one document of an answer that is not streamed; `created` is in Unix seconds."""
    message = {"role": "assistant", "content": "".join(answer.pieces)}
    return json.dumps(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": created,
            "model": answer.model,
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
            "usage": answer.usage,
        }
    )


def chunk_documents(answer: Answer, *, created: int, include_usage: bool) -> Iterator[str]:
    """The documents of a streamed answer: role, one for each piece, the end, usage if wanted."""
    head = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": answer.model,
    }

    def chunk(delta: dict[str, str], finish_reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return json.dumps({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""}, None)
    for piece in answer.pieces:
        yield chunk({"content": piece}, None)
    yield chunk({}, answer.finish_reason)
    if include_usage:
        yield json.dumps({**head, "choices": [], "usage": answer.usage})


class _Text(BaseModel):
    content: str | None = None


class _Part(BaseModel):
    message: _Text
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class WholeAnswer(BaseModel):
    """What is read of a `chat.completion` object; the rest of it is ignored."""

    model: str
    choices: Annotated[list[_Part], Field(min_length=1)]
    usage: _Usage = _Usage()


class Failure(BaseModel):
    """What is read of an `error` object."""

    message: str = "the model gave no reason"
    code: int = 500


class Reply(BaseModel):
    """A document that answers a request which is not streamed, or refuses any."""

    error: Failure | None = None
