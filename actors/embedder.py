"""The port through which the memory has texts turned into vectors."""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Something that knows what a text is about."""

    async def embed(self, texts: Sequence[str], *, deadline_s: float) -> list[tuple[float, ...]]:
        """A vector for each text, in order; vectors near each other are about the same.

        Raises:
            serve.errors.ModelUnavailable: nobody answers, for now.
            serve.errors.ModelRefused: a text is at fault.
            serve.errors.ModelTimeout: the deadline passed.
        """
        ...
