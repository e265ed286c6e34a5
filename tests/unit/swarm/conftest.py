import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.home import locate
from cluster.settings import MARKER
from swarm import http

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that does nothing; given a home, one of the swarm there."""
    started: list[subprocess.Popen[bytes]] = []

    def make(home: Path | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"],
            env={} if home is None else {MARKER: locate(home).instance},
        )
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once, or a test would wait for real time."""
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_PAUSE_S", 0.002)
