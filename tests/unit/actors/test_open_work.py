"""Where a work queue that is made anew begins."""

from dataclasses import replace
from datetime import UTC, datetime

from actors.open_work import OpenWork
from bus.event import Draft, StoredEvent, derive_id
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import (
    Payload,
    ResultRefused,
    RunCompleted,
    StepAssigned,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.signing import Sender
from tests.sending import new_sender

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USAGE = Usage(prompt_tokens=1, completion_tokens=1)


class Log:
    """Says things one after the other."""

    def __init__(self) -> None:
        self.work = OpenWork()
        self._senders: dict[str, Sender] = {}
        self._next = 1

    def say(
        self, role: str, payload: Payload, run: str = "r1", *, without_object: bool = False
    ) -> str:
        suffix: tuple[str, ...] = ()
        if isinstance(payload, StepAssigned):
            suffix = (payload.role, "normal")
        elif isinstance(payload, StepCompleted | StepFailed):
            suffix = (role,)
        sender = self._senders.setdefault(role, new_sender(role, f"{role}-1"))
        event_id = derive_id(str(self._next))
        event = sender.sign(Draft(run=run, payload=payload, id=event_id, suffix=suffix))
        if without_object:
            event = replace(event, content=None)
        self.work.note(StoredEvent(event=event, stream_sequence=self._next, stored_at=NOON))
        self._next += 1
        return event_id

    def assign(
        self,
        step: str,
        attempt: int = 1,
        run: str = "r1",
        item: int = 0,
        *,
        text: str = "",
        without_object: bool = False,
    ) -> str:
        payload = StepAssigned(
            step=step,
            iteration=1,
            attempt=attempt,
            item=item,
            role="coder",
            objective="x",
            inputs={"plan": {"text": text}},
            deadline_s=1,
        )
        return self.say("coordinator", payload, run, without_object=without_object)

    def answer(self, step: str, run: str = "r1", item: int = 0) -> str:
        payload = StepCompleted(
            step=step,
            iteration=1,
            attempt=1,
            item=item,
            epoch=1,
            answer={},
            model="m",
            usage=USAGE,
            duration_ms=1,
        )
        return self.say("coder", payload, run)


def test_it_begins_at_the_first_assignment_without_a_result() -> None:
    log = Log()
    log.assign("a")
    log.assign("b")
    log.assign("c")
    log.answer("a")
    log.answer("c")
    assert log.work.starts() == {"coder": 2}


def test_nothing_is_open_once_all_is_answered_or_the_run_has_ended() -> None:
    log = Log()
    log.assign("a")
    log.answer("a")
    assert log.work.starts() == {}
    log.assign("b", run="r2")
    log.say("coordinator", RunCompleted(document="x", steps=1, usage=USAGE), "r2")
    assert log.work.starts() == {}


def test_a_failed_attempt_is_answered_and_the_next_is_open() -> None:
    log = Log()
    log.assign("a")
    failed = StepFailed(
        step="a", iteration=1, attempt=1, epoch=1, code="x", message="y", retryable=True
    )
    log.say("coder", failed)
    log.assign("a", attempt=2)
    assert log.work.starts() == {"coder": 3}


def test_a_refused_result_is_none() -> None:
    log = Log()
    log.assign("a")
    result = log.answer("a")
    refusal = ResultRefused(step="a", iteration=1, attempt=1, epoch=1, refused=result, reason="old")
    log.say("coordinator", refusal)
    assert log.work.starts() == {"coder": 1}


def test_parts_of_a_fan_out_are_answered_one_by_one() -> None:
    log = Log()
    log.assign("a", item=1)
    log.assign("a", item=2)
    log.answer("a", item=1)
    assert log.work.starts() == {"coder": 2}


def test_a_large_assignment_is_open_until_it_is_answered() -> None:
    log = Log()
    log.assign("a", text="x" * MAX_PAYLOAD_BYTES)
    assert log.work.starts() == {"coder": 1}
    log.answer("a")
    assert log.work.starts() == {}


def test_an_assignment_whose_object_is_not_there_is_open_until_its_run_has_ended() -> None:
    log = Log()
    log.assign("a", text="x" * MAX_PAYLOAD_BYTES, without_object=True)
    log.answer("a")
    log.assign("b")
    assert log.work.starts() == {"coder": 1}
    log.say("coordinator", RunCompleted(document="x", steps=1, usage=USAGE))
    assert log.work.starts() == {}
