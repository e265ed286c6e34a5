"""What a search of the memory may be narrowed to."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from storage.memory_filter import UNFILTERED, MemoryFilters


def test_nothing_is_asked_for_where_nothing_is_set() -> None:
    assert not UNFILTERED.is_set
    assert not MemoryFilters(metadata={}).is_set
    assert MemoryFilters(metadata={"a": None}).is_set
    assert MemoryFilters(run="r1").is_set


def test_values_stay_what_they_are() -> None:
    values = {"a": True, "b": 1, "c": 1.5, "d": "1", "e": None}
    read = MemoryFilters.model_validate_json(MemoryFilters(metadata=values).model_dump_json())
    assert [(type(each), each) for each in read.metadata.values()] == [
        (type(each), each) for each in values.values()
    ]


def test_times_are_of_any_zone() -> None:
    filters = MemoryFilters.model_validate({"since": "2026-11-01T02:00:00+02:00"})
    assert filters.since == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {"author": "coder"},
        {"author": "coder/coder-1/x"},
        {"author": "coder/\0"},
        {"run": "a.b"},
        {"since": "2026-11-01T00:00:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"before": "9999-12-31T23:59:59-14:00"},
        {"since": "2026-11-02T00:00:00Z", "before": "2026-11-02T00:00:00Z"},
        {"metadata": {f"k{n}": n for n in range(9)}},
        {"metadata": {"a": ["x"]}},
        {"metadata": {"a": {"b": 1}}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": float("inf")}},
        {"metadata": {"a": "\0"}},
        {"metadata": {"\0": "a"}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": "x" * 1_025}},
        {"metadata": {"x" * 257: "a"}},
        {"metadata": {f"k{n}": 10**4_000 for n in range(8)}},
        {"other": 1},
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MemoryFilters.model_validate(fields)
