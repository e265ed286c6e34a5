"""The GPU profile that embeds, on vLLM's CPU build: the vectors of the encoder on transformers."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import JsonValue

from serve.embedder import load_encoder
from serve.embedding import Vector
from serve.inference import ModelClient
from serve.profile import ModelProfile, load_profile
from serve.weights import ensure_weights
from tests.local_ray import serving_ray
from tests.tiny_model import SHIPPED
from tests.unit.serve.quiet_ray import serve

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

SERVED = load_profile("all-minilm-l6-v2-gpu")
ON_CPU = load_profile("all-minilm-l6-v2")
ALIKE = 0.999  # cosine: half the precision costs 2e-6; the first token in place of the mean, 0.6
LONG = " ".join(f"sentence {n} speaks of rivers, boats and bridges." for n in range(100))
TEXTS = (
    "short",
    "The cat sat on the mat.",
    LONG,
    "Zwei Prozesse, ein Ergebnis: Straße, naïve, œuvre",
    "日本語の文章 и русский текст 🛶",
    "\n\t ",
    *(f"text number {n} of many" for n in range(40)),
)
DEADLINE_S = 60.0


def without_gpu(profile: ModelProfile) -> ModelProfile:
    """The same, where there is none: in the precision of the GPU, and pooled as there."""
    return profile.model_copy(
        update={
            "accelerator": "cpu",
            "gpu_memory_utilization": None,
            "batch": 16,  # fewer than there are texts
            "engine_kwargs": {**profile.engine_kwargs, "enforce_eager": True},
            "env": {**profile.env, **SHIPPED.env},
        }
    )


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ModelClient]:
    weights = await ensure_weights(SERVED, Path("/nowhere"))
    with serving_ray(num_cpus=4):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        app = build_model_app(without_gpu(SERVED), weights)
        await asyncio.to_thread(serve.run, app, name="embedding", route_prefix=None)
        yield ModelClient(app="embedding")


@pytest.fixture(scope="module")
async def made_by_transformers() -> list[tuple[Vector, int]]:
    encoder = load_encoder(ON_CPU, await ensure_weights(ON_CPU, Path("/nowhere")))
    return await asyncio.to_thread(encoder.encode, TEXTS)


async def ask(
    client: ModelClient, texts: Sequence[str], besides: Mapping[str, JsonValue] | None = None
) -> dict[str, Any]:
    request: dict[str, JsonValue] = {"input": list(texts), **(besides or {})}
    stream = client.stream(request, task="embedding", deadline_s=DEADLINE_S)
    (document,) = [json.loads(one) async for one in stream]
    assert isinstance(document, dict)
    return document


def cosine(one: Vector, other: Vector) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


async def test_the_vectors_are_those_of_the_encoder_on_the_cpu(
    model: ModelClient, made_by_transformers: list[tuple[Vector, int]]
) -> None:
    answer = await ask(model, TEXTS)
    assert [one["index"] for one in answer["data"]] == list(range(len(TEXTS)))
    vectors = [one["embedding"] for one in answer["data"]]
    likeness = {
        text[:20]: cosine(vector, expected)
        for text, vector, (expected, _) in zip(TEXTS, vectors, made_by_transformers, strict=True)
    }
    print(f"least cosine: {min(likeness.values()):.7f}")
    assert {text: found for text, found in likeness.items() if found < ALIKE} == {}
    assert all(abs(np.linalg.norm(vector) - 1.0) < 1e-4 for vector in vectors)
    tokens = sum(count for _, count in made_by_transformers)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert made_by_transformers[TEXTS.index(LONG)][1] == SERVED.max_model_len  # it was cut off


async def test_an_answer_looks_as_the_embedders_does(model: ModelClient) -> None:
    plain, packed = [
        await ask(model, TEXTS[:2], {"encoding_format": form}) for form in ("float", "base64")
    ]
    assert plain.keys() == packed.keys() == {"object", "data", "model", "usage"}
    assert plain["model"] == ON_CPU.served_name
    for one, other in zip(plain["data"], packed["data"], strict=True):
        numbers = np.frombuffer(b64decode(other["embedding"]), dtype="<f4")
        assert len(numbers) == SERVED.dimensions
        assert numbers.tolist() == pytest.approx(one["embedding"], abs=1e-6)


async def test_what_is_wrong_is_said_as_the_embedder_says_it(model: ModelClient) -> None:
    other = await ask(model, ["x"], {"model": "other"})
    assert (other["error"]["code"], other["error"]["type"]) == (404, "not_found_error")
    assert "'other' does not exist" in other["error"]["message"]
    wrongs: list[dict[str, JsonValue]] = [
        {"input": []},
        {"dimensions": 8},
        {"encoding_format": "hex"},
    ]
    for wrong in wrongs:
        refused = await ask(model, ["x"], wrong)
        assert refused["error"]["code"] == 400


async def test_it_says_what_it_is(model: ModelClient) -> None:
    listed = await model.models()
    assert isinstance(listed["data"], list)
    (one,) = listed["data"]
    assert isinstance(one, dict)
    assert (one["id"], one["owned_by"]) == ("all-minilm-l6-v2", "vllm")
    assert (one["dimensions"], one["max_model_len"]) == (384, 256)
