"""Values that the databases can hold.

Postgres takes no NUL character, in a text or in JSON; nobody takes half of a surrogate pair, which
JSON can spell and UTF-8 cannot. Whoever takes a value from outside checks it with these, so that
what is in the log can be stored.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, JsonValue

MAX_METADATA_CHARS: Final = 16_384
_Value = TypeVar("_Value", bound=object)


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield name
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _storable(value: _Value) -> _Value:
    for text in _texts(value):
        if "\0" in text:
            raise ValueError("must not contain NUL characters")
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise ValueError("must not contain half of a surrogate pair")
    return value


def _small(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(metadata, allow_nan=False, ensure_ascii=False)) > MAX_METADATA_CHARS:
        raise ValueError(f"must have at most {MAX_METADATA_CHARS:,} characters as JSON")
    return metadata


STORABLE: Final = AfterValidator(_storable)
"""To stand in the annotation of a text, or of JSON."""
Metadata = Annotated[dict[str, JsonValue], STORABLE, AfterValidator(_small)]
"""What somebody notes beside a text."""
