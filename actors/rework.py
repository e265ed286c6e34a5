"""An agent's work on an answered step, done again without a model. Pure.

The agent's own code builds the prompt and reads the answer; the record stands in for the
model. Where the record has no answer, the model behind it is asked, which is one that
raises. An agent that answered with Python of its own is not called again: its answer is
held against the schema of its step.
"""

import hashlib
from collections.abc import Coroutine, Sequence
from typing import Final, TypeVar

from pydantic_core import to_json

from actors.attempt import Report
from actors.errors import ModelAsked, UnknownRole
from actors.function_agent import NO_MODEL
from actors.model import Completion, Model, ModelRequest, RaisingModel
from actors.roles import RoleSpec, role_spec
from actors.shape import check_answer
from actors.step_agent import ask_model
from bus.payloads import StepAssigned, StepCompleted

T = TypeVar("T")
RAISING: Final = RaisingModel()


class RecordedModel:
    """Gives the answers that the log holds; asks another model for any other."""

    def __init__(self, recorded: Sequence[StepCompleted], otherwise: Model) -> None:
        self._left = list(recorded)
        self._otherwise = otherwise
        self.asked = ""
        """Hex SHA-256 of the last question: messages, schema, limits and seed."""

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        """The next recorded answer."""
        question = (
            *(list(request.messages), request.schema, request.max_tokens),
            *(request.temperature, request.seed),
        )
        self.asked = hashlib.sha256(to_json(question)).hexdigest()
        if not self._left:
            return await self._otherwise.complete(request)
        recorded = self._left.pop(0)
        return Completion(
            text=to_json(recorded.answer).decode(),
            prompt_tokens=recorded.usage.prompt_tokens,
            completion_tokens=recorded.usage.completion_tokens,
            model=recorded.model,
        )


def rework(
    run: str, assigned: StepAssigned, completed: StepCompleted, model: Model = RAISING
) -> str | None:
    """Do the work of an answer again.

    Args:
        run: its id, from which the seed follows.
        assigned: what the agent was to do.
        completed: what it answered.
        model: asked for what the record does not hold.

    Returns:
        Hex SHA-256 of what the model was asked; None if no model was asked, or if the role
        is one of the user's, whose prompt is not known here.

    Raises:
        AnswerRejected: the agent would not have handed in this answer.
        PromptTooLarge: the agent could not have asked for it.
        ModelAsked: more was asked than the record holds.
    """
    check_answer(assigned.role, assigned.step, assigned.answer_schema, completed.answer)
    spec = _task(assigned)
    if spec is None or completed.model == NO_MODEL:
        return None
    recorded = RecordedModel([completed], model)
    report: Report = at_once(ask_model(recorded, spec, run, assigned))
    if report.answer != completed.answer:
        check_answer(assigned.role, assigned.step, assigned.answer_schema, report.answer)
    return recorded.asked


def _task(assigned: StepAssigned) -> RoleSpec | None:
    try:
        return role_spec(assigned.role, assigned.step)
    except UnknownRole:
        return None


def at_once(work: Coroutine[None, None, T]) -> T:
    """What comes of work that waits for nothing.

    Raises:
        ModelAsked: it does wait, as only for a model it would.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise ModelAsked
