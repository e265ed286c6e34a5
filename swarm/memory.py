"""The swarm's memory over the SDK: written with versions, so that nobody overwrites unseen."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
from pydantic import JsonValue

from swarm.answer import parse
from swarm.errors import MemoryPending
from swarm.http import Call, Gateway
from swarm.memory_view import (
    MemoryItem,
    MemoryKind,
    MemorySearch,
    MemoryVersion,
    MetadataValue,
    Page,
    Reindexed,
    Standing,
)

UPKEEP_S: Final = 300.0
EXPORT_SILENCE_S: Final = 60.0


class AsyncMemory:
    """What the swarm remembers. Reach it as ``swarm.memory``.

    A namespace is a path: ``shared/...`` for everybody of one's tenant, ``user/<own id>/...`` for
    oneself, ``role/<role>/...`` and ``run/<run>/...`` of the agents, to be read only.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def write(
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
        """Write the next version of an item; it is in force when this returns.

        Args:
            namespace: where.
            item: its own name there.
            content: what it says.
            kind: what is so, what happened, or what goes away by itself.
            base: the version that one saw, 0 for none; None writes over whatever is there.
            metadata: anything else.
            reason: why; it stands in the log.
            ttl_s: seconds after which it is gone; a session item needs one.
            derived_from: the versions that it was made from.
            idempotency_key: the same key is the same write, whichever process asks.

        Raises:
            MemoryConflict: somebody else wrote it in between.
            MemoryPending: it stands in the log, and nobody has looked at it yet; the same
                call with the same key asks again.
            NotAllowed: one may not write there.
            Refused: something of it is not accepted; `fields` says what.
        """
        body: dict[str, JsonValue] = {
            "content": content,
            "kind": kind,
            "base": base,
            "metadata": dict(metadata or {}),
            "reason": reason,
            "ttl_s": ttl_s,
            "derived_from": [
                {"namespace": each.namespace, "item": each.item, "version": each.version}
                for each in derived_from
            ],
        }
        call = Call(
            method="PUT",
            path=_path(namespace, item),
            json=body,
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
        answer = await self._gateway.call(call)
        _see_that_it_stands(answer)
        return parse(MemoryItem, answer)

    async def read(self, namespace: str, item: str) -> MemoryItem:
        """An item as it is now.

        Raises:
            NotFound: it is not there, or not one's own to read.
        """
        call = Call(method="GET", path=_path(namespace, item))
        return parse(MemoryItem, await self._gateway.call(call))

    async def delete(
        self,
        namespace: str,
        item: str,
        *,
        base: int | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> None:
        """Delete an item; its versions so far stay in the log.

        Raises:
            MemoryConflict, MemoryPending, NotAllowed: as in `write`.
            NotFound: it is not there.
        """
        asked = [] if base is None else [("base", str(base))]
        call = Call(
            method="DELETE",
            path=f"{_path(namespace, item)}?{urlencode([*asked, ('reason', reason)])}",
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
        answer = await self._gateway.call(call)
        if answer:
            _see_that_it_stands(answer)

    async def search(
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
        """What is about a text, by meaning and by words.

        Args:
            query: what it is to be about.
            namespaces: where, and in all below; None for all but what belongs to single runs.
            kinds: of which kinds; none for all but those of sessions.
            author: who wrote it, such as ``coder/coder-1``.
            run: in which it was written.
            since: when it was written at the earliest; with a time zone, as is `before`.
            before: the first moment at which it was not written any more.
            metadata: what its own has among other things; at most eight keys.
            limit: most items, at most 100.

        Raises:
            NotFound: a namespace is not one's own to read.
            Refused: something that it is narrowed to cannot be; `fields` says what.
        """
        filters: dict[str, JsonValue] = {
            "author": author,
            "run": run,
            "since": None if since is None else since.isoformat(),
            "before": None if before is None else before.isoformat(),
            "metadata": dict(metadata or {}),
        }
        body: dict[str, JsonValue] = {
            "query": query,
            "namespaces": None if namespaces is None else list(namespaces),
            "kinds": list(kinds),
            "limit": limit,
        }
        if any(filters.values()):
            body["filters"] = filters
        call = Call(method="POST", path="/v1/memory/search", json=body)
        return parse(MemorySearch, await self._gateway.call(call))

    async def list(
        self, namespace: str = "shared", *, kind: MemoryKind | None = None
    ) -> AsyncGenerator[MemoryItem, None]:
        """The items of a namespace and of all below it, in the order of their names.

        Raises:
            NotFound: the namespace is not one's own to read.
        """
        after: str | None = ""
        while after is not None:
            asked = {"after": after, **({} if kind is None else {"kind": kind})}
            path = f"/v1/memory/{quote(namespace)}/items?{urlencode(asked)}"
            page = parse(Page, await self._gateway.call(Call(method="GET", path=path)))
            for item in page.items:
                yield item
            after = page.next

    async def export(self, namespace: str = "shared") -> AsyncGenerator[str, None]:
        """Every item of a namespace and of all below it, as lines of JSON.

        Raises:
            NotFound: the namespace is not one's own to read.
            GatewayFailed, NotReachable: it broke off; what came is not all.
        """
        call = Call(method="GET", path=f"/v1/memory/{quote(namespace)}/export")
        async with self._gateway.stream(call, silence_s=EXPORT_SILENCE_S) as response:
            async for line in _lines(response):
                yield line

    async def reindex(self) -> int:
        """Have the vector index and the sessions made anew, from Postgres; of how many items.

        Raises:
            NotAllowed: only admins may.
        """
        call = Call(method="POST", path="/v1/memory/reindex")
        answer = await self._gateway.call(call, repeatable=False, timeout_s=UPKEEP_S)
        return parse(Reindexed, answer).items

    async def rebuild(self) -> None:
        """Have all of the memory made anew, from the audit log.

        Raises:
            NotAllowed: only admins may.
        """
        call = Call(method="POST", path="/v1/memory/rebuild")
        await self._gateway.call(call, repeatable=False, timeout_s=UPKEEP_S)


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Lines of JSON; httpx's also end at what JSON leaves as it is, such as U+2028."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _path(namespace: str, item: str) -> str:
    return f"/v1/memory/{quote(namespace)}/items/{quote(item, safe='')}"


def _see_that_it_stands(answer: bytes) -> None:
    standing = parse(Standing, answer)
    if standing.status == "pending":
        raise MemoryPending(event=standing.event)
