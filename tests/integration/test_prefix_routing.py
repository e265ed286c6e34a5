"""Which replica is asked, on a real Ray: two of the scripted engine, which say who they are."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import count
from typing import Any

import pytest
from pydantic import JsonValue

from serve.errors import ModelUnavailable
from serve.inference import ModelClient
from serve.profile import load_profile
from serve.routing import UNEVEN
from tests.local_ray import serving_ray
from tests.unit.serve.quiet_ray import serve

pytestmark = pytest.mark.timeout(600)

PROFILE = load_profile("scripted").model_copy(update={"replicas": 2, "router": "prefix-aware"})
PARSER = "Write a parser for INI files, with comments and sections. " * 20
LIMITER = "Design a rate limiter for a public HTTP API, with quotas. " * 20
DEADLINE_S = 150.0
_numbers = count(1)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with serving_ray(num_cpus=4):
        import ray  # noqa: PLC0415  # reads its environment when it is imported

        yield ray


@pytest.fixture(autouse=True)
def patient(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica of a busy machine may take its time to say how much it has to do."""
    from ray.serve._private.request_router.request_router import (  # noqa: PLC0415  # imports Ray
        RequestRouter,
    )

    monkeypatch.setattr(RequestRouter, "queue_len_response_deadline_s", 5.0)


@pytest.fixture
def model(ray: Any) -> Iterator[ModelClient]:
    """Two replicas whose answers carry their process id; with `hold`, they never end."""
    from serve.llm import deployment_options  # noqa: PLC0415  # imports Ray
    from serve.scripted import ScriptedModel  # noqa: PLC0415

    class Telling(ScriptedModel):
        async def chat(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
            yield json.dumps({"pid": os.getpid()})
            if request.get("hold"):
                await asyncio.Event().wait()

    app = f"model-{next(_numbers)}"  # a tree of its own
    made = serve.deployment(**deployment_options(PROFILE, {}))(Telling).bind(PROFILE)
    serve.run(made, name=app, route_prefix=None)
    yield ModelClient(app=app)
    serve.delete(app)


def asked(text: str, end: object = "", *, hold: bool = False) -> dict[str, JsonValue]:
    system: JsonValue = {"role": "system", "content": text}
    return {"messages": [system, {"role": "user", "content": str(end)}], "hold": hold}


async def replica_for(model: ModelClient, request: dict[str, JsonValue]) -> int:
    """The process that answers."""
    stream = model.stream(request, deadline_s=DEADLINE_S)
    async with aclosing(stream) as documents:
        return int(json.loads(await anext(documents))["pid"])


async def replicas_for(model: ModelClient, text: str) -> set[int]:
    return {await replica_for(model, asked(text, step)) for step in range(8)}


def tree(ray: Any, model: ModelClient) -> Any:
    """The actor with what the replicas have read."""
    from ray.serve._private.constants import SERVE_NAMESPACE  # noqa: PLC0415

    return ray.get_actor(f"PrefixTree:{model._app}:Scripted", namespace=SERVE_NAMESPACE)


async def test_requests_that_begin_alike_go_to_one_replica(model: ModelClient) -> None:
    (parser,) = await replicas_for(model, PARSER)
    (limiter,) = await replicas_for(model, LIMITER)
    assert parser != limiter
    assert await replicas_for(model, PARSER) == {parser}
    assert (await model.models())["object"] == "list"  # a call without a prompt


async def test_a_replica_that_has_much_more_to_do_is_passed_by(model: ModelClient) -> None:
    first = await replica_for(model, asked(PARSER))
    async with AsyncExitStack() as holding:
        for step in range(UNEVEN + 1):
            stream = model.stream(asked(PARSER, step, hold=True), deadline_s=DEADLINE_S)
            documents = await holding.enter_async_context(aclosing(stream))
            assert json.loads(await anext(documents))["pid"] == first
        assert await replica_for(model, asked(PARSER, "one too many")) != first


async def test_a_dead_replica_is_got_over(model: ModelClient) -> None:
    first = await replica_for(model, asked(PARSER))
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                assert await replica_for(model, asked(PARSER)) != first
            except ModelUnavailable:  # the request was on its way when the replica died
                continue
            break
    assert len(await replicas_for(model, PARSER)) == 1


async def test_the_loss_of_what_was_known_is_got_over(ray: Any, model: ModelClient) -> None:
    await replica_for(model, asked(PARSER))
    ray.kill(tree(ray, model))
    assert await replica_for(model, asked(PARSER))
    assert len(await replicas_for(model, PARSER)) == 1


async def test_a_replica_that_only_others_know_of_keeps_nobody_waiting(
    ray: Any, model: ModelClient
) -> None:
    await replica_for(model, asked(PARSER))
    unheard_of = f"SERVE_REPLICA::{model._app}#Scripted#unheard-of"
    await tree(ray, model).add_tenants.remote([unheard_of], 0.0)
    assert await replica_for(model, asked(LIMITER))


async def test_a_request_without_a_text_is_passed_on_too(model: ModelClient) -> None:
    without: list[dict[str, JsonValue]] = [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"prompt": ""},
        {},
    ]
    for request in without:
        assert await replica_for(model, request)
