"""What turns texts into vectors: a sentence encoder on torch, and a stand-in without a model.

Both give vectors of length one, so that the scalar product of two is their cosine.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from serve.embedding import Vector

_WORD: Final = re.compile(r"\w+")


class Encoder(Protocol):
    """Turns texts into vectors."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    def encode(self, texts: Sequence[str]) -> list[tuple[Vector, int]]:
        """A vector and the count of tokens for each text. Blocks while it computes."""
        ...


class HashedWords:
    """Counts words in places that their hashes choose: alike is what shares words.

    No model: the same text gets the same vector on every machine (Weinberger et al. 2009, Feature
    Hashing for Large Scale Multitask Learning).
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def encode(self, texts: Sequence[str]) -> list[tuple[Vector, int]]:
        """A vector and the count of words for each text."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> tuple[Vector, int]:
        words = _WORD.findall(text.lower())
        numbers = [0.0] * self.dimensions
        for word, count in Counter(words).items():
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            place = int.from_bytes(digest[:4], "big") % self.dimensions
            numbers[place] += math.copysign(1.0 + math.log(count), digest[4] - 127.5)
        size = math.sqrt(sum(number * number for number in numbers))
        if size == 0.0:  # no word, or words that cancel out
            return [1.0, *numbers[1:]], len(words)
        return [number / size for number in numbers], len(words)


class SentenceEncoder:
    """A BERT that was trained to embed sentences: the mean of its token vectors, of length one.

    Args:
        folder: `config.json`, `model.safetensors` and `tokenizer.json`.
        max_tokens: what is longer is cut off.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        import torch  # noqa: PLC0415  # seconds, which importers need not pay
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

        self._torch = torch
        self._max_tokens = max_tokens
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)  # nosec B615
        self._model: Any = AutoModel.from_pretrained(folder).eval()  # nosec B615
        self.dimensions = int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> list[tuple[Vector, int]]:
        """A vector and the count of tokens for each text."""
        read = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        with self._torch.inference_mode():
            states = self._model(**read).last_hidden_state
            mask = read["attention_mask"].unsqueeze(-1).to(states.dtype)
            means = (states * mask).sum(1) / mask.sum(1)
            vectors = self._torch.nn.functional.normalize(means, dim=1).tolist()
        counts = read["attention_mask"].sum(1).tolist()
        return list(zip(vectors, counts, strict=True))
