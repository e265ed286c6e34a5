import json
import re
from collections.abc import Mapping

import pytest
from pydantic import JsonValue

from serve.errors import ModelRefused
from serve.profile import load_profile
from serve.scripted import ChatRequest, ScriptedModel, answer, parse

ASKED: dict[str, JsonValue] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write a parser for small INI files"},
    ]
}
SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "accepted": {"type": "boolean"}},
    "required": ["summary", "accepted"],
}
FORMAT: dict[str, JsonValue] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
}


async def chat(
    request: Mapping[str, JsonValue], model: ScriptedModel | None = None
) -> list[dict[str, JsonValue]]:
    replica = model or ScriptedModel(load_profile("scripted"))
    return [json.loads(document) async for document in replica.chat(dict(request))]


def test_the_same_request_gets_the_same_answer() -> None:
    assert answer(parse(ChatRequest, ASKED)) == answer(parse(ChatRequest, ASKED))
    assert answer(parse(ChatRequest, {**ASKED, "seed": 1})) != answer(
        parse(ChatRequest, {**ASKED, "seed": 2})
    )


def test_plain_text_quotes_the_request_and_says_what_it_is() -> None:
    text = "".join(answer(parse(ChatRequest, ASKED)).pieces)
    assert text.startswith("A scripted answer")
    assert "No model was asked" in text
    quoted = re.findall(r'"(.*?)"', text)
    assert quoted
    assert quoted[0] in "Write a parser for small INI files"


def test_a_schema_shapes_the_answer() -> None:
    value = json.loads("".join(answer(parse(ChatRequest, {**ASKED, **FORMAT})).pieces))
    assert value.keys() == {"summary", "accepted"}
    assert value["accepted"] is True
    assert value["summary"].startswith("Summary")


def test_tokens_are_words() -> None:
    made = answer(parse(ChatRequest, ASKED))
    assert made.prompt_tokens == 2 + 7
    assert made.completion_tokens == len("".join(made.pieces).split())


def test_max_tokens_cuts_text_but_not_json() -> None:
    cut = answer(parse(ChatRequest, {**ASKED, "max_tokens": 3}))
    assert (cut.completion_tokens, cut.finish_reason) == (3, "length")
    whole = answer(parse(ChatRequest, {**ASKED, **FORMAT, "max_tokens": 3}))
    assert whole.finish_reason == "stop"
    json.loads("".join(whole.pieces))


async def test_an_answer_that_is_not_streamed_is_one_completion() -> None:
    (document,) = await chat(ASKED)
    assert document["object"] == "chat.completion"
    assert document["model"] == "scripted"
    assert document["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": answer(parse(ChatRequest, ASKED)).completion_tokens,
        "total_tokens": 9 + answer(parse(ChatRequest, ASKED)).completion_tokens,
    }


