"""A model split over two processes, on the CPU: the same tokens as from one, and what a kill does.

The model is tiny and its weights are random: it says nonsense, always the same.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest
from pydantic import JsonValue

from cluster.process_table import processes
from serve.errors import ModelUnavailable
from serve.inference import ModelClient
from serve.profile import ModelProfile
from serve.weights import ensure_weights
from tests.local_ray import serving_ray
from tests.tiny_model import SHIPPED, make_tiny, tiny_profile
from tests.unit.serve.quiet_ray import serve

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

WEIGHTS = Path(tempfile.gettempdir()) / "swarm-test-weights"  # as in test_vllm_model.py
PROMPTS = ("The quick brown fox", "def parse(text):", "Zwei Prozesse,", "1, 2, 3,")
TOKENS = 48
RECOVERED_WITHIN_S = 240.0  # a replica imports vLLM anew, beside the other half of the suite
LOOK_AGAIN_S = 0.5


def split_over(processes: int) -> ModelProfile:
    return tiny_profile(f"tiny-{processes}", tensor_parallel=processes)


@pytest.fixture(scope="module")
async def whole_and_split() -> AsyncIterator[tuple[ModelClient, ModelClient]]:
    """The tiny model twice on a Ray of its own: in one process, and over two."""
    tokenizer = await ensure_weights(SHIPPED, WEIGHTS)
    with serving_ray(num_cpus=6) as folder:
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        weights = folder / "tiny"
        await asyncio.to_thread(make_tiny, Path(tokenizer), weights)
        for processes in (1, 2):
            app = build_model_app(split_over(processes), weights)
            await asyncio.to_thread(serve.run, app, name=f"over{processes}", route_prefix=None)
        yield ModelClient(app="over1"), ModelClient(app="over2")


def asked(prompt: str, **besides: JsonValue) -> dict[str, JsonValue]:
    return {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, **besides}


async def goes_on(model: ModelClient, prompt: str) -> str:
    stream = model.stream(asked(prompt), task="completion", deadline_s=RECOVERED_WITHIN_S)
    async with aclosing(stream) as documents:
        async for document in documents:
            return str(json.loads(document)["choices"][0]["text"])
    raise AssertionError("nothing was said")


def workers() -> list[psutil.Process]:
    """The processes that a model is split over."""
    found = []
    for process in processes():
        with suppress(psutil.Error):  # it has ended meanwhile
            if " ".join(process.cmdline()).startswith("VLLM::Worker_TP"):
                found.append(process)
    return found


async def read_and_kill(model: ModelClient, process: psutil.Process) -> None:
    """Read a stream whose model loses a process after the first word."""
    long = asked(PROMPTS[0], stream=True) | {"max_tokens": 240}
    async with aclosing(model.stream(long, task="completion", deadline_s=60)) as documents:
        assert "error" not in json.loads(await anext(documents))
        process.kill()
        async for document in documents:  # words on their way when it was killed still come
            if error := json.loads(document).get("error"):
                raise ModelUnavailable(error["message"])


async def test_two_processes_say_the_same_as_one(
    whole_and_split: tuple[ModelClient, ModelClient],
) -> None:
    whole, split = whole_and_split
    assert len(workers()) == 2
    said = [await asyncio.gather(*(goes_on(m, p) for p in PROMPTS)) for m in (whole, split)]
    assert said[0] == said[1]
    assert len(set(said[0])) == len(PROMPTS)


@pytest.mark.parametrize("victim", ["a worker", "the engine"])
async def test_a_kill_in_the_middle_of_a_stream_is_told_and_got_over(
    whole_and_split: tuple[ModelClient, ModelClient], victim: str
) -> None:
    _, split = whole_and_split
    before = await goes_on(split, PROMPTS[0])
    worker = workers()[-1]
    process = worker if victim == "a worker" else worker.parent()
    assert process is not None
    with pytest.raises(ModelUnavailable):
        await read_and_kill(split, process)
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            try:
                after = await goes_on(split, PROMPTS[0])
            except ModelUnavailable:
                await asyncio.sleep(LOOK_AGAIN_S)  # else the request waits for the new replica
            else:
                break
    assert after == before
    assert len(workers()) == 2
