"""Signatures of many events, checked by a process of its own while this one goes on.

A signature costs a fifth of all that is done to audit an event. Who reads the whole log in one
process, as the auditor does, would leave the machine's other cores idle.
"""

import asyncio
import socket
import subprocess  # nosec B404 - our own program, no shell
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from bus.errors import IdentityError, MalformedEvent
from bus.event import Event, StoredEvent
from bus.nkey import verify_key
from bus.received import Received
from bus.signature_process import COUNT, ITEM

log = structlog.get_logger()

AT_ONCE: Final = 64
"""Events of one request."""
PARTS_AHEAD: Final = 2
"""Requests that stand while the caller is busy with what it was given."""
WORTH_ASKING: Final = 32
"""Fewer are checked at once by who has them."""
GIVES_WAY_EVERY: Final = 8
"""Events, while there are enough to do."""
DEADLINE_S: Final = 10.0
PATIENCE_S: Final = 2.0
_PROGRAM: Final = Path(__file__).with_name("signature_process.py")


class SignatureChecks:
    """Asks the process; whoever gets no good answer checks for himself.

    A process that ends is not started again: the next session of the reader does that.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `signature_checks`, which starts the process."""
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()
        self._is_over = False

    async def good(self, events: Sequence[Event]) -> list[bool]:
        """Of which of the events the signature is known to be good. Never fails."""
        nothing = [False] * len(events)
        if len(events) < WORTH_ASKING or self._is_over:
            return nothing
        items = [_item(event) for event in events]
        asked = len(items) - items.count(b"")
        self._writer.write(COUNT.pack(asked) + b"".join(items))
        async with self._turn:  # taken in the order in which was asked
            answer = await self._answer(asked)
        if len(answer) < asked:
            return nothing
        verdicts = iter(answer)
        return [item != b"" and next(verdicts) == 1 for item in items]

    async def _answer(self, asked: int) -> bytes:
        """The next answer, nothing if it does not come; then none is waited for any more."""
        if self._is_over:
            return b""
        is_whole = False
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._writer.drain()
                answer = await self._reader.readexactly(asked)
            is_whole = True
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.warning("signature_checks.over", reason=type(error).__name__)
            return b""
        finally:  # who does not hear his answer would leave it to the next one
            self._is_over |= not is_whole
        return answer


def _item(event: Event) -> bytes:
    """What the process is asked, nothing for an event that is wrong in another way."""
    try:
        public, signature = verify_key(event.key).encode(), event.signature
    except (IdentityError, MalformedEvent):
        return b""
    message = event.signed_bytes
    return ITEM.pack(public, signature, len(message)) + message


def _start(asked: socket.socket) -> "subprocess.Popen[bytes] | None":
    """Takes milliseconds, in which nothing else is done: so nothing is begun by halves."""
    command = [sys.executable, "-P", str(_PROGRAM)]  # our modules are not taken for Python's
    try:
        return subprocess.Popen(command, stdin=asked.fileno())  # nosec B603 # noqa: S603
    except OSError as error:
        log.warning("signature_checks.not_started", reason=str(error))
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(PATIENCE_S)  # it ends by itself once nobody asks any more
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@asynccontextmanager
async def signature_checks() -> AsyncIterator[SignatureChecks | None]:
    """Start the process; it ends with the block, or with this process.

    None where it cannot be started: then whoever asks checks for himself.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = _start(theirs)
    if process is None:
        ours.close()
        yield None
        return
    ending: asyncio.StreamWriter | socket.socket = ours
    try:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        ending = writer
        yield SignatureChecks(reader, writer)
    finally:
        ending.close()
        await asyncio.to_thread(_end, process)


Checked = tuple[Received, bool]
"""What arrived, and whether its signature is known to be good."""


async def checked(
    arrivals: AsyncIterator[list[Received]], checks: SignatureChecks | None
) -> AsyncGenerator[Checked]:
    """Yield what arrives, in order.

    With somebody who checks signatures, more is asked for and checked while the caller is busy
    with what it was given.
    """
    if checks is None:
        async for arrived in arrivals:
            for received in arrived:
                yield received, False
        return
    waiting: asyncio.Queue[Received | None] = asyncio.Queue(AT_ONCE * (PARTS_AHEAD + 1))
    receiving = asyncio.create_task(_receive(arrivals, waiting))
    asked: deque[asyncio.Task[list[Checked]]] = deque()
    has_ended = False
    try:
        while asked or not has_ended:
            while not has_ended and len(asked) < PARTS_AHEAD and not (asked and waiting.empty()):
                part, has_ended = await _part(waiting)
                asked.append(asyncio.create_task(_checked_part(part, checks)))
            for number, each in enumerate(await asked[0]):
                if number % GIVES_WAY_EVERY == 0:
                    await asyncio.sleep(0)  # else nothing new is received meanwhile
                yield each
            asked.popleft()
        await receiving
    finally:
        for task in (receiving, *asked):
            task.cancel()
        await asyncio.gather(receiving, *asked, return_exceptions=True)


async def _receive(
    arrivals: AsyncIterator[list[Received]], waiting: "asyncio.Queue[Received | None]"
) -> None:
    """Take what arrives, as long as there is room; None says that nothing follows."""
    failure: Exception | None = None
    try:
        async for arrived in arrivals:
            for received in arrived:
                await waiting.put(received)
    except Exception as error:  # noqa: BLE001 - raised once everything before it was taken
        failure = error
    await waiting.put(None)
    if failure is not None:
        raise failure


async def _part(waiting: "asyncio.Queue[Received | None]") -> tuple[list[Received], bool]:
    """What waits, at least something; and whether nothing follows."""
    part: list[Received] = []
    received = await waiting.get()
    while received is not None:
        part.append(received)
        if len(part) == AT_ONCE or waiting.empty():
            return part, False
        received = waiting.get_nowait()
    return part, True


async def _checked_part(part: Sequence[Received], checks: SignatureChecks) -> list[Checked]:
    events = [each.event for each in part if isinstance(each, StoredEvent)]
    verdicts = iter(await checks.good(events))
    return [(each, isinstance(each, StoredEvent) and next(verdicts)) for each in part]
