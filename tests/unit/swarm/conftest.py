import pytest

from swarm import http


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once, or a test would wait for real time."""
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(http, "LONGEST_PAUSE_S", 0.002)
