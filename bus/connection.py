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
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from bus.errors import BusUnreachable, PublishDenied, PublishUnconfirmed
from bus.identity import Credential
from bus.nkey import AgentKey
from bus.subjects import STREAM
from bus.wire import STATUS_HEADER, WireClient

log = structlog.get_logger()

_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
RECONNECT_WAIT_S: Final = 0.2
DRAIN_TIMEOUT_S: Final = 5.0
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

    Use `open_connection`; this class does not connect by itself.
    """

    def __init__(self, client: Client, inbox: str) -> None:
        self.client = client
        self.manager: JetStreamManager = client.jsm()
        self._answers = f"{inbox}.{_ANSWERS}"
        self._tokens = itertools.count(1)
        self._in_flight: dict[str, _InFlight] = {}

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
        client = WireClient()
        connection = cls(client, inbox)
        last_error: list[Exception] = []

        async def on_error(error: Exception) -> None:
            if not any("authorization" in str(earlier).lower() for earlier in last_error):
                # else it says more than a connection that is reset at a later try
                last_error[:] = [error]
            connection.note_error(error)

        try:
            async with asyncio.timeout(deadline_s):
                await client.connect(
                    url,
                    user_jwt_cb=lambda: bytearray(credential.jwt.encode()),
                    signature_cb=lambda nonce: base64.b64encode(key.sign(nonce.encode())),
                    error_cb=on_error,
                    inbox_prefix=inbox,
                    name=f"{credential.role}/{credential.name}",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type] # it sleeps for it
                )
                await client.subscribe(f"{connection._answers}.*", cb=connection._take_answer)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            reason = str(last_error[0] if last_error else error) or "timed out"
            await client.close()
            raise BusUnreachable(f"no connection to {url}: {reason}") from error
        except asyncio.CancelledError:
            await client.close()
            raise
        return connection

    @property
    def is_closed(self) -> bool:
        """Closed for good: it will not reconnect."""
        return self.client.is_closed

    async def close(self) -> None:
        """Send what is buffered, then close. A broker that is gone does not hold this up."""
        if self.client.is_closed:
            return
        with suppress(TimeoutError, nats.errors.Error, OSError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self.client.flush()
        await self.client.close()

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

    async def _take_answer(self, message: Msg) -> None:
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
