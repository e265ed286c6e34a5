"""What the databases could not hold is refused before it is in the log."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter, ValidationError

from bus.storable import MAX_METADATA_CHARS, STORABLE, Metadata

ANY: TypeAdapter[JsonValue] = TypeAdapter(Annotated[JsonValue, STORABLE])
METADATA: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(Metadata)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
PATHS = st.lists(st.sampled_from(["list", "value", "name"]), max_size=4)


@given(PLAIN)
def test_what_has_no_nul_is_left_as_it_is(value: JsonValue) -> None:
    assert ANY.validate_python(value) == value


@given(TEXTS, PLAIN, PATHS)
def test_a_nul_is_found_wherever_it_is(text: str, beside: JsonValue, path: list[str]) -> None:
    with pytest.raises(ValidationError, match="must not contain NUL characters"):
        ANY.validate_python(buried("\0", text, beside, path))


@given(TEXTS, PLAIN, PATHS, st.characters(categories=["Cs"]))
def test_half_of_a_pair_is_found_wherever_it_is(
    text: str, beside: JsonValue, path: list[str], half: str
) -> None:
    with pytest.raises(ValidationError, match="must not contain half of a surrogate pair"):
        ANY.validate_python(buried(half, text, beside, path))


def buried(bad: str, text: str, beside: JsonValue, path: list[str]) -> JsonValue:
    """A JSON value with a bad text somewhere in it."""
    value: JsonValue = f"{text}{bad}"
    for step in path:
        if step == "list":
            value = [beside, value]
        elif step == "value":
            value = {"beside": beside, "here": value}
        else:
            value = {f"{text}{bad}": beside}
    return value


def test_metadata_have_a_size() -> None:
    room = MAX_METADATA_CHARS - len('{"note": ""}')
    assert METADATA.validate_python({"note": "ü" * room})
    with pytest.raises(ValidationError, match="at most 16,384 characters as JSON"):
        METADATA.validate_python({"note": "ü" * (room + 1)})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_metadata_are_json(number: float) -> None:
    with pytest.raises(ValidationError, match="not JSON compliant"):
        METADATA.validate_python({"number": number})
