"""The way from the memory to the model that turns texts into vectors."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from pydantic import BaseModel, JsonValue, ValidationError

from serve.completion import Reply, Task
from serve.errors import ModelUnavailable
from serve.inference import EMBEDDING_APP, ModelClient, failure


class _Vector(BaseModel):
    embedding: tuple[float, ...]
    index: int


class _Vectors(BaseModel):
    """What is read of an OpenAI answer to an embedding request."""

    data: tuple[_Vector, ...]


class Embeds(Protocol):
    """The app that embeds, as `ModelClient` reaches it."""

    def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task
    ) -> AsyncGenerator[str, None]:
        """The documents that answer a request."""
        ...


class TextEmbedder:
    """Asks the embedding app of this Ray cluster. It pickles, and costs nothing until it is used.

    Args:
        name: what the app calls its model.
        model: the way to the app.
    """

    def __init__(self, name: str, model: Embeds | None = None) -> None:
        self._name = name
        self._model = model or ModelClient(app=EMBEDDING_APP)

    async def embed(self, texts: Sequence[str], *, deadline_s: float) -> list[tuple[float, ...]]:
        """A vector for each text, in order.

        Raises:
            ModelUnavailable: nobody answers, for now, or not with vectors.
            ModelRefused: a text is at fault.
            ModelTimeout: the deadline passed.
        """
        request: dict[str, JsonValue] = {"model": self._name, "input": list(texts)}
        stream = self._model.stream(request, deadline_s=deadline_s, task="embedding")
        async with aclosing(stream) as documents:
            async for document in documents:
                return _read(document, len(texts))
        raise ModelUnavailable("the embedding app answered nothing")


def _read(document: str, count: int) -> list[tuple[float, ...]]:
    try:
        reply = Reply.model_validate_json(document)
        if reply.error is not None:
            raise failure(reply.error)
        answer = _Vectors.model_validate_json(document)
    except ValidationError as error:
        raise ModelUnavailable("the embedding app answered something else") from error
    vectors = {each.index: each.embedding for each in answer.data}
    if sorted(vectors) != list(range(count)):
        raise ModelUnavailable(f"the embedding app answered {len(vectors)} vectors, not {count}")
    return [vectors[index] for index in range(count)]
