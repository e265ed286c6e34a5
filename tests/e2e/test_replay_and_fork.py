"""`swarm replay` and `swarm fork` on a whole swarm."""

import json
from contextlib import aclosing

import pytest

from swarm import AsyncSwarm
from swarm.run import AsyncRun
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)
OBJECTIVE = "Design a rate limiter for a public HTTP API"


async def event_of(run: AsyncRun, step: str) -> str:
    """The event that answers a step."""
    async with aclosing(run.events()) as events:
        async for event in events:
            payload = event.payload or {}
            if event.type == "swarm.step.completed.v1" and payload.get("step") == step:
                assert event.id is not None
                return event.id
    raise AssertionError(step)


async def test_replay_and_fork_from_the_command_line(shell: Shell, client: AsyncSwarm) -> None:
    parent = await client.submit(OBJECTIVE)
    await parent.wait(60)
    replayed = await shell.swarm("replay", parent.id, "--json")
    assert replayed.code == 0, replayed
    document = json.loads(replayed.out)
    assert document["equal"]
    assert (document["status"], document["refused"]) == ("completed", 0)
    assert document["answers"] == len((await parent.status()).steps)

    at = await event_of(parent, "architecture")
    prompt = shell.home.parent / "prompt.txt"
    prompt.write_text("Use a token bucket.")
    summary = "Limit each user to ten requests a second."
    forked = await shell.swarm(
        "fork",
        parent.id,
        "--at",
        at,
        "--set",
        f"specification.summary={summary}",
        "--prompt-file",
        f"code={prompt}",
        "--wait",
        "--timeout",
        "60",
        "--json",
    )
    assert forked.code == 0, forked
    told = json.loads(forked.out)
    assert (told["parent"], told["at"], told["status"]) == (parent.id, at, "completed")
    assert told["steps"]["architecture"] == "same"
    assert told["steps"]["specification"] == "differs"
    assert any(line == f"+**Summary**: {summary}" for line in told["diff"])

    every = await shell.swarm("replay", "--all")
    assert every.code == 0, every
    assert f"Run {told['id']}, completed: equal" in every.out


async def test_what_cannot_be_replayed_or_forked_is_a_matter_of_usage(
    shell: Shell, client: AsyncSwarm
) -> None:
    parent = await client.submit(OBJECTIVE)
    await parent.wait(60)
    for arguments in (
        ("replay",),
        ("replay", "r0"),
        ("replay", parent.id, "--all"),
        ("fork", "r0", "--at", "1"),
        ("fork", parent.id, "--at", "0" * 32),
        ("fork", parent.id, "--at", "1", "--set", "nonsense"),
        ("fork", parent.id, "--at", "1", "--prompt-file", "code=/nowhere"),
    ):
        outcome = await shell.swarm(*arguments)
        assert outcome.code == 2, outcome
        assert "Traceback" not in outcome.err
