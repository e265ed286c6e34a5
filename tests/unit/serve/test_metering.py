"""What an answer costs of which the engine, or the provider, did not say what it cost."""

import json

import pytest
from pydantic import JsonValue

from bus.usage import ModelUsed
from policies.caller import Caller
from policies.roles import Role
from serve.metering import Metered, Outcome, Question
from tests.unit.serve.fakes import MODEL, NOW, UMA, Fakes

CALLER = Caller(user=UMA, username="uma", tenant="default", role=Role.USER, expires_at=NOW)
ROLE: JsonValue = {"role": "assistant", "content": ""}
CALLED: JsonValue = {"tool_calls": [{"id": "call-1", "function": {"arguments": '{"a":'}}]}


def chunk(delta: JsonValue) -> str:
    choice: JsonValue = {"index": 0, "delta": delta, "finish_reason": None}
    return json.dumps({"choices": [choice], "usage": None})


async def asked(fakes: Fakes, *, stream: bool = True) -> Metered:
    body: dict[str, JsonValue] = {"messages": [{"content": "hello there"}], "stream": stream}
    question = Question(caller=CALLER, request="r", task="chat", model=MODEL, body=body)
    return await fakes.meter().admit(question)


async def cost(fakes: Fakes, metered: Metered, outcome: Outcome) -> ModelUsed | None:
    metered.end(outcome)
    await metered.recorded()
    stored = fakes.record.of_kind("model.used", "swarm")
    payload = stored[-1].payload() if stored else None
    assert payload is None or isinstance(payload, ModelUsed)
    return payload


@pytest.mark.parametrize("outcome", ["answered", "abandoned", "failed"])
async def test_a_stream_without_usage_costs_about_what_was_written(outcome: Outcome) -> None:
    fakes = Fakes()
    metered = await asked(fakes)
    said: list[JsonValue] = [{"content": "a"}, {"reasoning": "b"}, CALLED, {"content": "c"}]
    for delta in (ROLE, *said, {}):
        assert metered.chunk(chunk(delta)) == chunk(delta)
    event = await cost(fakes, metered, outcome)
    assert event is not None
    assert (event.completion_tokens, event.counted, event.outcome) == (4, "estimate", outcome)
    assert event.prompt_tokens > 0


async def test_a_chunk_may_be_of_many_tokens() -> None:
    fakes = Fakes()
    metered = await asked(fakes)
    for text in ("word " * 40, "and " * 5):
        metered.chunk(chunk({"content": text}))
    event = await cost(fakes, metered, "abandoned")
    assert event is not None
    assert event.completion_tokens == (40 * 5 + 5 * 4) / 4


async def test_what_is_said_of_usage_at_the_end_is_what_counts() -> None:
    fakes = Fakes()
    metered = await asked(fakes)
    metered.chunk(chunk({"content": "word " * 40}))
    metered.chunk('{"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 41}}')
    event = await cost(fakes, metered, "answered")
    assert event is not None
    assert (event.prompt_tokens, event.completion_tokens, event.counted) == (4, 41, "engine")


async def test_a_whole_answer_without_usage_costs_about_what_was_written() -> None:
    fakes = Fakes()
    metered = await asked(fakes, stream=False)
    message: JsonValue = {"role": "assistant", "content": "word " * 40}
    metered.whole(json.dumps({"choices": [{"index": 0, "message": message}]}))
    event = await cost(fakes, metered, "answered")
    assert event is not None
    assert (event.completion_tokens, event.counted) == (50, "estimate")


@pytest.mark.parametrize("said", ["[]", '{"choices": [3, {"delta": null}, {"delta": 3}]}', "{"])
async def test_a_stream_of_something_else_costs_nothing_where_it_fails(said: str) -> None:
    fakes = Fakes()
    metered = await asked(fakes)
    assert metered.chunk(said) == said
    assert await cost(fakes, metered, "failed") is None
