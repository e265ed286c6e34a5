"""A replica that embeds: what it answers, and that it computes together what comes together."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from pydantic import JsonValue

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from serve import embedder as module
from serve.embedder import Embedder, load_encoder
from serve.embedding import Vector
from serve.encoder import HashedWords
from serve.errors import ModelUnavailable
from serve.profile import load_profile
from tests.unit.serve.quiet_ray import serve

PROFILE = load_profile("scripted-embedding")


class Counting(HashedWords):
    """Remembers how many texts came at once."""

    def __init__(self) -> None:
        super().__init__(PROFILE.dimensions or 0)
        self.batches: list[int] = []

    def encode(self, texts: Sequence[str]) -> list[tuple[Vector, int]]:
        self.batches.append(len(texts))
        return super().encode(texts)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(module, "load_encoder", lambda *_: counting)
    config = SimpleNamespace(max_ongoing_requests=PROFILE.max_ongoing_requests)
    replica = SimpleNamespace(_deployment_config=config)  # Serve's batches ask it for this only
    monkeypatch.setattr(serve, "get_replica_context", lambda: replica)
    return counting


@pytest.fixture
async def embedder(encoder: Counting) -> Embedder:
    made = Embedder(PROFILE, "")
    await made.reconfigure({})
    return made


async def ask(embedder: Embedder, body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    (document,) = [json.loads(one) async for one in embedder.embedding(body)]
    found: dict[str, JsonValue] = document
    return found


async def test_each_text_gets_its_vector(embedder: Embedder) -> None:
    answer = await ask(embedder, {"input": ["one two", "three"]})
    expected = [list(vector) for vector, _ in HashedWords(384).encode(["one two", "three"])]
    assert [each["embedding"] for each in answer["data"]] == expected  # type: ignore[union-attr,index,call-overload]
    assert answer["model"] == PROFILE.served_name
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_texts_of_many_callers_are_computed_together(
    embedder: Embedder, encoder: Counting
) -> None:
    asked: list[dict[str, JsonValue]] = [
        {"input": [f"a{number}", f"b{number}"]} for number in range(40)
    ]
    answers = await asyncio.gather(*(ask(embedder, each) for each in asked))
    assert sum(encoder.batches) == 80
    assert max(encoder.batches) == PROFILE.batch
    for number, answer in enumerate(answers):
        ((first, _),) = HashedWords(384).encode([f"a{number}"])
        assert answer["data"][0]["embedding"] == list(first)  # type: ignore[index,call-overload]


async def test_what_is_wrong_is_said(embedder: Embedder) -> None:
    assert (await ask(embedder, {"input": ""}))["error"]["code"] == 400  # type: ignore[index,call-overload]
    other = await ask(embedder, {"input": "x", "model": "text-embedding-3-small"})
    assert other["error"]["code"] == 404  # type: ignore[index,call-overload]


async def test_nothing_is_embedded_before_the_model_is_loaded(encoder: Counting) -> None:
    with pytest.raises(ModelUnavailable):
        await Embedder(PROFILE, "").check_health()


async def test_a_loaded_replica_is_healthy_and_says_what_it_is(embedder: Embedder) -> None:
    await embedder.check_health()
    listed = await embedder.models()
    assert listed["data"][0]["dimensions"] == 384  # type: ignore[index,call-overload]


def test_the_stand_in_needs_no_weights() -> None:
    assert load_encoder(PROFILE, "").dimensions == 384
