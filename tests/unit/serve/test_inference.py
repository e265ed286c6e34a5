import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic import JsonValue

from actors.model import Completion, Message, Model, ModelRequest
from serve.completion import Failure
from serve.errors import ModelRefused, ModelTimeout, ModelUnavailable, ReplicaLost
from serve.inference import ModelClient, ServedModels, app_of, chat_request, completion, failure
from tests.asking import asked
from tests.unit.serve.quiet_ray import RayActorError, RayError, RayServeException

WHOLE = {
    "model": "m",
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
REFUSED = json.dumps({"error": {"message": "too long", "type": "x", "code": 400}})


class Response:
    """A streamed response: documents, then its end, an error or silence."""

    def __init__(self, documents: Sequence[str], error: Exception | None, *, hangs: bool) -> None:
        self.documents = [*documents]
        self.error = error
        self.hangs = hangs
        self.cancelled = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self.documents:
            return self.documents.pop(0)
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A Serve handle whose chat gives `response`."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self.chat = self
        self.requests: list[dict[str, JsonValue]] = []
        self.asked = asyncio.Event()

    def options(self, *, stream: bool) -> "Handle":
        assert stream
        return self

    def remote(self, request: dict[str, JsonValue]) -> Response:
        self.requests.append(request)
        self.asked.set()
        return self.response


def client(
    *documents: str, error: Exception | None = None, hangs: bool = False
) -> tuple[ModelClient, Handle]:
    handle = Handle(Response(documents, error, hangs=hangs))
    made = ModelClient()
    made._handle = handle  # type: ignore[assignment]
    return made, handle


async def ask(model: Model, deadline_s: float = 5.0) -> Completion:
    return await model.complete(asked("hello", max_tokens=5, deadline_s=deadline_s))


def test_a_request_carries_what_was_asked() -> None:
    request = chat_request(
        ModelRequest(
            messages=[Message(role="user", content="hello")],
            schema={"type": "object"},
            max_tokens=5,
            temperature=0.5,
            seed=7,
            deadline_s=1.0,
        )
    )
    assert request == {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "seed": 7,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


async def test_a_completion_is_read_from_the_one_document() -> None:
    model, handle = client(json.dumps(WHOLE))
    assert await ask(model) == Completion(
        text="hi", prompt_tokens=3, completion_tokens=1, model="m"
    )
    assert "response_format" not in handle.requests[0]


def test_an_answer_that_was_cut_off_says_so() -> None:
    cut = {**WHOLE, "choices": [{"message": {"content": "h"}, "finish_reason": "length"}]}
    assert completion(json.dumps(cut)).truncated


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        json.dumps({**WHOLE, "choices": []}),
        json.dumps({**WHOLE, "usage": {"prompt_tokens": -1}}),
        json.dumps({**WHOLE, "usage": {"completion_tokens": 2**63}}),
    ],
)
def test_a_document_that_is_no_completion_is_the_apps_fault(document: str) -> None:
    with pytest.raises(ModelUnavailable, match="something else"):
        completion(document)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, ModelRefused),
        (404, ModelRefused),
        (429, ModelUnavailable),
        (500, ModelUnavailable),
        (503, ModelUnavailable),
    ],
)
def test_an_error_documents_code_decides_what_it_amounts_to(
    code: int, kind: type[Exception]
) -> None:
    error = failure(Failure(message="because", code=code))
    assert type(error) is kind
    assert str(error) == "because"


async def test_a_refusal_is_raised_by_complete_and_passed_on_by_stream() -> None:
    model, _ = client(REFUSED)
    with pytest.raises(ModelRefused, match="too long"):
        await ask(model)
    model, _ = client(REFUSED)
    assert [document async for document in model.stream({})] == [REFUSED]


@pytest.mark.parametrize("error", [RayServeException("no app"), RayError("replica died")])
async def test_a_broken_app_is_unavailable_and_looked_up_again(error: Exception) -> None:
    model, _ = client(error=error)
    with pytest.raises(ModelUnavailable, match=r"no app|replica died"):
        await ask(model)
    assert model._handle is None


