"""Embeddings from vLLM: what the Embedder answers, computed by an engine that pools.

The request is read and the answer is written by serve/embedding.py, as for every encoder, so that
a caller does not see which one computed it. The engine is asked for plain numbers.
"""

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from pydantic import BaseModel, JsonValue, TypeAdapter

from serve.completion import error_document
from serve.embedding import EmbeddingRequest, embedding_document, parse
from serve.errors import ModelRefused
from serve.profile import ModelProfile

CUT_OFF: Final = -1
"""As vLLM has it: at max_model_len, with the token that marks the end kept."""


def pooling_kwargs(profile: ModelProfile) -> dict[str, JsonValue]:
    """What vLLM's engine is told of a profile that embeds, beyond what every engine is."""
    if profile.task != "embed":
        return {}
    return {"runner": "pooling", "max_num_seqs": profile.batch}


async def embedded(server: Any, profile: ModelProfile, body: Mapping[str, JsonValue]) -> str:
    """The document that answers an OpenAI embedding request: vectors, or an error.

    Args:
        server: the started server of ray.serve.llm, which has no types.
        profile: embeds.
        body: of the request; it may leave out the model.
    """
    name = profile.served_name
    try:
        wanted = parse({"model": name, **body}, dimensions=profile.dimensions or 0)
    except ModelRefused as error:
        return error_document(str(error), 400)
    if wanted.model != name:
        return error_document(f"the model {wanted.model!r} does not exist", 404)
    async with aclosing(await server.embeddings(_engine_request(wanted))) as answers:
        async for answer in answers:
            return written(wanted, answer)
    raise TypeError("the engine yielded nothing")


def written(wanted: EmbeddingRequest, answer: BaseModel) -> str:
    """The document for what the engine said: an EmbeddingResponse or an ErrorResponse of vLLM.

    Raises:
        TypeError: it is neither, or has a vector too few or too many.
    """
    said = answer.model_dump(exclude_none=True)
    if said.get("error"):
        return json.dumps({"error": said["error"]})
    vectors = [one["embedding"] for one in sorted(said.get("data", ()), key=_index)]
    if len(vectors) != len(wanted.texts):
        raise TypeError(f"the engine gave {len(vectors)} vectors for {len(wanted.texts)} texts")
    return embedding_document(wanted, vectors, tokens=said["usage"]["prompt_tokens"])


def _index(one: Mapping[str, Any]) -> int:
    return int(one["index"])


def _engine_request(wanted: EmbeddingRequest) -> Any:
    # Only a replica comes here, which has imported vLLM.
    from ray.serve.llm import openai_api_models  # noqa: PLC0415

    kinds: TypeAdapter[Any] = TypeAdapter(openai_api_models.EmbeddingRequest)
    return kinds.validate_python(
        {"model": wanted.model, "input": wanted.texts, "truncate_prompt_tokens": CUT_OFF}
    )
