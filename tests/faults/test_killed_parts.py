"""kill -9 of a server or a member while a run is in the middle: it goes on by itself."""

from uuid import uuid4

import pytest

from actors.team import AGENTS
from tests.chaos.swarm import ChaosSwarm

pytestmark = pytest.mark.timeout(600)

ENDED_S = 180.0
SERVERS = ("nats", "postgres", "postgres backend", "valkey")
MEMBERS = ("coordinator", "auditor", "authority")
SERVE = ("gateway", "model", "proxy", "controller")


async def goes_on(swarm: ChaosSwarm, *victims: str, role: str = "") -> None:
    """A run that is in the middle when they are killed is completed; all of them come back."""
    claims = 1 if role else 3
    run = await swarm.in_the_middle(uuid4().hex, claims=claims, role=role)
    killed = await swarm.kill(*victims)
    status = await swarm.ended(run, deadline_s=ENDED_S)
    assert status.status == "completed", status.failure
    for kind in victims:
        if kind != "postgres backend":  # comes with the next query
            await swarm.until_back(kind, killed, deadline_s=ENDED_S)


@pytest.mark.parametrize("victim", [*SERVERS, *MEMBERS, *SERVE])
async def test_a_run_goes_on_when_one_part_is_killed(healthy: ChaosSwarm, victim: str) -> None:
    await goes_on(healthy, victim)


@pytest.mark.parametrize("role", ["coder", "planner"])  # all of them: tests/e2e
async def test_a_run_goes_on_when_the_agent_at_work_is_killed(
    healthy: ChaosSwarm, role: str
) -> None:
    await goes_on(healthy, role, role=role)


@pytest.mark.parametrize(
    "victims",
    [
        ("nats", "authority"),
        ("nats", "coordinator", "coder"),
        ("postgres", "auditor"),
        ("postgres", "valkey", "gateway"),
        ("nats", "postgres", "valkey"),
        ("coordinator", "auditor", "authority", *sorted(AGENTS)),
        ("gateway", "model", "proxy", "controller"),
        (*SERVERS, *MEMBERS, *sorted(AGENTS), *SERVE),
    ],
    ids="+".join,
)
async def test_a_run_goes_on_when_several_are_killed_at_once(
    healthy: ChaosSwarm, victims: tuple[str, ...]
) -> None:
    await goes_on(healthy, *victims)


async def test_postgres_killed_again_and_again_keeps_every_row(healthy: ChaosSwarm) -> None:
    for _ in range(3):
        await goes_on(healthy, "postgres")


async def test_nats_killed_again_and_again_keeps_every_event(healthy: ChaosSwarm) -> None:
    for _ in range(3):
        await goes_on(healthy, "nats")