async def test_a_stream_adds_up_to_the_same_answer() -> None:
    (whole,) = await chat(ASKED)
    chunks = await chat({**ASKED, "stream": True, "stream_options": {"include_usage": True}})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    *parts, end, usage = chunks
    text = "".join(part["choices"][0]["delta"]["content"] for part in parts)  # type: ignore[index, call-overload, misc]
    assert text == whole["choices"][0]["message"]["content"]  # type: ignore[index, call-overload]
    assert end["choices"][0]["finish_reason"] == "stop"  # type: ignore[index, call-overload]
    assert usage["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": 7}]}, 400, "content"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"stream": "yes"}, 400, "stream"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 400, "schema"),
        ({"model": "gpt-5"}, 404, "gpt-5"),
    ],
)
async def test_a_bad_request_gets_an_error_document(
    change: dict[str, JsonValue], code: int, said: str
) -> None:
    (document,) = await chat({**ASKED, **change})
    error = document["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    assert said in str(error["message"])


async def test_a_request_without_messages_gets_an_error_document() -> None:
    (document,) = await chat({"model": "scripted"})
    assert document["error"]["code"] == 400  # type: ignore[index, call-overload]


async def test_a_schema_that_allows_nothing_gets_an_error_document() -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/$defs/missing"}}}
    (document,) = await chat({**ASKED, "response_format": wanted})  # type: ignore[dict-item]
    assert document["error"]["code"] == 400  # type: ignore[index, call-overload]


def test_the_field_at_fault_is_named() -> None:
    with pytest.raises(ModelRefused, match=r"^messages\.0\.role: "):
        parse(ChatRequest, {"messages": [{"role": "wizard", "content": "x"}]})


async def test_the_delay_of_the_profile_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("serve.scripted.asyncio.sleep", sleep)
    slow = load_profile("scripted").model_copy(update={"delay_s": 2.5})
    await chat(ASKED, ScriptedModel(slow))
    assert slept == [2.5]


async def test_the_list_of_models_has_the_one() -> None:
    listed = await ScriptedModel(load_profile("scripted")).models()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["scripted"]  # type: ignore[union-attr, index, call-overload]


async def completion(request: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    model = ScriptedModel(load_profile("scripted"))
    return [json.loads(document) async for document in model.completion(dict(request))]


async def test_a_text_goes_on_as_a_chat_would_be_answered() -> None:
    (document,) = await completion({"prompt": "Once upon a time", "seed": 7})
    (chatted,) = await chat(
        {"messages": [{"role": "user", "content": "Once upon a time"}], "seed": 7}
    )
    assert document["object"] == "text_completion"
    assert document["choices"][0]["text"] == chatted["choices"][0]["message"]["content"]  # type: ignore[index,call-overload]
    assert document["usage"] == chatted["usage"]


async def test_each_prompt_is_answered_under_its_number() -> None:
    (both,) = await completion({"prompt": ["One", "Two words"]})
    (one,) = await completion({"prompt": "One"})
    (two,) = await completion({"prompt": "Two words"})
    texts = [choice["text"] for choice in both["choices"]]  # type: ignore[union-attr,index,call-overload]
    assert texts == [each["choices"][0]["text"] for each in (one, two)]  # type: ignore[index,call-overload]
    assert [choice["index"] for choice in both["choices"]] == [0, 1]  # type: ignore[union-attr,index,call-overload]
    assert both["usage"]["prompt_tokens"] == 3  # type: ignore[index,call-overload]


async def test_a_streamed_text_says_the_same_and_counts_where_it_is_asked() -> None:
    asked: dict[str, JsonValue] = {"prompt": ["One", "Two"]}
    (whole,) = await completion(asked)
    parts = await completion({**asked, "stream": True, "stream_options": {"include_usage": True}})
    texts = {0: "", 1: ""}
    ends = {}
    for part in parts[:-1]:
        (choice,) = part["choices"]  # type: ignore[misc,str-unpack]
        texts[choice["index"]] += choice["text"]  # type: ignore[index,call-overload,operator]
        ends[choice["index"]] = choice["finish_reason"]  # type: ignore[index,call-overload]
    assert texts == {i: c["text"] for i, c in enumerate(whole["choices"])}  # type: ignore[arg-type,index,call-overload]
    assert ends == {0: "stop", 1: "stop"}
    assert parts[-1] == {**parts[-1], "choices": [], "usage": whole["usage"]}


@pytest.mark.parametrize(
    "wrong", [{}, {"prompt": []}, {"prompt": 3}, {"prompt": "x", "max_tokens": 0}]
)
async def test_what_is_no_prompt_is_refused(wrong: dict[str, JsonValue]) -> None:
    (document,) = await completion(wrong)
    assert document["error"]["code"] == 400  # type: ignore[index,call-overload]


async def test_it_answers_under_the_name_of_its_profile() -> None:
    other = ScriptedModel(load_profile("scripted-other"))
    (answered,) = await chat(ASKED, other)
    assert answered["model"] == "scripted-other"
    (refused,) = await chat({**ASKED, "model": "scripted"}, other)
    assert refused["error"]
