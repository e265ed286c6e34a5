"""Questions to the memory: signed, and of this moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from actors.errors import QuestionRefused
from actors.memory_question import Question, opened, signed
from bus.nkey import AgentKey

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
KEY = AgentKey.generate()


def question(**fields: object) -> Question:
    return Question.model_validate(
        {"text": "limits", "namespaces": ("shared",), "run": "r1", "asked_at": NOW, **fields}
    )


def test_what_was_signed_is_what_is_opened() -> None:
    filters = {"author": "coder/coder-1", "since": NOW, "metadata": {"lang": "en", "n": 1.0}}
    asked = question(kinds=("semantic",), limit=3, filters=filters)
    assert opened(signed(asked, KEY), now=NOW + timedelta(seconds=59)) == asked


@pytest.mark.parametrize("seconds", [-61, 61, 10_000])
def test_a_question_of_another_time_is_refused(seconds: int) -> None:
    with pytest.raises(QuestionRefused, match="another time"):
        opened(signed(question(), KEY), now=NOW + timedelta(seconds=seconds))


def test_every_changed_byte_is_noticed() -> None:
    sent = signed(question(), KEY)
    for at in range(len(sent.body)):
        body = sent.body[:at] + bytes([sent.body[at] ^ 1]) + sent.body[at + 1 :]
        with pytest.raises(QuestionRefused):
            opened(replace(sent, body=body), now=NOW)
    with pytest.raises(QuestionRefused):
        opened(replace(sent, public_key=AgentKey.generate().public), now=NOW)
    with pytest.raises(QuestionRefused):
        opened(replace(sent, public_key=""), now=NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"namespaces": ()},
        {"namespaces": ("../etc",)},
        {"namespaces": ("shared//x",)},
        {"namespaces": ("shared/**",)},
        {"limit": 0},
        {"limit": 101},
        {"run": "a.b"},
        {"item": "a/b"},
        {"kinds": ("other",)},
        {"after": ("a",)},
        {"after": ("a", "\0")},
        {"after": ("a" * 257, "")},
        {"filters": {"author": "coder"}},
        {"filters": {"metadata": {"a": "\0"}}},
    ],
)
def test_nonsense_cannot_be_asked(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        question(**fields)