@pytest.mark.parametrize(
    ("error", "was_asked"),
    [(RayServeException("no app"), False), (RayError("it raised"), True), (RayActorError(), True)],
)
async def test_whether_a_replica_may_have_worked_on_it_is_said(
    error: Exception,
    was_asked: bool,  # noqa: FBT001 - pytest gives it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = (Response([], error, hangs=False) for _ in range(2))
    model, _ = client_of(*failing, monkeypatch=monkeypatch)
    with pytest.raises(ModelUnavailable) as unavailable:
        await ask(model)
    assert unavailable.value.was_asked is was_asked


async def test_the_replica_that_died_counts_though_there_is_none_to_take_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none_left = Response([], RayServeException("no replica"), hangs=False)
    model, _ = client_of(dying(), none_left, monkeypatch=monkeypatch)
    with pytest.raises(ModelUnavailable, match="no replica") as unavailable:
        await ask(model)
    assert unavailable.value.was_asked


class Handles(Handle):
    """A handle that gives another response each time."""

    def __init__(self, *responses: Response) -> None:
        super().__init__(responses[0])
        self.responses = [*responses]

    def remote(self, request: dict[str, JsonValue]) -> Response:
        self.response = self.responses.pop(0)
        return super().remote(request)


def dying(*documents: str) -> Response:
    return Response(documents, RayActorError(), hangs=False)


def client_of(*responses: Response, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelClient, Handles]:
    handles = Handles(*responses)
    monkeypatch.setattr("serve.inference._find", lambda _: handles)
    return ModelClient(), handles


async def test_a_replica_that_dies_before_it_said_anything_is_replaced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    well = Response([json.dumps(WHOLE)], None, hangs=False)
    model, handles = client_of(dying(), well, monkeypatch=monkeypatch)
    assert (await ask(model)).text == "hi"
    assert len(handles.requests) == 2
    model, handles = client_of(dying(), dying(), well, monkeypatch=monkeypatch)
    with pytest.raises(ReplicaLost):
        await ask(model)
    assert len(handles.requests) == 2


async def test_a_stream_that_has_begun_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, handles = client_of(dying("1"), dying(), monkeypatch=monkeypatch)
    stream = model.stream({"stream": True})
    assert await anext(stream) == "1"
    with pytest.raises(ReplicaLost):
        await anext(stream)
    assert len(handles.requests) == 1


async def test_a_second_replica_has_what_is_left_of_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = Response([], None, hangs=True)
    model, _ = client_of(dying(), hanging, monkeypatch=monkeypatch)
    with pytest.raises(ModelTimeout):
        await ask(model, deadline_s=0.05)
    assert hanging.cancelled


async def test_an_app_that_says_nothing_is_unavailable() -> None:
    model, _ = client()
    with pytest.raises(ModelUnavailable, match="nothing"):
        await ask(model)


async def test_the_deadline_ends_the_wait_and_the_work() -> None:
    model, handle = client(hangs=True)
    with pytest.raises(ModelTimeout, match=r"within 0\.05 s"):
        await ask(model, deadline_s=0.05)
    assert handle.response.cancelled


async def test_cancelling_a_completion_stops_the_work() -> None:
    model, handle = client(hangs=True)
    task = asyncio.create_task(ask(model))
    await handle.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handle.response.cancelled


async def test_closing_a_stream_early_stops_the_work() -> None:
    model, handle = client("1", "2")
    stream = model.stream({"stream": True})
    assert await anext(stream) == "1"
    await stream.aclose()
    assert handle.response.cancelled


async def test_a_stream_that_ended_is_not_cancelled() -> None:
    model, handle = client("1", "2")
    assert [document async for document in model.stream({"stream": True})] == ["1", "2"]
    assert not handle.response.cancelled


def test_a_client_pickles_without_its_handle() -> None:
    model, _ = client()
    copy: Any = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    assert copy._app == "model"
    assert copy._handle is None


async def test_a_request_goes_to_the_model_that_it_names() -> None:
    default, default_handle = client("1")
    named, named_handle = client("2")
    models = ServedModels(default, ModelClient(app="none"), {"larger": named})
    wanted: dict[str, JsonValue] = {"model": "larger"}
    assert [one async for one in models.stream(wanted, deadline_s=5)] == ["2"]
    assert [one async for one in models.stream({"model": "m"}, deadline_s=5)] == ["1"]
    assert (len(default_handle.requests), named_handle.requests) == (1, [wanted])


def test_the_model_for_every_role_keeps_the_name_of_its_app() -> None:
    assert app_of("qwen3-8b", default="qwen3-8b") == "model"
    assert app_of("qwen3-32b", default="qwen3-8b") == "model-qwen3-32b"
