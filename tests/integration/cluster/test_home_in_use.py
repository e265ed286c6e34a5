"""A home that somebody has: its swarm, a start that said nothing yet, or another command."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from cluster import control
from cluster import state as states
from cluster.control import down, up
from cluster.errors import AlreadyRunning, HomeInUse
from cluster.home import Home, open_home
from cluster.settings import MARKER
from cluster.state import Phase, State
from tests.integration.cluster.conftest import Configure, all_gone
from tests.integration.cluster.test_supervisor import FAKE

pytestmark = pytest.mark.timeout(400)

Started = subprocess.Popen[bytes]
Start = Callable[..., Started]
SHORT_S = 0.3


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that does nothing until it is told to end, with or without a mark."""
    started: list[Started] = []

    def make(home: Home | None = None, *, holding: int = -1) -> Started:
        process = subprocess.Popen(
            [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
            env={} if home is None else {MARKER: home.instance},
            pass_fds=() if holding < 0 else (holding,),
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()  # for an instant it would show no environment
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def home(home: Home) -> Home:
    return open_home(home.root)


def said(phase: Phase, *, guard: int, supervisor: int) -> State:
    """What a swarm wrote whose supervisor is dead: another process has its id, if any."""
    return State(
        phase=phase,
        guard_pid=guard,
        supervisor_pid=supervisor,
        supervisor_started=1.0,
        began=states.now(),
        model_profile="scripted",
    )


@pytest.mark.parametrize("phase", [None, Phase.STOPPED, Phase.READY])
async def test_stopping_harms_nobody_where_another_command_has_the_home(
    home: Home,
    configure: Configure,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase | None,
) -> None:
    monkeypatch.setattr(control, "_GUARD_GRACE_S", SHORT_S)
    stranger, server = start(), start(home)
    if phase is not None:
        states.save(home, said(phase, guard=stranger.pid, supervisor=stranger.pid))
    lock = states.lock(home)
    try:
        with pytest.raises(HomeInUse, match="Another command works in") as refused:
            await down(configure(home), lambda _: None)
    finally:
        os.close(lock)
    assert not isinstance(refused.value, AlreadyRunning)
    assert "swarm recover" in refused.value.hint
    assert (stranger.poll(), server.poll()) == (None, None)


async def test_a_start_beside_another_command_does_not_speak_of_a_swarm(
    home: Home, configure: Configure, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_GUARD_GRACE_S", SHORT_S)
    server = start(home)
    lock = states.lock(home)
    try:
        with pytest.raises(HomeInUse, match="Another command works in") as refused:
            await up(configure(home), lambda _: None)
    finally:
        os.close(lock)
    assert not isinstance(refused.value, AlreadyRunning)
    assert server.poll() is None


async def test_a_command_that_takes_the_home_just_before_the_supervisor_is_told_of(
    home: Home, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(control, "_clear_crashed", lambda _: taken.append(states.lock(home)))
    try:
        with pytest.raises(HomeInUse, match="Another command works in"):
            await up(configure(home), lambda _: None, command=(*FAKE, "ready"))
    finally:
        os.close(taken[0])


async def test_a_start_that_has_said_nothing_yet_is_waited_for_and_stopped(
    home: Home, configure: Configure, start: Start
) -> None:
    stranger = start()
    states.save(home, said(Phase.STOPPED, guard=stranger.pid, supervisor=stranger.pid))
    lock = states.lock(home)
    guard = start(home, holding=lock)
    os.close(lock)
    stopping = asyncio.create_task(down(configure(home), lambda _: None))
    await asyncio.sleep(0)  # it has looked once
    states.save(home, said(Phase.STARTING, guard=guard.pid, supervisor=stranger.pid))
    await stopping
    assert guard.wait(timeout=30) is not None
    assert stranger.poll() is None
    assert not states.locked(home)


async def test_a_swarm_between_two_supervisors_can_be_stopped(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    state = await up(settings, lambda _: None, command=(*FAKE, "ready"))
    os.kill(state.supervisor_pid, signal.SIGKILL)
    await down(settings, lambda _: None)
    assert await all_gone(home)
    assert not states.locked(home)


async def test_the_guard_is_told_where_the_supervisor_dies_before_it_could_stop(
    home: Home, configure: Configure, start: Start
) -> None:
    """Killed a moment before, it still seems to live when it is asked; no other must follow."""
    supervisor, lock = start(), states.lock(home)
    guard = start(home, holding=lock)
    os.close(lock)
    seems_alive = said(Phase.READY, guard=guard.pid, supervisor=supervisor.pid).model_copy(
        update={"supervisor_started": psutil.Process(supervisor.pid).create_time()}
    )
    states.save(home, seems_alive)
    async with asyncio.timeout(60):
        await down(configure(home, stop_timeout_s=300.0), lambda _: None)
    assert guard.wait(timeout=30) is not None
    assert not states.locked(home)


async def test_remains_are_ended_though_the_lock_outlives_who_held_it_for_a_moment(
    home: Home, configure: Configure, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with threads has ended, by its state, before the last of them lets go."""
    guard, server, stranger = start(home), start(home), start()
    states.save(home, said(Phase.READY, guard=guard.pid, supervisor=stranger.pid))
    lock, looks, really = states.lock(home), [0], states.locked

    def locked(home: Home) -> bool:
        looks[0] += guard.poll() is not None
        if looks[0] == 3:
            os.close(lock)
        return really(home)

    monkeypatch.setattr(states, "locked", locked)
    await down(configure(home), lambda _: None)
    assert server.wait(timeout=30) is not None
    assert stranger.poll() is None


async def test_a_command_that_takes_the_home_as_its_swarm_ends_is_left_alone(
    home: Home, configure: Configure, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_GUARD_GRACE_S", SHORT_S)
    guard, server, stranger = start(home), start(home), start()
    states.save(home, said(Phase.READY, guard=guard.pid, supervisor=stranger.pid))
    lock = states.lock(home)  # as if it had been waiting for it
    try:
        await down(configure(home), lambda _: None)
    finally:
        os.close(lock)
    assert guard.wait(timeout=30) is not None
    assert (server.poll(), stranger.poll()) == (None, None)
