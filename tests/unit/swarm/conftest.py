import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.home import locate
from cluster.state import lock
from swarm import http

Hold = Callable[[Path], Callable[[], None]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Takes the lock of a home, as the swarm there has it; what comes back gives it up."""
    with ExitStack() as held:

        def take(home: Path) -> Callable[[], None]:
            (home / "run").mkdir(exist_ok=True)
            one = held.enter_context(ExitStack())
            one.callback(os.close, lock(locate(home)))
            return one.close

        yield take


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once, or a test would wait for real time."""
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_PAUSE_S", 0.002)
