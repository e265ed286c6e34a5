"""Embeddings as OpenAI's API has them: the request that is read, and the document that answers it.

A vector is a list of numbers, or the base64 of 32-bit floats, low byte first, which is what
OpenAI's own client asks for.
"""

import json
import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from serve.errors import ModelRefused

MOST_TEXTS: Final = 2_048
"""Of one request, as OpenAI has it."""
Vector: TypeAlias = Sequence[float]
Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """What is read of an OpenAI embedding request.

    Attributes:
        model: what the caller calls it.
        input: a text, or several.
        encoding_format: how vectors are written.
        dimensions: how many numbers a vector must have; None leaves it to the model.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(gt=0)] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, each to be given a vector, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


def parse(body: dict[str, JsonValue], *, dimensions: int) -> EmbeddingRequest:
    """Read a request body for a model whose vectors have so many numbers.

    Raises:
        ModelRefused: It is no such request, or asks for vectors of another length.
    """
    try:
        request = EmbeddingRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise ModelRefused(f"{where}: {first['msg']}") from error
    if request.dimensions not in (None, dimensions):
        raise ModelRefused(f"dimensions: vectors of {request.model} have {dimensions}")
    return request


def embedding_document(request: EmbeddingRequest, vectors: Sequence[Vector], *, tokens: int) -> str:
    """The document that answers a request: a vector for each text, in their order."""
    written = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(vector) if request.encoding_format == "base64" else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    return json.dumps(
        {
            "object": "list",
            "data": written,
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _packed(vector: Vector) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
