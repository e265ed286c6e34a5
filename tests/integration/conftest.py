from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker import Broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker of the test's own."""
    broker = Broker(tmp_path)
    await broker.start()
    await broker.provision()
    yield broker
    await broker.stop()
