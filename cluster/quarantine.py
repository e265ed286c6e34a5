"""Hiding what a compromised agent wrote to the memory, and showing it again."""

import asyncio
from collections.abc import AsyncIterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from bus.event import Draft, StoredEvent, derive_id
from bus.memory_payloads import MemoryQuarantined, MemoryReleased
from bus.payload import Payload
from bus.payloads import IdentityIssued
from bus.received import Received
from bus.subjects import ALL_EVENTS, MEMORY_RUN
from cluster import state as states
from cluster.errors import UnknownEvent, UnknownKeyName
from cluster.keys import person
from cluster.log_access import acting, domain_in, observing
from cluster.log_servers import of_running
from cluster.recorded_run import recorded_events
from cluster.settings import Settings
from storage.memory import MemoryReader
from storage.postgres import open_pool

APPLIED_S: Final = 20.0
_LOOK_S: Final = 0.1
_REASON_CHARS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A quarantine that stands in the log.

    Attributes:
        event: its id, by which it is released.
        agent: role/name.
        since: the place in the log from which on.
        items: of the memory that have a version that it hides; None where the memory has not
            looked at it yet.
    """

    event: str
    agent: str
    since: int
    items: int | None


@dataclass(slots=True)
class Told:
    """What the log tells of an event, of agents, and of quarantines."""

    event: str
    place: int | None = None
    agents: set[str] = field(default_factory=set)
    quarantines: dict[str, tuple[MemoryQuarantined, int]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)

    def take(self, stored: StoredEvent) -> None:
        """Note an event; in the order of the log."""
        event = stored.event
        if event.id == self.event and self.place is None:  # who repeats an id hides nothing
            self.place = stored.stream_sequence
        match event.payload() if event.type in _TOLD else None:
            case IdentityIssued(role=role, name=name):
                self.agents.add(f"{role}/{name}")
            case MemoryQuarantined() as quarantine:
                self.quarantines[event.id] = (quarantine, stored.stream_sequence)
            case MemoryReleased(quarantine=quarantine_id):
                self.released.add(quarantine_id)

    def agent(self, name: str) -> str:
        """Role and name of an agent that is named by both or by its name.

        Raises:
            UnknownKeyName: there was none, or there were several.
        """
        found = sorted(each for each in self.agents if name in (each, each.partition("/")[2]))
        if len(found) != 1:
            said = f"Several are called {name[:64]!r}: {', '.join(found)}."
            raise UnknownKeyName(said if found else f"No member is called {name[:64]!r}.")
        return found[0]

    def quarantine_id(self, agent: str, since: int) -> str:
        """The id of the quarantine: the same until it is released, then another one."""
        turn = 0
        while (found := derive_id("memory.quarantined", agent, str(since), str(turn))) in (
            self.released
        ):
            turn += 1
        return found


_TOLD: Final = frozenset({IdentityIssued.TYPE, MemoryQuarantined.TYPE, MemoryReleased.TYPE})


async def quarantine(settings: Settings, agent: str, since: str, *, reason: str) -> Quarantined:
    """Hide what an agent wrote to the memory from an event on, and all that was derived from it.

    Doing it again changes nothing.

    Args:
        settings: of the swarm.
        agent: role/name, or the name alone.
        since: the id of an event.
        reason: goes on record.

    Raises:
        NotRunning: there is no swarm to put it on record.
        UnknownKeyName: no member is called so.
        UnknownEvent: the log holds no such event, and the audit log neither.
        StorageError: nobody can say whether the audit log holds it.
        BusUnreachable, PublishError: it is not on record; do it again.
    """
    told = await _told(settings, since)
    begin = told.place or await _audited_place(settings, since)
    if begin is None:
        raise UnknownEvent(f"The log holds no event {since[:64]!r}.")
    whose = told.agent(agent)
    event_id = told.quarantine_id(whose, begin)
    payload = MemoryQuarantined(
        agent=whose, since=begin, requested_by=person(), reason=reason[:_REASON_CHARS]
    )
    known = told.quarantines.get(event_id)
    place = known[1] if known else await _said(settings, payload, event_id)
    items = await _hidden(settings, event_id, place)
    return Quarantined(event=event_id, agent=whose, since=begin, items=items)


async def release(settings: Settings, event: str, *, reason: str) -> Quarantined:
    """Show again what a quarantine hid; what another one hides as well stays hidden.

    Doing it again changes nothing.

    Returns:
        The quarantine, with what it hides now.

    Raises:
        NotRunning, BusUnreachable, PublishError: as in `quarantine`.
        UnknownEvent: the log holds no such quarantine.
    """
    told = await _told(settings, event)
    if event not in told.quarantines:
        raise UnknownEvent(f"No quarantine is {event[:64]!r}.")
    hidden, place = told.quarantines[event]
    if event not in told.released:
        payload = MemoryReleased(
            quarantine=event, requested_by=person(), reason=reason[:_REASON_CHARS]
        )
        place = await _said(settings, payload, derive_id("memory.released", event))
    items = await _hidden(settings, event, place)
    return Quarantined(event=event, agent=hidden.agent, since=hidden.since, items=items)


async def told_by(events: AsyncIterable[Received], event: str) -> Told:
    """What all events of the log, in its order, tell."""
    told = Told(event=event)
    async for received in events:
        if isinstance(received, StoredEvent):
            told.take(received)
    return told


async def _told(settings: Settings, event: str) -> Told:
    home = settings.located_home()
    async with (
        observing(home, domain_in(home, states.load_running(home))) as log,
        aclosing(log.read(ALL_EVENTS, unseal=False)) as events,
    ):
        return await told_by(events, event)


async def _audited_place(settings: Settings, event: str) -> int | None:
    """Where an event stood in the log whose run has left the stream."""
    found = await recorded_events(settings, event)
    return next((one.stream_sequence for one in found if one.event_id == event), None)


async def _said(settings: Settings, payload: Payload, event_id: str) -> int:
    """Put it on record, and its place there."""
    home = settings.located_home()
    async with acting(home, domain_in(home, states.load_running(home))) as log:
        stored = await log.append(Draft(run=MEMORY_RUN, payload=payload, id=event_id))
    return stored.stream_sequence


async def _hidden(settings: Settings, event_id: str, place: int) -> int | None:
    """How many items a quarantine hides, once the memory has come to a place in the log."""
    servers = of_running(settings, states.load_running(settings.located_home()))
    async with open_pool(servers.database_url, max_size=1) as pool:
        reader = MemoryReader(pool)
        with suppress(TimeoutError):
            async with asyncio.timeout(APPLIED_S):
                while (await reader.outcome(event_id)).place < place:  # noqa: ASYNC110 - a table
                    await asyncio.sleep(_LOOK_S)
                return await reader.hidden_by(event_id)
    return None
