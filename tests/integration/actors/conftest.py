from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.broker import Broker


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker of the test's own: the coordinator reads the whole log."""
    broker = Broker(tmp_path_factory.mktemp("broker"))
    await broker.start()
    await broker.provision(lease_s=1.0)
    yield broker
    await broker.stop()


@pytest.fixture
def run() -> str:
    return f"r{uuid4().hex[:20]}"
