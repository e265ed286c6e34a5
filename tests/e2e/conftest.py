import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.note import VerifierKey
from swarm import AsyncSwarm
from swarm.witness.state import Watched
from tests.certificates import make_certificate
from tests.commands import Shell
from tests.witnessing import Running, running_witness

DELAY_S = 0.3
"""How long the scripted model thinks: long enough to be killed meanwhile."""


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="swarm-e2e-") as made:
        yield Path(made)


@pytest.fixture(scope="session")
async def witness(directory: Path) -> AsyncIterator[Running]:
    """A witness of the swarm that is going to be started."""
    printed = await Shell(home=directory / "home", settings={}).swarm("creds", "log-key")
    assert printed.code == 0, printed
    _, origin, _, key = printed.out.split()
    watched = Watched(origin=origin, keys=(VerifierKey.parse(key),))
    async with running_witness(directory / "witness", watched=watched) as running:
        yield running


@pytest.fixture(scope="session")
async def shell(directory: Path, witness: Running) -> AsyncIterator[Shell]:
    """A running swarm on the scripted model, reached by TLS, and a shell to talk to it."""
    pair = make_certificate(directory)
    shell = Shell(
        home=directory / "home",
        settings={
            "SWARM_SCRIPTED_DELAY_S": str(DELAY_S),
            "SWARM_LEASE_S": "2",
            "SWARM_CREDENTIAL_TTL_S": "60",  # renewed several times meanwhile
            "SWARM_GATEWAY_PORT": "0",
            "SWARM_DASHBOARD_PORT": "0",
            "SWARM_GATEWAY_TLS_CERTIFICATE": str(pair.certificate),
            "SWARM_GATEWAY_TLS_KEY": str(pair.key),
            "SWARM_WITNESSES": f"{witness.url} {witness.key}",
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
