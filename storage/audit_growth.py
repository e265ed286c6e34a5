"""Knowing when the audit log has grown, without asking again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg
import structlog

from storage.errors import StorageUnavailable
from storage.postgres import translated

log = structlog.get_logger()

GREW: Final = "audit_grew"
"""The channel of Postgres on which migration 0007 has the audit log say so."""
CONNECT_S: Final = 10.0
RETRY_S: Final = 0.5


@asynccontextmanager
async def audit_growth(dsn: str) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever the audit log grew, or may have, for the length of the block.

    A lost connection is made again, and what may have been missed meanwhile counts as growth.

    Args:
        dsn: the address of the database, migrated.
    """
    grew = asyncio.Event()
    listening = asyncio.create_task(_listen(dsn, grew))
    try:
        yield grew
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def _listen(dsn: str, grew: asyncio.Event) -> None:
    while True:
        try:
            await _hear(dsn, grew)
        except StorageUnavailable as error:
            log.info("audit.not_heard", reason=str(error))
            await asyncio.sleep(RETRY_S)


async def _hear(dsn: str, grew: asyncio.Event) -> None:
    """Until the connection is lost."""
    lost = asyncio.Event()
    with translated("listen to the audit log"):
        connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(GREW, lambda *_: grew.set())
            grew.set()
            await lost.wait()
        finally:
            connection.terminate()
