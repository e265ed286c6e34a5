"""Roles: each has a prompt, and an answer that a small model can finish."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

import actors.roles
from actors.errors import AnswerRejected, UnknownRole
from actors.roles import ROLES, TASKS, RoleSpec, role_spec
from policies.capabilities import Capabilities
from tests.unit.actors.simulation import answer_for, longest_answer

EVERY_TASK = pytest.mark.parametrize("spec", TASKS.values(), ids=lambda spec: spec.task)


def test_every_role_that_the_policy_lets_work_has_a_prompt() -> None:
    assert set(Capabilities.shipped().worker_roles) == set(ROLES)


def test_the_planner_does_what_its_step_is_named_after() -> None:
    assert role_spec("planner", "completion").task == "completion"
    assert role_spec("planner", "completion-api").task == "completion"
    assert role_spec("planner", "pseudocode").task == "pseudocode"
    assert role_spec("planner", "anything").task == "pseudocode"


def test_a_role_with_one_task_does_it_in_any_step() -> None:
    assert role_spec("coder", "completion").task == "code"


def test_an_unknown_role_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownRole, match="no role 'poet'; there are architect, coder, critic"):
        role_spec("poet", "poem")


@EVERY_TASK
def test_every_text_and_list_of_an_answer_is_bounded(spec: RoleSpec) -> None:
    for node in nodes_of(spec.schema):
        if node.get("type") == "string":
            assert "pattern" in node or "enum" in node or 1 <= int(str(node["maxLength"])) <= 400
        if node.get("type") == "array":
            assert 1 <= int(str(node["maxItems"])) <= 4
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
        assert "$ref" not in node


@EVERY_TASK
def test_the_longest_answer_ends_before_the_model_is_cut_off(spec: RoleSpec) -> None:
    """English takes four characters a token; three leave room for names and code."""
    longest = longest_answer(spec)
    spec.answer.model_validate(longest)
    assert len(json.dumps(longest)) < 3 * spec.max_tokens


@EVERY_TASK
def test_every_field_is_described_to_the_model(spec: RoleSpec) -> None:
    assert all(field.get("description") for field in spec.fields().values())


@EVERY_TASK
def test_a_prompt_is_short_and_names_its_role(spec: RoleSpec) -> None:
    assert spec.prompt.startswith(f"You are the {spec.name} of a software team.")
    assert len(spec.prompt) < 600


@EVERY_TASK
def test_an_answer_of_the_shape_is_read_back_as_it_was(spec: RoleSpec) -> None:
    answer = answer_for(spec.name, spec.task)
    assert spec.read(json.dumps(answer)) == answer


@EVERY_TASK
def test_a_spec_crosses_processes(spec: RoleSpec) -> None:
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - our own bytes


def test_the_judge_gives_its_reasons_before_its_verdict() -> None:
    assert list(role_spec("judge", "verdict").fields()) == ["reasons", "changes", "accepted"]


def test_types_are_taken_as_they_are() -> None:
    verdict = answer_for("judge", "verdict") | {"accepted": "true"}
    with pytest.raises(AnswerRejected, match="accepted: Input should be a valid boolean"):
        role_spec("judge", "verdict").read(json.dumps(verdict))


def test_an_answer_cannot_be_changed() -> None:
    spec = role_spec("coder", "code")
    answer = spec.answer.model_validate(answer_for("coder", "code"))
    with pytest.raises(ValidationError, match="frozen"):
        answer.language = "go"  # type: ignore[attr-defined]


def test_every_prompt_file_belongs_to_a_task() -> None:
    folder = Path(actors.roles.__file__).parent
    texts = {path.read_text(encoding="utf-8").strip() for path in folder.glob("*.md")}
    told = {spec.prompt_with_tools for spec in TASKS.values()} - {""}
    assert texts == {spec.prompt for spec in TASKS.values()} | told


def nodes_of(schema: JsonValue) -> Iterator[dict[str, JsonValue]]:
    """Every object of a JSON schema, itself included."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from nodes_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from nodes_of(part)


@pytest.mark.parametrize("spec", TASKS.values(), ids=lambda spec: spec.task)
def test_no_text_is_bound_both_by_a_pattern_and_by_a_length(spec: RoleSpec) -> None:
    """vLLM refuses such a schema: xgrammar would ignore the length."""

    def texts(schema: object) -> Iterator[dict[str, object]]:
        if isinstance(schema, dict):
            if schema.get("type") == "string":
                yield schema
            for part in schema.values():
                yield from texts(part)

    for text in texts(spec.schema):
        assert not ("pattern" in text and {"minLength", "maxLength"} & text.keys())
