"""What is personal on a real broker: stored sealed, read by who has the key, gone with it."""

from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from bus.custody import SubjectKeyDirectory
from bus.errors import MalformedEvent
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payload import ERASED
from bus.payloads import CancelRequested, Payload, RunSubmitted, StepCompleted, Usage
from bus.received import Received, RefusedEvent
from bus.subject_keys import keys_in
from bus.subjects import run_filter
from bus.vault import Vault
from tests.broker import Broker

SECRET = "a confidential objective"
ANSWER = {"summary": "a confidential answer"}
USAGE = Usage(prompt_tokens=1, completion_tokens=1)


def submission(objective: str = SECRET) -> RunSubmitted:
    return RunSubmitted(objective=objective, workflow="sparc", model="m", requested_by="Ann")


def draft(run: str, payload: Payload, user: str) -> Draft:
    return Draft(run=run, payload=payload, id=derive_id(payload.TYPE, run), on_behalf_of=user)


async def stored(log: EventLog, run: str) -> list[Received]:
    async with aclosing(log.read(run_filter(run))) as events:
        return [received async for received in events]


async def test_only_who_has_the_key_reads_it(broker: Broker, run: str) -> None:
    user = f"ann-{run}"
    async with broker.joined("gateway") as gateway, broker.joined("auditor") as observer:
        own = await gateway.append(draft(run, submission(), user))
        (read,) = await stored(gateway, run)
        (seen,) = await stored(observer, run)
    assert own.payload() == submission()
    assert isinstance(read, StoredEvent)
    assert read.payload() == submission()
    assert isinstance(seen, StoredEvent)
    assert SECRET.encode() not in seen.event.data
    assert b"Ann" not in seen.event.data
    assert seen.event.sealed_for == user
    assert not seen.event.is_erased
    payload = seen.payload()
    assert isinstance(payload, RunSubmitted)
    assert (payload.objective, payload.workflow) == (ERASED, "sparc")


async def test_once_the_key_is_destroyed_nobody_reads_it_and_the_event_still_verifies(
    broker: Broker, run: str
) -> None:
    user = f"ann-{run}"
    directory = SubjectKeyDirectory(broker.directory / "subjects")
    async with broker.joined("gateway") as gateway:
        await gateway.append(draft(run, submission(), user))
    directory.forget(user, now=datetime.now(UTC))
    async with broker.joined("coordinator") as coordinator:
        (read,) = await stored(coordinator, run)
        assert not await Vault(keys_in(directory.path)).keeps(user)
    assert isinstance(read, StoredEvent)
    assert read.event.is_erased
    payload = read.payload()
    assert isinstance(payload, RunSubmitted)
    assert payload.objective == ERASED


async def test_what_is_said_of_a_forgotten_person_is_not_stored(broker: Broker, run: str) -> None:
    user = f"ann-{run}"
    directory = SubjectKeyDirectory(broker.directory / "subjects")
    directory.forget(user, now=datetime.now(UTC))
    async with broker.joined("gateway") as gateway:
        own = await gateway.append(draft(run, submission(), user))
        (read,) = await stored(gateway, run)
    assert isinstance(read, StoredEvent)
    assert own.payload() == read.payload()
    assert read.event.is_erased
    assert SECRET.encode() not in read.event.data


async def test_a_large_answer_is_sealed_in_its_object(broker: Broker, run: str) -> None:
    user, text = f"ann-{run}", "confidential " * 30_000
    answer = StepCompleted(
        step="code", iteration=1, attempt=1, epoch=1, answer={"text": text}, model="m",
        usage=USAGE, duration_ms=1,
    )  # fmt: skip
    large = Draft(
        run=run, payload=answer, id=derive_id("large", run), suffix=("coder",),
        on_behalf_of=user,
    )  # fmt: skip
    async with broker.joined("coder") as coder, broker.joined("auditor") as observer:
        await coder.append(large)
        (seen,) = await stored(observer, run)
        async with broker.joined("coordinator") as coordinator:
            (read,) = await stored(coordinator, run)
    assert isinstance(seen, StoredEvent)
    assert seen.event.reference is not None
    assert b"confidential" not in seen.event.stored_body
    assert isinstance(read, StoredEvent)
    assert read.payload() == answer


async def test_what_was_sealed_for_another_event_is_refused(broker: Broker, run: str) -> None:
    """A member may copy what it can see, but cannot pass it off as said elsewhere."""
    user = f"ann-{run}"
    async with broker.joined("gateway") as gateway, broker.joined("gateway") as reader:
        await gateway.append(draft(run, submission(), user))
        (read,) = await stored(gateway, run)
        assert isinstance(read, StoredEvent)
        other = f"{run}b"
        forged = draft(other, submission(), user)
        sealed = await Vault(broker.keys).sealed(forged)
        object.__setattr__(sealed, "sealed", read.event.data)
        await gateway._appender.append(sealed)
        (refused,) = await stored(reader, other)
    assert isinstance(refused, RefusedEvent)
    assert isinstance(refused.error, MalformedEvent)


async def test_who_asks_is_sealed_apart_from_whom_it_is_about(broker: Broker, run: str) -> None:
    fork = Draft(
        run=run, payload=submission(), id=derive_id("fork", run),
        on_behalf_of=f"bob-{run}", sealed_for=f"ann-{run}",
    )  # fmt: skip
    cancel = draft(run, CancelRequested(requested_by="Bob"), f"bob-{run}")
    async with broker.joined("gateway") as gateway:
        for each in (fork, cancel):
            await gateway.append(each)
    SubjectKeyDirectory(broker.directory / "subjects").forget(f"ann-{run}", now=datetime.now(UTC))
    async with broker.joined("coordinator") as coordinator:
        about_ann, by_bob = await stored(coordinator, run)
    assert isinstance(about_ann, StoredEvent)
    assert about_ann.event.is_erased
    assert isinstance(by_bob, StoredEvent)
    assert by_bob.payload() == cancel.payload


@pytest.mark.parametrize("role", ["auditor", "observer", "authority", "launcher"])
def test_who_only_keeps_the_record_is_given_no_key(broker: Broker, role: str) -> None:
    assert not broker.policy.may_unseal(role)


async def test_who_does_not_want_it_unsealed_asks_for_no_key(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        await gateway.append(draft(run, submission(), f"ann-{run}"))
        async with aclosing(gateway.read(run_filter(run), unseal=False)) as events:
            (seen,) = [received async for received in events]
    assert isinstance(seen, StoredEvent)
    assert seen.event.is_withheld
    assert not seen.event.is_erased
