"""A memory in a dictionary, folded from the log of the fakes by the keeper's own reading of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from actors.errors import MemorySealed, MemoryUnavailable
from actors.memory_client import MemoryService
from actors.memory_events import change_of
from actors.memory_question import Findings, Found, SignedQuestion
from bus.event import StoredEvent
from bus.memory_payloads import Kind
from bus.received import Received
from bus.subjects import DEFAULT_TENANT, tenant_of
from policies.capabilities import Capabilities
from serve.memory_ports import Memory
from storage.errors import StorageUnavailable
from storage.memory_change import Deny, Write
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Outcome, Scope, is_within

Key = tuple[str, str, str]


@dataclass
class FakeMemory:
    """All that the gateway needs of the memory; parts of it may be away."""

    stored: list[Received]
    versions: dict[Key, list[MemoryItem | None]] = field(default_factory=dict)
    sessions: dict[Key, MemoryItem] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    is_away: bool = False
    """The keeper, but for its records in Postgres."""
    sessions_away: bool = False
    keeps_up: bool = True
    follows: bool = True
    upkeep: list[str] = field(default_factory=list)
    is_sealed: bool = False
    """Whether the key to an event is refused."""
    asked: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)

    def ports(self) -> Memory:
        return Memory(
            records=self, sessions=_Sessions(self), keeping=_Keeping(self), questions=_Asks(self)
        )

    def items(self, tenant: str) -> list[MemoryItem]:
        there = [
            versions[-1] for (whose, _, _), versions in self.versions.items() if whose == tenant
        ]
        return sorted((i for i in there if i is not None), key=lambda i: (i.namespace, i.item))

    def catch_up(self) -> None:
        for stored in self.stored:
            if isinstance(stored, StoredEvent) and stored.event.id not in self.outcomes:
                self._apply(stored)

    def _apply(self, stored: StoredEvent) -> None:
        change = change_of(
            stored.event,
            place=stored.stream_sequence,
            stored_at=stored.stored_at,
            policy_of=lambda _: Capabilities.shipped(),
        )
        told: dict[str, Any] = {"place": stored.stream_sequence, "version": 0}
        if isinstance(change, Deny):
            outcome = Outcome(is_applied=False, refusal="denied", **told)
        elif isinstance(change, Write):
            key = (change.cause.tenant, change.namespace, change.item)
            versions = self.versions.setdefault(key, [])
            seen = len(versions) if versions and versions[-1] is not None else 0
            if change.base not in (None, seen):
                outcome = Outcome(is_applied=False, refusal="conflict", **{**told, "version": seen})
            else:
                versions.append(_item(change, len(versions) + 1))
                outcome = Outcome(is_applied=True, refusal=None, **told)
        else:
            return
        self.outcomes[stored.event.id] = outcome

    async def read(
        self,
        tenant: str,
        namespace: str,
        item: str,
        *,
        now: datetime,  # noqa: ARG002 - the port has it
    ) -> MemoryItem | None:
        versions = self.versions.get((tenant, namespace, item))
        return versions[-1] if versions else None

    async def page(
        self,
        scope: Scope,
        *,
        now: datetime,  # noqa: ARG002 - the port has it
        after: tuple[str, str] = ("", ""),
        limit: int,
    ) -> list[MemoryItem]:
        found = [
            item
            for item in self.items(scope.tenant)
            if is_within(item.namespace, scope)
            and (scope.kinds is None or item.kind in scope.kinds)
            and (item.namespace, item.item) > after
        ]
        return found[:limit]

    async def named(
        self,
        tenant: str,
        names: Sequence[tuple[str, str]],
        *,
        now: datetime,  # noqa: ARG002 - the port has it
        filters: MemoryFilters = UNFILTERED,
    ) -> dict[tuple[str, str], MemoryItem]:
        there = {
            (item.namespace, item.item): item
            for item in self.items(tenant)
            if _passes(item, filters)
        }
        return {name: there[name] for name in names if name in there}

    async def search(
        self,
        scope: Scope,
        text: str,
        *,
        now: datetime,
        limit: int,
        filters: MemoryFilters = UNFILTERED,
    ) -> list[tuple[str, str]]:
        words = set(text.lower().split())
        return [
            (item.namespace, item.item)
            for item in await self.page(scope, now=now, limit=1_000)
            if words & set(item.content.lower().split()) and _passes(item, filters)
        ][:limit]

    async def outcome(self, event: str) -> Outcome:
        nothing = Outcome(place=len(self.stored), is_applied=False, refusal=None, version=0)
        return self.outcomes.get(event, nothing)

    async def written_by(self, event: str) -> MemoryItem | None:
        every = (item for versions in self.versions.values() for item in versions)
        return next((item for item in every if item is not None and item.event == event), None)


@dataclass
class _Sessions:
    memory: FakeMemory

    async def get(self, tenant: str, namespace: str, item: str) -> MemoryItem | None:
        if self.memory.sessions_away:
            raise StorageUnavailable("read an item of a session")
        return self.memory.sessions.get((tenant, namespace, item))

    async def supersede(self, tenant: str, namespace: str, item: str, *, place: int) -> None:
        if self.memory.sessions_away:
            raise StorageUnavailable("supersede an item of a session")
        kept = self.memory.sessions.get((tenant, namespace, item))
        if kept is not None and kept.place < place:
            del self.memory.sessions[tenant, namespace, item]


@dataclass
class _Keeping(MemoryService):
    memory: FakeMemory

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        raise NotImplementedError

    async def settled(
        self,
        event: str,
        place: int,  # noqa: ARG002 - the port has it
        *,
        deadline_s: float,  # noqa: ARG002 - the port has it
    ) -> Outcome:
        self._answer()
        self.memory.catch_up()
        return await self.memory.outcome(event)

    async def is_following(self, *, deadline_s: float) -> bool:  # noqa: ARG002 - the port has it
        self._answer()
        return self.memory.keeps_up

    async def is_indexing(self, *, deadline_s: float) -> bool:  # noqa: ARG002 - the port has it
        self._answer()
        return self.memory.follows

    async def reindex(self, *, deadline_s: float) -> int:  # noqa: ARG002 - the port has it
        self._answer()
        self.memory.upkeep.append("reindex")
        return len(self.memory.versions)

    async def rebuild(self, *, deadline_s: float) -> None:  # noqa: ARG002 - the port has it
        self._answer()
        if self.memory.is_sealed:
            raise MemorySealed("event e7 of run r7 is sealed")
        self.memory.upkeep.append("rebuild")

    def _answer(self) -> None:
        if self.memory.is_away:
            raise MemoryUnavailable


@dataclass
class _Asks:
    memory: FakeMemory

    async def search(
        self,
        text: str,
        namespaces: Sequence[str],
        *,
        run: str,
        kinds: Sequence[Kind] = (),
        filters: MemoryFilters = UNFILTERED,
        limit: int = 10,
        deadline_s: float = 5.0,  # noqa: ARG002 - the port has it
    ) -> Findings:
        if self.memory.is_away:
            raise MemoryUnavailable
        self.memory.asked.append((text, tuple(namespaces), run))
        scope = Scope(
            tenant=tenant_of(run) or DEFAULT_TENANT,
            namespaces=tuple(namespaces),
            kinds=tuple(kinds) or None,
        )
        now = datetime.now(UTC)
        names = await self.memory.search(scope, text, now=now, limit=limit, filters=filters)
        there = await self.memory.named(scope.tenant, names, now=now)
        return Findings(found=tuple(Found(item=there[name], score=0.5) for name in names))


def _passes(item: MemoryItem, wanted: MemoryFilters) -> bool:
    return (
        wanted.author in (None, item.author)
        and wanted.run in (None, item.run)
        and (wanted.since is None or item.written_at >= wanted.since)
        and (wanted.before is None or item.written_at < wanted.before)
        and {**item.metadata, **wanted.metadata} == item.metadata
    )


def _item(change: Write, version: int) -> MemoryItem | None:
    if change.is_deletion or change.content is None:
        return None
    cause = change.cause
    return MemoryItem(
        tenant=cause.tenant,
        namespace=change.namespace,
        item=change.item,
        version=version,
        kind=change.kind,
        content=change.content,
        metadata=change.metadata,
        written_at=cause.stored_at,
        place=cause.place,
        event=cause.event,
        author=cause.author,
        run=cause.run,
        step=change.step,
        subject=cause.subject,
        reason=change.reason,
        expires_at=change.expires_at,
        sources=tuple(change.sources),
    )
