"""Reading the memory for people: as well as it can be done with what is there just now."""

from dataclasses import dataclass

import structlog

from actors.errors import MemoryUnavailable
from actors.memory_question import Findings, Found
from bus.subjects import MEMORY_RUN, run_of
from policies.caller import Caller
from policies.roles import Allow
from serve.audited_run import check_visible
from serve.memory_access import IfSeen, everything, reading
from serve.memory_view import SearchRequest
from serve.ports import GatewayParts
from serve.problems import NotFound
from storage.errors import StorageUnavailable
from storage.memory_item import MemoryItem, Scope

log = structlog.get_logger()

UNKNOWN = "There is nothing of that name in the memory."


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An item, and whether all parts of the memory were there to ask."""

    item: MemoryItem
    degraded: bool


async def check_readable(parts: GatewayParts, caller: Caller, namespace: str) -> None:
    """Pass over a namespace that the caller may look at.

    Raises:
        NotFound: it is not theirs; said as if nothing were there.
    """
    verdict = reading(caller, namespace)
    if isinstance(verdict, IfSeen):
        try:
            await check_visible(parts, verdict.run, caller)
        except NotFound as error:
            raise NotFound(UNKNOWN) from error
    elif not isinstance(verdict, Allow):
        raise NotFound(UNKNOWN)


async def read_item(parts: GatewayParts, caller: Caller, namespace: str, item: str) -> Read:
    """The item, from where it is kept for a while, or else from Postgres.

    Raises:
        NotFound: it is not there.
        StorageUnavailable: Postgres does not answer.
    """
    degraded, now = False, parts.clock()
    try:
        kept = await parts.memory.sessions.get(caller.tenant, namespace, item)
    except StorageUnavailable as error:
        log.warning("memory.sessions_away", reason=str(error))
        kept, degraded = None, True
    if kept is not None and kept.expires_at is not None and kept.expires_at > now:
        return Read(item=kept, degraded=False)
    found = await parts.memory.records.read(caller.tenant, namespace, item, now=now)
    if found is None:
        raise NotFound(UNKNOWN)
    return Read(item=found, degraded=degraded)


async def find(parts: GatewayParts, caller: Caller, wanted: SearchRequest) -> Findings:
    """Search by meaning and by words; by words alone where nobody can tell the meaning.

    Raises:
        NotFound: a namespace is not the caller's to look at.
        StorageUnavailable: Postgres does not answer.
    """
    for namespace in wanted.namespaces or ():
        await check_readable(parts, caller, namespace)
    namespaces = wanted.namespaces or everything(caller)
    try:
        return await parts.memory.questions.search(
            wanted.query,
            namespaces,
            run=run_of(caller.tenant, MEMORY_RUN),
            kinds=wanted.kinds,
            filters=wanted.filters,
            limit=wanted.limit,
            deadline_s=parts.limits.settle_s,
        )
    except MemoryUnavailable as error:
        log.warning("memory.asks_nobody", reason=str(error))
    scope = Scope(tenant=caller.tenant, namespaces=namespaces, kinds=wanted.kinds or None)
    return await _by_words(parts, scope, wanted)


async def _by_words(parts: GatewayParts, scope: Scope, wanted: SearchRequest) -> Findings:
    records, now = parts.memory.records, parts.clock()
    names = await records.search(
        scope, wanted.query, now=now, limit=wanted.limit, filters=wanted.filters
    )
    there = await records.named(scope.tenant, names, now=now, filters=wanted.filters)
    found = tuple(
        Found(item=there[name], score=1.0 / rank)
        for rank, name in enumerate(names, start=1)
        if name in there
    )
    return Findings(found=found, recall="keyword")
