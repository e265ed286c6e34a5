"""`make demo`'s command: start, do a job, show the audit, stop, leave nothing."""

import asyncio
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.gpus import gpus_here
from tests.commands import Shell

FREE_PORTS = {"SWARM_GATEWAY_PORT": "0", "SWARM_DASHBOARD_PORT": "0"}


@pytest.fixture
async def own_shell() -> AsyncIterator[Shell]:
    """A shell whose home no swarm has used yet."""
    with tempfile.TemporaryDirectory(prefix="swarm-demo-") as directory:
        yield Shell(home=Path(directory) / "home", settings=FREE_PORTS)


@pytest.mark.model
@pytest.mark.timeout(900)
async def test_a_demonstration_on_a_real_model_ends_with_a_document_and_leaves_nothing(
    own_shell: Shell,
) -> None:
    outcome = await own_shell.swarm("demo", "--model", "smollm2-135m", deadline_s=880)
    print(outcome)
    assert outcome.code == 0, outcome
    assert "model smollm2-135m" in outcome.out
    assert "Specification" in outcome.out
    assert "events refused       0" in outcome.out
    assert "signed checkpoint" in outcome.out
    assert own_shell.processes() == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["nats       ready", "ray        ready", "Ready after", "works"])
async def test_ctrl_c_at_any_moment_leaves_no_process(own_shell: Shell, moment: str) -> None:
    demo = await own_shell.start("demo", "--model", "scripted")
    assert demo.stderr is not None
    async with asyncio.timeout(400):
        while line := await demo.stderr.readline():
            if moment in line.decode():
                demo.send_signal(signal.SIGINT)
                break
        await demo.communicate()
    assert demo.returncode == 130
    assert own_shell.processes() == []


@pytest.mark.parametrize("home", ["/proc/swarm", "/dev/null", "/dev/null/swarm"])
async def test_a_home_that_cannot_be_written_is_named(own_shell: Shell, home: str) -> None:
    shell = Shell(home=own_shell.home, settings={**FREE_PORTS, "SWARM_HOME": home})
    outcome = await shell.swarm("up", "--model", "scripted")
    assert outcome.code == 2, outcome
    assert home in outcome.err
    assert "Traceback" not in outcome.err


async def test_a_port_that_is_taken_is_named_and_nothing_is_left(own_shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        shell = Shell(home=own_shell.home, settings={**FREE_PORTS, "SWARM_GATEWAY_PORT": port})
        outcome = await shell.swarm("up", "--model", "scripted")
    assert outcome.code == 2, outcome
    assert port in outcome.err
    assert "SWARM_GATEWAY_PORT" in outcome.err
    assert shell.processes() == []


async def test_no_swarm_to_reach_is_exit_code_3(own_shell: Shell) -> None:
    for command in (("status",), ("run", "x"), ("events", "r1"), ("down",), ("creds", "observer")):
        outcome = await own_shell.swarm(*command)
        assert outcome.code == 3, (command, outcome)
        assert "swarm up" in outcome.err


async def test_a_setting_that_makes_no_sense_is_named(own_shell: Shell) -> None:
    shell = Shell(home=own_shell.home, settings={"SWARM_LEASE_S": "soon"})
    outcome = await shell.swarm("status")
    assert outcome.code == 2, outcome
    assert "SWARM_LEASE_S" in outcome.err


@pytest.mark.skipif(gpus_here() != (), reason="there is a GPU that would take them")
@pytest.mark.parametrize(
    ("setting", "profile"),
    [
        ("SWARM_MODEL_PROFILE", "qwen2.5-72b"),
        ("SWARM_EMBEDDING_PROFILE", "all-minilm-l6-v2-gpu"),
    ],
)
async def test_what_no_gpu_here_can_hold_is_named_and_nothing_is_left(
    own_shell: Shell, setting: str, profile: str
) -> None:
    settings = {**FREE_PORTS, "SWARM_MODEL_PROFILE": "scripted", setting: profile}
    outcome = await Shell(home=own_shell.home, settings=settings).swarm("up")
    assert outcome.code == 1, outcome
    assert f"{profile} needs" in outcome.err
    assert "swarm models" in outcome.err
    assert own_shell.processes() == []
