"""nats-py's client, made to outlive whatever a sender may put on the wire.

A subject that is not UTF-8 or a header block that cannot be read ends nats-py's read
loop for good; one such message would silence every reader of the log. Here it arrives
as a message like any other, and the reader refuses it.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.protocol.command import hpub_cmd, pub_cmd

STREAM_HEADER: Final = "Nats-Stream"
STATUS_HEADER: Final = "Status"
_PLAIN_BLOCK: Final = re.compile(rb"NATS/1\.0\r\n(?:[!-9;-~]+: [!-~]+\r\n)+\r\n")
_ATTRIBUTES: Final = (b"ce-", b"traceparent", b"swarm-")


class WireClient(Client):
    """Reads every message; what it cannot make sense of has no headers."""

    _is_over = False

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Callable[[Msg], None]] = {}

    async def listen(self, subject: str, take: Callable[[Msg], None]) -> Subscription:
        """Subscribe, and be given each message the moment it is read.

        A callback of nats-py's `subscribe` costs a queue and a task of its own on the way.
        """
        subscription = await self.subscribe(subject)
        self._takers[subscription._id] = take  # noqa: SLF001 - it has no other name
        return subscription

    async def publish_as_received(
        self, subject: str, reply: str, headers: Sequence[tuple[str, str]], data: bytes
    ) -> None:
        """Publish what was once received, byte for byte, whatever its sender made of it."""
        await self._publish_block(subject, reply, _block(headers) if headers else b"", data)

    async def _publish_block(self, subject: str, reply: str, block: bytes, data: bytes) -> None:
        command = hpub_cmd(subject, reply, block, data) if block else pub_cmd(subject, reply, data)
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def drop(self) -> None:
        """Close the socket of an attempt to connect that came to nothing: nats-py forgets it."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]

    async def end(self, *, flush_s: float) -> None:
        """Send what is buffered, then close. A broker that is gone does not hold this up."""
        if self.is_closed:
            return
        try:
            with suppress(TimeoutError, NatsError, OSError):
                async with asyncio.timeout(flush_s):
                    await self.flush()
        finally:
            await self.close()

    async def close(self) -> None:
        """End it for good, with every task and socket of its own."""
        self._is_over = True
        try:
            await super().close()
            await _ended(self._tasks)
        finally:  # whoever closes it may be cancelled meanwhile
            for task in self._tasks:
                task.cancel()
            self.drop()

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        own = (
            self._reconnection_task, self._reading_task, self._flusher_task,
            self._ping_interval_task,
        )  # fmt: skip
        current = asyncio.current_task()
        return [task for task in own if task is not None and task is not current]

    async def _connect_to_server(self, server: Srv) -> None:
        self.drop()  # the attempt before this one
        await super()._connect_to_server(server)
        if self._is_over:  # asyncio.wait_for, which it uses, may lose a cancellation
            self.drop()
            raise asyncio.CancelledError

    async def _send_publish(
        self,
        subject: str,
        reply: str,
        payload: bytes,
        payload_size: int,
        headers: dict[str, str] | None,
    ) -> None:
        block = _block(headers.items()) if headers else b""
        if _PLAIN_BLOCK.fullmatch(block):
            await self._publish_block(subject, reply, block, payload)
        else:
            await super()._send_publish(subject, reply, payload, payload_size, headers)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        take = self._takers.get(sid) if sid in self._subs else None
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            read = await self._process_headers(headers)
            try:
                take(self._build_message(sid, subject, reply, data, read))
            except Exception as error:  # noqa: BLE001 - nothing that arrives ends the reading
                await self._error_cb(error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._takers.pop(sid, None)

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        if headers is None:
            return None
        plain = _plain_headers(headers)
        if plain is not None:
            return plain
        if _repeats_an_attribute(headers):
            return None
        try:
            parsed: dict[str, str] | None = await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            return None
        if parsed is not None and STREAM_HEADER in parsed:
            # A stored message that a direct get returned: its status was written by its
            # sender, in the broker's name.
            parsed.pop(STATUS_HEADER, None)
        return parsed

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002
        try:
            await super()._close(status, do_cbs)
        except OSError:
            # The broker is gone and what was to be sent to it cannot be: without it, again.
            self._pending.clear()
            self._pending_data_size = 0
            self._status = Client.RECONNECTING
            await super()._close(status, do_cbs)
        for waiting in [*self._resp_map.values()]:
            if not waiting.done():  # nobody will answer any more
                waiting.set_exception(ConnectionClosedError())

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        readable = subject.decode(errors="backslashreplace").encode()
        message: Msg = super()._build_message(sid, readable, reply, data, headers)
        return message


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks, again each second: nats-py's may lose a cancellation on Python 3.11."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1.0)


def _block(headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return "".join(["NATS/1.0\r\n", *lines, "\r\n"]).encode("utf-8", "surrogateescape")


def _plain_headers(block: bytes) -> dict[str, str] | None:
    """The headers of a block that is spelt as our senders and the broker spell them.

    None where anything needs a closer look: that reads the same of it, at almost three times
    the cost.
    """
    if _PLAIN_BLOCK.fullmatch(block) is None:
        return None
    lines = block.decode("ascii").split("\r\n")[1:-2]
    found = {name: value for name, _, value in [line.partition(": ") for line in lines]}
    names = {name.lower() for name in found}
    return found if len(names) == len(lines) and STATUS_HEADER not in found else None


def _repeats_an_attribute(block: bytes) -> bool:
    """Whether two headers could each be taken for the same attribute of the event."""
    names = [line.partition(b":")[0].strip().lower() for line in block.split(b"\r\n")[1:]]
    ours = [name for name in names if name.startswith(_ATTRIBUTES)]
    return len(ours) != len(set(ours))
