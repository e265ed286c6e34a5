"""The JSON documents that a model app yields, as OpenAI's API defines them.

Of a chat with `stream: true` they are `chat.completion.chunk` objects, else there is one
`chat.completion`; of a completion they are `text_completion` objects. A failure is one
`{"error": ...}` object either way.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue

from bus.payload import Count

Task = Literal["chat", "completion", "embedding"]
"""What is asked of a model: the next message of a chat, how a text goes on, or its vector."""
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
    fingerprint: str = ""
    """Who computed it, as serve/fingerprint.py writes it."""

    @property
    def completion_tokens(self) -> int:
        """A piece is a token."""
        return len(self.pieces)

    @property
    def finish_reason(self) -> str:
        """Why the text ends, in OpenAI's words."""
        return "length" if self.truncated else "stop"


def error_document(message: str, code: int) -> str:
    """The document for a request that cannot be answered; `code` is an HTTP status."""
    kind = _ERROR_TYPES.get(code, "server_error")
    return json.dumps({"error": {"message": message, "type": kind, "code": code}})


def object_in(document: str) -> dict[str, JsonValue] | None:
    """The object that a document is; None where it is none, or nested too deep to be read."""
    try:
        read = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def completion_document(answer: Answer, *, created: int) -> str:
    """The one document of an answer that is not streamed; `created` is in Unix seconds."""
    message = {"role": "assistant", "content": "".join(answer.pieces)}
    return json.dumps(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": created,
            "model": answer.model,
            "system_fingerprint": answer.fingerprint,
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
            "usage": usage_of([answer]),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a stream says of usage: in a chunk at its end, and as it goes in each chunk."""

    at_end: bool = False
    as_it_goes: bool = False

    def so_far(self, answer: Answer, pieces: int) -> dict[str, JsonValue]:
        """The usage after so many pieces, if it is to be shown."""
        if not self.as_it_goes:
            return {}
        return {"usage": usage_of([replace(answer, pieces=answer.pieces[:pieces])])}


def chunk_documents(answer: Answer, *, created: int, usage: Shown) -> Iterator[str]:
    """The documents of a streamed answer: role, one for each piece, the end, usage if wanted."""
    head = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": answer.model,
        "system_fingerprint": answer.fingerprint,
    }

    def chunk(delta: dict[str, str], finish_reason: str | None, pieces: int) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return json.dumps({**head, "choices": [choice], **usage.so_far(answer, pieces)})

    yield chunk({"role": "assistant", "content": ""}, None, 0)
    for number, piece in enumerate(answer.pieces, start=1):
        yield chunk({"content": piece}, None, number)
    yield chunk({}, answer.finish_reason, len(answer.pieces))
    if usage.at_end:
        yield json.dumps({**head, "choices": [], "usage": usage_of([answer])})


def text_documents(
    answers: Sequence[Answer], *, created: int, stream: bool, usage: Shown
) -> Iterator[str]:
    """The documents of a completion, one answer for each prompt; `created` is in Unix seconds."""
    first = answers[0]
    head = {
        "id": first.id,
        "object": "text_completion",
        "created": created,
        "model": first.model,
        "system_fingerprint": first.fingerprint,
    }

    def choice(index: int, text: str, finish_reason: str | None) -> dict[str, JsonValue]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}

    total = usage_of(answers)
    if not stream:
        whole = [choice(i, "".join(a.pieces), a.finish_reason) for i, a in enumerate(answers)]
        yield json.dumps({**head, "choices": whole, "usage": total})
        return
    for index, answer in enumerate(answers):
        for number, piece in enumerate(answer.pieces, start=1):
            said = {"choices": [choice(index, piece, None)], **usage.so_far(answer, number)}
            yield json.dumps({**head, **said})
        last = usage.so_far(answer, len(answer.pieces))
        yield json.dumps({**head, "choices": [choice(index, "", answer.finish_reason)], **last})
    if usage.at_end:
        yield json.dumps({**head, "choices": [], "usage": total})


def usage_of(answers: Sequence[Answer]) -> dict[str, JsonValue]:
    """Token counts of all answers together, in OpenAI's words."""
    prompt = sum(answer.prompt_tokens for answer in answers)
    completion = sum(answer.completion_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


class _Text(BaseModel):
    content: str | None = None


class _Part(BaseModel):
    message: _Text
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class WholeAnswer(BaseModel):
    """What is read of a `chat.completion` object; the rest of it is ignored."""

    model: str
    choices: Annotated[list[_Part], Field(min_length=1)]
    usage: _Usage = _Usage()
    system_fingerprint: str | None = None


class Failure(BaseModel):
    """What is read of an `error` object."""

    message: str = "the model gave no reason"
    code: int = 500


class Reply(BaseModel):
    """A document that answers a request which is not streamed, or refuses any."""

    error: Failure | None = None
