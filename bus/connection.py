"""One authenticated connection to the broker, in the project's own errors.

nats-py reports a refused publish through a callback, long after the call; here it
becomes an error of the call itself.
"""

import asyncio
import base64
import itertools
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self
from weakref import WeakSet

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from bus.errors import BusUnreachable, PublishDenied, PublishUnconfirmed
from bus.identity import Credential
from bus.listener import Inbox
from bus.nkey import AgentKey
from bus.subjects import STREAM
from bus.wire import STATUS_HEADER, WireClient

log = structlog.get_logger()

_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
RECONNECT_WAIT_S: Final = 0.2
DRAIN_TIMEOUT_S: Final = 5.0
LINGER_S: Final = 15.0
"""How long a client that was replaced stays: longer than anybody waits for an answer."""
LINGER_SHARE: Final = 0.75
"""Of what is left of its credential, at most: the broker would cut it off."""
LONGEST_REQUEST_S: Final = 5.0
"""A request for messages that stands longer is sent again."""
REQUEST_SHARE: Final = 0.125
"""Of a credential's life, at most: less than a client stays that is replaced in time."""
_ANSWERS: Final = "answer"
_NO_STORAGE: Final = frozenset({10023, 10047})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishAck:
    """The stream's answer: where the message stands, and whether it stood there before."""

    sequence: int
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _InFlight:
    """A publish that waits: for the stream's answer, or for the broker's refusal."""

    subject: str
    answer: "asyncio.Future[Msg | PublishDenied]"


