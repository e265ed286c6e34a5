"""What agents judge the arguments of a server's tool by."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from actors.errors import InvalidTool
from actors.mcp_schema import MAX_DEPTH, MAX_NODES, bounded
from actors.shape import misfit

GREEDY = "^(a+)+$"
LONG = "a" * 40 + "!"


def doubling(levels: int) -> dict[str, Any]:
    """A few lines that stand for 2^levels schemas."""
    definitions: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)
    }
    return {"$defs": {**definitions, f"d{levels}": {}}, "$ref": "#/$defs/d0"}


def test_what_is_short_and_plain_stays_as_it_is() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"pattern": {"type": "string", "minLength": 1}, "not": {"enum": [{"a": 1}]}},
        "required": ["pattern"],
        "additionalProperties": False,
    }
    assert bounded(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": GREEDY}}},
        {"patternProperties": {GREEDY: {"type": "string"}}, "additionalProperties": False},
        {"propertyNames": {"pattern": GREEDY}},
        {"properties": {"a": {"$ref": "#/x"}}, "x": {"pattern": GREEDY}},
        {"properties": {"a": {"$ref": "#/const"}}, "const": {"pattern": GREEDY}},
    ],
)
def test_no_regular_expression_is_judged_by(schema: dict[str, Any]) -> None:
    copy = {name: each for name, each in bounded(schema).items() if name != "const"}
    assert GREEDY not in str(copy)
    assert misfit(copy, {"a": LONG, LONG: "b"}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"properties": {"a": {"pattern": "^x"}}, "required": ["a"]}},
        {"oneOf": [{"properties": {"a": {"pattern": p}}} for p in ("^x", "^y")]},
        {"if": {"properties": {"a": {"pattern": "^x"}}}, "then": {"required": ["b"]}},
        {"patternProperties": {"^a": {}}, "unevaluatedProperties": False},
        {"oneOf": [{"required": ["a"]}], "anyOf": [{"type": "object"}], "allOf": [{}]},
    ],
)
def test_what_the_server_takes_is_never_refused(schema: dict[str, Any]) -> None:
    value = {"a": "y"}
    assert Draft202012Validator(schema).is_valid(value)
    assert misfit(bounded(schema), value) is None


def test_a_reference_is_replaced_by_what_it_refers_to() -> None:
    schema: dict[str, Any] = {
        "properties": {
            "begin": {"$ref": "#/$defs/point", "description": "Where it begins"},
            "end": {"$ref": "#/properties/begin"},
            "both": {"$ref": "#/$defs/point", "required": ["x"]},
            "odd": {"$ref": "#/definitions/a~1b%20c/anyOf/1"},
        },
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "definitions": {"a/b c": {"anyOf": [{}, {"type": "null"}]}},
    }
    point = schema["$defs"]["point"]
    assert bounded(schema) == {
        "properties": {
            "begin": {**point, "description": "Where it begins"},
            "end": {**point, "description": "Where it begins"},
            "both": {"required": ["x"], "allOf": [point]},
            "odd": {"type": "null"},
        }
    }


def test_a_reference_into_itself_takes_anything() -> None:
    twice = [{"$ref": "#/$defs/tree"}] * 2
    tree: dict[str, Any] = {
        "type": "object",
        "properties": {"next": {"allOf": twice}},
        "required": ["next"],
    }
    copy = bounded({"$defs": {"tree": tree}, "properties": {"top": {"$ref": "#/$defs/tree"}}})
    value: dict[str, Any] = {}
    for _ in range(60):
        value = {"next": value}
    assert misfit(copy, {"top": value}) is None
    assert misfit(copy, {"top": {}}) == 'top: required ["next"]'
    assert bounded({"type": "object", "properties": {"a": {"$ref": "#"}}}) == {
        "type": "object",
        "properties": {"a": {}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        doubling(60),
        {"anyOf": [{}] * MAX_NODES},
        {
            "$ref": "#/$defs/0",
            "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(MAX_DEPTH)}
            | {str(MAX_DEPTH): {}},
        },
    ],
)
def test_a_schema_that_stands_for_too_many_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidTool, match="stands for more than 1000"):
        bounded(schema)


def test_a_schema_that_stands_for_some_is_taken() -> None:
    assert "$ref" not in str(bounded(doubling(7)))


@pytest.mark.parametrize(
    "reference",
    ["#/required", "#/allOf/x", "#/allOf/1", "#/allOf/-1", "#/missing", "#anchor", "elsewhere", ""],
)
def test_a_reference_to_what_is_no_schema_is_refused(reference: str) -> None:
    schema: dict[str, Any] = {"required": ["a"], "allOf": [{}], "items": {"$ref": reference}}
    with pytest.raises(InvalidTool, match="which is no schema"):
        bounded(schema)


@pytest.mark.parametrize("part", [{"items": 7}, {"allOf": {}}, {"anyOf": ["x"]}])
def test_what_is_reached_by_reference_is_judged_as_well(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidTool, match="a part of its schema"):
        bounded({"$ref": "#/x", "x": part})
