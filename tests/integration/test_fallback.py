"""A provider on a real socket: what is asked of it, what it may answer, what it may not."""

import json
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from serve.errors import ModelTimeout, ProviderFailed
from serve.fallback import FallbackConfig, Provider
from serve.fingerprint import origin_of
from serve.inference import completion
from tests.provider import KEY, MODEL, Mood, OutsideProvider, outside_provider

SCHEMA: JsonValue = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
ASKED: dict[str, JsonValue] = {
    "model": "smollm2-135m",
    "messages": [{"role": "user", "content": "hello"}],
    "response_format": SCHEMA,
    "seed": 7,
}


@pytest.fixture
async def outside() -> AsyncIterator[OutsideProvider]:
    async with outside_provider() as provider:
        yield provider


async def ask(provider: Provider, *, stream: bool = False, deadline_s: float = 10.0) -> list[str]:
    request = {**ASKED, "stream": stream}
    return [document async for document in provider.stream(request, deadline_s=deadline_s)]


async def test_an_answer_is_marked_as_the_providers(
    outside: OutsideProvider, tmp_path: Path
) -> None:
    (document,) = await ask(Provider(outside.config(tmp_path)))
    answer = completion(document)
    assert answer.text == outside.text
    assert (answer.model, answer.provider) == (MODEL, "outside")
    assert (answer.engine.version, answer.engine.weights) == ("fp_44709d6fcb", "")
    assert (answer.prompt_tokens, answer.completion_tokens) == (5, 4)


async def test_the_request_goes_on_as_it_is_but_for_the_model(
    outside: OutsideProvider, tmp_path: Path
) -> None:
    await ask(Provider(outside.config(tmp_path)))
    assert outside.requests == [{**ASKED, "model": MODEL, "stream": False}]
    assert outside.keys == [f"Bearer {KEY}"]


async def test_a_stream_comes_in_pieces_each_marked(
    outside: OutsideProvider, tmp_path: Path
) -> None:
    chunks = [json.loads(one) for one in await ask(Provider(outside.config(tmp_path)), stream=True)]
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text.strip() == outside.text
    assert {origin_of(chunk["system_fingerprint"]).provider for chunk in chunks} == {"outside"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("refuses", "outside does not accept the key"),
        ("busy", "outside has too much to do"),
        ("fails", "HTTP 500"),
    ],
)
async def test_a_refusal_is_told_without_what_the_provider_said(
    outside: OutsideProvider, tmp_path: Path, mood: Mood, words: str, *, stream: bool
) -> None:
    outside.mood = mood
    with pytest.raises(ProviderFailed, match=words) as failed:
        await ask(Provider(outside.config(tmp_path)), stream=stream)
    assert KEY not in str(failed.value)


async def test_garbage_is_no_answer(outside: OutsideProvider, tmp_path: Path) -> None:
    outside.mood = "babbles"
    with pytest.raises(ProviderFailed, match="something else than a completion"):
        await ask(Provider(outside.config(tmp_path)))
    with pytest.raises(ProviderFailed, match="broke off"):
        await ask(Provider(outside.config(tmp_path)), stream=True)


async def test_a_provider_that_hangs_is_given_up_at_the_deadline(
    outside: OutsideProvider, tmp_path: Path
) -> None:
    outside.mood = "hangs"
    with pytest.raises((ModelTimeout, ProviderFailed), match="outside"):
        await ask(Provider(outside.config(tmp_path)), deadline_s=0.3)


async def test_a_stream_that_breaks_off_says_so(outside: OutsideProvider, tmp_path: Path) -> None:
    outside.mood = "breaks off"
    with pytest.raises(ProviderFailed, match="broke off"):
        await ask(Provider(outside.config(tmp_path)), stream=True)


async def test_an_answer_without_end_is_cut_off(outside: OutsideProvider, tmp_path: Path) -> None:
    outside.mood = "endless"
    with pytest.raises(ProviderFailed, match="is over"):
        await ask(Provider(outside.config(tmp_path)), stream=True)


async def test_a_provider_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = FallbackConfig(name="gone", url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(ProviderFailed, match="gone cannot be reached"):
        await ask(Provider(config))


@pytest.mark.parametrize("key", ["schlüssel-geheim", "two\nlines-geheim"])
async def test_a_key_that_no_header_takes_is_not_repeated(
    outside: OutsideProvider, tmp_path: Path, key: str
) -> None:
    with pytest.raises(ProviderFailed) as failed:
        await ask(Provider(outside.config(tmp_path, key)))
    assert "geheim" not in str(failed.value)
    assert failed.value.__cause__ is None or "geheim" not in str(failed.value.__cause__)


async def test_a_key_file_that_is_not_on_this_node_is_told(
    outside: OutsideProvider, tmp_path: Path
) -> None:
    config = outside.config(tmp_path)
    (tmp_path / "fallback_api_key").unlink()
    with pytest.raises(ProviderFailed, match="cannot be used on this node"):
        await ask(Provider(config))


async def test_no_key_travels_or_shows(outside: OutsideProvider, tmp_path: Path) -> None:
    provider = Provider(outside.config(tmp_path))
    copy: Provider = pickle.loads(pickle.dumps(provider))  # noqa: S301 - our own
    assert KEY.encode() not in pickle.dumps(provider)
    assert KEY not in repr(provider) + repr(provider.config)
    assert await ask(copy)
