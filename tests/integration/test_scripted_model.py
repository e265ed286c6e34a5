"""The scripted engine as a Serve application on a real Ray, asked from an actor."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import JsonValue

from actors.model import Completion, Message, ModelRequest
from serve.encoder import HashedWords
from serve.errors import ModelBusy, ModelRefused, ModelTimeout, ModelUnavailable
from serve.inference import ModelClient, ServedModels
from serve.profile import load_profile
from tests.asking import asked
from tests.local_ray import serving_ray
from tests.unit.serve.quiet_ray import serve

pytestmark = pytest.mark.timeout(600)

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "accepted": {"type": "boolean"}},
    "required": ["summary", "accepted"],
}
SLOW_S = 30.0
NARROW_S = 0.5


@pytest.fixture(scope="module")
def apps() -> Iterator[None]:
    """`model`; `slow`, whose answers take half a minute; `narrow`: one at a time, two may wait."""
    profile = load_profile("scripted")
    slow = profile.model_copy(update={"delay_s": SLOW_S})
    narrow = profile.model_copy(
        update={"delay_s": NARROW_S, "max_ongoing_requests": 1, "max_queued_requests": 2}
    )
    with serving_ray(num_cpus=4):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        serve.run(build_model_app(profile, ""), name="model", route_prefix=None)
        serve.run(build_model_app(slow, ""), name="slow", route_prefix=None)
        serve.run(build_model_app(narrow, ""), name="narrow", route_prefix=None)
        vectors = build_model_app(load_profile("scripted-embedding"), "")
        serve.run(vectors, name="embedding", route_prefix=None)
        yield


async def ask(
    model: ModelClient, schema: dict[str, JsonValue] | None = None, deadline_s: float = 30.0
) -> Completion:
    return await model.complete(
        asked("Write a parser for INI files", schema, deadline_s=deadline_s)
    )


async def test_an_agent_gets_a_completion_that_follows_its_schema(apps: None) -> None:
    answer = await ask(ModelClient(), SCHEMA)
    assert json.loads(answer.text)["accepted"] is True
    assert answer.model == "scripted"
    assert answer.prompt_tokens == 6
    assert answer.completion_tokens == len(answer.text.split())


async def test_a_client_works_inside_an_actor_it_was_sent_to(apps: None) -> None:
    import ray  # noqa: PLC0415

    class Agent:
        def __init__(self, model: ModelClient) -> None:
            self.model = model

        async def ask(self) -> str:
            answer = await self.model.complete(
                ModelRequest(
                    messages=[Message(role="user", content="Write a parser for INI files")],
                    schema=None,
                    max_tokens=100,
                    temperature=0.0,
                    seed=1,
                    deadline_s=30.0,
                )
            )
            return answer.text

    agent: Any = ray.remote(Agent).options(num_cpus=0).remote(ModelClient())
    text: object = await asyncio.to_thread(ray.get, agent.ask.remote(), timeout=60)
    assert text == (await ask(ModelClient())).text
    ray.kill(agent)


async def test_a_stream_comes_piece_by_piece(apps: None) -> None:
    request: dict[str, JsonValue] = {
        "messages": [{"role": "user", "content": "Write a parser"}],
        "stream": True,
    }
    chunks = [json.loads(one) async for one in ModelClient().stream(request)]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text.startswith("A scripted answer")
    assert len(chunks) == len(text.split()) + 2


async def test_a_bad_request_is_refused(apps: None) -> None:
    with pytest.raises(ModelRefused, match="refers to nothing"):
        await ask(ModelClient(), {"$ref": "#/$defs/missing"})


async def test_the_models_are_listed(apps: None) -> None:
    listed = await ModelClient().models()
    assert listed["object"] == "list"


async def test_an_app_that_does_not_run_is_unavailable(apps: None) -> None:
    with pytest.raises(ModelUnavailable, match="'absent'"):
        await ask(ModelClient(app="absent"))


async def test_the_deadline_holds_against_a_slow_model(apps: None) -> None:
    with pytest.raises(ModelTimeout):
        await ask(ModelClient(app="slow"), deadline_s=1.0)


async def test_a_cancelled_completion_ends_at_once(apps: None) -> None:
    task = asyncio.create_task(ask(ModelClient(app="slow"), deadline_s=SLOW_S))
    done, _ = await asyncio.wait([task], timeout=1.0)
    assert not done
    task.cancel()
    async with asyncio.timeout(5.0):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_more_than_may_wait_are_refused_and_the_others_answered(apps: None) -> None:
    model = ModelClient(app="narrow")
    asked = (ask(model) for _ in range(12))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    answered = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ModelBusy)]
    assert len(answered) + len(refused) == 12
    assert 1 <= len(answered) < 12
    assert (await ask(model)).text  # and nothing is left of it


async def test_texts_are_embedded_beside_the_model(apps: None) -> None:
    models = ServedModels(ModelClient(), ModelClient(app="embedding"))
    listed = (await models.models())["data"]
    assert isinstance(listed, list)
    assert [line["id"] for line in listed if isinstance(line, dict)] == [
        "scripted",
        "scripted-embedding",
    ]

    async def embed(text: str) -> list[float]:
        stream = models.stream({"input": text}, deadline_s=30.0, task="embedding")
        (document,) = [json.loads(one) async for one in stream]
        vector: list[float] = document["data"][0]["embedding"]
        return vector

    texts = [f"text {number}" for number in range(100)]
    vectors = await asyncio.gather(*map(embed, texts))
    assert vectors == [list(vector) for vector, _ in HashedWords(384).encode(texts)]
