"""Agents that are Python: their answers, and what becomes of their mistakes."""

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, JsonValue

from actors.attempt import Attempt, Report
from actors.errors import AnswerRejected, FunctionFailed, UnknownRole
from actors.function_agent import FunctionAgent
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import StepAssigned
from tests.sending import new_sender


class Count(BaseModel):
    words: int


class Counter(FunctionAgent):
    role = "counter"

    async def answer(self, assigned: StepAssigned) -> Count:
        if assigned.objective == "fail":
            raise ValueError("made up")
        if assigned.objective == "refuse":
            raise UnknownRole("made up")
        return Count(words=len(assigned.objective.split()))


def attempt(objective: str, schema: dict[str, JsonValue] | None = None) -> Attempt:
    payload = StepAssigned(
        step="count",
        iteration=1,
        attempt=1,
        role="counter",
        objective=objective,
        inputs={},
        deadline_s=1,
        answer_schema=schema,
    )
    sender = new_sender("coordinator", "coordinator-1")
    draft = Draft(run="r", payload=payload, id=derive_id("x"), suffix=("counter", "normal"))
    stored = StoredEvent(event=sender.sign(draft), stream_sequence=1, stored_at=datetime.now(UTC))
    return Attempt(
        assigned=payload, assignment=stored, claim=stored, epoch=1, deliveries=1, begun=1
    )


async def work(objective: str, schema: dict[str, JsonValue] | None = None) -> Report:
    counter = object.__new__(Counter)  # it needs no log to answer
    return await counter.work(attempt(objective, schema))


async def test_an_answer_is_reported_and_no_tokens_are_used() -> None:
    report = await work("one two", Counter.answer_schema())
    assert report.answer == {"words": 2}
    assert report.model == "none"
    assert (report.usage.prompt_tokens, report.usage.completion_tokens) == (0, 0)


async def test_an_answer_that_does_not_fit_the_steps_schema_is_rejected() -> None:
    with pytest.raises(AnswerRejected):
        await work("one two", {"type": "object", "required": ["letters"]})


async def test_what_a_function_raises_fails_the_attempt_with_its_reason() -> None:
    with pytest.raises(FunctionFailed, match="Counter failed: ValueError: made up") as caught:
        await work("fail")
    assert caught.value.retryable


async def test_an_error_of_the_swarm_keeps_its_code() -> None:
    with pytest.raises(UnknownRole):
        await work("refuse")


def test_the_schema_is_that_of_what_the_function_is_said_to_return() -> None:
    assert Counter.answer_schema() == Count.model_json_schema()
    step = Counter.step("count", max_attempts=1)
    assert (step.role, step.max_attempts, step.answer_schema) == (
        "counter",
        1,
        Count.model_json_schema(),
    )
