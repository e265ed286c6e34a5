"""The SDK without asyncio: the same calls, made on an event loop in a thread of its own.

Works in a notebook, where a loop is running already. Nothing here knows what a call
does: `Bridge` carries coroutines over, and AsyncSwarm does the work.
"""

from collections.abc import Generator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, overload

import httpx
from pydantic import JsonValue

from swarm.bridge import Bridge
from swarm.client import CHAT_TIMEOUT_S, TIMEOUT_S, AsyncSwarm, Message
from swarm.errors import SwarmClosed
from swarm.http import PATIENCE_S
from swarm.memory_sync import Memory
from swarm.run import AsyncRun
from swarm.usage import UsagePart, UsageReport
from swarm.view import (
    Approval,
    ApprovalStatus,
    AuditSummary,
    ConsistencyProof,
    DeadLetter,
    Forked,
    InclusionProof,
    Priority,
    Reply,
    RunEvent,
    RunLine,
    RunStatus,
)


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
    def forked(self) -> Forked | None:
        """What it shares with its parent, on the handle that `fork` returned."""
        return self._run.forked

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

    def cancel(self, reason: str = "") -> RunStatus:
        """End the run. See AsyncRun.cancel."""
        return self._bridge.call(self._run.cancel(reason))

    def pause(self, reason: str = "") -> RunStatus:
        """Begin no further step. See AsyncRun.pause."""
        return self._bridge.call(self._run.pause(reason))

    def resume(self, reason: str = "") -> RunStatus:
        """Let the paused run go on. See AsyncRun.resume."""
        return self._bridge.call(self._run.resume(reason))

    def retry(self, reason: str = "") -> RunStatus:
        """Take the failed run up again. See AsyncRun.retry."""
        return self._bridge.call(self._run.retry(reason))

    def fork(
        self,
        at: str | int,
        *,
        set: Mapping[str, JsonValue] | None = None,  # noqa: A002 - as in `swarm fork --set`
        instructions: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> "Run":
        """Start a run that is the same up to an event. See AsyncRun.fork."""
        forking = self._run.fork(
            at, set=set, instructions=instructions, idempotency_key=idempotency_key
        )
        return Run(self._bridge.call(forking), self._bridge)

    def audit(self) -> AuditSummary:
        """What the audit log has of the run. See AsyncRun.audit."""
        return self._bridge.call(self._run.audit())

    def evidence(self, size: int | None = None, since: int | None = None) -> bytes:
        """The evidence bundle of the run. See AsyncRun.evidence."""
        return self._bridge.call(self._run.evidence(size, since))


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
        api_key: str | None = None,
        home: Path | str | None = None,
        certificate: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """Connect, and prove who is calling. See AsyncSwarm.connect."""
        bridge = Bridge()
        connecting = AsyncSwarm.connect(
            url,
            username=username,
            password=password,
            token=token,
            api_key=api_key,
            home=home,
            certificate=certificate,
            timeout_s=timeout_s,
            patience_s=patience_s,
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
        *,
        priority: Priority = "normal",
        deadline_s: float | None = None,
        budget_tokens: int | None = None,
        instructions: Mapping[str, str] | None = None,
    ) -> Run:
        """Hand in a job. See AsyncSwarm.submit."""
        submitting = self._swarm.submit(
            objective,
            workflow,
            model,
            idempotency_key,
            priority=priority,
            deadline_s=deadline_s,
            budget_tokens=budget_tokens,
            instructions=instructions,
        )
        return Run(self._bridge.call(submitting), self._bridge)

    @property
    def memory(self) -> Memory:
        """What the swarm remembers."""
        return Memory(self._swarm.memory, self._bridge)

    def run(self, run_id: str) -> Run:
        """A handle on a run, known or not; nothing is asked yet."""
        return Run(self._swarm.run(run_id), self._bridge)

    def runs(self, limit: int = 20) -> tuple[RunLine, ...]:
        """The newest runs. See AsyncSwarm.runs."""
        return self._bridge.call(self._swarm.runs(limit))

    def usage(
        self,
        by: Sequence[UsagePart] = ("day", "model"),
        *,
        user: str | None = None,
        run: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> UsageReport:
        """What was used up of the models. See AsyncSwarm.usage."""
        asking = self._swarm.usage(by, user=user, run=run, since=since, until=until)
        return self._bridge.call(asking)

    def approvals(
        self, status: ApprovalStatus | Literal["all"] = "pending"
    ) -> tuple[Approval, ...]:
        """The steps that wait for a person. See AsyncSwarm.approvals."""
        return self._bridge.call(self._swarm.approvals(status))

    def approve(self, approval_id: str, reason: str = "") -> Approval:
        """Let a step begin. See AsyncSwarm.approve."""
        return self._bridge.call(self._swarm.approve(approval_id, reason))

    def deny(self, approval_id: str, *, reason: str) -> Approval:
        """Do not let a step begin. See AsyncSwarm.deny."""
        return self._bridge.call(self._swarm.deny(approval_id, reason=reason))

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The newest assignments that agents gave up. See AsyncSwarm.dead_letters."""
        return self._bridge.call(self._swarm.dead_letters())

    def redrive(self, letter_id: str, reason: str = "") -> RunStatus:
        """Retry the run of a dead letter. See AsyncSwarm.redrive."""
        return self._bridge.call(self._swarm.redrive(letter_id, reason))

    def audit(self, run_id: str) -> AuditSummary:
        """What the audit log has of a run. See AsyncSwarm.audit."""
        return self._bridge.call(self._swarm.audit(run_id))

    def checkpoint(self, size: int | None = None, *, cosigned: bool = False) -> str:
        """A signed checkpoint of the audit log. See AsyncSwarm.checkpoint."""
        return self._bridge.call(self._swarm.checkpoint(size, cosigned=cosigned))

    def inclusion(self, leaf: int, size: int | None = None) -> InclusionProof:
        """Proof that a leaf is in the audit log. See AsyncSwarm.inclusion."""
        return self._bridge.call(self._swarm.inclusion(leaf, size))

    def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """Proof that the audit log has only grown. See AsyncSwarm.consistency."""
        return self._bridge.call(self._swarm.consistency(old, new))

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
