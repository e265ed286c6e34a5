"""An answer asked for again: the prompt from the log, and where the new answer differs."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from actors.attempt import Spent
from actors.errors import CannotCheck
from actors.model import Completion, Engine, ModelRequest
from actors.question import TEMPERATURE, Meter
from actors.recheck import (
    Recorded,
    difference,
    engine_changes,
    is_same_model,
    question_of,
    recorded_in,
)
from actors.rework import at_once
from actors.roles import role_spec
from actors.step_agent import ask_model
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import StepAssigned, StepClaimed, StepCompleted, StepFailed
from tests.recording import Recording
from tests.unit.actors.simulation import answer_for

SPEC = role_spec("specifier", "specification")
ENGINE = Engine(name="vllm", version="0.29.0", weights="ab" * 32)
ANSWER = answer_for("specifier", "specification")
TEXT = json.dumps(ANSWER)


@dataclass
class Canned:
    """A model that gives one answer."""

    text: str = TEXT

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:  # noqa: ARG002 - the port has it
        return Completion(
            text=self.text, prompt_tokens=1, completion_tokens=1, model="m", engine=ENGINE
        )


def spent_on(run: str, assigned: StepAssigned) -> Spent:
    """What an agent hands in with its answer."""
    meter = Meter(Canned())
    at_once(ask_model(meter, SPEC, run, assigned))
    assert meter.spent is not None
    return meter.spent


def begun() -> tuple[Recording, StoredEvent]:
    """A run, and the claim of its first step."""
    recording = Recording()
    recording.submit()
    recording.settle()
    return recording, recording.claim(recording.open()[0])


def told(
    recording: Recording, claim: StoredEvent, *, failed: bool = False, **fields: Any
) -> StoredEvent:
    """The agent's word on its attempt, with the receipt that an agent makes out."""
    work = claim.payload()
    assert isinstance(work, StepClaimed)
    assigned = recording.open()[0].payload()
    assert isinstance(assigned, StepAssigned)
    spent = spent_on(recording.run, assigned)
    common = {
        **work.model_dump(include={"step", "iteration", "attempt", "item", "epoch"}),
        "model": spent.model,
        "usage": spent.usage,
        "receipt": spent.receipt,
        "digests": spent.digests,
    }
    payload: StepCompleted | StepFailed = (
        StepFailed.model_validate(
            {**common, "code": "x", "message": "no", "retryable": True, **fields}
        )
        if failed
        else StepCompleted.model_validate({**common, "answer": ANSWER, "duration_ms": 1, **fields})
    )
    draft = Draft(
        run=recording.run,
        payload=payload,
        id=derive_id("told", claim.event.id),
        suffix=("specifier",),
        cause=claim.event.id,
    )
    return recording.say("specifier-1", draft)


def an_answer(*, failed: bool = False, **fields: Any) -> Recorded:
    recording, claim = begun()
    event = told(recording, claim, failed=failed, **fields)
    return recorded_in(recording.read(), event.event.id)


def test_the_prompt_is_built_again_from_the_log() -> None:
    recorded = an_answer()
    question = question_of(recorded, SPEC).request
    assert question.messages[0].role == "system"
    assert "Design a rate limiter" in question.messages[1].content
    assert question.temperature == TEMPERATURE == recorded.receipt.temperature
    assert recorded.receipt.weights == ENGINE.weights
    assert recorded.answer == ANSWER


def test_the_sampling_is_the_one_of_the_receipt() -> None:
    recorded = an_answer()
    kept = recorded.receipt.model_copy(update={"temperature": 0.9, "seed": 3, "max_tokens": 5})
    question = question_of(replace(recorded, receipt=kept), SPEC).request
    assert (question.temperature, question.seed, question.max_tokens) == (0.9, 3, 5)


def test_another_version_of_the_prompt_is_not_asked() -> None:
    recorded, other = an_answer(), replace(SPEC, prompt=SPEC.prompt + " Be brief.")
    with pytest.raises(CannotCheck, match="the prompt differs: this version of the software"):
        question_of(recorded, other)


def test_another_schema_is_not_asked() -> None:
    recorded = an_answer()
    kept = recorded.receipt.model_copy(update={"answer_schema": "cd" * 32})
    with pytest.raises(CannotCheck, match="schema differs"):
        question_of(replace(recorded, receipt=kept), SPEC)


def test_the_same_text_is_a_match() -> None:
    assert difference(an_answer(), SPEC, TEXT) == ""
    assert difference(an_answer(failed=True), SPEC, TEXT) == ""


def test_the_first_field_and_character_that_differ_are_named() -> None:
    field = next(name for name, value in ANSWER.items() if isinstance(value, str))
    changed = {**ANSWER, field: f"{str(ANSWER[field])[:-1]}!"}
    found = difference(an_answer(), SPEC, json.dumps(changed))
    assert found.startswith(f"{field}, character {len(str(ANSWER[field]))}:")
    assert "!' now" in found


def test_a_list_of_another_length_differs() -> None:
    field = next(name for name, value in ANSWER.items() if isinstance(value, list))
    changed = {**ANSWER, field: [*ANSWER[field], "one more"]}  # type: ignore[misc]
    found = difference(an_answer(), SPEC, json.dumps(changed))
    assert found == f"{field}: 1 items then, 2 now"


def test_the_same_answer_in_other_white_space_is_told_from_another_answer() -> None:
    assert "says the same" in difference(an_answer(), SPEC, json.dumps(ANSWER, indent=1))


def test_what_is_no_answer_differs_and_says_why() -> None:
    assert "no answer now" in difference(an_answer(), SPEC, "once upon a time")


def test_of_a_failed_attempt_only_the_digest_is_compared() -> None:
    assert "digest only" in difference(an_answer(failed=True), SPEC, TEXT + " ")


def test_an_answer_without_a_receipt_cannot_be_checked() -> None:
    with pytest.raises(CannotCheck, match="no receipt"):
        an_answer(receipt=None)


def test_an_answer_that_nobody_can_read_cannot_be_checked() -> None:
    with pytest.raises(CannotCheck, match="erased"):
        an_answer(digests=None)


def test_only_what_came_of_a_step_can_be_checked() -> None:
    recording, claim = begun()
    with pytest.raises(CannotCheck, match="not what came of a step"):
        recorded_in(recording.read(), claim.event.id)
    with pytest.raises(CannotCheck, match="'nobody'"):
        recorded_in(recording.read(), "nobody")


def test_a_swapped_model_is_noticed() -> None:
    kept = an_answer().receipt
    assert is_same_model(kept, ENGINE)
    assert engine_changes(kept, ENGINE) == ()
    swapped = replace(ENGINE, weights="cd" * 32)
    assert not is_same_model(kept, swapped)
    (change,) = engine_changes(kept, swapped)
    assert change == f"weights: {'ab' * 32} then, {'cd' * 32} now"


def test_another_version_is_told_and_is_not_another_model() -> None:
    kept, later = an_answer().receipt, replace(ENGINE, version="0.30.0")
    assert is_same_model(kept, later)
    assert engine_changes(kept, later) == ("version: 0.29.0 then, 0.30.0 now",)


def test_weights_that_are_not_known_are_not_compared() -> None:
    kept = an_answer().receipt
    assert is_same_model(kept, replace(ENGINE, weights=""))
    assert engine_changes(kept, replace(ENGINE, weights="")) == ()


def test_an_outside_provider_is_not_the_same_model() -> None:
    assert not is_same_model(an_answer().receipt, Engine(), "openai")
