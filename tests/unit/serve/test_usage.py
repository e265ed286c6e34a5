"""What a request may use up, and what an answer says that it did."""

import json

import pytest
from pydantic import JsonValue

from bus.payload import LARGEST
from serve.completion import Task
from serve.problems import InvalidFields
from serve.usage import Listener, Tally, counting, extent_of

USAGE = '"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}'
CHUNK = '{"id":"c","choices":[{"index":0,"delta":{"content":"\\"usage\\":{} "}}],' + USAGE + "}"
LAST = '{"id":"c","choices":[],' + USAGE + "}"


@pytest.mark.parametrize(
    ("options", "shows_chunk", "shows_last"),
    [
        (None, False, False),
        ({"include_usage": False}, False, False),
        ({"include_usage": True}, False, True),
        ({"include_usage": True, "continuous_usage_stats": True}, True, True),
    ],
)
def test_a_caller_is_shown_what_he_asked_for(
    options: JsonValue, *, shows_chunk: bool, shows_last: bool
) -> None:
    listener = Listener({"stream": True, "stream_options": options}, "chat")
    chunk, last = listener.chunk(CHUNK), listener.chunk(LAST)
    assert chunk is not None
    shown = json.loads(chunk)
    assert shown.pop("usage", None) == (json.loads(CHUNK)["usage"] if shows_chunk else None)
    assert shown == {k: v for k, v in json.loads(CHUNK).items() if k != "usage"}
    assert last == (LAST if shows_last else None)
    assert listener.heard == Tally(prompt=5, completion=2)


def test_a_chunk_that_says_nothing_of_usage_is_passed_on_as_it_is() -> None:
    listener = Listener({"stream": True}, "chat")
    assert listener.chunk('{"choices": []}') == '{"choices": []}'
    assert listener.chunk('{"choices": [{"index": 0}], "usage": null}') is not None
    assert listener.heard is None


def test_usage_that_stands_first_is_taken_out_as_well() -> None:
    listener = Listener({"stream": True}, "chat")
    shown = listener.chunk('{"usage": {"prompt_tokens": 1}, "choices": [{"index": 0}]}')
    assert json.loads(shown or "") == {"choices": [{"index": 0}]}


@pytest.mark.parametrize("tokens", [2**63, 10**30])
def test_no_provider_counts_beyond_what_the_counters_hold(tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    several = Listener({"stream": True, "prompt": ["a", "b"]}, "completion")
    for index in (0, 1):
        several.chunk(json.dumps({"choices": [{"index": index, "text": ""}], "usage": usage}))
    assert several.heard is not None
    assert 0 < several.heard.prompt + several.heard.completion < 2**53


def test_several_answers_to_several_prompts_are_added_up() -> None:
    def chunk(index: int, prompt: int, completion: int) -> str:
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        return json.dumps({"choices": [{"index": index, "text": ""}], "usage": usage})

    body: dict[str, JsonValue] = {"stream": True, "prompt": ["a", "b"], "n": 2}
    several = Listener(body, "completion")
    for index, prompt in ((0, 10), (1, 10), (2, 30), (3, 30)):
        several.chunk(chunk(index, prompt, 1))
        several.chunk(chunk(index, prompt, 4))
    assert several.heard == Tally(prompt=40, completion=16)
    chat = Listener({"stream": True, "n": 2}, "chat")
    chat.chunk(chunk(0, 10, 1))
    chat.chunk(chunk(1, 10, 1))
    assert chat.heard == Tally(prompt=10, completion=2)


def test_the_engine_is_asked_to_count_as_it_goes() -> None:
    assert counting({"stream": False}) == {"stream": False}
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert counting({"stream": True})["stream_options"] == options
    more: dict[str, JsonValue] = {"stream": True, "stream_options": {"x": 1}}
    assert counting(more)["stream_options"] == {"x": 1, **options}


@pytest.mark.parametrize(
    ("body", "task", "answers", "each"),
    [
        ({"messages": [{"content": "hello"}]}, "chat", 1, None),
        ({"messages": ["x"], "max_tokens": 9, "n": 3}, "chat", 3, 9),
        ({"messages": ["x"], "max_tokens": 9, "max_completion_tokens": 12}, "chat", 1, 12),
        ({"prompt": ["a", "b"], "best_of": 4, "n": 2}, "completion", 8, None),
        ({"input": "a text"}, "embedding", 0, 0),
    ],
)
def test_a_request_says_how_much_it_may_use_up(
    body: dict[str, JsonValue], task: Task, answers: int, each: int | None
) -> None:
    extent = extent_of(body, task)
    assert (extent.answers, extent.each) == (answers, each)
    assert extent.prompt_bytes >= 3


@pytest.mark.parametrize("wrong", ["7", 7.0, True, -1, [7]])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n", "best_of"])
def test_a_number_that_the_engine_may_read_otherwise_is_refused(
    field: str, wrong: JsonValue
) -> None:
    with pytest.raises(InvalidFields, match=field):
        extent_of({"messages": ["x"], field: wrong}, "chat")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "nested", ["[" * 100_000 + "]" * 100_000, "[" * 100_000], ids=["closed", "open"]
)
def test_what_cannot_be_read_says_nothing_of_usage(nested: str, *, stream: bool) -> None:
    listener = Listener({"stream": stream}, "chat")
    for document in (f'{{"choices":[],"usage":{nested}}}', f'{{"choices":[],"x":{nested}}}'):
        if stream:
            assert listener.chunk(document) == document
        else:
            listener.whole(document)
    assert listener.heard is None
    assert listener.reckoned == 0


def test_what_cannot_be_read_is_shown_as_it_is() -> None:
    nested = "[" * 100_000 + "]" * 100_000
    document = f'{{"usage":{{"prompt_tokens":5}},"choices":[{{"index":0,"x":{nested}}}]}}'
    listener = Listener({"stream": True}, "chat")
    assert listener.chunk(document) == document
    assert listener.heard == Tally(prompt=5)


@pytest.mark.parametrize("number", [10**9 + 1, 10**10, 10**19, 10**400])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n", "best_of"])
def test_a_number_that_no_counter_holds_is_refused(field: str, number: int) -> None:
    with pytest.raises(InvalidFields, match=f"{field}: a whole number up to"):
        extent_of({"messages": ["x"], field: number}, "chat")


@pytest.mark.parametrize(
    "body",
    [
        {"n": 10**9, "max_tokens": 10**9},
        {"prompt": ["a"] * 1_000, "n": 10**9},
        {"prompt": ["a"] * 1_001, "max_tokens": 10**9},
        {"prompt": ["a"] * 100_000, "best_of": 10**6},
    ],
)
def test_numbers_that_only_together_are_too_large_are_refused(body: dict[str, JsonValue]) -> None:
    for task in ("chat", "completion"):
        with pytest.raises(InvalidFields, match="all answers together"):
            extent_of(body, task)


def test_what_is_granted_fits_the_counters() -> None:
    extent = extent_of({"messages": ["x"], "n": 1_000, "max_tokens": 10**9}, "chat")
    assert extent.each is not None
    most = extent.prompt_most + extent.answers * extent.each
    assert most < 2**53 < LARGEST
