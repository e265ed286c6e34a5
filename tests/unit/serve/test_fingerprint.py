"""An answer says itself who computed it."""

import json

import pytest

from actors.model import Engine
from serve.fingerprint import Origin, fallback_fingerprint, fingerprint, origin_of
from serve.inference import completion
from serve.scripted import ChatRequest, answer, engine, parse

WEIGHTS = "ab" * 32


@pytest.mark.parametrize(
    "known",
    [
        Engine(name="vllm", version="0.29.0+cpu", weights=WEIGHTS),
        Engine(name="vllm", version="0.29.0"),
    ],
)
def test_an_engine_is_read_from_what_it_wrote(known: Engine) -> None:
    assert origin_of(fingerprint(known)) == Origin(engine=known)


def test_a_provider_is_told_from_an_engine_of_the_swarm() -> None:
    told = origin_of(fallback_fingerprint("openai", "fp_44709d6fcb"))
    assert told == Origin(engine=Engine(version="fp_44709d6fcb"), provider="openai")
    assert origin_of(fallback_fingerprint("openai", None)) == Origin(provider="openai")


@pytest.mark.parametrize("text", ["fp_44709d6fcb", "vllm/1", "a/b/not-a-digest", "vllm/1/ABAB"])
def test_a_fingerprint_of_another_form_claims_no_weights(text: str) -> None:
    assert origin_of(text) == Origin(engine=Engine(version=text))


@pytest.mark.parametrize("text", [None, ""])
def test_without_a_fingerprint_nothing_is_known(text: str | None) -> None:
    assert origin_of(text) == Origin()


def test_what_does_not_fit_an_event_is_cut_off() -> None:
    assert len(origin_of("x" * 500).engine.version) == 64


def test_the_scripted_engine_says_so_in_its_answers() -> None:
    request = parse(ChatRequest, {"messages": [{"role": "user", "content": "hello"}]})
    assert origin_of(answer(request).fingerprint) == Origin(engine=engine())
    assert engine().name == "scripted"
    assert len(engine().weights) == 64


def test_a_completion_carries_who_gave_it() -> None:
    document = {
        "model": "m",
        "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
        "system_fingerprint": fingerprint(Engine(name="vllm", version="1", weights=WEIGHTS)),
    }
    read = completion(json.dumps(document))
    assert read.engine == Engine(name="vllm", version="1", weights=WEIGHTS)
    assert read.provider == ""
    outside = {**document, "system_fingerprint": fallback_fingerprint("openai", None)}
    assert completion(json.dumps(outside)).provider == "openai"
