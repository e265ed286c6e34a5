"""Changes of the memory, as the events of a log would make them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from storage.memory import MemoryReader
from storage.memory_change import (
    Cause,
    Forget,
    MemoryChange,
    MemoryKind,
    Quarantine,
    Release,
    Version,
    Write,
)
from storage.memory_item import MemoryItem, Scope
from storage.memory_projection import MemoryProjection
from storage.postgres import Pool

BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)
TENANT = "default"


@dataclass
class Remembering:
    """A memory, and the log that leads to it: each change stands one place behind the last."""

    pool: Pool
    place: int = 0

    @property
    def projection(self) -> MemoryProjection:
        return MemoryProjection(self.pool)

    @property
    def reader(self) -> MemoryReader:
        return MemoryReader(self.pool)

    @property
    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.place)

    def cause(
        self, author: str = "coder/coder-1", subject: str | None = None, run: str = "r1"
    ) -> Cause:
        self.place += 1
        return Cause(
            event=f"e{self.place}",
            place=self.place,
            stored_at=self.now,
            author=author,
            author_key="UA",
            run=run,
            tenant=TENANT,
            subject=subject,
        )

    def written(
        self,
        item: str,
        content: str | None = "text",
        *,
        base: int | None = None,
        author: str = "coder/coder-1",
        subject: str | None = None,
        sources: tuple[Version, ...] = (),
        life_s: float | None = None,
        namespace: str = "shared/notes",
        kind: MemoryKind = "semantic",
        run: str = "r1",
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> Write:
        cause = self.cause(author, subject, run)
        return Write(
            cause=cause,
            namespace=namespace,
            item=item,
            kind=kind,
            base=base,
            content=content,
            metadata=metadata or {},
            is_deletion=content is None,
            sources=sources,
            expires_at=None if life_s is None else cause.stored_at + timedelta(seconds=life_s),
        )

    def quarantine(self, author: str, since: int) -> Quarantine:
        return Quarantine(cause=self.cause("authority/operator"), agent=author, since=since)

    def release(self, quarantine: Quarantine) -> Release:
        cause = self.cause("authority/operator")
        return Release(cause=cause, quarantine=quarantine.cause.event)

    def forget(self, person: str) -> Forget:
        return Forget(cause=self.cause("authority/operator"), person=person)

    async def apply(self, *changes: MemoryChange) -> None:
        await self.projection.apply(changes, after=0, until=self.place)

    async def read(self, item: str) -> MemoryItem | None:
        return await self.reader.read(TENANT, "shared/notes", item, now=self.now)

    async def content(self, item: str) -> str | None:
        found = await self.read(item)
        return None if found is None else found.content

    async def refusals(self) -> list[tuple[str, str, int]]:
        return [(r.event, r.code, r.version) for r in await self.projection.untold(100)]


def scope(*namespaces: str) -> Scope:
    return Scope(tenant=TENANT, namespaces=namespaces or ("shared",))


def version(item: str, number: int) -> Version:
    return Version(namespace="shared/notes", item=item, version=number)
