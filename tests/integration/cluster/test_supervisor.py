import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from cluster import control, stragglers
from cluster import state as states
from cluster.control import down, read_state, up
from cluster.errors import (
    AlreadyRunning,
    ClusterError,
    HomeNotUsable,
    NotRunning,
    PartFailed,
    StartTimeout,
)
from cluster.health import check
from cluster.home import Home, locate, open_home
from cluster.settings import Settings
from cluster.state import Phase, Progress, State
from tests.integration.cluster.conftest import (
    GONE_LIMIT_S,
    Configure,
    all_gone,
    until,
    until_async,
)

pytestmark = pytest.mark.timeout(400)

FAKE = (sys.executable, "-P", "-m", "tests.integration.cluster.fake_supervisor")


def _ignore(_progress: Progress) -> None:
    """Nobody watches."""


async def _up(settings: Settings, mode: str = "ready") -> State:
    return await up(settings, _ignore, command=(*FAKE, mode))


async def _hanging(settings: Settings) -> "asyncio.Task[State]":
    """An `up` whose servers run and whose actors never come."""
    seen: list[str] = []
    start = asyncio.create_task(
        up(settings, lambda progress: seen.append(progress.part), command=(*FAKE, "hang"))
    )
    await until(lambda: "actors" in seen or start.done(), "the actors were never asked for")
    return start


