from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from swarm import cli
from swarm.client import AsyncSwarm
from tests.unit.serve.fakes import Fakes
from tests.unit.swarm.gateways import connected

Command = Callable[..., int]


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def command(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs a command against a swarm in memory, whose logs are not printed; its exit code."""

    really = AsyncSwarm.connect

    async def connect(*args: Any, **options: Any) -> AsyncSwarm:
        return await (really(*args, **options) if args else connected(fakes))

    monkeypatch.setattr(AsyncSwarm, "connect", connect)
    monkeypatch.setenv("COLUMNS", "40")
    with capture_logs():
        yield lambda *arguments: cli.run(list(arguments))
