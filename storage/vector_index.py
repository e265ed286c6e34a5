"""The vectors of the memory's items in Qdrant: a folder of its own, or a server by URL.

The index holds nothing that cannot be made again. What it finds may be gone or changed by now:
whoever searches reads the items themselves, from Postgres.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from qdrant_client.models import (
    FieldCondition,
    Filter,
    MatchAny,
    MatchValue,
    PayloadSchemaType,
    PointIdsList,
    PointStruct,
    Record,
)

from storage.errors import StorageUnavailable
from storage.exact_vectors import ExactVectors, Group
from storage.memory_item import Scope, is_within
from storage.vectors import Vectors, translated

_PAGE: Final = 2_000
_POINTS: Final = uuid.UUID("5f6f0f6e-7d6c-4c0e-8a53-3d1a3c6a2f0d")
"""Names the ids of points; a number of our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The vector of an item's version."""

    tenant: str
    namespace: str
    item: str
    version: int
    vector: tuple[float, ...]

    @property
    def id(self) -> str:
        """The same for every version of the item, and whenever the index is made again."""
        return point_id(self.tenant, self.namespace, self.item)


def point_id(tenant: str, namespace: str, item: str) -> str:
    """The id of the point of an item: a UUID of version 5 (RFC 9562)."""
    return str(uuid.uuid5(_POINTS, f"{tenant}\n{namespace}\n{item}"))


class VectorIndex:
    """One collection. Every method may raise StorageUnavailable or StorageRefused.

    Args:
        vectors: open.
        collection: its name; vectors of another model need another one.
        dimensions: numbers of a vector.
        deadline_s: for each call.
    """

    def __init__(
        self, vectors: Vectors, collection: str, dimensions: int, *, deadline_s: float = 30.0
    ) -> None:
        self._vectors = vectors
        self._collection = collection
        self._dimensions = dimensions
        self._deadline_s = deadline_s
        self._exact: ExactVectors | None = None
        self._names: dict[str, tuple[str, str]] = {}
        self._turn = asyncio.Lock()
        self.is_open = False

    async def exists(self) -> bool:
        """Whether the collection is there."""
        with translated("look for the collection"):
            async with asyncio.timeout(self._deadline_s):
                return await self._vectors.client.collection_exists(self._collection)

    async def open(self) -> None:
        """Make the collection, if it is not there, and what it is searched by.

        Raises:
            VectorMismatch: it holds vectors of another size.
        """
        await self._vectors.ensure_collection(self._collection, self._dimensions)
        if self._vectors.is_local:
            # In part it would be searched by another thread while it still grows.
            exact = ExactVectors(self._dimensions)
            names: dict[str, tuple[str, str]] = {}
            async for point in self.points():
                _keep(point, exact, names)
            self._exact, self._names = exact, names
        else:
            for field in ("tenant", "scopes"):
                with translated("make an index of a payload"):
                    async with asyncio.timeout(self._deadline_s):
                        await self._vectors.client.create_payload_index(
                            self._collection, field, PayloadSchemaType.KEYWORD
                        )
        self.is_open = True

    async def put(self, points: Sequence[Point]) -> None:
        """Store the vectors of items, in place of those that they had."""
        if not points:
            return
        with translated("store vectors"):
            async with asyncio.timeout(self._deadline_s):
                await self._vectors.client.upsert(
                    self._collection, [_struct(point) for point in points], wait=True
                )
        async with self._turn:
            if self._exact is not None:
                for point in points:
                    _keep(point, self._exact, self._names)

    async def drop(self, ids: Sequence[str]) -> None:
        """Remove points, those that are there."""
        if not ids:
            return
        with translated("remove vectors"):
            async with asyncio.timeout(self._deadline_s):
                await self._vectors.client.delete(
                    self._collection, PointIdsList(points=list(ids)), wait=True
                )
        async with self._turn:
            if self._exact is not None:
                for point in ids:
                    self._names.pop(point, None)
                    self._exact.drop(point)

    async def clear(self) -> None:
        """Remove the collection with all that is in it, and make it anew."""
        self.is_open = False
        self._exact = None
        with translated("remove the collection"):
            async with asyncio.timeout(self._deadline_s):
                await self._vectors.client.delete_collection(self._collection)
        await self.open()

    async def nearest(
        self, vector: Sequence[float], scope: Scope, *, least: float, limit: int
    ) -> list[tuple[str, str]]:
        """Items whose vectors are nearest, the nearest first, by namespace and item.

        Args:
            vector: what they are to be near to.
            scope: where to look.
            least: the cosine with it that they have at least.
            limit: most items.

        Raises:
            StorageUnavailable: also while a folder is being read, which is not searched in part.
        """
        if not self._vectors.is_local:
            return await self._ask(vector, scope, least, limit)
        if self._exact is None:
            raise StorageUnavailable("The vector index is not open yet.")
        exact, names = self._exact, self._names

        def within(group: Group) -> bool:
            return group[0] == scope.tenant and is_within(group[1], scope)

        async with self._turn:
            found = await asyncio.to_thread(exact.nearest, vector, within=within, limit=limit)
        return [names[point] for point, cosine in found if cosine >= least and point in names]

    async def points(self) -> AsyncIterator[Point]:
        """Everything in the collection."""
        offset = None
        while True:
            with translated("read vectors"):
                async with asyncio.timeout(self._deadline_s):
                    records, offset = await self._vectors.client.scroll(
                        self._collection,
                        limit=_PAGE,
                        offset=offset,
                        with_payload=True,
                        with_vectors=True,
                    )
            for record in records:
                yield _point(record)
            if offset is None:
                return
            await asyncio.sleep(0)  # local mode reads in this thread: others have their turn

    async def _ask(
        self, vector: Sequence[float], scope: Scope, least: float, limit: int
    ) -> list[tuple[str, str]]:
        """The same of a server, which has an index of its own."""
        wanted = Filter(
            must=[
                FieldCondition(key="tenant", match=MatchValue(value=scope.tenant)),
                FieldCondition(key="scopes", match=MatchAny(any=list(scope.namespaces))),
            ]
        )
        with translated("search vectors"):
            async with asyncio.timeout(self._deadline_s):
                found = await self._vectors.client.query_points(
                    self._collection,
                    query=list(vector),
                    query_filter=wanted,
                    limit=limit,
                    score_threshold=least,
                    with_payload=["namespace", "item"],
                )
        payloads = [point.payload or {} for point in found.points]
        return [(str(payload["namespace"]), str(payload["item"])) for payload in payloads]


def _keep(point: Point, exact: ExactVectors, names: dict[str, tuple[str, str]]) -> None:
    exact.put(point.id, (point.tenant, point.namespace), point.vector)
    names[point.id] = (point.namespace, point.item)


def _scopes(namespace: str) -> Iterable[str]:
    """The namespace, and all that it is below of."""
    parts = namespace.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts) + 1))


def _struct(point: Point) -> PointStruct:
    return PointStruct(
        id=point.id,
        vector=list(point.vector),
        payload={
            "tenant": point.tenant,
            "namespace": point.namespace,
            "item": point.item,
            "version": point.version,
            "scopes": list(_scopes(point.namespace)),
        },
    )


def _point(record: Record) -> Point:
    payload = record.payload or {}
    vector = record.vector if isinstance(record.vector, list) else []
    return Point(
        tenant=str(payload["tenant"]),
        namespace=str(payload["namespace"]),
        item=str(payload["item"]),
        version=int(payload["version"]),
        vector=tuple(float(number) for number in vector if isinstance(number, float | int)),
    )
