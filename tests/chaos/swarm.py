"""A real swarm in a home of its own, work for it, and hands to kill its parts."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bus.received import Received
from cluster.home import Home, locate
from swarm import AsyncSwarm
from swarm.errors import NotReachable, TooManyRequests, Unavailable, WaitTimeout
from swarm.home import gateway_url
from swarm.view import RunStatus
from tests.chaos.checker import Violation
from tests.chaos.reading import judge
from tests.chaos.victims import Processes
from tests.commands import Outcome, Shell

OBJECTIVE: Final = "Design a rate limiter for a public HTTP API"
UP_S: Final = 240.0
_PAUSE_S: Final = 0.1
_COMES_BACK: Final = (NotReachable, Unavailable, TooManyRequests)
"""What a caller hears while a part is away; without Valkey nobody may log in."""
_CALL_S: Final = 10.0
_WAIT_S: Final = 30.0


@dataclass
class ChaosSwarm:
    """What is promised about it holds whatever is killed; `accepted` is what it was given."""

    shell: Shell
    accepted: list[str] = field(default_factory=list)
    _client: AsyncSwarm | None = None
    _url: str = ""
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @classmethod
    def in_folder(
        cls, folder: Path, *, delay_s: float = 0.3, lease_s: float | None = 2.0
    ) -> "ChaosSwarm":
        """One to be started in this folder, whose model thinks for so long; None: as it comes."""
        settings = {
            "SWARM_SCRIPTED_DELAY_S": str(delay_s),
            **({} if lease_s is None else {"SWARM_LEASE_S": str(lease_s)}),
            "SWARM_GATEWAY_PORT": "0",
            "SWARM_DASHBOARD_PORT": "0",
        }
        return cls(shell=Shell(home=folder / "home", settings=settings))

    @property
    def home(self) -> Home:
        """Where it lives."""
        return locate(self.shell.home)

    @property
    def processes(self) -> Processes:
        """What runs for it."""
        return Processes(home=self.home)

    async def up(self) -> None:
        """Start it, from nothing or from what a kill left."""
        outcome = await self.shell.swarm("up", "--model", "scripted", deadline_s=UP_S)
        assert outcome.code == 0, outcome

    async def down(self) -> None:
        """Stop it; nothing of it is left."""
        await self._close()
        outcome = await self.shell.swarm("down")
        left = [" ".join(process.cmdline()) for process in self.processes.all()]
        self.processes.kill_all()
        assert outcome.code == 0, outcome
        assert left == []

    async def until_healthy(self, deadline_s: float) -> float:
        """Return once every part is up; how many seconds that took."""
        began = time.monotonic()
        outcome: Outcome | None = None
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    outcome = await self.shell.swarm("status", "--json")
                    if outcome.code == 0:
                        return time.monotonic() - began
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise AssertionError(f"not healthy within {deadline_s:g} s: {outcome}") from None

    async def kill(
        self, *kinds: str, deadline_s: float = 30.0, chance: random.Random | None = None
    ) -> list[int]:
        """kill -9 one process of each kind, at the same moment."""
        kills = (
            asyncio.to_thread(self.processes.kill, kind, deadline_s=deadline_s, chance=chance)
            for kind in kinds
        )
        return list(await asyncio.gather(*kills))

    async def until_back(self, kind: str, killed: Sequence[int], *, deadline_s: float) -> None:
        """Return once a process of that kind runs that is none of those."""
        try:
            async with asyncio.timeout(deadline_s):
                while not {p.pid for p in self.processes.of(kind)} - set(killed):  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise AssertionError(f"{kind} is not back within {deadline_s:g} s") from None

    async def submit(self, key: str, *, deadline_s: float = 120.0) -> str:
        """Hand a run in, again and again under the same key until somebody accepts it."""
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    client = await self._connected()
                    run = await client.submit(OBJECTIVE, idempotency_key=key)
                except _COMES_BACK:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    self.accepted.append(run.id)
                    return run.id

    async def ended(self, run_id: str, *, deadline_s: float) -> RunStatus:
        """Wait for the end of a run, however often the gateway is killed meanwhile."""
        last: Exception | None = None
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        client = await self._connected()
                        return await client.run(run_id).wait(_WAIT_S)
                    except (*_COMES_BACK, WaitTimeout) as error:
                        last = error
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise AssertionError(
                f"run {run_id} has not ended in {deadline_s:g} s: {last}"
            ) from None

    async def claimed(self, run_id: str, claims: int, *, role: str = "") -> None:
        """Return once so many steps of a run were claimed, by agents of that role if given."""
        client = await self._connected()
        async with aclosing(client.run(run_id).events()) as events:
            async for event in events:
                ours = event.type == "swarm.step.claimed.v1" and role in (event.source or "")
                claims -= ours
                if claims == 0:
                    return
        raise AssertionError(f"run {run_id} ended before it was in the middle")

    async def in_the_middle(self, key: str, *, claims: int = 3, role: str = "") -> str:
        """A new run, half done."""
        run_id = await self.submit(key)
        async with asyncio.timeout(60):
            await self.claimed(run_id, claims, role=role)
        return run_id

    async def judged(
        self, *, deadline_s: float
    ) -> tuple[Sequence[Received], tuple[Violation, ...]]:
        """Its whole log, and every violation in it."""
        return await judge(self.home, self.accepted, deadline_s=deadline_s)

    async def _connected(self) -> AsyncSwarm:
        """The one client of this swarm: logged in once, like a program that goes on."""
        async with self._connecting:
            url = gateway_url(self.shell.home)
            if self._client is None or self._url != url:
                await self._close()
                made = await AsyncSwarm.connect(home=self.shell.home, timeout_s=_CALL_S)
                self._client, self._url = made, url
            return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
