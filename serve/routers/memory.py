"""The memory: write, read, delete, list, export and search; its upkeep for admins."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from starlette.responses import StreamingResponse

from actors.errors import MemorySealed, MemoryUnavailable
from bus.memory_payloads import Item, Kind, MemoryDeleted, MemoryWritten, Namespace, NewItem, Why
from policies.caller import Caller
from policies.roles import Deny
from serve.access import MemoryManager, MemoryReader, MemoryWriter, Parts
from serve.memory_access import writing
from serve.memory_reading import UNKNOWN, check_readable, find, read_item
from serve.memory_view import (
    FoundItem,
    ItemList,
    ItemView,
    ItemWrite,
    PendingWrite,
    Reindexed,
    SearchRequest,
    SearchResult,
    view_item,
)
from serve.memory_writing import Asked, ask, event_of, refuse, settled_before, used_otherwise
from serve.ports import GatewayParts
from serve.problems import FieldReason, InvalidFields, NotAllowed, NotFound, TooSlow, Unavailable
from serve.routers.runs import IdempotencyKey
from storage.memory_item import MemoryItem, Scope

router = APIRouter(prefix="/v1/memory", tags=["memory"])

NDJSON: Final = "application/x-ndjson"
EXPORT_ITEMS: Final = 100
"""At a time: each may be 128 KiB long."""
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,18})"')
_WITH_ETAG: Final = {"headers": {"ETag": {"schema": {"type": "string"}, "description": "Version."}}}

Where = Annotated[Namespace, Path(description="Such as shared/notes or user/<your id>/facts.")]
Below = Annotated[
    str,
    Path(
        description="A namespace, or the beginning of some.",
        max_length=256,
        pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})*$",
    ),
]
Which = Annotated[Item, Path(description="The item's own name.")]
New = Annotated[NewItem, Path(description="The item's own name; neither items nor export.")]
IfMatch = Annotated[
    str | None, Header(max_length=32, description='The version that was seen: "3".')
]
BaseQuery = Annotated[
    int | None, Query(ge=0, lt=2**63, description="The version that was seen; left out: any.")
]


@router.post("/search")
async def search_memory(wanted: SearchRequest, parts: Parts, caller: MemoryReader) -> SearchResult:
    """Find what is about a text, by meaning and by words.

    While the vector index or its model is away it goes by words only, and the answer says so.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        findings = await find(parts, caller, wanted)
    keyword = findings.recall != "hybrid"
    return SearchResult(
        found=tuple(
            FoundItem(score=each.score, item=view_item(each.item, in_list=True))
            for each in findings.found
        ),
        recall="keyword" if keyword else "hybrid",
        degraded=keyword,
    )


@router.post("/reindex")
async def reindex_memory(parts: Parts, caller: MemoryManager) -> Reindexed:  # noqa: ARG001 - let in
    """Make the vector index and the sessions anew, from Postgres. It goes on after the answer."""
    try:
        items = await parts.memory.keeping.reindex(deadline_s=parts.limits.upkeep_s)
    except MemoryUnavailable as error:
        raise TooSlow("The memory did not answer in time; it may be at work still.") from error
    return Reindexed(items=items)


@router.post("/rebuild", status_code=204)
async def rebuild_memory(parts: Parts, caller: MemoryManager) -> None:  # noqa: ARG001 - let in
    """Make all of the memory anew, from the audit log; the vector index follows."""
    try:
        await parts.memory.keeping.rebuild(deadline_s=parts.limits.upkeep_s)
    except MemorySealed as error:
        raise Unavailable(f"Nothing was changed: {error}. {error.hint}") from error
    except MemoryUnavailable as error:
        raise TooSlow("The memory did not answer in time; it may be at work still.") from error


