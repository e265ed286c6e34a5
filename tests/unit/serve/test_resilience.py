"""When the provider is asked, when it is not, and what of it is told."""

import asyncio
import json
import pickle
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from actors.model import Completion
from actors.policed_model import Asker, PolicedModel
from policies.capabilities import Capabilities
from serve.breaker import Rules
from serve.completion import Task, error_document
from serve.errors import (
    ModelBusy,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NobodyAnswered,
    ProviderFailed,
    ReplicaLost,
)
from serve.fallback import FallbackConfig, Provider
from serve.inference import ModelClient
from serve.presence import Watch
from serve.problems import problem_of, refusal_of
from serve.resilience import Guard, ResilientModel, resilient
from tests.asking import asked

CONFIG = FallbackConfig(name="outside", url="http://outside.test/v1", model="outside-1")
GONE = ModelUnavailable("the replica died")
WHOLE = json.dumps(
    {"model": "own", "choices": [{"message": {"content": "from here"}, "finish_reason": "stop"}]}
)


class Engine:
    """An engine that says what it was told to say, and keeps silent where that ends in None."""

    def __init__(self, *says: str | Exception | None) -> None:
        self.says = says
        self.asked = 0
        self.is_there = True
        self.looks = 0
        self.begun = asyncio.Event()

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def models(self) -> dict[str, JsonValue]:
        self.looks += 1
        if not self.is_there:
            await asyncio.Event().wait()
        return {}

    async def stream(
        self,
        request: dict[str, JsonValue],  # noqa: ARG002 - the port has it
        *,
        deadline_s: float,  # noqa: ARG002
        task: Task = "chat",  # noqa: ARG002
    ) -> AsyncGenerator[str, None]:
        self.asked += 1
        self.begun.set()
        for piece in self.says:
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
                continue
            yield piece


class Outside:
    """A provider without a socket."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        message = {"message": {"content": "from outside"}, "finish_reason": "stop"}
        return httpx.Response(self.status, json={"model": "x", "choices": [message]})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    engine: Engine, outside: Outside, clock: Clock | None = None, *, may: bool = True
) -> ResilientModel:
    guard = Guard(rules=Rules(failures=2, cool_down_s=10.0), monotonic=clock or Clock())
    provider = Provider(CONFIG, httpx.MockTransport(outside))
    watch = Watch(look_s=0.01, patience_s=0.01)
    model = ResilientModel(engine, provider, guard=guard, watch=watch)
    return model.permitted(lambda name: name == CONFIG.model) if may else model


async def ask(model: Any, deadline_s: float = 5.0) -> Completion:
    wanted = asked("hello", {"type": "object"}, max_tokens=5, deadline_s=deadline_s)
    answer: Completion = await model.complete(wanted)
    return answer


async def test_an_engine_that_answers_is_all_that_is_asked() -> None:
    outside = Outside()
    answer = await ask(made(Engine(WHOLE), outside))
    assert (answer.text, answer.provider) == ("from here", "")
    assert outside.asked == []


@pytest.mark.parametrize(
    "said", [GONE, error_document("engine dead", 500), error_document("starting", 503)]
)
async def test_an_engine_that_is_gone_is_replaced_and_that_is_marked(
    said: str | Exception,
) -> None:
    outside = Outside()
    answer = await ask(made(Engine(said), outside))
    assert (answer.text, answer.provider, answer.model) == ("from outside", "outside", "outside-1")
    (asked,) = outside.asked
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_an_engine_without_a_replica_is_noticed_by_asking_for_its_models() -> None:
    engine, outside = Engine(None), Outside()
    engine.is_there = False
    assert (await ask(made(engine, outside))).provider == "outside"


async def test_an_engine_that_takes_long_is_waited_for() -> None:
    engine, outside = Engine(None), Outside()
    asking = asyncio.create_task(ask(made(engine, outside)))
    async with asyncio.timeout(30):
        while engine.looks < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not asking.done()
    asking.cancel()
    await asyncio.wait({asking})
    assert outside.asked == []


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        (ModelBusy("full"), ModelBusy),
        (ModelTimeout("late"), ModelTimeout),
        (error_document("too long", 400), ModelRefused),
        (error_document("slow down", 429), ModelUnavailable),
    ],
)
async def test_what_is_no_outage_goes_nowhere_and_does_not_count(
    said: str | Exception, raised: type[Exception]
) -> None:
    engine, outside = Engine(said), Outside()
    model = made(engine, outside)
    for _ in range(5):
        with pytest.raises(raised):
            await ask(model)
    assert engine.asked == 5
    assert outside.asked == []
    assert model.degraded() == ""


async def test_nobodys_prompt_leaves_who_was_not_permitted() -> None:
    outside = Outside()
    with pytest.raises(ModelUnavailable, match="the replica died"):
        await ask(made(Engine(GONE), outside, may=False))
    assert outside.asked == []


POLICY = Capabilities(
    b"""
