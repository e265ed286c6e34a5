"""The scripted engine as a Serve application on a real Ray, asked from an actor."""

import asyncio
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from actors.model import Completion, Message
from serve.errors import ModelRefused, ModelTimeout, ModelUnavailable
from serve.inference import ModelClient
from serve.profile import load_profile
from tests.unit.serve.quiet_ray import TOKEN, serve

pytestmark = pytest.mark.timeout(180)

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "accepted": {"type": "boolean"}},
    "required": ["summary", "accepted"],
}
SLOW_S = 30.0


@pytest.fixture(scope="module")
def apps() -> Iterator[None]:
    """A Ray of its own with the app `model`, and `slow` whose answers take half a minute."""
    environment = pytest.MonkeyPatch()
    # Ray makes a token in the home directory unless it is given one.
    environment.setenv("RAY_AUTH_TOKEN", TOKEN)
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    profile = load_profile("scripted")
    slow = profile.model_copy(update={"delay_s": SLOW_S})
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
    ):  # sockets want short paths
        warnings.simplefilter("ignore")
        import ray  # noqa: PLC0415  # reads its environment when it is imported

        from serve.llm import build_model_app  # noqa: PLC0415

        ray.init(
            address="local",
            _temp_dir=str(Path(folder)),
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
        )
        try:
            serve.start(proxy_location="Disabled")
            serve.run(build_model_app(profile, ""), name="model", route_prefix=None)
            serve.run(build_model_app(slow, ""), name="slow", route_prefix=None)
            yield
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()
            environment.undo()


async def ask(
    model: ModelClient, schema: dict[str, JsonValue] | None = None, deadline_s: float = 30.0
) -> Completion:
    return await model.complete(
        messages=[Message(role="user", content="Write a parser for INI files")],
        schema=schema,
        max_tokens=100,
        temperature=0.0,
        seed=1,
        deadline_s=deadline_s,
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
                messages=[Message(role="user", content="Write a parser for INI files")],
                schema=None,
                max_tokens=100,
                temperature=0.0,
                seed=1,
                deadline_s=30.0,
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
