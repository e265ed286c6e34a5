"""The SDK without asyncio: the same calls, made on an event loop in a thread of its own.

Works in a notebook, where a loop is running already. Nothing here knows what a call
does: `Bridge` carries coroutines over, and AsyncSwarm does the work.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, overload

import httpx
from pydantic import JsonValue

from swarm.client import CHAT_TIMEOUT_S, TIMEOUT_S, AsyncSwarm, Message
from swarm.errors import SwarmClosed
from swarm.run import AsyncRun
from swarm.view import AuditSummary, Reply, RunEvent, RunStatus

T = TypeVar("T")
CLOSE_TIMEOUT_S: Final = 5.0


class Bridge:
    """One event loop in one thread. Any thread but that one may call."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._closed = False
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(_live(started),), name="swarm-sdk", daemon=True
        )
        self._thread.start()
        self._loop, self._stop = started.result()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; an interrupt from the keyboard cancels it.

        Raises:
            SwarmClosed: the bridge was closed, before or meanwhile.
        """
        future = self._begin(coroutine)
        try:
            return future.result()
        except CancelledError as error:
            raise SwarmClosed from error
        finally:
            future.cancel()

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """The generator's items, one at a time. Leaving early lets go of what it holds."""
        try:
            while (item := self.call(_next(items))) is not None:
                yield item[0]
        finally:
            if not self._closed:
                # Not waited for: the garbage collector may call this on the loop's own thread.
                self._begin(items.aclose())

    def close(self) -> None:
        """Cancel what is going on and end the thread. May be called again."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Hand a coroutine over; the lock sees to it that none comes after the stop."""
        with self._turn:
            if self._closed:
                coroutine.close()
                raise SwarmClosed
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


class Run:
    """A handle on one run; it holds no state of its own, so any number of them may exist."""

    def __init__(self, run: AsyncRun, bridge: Bridge) -> None:
        self._run = run
        self._bridge = bridge

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def id(self) -> str:
        """Of the run, for `swarm.run(id)` at another time."""
        return self._run.id

    @property
    def status(self) -> RunStatus:
        """Where the run stands now; asks the gateway. See AsyncRun.status."""
        return self._bridge.call(self._run.status())

    @property
    def result(self) -> str:
        """The document in Markdown; asks the gateway, does not wait. See AsyncRun.result."""
        return self._bridge.call(self._run.result())

    def wait(self, timeout_s: float | None = None) -> RunStatus:
        """Wait until the run has ended, well or badly. See AsyncRun.wait."""
        return self._bridge.call(self._run.wait(timeout_s))

    def events(self, after: int = 0) -> Generator[RunEvent, None, None]:
        """The run's events, each once, until it has ended. See AsyncRun.events."""
        return self._bridge.iterate(self._run.events(after))

    def audit(self) -> AuditSummary:
        """What the audit log has of the run. See AsyncRun.audit."""
        return self._bridge.call(self._run.audit())


class Swarm:
    """A connection to a swarm. Make it with `connect`, close it after use.

    with Swarm.connect() as swarm:
        run = swarm.submit("Write a parser for RFC 3339 timestamps.")
        run.wait()
        print(run.result)
    """

    def __init__(self, swarm: AsyncSwarm, bridge: Bridge) -> None:
        self._swarm = swarm
        self._bridge = bridge

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        home: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """Connect, and prove who is calling. See AsyncSwarm.connect."""
        bridge = Bridge()
        connecting = AsyncSwarm.connect(
            url,
            username=username,
            password=password,
            token=token,
            home=home,
            timeout_s=timeout_s,
            transport=transport,
        )
        try:
            return cls(bridge.call(connecting), bridge)
        except BaseException:
            bridge.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._swarm).removeprefix("Async")

    def close(self) -> None:
        """Close the connections and end the thread. Runs go on without us."""
        try:
            self._bridge.call(self._swarm.aclose())
        except SwarmClosed:
            return
        self._bridge.close()

    def submit(
        self,
        objective: str,
        workflow: str = "sparc",
        model: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Hand in a job. See AsyncSwarm.submit."""
        submitting = self._swarm.submit(objective, workflow, model, idempotency_key)
        return Run(self._bridge.call(submitting), self._bridge)

    def run(self, run_id: str) -> Run:
        """A handle on a run, known or not; nothing is asked yet."""
        return Run(self._swarm.run(run_id), self._bridge)

    def audit(self, run_id: str) -> AuditSummary:
        """What the audit log has of a run. See AsyncSwarm.audit."""
        return self._bridge.call(self._swarm.audit(run_id))

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> Reply: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> Generator[str, None, None]: ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> Reply | Generator[str, None, None]:
        """Ask the model directly. See AsyncSwarm.chat."""
        if stream:
            asking = self._swarm.chat(messages, stream=True, timeout_s=timeout_s, **options)
            return self._bridge.iterate(self._bridge.call(asking))
        asking_whole = self._swarm.chat(messages, stream=False, timeout_s=timeout_s, **options)
        return self._bridge.call(asking_whole)


async def _live(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Keep the loop running until told to stop; asyncio.run then cancels what is left."""
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


async def _next(items: AsyncGenerator[T, None]) -> tuple[T] | None:
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None
