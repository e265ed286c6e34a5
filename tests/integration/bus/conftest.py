from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.broker import Broker


@pytest.fixture(scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    await broker.start()
    await broker.provision(lease_s=6.0)
    yield broker
    await broker.stop()


@pytest.fixture
def run() -> str:
    """A run of its own for each test; the log is shared."""
    return f"r{uuid4().hex[:20]}"
