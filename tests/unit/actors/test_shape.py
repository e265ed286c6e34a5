"""Whether an answer has the shape that was asked for."""

import urllib.request
from typing import Any

import pytest

from actors.errors import AnswerRejected, InvalidStep, UnknownRole
from actors.shape import (
    MAX_LEVELS,
    MAX_SCHEMA_BYTES,
    check_answer,
    check_schema,
    misfit,
    says_accepted,
)
from bus.payloads import NO_USAGE, AdoptedResult, Fork, RunSubmitted, StepAssigned
from tests.unit.actors.simulation import LISTING, answer_for


def test_an_answer_of_the_declared_shape_passes() -> None:
    check_answer("poet", "poem", LISTING, {"list": [], "accepted": True})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"list": "a", "accepted": True}, 'list: type "array"'),
        ({"list": []}, 'required ["list","accepted"]'),
        ({"list": [], "accepted": 1}, 'accepted: type "boolean"'),
        ({"list": [], "accepted": True, "secret": 1}, "additionalProperties false"),
    ],
)
def test_another_is_refused_by_the_rule_it_breaks(answer: dict[str, Any], reason: str) -> None:
    with pytest.raises(AnswerRejected) as refused:
        check_answer("poet", "poem", LISTING, answer)
    assert str(refused.value) == f"the answer of step poem does not fit its schema: {reason}"


def test_what_an_answer_says_is_not_repeated() -> None:
    with pytest.raises(AnswerRejected) as refused:
        check_answer("poet", "poem", LISTING, {"list": "do not tell", "accepted": True})
    assert "do not tell" not in str(refused.value)


PRICE: dict[str, Any] = {
    "type": "object",
    "properties": {"price": {"type": "number", "multipleOf": 0.01}},
}


@pytest.mark.parametrize(
    "number",
    [10**400, -(10**400), float("nan"), float("inf")],
    ids=["huge", "less than any", "none", "infinite"],
)
def test_a_number_that_no_schema_can_judge_is_refused(number: float) -> None:
    with pytest.raises(AnswerRejected):
        check_answer("poet", "poem", PRICE, {"price": number})
    assert misfit(PRICE, {"price": number}) is not None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_in_no_answer(number: float) -> None:
    with pytest.raises(AnswerRejected, match="a number that is none"):
        check_answer("poet", "poem", {"type": "object"}, {"deep": [{"in": number}]})


def nested(levels: int) -> dict[str, Any]:
    """Something that has so many levels."""
    inner: Any = "x"
    for _ in range(levels - 1):
        inner = [inner]
    return {"x": inner}


def test_what_is_accepted_can_be_read_wherever_it_is_handed_on() -> None:
    anything: dict[str, Any] = {"type": "object"}
    with pytest.raises(AnswerRejected, match="nested over 64 levels"):
        check_answer("poet", "poem", anything, nested(MAX_LEVELS + 1))
    deepest = nested(MAX_LEVELS)
    check_answer("poet", "poem", anything, deepest)
    assigned = StepAssigned(
        step="next",
        iteration=1,
        attempt=1,
        role="poet",
        objective="o",
        inputs={"poem": {"parts": [deepest] * 2}},
        deadline_s=1.0,
        each=deepest["x"],
    )
    assert StepAssigned.model_validate_json(assigned.model_dump_json()) == assigned
    adopted = AdoptedResult(
        step="poem", iteration=1, event="e", answer=deepest, model="m", usage=NO_USAGE
    )
    forked = RunSubmitted(
        objective="o",
        workflow="w",
        model="m",
        requested_by="ann",
        fork=Fork(parent="r1", at="e", adopted=(adopted,)),
    )
    assert RunSubmitted.model_validate_json(forked.model_dump_json()) == forked


def test_a_built_in_role_has_a_shape_of_its_own() -> None:
    check_answer("coder", "code", None, answer_for("coder", "code"))
    with pytest.raises(AnswerRejected, match="the answer is not a Code"):
        check_answer("coder", "code", None, {})


def test_a_role_that_nobody_knows_has_none() -> None:
    with pytest.raises(UnknownRole):
        check_answer("poet", "poem", None, {})


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "text"}, "is no JSON schema: type"),
        ({"properties": 7}, "is no JSON schema: properties"),
        ({"$ref": "https://example.org/schema"}, "refers to 'https://example.org/schema'"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "refers to 'file:///etc/passwd'"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "bytes, at most"),
        ({"type": "text", "description": "x" * MAX_SCHEMA_BYTES}, "bytes, at most"),
    ],
)
def test_what_is_no_schema_or_reads_elsewhere_is_refused(
    schema: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidStep, match=reason):
        check_schema("poem", schema)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/missing"}])
def test_a_schema_that_leads_nowhere_refuses_every_answer(schema: dict[str, Any]) -> None:
    check_schema("poem", schema)
    with pytest.raises(AnswerRejected, match="cannot be applied"):
        check_answer("poet", "poem", schema, {})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["a"], "$ref": "#/required"},
        {"allOf": [{}], "$ref": "#/allOf/x"},
        {"x": {"items": {"multipleOf": 0}}, "properties": {"a": {"$ref": "#/x"}}},
        {"x": {"pattern": "("}, "properties": {"b": {"$ref": "#/x"}}},
    ],
)
def test_a_schema_that_leads_to_what_is_none_refuses_every_answer(schema: dict[str, Any]) -> None:
    check_schema("poem", schema)
    answer: dict[str, Any] = {"a": [1], "b": "text"}
    with pytest.raises(AnswerRejected, match="cannot be applied"):
        check_answer("poet", "poem", schema, answer)
    assert misfit(schema, answer) == "its schema cannot be applied"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_is_fetched_for_a_schema_that_was_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", asked.append)
    with pytest.raises(AnswerRejected, match="cannot be applied"):
        check_answer("poet", "poem", {"$ref": "https://example.org/schema"}, {})
    assert asked == []


def test_a_schema_may_refer_to_its_own_parts() -> None:
    schema: dict[str, Any] = {
        "$defs": {"line": {"type": "string"}},
        "properties": {"lines": {"items": {"$ref": "#/$defs/line"}}},
    }
    check_schema("poem", schema)
    check_answer("poet", "poem", schema, {"lines": ["a"]})
    with pytest.raises(AnswerRejected, match=r"lines\.0: type"):
        check_answer("poet", "poem", schema, {"lines": [1]})


def test_a_verdict_is_a_boolean_that_must_be_there() -> None:
    assert says_accepted(LISTING)
    assert not says_accepted({**LISTING, "required": ["list"]})
    assert not says_accepted({"properties": {"accepted": {"type": "string"}}})
    assert not says_accepted({})
