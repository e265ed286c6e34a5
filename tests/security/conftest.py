from collections.abc import AsyncIterator

import pytest

from tests.broker import Broker


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker of the module's own: its log holds what no member would write."""
    broker = Broker(tmp_path_factory.mktemp("broker"))
    await broker.start()
    await broker.provision(lease_s=300)
    yield broker
    await broker.stop()
