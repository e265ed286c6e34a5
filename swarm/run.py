"""A run as the SDK's user holds it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote

import httpx

from swarm.answer import parse
from swarm.errors import NotReachable, RunFailed, RunNotFinished, Unavailable, WaitTimeout
from swarm.frames import FrameReader
from swarm.http import Call, Gateway, Pause
from swarm.view import AuditSummary, RunEvent, RunStatus


class AsyncRun:
    """A handle on one run; it holds no state of its own, so any number of them may exist."""

    def __init__(self, gateway: Gateway, run_id: str) -> None:
        self._gateway = gateway
        self._path = f"/v1/runs/{quote(run_id, safe='')}"
        self.id = run_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def status(self) -> RunStatus:
        """Where the run stands.

        Raises:
            NotFound: there is no such run.
        """
        return parse(RunStatus, await self._gateway.call(Call(method="GET", path=self._path)))

    async def wait(self, timeout_s: float | None = None) -> RunStatus:
        """Wait until the run has ended, well or badly.

        Args:
            timeout_s: None waits as long as it takes.

        Raises:
            WaitTimeout: it has not ended in that time; the run goes on.
            NotReachable: the gateway went away and did not come back.
        """
        try:
            async with asyncio.timeout(timeout_s):
                status = await self.status()
                while not status.ended:
                    async with aclosing(self.events(after=status.stream_sequence)) as events:
                        async for _ in events:
                            pass
                    status = await self.status()
        except TimeoutError as error:
            raise WaitTimeout(f"Run {self.id} has not ended within {timeout_s} s.") from error
        return status

    async def result(self) -> str:
        """The document that the run made, in Markdown. Does not wait.

        Raises:
            RunNotFinished: the run is still going on.
            RunFailed: it ended without a result.
        """
        status = await self.status()
        if status.result is not None:
            return status.result
        if status.failure is None:
            raise RunNotFinished(f"Run {self.id} is still going on.")
        failure = status.failure
        where = "" if failure.step is None else f" in step {failure.step}"
        raise RunFailed(f"Run {self.id} failed{where}: {failure.message} ({failure.code})")

    async def events(self, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The run's events in the order of the log, each once, until the run has ended.

        A connection that breaks is made again behind the last event, as long as the
        gateway comes back within the client's timeout. Close the generator when leaving
        early (`contextlib.aclosing`).

        Args:
            after: a stream sequence; 0 begins with the first event.

        Raises:
            NotFound: there is no such run.
            NotReachable, Unavailable: the gateway did not come back in time.
        """
        position, pause = after, Pause(self._gateway.timeout_s)
        while True:
            broken: NotReachable | Unavailable
            try:
                async with self._gateway.stream(self._events_after(position)) as response:
                    if response.status_code == httpx.codes.NO_CONTENT:
                        return
                    pause.answered()
                    async for event in _events_of(response):
                        if event.stream_sequence <= position:
                            continue
                        yield event
                        if event.ends_run:
                            return
                        position = event.stream_sequence
                        pause.start_over()
                broken = NotReachable("The event stream ended before the run did.")
            except (NotReachable, Unavailable) as error:
                broken = error
            await pause.after(broken)

    def _events_after(self, position: int) -> Call:
        headers = {"Last-Event-ID": str(position)}
        return Call(method="GET", path=f"{self._path}/events", headers=headers)

    async def audit(self) -> AuditSummary:
        """What the audit log has of the run; it follows the event log by moments."""
        call = Call(method="GET", path=f"{self._path}/audit")
        return parse(AuditSummary, await self._gateway.call(call))


async def _events_of(response: httpx.Response) -> AsyncGenerator[RunEvent, None]:
    """The whole events of one connection; what it was cut in the middle of is left out."""
    reader = FrameReader()
    async for chunk in response.aiter_bytes():
        for frame in reader.feed(chunk):
            yield parse(RunEvent, frame.data)
