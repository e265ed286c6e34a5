"""Why nothing moves in a run, for a person who watches it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from actors.command import AssignStep
from actors.decide import decide
from actors.entry import Assignment, Key
from actors.opening import later_openings
from actors.record import RunState

MAX_TEXT_CHARS: Final = 500
"""What the notice of a stall may say."""
_TOLD: Final = 3
"""Of several reasons; the rest are counted."""

Code = Literal[
    "unsubmitted", "ended", "decision", "paused", "claimed", "unclaimed", "backoff", "approval"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a run waits for.

    Attributes:
        code: ``unsubmitted``: to be asked for. ``ended``: nothing. ``decision``: the
            coordinator. ``paused``: to be resumed. ``claimed``: the agent that works on
            the step. ``unclaimed``: an agent that takes it. ``backoff``: the time of its
            next attempt. ``approval``: a person who lets it begin. Of several the first
            in this order, and of the same kind the oldest.
        text: for people; names all of it, as far as there is room.
        since: in UTC.
        step: that this is about, None where it is about the whole run.
        role: whose agent works on the step or is to.
        agent: who works on it.
        epoch: of the agent's claim.
    """

    code: Code
    text: str
    since: datetime
    step: str | None = None
    role: str | None = None
    agent: str | None = None
    epoch: int | None = None


def waits_for(state: RunState, now: datetime) -> Waiting:
    """What keeps the run from going on; `now` is in UTC."""
    return _of_run(state, now) or _of_steps(state, now)


def _of_run(state: RunState, now: datetime) -> Waiting | None:
    moved_at = state.moved_at or now
    if state.submission is None:
        return Waiting(code="unsubmitted", text="the run was not asked for yet", since=moved_at)
    if state.ended is not None:
        ended_at = state.ended_at or moved_at
        text = f"the run is {state.status} since {_moment(ended_at)}"
        return Waiting(code="ended", text=text, since=ended_at)
    if decide(state, now):
        text = f"the coordinator has to decide since {_moment(moved_at)}"
        return Waiting(code="decision", text=text, since=moved_at)
    if state.pause is not None:
        pause = state.pause
        reason = f": {pause.reason}" if pause.reason else ""
        text = f"paused by {pause.requested_by} since {_moment(pause.at)}{reason}"
        return Waiting(code="paused", text=text[:MAX_TEXT_CHARS], since=pause.at)
    return None


def _of_steps(state: RunState, now: datetime) -> Waiting:
    found = [*_of_claimed(state), *_of_unclaimed(state), *_of_backoffs(state, now)]
    found += _of_approvals(state)
    if not found:
        moved_at = state.moved_at or now
        text = f"nothing is under way since {_moment(moved_at)}"
        return Waiting(code="decision", text=text, since=moved_at)
    first = min((each for each in found if each.code == found[0].code), key=lambda w: w.since)
    told = [first, *(each for each in found if each is not first)]
    text = "; ".join(each.text for each in told[:_TOLD])
    if len(told) > _TOLD:
        text += f"; and {len(told) - _TOLD} more"
    return Waiting(
        code=first.code,
        text=text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 1]}…",
        since=first.since,
        step=first.step,
        role=first.role,
        agent=first.agent,
        epoch=first.epoch,
    )


def _open(state: RunState) -> Iterator[tuple[Key, Assignment]]:
    """The attempts that are neither answered nor over."""
    for key, assignment in state.assignments.items():
        if key not in state.results and assignment.failure is None:
            yield key, assignment


def _of_claimed(state: RunState) -> Iterator[Waiting]:
    for key, assignment in _open(state):
        claim = state.last_claim(assignment)
        if claim is not None:
            yield Waiting(
                code="claimed",
                text=f"{claim.role}/{claim.agent} works on {_name(key)} under epoch "
                f"{claim.epoch} of attempt {assignment.attempt} since {_moment(claim.at)}",
                since=claim.at,
                step=key[0],
                role=claim.role,
                agent=claim.agent,
                epoch=claim.epoch,
            )


def _of_unclaimed(state: RunState) -> Iterator[Waiting]:
    for key, assignment in _open(state):
        if state.last_claim(assignment) is None:
            yield Waiting(
                code="unclaimed",
                text=f"no agent of role {assignment.role} has taken {_name(key)}, attempt "
                f"{assignment.attempt}, since {_moment(assignment.at)}",
                since=assignment.at,
                step=key[0],
                role=assignment.role,
            )


def _of_backoffs(state: RunState, now: datetime) -> Iterator[Waiting]:
    if state.workflow is None or state.submission is None:
        return
    for opening in later_openings(state, state.workflow, state.submission):
        command, not_before = opening.command, opening.not_before
        if not_before is None or not_before <= now or not isinstance(command, AssignStep):
            continue
        key = command.step, command.iteration, command.item
        failed = state.assignments[key]
        failure = failed.failure
        if failure is not None:
            yield Waiting(
                code="backoff",
                text=f"attempt {failed.attempt + 1} at {_name(key)} ({failed.role}) begins at "
                f"{_moment(not_before)}, after {failure.code} at {_moment(failure.at)}",
                since=failure.at,
                step=command.step,
                role=command.role,
            )


def _of_approvals(state: RunState) -> Iterator[Waiting]:
    for key, approval in state.approvals.items():
        step = state.workflow.step(key[0]) if state.workflow else None
        if approval.status == "pending" and step is not None:
            yield Waiting(
                code="approval",
                text=f"{_name(key)} ({step.role}) waits for approval {approval.id} since "
                f"{_moment(approval.at)}",
                since=approval.at,
                step=key[0],
                role=step.role,
            )


def _name(key: Key) -> str:
    name, iteration, item = key
    round_ = f", round {iteration}" if iteration > 1 else ""
    part = f", item {item}" if item else ""
    return f"step {name}{round_}{part}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
