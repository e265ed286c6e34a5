"""What the log of a run holds, as values: who asked, who works, who answered, what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from bus.budget import RunBudget
from bus.memory_payloads import ItemReference
from bus.payloads import (
    Priority,
    RunCancelled,
    RunCompleted,
    RunFailed,
    Usage,
)

Key = tuple[str, int, int]
"""A step, its iteration, and its item: 0, or the part of a fan-out from 1. There is one
accepted result for each."""
Ended = RunCompleted | RunFailed | RunCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was asked, by the event of that id."""

    id: str
    at: datetime
    objective: str
    workflow: str
    on_behalf_of: str | None
    traceparent: str | None
    priority: Priority = "normal"
    deadline_s: float | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    sealed_for: str | None = None
    """Whom it is about, if not about the user."""
    parent: str | None = None
    """The run that this one branched off from."""
    budget: RunBudget | None = None
    """What the run may spend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked of the run, by the event of that id."""

    id: str
    at: datetime
    requested_by: str
    reason: str
    sealed_for: str | None = None
    """Whose words these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why a run cannot be run at all, found in its submission."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The question whether a step may begin, by the event of that id, and its answer."""

    id: str
    at: datetime
    status: Literal["pending", "given", "denied"] = "pending"
    answer: Wish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the current attempt is over, by the event of that id."""

    id: str
    at: datetime
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The current attempt at a step, by the event of that id.

    `forgiven` is the last attempt that does not count, because the run was retried after it.
    """

    id: str
    at: datetime
    role: str
    attempt: int
    answer_schema: Mapping[str, JsonValue] | None = None
    forgiven: int = 0
    failure: Failure | None = None

    @property
    def tries(self) -> int:
        """How many attempts count; none if this one is over and forgiven."""
        return max(self.attempt - self.forgiven, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An agent took an assignment, by the event of that id."""

    id: str
    at: datetime
    role: str
    agent: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The accepted answer of a step, by the event of that id.

    `place` counts the results from 0 in the order of the log. An adopted one was given in
    the run that this one branched off from; its event is in the log of that run.
    """

    id: str
    place: int
    agent: str
    epoch: int
    answer: Mapping[str, JsonValue]
    model: str
    usage: Usage
    duration_ms: int
    adopted: bool = False
    recalled: tuple[ItemReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An outcome that does not count; the log does not hold its refusal yet."""

    id: str
    step: str
    iteration: int
    item: int
    attempt: int
    epoch: int
    reason: str
