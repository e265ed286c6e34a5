"""Keys are asked for where there are none, or not yet."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import pytest

from bus.errors import BusUnreachable
from bus.identity import Authority
from cluster import state as states
from cluster.errors import NotRunning
from cluster.home import open_home
from cluster.keys import enrol, keys_of, revoke, rotate_agent, rotate_authority, rotate_root
from cluster.settings import Settings
from cluster.state import Phase, State
from swarm.cli import UNREACHABLE, exit_code

Ask = Callable[[Settings], object]

CHANGES: dict[str, Ask] = {
    "rotate root": lambda settings: asyncio.run(rotate_root(settings, reason="r")),
    "rotate authority": lambda settings: asyncio.run(
        rotate_authority(settings, reason="r", at_once=True)
    ),
}
QUESTIONS: dict[str, Ask] = {
    "list": lambda settings: asyncio.run(keys_of(settings)),
    "rotate agent": lambda settings: asyncio.run(rotate_agent(settings, "c-1", reason="r")),
    "revoke": lambda settings: asyncio.run(revoke(settings, "c-1", reason="r")),
}


@pytest.mark.parametrize("asked", [*CHANGES, "enrol"])
def test_a_home_in_which_no_swarm_has_run_is_named_and_left_alone(
    tmp_path: Path, asked: str
) -> None:
    ask = CHANGES.get(asked, partial(enrol, name="c-1"))
    home = tmp_path / "home"
    with pytest.raises(NotRunning, match=f"No swarm has run in {home}") as caught:
        ask(Settings(home=home))
    assert exit_code(caught.value) == UNREACHABLE
    assert not home.exists()


@pytest.mark.parametrize("asked", [*CHANGES, *QUESTIONS])
def test_a_swarm_that_is_starting_is_said_to_be(tmp_path: Path, asked: str) -> None:
    home, me = open_home(tmp_path), psutil.Process()
    Authority.create().save(home.keys)
    before = Authority.load(home.keys).ring
    starting = State(
        phase=Phase.STARTING,
        guard_pid=os.getppid(),
        supervisor_pid=me.pid,
        supervisor_started=me.create_time(),
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="scripted",
    )
    states.save(home, starting)
    with pytest.raises(BusUnreachable, match="is not ready: it is starting"):
        {**CHANGES, **QUESTIONS}[asked](Settings(home=tmp_path))
    assert Authority.load(home.keys).ring == before
