import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm import AsyncSwarm
from tests.certificates import make_certificate
from tests.commands import Shell

DELAY_S = 0.3
"""How long the scripted model thinks: long enough to be killed meanwhile."""


@pytest.fixture(scope="session")
async def shell() -> AsyncIterator[Shell]:
    """A running swarm on the scripted model, reached by TLS, and a shell to talk to it."""
    with tempfile.TemporaryDirectory(prefix="swarm-e2e-") as directory:
        pair = make_certificate(Path(directory))
        shell = Shell(
            home=Path(directory) / "home",
            settings={
                "SWARM_SCRIPTED_DELAY_S": str(DELAY_S),
                "SWARM_LEASE_S": "2",
                "SWARM_GATEWAY_PORT": "0",
                "SWARM_DASHBOARD_PORT": "0",
                "SWARM_GATEWAY_TLS_CERTIFICATE": str(pair.certificate),
                "SWARM_GATEWAY_TLS_KEY": str(pair.key),
            },
        )
        started = await shell.swarm("up", "--model", "scripted", deadline_s=240)
        assert started.code == 0, started
        print(started.err)
        yield shell
        stopped = await shell.swarm("down")
        assert stopped.code == 0, stopped
        assert shell.processes() == []


@pytest.fixture
async def client(shell: Shell) -> AsyncIterator[AsyncSwarm]:
    async with await AsyncSwarm.connect(home=shell.home) as client:
        yield client