@router.get("/{namespace:path}/items")
async def list_memory(
    namespace: Below,
    parts: Parts,
    caller: MemoryReader,
    kind: Kind | None = None,
    after: Annotated[str, Query(max_length=400, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ItemList:
    """List the items of a namespace and of all below it, in the order of their names."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await check_readable(parts, caller, namespace)
        scope = _scope(caller, namespace, kind)
        items = await parts.memory.records.page(
            scope, now=parts.clock(), after=_name(after), limit=limit
        )
    return ItemList(
        items=tuple(view_item(each, in_list=True) for each in items),
        next=f"{items[-1].namespace}/{items[-1].item}" if len(items) == limit else None,
    )


@router.get(
    "/{namespace:path}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": ItemView.model_json_schema()}}}},
)
async def export_memory(namespace: Below, parts: Parts, caller: MemoryReader) -> Response:
    """Every item of a namespace and of all below it, one JSON object a line."""
    scope = _scope(caller, namespace, None)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await check_readable(parts, caller, namespace)
        first = await _page(parts, scope, ("", ""))
    return StreamingResponse(_lines(parts, scope, first), media_type=NDJSON)


@router.get("/{namespace:path}/items/{item}", responses={200: _WITH_ETAG})
async def read_memory(
    namespace: Where, item: Which, parts: Parts, caller: MemoryReader, response: Response
) -> ItemView:
    """Read an item as it is now.

    While Valkey is away, what it keeps for a while is read from Postgres, and marked degraded.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await check_readable(parts, caller, namespace)
        read = await read_item(parts, caller, namespace, item)
    response.headers["ETag"] = _etag(read.item)
    return view_item(read.item, degraded=read.degraded)


@router.put(
    "/{namespace:path}/items/{item}",
    responses={
        200: _WITH_ETAG,
        201: {"model": ItemView, "description": "It was not there before.", **_WITH_ETAG},
        202: {"model": PendingWrite, "description": "It stands in the log; nobody knows more yet."},
        409: {"description": "The item is not as the writer saw it; `conflict` has both versions."},
    },
)
async def write_memory(
    namespace: Where,
    item: New,
    wanted: ItemWrite,
    parts: Parts,
    caller: MemoryWriter,
    response: Response,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> ItemView | PendingWrite:
    """Write the next version of an item.

    Say which version you saw, as `base` or in If-Match, and nobody's change is overwritten
    unseen: 0 for an item that must not be there yet. With an Idempotency-Key, a repeat by
    the same user is the same write.
    """
    payload = wanted.payload(namespace, item, _base(wanted.base, if_match))
    _check_writable(caller, namespace)
    async with asyncio.timeout(parts.limits.call_timeout_s + parts.limits.settle_s):
        event = event_of(caller, payload, idempotency_key)
        asked = await settled_before(parts, event) if idempotency_key else None
        asked = asked or await ask(parts, caller, payload, event)
        if asked.outcome is not None:
            await refuse(parts, caller, payload, asked.outcome)
        written = await _written(parts, asked, payload)
    if written is None:
        response.status_code = 202
        return PendingWrite(event=event)
    response.status_code = 201 if written.version == 1 or payload.base == 0 else 200
    response.headers["ETag"] = _etag(written)
    return view_item(written)


@router.delete(
    "/{namespace:path}/items/{item}",
    status_code=204,
    response_class=Response,
    responses={
        202: {"model": PendingWrite, "description": "It stands in the log; nobody knows more yet."},
        409: {"description": "The item is not as the writer saw it; `conflict` has both versions."},
    },
)
async def delete_memory(
    namespace: Where,
    item: Which,
    parts: Parts,
    caller: MemoryWriter,
    base: BaseQuery = None,
    if_match: IfMatch = None,
    reason: Annotated[Why, Query(description="Why; it stands in the log.")] = "",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Delete an item; its versions so far stay in the log."""
    payload = MemoryDeleted(
        namespace=namespace, item=item, base=_base(base, if_match), reason=reason
    )
    async with asyncio.timeout(parts.limits.call_timeout_s + parts.limits.settle_s):
        await check_readable(parts, caller, namespace)
        _check_writable(caller, namespace)
        event = event_of(caller, payload, idempotency_key)
        asked = await settled_before(parts, event) if idempotency_key else None
        if asked is None:
            there = await parts.memory.records.read(
                caller.tenant, namespace, item, now=parts.clock()
            )
            if there is None:
                raise NotFound(UNKNOWN)
            asked = await ask(parts, caller, payload, event)
        if asked.outcome is None:
            return Response(
                PendingWrite(event=event).model_dump_json(),
                status_code=202,
                media_type="application/json",
            )
        await refuse(parts, caller, payload, asked.outcome)
    if not asked.outcome.is_applied:  # somebody else deleted it meanwhile
        raise NotFound(UNKNOWN)
    return Response(status_code=204)


async def _written(parts: GatewayParts, asked: Asked, wanted: MemoryWritten) -> MemoryItem | None:
    """The version that the write made; None where that cannot be told yet."""
    if asked.outcome is None or not asked.outcome.is_applied:
        return None
    written = await parts.memory.records.written_by(asked.event)
    if written is None:
        raise NotFound(UNKNOWN)  # who wrote it was forgotten meanwhile
    if (written.content, written.kind, written.reason, dict(written.metadata)) != (
        *(wanted.content, wanted.kind, wanted.reason, wanted.metadata),
    ):
        raise used_otherwise()
    return written


async def _page(parts: GatewayParts, scope: Scope, after: tuple[str, str]) -> list[MemoryItem]:
    return await parts.memory.records.page(
        scope, now=parts.clock(), after=after, limit=EXPORT_ITEMS
    )


async def _lines(
    parts: GatewayParts, scope: Scope, items: list[MemoryItem]
) -> AsyncGenerator[bytes, None]:
    while items:
        lines = (view_item(each, in_list=True).model_dump_json() for each in items)
        yield ("\n".join(lines) + "\n").encode()
        last = items[-1]
        items = await _page(parts, scope, (last.namespace, last.item))


def _check_writable(caller: Caller, namespace: str) -> None:
    verdict = writing(caller, namespace)
    if isinstance(verdict, Deny):
        raise NotAllowed(verdict.reason)


def _scope(caller: Caller, namespace: str, kind: Kind | None) -> Scope:
    kinds = None if kind is None else (kind,)
    return Scope(tenant=caller.tenant, namespaces=(namespace,), kinds=kinds)


def _name(after: str) -> tuple[str, str]:
    if "\0" in after:
        raise _invalid("after", "is not `next` of a page")
    namespace, _, item = after.rpartition("/")
    return namespace, item


def _etag(item: MemoryItem) -> str:
    return f'"{item.version}"'


def _base(base: int | None, if_match: str | None) -> int | None:
    """The version that was seen, said in one of the two places."""
    if if_match is None:
        return base
    matched = _ETAG.fullmatch(if_match)
    if matched is None:
        raise _invalid("If-Match", 'is not a version such as "3"')
    seen = int(matched[1])
    if base not in (None, seen):
        raise _invalid("If-Match", "names another version than base")
    return seen


def _invalid(field: Literal["If-Match", "after", "reason"], reason: str) -> InvalidFields:
    return InvalidFields(f"{field}: {reason}.", fields=(FieldReason(field=field, reason=reason),))
