"""Objects that the stream has lost and the audit log still has: found, and put back."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from bus.connection import Connection
from bus.errors import ObjectMismatch, ObjectMissing
from bus.objects import fetch_object, has_objects, restore_object
from storage.errors import AuditCorrupt
from storage.objects import AuditObjects, OwedObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of the lost objects.

    Attributes:
        objects: how many were put back.
        gone: those that the audit log has not either; events that refer to them are refused.
    """

    objects: int = 0
    gone: tuple[OwedObject, ...] = ()


async def lost_objects(connection: Connection, audit: AuditObjects) -> list[OwedObject]:
    """Every object that an event in the stream refers to and that is not there as it was.

    Reads all of them: for a doctor, or after a loss.

    Args:
        connection: of somebody who may read the log.
        audit: where they are kept.

    Raises:
        BusUnreachable: the broker does not answer.
        StorageError: the audit log does not.
    """
    return [owed async for owed in _lost(connection, audit)]


async def restore_objects(connection: Connection, audit: AuditObjects) -> Restored:
    """Put back what is lost. It can be run again.

    Args:
        connection: with a credential of the log's own account, which may purge objects and
            publish them under any key; the stream of objects is there.
        audit: where they are kept.

    Raises:
        BusUnreachable, PublishError: the broker did not take one.
        StorageError: the audit log does not answer.
    """
    restored = 0
    gone: list[OwedObject] = []
    async for owed in _lost(connection, audit):
        content = None
        with suppress(AuditCorrupt):
            content = await audit.content(bytes.fromhex(owed.reference.digest))
        if content is None:
            gone.append(owed)
        else:
            await restore_object(connection, owed.run, owed.key, content)
            restored += 1
    return Restored(objects=restored, gone=tuple(gone))


async def _lost(connection: Connection, audit: AuditObjects) -> AsyncIterator[OwedObject]:
    there_are_any = await has_objects(connection)
    after = -1
    while page := await audit.owed(after=after):
        for owed in page:
            there = there_are_any and await _is_there(connection, owed)
            if not there and await _is_owed(audit, owed):
                yield owed
        after = page[-1].leaf_index


async def _is_there(connection: Connection, owed: OwedObject) -> bool:
    try:
        await fetch_object(connection, owed.run, owed.key, owed.reference)
    except (ObjectMissing, ObjectMismatch):
        return False
    return True


async def _is_owed(audit: AuditObjects, owed: OwedObject) -> bool:
    """Still: its run may have been trimmed since it was asked for."""
    return owed in await audit.owed(after=owed.leaf_index - 1, limit=1)
