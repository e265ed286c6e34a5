"""What the memory makes of an answer of the embedding app."""

import json
import pickle
from collections.abc import AsyncGenerator

import pytest
from pydantic import JsonValue

from serve.completion import Task, error_document
from serve.errors import ModelRefused, ModelUnavailable
from serve.text_embedder import TextEmbedder


class App:
    """Answers with these documents, and remembers what it was asked."""

    def __init__(self, *documents: str) -> None:
        self.documents = documents
        self.asked: list[tuple[dict[str, JsonValue], float, Task]] = []

    async def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task
    ) -> AsyncGenerator[str, None]:
        self.asked.append((request, deadline_s, task))
        for document in self.documents:
            yield document


def vectors(*pairs: tuple[int, list[float]]) -> str:
    data = [{"index": index, "embedding": vector} for index, vector in pairs]
    return json.dumps({"object": "list", "data": data})


async def test_vectors_come_in_the_order_of_the_texts() -> None:
    app = App(vectors((1, [0.0, 1.0]), (0, [1.0, 0.0])))
    assert await TextEmbedder("minilm", app).embed(["a", "b"], deadline_s=3) == [
        (1.0, 0.0),
        (0.0, 1.0),
    ]
    [(request, deadline_s, task)] = app.asked
    assert request == {"model": "minilm", "input": ["a", "b"]}
    assert (deadline_s, task) == (3, "embedding")


@pytest.mark.parametrize(
    "documents",
    [(), ("nonsense",), (vectors((0, [1.0])),), (vectors((0, [1.0]), (0, [1.0])),)],
)
async def test_what_is_no_vector_for_each_text_is_no_answer(documents: tuple[str, ...]) -> None:
    with pytest.raises(ModelUnavailable):
        await TextEmbedder("minilm", App(*documents)).embed(["a", "b"], deadline_s=3)


async def test_an_error_is_what_it_says() -> None:
    with pytest.raises(ModelRefused):
        await TextEmbedder("minilm", App(error_document("too long", 400))).embed(
            ["a"], deadline_s=3
        )
    with pytest.raises(ModelUnavailable):
        await TextEmbedder("m", App(error_document("no", 503))).embed(["a"], deadline_s=3)


def test_it_travels_to_another_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(TextEmbedder("minilm"))), TextEmbedder)  # noqa: S301
