"""What is known of a run, as one value. `actors.run_state` makes it from the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from rpds import HashTrieSet

from actors.entry import (
    Approval,
    Assignment,
    Claim,
    Ended,
    Failure,
    Flaw,
    Key,
    Refusal,
    Result,
    Submission,
    Wish,
)
from actors.fact import Fact, Mark, fact_of, later
from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.payloads import NO_USAGE, RunCancelled, RunCompleted, RunFailed, Usage
from policies.budgets import Spent

__all__ = [
    "Approval",
    "Assignment",
    "Claim",
    "Fact",
    "Failure",
    "Flaw",
    "Key",
    "Mark",
    "Refusal",
    "Result",
    "RunState",
    "StepStatus",
    "Submission",
    "Wish",
    "fact_of",
]

Status = Literal["running", "paused", "completed", "failed", "cancelled"]
UNREADABLE: Final = Flaw(
    code="unreadable", message="what was asked is erased, or its key is not given out"
)
_NO_IDS: "Final[HashTrieSet[str]]" = HashTrieSet()
_NO_MARKS: "Final[HashTrieSet[Mark]]" = HashTrieSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """One step of a run, or one part of it, as a status page shows it.

    `attempt` is 0 for an adopted answer: this run made none.
    """

    step: str
    role: str
    iteration: int
    item: int = 0
    attempt: int
    status: Literal["assigned", "claimed", "completed", "failed"]
    agent: str | None = None
    epoch: int | None = None
    duration_ms: int | None = None
    usage: Usage | None = None
    model: str | None = None
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as far as its log tells. ``RunState()`` is one of which nothing is known.

    The mappings are never changed in place; they keep the order of the log.

    Attributes:
        run: empty until the first fact.
        workflows: those that a submission without a definition may name.
        workflow: what is being run; None before the submission, and if it has a flaw.
        approvals: by step and iteration, with an item of 0.
        claims: of each assignment, by its id.
        refused: ids of outcomes whose refusal is in the log.
        counted: ids of outcomes that were accepted or ended an attempt.
        spent: tokens by role and model, those of outcomes that were refused among them.
        pause: the request that is in force.
        cancel: the request that is in force.
        reopened: the last request that made a failed run go on.
        retries: how often that happened.
        ended_at: time of the fact that ended the run.
        moved_at: time of the last fact but notices of a stall.
    """

    run: str = ""
    workflows: Mapping[str, WorkflowSpec] = field(default_factory=lambda: WORKFLOWS, repr=False)
    submission: Submission | None = None
    workflow: WorkflowSpec | None = field(default=None, repr=False)
    flaw: Flaw | None = None
    assignments: Mapping[Key, Assignment] = field(default_factory=dict)
    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    results: Mapping[Key, Result] = field(default_factory=dict)
    approvals: Mapping[Key, Approval] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    refused: "HashTrieSet[str]" = _NO_IDS
    counted: "HashTrieSet[str]" = _NO_IDS
    spent: Spent = field(default_factory=dict)
    pause: Wish | None = None
    cancel: Wish | None = None
    reopened: Wish | None = None
    retries: int = 0
    ended: Ended | None = None
    ended_at: datetime | None = None
    moved_at: datetime | None = None
    seen: "HashTrieSet[Mark]" = field(default=_NO_MARKS, repr=False)

    @property
    def is_unreadable(self) -> bool:
        """Whether nobody here can read what was asked: it goes no further."""
        return self.flaw == UNREADABLE

    @property
    def status(self) -> Status:
        """Running until the log says otherwise."""
        match self.ended:
            case RunCompleted():
                return "completed"
            case RunFailed():
                return "failed"
            case RunCancelled():
                return "cancelled"
        return "paused" if self.paused else "running"

    @property
    def paused(self) -> bool:
        """Whether no further step may begin until a person says so."""
        return self.pause is not None

    @property
    def submitted_at(self) -> datetime | None:
        """When the run was asked for."""
        return None if self.submission is None else self.submission.at

    @property
    def deadline_at(self) -> datetime | None:
        """When the run fails unless it has ended; a retry gives it its whole time again."""
        submission = self.submission
        if submission is None or submission.deadline_s is None:
            return None
        opened_at = self.reopened.at if self.reopened else submission.at
        return later(opened_at, submission.deadline_s)

    @property
    def steps(self) -> tuple[StepStatus, ...]:
        """Every step that was adopted or assigned, in the order of the log."""
        adopted = (key for key, result in self.results.items() if result.adopted)
        return tuple(self._status_of(key) for key in dict.fromkeys((*adopted, *self.assignments)))

    @property
    def usage(self) -> Usage:
        """Tokens of the accepted answers that this run asked for itself."""
        used = (result.usage for result in self.results.values() if not result.adopted)
        return sum(used, start=NO_USAGE)

    def last_claim(self, assignment: Assignment) -> Claim | None:
        """The claim with the highest epoch of an attempt; of equals, the first in the log."""
        made = (c for c in self.claims.get(assignment.id, ()) if c.role == assignment.role)
        return max(made, key=lambda claim: claim.epoch, default=None)

    def _status_of(self, key: Key) -> StepStatus:
        assignment, result = self.assignments.get(key), self.results.get(key)
        name, iteration, item = key
        spec = self.workflow.step(name) if self.workflow else None
        status = StepStatus(
            step=name,
            role=assignment.role if assignment else spec.role if spec else "",
            iteration=iteration,
            item=item,
            attempt=assignment.attempt if assignment else 0,
            status="failed" if assignment and assignment.failure else "assigned",
        )
        if result is not None:
            return replace(
                status,
                status="completed",
                agent=result.agent or None,
                epoch=result.epoch or None,
                duration_ms=None if result.adopted else result.duration_ms,
                usage=result.usage,
                model=result.model,
                adopted=result.adopted,
            )
        claim = self.last_claim(assignment) if assignment else None
        if claim is None or assignment is None:
            return status
        claimed = replace(status, agent=claim.agent, epoch=claim.epoch)
        return claimed if assignment.failure else replace(claimed, status="claimed")
