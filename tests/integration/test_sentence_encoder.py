"""The embedding model that is installed, on the CPU."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from serve.embedder import load_encoder
from serve.embedding import Vector
from serve.encoder import Encoder
from serve.errors import ModelUnavailable
from serve.profile import load_profile
from serve.weights import ensure_weights

pytestmark = pytest.mark.timeout(120)
PROFILE = load_profile("all-minilm-l6-v2")


@pytest.fixture(scope="module")
async def encoder() -> Encoder:
    return load_encoder(PROFILE, await ensure_weights(PROFILE, Path("/nowhere")))


def cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def vectors(encoder: Encoder, texts: Sequence[str]) -> list[Vector]:
    return [vector for vector, _ in encoder.encode(texts)]


async def test_what_means_the_same_is_nearer_than_what_shares_words(encoder: Encoder) -> None:
    cat, feline, bank, river = vectors(
        encoder,
        [
            "The cat sat on the mat.",
            "A feline rested on a rug.",
            "The bank raised its interest rates.",
            "We walked along the bank of the river.",
        ],
    )
    assert cosine(cat, feline) > 0.5
    assert cosine(cat, feline) > cosine(cat, bank) + 0.3
    assert cosine(bank, river) < 0.5


async def test_a_vector_does_not_depend_on_what_it_is_computed_with(encoder: Encoder) -> None:
    texts = ["short", "a text of some more words than that " * 9, "and one between"]
    for text, together in zip(texts, vectors(encoder, texts), strict=True):
        (alone,) = vectors(encoder, [text])
        assert alone == pytest.approx(together, abs=1e-5)
        assert math.isclose(cosine(alone, alone), 1.0, abs_tol=1e-5)


async def test_tokens_are_counted_and_what_is_beyond_the_most_is_cut_off(encoder: Encoder) -> None:
    (short, words), (long, most) = encoder.encode(["two words", "word " * 1_000])
    (longer, _) = encoder.encode(["word " * 2_000])[0]
    assert (words, most) == (4, PROFILE.max_model_len)  # with the two that mark the ends
    assert long == pytest.approx(longer, abs=1e-5)
    assert cosine(short, long) < 0.9


async def test_weights_of_another_length_are_not_served_under_this_name() -> None:
    other = PROFILE.model_copy(update={"dimensions": 768})
    with pytest.raises(ModelUnavailable, match="384, all-minilm-l6-v2 says 768"):
        load_encoder(other, await ensure_weights(other, Path("/nowhere")))
