"""What the log holds of a person, as it is counted before that person is forgotten."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import (
    CancelRequested,
    Payload,
    RetryRequested,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepClaimed,
    StepCompleted,
    Usage,
)
from bus.received import Received
from bus.subjects import kind_of
from cluster.erasure import Traces, subject_named, traces_in
from tests.sending import new_sender

USAGE = Usage(prompt_tokens=1, completion_tokens=1)
SUBMITTED = RunSubmitted(objective="x", workflow="sparc", model="m", requested_by="Ann")
COMPLETED = RunCompleted(document="x", steps=1, usage=USAGE)
FAILED = RunFailed(code="x", message="x")
RETRY = RetryRequested(requested_by="Ann")
ANSWER = StepCompleted(
    step="plan", iteration=1, attempt=1, epoch=1, answer={}, model="m", usage=USAGE, duration_ms=1
)
CLAIM = StepClaimed(step="plan", iteration=1, attempt=1, epoch=1, agent="planner-1")
SENDERS = {
    RunSubmitted: "gateway",
    RetryRequested: "gateway",
    CancelRequested: "gateway",
    StepCompleted: "planner",
    StepClaimed: "planner",
}


def said(
    run: str,
    payload: Payload,
    by: str | None = "ann",
    about: str | None = None,
    *,
    seal: bool = True,
) -> StoredEvent:
    role = SENDERS.get(type(payload), "coordinator")
    draft = Draft(
        run=run,
        payload=payload,
        id=derive_id(run, kind_of(payload.TYPE)),
        suffix=(role,) if role == "planner" else (),
        on_behalf_of=by,
        sealed_for=about,
    )
    if seal and draft.about is not None:
        draft = draft.sealed_under(bytes(32))
    event = new_sender(role).sign(draft)
    return StoredEvent(event=event, stream_sequence=1, stored_at=datetime.now(UTC))


async def traces(events: Sequence[Received]) -> Traces:
    async def log() -> AsyncIterator[Received]:
        for each in events:
            yield each

    return await traces_in(log(), "ann")


async def test_only_what_is_about_the_person_counts() -> None:
    found = await traces(
        [
            said("r1", SUBMITTED),
            said("r1", CLAIM),
            said("r1", ANSWER),
            said("r2", SUBMITTED, by="bob"),
            said("r2", CancelRequested(requested_by="Ann")),
            said("r1", COMPLETED),
        ]
    )
    assert found == Traces(runs={"r1"}, going=set(), sealed=4, plain=0)


async def test_a_fork_by_somebody_else_is_about_whom_its_parent_is_about() -> None:
    found = await traces([said("r1", SUBMITTED, by="bob", about="ann")])
    assert found == Traces(runs={"r1"}, going={"r1"}, sealed=1, plain=0)
    of_bob = await traces([said("r1", SUBMITTED, by="ann", about="bob")])
    assert of_bob == Traces()


async def test_what_is_older_than_sealing_is_told_apart() -> None:
    found = await traces(
        [said("r1", each, seal=False) for each in (SUBMITTED, CLAIM, ANSWER, COMPLETED)]
    )
    assert (found.sealed, found.plain) == (0, 3)


@pytest.mark.parametrize(
    ("events", "going"),
    [
        ((SUBMITTED,), {"r1"}),
        ((SUBMITTED, FAILED), set()),
        ((SUBMITTED, FAILED, RETRY), {"r1"}),
        ((SUBMITTED, FAILED, RETRY, COMPLETED), set()),
    ],
)
async def test_a_run_goes_on_until_it_ends_and_again_once_it_is_retried(
    events: tuple[Payload, ...], going: set[str]
) -> None:
    found = await traces([said("r1", each) for each in events])
    assert found.going == going


def test_a_person_is_named_by_name_or_id() -> None:
    users = {"Ann": "u-1", "bob": "u-2"}
    assert subject_named("ann", users) == "u-1"
    assert subject_named("u-2", users) == "u-2"
    assert subject_named("u-3", users) == "u-3"
