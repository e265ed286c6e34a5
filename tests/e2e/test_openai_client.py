"""OpenAI's own client against the gateway: an address and an API key, and nothing special."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from serve.tls import trusting_only
from swarm import AsyncSwarm
from swarm.home import gateway_certificate, gateway_url
from tests.commands import Shell

pytestmark = pytest.mark.timeout(400)
MODEL = "scripted"
EMBEDDER = "scripted-embedding"
STREAMS = 64
ROUNDS = 5
MOST_GROWTH_BYTES = 16 * 2**20


class Verdict(BaseModel):
    summary: str
    accepted: bool


@pytest.fixture
async def program(shell: Shell, client: AsyncSwarm) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client with a key that may ask models and no more."""
    scopes = ["chat.complete", "embedding.create", "model.read"]
    key = (await client.people.create_api_key("openai", scopes)).key
    certificate = gateway_certificate(shell.home)
    assert certificate is not None
    async with openai.AsyncOpenAI(
        base_url=f"{gateway_url(shell.home)}/v1",
        api_key=key,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(verify=trusting_only(certificate)),
    ) as made:
        yield made


async def test_the_models_are_listed_and_shown(program: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in program.models.list()] == [MODEL, EMBEDDER]
    assert (await program.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await program.models.retrieve("gpt-9")


async def test_a_chat_is_answered(program: openai.AsyncOpenAI) -> None:
    answer = await program.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is a token bucket?"}]
    )
    assert answer.model == MODEL
    assert "scripted answer" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_says_the_same_piece_by_piece(program: openai.AsyncOpenAI) -> None:
    asked: Any = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is a leaky bucket?"}],
        "seed": 7,
    }
    whole = await program.chat.completions.create(**asked)
    stream = await program.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


async def test_an_answer_keeps_to_a_schema(program: openai.AsyncOpenAI) -> None:
    parsed = await program.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Judge this plan."}],
        response_format=Verdict,
    )
    assert isinstance(parsed.choices[0].message.parsed, Verdict)


async def test_a_text_is_gone_on_with(program: openai.AsyncOpenAI) -> None:
    answer = await program.completions.create(model=MODEL, prompt=["Once", "Twice"])
    assert [choice.index for choice in answer.choices] == [0, 1]
    stream = await program.completions.create(model=MODEL, prompt="Once", stream=True)
    text = "".join([choice.text async for chunk in stream for choice in chunk.choices])
    assert text == answer.choices[0].text


async def test_texts_become_vectors_in_both_ways_of_writing(program: openai.AsyncOpenAI) -> None:
    texts = ["A token bucket lets bursts pass.", "A leaky bucket does not."]
    packed = await program.embeddings.create(model=EMBEDDER, input=texts)  # base64 underneath
    plain = await program.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    assert [each.index for each in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == 384
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions"):
        await program.embeddings.create(model=EMBEDDER, input=texts, dimensions=8)


async def test_every_one_of_many_streams_gets_its_own_answer(
    program: openai.AsyncOpenAI, shell: Shell
) -> None:
    """All at once, again and again: answers are what they are alone, and memory stays."""
    everybody = asyncio.Barrier(STREAMS)

    async def ask(number: int, *, alone: bool = False) -> str:
        stream = await program.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"mark{number}"}],
            stream=True,
        )
        chunks = [await anext(stream)]
        if not alone:
            await everybody.wait()  # nobody has read his answer before all of them have begun
        chunks += [chunk async for chunk in stream]
        return "".join([chunk.choices[0].delta.content or "" for chunk in chunks])

    alone = [await ask(number, alone=True) for number in range(0, STREAMS, 16)]
    await asyncio.gather(*map(ask, range(STREAMS)))  # what a first use costs once
    [gateway] = [p for p in shell.processes() if "ServeReplica:gateway" in " ".join(p.cmdline())]
    sizes = [gateway.memory_info().rss]
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*map(ask, range(STREAMS)))
        for number, answer in enumerate(answers):
            assert re.findall(r"mark\d+", answer) == [f"mark{number}"]
        assert answers[::16] == alone
        sizes.append(gateway.memory_info().rss)
    grown = sizes[-1] - sizes[0]
    print(f"gateway grew by {grown / 2**20:.1f} MiB over {ROUNDS * STREAMS} streams")
    # What is kept of each stream is kept in each round; an allocator takes some now and then.
    assert min(after - before for before, after in pairwise(sizes)) < MOST_GROWTH_BYTES / ROUNDS


async def test_what_was_used_up_is_on_record_by_user_agent_and_run(
    program: openai.AsyncOpenAI, client: AsyncSwarm
) -> None:
    answer = await program.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Count this."}]
    )
    run = await client.submit("Design a rate limiter")
    status = await run.wait(60)
    assert answer.usage is not None
    async with asyncio.timeout(90):  # the audit log is a moment behind
        written = 0
        while written < status.usage.completion_tokens:
            by_agent = (await client.usage(("role", "agent"), run=run.id)).totals
            written = sum(each.completion_tokens for each in by_agent)
    assert sum(each.prompt_tokens for each in by_agent) == status.usage.prompt_tokens
    assert {each.role for each in by_agent} >= {"coder", "critic", "tester", "judge"}
    [chats] = [
        each for each in (await client.usage(("task",), run="")).totals if each.task == "chat"
    ]
    assert chats.completion_tokens >= answer.usage.completion_tokens
    shown = await client.usage(("user", "day", "model"), user="*")
    assert MODEL in {each.model for each in shown.totals}


async def test_what_is_wrong_is_an_error_of_the_right_kind(
    program: openai.AsyncOpenAI, shell: Shell
) -> None:
    hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError, match="there are scripted") as absent:
        await program.chat.completions.create(model="gpt-9", messages=hello)
    assert (absent.value.code, absent.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await program.chat.completions.create(model=MODEL, messages=[])
    assert (refused.value.code, refused.value.param) == ("invalid_fields", "messages")
    stranger = program.with_options(api_key="swk_k3v7q2xw5mda_made-up")
    with pytest.raises(openai.AuthenticationError):
        await stranger.chat.completions.create(model=MODEL, messages=hello)
    with pytest.raises(openai.PermissionDeniedError):
        await program.post("/runs", body={"objective": "x"}, cast_to=object)
