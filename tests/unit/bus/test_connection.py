"""What the broker says while a client connects, and what becomes of the connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.connection import open_connection
from policies.capabilities import inbox_prefix
from tests.sending import new_sender

INFO = {
    "server_id": "S",
    "version": "2.15.0",
    "max_payload": 1 << 20,
    "nonce": "n",
    "headers": True,
}
TOO_LATE = b"-ERR 'Authentication Timeout'\r\n"


class OverloadedBroker:
    """Takes the first client and loses it, is too slow for the second, and takes the third."""

    def __init__(self) -> None:
        self.taken = 0
        self.third = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
        while line := await reader.readline():
            if self.taken == 2:
                writer.write(TOO_LATE)
                break
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            if line.startswith(b"SUB"):
                if self.taken == 1:
                    break
                self.third.set()
        await writer.drain()
        writer.close()


@asynccontextmanager
async def overloaded() -> AsyncIterator[tuple[OverloadedBroker, str]]:
    broker = OverloadedBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server:
        yield broker, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_broker_that_had_no_time_for_the_credential_is_asked_again() -> None:
    sender = new_sender()
    inbox = inbox_prefix(sender.key.public)
    async with (
        overloaded() as (broker, url),
        open_connection(url, sender.key, sender.credential, inbox=inbox) as connection,
        asyncio.timeout(30),
    ):
        await broker.third.wait()
        assert not connection.is_closed
        assert not connection.refused.is_set()
