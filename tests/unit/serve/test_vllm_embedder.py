"""What an engine that pools is asked, and how its answer is written."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from serve import vllm_embedder
from serve.embedding import EmbeddingRequest, embedding_document, parse
from serve.profile import load_profile
from serve.vllm_embedder import embedded

PROFILE = load_profile("all-minilm-l6-v2-gpu").model_copy(update={"dimensions": 2})
VECTORS: dict[str, list[float]] = {"a": [0.6, 0.8], "b": [1.0, 0.0], "c": [0.0, 1.0]}


class Said(BaseModel):
    data: list[dict[str, JsonValue]]
    usage: dict[str, int]


class Reason(BaseModel):
    message: str
    type: str
    code: int
    param: str | None = None


class Refused(BaseModel):
    error: Reason


class Server:
    """Answers as vLLM's does, last text first, or with what it is given."""

    def __init__(self, answer: BaseModel | None = None) -> None:
        self.answer = answer
        self.asked: list[EmbeddingRequest] = []

    async def embeddings(self, request: EmbeddingRequest) -> AsyncGenerator[BaseModel, None]:
        self.asked.append(request)
        return self._stream(request)

    async def _stream(self, request: EmbeddingRequest) -> AsyncGenerator[BaseModel, None]:
        made: list[dict[str, JsonValue]] = [
            {"index": index, "embedding": list(VECTORS[text])}
            for index, text in enumerate(request.texts)
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        yield self.answer or Said(data=made[::-1], usage=usage)


@pytest.fixture(autouse=True)
def _without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_embedder, "_engine_request", lambda wanted: wanted)


async def ask(server: Server, body: dict[str, JsonValue]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await embedded(server, PROFILE, body))
    return document


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_vectors_are_written_as_the_embedder_writes_them(form: str) -> None:
    body: dict[str, JsonValue] = {"input": ["a", "b", "c"], "encoding_format": form}
    wanted = parse({"model": PROFILE.served_name, **body}, dimensions=2)
    expected = embedding_document(wanted, list(VECTORS.values()), tokens=7)
    assert await embedded(Server(), PROFILE, body) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": ""}, 400),
        ({"input": []}, 400),
        ({"input": "a", "dimensions": 384}, 400),
        ({"input": "a", "encoding_format": "hex"}, 400),
        ({"input": "a", "model": "text-embedding-3-small"}, 404),
    ],
)
async def test_what_is_wrong_is_said_without_asking_the_engine(
    body: dict[str, JsonValue], code: int
) -> None:
    server = Server()
    assert (await ask(server, body))["error"]["code"] == code
    assert server.asked == []


async def test_what_the_engine_refuses_is_passed_on() -> None:
    reason = Reason(message="no", type="BadRequestError", code=400)
    assert await ask(Server(Refused(error=reason)), {"input": "a"}) == {
        "error": {"message": "no", "type": "BadRequestError", "code": 400}
    }


async def test_a_vector_too_few_is_no_answer() -> None:
    few = Said(data=[{"index": 0, "embedding": [1.0, 0.0]}], usage={"prompt_tokens": 1})
    with pytest.raises(TypeError, match="1 vectors for 2 texts"):
        await ask(Server(few), {"input": ["a", "b"]})
