"""kill -9 of what everything else runs in: Ray, the supervisor, its guard, the whole machine."""

import asyncio
import json
import os
import shlex
import signal
import time
from uuid import uuid4

import pytest

from bus.payloads import RunCompleted
from cluster import state as states
from cluster.state import Phase, State
from swarm.home import gateway_url
from tests.chaos.swarm import ChaosSwarm

pytestmark = pytest.mark.timeout(300)

ENDED_S = 240.0
ITS_OWN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nowhere"}


def state_of(swarm: ChaosSwarm) -> State:
    state = states.load(swarm.home)
    assert state is not None
    return state


async def until_anew(swarm: ChaosSwarm, supervisor: int, deadline_s: float = ENDED_S) -> None:
    """Return once another supervisor has everything up."""
    until = time.monotonic() + deadline_s
    while (state := state_of(swarm)).supervisor_pid == supervisor or state.phase is not Phase.READY:
        assert time.monotonic() < until, state
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("victim", ["raylet", "gcs", "ray node", "supervisor"])
async def test_a_run_goes_on_when_what_everything_runs_in_is_killed(
    healthy: ChaosSwarm, victim: str
) -> None:
    supervisor, address = state_of(healthy).supervisor_pid, gateway_url(healthy.shell.home)
    run = await healthy.in_the_middle(uuid4().hex)
    watching = await healthy.shell.start("events", run, "--json")
    assert watching.stdout is not None
    assert watching.stderr is not None
    first = await asyncio.wait_for(watching.stdout.readline(), ENDED_S)
    if victim == "supervisor":
        os.kill(supervisor, signal.SIGKILL)
    else:
        await healthy.kill(victim)
    await until_anew(healthy, supervisor)
    status = await healthy.ended(run, deadline_s=ENDED_S)
    assert status.status == "completed", status.failure
    assert gateway_url(healthy.shell.home) == address
    seen = (first + await watching.stdout.read()).splitlines()
    assert await watching.wait() == 0, await watching.stderr.read()
    places = [json.loads(line)["stream_sequence"] for line in seen]
    assert places == sorted(set(places))
    assert json.loads(seen[-1])["type"] == RunCompleted.TYPE


async def as_the_machine_does(unit: str) -> None:
    """What systemd does with a unit when the machine starts, in an environment like its own."""
    service = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    process = await asyncio.create_subprocess_exec(
        *shlex.split(service["ExecStart"]),
        cwd=service["WorkingDirectory"],
        env={**ITS_OWN, **dict([shlex.split(service["Environment"])[0].split("=", 1)])},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), ENDED_S)
    assert process.returncode == 0, told


async def test_a_run_goes_on_after_the_whole_machine_was_killed_and_started_again(
    healthy: ChaosSwarm,
) -> None:
    runs = [await healthy.in_the_middle(uuid4().hex, claims=claims) for claims in (3, 1)]
    unaudited = healthy.accepted[-1]
    unit = await healthy.shell.swarm("unit", "--model", "scripted")
    assert unit.code == 0, unit
    lines = [f"{name}={value}\n" for name, value in healthy.shell.settings.items()]
    (healthy.shell.home.parent / ".env").write_text("".join(lines))
    assert await asyncio.to_thread(healthy.processes.kill_all) > 20
    await as_the_machine_does(unit.out)
    for run in (*runs, unaudited):
        status = await healthy.ended(run, deadline_s=ENDED_S)
        assert status.status == "completed", status.failure


async def test_the_supervisor_killed_while_it_starts_again_is_followed_by_another(
    healthy: ChaosSwarm,
) -> None:
    first = state_of(healthy).supervisor_pid
    run = await healthy.in_the_middle(uuid4().hex)
    os.kill(first, signal.SIGKILL)
    until = time.monotonic() + 30
    while (second := state_of(healthy)).supervisor_pid == first:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    os.kill(second.supervisor_pid, signal.SIGKILL)
    await until_anew(healthy, second.supervisor_pid)
    status = await healthy.ended(run, deadline_s=ENDED_S)
    assert status.status == "completed", status.failure


async def test_work_goes_on_without_the_guard_and_the_swarm_still_stops_cleanly(
    healthy: ChaosSwarm,
) -> None:
    run = await healthy.in_the_middle(uuid4().hex)
    os.kill(state_of(healthy).guard_pid, signal.SIGKILL)
    status = await healthy.ended(run, deadline_s=ENDED_S)
    assert status.status == "completed", status.failure
    await healthy.down()
    await healthy.up()