async def test_a_swarm_comes_up_is_healthy_and_goes_down_without_a_trace(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    seen: list[Progress] = []
    state = await up(settings, seen.append, command=(*FAKE, "ready"))
    assert state.phase is Phase.READY
    assert {p.part for p in seen if p.phase == "ready"} >= {"nats", "postgres", "redis", "actors"}
    assert read_state(settings) == state
    assert "hunter" not in state.model_dump_json()
    health = {part.name: part for part in await check(state, settings)}
    for name in ("nats", "postgres", "redis", "qdrant", "ray"):
        assert health[name].healthy, health[name]
    assert not health["gateway"].healthy  # the launch of this test has none
    seen.clear()
    await down(settings, seen.append)
    assert {p.part for p in seen if p.phase == "stopped"} >= {"actors", "nats", "postgres"}
    assert stragglers.find(home) == []
    with pytest.raises(NotRunning):
        read_state(settings)


OWN = """
from pydantic import BaseModel
from actors.application import Application, Role

class Review(BaseModel):
    text: str

application = Application(agents=(Role(name="reviewer", prompt="Review.", answer=Review),))
"""


async def test_the_state_names_the_roles_of_the_users_own_agents(
    home: Home, configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    settings = configure(home, application=tmp_path / "own.py")
    state = await _up(settings)
    assert read_state(settings).workers == state.workers == ("reviewer",)
    (tmp_path / "own.py").write_text("nonsense")
    await down(settings, _ignore)
    with pytest.raises(ClusterError, match=r"own\.py"):
        await _up(settings)


async def test_a_second_start_in_the_same_home_is_refused_and_harms_nothing(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    state = await _up(settings)
    with pytest.raises(AlreadyRunning):
        await _up(settings)
    assert read_state(settings) == state
    await down(settings, _ignore)


async def test_two_starts_at_once_in_one_home_make_one_swarm(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    results = await asyncio.gather(_up(settings), _up(settings), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyRunning", "State"]
    await down(settings, _ignore)


async def test_two_homes_are_two_swarms_side_by_side(
    home: Home, configure: Configure, tmp_path: Path
) -> None:
    other = locate(tmp_path / "other")
    # Without a wish both prefer the same ports.
    first, second = (configure(place, gateway_port=None) for place in (home, other))
    one, two = await asyncio.gather(_up(first), _up(second))
    assert set(one.addresses.model_dump().values()) & set(two.addresses.model_dump().values()) <= {
        one.addresses.ray,
        "",
    }
    await down(first, _ignore)
    assert read_state(second).phase is Phase.READY
    assert all(p.healthy for p in await check(two, second) if p.name != "gateway")
    await down(second, _ignore)
    assert stragglers.find(other) == []


async def test_sigterm_to_the_supervisor_stops_everything(home: Home, configure: Configure) -> None:
    state = await _up(configure(home))
    os.kill(state.supervisor_pid, signal.SIGTERM)
    assert await all_gone(home)
    ended = states.load(home)
    assert ended is not None
    assert ended.phase is Phase.STOPPED


async def test_a_killed_supervisor_is_followed_by_another_at_the_same_addresses(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    first = await _up(settings)
    os.kill(first.supervisor_pid, signal.SIGKILL)
    await until(lambda: _ready_after(home, first.supervisor_pid), "no other supervisor followed")
    second = read_state(settings)
    assert second.guard_pid == first.guard_pid
    assert second.addresses.gateway == first.addresses.gateway
    assert second.addresses.nats == first.addresses.nats
    await down(settings, _ignore)
    assert stragglers.find(home) == []


async def test_a_supervisor_killed_as_it_stops_is_followed_by_none(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    state = await _up(settings)
    states.save(home, state.model_copy(update={"phase": Phase.STOPPING}))
    os.kill(state.supervisor_pid, signal.SIGKILL)
    assert await all_gone(home)


async def test_a_swarm_whose_log_has_no_room_keeps_its_parts_up_and_ends_cleanly(
    home: Home, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is buffered fails once more
    state = await up(configure(home), _ignore, command=(*FAKE, "ready", "unlogged"))
    (before,) = _brokers(home)
    before.kill()
    await until(lambda: before not in (there := _brokers(home)) and len(there) == 1, "no broker")
    assert read_state(configure(home)).supervisor_pid == state.supervisor_pid
    os.kill(state.supervisor_pid, signal.SIGTERM)
    _, status = await asyncio.to_thread(os.waitpid, state.guard_pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await all_gone(home)


async def test_a_swarm_whose_guard_was_killed_goes_on_and_can_be_stopped(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    state = await _up(settings)
    os.kill(state.guard_pid, signal.SIGKILL)
    await until(lambda: "guard.died" in home.log("supervisor").read_text(), "it was not noticed")
    assert read_state(settings).phase is Phase.READY
    assert all(p.healthy for p in await check(state, settings) if p.name != "gateway")
    await down(settings, _ignore)
    assert await all_gone(home)


async def test_killing_supervisor_and_guard_leaves_no_process_and_the_next_start_works(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    state = await _up(settings)
    for victim in (state.guard_pid, state.supervisor_pid):
        os.kill(victim, signal.SIGKILL)
    # Only a process that left every group and session survives both; `down` finds it.
    await until(lambda: len(stragglers.find(home)) <= 1, "servers outlived both")
    await down(settings, _ignore)
    assert await all_gone(home)
    with pytest.raises(NotRunning):
        read_state(settings)
    assert (await _up(settings)).phase is Phase.READY
    await down(settings, _ignore)


def _brokers(home: Home) -> list[psutil.Process]:
    found = []
    for process in stragglers.find(home):
        with suppress(psutil.NoSuchProcess):
            if "nats" in process.name():
                found.append(process)
    return found


def _ready_after(home: Home, supervisor_pid: int) -> bool:
    state = states.load(home)
    assert state is not None
    return state.phase is Phase.READY and state.supervisor_pid != supervisor_pid


async def test_cancelling_a_start_leaves_nothing(home: Home, configure: Configure) -> None:
    settings = configure(home)
    start = await _hanging(settings)
    assert stragglers.find(home) != []
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert stragglers.find(home) == []
    assert not states.locked(home)


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.4, 1.0])
async def test_cancelling_at_any_moment_leaves_nothing(
    home: Home, configure: Configure, delay_s: float
) -> None:
    start = asyncio.create_task(_up(configure(home), "hang"))
    await asyncio.wait({start}, timeout=delay_s)
    start.cancel()
    await asyncio.wait({start})
    assert stragglers.find(home) == []


async def test_a_caller_that_is_killed_takes_an_unfinished_swarm_with_it(
    home: Home, configure: Configure
) -> None:
    settings = configure(home)
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CALLER),
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert caller.stdin is not None
    assert caller.stdout is not None
    caller.stdin.write(f"{settings.to_wire()}\n".encode())
    await caller.stdin.drain()
    async with asyncio.timeout(GONE_LIMIT_S):
        while b"actors" not in (line := await caller.stdout.readline()):
            assert line, "the caller ended"
    caller.kill()
    await caller.wait()
    assert await all_gone(home)


_CALLER = f"""
import asyncio, sys
from cluster.control import up
from cluster.settings import Settings
settings = Settings.from_wire(sys.stdin.readline())
tell = lambda progress: print(progress.part, flush=True)
asyncio.run(up(settings, tell, command={(*FAKE, "hang")!r}))
"""


async def test_a_start_that_takes_too_long_is_given_up(home: Home, configure: Configure) -> None:
    with pytest.raises(StartTimeout, match="within 6 s"):
        await _up(configure(home, start_timeout_s=6.0), "hang")
    assert stragglers.find(home) == []


@pytest.mark.parametrize(
    ("mode", "words"), [("fail", "The actors did not start"), ("crash", "ZeroDivisionError")]
)
async def test_a_failed_launch_is_reported_and_everything_stopped(
    home: Home, configure: Configure, mode: str, words: str
) -> None:
    settings = configure(home)
    with pytest.raises(PartFailed, match=words):
        await _up(settings, mode)
    assert stragglers.find(home) == []
    with pytest.raises(NotRunning, match=words):
        read_state(settings)


async def test_a_failing_part_stops_the_others_and_is_named(
    home: Home, configure: Configure
) -> None:
    opened = open_home(home.root)
    opened.log("nats").mkdir()  # a directory where its log should be
    seen: list[Progress] = []
    with pytest.raises(PartFailed, match="nats cannot be started"):
        await up(configure(home), seen.append, command=(*FAKE, "ready"))
    assert [p.part for p in seen if p.phase == "failed"] == ["nats"]
    assert stragglers.find(home) == []


async def test_a_home_that_cannot_be_written_is_refused_before_anything_starts(
    home: Home, configure: Configure
) -> None:
    home.root.parent.mkdir(exist_ok=True)
    home.root.write_text("in the way")
    with pytest.raises(HomeNotUsable, match="a file is in the way"):
        await _up(configure(home))


async def test_a_supervisor_that_dies_at_once_is_reported_with_its_last_words(
    home: Home, configure: Configure
) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('I cannot go on')")
    with pytest.raises(PartFailed, match="I cannot go on"):
        await up(configure(home), _ignore, command=command)


async def test_stopping_what_does_not_run_says_so(home: Home, configure: Configure) -> None:
    with pytest.raises(NotRunning):
        await down(configure(home), _ignore)


async def test_stopping_while_starting_ends_both(home: Home, configure: Configure) -> None:
    settings = configure(home)
    start = await _hanging(settings)
    await down(settings, _ignore)
    with pytest.raises(NotRunning, match="stopped before it was ready"):
        await start


async def test_a_real_ray_runs_actors_and_leaves_nothing_when_everybody_is_killed(
    home: Home, configure: Configure
) -> None:
    settings = configure(home, ray_address=None)
    state = await _up(settings, "actor")
    token = home.ray_token().read_text()
    async with httpx.AsyncClient(base_url=state.addresses.ray_dashboard) as client:
        await until_async(lambda: _answers(client, token), "the dashboard did not come up")
        assert (await client.get("/api/version")).status_code == httpx.codes.UNAUTHORIZED
    health = {part.name: part for part in await check(state, settings)}
    assert health["dashboard"].healthy
    assert health["dashboard"].detail == "Ray 2.60.0"
    assert not health["model"].healthy
    for victim in (state.guard_pid, state.supervisor_pid):
        os.kill(victim, signal.SIGKILL)
    await down(settings, _ignore)
    assert await all_gone(home)


async def test_a_real_ray_is_stopped_in_seconds_with_its_actors(
    home: Home, configure: Configure
) -> None:
    settings = configure(home, ray_address=None)
    await _up(settings, "actor")
    async with asyncio.timeout(28):  # Ray by itself would drain for 30 s
        await down(settings, _ignore)
    assert stragglers.find(home) == []


async def _answers(client: httpx.AsyncClient, token: str) -> bool:
    try:
        reply = await client.get("/api/version", headers={"Authorization": f"Bearer {token}"})
    except httpx.TransportError:
        return False
    return reply.status_code == httpx.codes.OK


def test_the_command_line_starts_the_real_supervisor() -> None:
    assert control.SUPERVISOR[-1] == "cluster.supervisor"