version: 1
roles:
  coder: {call: {models: [own]}, spend: {requests_per_minute: unlimited}}
  judge: {call: {models: [own, outside-1]}, spend: {requests_per_minute: unlimited}}
"""
)


async def test_the_policy_decides_whose_prompt_may_leave() -> None:
    outside = Outside()
    model = made(Engine(GONE), outside, may=False)
    with pytest.raises(ModelUnavailable):
        await ask(PolicedModel(model, Asker(role="coder", model="own"), POLICY))
    assert outside.asked == []
    answer = await ask(PolicedModel(model, Asker(role="judge", model="own"), POLICY))
    assert answer.provider == "outside"


async def test_an_open_breaker_spares_the_engine_until_it_has_cooled_down() -> None:
    engine, outside, clock = Engine(GONE), Outside(), Clock()
    model = made(engine, outside, clock)
    for _ in range(4):
        await ask(model)
    assert engine.asked == 2
    assert "outside answers, 4 times" in model.degraded()
    clock.now = 10.0
    engine.says = (WHOLE,)
    assert (await ask(model)).provider == ""
    assert model.degraded() == ""


async def test_a_provider_that_is_down_too_is_named_beside_the_engine() -> None:
    with pytest.raises(NobodyAnswered) as nobody:
        await ask(made(Engine(GONE), Outside(401)))
    assert "the replica died" in str(nobody.value)
    assert "outside does not accept the key" in str(nobody.value)
    assert nobody.value.retryable


async def not_done_after(said: str | Exception, answer: httpx.Response | Exception) -> bool | None:
    """What a caller is told after the engine said that, and the provider gave that answer."""

    def outside(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    provider = Provider(CONFIG, httpx.MockTransport(outside))
    model = ResilientModel(Engine(said), provider).permitted(lambda _: True)
    with pytest.raises(NobodyAnswered) as nobody:
        await ask(model)
    copy = pickle.loads(pickle.dumps(nobody.value))  # noqa: S301 - our own
    assert copy.was_asked == nobody.value.was_asked
    return problem_of(refusal_of(copy)).not_done


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        *(httpx.Response(status) for status in (401, 403, 404, 429)),
    ],
)
async def test_a_provider_that_took_nothing_on_has_done_nothing(
    answer: httpx.Response | Exception,
) -> None:
    assert await not_done_after(GONE, answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadError("cut"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("cut"),
        *(httpx.Response(status) for status in (500, 502, 503, 524)),
        httpx.Response(200, content=b"no completion"),
    ],
)
async def test_a_provider_that_may_have_done_it_is_not_said_to_have_done_nothing(
    answer: httpx.Response | Exception,
) -> None:
    assert await not_done_after(GONE, answer) is None


@pytest.mark.parametrize(
    ("said", "not_done"),
    [
        (ReplicaLost("it died at it"), None),
        (error_document("engine dead", 500), None),
        (error_document("starting", 503), True),
    ],
)
async def test_what_the_engine_may_have_done_counts_beside_a_provider_that_took_nothing_on(
    said: str | Exception,
    not_done: bool | None,  # noqa: FBT001 - pytest gives it
) -> None:
    assert await not_done_after(said, httpx.ConnectError("refused")) is not_done


async def test_a_stream_that_has_begun_is_not_begun_again_elsewhere() -> None:
    outside = Outside()
    model = made(Engine("1", GONE), outside)
    async with aclosing(model.stream({"stream": True})) as documents:
        assert await anext(documents) == "1"
        with pytest.raises(ModelUnavailable, match="the replica died"):
            await anext(documents)
    assert outside.asked == []


async def test_a_stream_that_breaks_off_counts() -> None:
    engine = Engine("1", GONE)
    model = made(engine, Outside())
    with pytest.raises(ModelUnavailable):
        [document async for document in model.stream({"stream": True})]
    assert model.degraded() == ""
    engine.says = (GONE,)
    await ask(model)
    assert "breaker open" in model.degraded()


async def test_a_request_that_was_cancelled_lets_another_one_try_the_engine() -> None:
    engine, outside, clock = Engine(GONE), Outside(), Clock()
    model = made(engine, outside, clock)
    for _ in range(2):
        await ask(model)
    clock.now, engine.says = 10.0, (None,)
    engine.begun.clear()
    trying = asyncio.create_task(ask(model))
    await engine.begun.wait()
    trying.cancel()
    await asyncio.wait({trying})
    engine.says = (WHOLE,)
    assert (await ask(model)).provider == ""


async def test_an_embedding_never_leaves() -> None:
    outside = Outside()
    with pytest.raises(ModelUnavailable):
        [d async for d in made(Engine(GONE), outside).stream({"input": "x"}, task="embedding")]
    assert outside.asked == []


async def test_a_copy_in_another_process_is_permitted_nothing() -> None:
    model = ResilientModel(ModelClient(), Provider(CONFIG)).permitted(lambda _: True)
    copy: ResilientModel = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    assert model.is_permitted
    assert not copy.is_permitted


def test_without_a_provider_there_is_only_the_engine() -> None:
    engine = ModelClient()
    assert resilient(engine, None) is engine
    assert isinstance(resilient(engine, CONFIG), ResilientModel)


async def test_a_provider_that_breaks_off_is_told() -> None:
    def chunks(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b'data: {"choices": []}\n\n')

    provider = Provider(CONFIG, httpx.MockTransport(chunks))
    model = ResilientModel(Engine(GONE), provider).permitted(lambda _: True)
    async with aclosing(model.stream({"stream": True})) as documents:
        assert json.loads(await anext(documents))["model"] == "outside-1"
        with pytest.raises(ProviderFailed, match="broke off"):
            await anext(documents)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_whose_answer_is_nested_without_end_has_failed(*, stream: bool) -> None:
    nested = '{"choices": [], "x": ' + "[" * 100_000 + "]" * 100_000 + "}"

    def odd(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"data: {nested}\n\n" if stream else nested)

    provider = Provider(CONFIG, httpx.MockTransport(odd))
    async with aclosing(provider.stream({"stream": stream}, deadline_s=5)) as documents:
        with pytest.raises(ProviderFailed, match="something else") as failed:
            await anext(documents)
    assert failed.value.was_asked


async def test_what_of_a_provider_can_just_be_read_is_passed_on_or_has_failed() -> None:
    """To write takes a little more of the stack than to read."""

    def odd(request: httpx.Request) -> httpx.Response:
        depth = json.loads(request.content)["depth"]
        return httpx.Response(200, text='{"choices": [], "x": ' + "[" * depth + "]" * depth + "}")

    provider = Provider(CONFIG, httpx.MockTransport(odd))
    ends = set()
    for depth in range(700, 1000):
        try:
            async with aclosing(provider.stream({"depth": depth}, deadline_s=5)) as documents:
                ends.add(json.loads(await anext(documents))["model"])
        except ProviderFailed as error:
            ends.add(error.code)
    assert ends == {"outside-1", "provider_failed"}
