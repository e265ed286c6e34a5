"""Where a puller hears what it asked for: an inbox on whatever client is current.

A request that stands is answered on the client that sent it, which stays for longer than a
request stands; the next request goes through the client of then. (Two clients that listen on
one inbox would not do: when the first one stops listening, nats-server 2.15 at times forgets
where the answers of a request that stands have to go, where they cross accounts.)
"""

import asyncio
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.wire import WireClient


class Inbox:
    """What arrives for one puller. `Connection.open_inbox` makes it.

    Attributes:
        arrived: messages that nobody has taken yet.
        received: the highest stream sequence among what arrived.
    """

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self.received = 0
        self._subject = ""
        self._client: WireClient | None = None
        self._subscription: Subscription | None = None

    async def ask(self, client: WireClient, subject: str, request: bytes) -> None:
        """Send a request; the one before it must have ended.

        Raises:
            nats.errors.Error, OSError: it could not be sent.
        """
        if client is not self._client:
            await self.close()
            self._client, self._subject = client, client.new_inbox()
            self._subscription = await client.listen(self._subject, self._take)
        await client.publish(subject, request, reply=self._subject)

    def is_control(self, message: Msg) -> bool:
        """Whether the broker says something of the request; else it is of the stream.

        What a sender wrote into a stored message's headers is no control message.
        """
        return message.subject == self._subject

    async def close(self) -> None:
        """Listen no more. A client that is closed listens no more anyway."""
        if self._subscription is not None:
            with suppress(nats.errors.Error, OSError):
                await self._subscription.unsubscribe()
            self._subscription = None

    def _take(self, message: Msg) -> None:
        if not self.is_control(message):
            self.received = max(self.received, message.metadata.sequence.stream)
        self.arrived.put_nowait(message)
