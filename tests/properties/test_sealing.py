"""What is personal, whatever it is: sealed, opened again, and never opened wrongly."""

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import MalformedEvent
from bus.event import Draft
from bus.payload import Payload
from bus.payloads import (
    PAYLOADS,
    AdoptedResult,
    Fork,
    RunSubmitted,
    StepAssigned,
    StepCompleted,
    Usage,
)
from bus.sealing import opened_body, sealed_body, withheld_body

KEYS = st.binary(min_size=32, max_size=32)
TEXTS = st.text(min_size=1, max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANSWERS = st.dictionaries(st.text(), JSON, max_size=4)
USAGE: Final = Usage(prompt_tokens=1, completion_tokens=2)

submissions = st.builds(
    lambda objective, who, told, answer: RunSubmitted(
        objective=objective,
        workflow="sparc",
        model="m",
        requested_by=who,
        instructions={"plan": told},
        deadline_s=1.5,
        fork=Fork(
            parent="r1",
            at="e1",
            adopted=(
                AdoptedResult(
                    step="plan", iteration=1, event="e1", answer=answer, model="m", usage=USAGE
                ),
            ),
        ),
    ),
    TEXTS,
    st.text(min_size=1, max_size=64),
    TEXTS,
    ANSWERS,
)
assignments = st.builds(
    lambda objective, inputs, each: StepAssigned(
        step="plan",
        iteration=1,
        attempt=1,
        role="planner",
        objective=objective,
        inputs=inputs,
        deadline_s=300,
        each=each,
    ),
    TEXTS,
    st.dictionaries(st.text(), ANSWERS, max_size=2),
    JSON,
)
completions = st.builds(
    lambda answer: StepCompleted(
        step="plan", iteration=1, attempt=1, epoch=1, answer=answer, model="m", usage=USAGE,
        duration_ms=3,
    ),
    ANSWERS,
)  # fmt: skip
payloads: st.SearchStrategy[Payload] = st.one_of(submissions, assignments, completions)

personal_types = pytest.mark.parametrize(
    "model", [each for each in PAYLOADS.values() if each.PERSONAL], ids=lambda each: each.TYPE
)


@given(payloads, KEYS, st.binary())
def test_what_was_sealed_comes_out_as_the_same_bytes(
    payload: Payload, key: bytes, binding: bytes
) -> None:
    body = sealed_body(payload, key, binding=binding)
    assert opened_body(body, type(payload), key, binding=binding) == (
        payload.model_dump_json().encode()
    )


@given(payloads, KEYS)
def test_the_same_thing_said_twice_is_the_same_bytes(payload: Payload, key: bytes) -> None:
    again = payload.model_copy(deep=True)
    assert sealed_body(payload, key, binding=b"e") == sealed_body(again, key, binding=b"e")


@given(payloads, KEYS)
def test_nothing_personal_is_in_the_clear(payload: Payload, key: bytes) -> None:
    clear = json.loads(sealed_body(payload, key, binding=b"e"))
    assert clear.keys() == {*type(payload).model_fields, "sealed"} - payload.PERSONAL.keys()


@given(payloads, KEYS, KEYS, st.binary(), st.binary())
def test_another_key_or_another_event_opens_nothing(
    payload: Payload, key: bytes, other: bytes, binding: bytes, elsewhere: bytes
) -> None:
    body = sealed_body(payload, key, binding=binding)
    if other != key:
        assert opened_body(body, type(payload), other, binding=binding) is None
    if elsewhere != binding:
        with pytest.raises(MalformedEvent):
            opened_body(body, type(payload), key, binding=elsewhere)


@given(completions, KEYS, st.data())
def test_a_changed_byte_of_the_box_opens_nothing(
    payload: StepCompleted, key: bytes, data: st.DataObject
) -> None:
    body = sealed_body(payload, key, binding=b"e")
    start = body.index(b'"sealed":"') + len(b'"sealed":"') + len(b"of the key.")
    place = data.draw(st.integers(start, len(body) - 3))
    other = data.draw(
        st.sampled_from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ").filter(lambda b: b != body[place])
    )
    with pytest.raises(MalformedEvent):
        opened_body(
            body[:place] + bytes([other]) + body[place + 1 :], StepCompleted, key, binding=b"e"
        )


@given(payloads, st.none() | KEYS)
def test_who_has_no_key_reads_what_stands_in_its_place(payload: Payload, key: bytes | None) -> None:
    body = withheld_body(sealed_body(payload, key, binding=b"e"), type(payload))
    seen = type(payload).model_validate_json(body)
    assert seen == type(payload).model_validate({**payload.model_dump(), **payload.PERSONAL})


@given(payloads)
def test_of_a_forgotten_person_a_draft_keeps_nothing(payload: Payload) -> None:
    draft = Draft(run="r1", payload=payload, id="e1", on_behalf_of="ann").sealed_under(None)
    assert draft.payload == type(payload).model_validate(
        {**payload.model_dump(), **payload.PERSONAL}
    )


def test_a_field_that_became_personal_later_is_still_read() -> None:
    """Payloads grow; what was sealed before is opened by its own word."""
    payload = StepCompleted(
        step="plan", iteration=1, attempt=1, epoch=1, answer={"a": 1}, model="m", usage=USAGE,
        duration_ms=3,
    )  # fmt: skip

    class Later(StepCompleted):
        PERSONAL = {"answer": {}, "model": "[erased]"}  # noqa: RUF012 - as the class above has it

    body = sealed_body(payload, bytes(32), binding=b"e")
    opened = opened_body(body, Later, bytes(32), binding=b"e")
    assert opened == payload.model_dump_json().encode()
    assert json.loads(withheld_body(body, Later))["model"] == "m"


def test_a_field_that_is_both_sealed_and_in_the_clear_is_malformed() -> None:
    payload = StepCompleted(
        step="plan", iteration=1, attempt=1, epoch=1, answer={}, model="m", usage=USAGE,
        duration_ms=3,
    )  # fmt: skip
    body = sealed_body(payload, bytes(32), binding=b"e")
    with pytest.raises(MalformedEvent):
        opened_body(body[:-1] + b',"answer":{"x":1}}', StepCompleted, bytes(32), binding=b"e")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"sealed": 1}',
        b'{"sealed": "?"}',
    ],
)
def test_what_is_not_sealed_as_it_has_to_be_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        opened_body(body, StepCompleted, bytes(32), binding=b"e")


@personal_types
def test_what_stands_in_the_place_of_a_field_is_of_its_kind(model: type[Payload]) -> None:
    for name, placeholder in model.PERSONAL.items():
        model.__pydantic_validator__.validate_assignment(model.model_construct(), name, placeholder)
        assert name in model.model_fields
