"""The checker finds each kind of broken promise, and nothing where all were kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from actors.auditor import record_of
from bus.errors import BadSignature
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.payloads import (
    ChainBroken,
    Payload,
    ResultRefused,
    RetryRequested,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.received import Received, refused_event
from bus.signing import Sender
from bus.subjects import SYSTEM_RUN
from storage.leaf import encode_envelope, leaf_of
from storage.merkle import Frontier, leaf_hash
from tests.chaos.checker import Audit, AuditRow, check
from tests.sending import new_sender
from tests.unit.actors.simulation import answer_for

RUN = "r0123456789abcdef0123"
STEP, ROLE = "specification", "specifier"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
USAGE = Usage(prompt_tokens=1, completion_tokens=1)
WHERE = {"step": STEP, "iteration": 1, "attempt": 1}


@dataclass
class Book:
    """A log that is written by hand."""

    stored: list[StoredEvent] = field(default_factory=list)
    senders: dict[str, Sender] = field(default_factory=dict)

    def sign(
        self, role: str, payload: Payload, event_id: str, cause: str | None = None, run: str = RUN
    ) -> Event:
        sender = self.senders.setdefault(role, new_sender(role, f"{role}-1"))
        suffix: tuple[str, ...] = ()
        if isinstance(payload, StepAssigned):
            suffix = (payload.role, "normal")
        elif isinstance(payload, StepClaimed | StepCompleted | StepFailed):
            suffix = (role,)
        draft = Draft(run=run, payload=payload, id=event_id, cause=cause, suffix=suffix)
        event = sender.sign(draft)
        sender.advance(event)
        return event

    def store(self, event: Event) -> None:
        place = len(self.stored) + 1
        self.stored.append(StoredEvent(event=event, stream_sequence=place, stored_at=NOW))

    def say(
        self, role: str, payload: Payload, event_id: str, cause: str | None = None, run: str = RUN
    ) -> str:
        self.store(self.sign(role, payload, event_id, cause, run))
        return event_id

    def claim(self, epoch: int = 1) -> str:
        claimed = StepClaimed(**WHERE, epoch=epoch, agent=f"{ROLE}-1")
        return self.say(ROLE, claimed, f"claim-{epoch}", "assignment")

    def complete(self, claim: str, epoch: int = 1) -> str:
        completed = StepCompleted(
            **WHERE,
            epoch=epoch,
            answer=answer_for(ROLE, STEP),
            model="scripted",
            usage=USAGE,
            duration_ms=1,
        )
        return self.say(ROLE, completed, f"result-{epoch}", claim)

    def refuse(self, result: str, epoch: int) -> None:
        refused = ResultRefused(**WHERE, epoch=epoch, refused=result, reason="superseded")
        self.say("coordinator", refused, f"refusal-{epoch}", result)

    def end(self, event_id: str = "end") -> None:
        failed = RunFailed(code="deadline", message="it took too long")
        self.say("coordinator", failed, event_id, "submission")


def begun() -> Book:
    """A run whose first step has been assigned."""
    book = Book()
    submitted = RunSubmitted(objective="x", workflow="sparc", model="scripted", requested_by="a")
    book.say("gateway", submitted, "submission")
    assigned = StepAssigned(**WHERE, role=ROLE, objective="x", inputs={}, deadline_s=10)
    book.say("coordinator", assigned, "assignment", "submission")
    return book


def kept() -> Book:
    """A run in which every promise was kept, a superseded result among it."""
    book = begun()
    late, claim = book.claim(1), book.claim(2)
    book.complete(claim, 2)
    book.refuse(book.complete(late, 1), 1)
    book.end()
    return book


def audited(received: Sequence[Received]) -> Audit:
    """The audit log that fits."""
    rows: list[AuditRow] = []
    for index, each in enumerate(received):
        record = record_of(each)
        before = sum(row.run == record.run for row in rows)
        rows.append(
            AuditRow(
                leaf_index=index,
                stream_sequence=record.stream_sequence,
                envelope=encode_envelope(record.subject, record.raw_headers),
                data=record.data,
                verdict=record.verdict,
                reason_code=record.reason_code,
                reason=record.reason,
                run=record.run,
                run_index=before,
                trust_count=0,
                stored_at=record.stored_at,
                leaf_hash=leaf_hash(leaf_of(record, run_index=before, trust_count=0).encode()),
            )
        )
    return signed(rows)


def signed(rows: Sequence[AuditRow]) -> Audit:
    frontier, _ = Frontier().append(row.leaf_hash for row in rows)
    return Audit(rows=rows, size=frontier.size, root=frontier.root())


def rules(book: Book) -> list[str]:
    return [violation.rule for violation in check(book.stored)]


def test_a_log_in_which_every_promise_was_kept_has_no_violation() -> None:
    book = kept()
    assert check(book.stored, [RUN], audited(book.stored)) == ()


def test_a_run_that_was_retried_may_end_a_second_time() -> None:
    book = kept()
    book.say("gateway", RetryRequested(requested_by="a"), "retry")
    book.end("end-2")
    assert rules(book) == []


def test_an_accepted_run_that_is_not_in_the_log_is_found() -> None:
    assert [v.where for v in check(kept().stored, [RUN, "r-lost"])] == ["r-lost"]


def test_a_run_that_does_not_end_is_found() -> None:
    book = begun()
    book.complete(book.claim())
    assert rules(book) == ["one end"]


def test_a_run_that_ends_twice_is_found() -> None:
    book = kept()
    book.end("end-2")
    assert rules(book) == ["one end"]


def test_a_second_result_that_nobody_refused_is_found() -> None:
    book = begun()
    late, claim = book.claim(1), book.claim(2)
    book.complete(claim, 2)
    book.complete(late, 1)
    book.end()
    assert set(rules(book)) == {"one result"}


def test_a_result_without_a_claim_is_found() -> None:
    book = begun()
    book.complete("submission")
    book.end()
    assert set(rules(book)) == {"one result"}


def test_two_failures_of_one_attempt_are_found() -> None:
    book = begun()
    claim = book.claim()
    failed = StepFailed(**WHERE, epoch=1, code="model", message="it failed", retryable=True)
    book.say(ROLE, failed, "failure-1", claim)
    book.say(ROLE, failed, "failure-2", claim)
    book.end()
    assert set(rules(book)) == {"one result"}


def test_a_run_that_is_completed_without_its_results_is_found() -> None:
    book = begun()
    book.complete(book.claim())
    done = RunCompleted(document="# x", steps=2, usage=USAGE)
    book.say("coordinator", done, "end", "submission")
    assert rules(book) == ["one result"]


def test_an_event_that_is_missing_from_the_middle_of_a_chain_is_found() -> None:
    book = kept()
    del book.stored[2]  # the specifier's first claim
    assert "chain" in rules(book)


def test_a_chain_that_ends_early_has_no_hole() -> None:
    book = begun()
    book.sign(ROLE, StepClaimed(**WHERE, epoch=1, agent=ROLE), "claim-never-stored", "assignment")
    del book.senders[ROLE]  # killed; the next one has a key of its own
    book.complete(book.claim(2), 2)
    book.end()
    assert rules(book) == []


def test_two_events_in_the_wrong_order_are_found() -> None:
    book = kept()
    claims = [at for at, each in enumerate(book.stored) if each.event.type == StepClaimed.TYPE]
    first, second = claims
    one, other = book.stored[first], book.stored[second]
    book.stored[first] = replace(one, event=other.event)
    book.stored[second] = replace(other, event=one.event)
    assert "chain" in rules(book)


def test_an_event_that_is_stored_twice_is_found() -> None:
    book = kept()
    book.store(book.stored[0].event)
    assert set(rules(book)) == {"once", "chain"}


def test_an_answer_to_an_event_that_is_not_there_is_found() -> None:
    book = kept()
    book.say("gateway", RetryRequested(requested_by="a"), "retry", cause="nowhere")
    book.end("end-2")
    assert rules(book) == ["cause"]


def test_a_message_that_does_not_verify_is_found() -> None:
    book = kept()
    last = book.stored.pop()
    refused = refused_event(last.event, last.stream_sequence, NOW, BadSignature("not signed so"))
    found = check([*book.stored, refused], [RUN])
    assert [violation.rule for violation in found] == ["verified", "one end"]


def test_an_alarm_is_found() -> None:
    book = kept()
    broken = ChainBroken(
        sender="swarm://coder/coder-1",
        key="U",
        expected_sequence=2,
        found_sequence=3,
        stream_sequence=1,
    )
    book.say("auditor", broken, derive_id("broken"), run=SYSTEM_RUN)
    assert rules(book) == ["alarm"]


def _drop(rows: list[AuditRow]) -> Audit:
    return signed(rows[:-1])


def _change(rows: list[AuditRow]) -> Audit:
    return signed([*rows[:-1], replace(rows[-1], data=b"{}")])


def _invent(rows: list[AuditRow]) -> Audit:
    return signed([*rows, replace(rows[-1], stream_sequence=99, leaf_index=len(rows))])


def _swap(rows: list[AuditRow]) -> Audit:
    return signed([rows[1], rows[0], *rows[2:]])


def _another_root(rows: list[AuditRow]) -> Audit:
    return replace(signed(rows), root=bytes(32))


def _another_verdict(rows: list[AuditRow]) -> Audit:
    return signed([*rows[:-1], replace(rows[-1], verdict="refused", reason_code="unknown_key")])


def _another_leaf(rows: list[AuditRow]) -> Audit:
    return signed([*rows[:-1], replace(rows[-1], leaf_hash=bytes(32))])


@pytest.mark.parametrize(
    "spoil",
    [_drop, _change, _invent, _swap, _another_root, _another_verdict, _another_leaf],
    ids=lambda spoil: spoil.__name__.strip("_"),
)
def test_an_audit_log_that_is_not_the_stream_is_found(
    spoil: Callable[[list[AuditRow]], Audit],
) -> None:
    book = kept()
    audit = spoil(list(audited(book.stored).rows))
    found = check(book.stored, [RUN], audit)
    assert found
    assert {violation.rule for violation in found} == {"audit"}
