"""vLLM's pooling runner makes the vectors that the encoder on the CPU makes."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic import JsonValue

from serve.embedder import load_encoder
from serve.inference import ModelClient
from serve.profile import load_profile
from serve.weights import ensure_weights
from tests.local_ray import serving_ray
from tests.tiny_model import SHIPPED
from tests.unit.serve.quiet_ray import serve

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

NOWHERE = Path("/nowhere")  # the weights come in a package
ON_CPU = load_profile("all-minilm-l6-v2")
BY_VLLM = load_profile("all-minilm-l6-v2-gpu").model_copy(
    update={
        "accelerator": "cpu",
        "gpu_memory_utilization": None,
        "engine_kwargs": {"enforce_eager": True, "max_num_seqs": 16},
        "env": SHIPPED.env,
    }
)
TEXTS = (
    "The cat sat on the mat.",
    "Eine Katze saß auf der Matte; 猫はマットの上に座った。",
    "def parse(text: str) -> int:",
    "word " * 1_000,  # more than the model reads
)
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
async def embedder() -> AsyncIterator[ModelClient]:
    weights = await ensure_weights(BY_VLLM, NOWHERE)
    with serving_ray(num_cpus=3):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        app = build_model_app(BY_VLLM, weights)
        await asyncio.to_thread(serve.run, app, name="embedder", route_prefix=None)
        yield ModelClient(app="embedder")


async def answer(embedder: ModelClient, **request: JsonValue) -> dict[str, JsonValue]:
    stream = embedder.stream(request, task="embedding", deadline_s=DEADLINE_S)
    async with aclosing(stream) as documents:
        async for document in documents:
            found: dict[str, JsonValue] = json.loads(document)
            return found
    raise AssertionError("nothing was said")


async def test_the_vectors_are_those_of_the_encoder(embedder: ModelClient) -> None:
    encoder = load_encoder(ON_CPU, await ensure_weights(ON_CPU, NOWHERE))
    expected = await asyncio.to_thread(encoder.encode, TEXTS)
    found = await answer(embedder, input=list(TEXTS))
    assert [each["index"] for each in found["data"]] == list(range(len(TEXTS)))
    for each, (vector, _) in zip(found["data"], expected, strict=True):
        cosine = sum(a * b for a, b in zip(each["embedding"], vector, strict=True))
        assert cosine == pytest.approx(1.0, abs=1e-3)
        assert math.hypot(*each["embedding"]) == pytest.approx(1.0, abs=1e-4)
    assert found["usage"]["prompt_tokens"] == sum(tokens for _, tokens in expected)


async def test_a_model_that_is_not_there_is_told(embedder: ModelClient) -> None:
    found = await answer(embedder, input="x", model="gpt-9")
    assert found["error"]["code"] == 404
    listed = await embedder.models()
    assert listed["data"][0]["dimensions"] == BY_VLLM.dimensions