class StreamRefusal(Exception):
    """The stream answered a publish with an error."""

    def __init__(self, *, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description

    @property
    def is_full(self) -> bool:
        """Whether there is no room: within the stream's bound, or on the broker's disk."""
        return self.code in _NO_STORAGE or "maximum bytes" in self.description.lower()


class Connection:
    """A connection that reconnects for as long as it is open.

    Its credential can be changed while it works: see `change`. Use `open_connection`; this
    class does not connect by itself.
    """

    def __init__(self, url: str, key: AgentKey, credential: Credential, inbox: str) -> None:
        self.credential = credential
        self.client = WireClient()
        self._newest = self.client
        self.manager: JetStreamManager = self.client.jsm()
        self.refused = asyncio.Event()
        """Set once the broker does not take the credential any more."""
        self.is_renewed = False
        """Whether somebody changes the credential in time: then it is never closed for good."""
        self._url, self._key, self._inbox = url, key, inbox
        self._answers = f"{inbox}.{_ANSWERS}"
        self._tokens = itertools.count(1)
        self._in_flight: dict[str, _InFlight] = {}
        self._inboxes: set[Inbox] = set()
        self._heard = 0
        self._connects = 1
        self._changing = asyncio.Lock()
        self._connected: WeakSet[WireClient] = WeakSet()
        self._retiring: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._ended = False

    @classmethod
    async def open(
        cls,
        url: str,
        key: AgentKey,
        credential: Credential,
        *,
        inbox: str,
        deadline_s: float = 10.0,
    ) -> Self:
        """Connect as the owner of a credential.

        Args:
            url: ``nats://host:port``.
            key: signs the broker's challenge.
            credential: what the broker enforces on the connection.
            inbox: prefix of reply subjects; the credential must allow subscribing below it.
            deadline_s: seconds to get a first connection.

        Raises:
            BusUnreachable: no connection in time, with the last reason.
        """
        connection = cls(url, key, credential, inbox)
        client = await connection._connect(credential, deadline_s)
        connection.client, connection.manager = client, client.jsm()
        return connection

    @property
    def is_closed(self) -> bool:
        """Closed for good: it will not reconnect."""
        return self._ended or (self.client.is_closed and not self.is_renewed)

    @property
    def connects(self) -> int:
        """How often a broker took us in. It may have come back with an older log."""
        return self._connects + int(self.client.stats["reconnects"])

    @property
    def received(self) -> int:
        """The highest stream sequence of what a consumer has delivered here."""
        return max((self._heard, *(each.received for each in self._inboxes)))

    async def change(self, credential: Credential, *, deadline_s: float = 10.0) -> None:
        """Go on under another credential of the same key; nothing is lost, nothing interrupted.

        A second client connects and takes over. What the first one has asked for is still
        answered there: it stays until the longest request has ended, or its credential is
        about to.

        Raises:
            BusUnreachable: no connection in time; the old one goes on as it is.
        """
        async with self._changing:
            client = await self._connect(credential, deadline_s)
            if self._ended:
                await client.close()
                raise BusUnreachable("the connection was closed meanwhile")
            old, replaced = self.client, self.credential
            self._connects += 1 + int(old.stats["reconnects"])
            self.client, self.manager, self.credential = client, client.jsm(), credential
            self.refused.clear()
            left = (replaced.expires_at - datetime.now(UTC)).total_seconds()
            stays = max(0.0, min(LINGER_S, left * LINGER_SHARE))
            task = asyncio.create_task(_close_later(old, stays))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Send what is buffered, then close. A broker that is gone does not hold this up."""
        self._ended = True
        retiring = [*self._retiring]
        for task in retiring:
            task.cancel()
        try:
            await asyncio.gather(*retiring, *self._ending, return_exceptions=True)
        finally:
            await self.client.end(flush_s=DRAIN_TIMEOUT_S)

    @asynccontextmanager
    async def open_inbox(self) -> AsyncIterator[Inbox]:
        """Where a puller hears what it asks for, for the length of the block."""
        inbox = Inbox()
        self._inboxes.add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes.discard(inbox)
            self._heard = max(self._heard, inbox.received)
            await inbox.close()

    @property
    def longest_request_s(self) -> float:
        """How long a request may stand: it ends before a client that was replaced does."""
        life = self.credential.expires_at - self.credential.issued_at
        return min(LONGEST_REQUEST_S, life.total_seconds() * REQUEST_SHARE)

    async def _connect(self, credential: Credential, deadline_s: float) -> WireClient:
        client, url = WireClient(), self._url
        self._newest = client
        last_error: list[Exception] = []

        async def on_error(error: Exception) -> None:
            if not any(_refuses(earlier) for earlier in last_error):
                # else it says more than a connection that is reset at a later try
                last_error[:] = [error]
            if _refuses(error) and client in self._connected:
                self._give_up(client)
            self.note_error(error)

        async def on_close() -> None:
            if client is self._newest and not self._ended:
                self.refused.set()

        try:
            async with asyncio.timeout(deadline_s):
                await client.connect(
                    url,
                    user_jwt_cb=lambda: bytearray(credential.jwt.encode()),
                    signature_cb=lambda nonce: base64.b64encode(self._key.sign(nonce.encode())),
                    error_cb=on_error,
                    closed_cb=on_close,
                    inbox_prefix=self._inbox,
                    name=f"{credential.role}/{credential.name}",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type] # it sleeps for it
                )
                await client.listen(f"{self._answers}.*", self._take_answer)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            reason = str(last_error[0] if last_error else error) or "timed out"
            await client.close()
            raise BusUnreachable(f"no connection to {url}: {reason}") from error
        except asyncio.CancelledError:
            await client.close()
            raise
        self._connected.add(client)
        if client.is_closed:
            self.refused.set()
        return client

    def _give_up(self, client: WireClient) -> None:
        """End a client that the broker refuses: nats-py would go on asking, five times a second."""
        self._connected.discard(client)
        if client is self._newest:
            self.refused.set()
        client.drop()
        # Broken off, it would leave a socket and readers behind that nothing ends any more.
        task = asyncio.create_task(client.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def note_error(self, error: Exception) -> None:
        """Give an asynchronous refusal of the broker to the publish that it is about."""
        denied = _DENIED.search(str(error))
        if denied is None:
            log.warning("bus.connection_error", error=str(error) or type(error).__name__)
            return
        refused = denied.group(1)
        for publish in self._in_flight.values():
            if publish.subject.lower() == refused.lower() and not publish.answer.done():
                message = f"the broker refused to let this credential publish {publish.subject}"
                publish.answer.set_result(PublishDenied(message))

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> PublishAck:
        """Publish to the stream and wait for its answer.

        Raises:
            PublishDenied: the broker does not let this credential publish there.
            PublishUnconfirmed: no answer in time; it may or may not be stored.
            StreamRefusal: the stream said no.
        """
        token = str(next(self._tokens))
        answer: asyncio.Future[Msg | PublishDenied] = asyncio.get_running_loop().create_future()
        self._in_flight[token] = _InFlight(subject=subject, answer=answer)
        reply = f"{self._answers}.{token}"
        try:
            async with asyncio.timeout(timeout_s):
                await self.client.publish(subject, data, reply=reply, headers=dict(headers))
                said = await answer
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise PublishUnconfirmed(
                f"no confirmation of {subject}: {type(error).__name__}"
            ) from error
        finally:
            del self._in_flight[token]
        if isinstance(said, PublishDenied):
            raise said
        return _parse_ack(said)

    def _take_answer(self, message: Msg) -> None:
        """Give the stream's answer to the publish that waits for it, if one still does."""
        publish = self._in_flight.get(message.subject.rpartition(".")[2])
        if publish is not None and not publish.answer.done():
            publish.answer.set_result(message)

    async def last_message(self, subject: str, *, stream: str = STREAM) -> Msg | None:
        """The last stored message on an exact subject, None where there is none.

        Raises:
            BusUnreachable: no answer from the broker.
        """
        return await self._direct_get(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")

    async def next_message(self, subject: str, *, after: int) -> Msg | None:
        """The first stored message on an exact subject after a stream sequence, if any.

        Raises:
            BusUnreachable: no answer from the broker.
        """
        body = json.dumps({"seq": after + 1, "next_by_subj": subject}).encode()
        return await self._direct_get(f"$JS.API.DIRECT.GET.{STREAM}", body)

    async def message_at(self, sequence: int) -> Msg | None:
        """The stored message with a stream sequence, None where there is none.

        Raises:
            BusUnreachable: no answer from the broker.
        """
        body = json.dumps({"seq": sequence}).encode()
        return await self._direct_get(f"$JS.API.DIRECT.GET.{STREAM}", body)

    async def _direct_get(self, subject: str, body: bytes) -> Msg | None:
        with reachable():
            message = await self.client.request(subject, body, timeout=5.0)
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            return message
        if headers.get(STATUS_HEADER, "404") != "404":
            raise BusUnreachable(f"the stream did not answer {subject}: {headers}")
        return None  # without a status it is a stored message whose headers cannot be read

    def new_inbox(self) -> str:
        """A reply subject that only this connection may listen on."""
        return self.client.new_inbox()


@asynccontextmanager
async def open_connection(
    url: str, key: AgentKey, credential: Credential, *, inbox: str, deadline_s: float = 10.0
) -> AsyncIterator[Connection]:
    """`Connection.open`, closed at the end of the block."""
    connection = await Connection.open(url, key, credential, inbox=inbox, deadline_s=deadline_s)
    try:
        yield connection
    finally:
        await connection.close()


async def _close_later(client: WireClient, seconds: float) -> None:
    """End a client that was replaced, once nobody waits for an answer there."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await client.end(flush_s=DRAIN_TIMEOUT_S)


def _refuses(error: Exception) -> bool:
    """Whether the broker does not take the credential; too late for it is another matter."""
    said = str(error).lower()
    return "authorization" in said or ("authentication" in said and "timeout" not in said)


class reachable:  # noqa: N801 - read as a verb: with reachable(): ...
    """Translate nats-py's failures into BusUnreachable."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """Raise the project's error in place of nats-py's."""
        if isinstance(error, NotFoundError):
            return
        if isinstance(error, TimeoutError | nats.errors.Error | OSError):
            raise BusUnreachable(
                f"the broker did not answer: {str(error) or type(error).__name__}"
            ) from error


def _parse_ack(message: Msg) -> PublishAck:
    try:
        answer = json.loads(message.data)
        if "error" in answer:
            refusal = answer["error"]
            raise StreamRefusal(
                code=int(refusal.get("err_code", 0)), description=str(refusal.get("description"))
            )
        return PublishAck(sequence=int(answer["seq"]), duplicate=bool(answer.get("duplicate")))
    except (ValueError, KeyError, TypeError) as error:
        raise PublishUnconfirmed(f"unreadable answer: {message.data[:200]!r}") from error
