"""nats-py's client, made to outlive whatever a sender may put on the wire.

A subject that is not UTF-8 or a header block that cannot be read ends nats-py's read
loop for good; one such message would silence every reader of the log. Here it arrives
as a message like any other, and the reader refuses it.
"""

from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.protocol.command import hpub_cmd, pub_cmd

STREAM_HEADER: Final = "Nats-Stream"
STATUS_HEADER: Final = "Status"
_ATTRIBUTES: Final = (b"ce-", b"traceparent", b"swarm-")


class WireClient(Client):
    """Reads every message; what it cannot make sense of has no headers."""

    async def publish_as_received(
        self, subject: str, reply: str, headers: Sequence[tuple[str, str]], data: bytes
    ) -> None:
        """Publish what was once received, byte for byte, whatever its sender made of it."""
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        block = "".join(["NATS/1.0\r\n", *lines, "\r\n"]).encode("utf-8", "surrogateescape")
        command = (
            hpub_cmd(subject, reply, block, data) if headers else pub_cmd(subject, reply, data)
        )
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def drop(self) -> None:
        """Close the socket of an attempt to reconnect that was refused: nats-py forgets it."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]

    async def _connect_to_server(self, server: Srv) -> None:
        self.drop()  # the attempt before this one
        await super()._connect_to_server(server)

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        if headers is None or _repeats_an_attribute(headers):
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


def _repeats_an_attribute(block: bytes) -> bool:
    """Whether two headers could each be taken for the same attribute of the event."""
    names = [line.partition(b":")[0].strip().lower() for line in block.split(b"\r\n")[1:]]
    ours = [name for name in names if name.startswith(_ATTRIBUTES)]
    return len(ours) != len(set(ours))
