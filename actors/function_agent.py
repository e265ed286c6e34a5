"""The agent that answers a step with Python, and asks no model."""

from typing import Any, Final, get_type_hints

from pydantic import BaseModel, JsonValue

from actors.attempt import Attempt, Report
from actors.errors import FunctionFailed
from actors.shape import check_answer
from actors.step import StepSpec
from actors.worker import Worker
from bus.errors import SwarmError
from bus.payloads import NO_USAGE, StepAssigned

NO_MODEL: Final = "none"
_REASON_CHARS: Final = 500


class FunctionAgent(Worker):
    """Serves the steps of its role with a function of its own.

    class WordCounter(FunctionAgent):
        role = "counter"

        async def answer(self, assigned: StepAssigned) -> WordCount:
            return WordCount(words=len(assigned.objective.split()))
    """

    async def answer(self, assigned: StepAssigned) -> BaseModel:
        """Answer a step. The assignment holds the objective and the answers it reads.

        It may be called again for the same attempt, if this agent dies before the answer
        is stored. Work that does not await belongs in `asyncio.to_thread`: an agent that
        cannot be heard loses its lease.

        Raises:
            SwarmError: there is none; `retryable` says whether another attempt may help.
        """
        raise NotImplementedError(f"{type(self).__name__} has no answer: {assigned}")

    @classmethod
    def answer_schema(cls) -> dict[str, JsonValue]:
        """The JSON schema of the answers: that of the model which `answer` is said to return."""
        model: Any = get_type_hints(cls.answer)["return"]
        schema: dict[str, JsonValue] = model.model_json_schema()
        return schema

    @classmethod
    def step(cls, name: str, **limits: Any) -> StepSpec:
        """A step of this agent's role; takes what `StepSpec` takes."""
        return StepSpec(
            name=name, role=cls.role, **{"answer_schema": cls.answer_schema(), **limits}
        )

    async def work(self, attempt: Attempt) -> Report:
        """Call the function, and see that its answer is what the step wants.

        Raises:
            FunctionFailed: it raised something.
            AnswerRejected: the answer does not fit the step's schema.
        """
        assigned = attempt.assigned
        try:
            answer = (await self.answer(assigned)).model_dump(mode="json")
        except SwarmError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS]
            raise FunctionFailed(f"{type(self).__name__} failed: {reason}") from error
        if assigned.answer_schema is not None:
            check_answer(assigned.role, assigned.step, assigned.answer_schema, answer)
        return Report(
            answer=answer,
            model=NO_MODEL,
            usage=NO_USAGE,
        )
