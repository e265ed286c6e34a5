"""A replica of the scripted engine killed on a real Ray: another one answers, or a provider."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors.model import Completion, Model
from serve.breaker import Rules
from serve.errors import ModelUnavailable, NobodyAnswered
from serve.fallback import Provider
from serve.inference import ModelClient
from serve.presence import Watch
from serve.profile import load_profile
from serve.resilience import Guard, ResilientModel
from tests.asking import asked
from tests.local_ray import serving_ray
from tests.provider import MODEL, OutsideProvider, outside_provider
from tests.unit.serve.quiet_ray import serve

pytestmark = pytest.mark.timeout(600)
DELAY_S = 3.0
"""Of each answer: long enough to be killed meanwhile."""


@pytest.fixture(scope="module")
def app() -> Iterator[None]:
    """One replica, on a cluster that has room for no other."""
    profile = load_profile("scripted").model_copy(update={"delay_s": DELAY_S})
    with serving_ray(num_cpus=1):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        serve.run(build_model_app(profile, ""), name="model", route_prefix=None)
        yield


@pytest.fixture
async def outside() -> AsyncIterator[OutsideProvider]:
    async with outside_provider() as provider:
        yield provider


async def ask(model: Model, deadline_s: float = 150.0) -> Completion:
    return await model.complete(asked("Write a parser for INI files", deadline_s=deadline_s))


def kill_replica() -> None:
    import ray  # noqa: PLC0415

    named: Any = ray.util.list_named_actors(all_namespaces=True)
    for replica in named:
        if replica["name"].startswith("SERVE_REPLICA::model"):
            with suppress(ValueError):  # it has ended since
                ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]))


class Squatter:
    """Takes the place of a replica that has gone."""

    async def is_there(self) -> bool:
        return True


@pytest.fixture
async def nobody(app: None) -> AsyncIterator[None]:
    """The replica is gone, and its place is taken for the length of a test."""
    import ray  # noqa: PLC0415

    squatter: Any = ray.remote(Squatter).options(num_cpus=1).remote()
    there = asyncio.wrap_future(squatter.is_there.remote().future())
    async with asyncio.timeout(200):
        while not there.done():  # the next replica may be given the place before the squatter is
            await asyncio.to_thread(kill_replica)
            await asyncio.wait((there,), timeout=5)
    yield
    ray.kill(squatter)


def resilient(outside: OutsideProvider, folder: Path) -> ResilientModel:
    model = ResilientModel(
        ModelClient(),
        Provider(outside.config(folder)),
        guard=Guard(rules=Rules(failures=2, cool_down_s=1.0)),
        watch=Watch(look_s=0.5, patience_s=1.0),
    )
    return model.permitted(lambda name: name == MODEL)


async def test_a_replica_killed_at_work_is_replaced_and_the_request_answered(app: None) -> None:
    asking = asyncio.create_task(ask(ModelClient()))
    done, _ = await asyncio.wait({asking}, timeout=DELAY_S / 2)
    assert not done
    await asyncio.to_thread(kill_replica)
    assert (await asking).model == "scripted"


async def test_without_a_provider_nobody_answers_and_that_is_a_typed_error(nobody: None) -> None:
    with pytest.raises(ModelUnavailable):
        await ask(ModelClient(app="absent"), deadline_s=5.0)


async def test_a_provider_answers_while_no_replica_is_there(
    nobody: None, outside: OutsideProvider, tmp_path: Path
) -> None:
    model = resilient(outside, tmp_path)
    for _ in range(3):
        answer = await ask(model)
        assert (answer.provider, answer.model, answer.text) == ("outside", MODEL, outside.text)
    assert "outside answers, 3 times" in model.degraded()


async def test_the_engine_is_asked_again_once_it_is_back(
    app: None, outside: OutsideProvider, tmp_path: Path
) -> None:
    model = resilient(outside, tmp_path)
    async with asyncio.timeout(150):
        while (answer := await ask(model)).provider:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert answer.model == "scripted"
    assert model.degraded() == ""


async def test_a_provider_that_is_down_too_is_named(
    nobody: None, outside: OutsideProvider, tmp_path: Path
) -> None:
    outside.mood = "refuses"
    with pytest.raises(NobodyAnswered, match="outside does not accept the key"):
        await ask(resilient(outside, tmp_path))
