"""Agents whose keys of people are not to be had for a while, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from actors import worker
from actors.model import Message
from actors.team import AGENTS
from bus.custody import SubjectKeyDirectory
from bus.errors import ConsumptionDenied
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import (
    AssignmentDead,
    CancelRequested,
    EventRefused,
    StepAssigned,
    StepClaimed,
    StepCompleted,
)
from bus.subject_keys import LIFE_S, KeptKeys
from bus.subjects import run_filter
from bus.vault import Vault
from bus.work import WorkQueue
from policies.capabilities import queue_name
from tests.broker import Broker
from tests.swarming import (
    ScriptedAnswers,
    by_type,
    coordinator,
    in_background,
    submission,
    until_end,
)


@dataclass
class Custodian:
    """Gives keys, or refuses to; nobody keeps what it gives for longer than a moment."""

    keys: SubjectKeyDirectory
    is_open: bool = True
    refused: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    moments: float = 0.0

    async def ask(self, subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        if not self.is_open:
            self.refused.release()
            raise ConsumptionDenied("not now")
        found = self.keys.find_or_make(subject) if to_seal else self.keys.find(subject)
        return found if isinstance(found, bytes) else None

    def clock(self) -> float:
        self.moments += LIFE_S + 1
        return self.moments


@asynccontextmanager
async def specifier(
    broker: Broker, custodian: Custodian, model: ScriptedAnswers
) -> AsyncIterator[None]:
    async with broker.joined("specifier", "specifier-1") as log:
        vault = Vault(KeptKeys(custodian.ask, clock=custodian.clock))
        log._vault = log._verifier._vault = vault
        queue = WorkQueue(log, queue_name("specifier"), lease_s=1.0)
        async with in_background(AGENTS["specifier"](log, model).run(queue)):
            yield


def custodian_of(broker: Broker, *, is_open: bool = True) -> Custodian:
    return Custodian(SubjectKeyDirectory(broker.directory / "subjects"), is_open=is_open)


async def said(log: EventLog, run: str, wanted: type) -> list[StoredEvent]:
    """What the specifier said of a run, up to the first of a kind."""
    events = await until(log, run, wanted)
    return [each for each in events if each.event.role == "specifier"]


async def test_what_an_agent_cannot_read_it_leaves_for_later(broker: Broker, run: str) -> None:
    custodian = custodian_of(broker, is_open=False)
    async with (
        coordinator(broker),
        broker.joined("gateway") as gateway,
        specifier(broker, custodian, ScriptedAnswers()),
    ):
        await gateway.append(submission(run))
        await custodian.refused.acquire()
        custodian.is_open = True
        events = by_type(await said(gateway, run, StepCompleted))
        await end(gateway, run)
    assert len(events[StepClaimed.TYPE]) == 1


async def test_what_nobody_could_read_for_long_is_not_given_up(
    broker: Broker, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SEALED_RETRY_S", 0.01)
    custodian = custodian_of(broker, is_open=False)
    async with (
        coordinator(broker),
        broker.joined("gateway") as gateway,
        specifier(broker, custodian, ScriptedAnswers()),
    ):
        await gateway.append(submission(run))
        for _ in range(worker.DELIVERY_LIMIT + 1):
            await custodian.refused.acquire()
        custodian.is_open = True
        events = by_type(await said(gateway, run, StepCompleted))
        await end(gateway, run)
    assert len(events[StepClaimed.TYPE]) == 1
    assert AssignmentDead.TYPE not in events


async def test_an_agent_that_cannot_seal_its_answer_keeps_its_lease_until_it_can(
    broker: Broker, run: str
) -> None:
    custodian = custodian_of(broker)

    async def close(_: Sequence[Message]) -> None:
        custodian.is_open = False

    model = ScriptedAnswers(gate=close)
    async with (
        coordinator(broker),
        broker.joined("gateway") as gateway,
        specifier(broker, custodian, model),
    ):
        await gateway.append(submission(run))
        for _ in range(3):  # the lease is one second, and so is the pause between two tries
            await custodian.refused.acquire()
        custodian.is_open = True
        events = by_type(await said(gateway, run, StepCompleted))
        await end(gateway, run)
    assert len(events[StepClaimed.TYPE]) == 1
    assert len(model.calls) == 1


async def test_an_agent_that_cannot_seal_its_answer_is_free_once_the_run_has_ended(
    broker: Broker, run: str
) -> None:
    custodian = custodian_of(broker)

    async def close(_: Sequence[Message]) -> None:
        custodian.is_open = False

    model = ScriptedAnswers(gate=close)
    async with (
        coordinator(broker),
        broker.joined("gateway") as gateway,
        specifier(broker, custodian, model),
    ):
        await gateway.append(submission(run))
        await custodian.refused.acquire()
        await end(gateway, run)
        model.gate = _open
        custodian.is_open = True
        await gateway.append(submission(f"{run}b"))
        await said(gateway, f"{run}b", StepCompleted)
        await end(gateway, f"{run}b")


async def _open(_: Sequence[Message]) -> None:
    """A gate that holds nobody up."""


async def end(gateway: EventLog, run: str) -> None:
    """Leave nothing behind for the next test."""
    cancel = Draft(
        run=run,
        payload=CancelRequested(requested_by="Ann"),
        id=derive_id("cancel", run),
        on_behalf_of="admin",
    )
    await gateway.append(cancel)
    await until_end(gateway, run)


async def test_what_only_members_with_keys_can_refuse_is_put_on_record(
    broker: Broker, run: str
) -> None:
    """The auditor has no key and takes it; the log says all the same that it was refused."""
    async with coordinator(broker), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        (asked, *_) = await until(gateway, run, StepAssigned)  # so it follows what comes
        cancel = Draft(
            run=run,
            payload=CancelRequested(requested_by="Ann"),
            id=derive_id("cancel", run),
            on_behalf_of="admin",
        )
        sealed = await Vault(broker.keys).sealed(cancel)
        box = asked.event.data[asked.event.data.index(b'"sealed"') :]
        broken = await gateway._appender.append(replace(sealed, sealed=b"{" + box))
        *_, refused = await until(gateway, run, EventRefused)
    payload = refused.payload()
    assert isinstance(payload, EventRefused)
    assert payload.stream_sequence == broken.stream_sequence
    assert payload.code == "seal_broken"


async def until(log: EventLog, run: str, wanted: type) -> list[StoredEvent]:
    """The events of a run, up to the first of a kind."""
    events: list[StoredEvent] = []
    async with asyncio.timeout(30), aclosing(log.follow(run_filter(run))) as following:
        async for received in following:
            if isinstance(received, StoredEvent):
                events.append(received)
                if isinstance(received.payload(), wanted):
                    break
    return events
