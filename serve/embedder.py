"""Embeddings as a Serve deployment: requests of many callers are computed together."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import structlog
from pydantic import JsonValue
from ray import serve

from serve.completion import error_document
from serve.embedding import Vector, embedding_document, parse
from serve.encoder import Encoder, HashedWords, SentenceEncoder
from serve.errors import ModelRefused, ModelUnavailable
from serve.profile import ModelProfile

log = structlog.get_logger()
BATCH_WAIT_S = 0.0
"""A text waits for no others: those that come while a batch is computed are the next one."""


class Embedder:
    """A replica of an embedding model; it answers the task `embedding` of serve/inference.py."""

    def __init__(self, profile: ModelProfile, weights: str) -> None:
        self._profile = profile
        self._weights = weights
        self._created = int(time.time())
        self._encoder: Encoder | None = None

    async def reconfigure(self, _: object) -> None:
        """Load the model; Serve calls this before it sends a request."""
        if self._encoder is not None:
            return
        began = time.monotonic()
        self._encoder = await asyncio.to_thread(load_encoder, self._profile, self._weights)
        cast("Any", self._together).set_max_batch_size(self._profile.batch)
        log.info(
            "embedder.started",
            model=self._profile.served_name,
            seconds=round(time.monotonic() - began, 1),
        )

    async def embedding(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Answer an OpenAI embedding request with one document."""
        name = self._profile.served_name
        try:
            wanted = parse({"model": name, **request}, dimensions=self._profile.dimensions or 0)
        except ModelRefused as error:
            yield error_document(str(error), 400)
            return
        if wanted.model != name:
            yield error_document(f"the model {wanted.model!r} does not exist", 404)
            return
        made = await asyncio.gather(*(self._together(text) for text in wanted.texts))
        tokens = sum(count for _, count in made)
        yield embedding_document(wanted, [vector for vector, _ in made], tokens=tokens)

    @serve.batch(batch_wait_timeout_s=BATCH_WAIT_S)
    async def _together(self, texts: list[str]) -> list[tuple[Vector, int]]:
        if self._encoder is None:
            raise ModelUnavailable("the embedding model has not been loaded")
        return await asyncio.to_thread(self._encoder.encode, texts)

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of models, of which there is one."""
        model: dict[str, JsonValue] = {
            "id": self._profile.served_name,
            "object": "model",
            "created": self._created,
            "owned_by": "swarm",
            "dimensions": self._profile.dimensions,
            "max_model_len": self._profile.max_model_len,
        }
        return {"object": "list", "data": [model]}

    async def check_health(self) -> None:
        """Raise when nothing is loaded."""
        if self._encoder is None:
            raise ModelUnavailable("the embedding model has not been loaded")


def load_encoder(profile: ModelProfile, weights: str) -> Encoder:
    """The encoder of a profile that embeds. Blocks for seconds while it loads.

    Raises:
        ModelUnavailable: its vectors are not as the profile says.
    """
    if profile.engine == "scripted":
        return HashedWords(profile.dimensions or 0)
    encoder = SentenceEncoder(Path(weights), profile.max_model_len)
    refuse_other_length(profile, weights, encoder.dimensions)
    return encoder


def refuse_other_length(profile: ModelProfile, weights: str, found: int) -> None:
    """Return if the vectors that were found are as long as the profile says.

    Raises:
        ModelUnavailable: they are not.
    """
    if found != profile.dimensions:
        raise ModelUnavailable(
            f"{weights} has vectors of {found}, {profile.name} says {profile.dimensions}"
        )
