"""The scripted engine: answers made from the request by rule, without a model.

It stands in for a model in tests and demonstrations. The same messages, schema
and seed get the same answer on every machine. The answers say what they are:
they quote the request and reason about nothing.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import cache
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from actors.model import Engine
from serve.completion import (
    Answer,
    Shown,
    chunk_documents,
    completion_document,
    error_document,
    text_documents,
)
from serve.errors import ModelRefused
from serve.fingerprint import fingerprint
from serve.profile import ModelProfile
from serve.sample import Sampler
from serve.weights_digest import source_digest

NAME: Final = "scripted"
VERSION: Final = "1"
_PIECE: Final = re.compile(r"\S+\s*|^\s+")
_WORD: Final = re.compile(r"[\w'-]+")
_ID_CHARACTERS: Final = 24


class _Request(BaseModel):
    # OpenAI's API has many more fields; they make no difference here.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _ContentPart(_Request):
    type: str
    text: str = ""


class _ChatMessage(_Request):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class _JsonSchema(_Request):
    name: str = "answer"
    schema_: Annotated[dict[str, JsonValue], Field(alias="schema")]


class _ResponseFormat(_Request):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(_Request):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _AnyRequest(_Request):
    model: str = NAME
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None

    @property
    def usage_shown(self) -> Shown:
        """What a stream says of the count of tokens."""
        wanted = self.stream_options or _StreamOptions()
        going = wanted.include_usage and wanted.continuous_usage_stats
        return Shown(at_end=wanted.include_usage, as_it_goes=going)


_Kind = TypeVar("_Kind", bound=_AnyRequest)


class ChatRequest(_AnyRequest):
    """What is read of an OpenAI chat request."""

    messages: Annotated[list[_ChatMessage], Field(min_length=1)]
    response_format: _ResponseFormat | None = None

    @property
    def schema_wanted(self) -> dict[str, JsonValue] | None:
        """The JSON schema that the answer follows; None for plain text."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        wanted = self.response_format.json_schema
        return {"type": "object"} if wanted is None else wanted.schema_


class CompletionRequest(_AnyRequest):
    """What is read of an OpenAI completion request."""

    prompt: str | Annotated[list[str], Field(min_length=1)]

    @property
    def chats(self) -> list[ChatRequest]:
        """A chat for each prompt, which is its only message."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [
            ChatRequest(
                model=self.model,
                messages=[_ChatMessage(role="user", content=prompt)],
                max_tokens=self.max_tokens,
                seed=self.seed,
            )
            for prompt in prompts
        ]


@cache
def engine() -> Engine:
    """This engine. Its rules stand in for weights: other rules give other answers."""
    rules = source_digest("serve.scripted", "serve.sample")
    return Engine(name=NAME, version=VERSION, weights=rules)


def answer(request: ChatRequest) -> Answer:
    """Answer the request; the same one gets the same answer.

    Tokens are words between white space. `max_tokens` cuts plain text off; JSON is never cut.

    Raises:
        ModelRefused: The schema is one that no answer is found for.
    """
    schema = request.schema_wanted
    heard = [(message.role, message.text) for message in request.messages]
    seed = hashlib.sha256(json.dumps([heard, schema, request.seed]).encode()).digest()
    said = [text for role, text in heard if role == "user"] or [heard[-1][1]]
    words = _WORD.findall(said[-1])
    sampler = Sampler(root=schema or {}, seed=seed, words=words)
    if schema is None:
        text = f"{sampler.sentence('A scripted answer')} No model was asked."
    else:
        text = json.dumps(sampler.value(schema), ensure_ascii=False)
    pieces = _PIECE.findall(text)
    limit = len(pieces) if schema is not None or request.max_tokens is None else request.max_tokens
    return Answer(
        id=f"chatcmpl-{seed.hex()[:_ID_CHARACTERS]}",
        model=request.model,
        pieces=tuple(pieces[:limit]),
        prompt_tokens=sum(len(text.split()) for _, text in heard),
        truncated=limit < len(pieces),
        fingerprint=fingerprint(engine()),
    )


def parse(kind: type[_Kind], body: dict[str, JsonValue]) -> _Kind:
    """Read a request body.

    Raises:
        ModelRefused: It is not such a request; the message names the first field at fault.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise ModelRefused(f"{where}: {first['msg']}") from error


def _chat_documents(request: ChatRequest, created: int) -> Iterator[str]:
    made = answer(request)
    if not request.stream:
        return iter([completion_document(made, created=created)])
    return chunk_documents(made, created=created, usage=request.usage_shown)


def _text_documents(request: CompletionRequest, created: int) -> Iterator[str]:
    return text_documents(
        [answer(chat) for chat in request.chats],
        created=created,
        stream=request.stream,
        usage=request.usage_shown,
    )


class ScriptedModel:
    """A replica of the scripted engine, with the interface of any model app."""

    def __init__(self, profile: ModelProfile) -> None:
        self._name = profile.served_name
        self._delay_s = profile.delay_s
        self._context = profile.max_model_len
        self._created = int(time.time())
        self._in_work = 0

    async def chat(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Answer an OpenAI chat request with the documents of serve/completion.py."""
        async with aclosing(self._documents(ChatRequest, request, _chat_documents)) as made:
            async for document in made:
                yield document

    async def completion(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Answer an OpenAI completion request likewise."""
        async with aclosing(self._documents(CompletionRequest, request, _text_documents)) as made:
            async for document in made:
                yield document

    async def _documents(
        self,
        kind: type[_Kind],
        request: dict[str, JsonValue],
        make: Callable[[_Kind, int], Iterator[str]],
    ) -> AsyncGenerator[str, None]:
        try:
            wanted = parse(kind, {"model": self._name, **request})
            if wanted.model != self._name:
                yield error_document(f"the model {wanted.model!r} does not exist", 404)
                return
            made = make(wanted, int(time.time()))
        except ModelRefused as error:
            yield error_document(str(error), 400)
            return
        documents = list(made)
        self._in_work += 1
        try:
            for number, document in enumerate(documents):
                if number or not wanted.stream:  # a stream begins at once
                    await asyncio.sleep(self._delay_s / max(1, len(documents) - wanted.stream))
                yield document
        finally:
            self._in_work -= 1

    async def in_work(self) -> int:
        """How many requests the engine works on."""
        return self._in_work

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of models, of which there is one."""
        model: dict[str, JsonValue] = {
            "id": self._name,
            "object": "model",
            "created": self._created,
            "owned_by": "swarm",
            "max_model_len": self._context,
        }
        return {"object": "list", "data": [model]}

    async def check_health(self) -> None:
        """Nothing here can break."""
