"""What the gateway needs of the memory: its records, what is kept for a while, and its keeper.

Each port is what one adapter offers: `storage.memory.MemoryReader`,
`storage.session_items.SessionItems`, `actors.memory_actor.RayMemory` and
`actors.memory_client.MemoryClient`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from actors.memory_client import MemoryService
from actors.memory_question import Findings
from bus.memory_payloads import Kind
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Outcome, Scope


class MemoryRecords(Protocol):
    """The memory in Postgres; each may raise StorageUnavailable."""

    async def read(
        self, tenant: str, namespace: str, item: str, *, now: datetime
    ) -> MemoryItem | None:
        """The item as it is now, None if it is not there."""
        ...

    async def page(
        self, scope: Scope, *, now: datetime, after: tuple[str, str] = ("", ""), limit: int
    ) -> list[MemoryItem]:
        """Items in the order of their names, without their sources."""
        ...

    async def named(
        self,
        tenant: str,
        names: Sequence[tuple[str, str]],
        *,
        now: datetime,
        filters: MemoryFilters = UNFILTERED,
    ) -> dict[tuple[str, str], MemoryItem]:
        """Those of the items, given by namespace and item, that are there and as they must be."""
        ...

    async def search(
        self,
        scope: Scope,
        text: str,
        *,
        now: datetime,
        limit: int,
        filters: MemoryFilters = UNFILTERED,
    ) -> list[tuple[str, str]]:
        """Items that share words with a text, the best match first, by namespace and item."""
        ...

    async def outcome(self, event: str) -> Outcome:
        """What became of the write that an event asked for."""
        ...

    async def written_by(self, event: str) -> MemoryItem | None:
        """The version that an event made, whether it is the last one or not."""
        ...


class SessionRecords(Protocol):
    """Items that go away by themselves; each may raise StorageUnavailable."""

    async def get(self, tenant: str, namespace: str, item: str) -> MemoryItem | None:
        """The item, None if it is not kept here."""
        ...

    async def supersede(self, tenant: str, namespace: str, item: str, *, place: int) -> None:
        """Have no version read that is older than the change at this place of the stream."""
        ...


class MemoryKeeping(MemoryService, Protocol):
    """Who keeps the memory; must pickle. Each raises MemoryUnavailable where nobody answers."""

    async def is_following(self, *, deadline_s: float) -> bool:
        """Whether what is written takes effect."""
        ...

    async def is_indexing(self, *, deadline_s: float) -> bool:
        """Whether the vector index and the sessions follow the memory."""
        ...

    async def reindex(self, *, deadline_s: float) -> int:
        """Make the vector index and the sessions anew; of how many items."""
        ...

    async def rebuild(self, *, deadline_s: float) -> None:
        """Make all of it anew from the audit log."""
        ...


class MemoryQuestions(Protocol):
    """Asks the memory under the gateway's key."""

    async def search(
        self,
        text: str,
        namespaces: Sequence[str],
        *,
        run: str,
        kinds: Sequence[Kind] = (),
        filters: MemoryFilters = UNFILTERED,
        limit: int = 10,
        deadline_s: float = 5.0,
    ) -> Findings:
        """Items of these namespaces, and those below, that are about a text; best first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory as the gateway uses it.

    Attributes:
        records: what is so, in Postgres.
        sessions: what is kept for a while, in Valkey or Redis.
        keeping: who keeps it.
        questions: asks for people.
    """

    records: MemoryRecords
    sessions: SessionRecords
    keeping: MemoryKeeping
    questions: MemoryQuestions
