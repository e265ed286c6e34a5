import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from cluster import stragglers
from cluster.home import Home, locate
from cluster.settings import MARKER, Settings

GONE_LIMIT_S = 150.0

Configure = Callable[..., Settings]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home to be; the test fails if a process of it is left at the end."""
    place = locate(tmp_path / "home")
    yield place
    left = stragglers.find(place)
    described = [" ".join(process.cmdline()) for process in left]
    stragglers.end(place, grace_s=0, limit_s=10)
    shutil.rmtree(place.ray, ignore_errors=True)  # under /tmp: pytest's paths are long
    assert described == []


@pytest.fixture
async def ray_address() -> AsyncIterator[str]:
    """Something that accepts connections, where Ray itself does not matter."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ray_address: str) -> Configure:
    """Settings for a swarm in a home of the test's own, without Ray."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MARKER, raising=False)

    def make(home: Home, **changes: object) -> Settings:
        fields: dict[str, object] = {
            "home": home.root,
            "model_profile": "scripted",
            "ray_address": ray_address,
            "gateway_port": 0,
            "start_timeout_s": 150.0,
            "stop_timeout_s": 15.0,
        }
        return Settings.model_validate({**fields, **changes})

    return make


async def all_gone(home: Home) -> bool:
    """Whether every process of the home ends within the limit."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while stragglers.find(home):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the test has caused."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def until_async(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """The same, where looking takes time."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
