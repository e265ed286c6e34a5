"""Making out the receipt of a model's answer. Pure.

docs/evidence.md describes the bytes that each digest is taken of.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from actors.model import Completion, Message, ModelRequest
from bus.answer_receipt import NAME_CHARS, Digests, Receipt
from bus.event import pre_authentication_encoding

_PROMPT: Final = b"vllm-swarm/prompt/v1"


def prompt_digest(messages: Sequence[Message]) -> str:
    """Hex SHA-256 of a conversation: roles and contents, with boundaries that cannot be moved."""
    said = (_utf8(text) for message in messages for text in (message.role, message.content))
    return hashlib.sha256(pre_authentication_encoding(_PROMPT, *said)).hexdigest()


def answer_digest(text: str) -> str:
    """Hex SHA-256 of what a model wrote, before anything is read from it."""
    return hashlib.sha256(_utf8(text)).hexdigest()


def schema_digest(schema: Mapping[str, JsonValue] | None) -> str:
    """Hex SHA-256 of a schema as compact JSON, members in their order; empty for none.

    The order counts: a model writes the fields of its answer in it.
    """
    return "" if schema is None else hashlib.sha256(to_json(schema)).hexdigest()


def receipt_of(request: ModelRequest, completion: Completion) -> Receipt:
    """Who answered a request, and how it was asked."""
    engine = completion.engine
    return Receipt(
        engine=engine.name[:NAME_CHARS],
        version=engine.version[:NAME_CHARS],
        weights=engine.weights,
        temperature=request.temperature,
        seed=request.seed,
        max_tokens=request.max_tokens,
        answer_schema=schema_digest(request.schema),
        provider=completion.provider[:NAME_CHARS],
    )


def digests_of(request: ModelRequest, completion: Completion) -> Digests:
    """What was said, by its digests."""
    return Digests(prompt=prompt_digest(request.messages), answer=answer_digest(completion.text))


def _utf8(text: str) -> bytes:
    """Half a surrogate pair, which JSON can write, is kept."""
    return text.encode(errors="surrogatepass")
