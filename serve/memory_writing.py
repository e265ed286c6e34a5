"""A person's write to the memory: an event, and what became of it."""

import secrets
from dataclasses import dataclass

import structlog

from actors.errors import MemoryUnavailable
from bus.event import Draft, derive_id
from bus.memory_payloads import MemoryDeleted, MemoryWritten
from bus.subjects import MEMORY_RUN, run_of
from policies.caller import Caller
from serve.memory_view import Clash, view_item
from serve.ports import GatewayParts
from serve.problems import Conflict, FieldReason, InvalidFields, NotAllowed, VersionConflict
from storage.errors import StorageUnavailable
from storage.memory_item import MemoryItem, Outcome

log = structlog.get_logger()

Wanted = MemoryWritten | MemoryDeleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A write that stands in the log.

    Attributes:
        event: its id.
        outcome: what became of it; None where that is not known yet.
    """

    event: str
    outcome: Outcome | None


def event_of(caller: Caller, wanted: Wanted, idempotency_key: str | None) -> str:
    """The id of the event: random, or the same for the same user, item and key."""
    if idempotency_key is None:
        return secrets.token_hex(16)
    parts = (caller.tenant, caller.user, wanted.namespace, wanted.item, idempotency_key)
    return derive_id(wanted.TYPE, *parts)


async def settled_before(parts: GatewayParts, event: str) -> Asked | None:
    """What became of a write with that id, None where nothing is known of one."""
    outcome = await parts.memory.records.outcome(event)
    if outcome.is_applied or outcome.refusal is not None:
        return Asked(event=event, outcome=outcome)
    return None


async def ask(parts: GatewayParts, caller: Caller, wanted: Wanted, event: str) -> Asked:
    """Put the write into the log, and wait for what becomes of it.

    Raises:
        NotAllowed: the caller is forgotten, and nothing that they say is kept.
        InvalidFields: the log holds another write of that id.
        BusUnreachable, PublishError: it is not in the log, as far as is known.
    """
    if not await parts.log.keeps(caller.user):
        raise NotAllowed("What this user says is not kept: the user was forgotten.")
    draft = Draft(
        run=run_of(caller.tenant, MEMORY_RUN),
        payload=wanted,
        id=event,
        on_behalf_of=caller.user,
    )
    stored = await parts.log.append(draft)
    if stored.payload() != wanted:
        raise used_otherwise()
    try:
        outcome = await parts.memory.keeping.settled(
            event, stored.stream_sequence, deadline_s=parts.limits.settle_s
        )
    except MemoryUnavailable as error:
        log.warning("memory.write_pending", event_id=event, reason=str(error))
        return Asked(event=event, outcome=None)
    if outcome.is_applied:
        await _supersede_session(parts, caller, wanted, stored.stream_sequence)
    return Asked(event=event, outcome=outcome)


async def refuse(parts: GatewayParts, caller: Caller, wanted: Wanted, outcome: Outcome) -> None:
    """Raise what a write that did not take effect means; nothing if it did.

    Raises:
        VersionConflict: the item is not as the writer saw it; both versions stand in it.
        NotAllowed: the policy does not let anybody write there through this gateway.
        Conflict: its life was over before it was looked at.
    """
    match outcome.refusal:
        case None:
            return
        case "denied":
            raise NotAllowed("The policy does not allow this write.")
        case "expired":
            raise Conflict("The write came too late: its life was over.")
        case "conflict":
            current = await _current(parts, caller, wanted)
            clash = Clash(
                base=wanted.base,
                version=outcome.version,
                current=None if current is None else view_item(current),
            )
            raise VersionConflict(
                f"{wanted.namespace}/{wanted.item} is at version {outcome.version},"
                f" not at {wanted.base}.",
                conflict=clash.model_dump(mode="json"),
            )


def used_otherwise() -> InvalidFields:
    """The refusal of an Idempotency-Key that came with another request before."""
    field = FieldReason(field="Idempotency-Key", reason="was used for another request")
    return InvalidFields("This Idempotency-Key was used for another request.", fields=(field,))


async def _current(parts: GatewayParts, caller: Caller, wanted: Wanted) -> MemoryItem | None:
    return await parts.memory.records.read(
        caller.tenant, wanted.namespace, wanted.item, now=parts.clock()
    )


async def _supersede_session(
    parts: GatewayParts, caller: Caller, wanted: Wanted, place: int
) -> None:
    """Have nobody read what was there before; the keeper puts the new version there."""
    try:
        await parts.memory.sessions.supersede(
            caller.tenant, wanted.namespace, wanted.item, place=place
        )
    except StorageUnavailable as error:
        log.warning("memory.session_not_superseded", reason=str(error))
