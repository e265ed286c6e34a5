"""Whatever the sampler makes, an independent validator accepts."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, JsonValue

from serve.errors import ModelRefused
from serve.sample import Sampler

WORDS = ["write", "a", "parser", "for", "ini", "files"]


def sample(schema: dict[str, JsonValue], seed: bytes = b"") -> JsonValue:
    return Sampler(root=schema, seed=seed, words=WORDS).value(schema)


def bounded(key: str, most: int) -> st.SearchStrategy[dict[str, JsonValue]]:
    """Optional, ordered bounds min<key> and max<key>."""
    pair = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    return pair.flatmap(
        lambda ends: st.sampled_from(
            [
                {},
                {f"min{key}": ends[0]},
                {f"max{key}": ends[1]},
                {f"min{key}": ends[0], f"max{key}": ends[1]},
            ]
        )
    )


TEXTS = bounded("Length", 120).map(lambda bounds: {"type": "string", **bounds})
FORMATS = st.sampled_from(["date", "date-time", "uuid", "email", "uri"]).map(
    lambda name: {"type": "string", "format": name}
)
PATTERNS = st.sampled_from(["^[a-z0-9-]+$", "^[a-z_]+$", r"^\d+\.\d+\.\d+$", "^[A-Z]"]).map(
    lambda pattern: {"type": "string", "pattern": pattern}
)
INTEGERS = bounded("imum", 1000).map(lambda bounds: {"type": "integer", **bounds})
NUMBERS = bounded("imum", 1000).map(lambda bounds: {"type": "number", **bounds})
STRICT = st.tuples(st.integers(-50, 50), st.integers(2, 50)).map(
    lambda ends: {
        "type": "integer",
        "exclusiveMinimum": ends[0],
        "exclusiveMaximum": ends[0] + ends[1],
    }
)
CHOICES = st.lists(st.text() | st.integers(), min_size=1, max_size=4, unique_by=repr).map(
    lambda values: {"enum": values}
)
CONSTANTS = (st.text() | st.booleans() | st.none()).map(lambda value: {"const": value})
PLAIN = st.one_of(
    *(TEXTS, FORMATS, PATTERNS, INTEGERS, NUMBERS, STRICT, CHOICES, CONSTANTS),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"$ref": "#/$defs/Shared"}),
)
NAMES = st.sampled_from(["title", "steps", "accepted", "score", "code", "note", "1", "a/b~c"])


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    objects = st.dictionaries(NAMES, inner, max_size=4).flatmap(
        lambda properties: st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.just(properties),
                "required": st.lists(st.sampled_from([*properties, "loose"]), unique=True)
                if properties
                else st.just([]),
                "title": st.sampled_from(["Plan", "Review of Code"]),
            }
        )
    )
    closed = st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }
    )
    arrays = st.tuples(bounded("Items", 4), inner).map(
        lambda pair: {"type": "array", "items": pair[1], **pair[0]}
    )
    mappings = inner.map(lambda one: {"type": "object", "additionalProperties": one})
    nullable = inner.map(lambda one: {"anyOf": [one, {"type": "null"}], "default": None})
    return st.one_of(objects, closed, arrays, mappings, nullable)


SCHEMAS = st.recursive(PLAIN, nested, max_leaves=8)
SHARED = st.one_of(TEXTS, INTEGERS, CHOICES)


@given(schema=SCHEMAS, shared=SHARED, seed=st.binary(max_size=8))
def test_a_value_is_valid_under_its_schema(
    schema: dict[str, JsonValue], shared: dict[str, JsonValue], seed: bytes
) -> None:
    whole: dict[str, JsonValue] = {**schema, "$defs": {"Shared": shared}}
    Draft202012Validator.check_schema(whole)
    value = sample(whole, seed)
    checker = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    checker.validate(value)
    assert sample(whole, seed) == value


class Leaf(BaseModel):
    kind: Literal["leaf"]
    weight: float = Field(gt=0, lt=1)


class Branch(BaseModel):
    kind: Literal["branch"]
    children: list["Branch | Leaf"] = Field(max_length=3)
    parent: "Branch | None" = None


class Tree(BaseModel):
    root: Branch | Leaf = Field(discriminator="kind")
    labels: set[Literal["a", "b", "c"]] = Field(min_length=3)
    counts: dict[str, int]
    pair: tuple[int, str]


def test_a_schema_that_contains_itself_comes_to_an_end() -> None:
    for seed in (b"", b"1", b"2"):
        Tree.model_validate(sample(Tree.model_json_schema(), seed))


def test_an_accepted_flag_is_true_whatever_the_seed() -> None:
    schema: dict[str, JsonValue] = {"properties": {"accepted": {"type": "boolean"}}}
    assert {str(sample(schema, bytes([seed]))) for seed in range(20)} == {"{'accepted': True}"}


def test_other_flags_depend_on_the_seed() -> None:
    schema: dict[str, JsonValue] = {"properties": {"late": {"type": "boolean"}}}
    assert len({str(sample(schema, bytes([seed]))) for seed in range(20)}) == 2


def test_texts_carry_the_title_and_quote_the_words() -> None:
    text = sample({"type": "string", "title": "Acceptance Criteria"})
    assert isinstance(text, str)
    assert text.startswith("Acceptance criteria")
    assert '"a parser for ini files"' in text or '"write a parser for ini"' in text


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "tuple"},  # no such type
        {"type": "integer", "minimum": 1, "maximum": 4, "multipleOf": 5},  # no such number
        {"type": "string", "pattern": "^(foo|bar){7}$"},  # no plain word matches
        {"type": "string", "pattern": "("},  # not a pattern
        {"type": "string", "format": "uuid", "maxLength": 3},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},  # itself and nothing else
    ],
)
def test_a_schema_without_a_findable_value_is_refused(schema: JsonValue) -> None:
    root = schema if isinstance(schema, dict) else {}
    with pytest.raises(ModelRefused):
        Sampler(root=root, seed=b"", words=WORDS).value(schema)


def test_an_endless_schema_is_refused() -> None:
    node: dict[str, JsonValue] = {"$ref": "#/$defs/Node"}
    schema: dict[str, JsonValue] = {
        "$ref": "#/$defs/Node",
        "$defs": {"Node": {"type": "object", "properties": {"next": node}, "required": ["next"]}},
    }
    with pytest.raises(ModelRefused, match="no end"):
        sample(schema)
