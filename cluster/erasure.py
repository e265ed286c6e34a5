"""Forgetting a person: the key is destroyed, the record stays, and every proof still verifies."""

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from actors.member import Domain
from bus.custody import FOLDER, SubjectKeyDirectory
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import (
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    payload_model,
)
from bus.received import Received
from bus.subjects import ALL_EVENTS, SYSTEM_RUN, subject_for
from bus.trust_payloads import SubjectForgotten
from cluster import state as states
from cluster.errors import SubjectBusy, UnknownSubject
from cluster.home import Home
from cluster.keys import person
from cluster.log_access import acting, domain_in, observing
from cluster.settings import Settings

_ENDS: Final = frozenset({RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE})
_TOLD: Final = 5
_REASON_CHARS: Final = 500


@dataclass(slots=True)
class Traces:
    """What the log holds of a person.

    Attributes:
        runs: that the person asked for, or that branched off from one of them.
        going: those of them that have not ended.
        sealed: events whose personal fields are sealed for the person.
        plain: events about the person that were stored before anything was sealed.
    """

    runs: set[str] = field(default_factory=set)
    going: set[str] = field(default_factory=set)
    sealed: int = 0
    plain: int = 0

    def take(self, stored: StoredEvent, subject: str) -> None:
        """Count an event; in the order of the log."""
        event = stored.event
        if (event.sealed_for or event.on_behalf_of) == subject:
            self.sealed += event.sealed_for is not None
            self.plain += event.sealed_for is None and bool(payload_model(event.type).PERSONAL)
            if event.type == RunSubmitted.TYPE:
                self.runs.add(event.run)
                self.going.add(event.run)
        if event.type in _ENDS:
            self.going.discard(event.run)
        elif event.type == RetryRequested.TYPE and event.run in self.runs:
            self.going.add(event.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """That a person is forgotten, and what that came to."""

    subject: str
    forgotten_at: datetime
    runs: int
    erased: int
    plain: int
    """Events that stay readable: they were stored before anything was sealed."""


async def forget(settings: Settings, subject: str, *, reason: str) -> Erasure:
    """Destroy the key of a person, and put on record that it was.

    Doing it again brings to an end what was interrupted, and changes nothing else. Members of
    the swarm drop the key within `bus.subject_keys.LIFE_S`.

    Raises:
        NotRunning: there is no swarm to put it on record.
        UnknownSubject: neither the log nor the authority knows of such a person.
        SubjectBusy: runs of the person have not ended.
        IdentityError: the key cannot be destroyed.
        BusUnreachable, PublishError: it is not on record; do it again.
    """
    home = settings.located_home()
    domain = domain_in(home, states.load_running(home))
    directory = SubjectKeyDirectory(home.keys / FOLDER)
    traces = await _traces_of(home, domain, subject)
    known = await asyncio.to_thread(directory.find, subject)
    if known is None and not (traces.runs or traces.sealed or traces.plain):
        raise UnknownSubject(f"Nothing is known of {subject[:64]!r}.")
    _see_that_nothing_goes_on(sorted(traces.going), subject)
    forgotten = await asyncio.to_thread(directory.forget, subject, now=datetime.now(UTC))
    async with acting(home, domain) as log:
        payload = SubjectForgotten(
            subject=subject,
            forgotten_at=forgotten.at,
            requested_by=person(),
            reason=reason[:_REASON_CHARS],
        )
        token = derive_id("subject", subject)
        if await log.last_on(subject_for(SYSTEM_RUN, payload.TYPE, token)) is None:
            event_id = derive_id("subject.forgotten", subject)
            draft = Draft(run=SYSTEM_RUN, payload=payload, id=event_id, suffix=(token,))
            await log.append(draft)
    return Erasure(
        subject=subject,
        forgotten_at=forgotten.at,
        runs=len(traces.runs),
        erased=traces.sealed,
        plain=traces.plain,
    )


async def traces_in(events: AsyncIterable[Received], subject: str) -> Traces:
    """What all events of the log, in its order, say of a person."""
    traces = Traces()
    async for received in events:
        if isinstance(received, StoredEvent):
            traces.take(received, subject)
    return traces


def subject_named(name: str, users: Mapping[str, str]) -> str:
    """The id of a person who was given by name or id; whoever is not among the users, by id."""
    names = {username.casefold(): user for username, user in users.items()}
    return names.get(name.casefold(), name)


async def _traces_of(home: Home, domain: Domain, subject: str) -> Traces:
    async with (
        observing(home, domain) as log,
        aclosing(log.read(ALL_EVENTS, unseal=False)) as events,
    ):
        return await traces_in(events, subject)


def _see_that_nothing_goes_on(going: Sequence[str], subject: str) -> None:
    if going:
        some = ", ".join(going[:_TOLD])
        raise SubjectBusy(f"{len(going)} runs of {subject[:64]} have not ended: {some}.")
