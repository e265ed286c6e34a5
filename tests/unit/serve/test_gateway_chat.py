"""The model behind the OpenAI-compatible routes."""

import json

import pytest

from policies.capabilities import Capabilities
from policies.pace import Pace
from serve.errors import ModelBusy, ModelTimeout, ModelUnavailable, NobodyAnswered
from serve.fingerprint import fallback_fingerprint
from serve.ports import Limits
from tests.unit.serve.fakes import MODEL, Fakes

HELLO = [{"role": "user", "content": "hello there"}]


def error(code: int | None) -> str:
    return json.dumps({"error": {"message": "why it\nTraceback: secrets", "code": code}})


async def test_an_answer_comes_whole() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["message"]["content"] == "hello there"
    assert fakes.model.closed == 1


async def test_an_answer_comes_in_chunks() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.removesuffix("\n\n").split("\n\n")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["hello", "there"]
    assert fakes.model.closed == 1


async def test_what_the_gateway_does_not_know_goes_to_the_model_as_it_is() -> None:
    fakes = Fakes()
    body = {"messages": HELLO, "temperature": 0.5, "response_format": {"type": "json_object"}}
    async with fakes.client() as client:
        await client.post("/v1/chat/completions", json=body)
        await client.post("/v1/chat/completions", json={**body, "model": MODEL})
    assert fakes.model.requests == [{**body, "model": MODEL, "stream": False}] * 2


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_model_that_does_not_exist_is_told_as_openai_tells_it(path: str) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        body = {"messages": HELLO, "prompt": "x", "model": "gpt-9"}
        answer = await client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": f"There is no such model; there are {MODEL}.",
        "type": "model_not_found",
        "code": "model_not_found",
        "param": "model",
    }
    assert fakes.model.requests == []


async def test_the_model_of_a_role_can_be_asked_for() -> None:
    fakes = Fakes()
    fakes.role_models = {"coder": "larger"}
    async with fakes.client() as client:
        body = {"messages": HELLO, "model": "larger"}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    assert fakes.model.requests[0]["model"] == "larger"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [7]}, "messages.0"),
        ({"messages": [{}]}, "messages.0"),
        ({"messages": HELLO, "stream": "perhaps"}, "stream"),
        ({"messages": HELLO, "model": 3}, "model"),
    ],
)
async def test_a_request_that_no_model_could_answer_does_not_reach_one(
    body: dict[str, object], field: str
) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["errors"][0]["field"] == field
    told = {"message": problem["detail"], "type": "invalid_fields", "code": "invalid_fields"}
    assert problem["error"] == {**told, "param": field}
    assert fakes.model.requests == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("said", "status"),
    [
        (error(400), 422),
        (error(404), 404),
        (error(429), 429),
        (error(503), 503),
        (error(500), 502),
        (error(None), 502),
        ('{"error": "odd"}', 502),
        ("no JSON", 502),
        ("[" * 100_000, 502),
        (ModelBusy("10.0.0.7"), 429),
        (ModelUnavailable("replica 7 on 10.0.0.7 died"), 503),
        (ModelTimeout("10.0.0.7"), 504),
    ],
)
async def test_a_model_that_refuses_or_fails_is_told_by_the_status(
    said: str | Exception, status: int, *, stream: bool
) -> None:
    fakes = Fakes()
    fakes.model.says = [said]
    async with fakes.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json={"messages": HELLO, "stream": stream}
        )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secrets" not in answer.text
    assert "10.0.0.7" not in answer.text
    assert fakes.model.closed == 1


async def test_a_model_that_has_too_much_to_do_says_when_to_come_again() -> None:
    fakes = Fakes()
    fakes.model.says = [ModelBusy("full")]
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"]["message"] == "Too many wait for the model already."


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_of_a_fallback_provider_says_whose_it_is(*, stream: bool) -> None:
    fakes = Fakes()
    mark = fallback_fingerprint("outside", None)
    fakes.model.says = [json.dumps({"model": "outside-1", "system_fingerprint": mark})]
    async with fakes.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json={"messages": HELLO, "stream": stream}
        )
    assert answer.headers["X-Swarm-Provider"] == "outside"
    assert "outside-1" in answer.text
    fakes.model.says = [json.dumps({"model": MODEL, "choices": "fallback/x/"})]
    async with fakes.client() as client:
        own = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert "X-Swarm-Provider" not in own.headers


