"""One swarm that everything is done to, and the judge of what is left of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.swarm import ChaosSwarm
from tests.integration.actors.conftest import broker  # noqa: F401 - a fixture

RECOVERED_S = 90.0
"""For all that was killed to be back, on two cores."""


@pytest.fixture(scope="session")
async def swarm() -> AsyncIterator[ChaosSwarm]:
    """A swarm on the scripted model; at the end its whole log is judged."""
    with tempfile.TemporaryDirectory(prefix="swarm-faults-") as directory:
        made = ChaosSwarm.in_folder(Path(directory))
        await made.up()
        try:
            yield made
            _, violations = await made.judged(deadline_s=30)
            assert violations == (), "\n".join(map(str, violations))
        finally:
            await made.down()


@pytest.fixture
async def healthy(swarm: ChaosSwarm) -> AsyncIterator[ChaosSwarm]:
    """The swarm with all its parts up, before and after the test."""
    await swarm.until_healthy(RECOVERED_S)
    async with asyncio.timeout(2 * RECOVERED_S):
        yield swarm
        await swarm.until_healthy(RECOVERED_S)
