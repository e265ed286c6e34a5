"""How long a run stands still when a part of the swarm is killed in its middle.

A whole swarm on Ray, with the lease that it has by default and a scripted model that thinks for
a moment. One kill a run: the agent while it alone has work, the coordinator and NATS after the
third claim. The time is that from kill -9 to the next thing that the run's log is given; the
process's own start is in it.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Final

from swarm import AsyncSwarm
from swarm.view import RunEvent
from tests.chaos.swarm import OBJECTIVE, ChaosSwarm

REPEATS: Final = 10
THINKS_S: Final = 0.2
ALONE: Final = "coder"
"""A role whose step waits for all before it, and all after it wait for."""
AIMS_S: Final = {"agent": 3.0, "coordinator": 5.0, "nats": 3.0}
_CLAIMED: Final = "swarm.step.claimed.v1"
_RUN_S: Final = 60.0


async def measure(repeats: int = REPEATS) -> dict[str, tuple[float, float]]:
    """Median and longest standstill in seconds, by what was killed."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory:
        swarm = ChaosSwarm.in_folder(Path(directory), delay_s=THINKS_S, lease_s=None)
        await swarm.up()
        try:
            return {part: await _measure(swarm, part, repeats) for part in AIMS_S}
        finally:
            await swarm.down()


async def _measure(swarm: ChaosSwarm, part: str, repeats: int) -> tuple[float, float]:
    stood_still_s = []
    async with await AsyncSwarm.connect(home=swarm.home.root) as client:
        for _ in range(repeats):
            await swarm.until_healthy(_RUN_S)
            run = await client.submit(OBJECTIVE)
            async with asyncio.timeout(_RUN_S), aclosing(run.events()) as events:
                await _in_the_middle(events, part)
                await swarm.kill(ALONE if part == "agent" else part)
                killed = time.monotonic()
                await _moved_on(events, part)
                stood_still_s.append(time.monotonic() - killed)
            await run.wait(_RUN_S)
    return median(stood_still_s), max(stood_still_s)


async def _in_the_middle(events: AsyncGenerator[RunEvent, None], part: str) -> None:
    """Read on until the next event can only come from what is about to be killed."""
    claims = 0
    async for event in events:
        if event.type != _CLAIMED:
            continue
        claims += 1
        if (ALONE in (event.source or "")) if part == "agent" else claims == 3:
            return


async def _moved_on(events: AsyncGenerator[RunEvent, None], part: str) -> None:
    """Read on until the run has moved: where the coordinator was killed, by a decision."""
    async for event in events:
        if part != "coordinator" or "swarm://coordinator/" in (event.source or ""):
            return
