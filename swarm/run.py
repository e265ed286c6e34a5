"""A run as the SDK's user holds it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
from pydantic import JsonValue

from swarm.answer import parse
from swarm.errors import (
    NotReachable,
    RunCancelled,
    RunFailed,
    RunNotFinished,
    Unavailable,
    WaitTimeout,
)
from swarm.frames import FrameReader
from swarm.http import Call, Gateway, Pause
from swarm.view import AuditSummary, Forked, RunEvent, RunStatus

EVIDENCE_TIMEOUT_S = 90.0
"""A long run with a long log behind it makes a bundle of tens of megabytes."""


class AsyncRun:
    """A handle on one run; it holds no state of its own, so any number of them may exist."""

    def __init__(self, gateway: Gateway, run_id: str, forked: Forked | None = None) -> None:
        self._gateway = gateway
        self._path = f"/v1/runs/{quote(run_id, safe='')}"
        self.id = run_id
        self.forked = forked
        """What it shares with its parent, on the handle that `fork` returned."""

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
            NotReachable, Unavailable: the gateway went away and did not come back within the
                client's patience.
        """
        try:
            async with asyncio.timeout(timeout_s):
                status = await self._status_in_the_end()
                while not status.ended:
                    async with aclosing(self.events(after=status.stream_sequence)) as events:
                        async for _ in events:
                            pass
                    status = await self._status_in_the_end()
        except TimeoutError as error:
            raise WaitTimeout(f"Run {self.id} has not ended within {timeout_s} s.") from error
        return status

    async def _status_in_the_end(self) -> RunStatus:
        """The status, however long the gateway is away within the client's patience."""
        pause = Pause(self._gateway.patience_s)
        while True:
            try:
                return await self.status()
            except (NotReachable, Unavailable) as error:
                await pause.after(error)

    async def result(self) -> str:
        """The document that the run made, in Markdown. Does not wait.

        Raises:
            RunNotFinished: the run is still going on, or paused.
            RunFailed: it ended without a result.
            RunCancelled: a person ended it.
        """
        status = await self.status()
        if status.result is not None:
            return status.result
        if status.status == "cancelled":
            raise RunCancelled(_cancelled(status))
        if status.failure is None:
            raise RunNotFinished(f"Run {self.id} is still going on.")
        failure = status.failure
        where = "" if failure.step is None else f" in step {failure.step}"
        raise RunFailed(f"Run {self.id} failed{where}: {failure.message} ({failure.code})")

    async def events(self, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The run's events in the order of the log, each once, until the run has ended.

        A failure that was retried before this began is not the end.

        A connection that breaks is made again behind the last event, as long as the
        gateway comes back within the client's patience. Close the generator when leaving
        early (`contextlib.aclosing`).

        Args:
            after: a stream sequence; 0 begins with the first event.

        Raises:
            NotFound: there is no such run.
            NotReachable, Unavailable: the gateway did not come back in time.
        """
        position, ended, pause = after, False, Pause(self._gateway.patience_s)
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
                        ended, position = event.ends_run, event.stream_sequence
                        pause.start_over()
                if ended:
                    return
                broken = NotReachable("The event stream ended before the run did.")
            except (NotReachable, Unavailable) as error:
                broken = error
            await pause.after(broken)

    async def cancel(self, reason: str = "") -> RunStatus:
        """End the run. Its agents let go of what they work on; `wait` tells when it has ended.

        Raises:
            NotFound: there is no such run.
            Conflict: it has completed or failed.
            NotAllowed: the user may only look.
        """
        return await self._ask("cancel", reason, repeatable=True)

    async def pause(self, reason: str = "") -> RunStatus:
        """Begin no further step; what has begun goes on.

        Raises:
            NotFound, NotAllowed: as in `cancel`.
            Conflict: it has ended.
        """
        return await self._ask("pause", reason, repeatable=True)

    async def resume(self, reason: str = "") -> RunStatus:
        """Let the paused run go on.

        Raises:
            NotFound, NotAllowed: as in `cancel`.
            Conflict: it is not paused.
            NotReachable: nobody knows whether it was done; ask for the status.
        """
        return await self._ask("resume", reason, repeatable=False)

    async def retry(self, reason: str = "") -> RunStatus:
        """Take the failed run up again from the steps that failed; answers it has are kept.

        Raises:
            NotFound, NotAllowed: as in `cancel`.
            Conflict: it has not failed, or would fail again.
            NotReachable: nobody knows whether it was done; ask for the status.
        """
        return await self._ask("retry", reason, repeatable=False)

    async def fork(
        self,
        at: str | int,
        *,
        set: Mapping[str, JsonValue] | None = None,  # noqa: A002 - as in `swarm fork --set`
        instructions: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> "AsyncRun":
        """Start a run that is the same as this one up to an event, and goes its own way then.

        What had been answered by then is not asked for again.

        Args:
            at: the last event that both share, by its id or its place in the log.
            set: what shall be different: ``objective``, ``priority``, ``deadline_s``,
                ``budget_tokens``, or ``step.field`` of an answer that is shared
                (``step#2.field`` of its second round, ``step/3.field`` of the third part of a
                fan-out).
            instructions: what to tell the agents besides their prompts, by step.
            idempotency_key: the same key is the same run, whichever process asks.

        Raises:
            NotFound: there is no such run.
            Refused: it has no such event, or the changes do not fit; the message says why.
            NotAllowed: the user may only look.
        """
        call = Call(
            method="POST",
            path=f"{self._path}/fork",
            json={
                "at": str(at),
                "set": dict(set or {}),
                "instructions": {**(instructions or {})},
            },
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
        forked = parse(Forked, await self._gateway.call(call))
        return AsyncRun(self._gateway, forked.id, forked)

    async def _ask(self, what: str, reason: str, *, repeatable: bool) -> RunStatus:
        call = Call(method="POST", path=f"{self._path}/{what}", json={"reason": reason})
        return parse(RunStatus, await self._gateway.call(call, repeatable=repeatable))

    def _events_after(self, position: int) -> Call:
        headers = {"Last-Event-ID": str(position)}
        return Call(method="GET", path=f"{self._path}/events", headers=headers)

    async def audit(self) -> AuditSummary:
        """What the audit log has of the run; it follows the event log by moments."""
        call = Call(method="GET", path=f"{self._path}/audit")
        return parse(AuditSummary, await self._gateway.call(call))

    async def evidence(self, size: int | None = None, since: int | None = None) -> bytes:
        """The evidence bundle of the run, for `swarm verify`: everything that shows it.

        Args:
            size: of the tree to prove it in, one that a checkpoint was signed at; the latest
                if left out.
            since: size of an earlier checkpoint, for a proof that the log has only grown.

        Raises:
            NotFound: there is no such run, or no checkpoint of such a size.
            Conflict: the audit log has not come to the run, or too far beyond it.
        """
        asked = {"size": size, "since": since}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        call = Call(method="GET", path=f"{self._path}/evidence?{query}")
        return await self._gateway.call(call, timeout_s=EVIDENCE_TIMEOUT_S)


def _cancelled(status: RunStatus) -> str:
    by = status.cancellation
    if by is None:
        return f"Run {status.id} was cancelled."
    return f"Run {status.id} was cancelled by {by.requested_by}" + (
        f": {by.reason}" if by.reason else "."
    )


async def _events_of(response: httpx.Response) -> AsyncGenerator[RunEvent, None]:
    """The whole events of one connection; what it was cut in the middle of is left out."""
    reader = FrameReader()
    async for chunk in response.aiter_bytes():
        for frame in reader.feed(chunk):
            yield parse(RunEvent, frame.data)
