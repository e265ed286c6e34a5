"""One question to a model about a step, within what the step's role may still spend."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from actors.attempt import Spent
from actors.model import Completion, Message, Model, ModelRequest
from actors.receipt import digests_of, receipt_of
from bus.payloads import StepAssigned, Usage
from policies.errors import BudgetExhausted

TEMPERATURE: Final = 0.2
"""Low, because answers must fit a schema; not zero, so that another attempt differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask; `number` counts those of one attempt from 0."""

    messages: Sequence[Message]
    schema: Mapping[str, JsonValue]
    max_tokens: int
    number: int = 0


async def ask(
    model: Model, question: Question, run: str, assigned: StepAssigned, spent: int = 0
) -> Completion:
    """Ask once; nothing but the model is waited for.

    Args:
        model: is asked.
        question: what to ask.
        run: from its id and the attempt follows the seed.
        assigned: the step.
        spent: tokens that earlier questions of the attempt took.

    Raises:
        BudgetExhausted: there are not enough tokens left for the answer.
        serve.errors.ModelError: it did not answer.
    """
    left = assigned.tokens_left
    if left is not None and left <= spent:
        raise BudgetExhausted(f"role {assigned.role} has no tokens left for run {run}")
    most = question.max_tokens if left is None else min(question.max_tokens, left - spent)
    completion = await model.complete(
        ModelRequest(
            messages=question.messages,
            schema=question.schema,
            max_tokens=most,
            temperature=TEMPERATURE,
            seed=_seed(run, assigned, question.number),
            deadline_s=assigned.deadline_s,
        )
    )
    if completion.truncated and most < question.max_tokens:
        raise BudgetExhausted(f"the answer did not fit into the {most} tokens left")
    return completion


class Meter:
    """Asks another model, and keeps the receipt of its last answer; implements `Model`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.answered: Completion | None = None
        """The last answer, with the tokens of all."""
        self.spent: Spent | None = None
        """What all answers took, and the receipt of the last one; None before."""

    async def connect(self) -> None:
        """Get ready, as `Model.connect` promises."""
        await self._model.connect()

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer, as `Model.complete` promises."""
        completion = await self._model.complete(request)
        before = self.answered
        self.answered = completion if before is None else _with_tokens_of(completion, before)
        self.spent = Spent(
            model=completion.model,
            usage=usage_of(self.answered),
            receipt=receipt_of(request, completion),
            digests=digests_of(request, completion),
        )
        return completion

    @property
    def tokens(self) -> int:
        """Tokens that all answers took."""
        usage = None if self.answered is None else usage_of(self.answered)
        return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens


def usage_of(completion: Completion) -> Usage:
    """What an answer took."""
    return Usage(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )


def _with_tokens_of(completion: Completion, before: Completion) -> Completion:
    both = usage_of(before) + usage_of(completion)
    return replace(
        completion,
        prompt_tokens=both.prompt_tokens,
        completion_tokens=both.completion_tokens,
    )


def _seed(run: str, assigned: StepAssigned, number: int) -> int:
    """The model's seed: the same for the same question, another for the next attempt."""
    parts = [run, assigned.step, str(assigned.iteration), str(assigned.attempt)]
    if assigned.item:
        parts.append(str(assigned.item))
    if number:
        parts.append(f"question {number}")
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:4], "big") >> 1
