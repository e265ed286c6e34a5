"""The memory over the SDK without asyncio; see swarm/memory.py for what each call does."""

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue

from swarm.bridge import Bridge
from swarm.memory import AsyncMemory
from swarm.memory_view import (
    MemoryItem,
    MemoryKind,
    MemorySearch,
    MemoryVersion,
    MetadataValue,
)


class Memory:
    """What the swarm remembers. Reach it as ``swarm.memory``."""

    def __init__(self, memory: AsyncMemory, bridge: Bridge) -> None:
        self._memory = memory
        self._bridge = bridge

    def write(
        self,
        namespace: str,
        item: str,
        content: str,
        *,
        kind: MemoryKind = "semantic",
        base: int | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        reason: str = "",
        ttl_s: int | None = None,
        derived_from: Sequence[MemoryItem | MemoryVersion] = (),
        idempotency_key: str | None = None,
    ) -> MemoryItem:
        """Write the next version of an item. See AsyncMemory.write."""
        writing = self._memory.write(
            namespace,
            item,
            content,
            kind=kind,
            base=base,
            metadata=metadata,
            reason=reason,
            ttl_s=ttl_s,
            derived_from=derived_from,
            idempotency_key=idempotency_key,
        )
        return self._bridge.call(writing)

    def read(self, namespace: str, item: str) -> MemoryItem:
        """An item as it is now. See AsyncMemory.read."""
        return self._bridge.call(self._memory.read(namespace, item))

    def delete(
        self,
        namespace: str,
        item: str,
        *,
        base: int | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> None:
        """Delete an item. See AsyncMemory.delete."""
        deleting = self._memory.delete(
            namespace, item, base=base, reason=reason, idempotency_key=idempotency_key
        )
        self._bridge.call(deleting)

    def search(
        self,
        query: str,
        namespaces: Sequence[str] | None = None,
        *,
        kinds: Sequence[MemoryKind] = (),
        author: str | None = None,
        run: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
        limit: int = 10,
    ) -> MemorySearch:
        """What is about a text. See AsyncMemory.search."""
        searching = self._memory.search(
            query,
            namespaces,
            kinds=kinds,
            author=author,
            run=run,
            since=since,
            before=before,
            metadata=metadata,
            limit=limit,
        )
        return self._bridge.call(searching)

    def list(
        self, namespace: str = "shared", *, kind: MemoryKind | None = None
    ) -> Generator[MemoryItem, None, None]:
        """The items of a namespace and of all below it. See AsyncMemory.list."""
        return self._bridge.iterate(self._memory.list(namespace, kind=kind))

    def export(self, namespace: str = "shared") -> Generator[str, None, None]:
        """Every item there as lines of JSON. See AsyncMemory.export."""
        return self._bridge.iterate(self._memory.export(namespace))

    def reindex(self) -> int:
        """Have the vector index and the sessions made anew. See AsyncMemory.reindex."""
        return self._bridge.call(self._memory.reindex())

    def rebuild(self) -> None:
        """Have all of the memory made anew. See AsyncMemory.rebuild."""
        self._bridge.call(self._memory.rebuild())
