"""Embeddings: what is read, what is written, and the stand-in that makes them without a model."""

import json
import math
import struct
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from serve.embedding import MOST_TEXTS, embedding_document, parse
from serve.encoder import HashedWords
from serve.errors import ModelRefused

ASKED: dict[str, JsonValue] = {"model": "m", "input": ["one", "two"]}
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_one_text_and_several_are_read_alike() -> None:
    assert parse(ASKED, dimensions=3).texts == ["one", "two"]
    assert parse({**ASKED, "input": "one"}, dimensions=3).texts == ["one"]
    assert parse({**ASKED, "dimensions": 3, "user": "u"}, dimensions=3).dimensions == 3


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["one", ""]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": None}, "input"),
        ({"input": ["x"] * (MOST_TEXTS + 1)}, "input"),
        ({"model": 3}, "model"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 2}, "dimensions: vectors of m have 3"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_refused(wrong: dict[str, JsonValue], where: str) -> None:
    with pytest.raises(ModelRefused, match=where):
        parse({**ASKED, **wrong}, dimensions=3)


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=2, max_size=2))
def test_both_ways_of_writing_say_the_same(vectors: list[tuple[float, ...]]) -> None:
    plain, packed = (
        json.loads(embedding_document(parse({**ASKED, **how}, dimensions=3), vectors, tokens=5))
        for how in ({}, {"encoding_format": "base64"})
    )
    assert plain["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert [each["index"] for each in plain["data"]] == [0, 1]
    for one, other in zip(plain["data"], packed["data"], strict=True):
        assert struct.unpack("<3f", b64decode(other["embedding"])) == tuple(one["embedding"])


@given(st.text())
def test_a_vector_of_hashed_words_has_length_one_and_is_always_the_same(text: str) -> None:
    encoder = HashedWords(16)
    ((vector, count),) = encoder.encode([text])
    assert len(vector) == 16
    assert math.isclose(sum(number * number for number in vector), 1.0)
    assert encoder.encode(["other", text])[1] == (vector, count)


def test_texts_that_share_words_are_alike() -> None:
    texts = ["The cat sat on the mat", "the cat sat", "prices of steel fell"]
    (cat, six), (short, _), (steel, _) = HashedWords(384).encode(texts)
    assert six == 6
    assert sum(a * b for a, b in zip(cat, short, strict=True)) > 0.7
    assert abs(sum(a * b for a, b in zip(cat, steel, strict=True))) < 0.5
