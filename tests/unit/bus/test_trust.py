"""Verification, one reason after the other, without a broker."""

from datetime import UTC, datetime, timedelta

import pytest

from bus.attributes import encode_attribute
from bus.errors import (
    BadSignature,
    ExpiredKey,
    NotPermitted,
    PublishDenied,
    SubjectMismatch,
    UnknownKey,
    UntrustedEvent,
)
from bus.event import Draft, Event
from bus.nkey import AgentKey, encode_base64url
from bus.payloads import AgentStarted, RunFailed, StepClaimed
from bus.signing import Sender
from bus.subjects import Subject
from bus.trust import Standing, verify
from tests.sending import POLICY, admitted, credential_of, new_sender, submitted


class Everything:
    """A policy that a sender of ill will obeys."""

    digest = "0" * 64

    def refusal(self, role: str, subject: Subject) -> str | None:  # noqa: ARG002
        return None


def lawless(role: str, name: str = "x-1") -> Sender:
    key = AgentKey.generate()
    return Sender(key, credential_of(role, name, key), Everything())


def judge(event: Event, known: Standing | None, *, hours: int = 0, sequence: int = 2) -> None:
    """As if it had been stored so many hours from now."""
    stored_at = datetime.now(UTC) + timedelta(hours=hours)
    verify(event, known, POLICY, stream_sequence=sequence, stored_at=stored_at)


def resigned(sender: Sender, event: Event, subject: str = "", **changes: str) -> Event:
    """The event with other attributes, signed by its own key."""
    headers = {**event.headers, **{f"ce-{n}": encode_attribute(v) for n, v in changes.items()}}
    unsigned = Event(subject=subject or event.subject, headers=headers, data=event.data)
    signature = encode_base64url(sender.key.sign(unsigned.signed_bytes))
    return Event.parse(unsigned.subject, {**headers, "swarm-signature": signature}, event.data)


def test_a_genuine_event_passes() -> None:
    sender = new_sender()
    judge(sender.sign(submitted("r1")), admitted(sender))


def test_nobody_vouches_for_the_key() -> None:
    with pytest.raises(UnknownKey):
        judge(new_sender().sign(submitted("r1")), None)


def test_the_credential_was_announced_only_later() -> None:
    sender = new_sender()
    event = sender.sign(submitted("r1"))
    judge(event, admitted(sender, 5), sequence=5)
    with pytest.raises(UnknownKey, match="before 4"):
        judge(event, admitted(sender, 5), sequence=4)


@pytest.mark.parametrize("hours", [-1, 2])
def test_it_was_stored_outside_the_life_of_the_credential(hours: int) -> None:
    sender = new_sender()
    with pytest.raises(ExpiredKey):
        judge(sender.sign(submitted("r1")), admitted(sender), hours=hours)


@pytest.mark.parametrize("hours", [-1, 2])
def test_it_says_that_it_was_signed_outside_the_life_of_the_credential(hours: int) -> None:
    sender = new_sender()
    moment = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    with pytest.raises(ExpiredKey):
        judge(resigned(sender, sender.sign(submitted("r1")), time=moment), admitted(sender))


@pytest.mark.parametrize("source", ["swarm://gateway/gateway-2", "swarm://coordinator/gateway-1"])
def test_it_speaks_in_another_name(source: str) -> None:
    sender = new_sender()
    with pytest.raises(NotPermitted, match="whose key signed it"):
        judge(resigned(sender, sender.sign(submitted("r1")), source=source), admitted(sender))


def test_its_subject_is_that_of_another_run() -> None:
    sender = new_sender()
    with pytest.raises(SubjectMismatch):
        judge(resigned(sender, sender.sign(submitted("r1")), run="r2"), admitted(sender))


def test_its_subject_is_that_of_another_type() -> None:
    sender = new_sender()
    changed = resigned(sender, sender.sign(submitted("r1")), type=RunFailed.TYPE)
    with pytest.raises(SubjectMismatch):
        judge(changed, admitted(sender))


@pytest.mark.parametrize(
    "subject", ["evt.00.r1.run.submitted", "evt.02.r1", "evt.02.r1.run.submitted.x"]
)
def test_its_subject_is_not_of_the_grammar(subject: str) -> None:
    sender = new_sender()
    with pytest.raises(SubjectMismatch):
        judge(resigned(sender, sender.sign(submitted("r1")), subject), admitted(sender))


def test_its_role_may_not_say_it() -> None:
    coder = lawless("coder")
    with pytest.raises(NotPermitted, match="no capability"):
        judge(coder.sign(submitted("r1")), admitted(coder))


def test_it_speaks_of_a_step_of_another_role() -> None:
    coder = lawless("coder")
    claim = StepClaimed(step="judge", iteration=1, attempt=1, epoch=1, agent="x-1")
    event = coder.sign(Draft(run="r1", payload=claim, id="1", suffix=("judge",)))
    with pytest.raises(SubjectMismatch, match="judge"):
        judge(event, admitted(coder))


def test_its_signature_is_of_another_key() -> None:
    sender, other = new_sender(), new_sender()
    event = sender.sign(submitted("r1"))
    signature = encode_base64url(other.key.sign(event.signed_bytes))
    forged = Event.parse(event.subject, {**event.headers, "swarm-signature": signature}, event.data)
    with pytest.raises(BadSignature):
        judge(forged, admitted(sender))


def test_its_signature_was_made_on_another_subject() -> None:
    """A replay where the same sender may speak too."""
    sender = new_sender("coordinator", "coordinator-1")
    failed = RunFailed(code="x", message="y")
    event = sender.sign(Draft(run="r1", payload=failed, id="1"))
    moved = Event(
        subject="evt.02.r1.run.completed",
        headers={**event.headers, "ce-type": "swarm.run.completed.v1"},
        data=event.data,
    )
    with pytest.raises(BadSignature):
        judge(moved, admitted(sender))


def test_every_refusal_says_why_and_is_not_retried() -> None:
    sender = new_sender()
    with pytest.raises(UntrustedEvent) as caught:
        judge(sender.sign(submitted("r1")), None)
    assert not caught.value.retryable
    assert sender.key.public in str(caught.value)


def test_a_sender_that_obeys_does_not_sign_what_it_may_not_say() -> None:
    with pytest.raises(PublishDenied, match="no capability"):
        new_sender("coder", "coder-1").sign(submitted("r1"))
    started = AgentStarted(role="coder", name="coder-1", pid=1, node="n")
    event = new_sender("coder", "coder-1").sign(Draft(run="r1", payload=started, id="1"))
    assert event.subject == "evt.02.r1.agent.started"