async def test_where_neither_engine_nor_provider_answers_both_are_named() -> None:
    fakes = Fakes()
    fakes.model.says = [NobodyAnswered("10.0.0.7 died; and the fallback provider: no key")]
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.status_code == 503
    told = answer.json()["detail"]
    assert told == "Neither the swarm's own model nor the fallback provider answers."
    assert "10.0.0.7" not in answer.text


async def test_a_model_that_says_nothing_has_failed() -> None:
    fakes = Fakes()
    fakes.model.says = []
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.status_code == 502


async def test_a_stream_that_breaks_says_so_before_it_is_done() -> None:
    fakes = Fakes()
    fakes.model.says = ["{}", ModelUnavailable("10.0.0.7")]
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO, "stream": True})
    first, broken, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert (first, done) == ("data: {}", "data: [DONE]")
    assert json.loads(broken.removeprefix("data: ")) == {
        "error": {"message": "No model is up to answer.", "code": 503}
    }


async def test_a_model_is_told_how_long_it_may_take() -> None:
    fakes = Fakes()
    async with fakes.client(limits=Limits(chat_timeout_s=7.0)) as client:
        await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert fakes.model.deadline_s == 7.0


async def test_the_models_are_listed() -> None:
    async with Fakes().client("vic") as client:
        answer = await client.get("/v1/models")
    assert [model["id"] for model in answer.json()["data"]] == [MODEL]


async def test_one_model_is_shown_by_its_name() -> None:
    async with Fakes().client("vic") as client:
        answer = await client.get(f"/v1/models/{MODEL}")
        unknown = await client.get("/v1/models/some/other")
    assert answer.json()["id"] == MODEL
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("prompt", ["Go on", ["Go on", "and on"]])
async def test_a_text_is_gone_on_with(prompt: str | list[str]) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": prompt, "logprobs": 2})
        streamed = await client.post("/v1/completions", json={"prompt": prompt, "stream": True})
    assert (answer.status_code, streamed.status_code) == (200, 200)
    assert fakes.model.tasks == ["completion", "completion"]
    assert fakes.model.requests[0] == {
        "model": MODEL,
        "prompt": prompt,
        "logprobs": 2,
        "stream": False,
    }
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_texts_are_turned_into_vectors() -> None:
    fakes = Fakes()
    fakes.model.says = ['{"data": []}']
    body = {"model": "any", "input": ["one", "two"], "encoding_format": "base64", "user": "u"}
    async with fakes.client() as client:
        answer = await client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()) == (200, {"data": []})
    assert fakes.model.tasks == ["embedding"]
    assert fakes.model.requests == [{**body, "stream": False}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": []},
        {"input": ""},
        {"input": [1, 2]},
        {"input": ["x"] * 2_049},
        {"model": None},
        {"stream": True},
        {"encoding_format": "hex"},
        {"dimensions": 0},
    ],
)
async def test_what_is_no_text_to_embed_does_not_reach_a_model(wrong: dict[str, object]) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/embeddings", json={"model": "m", "input": "x", **wrong})
    assert answer.status_code == 422
    assert fakes.model.requests == []


@pytest.mark.parametrize("prompt", ["", [], [""], None, 3, [1, 2]])
async def test_what_is_no_prompt_does_not_reach_a_model(prompt: object) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 422
    assert fakes.model.requests == []


async def test_a_model_that_the_policy_keeps_from_people_is_not_asked() -> None:
    fakes = Fakes()
    fakes.policy = Capabilities(b"version: 1\nroles: {gateway: {call: {models: [other]}}}")
    async with fakes.client() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert fakes.model.requests == []


async def test_the_gateway_asks_no_oftener_than_the_policy_lets_it() -> None:
    fakes = Fakes()
    fakes.chat_pace = Pace(2)
    async with fakes.client() as client:
        answers = [
            await client.post("/v1/chat/completions", json={"messages": HELLO}) for _ in range(3)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert len(fakes.model.requests) == 2
