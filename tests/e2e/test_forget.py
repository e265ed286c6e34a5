"""A person is forgotten on a whole swarm: what was said is gone, and every proof still verifies."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from bus.payload import ERASED
from bus.subject_keys import LIFE_S
from cluster.home import locate
from swarm import AsyncSwarm
from swarm.errors import Conflict, NotAllowed
from swarm.home import gateway_certificate, gateway_url
from swarm.run import AsyncRun
from tests.commands import Outcome, Shell
from tests.secrets import files_below, seen

pytestmark = pytest.mark.timeout(300)
PASSWORD = "correct horse battery staple"
MARK = "a marked and confidential rate limiter"


@pytest.fixture(scope="module")
async def ann(shell: Shell) -> AsyncIterator[AsyncSwarm]:
    """A user of her own."""
    async with await AsyncSwarm.connect(home=shell.home) as admin:
        await admin.people.create_user("ann", PASSWORD)
    async with await AsyncSwarm.connect(
        gateway_url(shell.home),
        username="ann",
        password=PASSWORD,
        certificate=gateway_certificate(shell.home),
    ) as client:
        yield client


@pytest.fixture(scope="module")
async def run(ann: AsyncSwarm) -> AsyncRun:
    """A run of hers that has ended."""
    run = await ann.submit(f"Design {MARK}")
    status = await run.wait(90)
    assert status.status == "completed", status.failure
    assert MARK in (status.result or "")
    return run


async def proven(shell: Shell, run: str, bundle: Path) -> None:
    root = (await done(shell, "audit", "root-key")).out.strip()
    await done(shell, "audit", "export", run, "--out", str(bundle))
    outcome = await done(shell, "verify", str(bundle), "--root-key", root)
    assert f"PROVEN. Run {run}" in outcome.out


def leaves_of(bundle: Path) -> list[dict[str, object]]:
    """All that a bundle shows, but the proofs, which are of another size each time."""
    leaves = json.loads(bundle.read_text())["leaves"]
    return [{name: leaf[name] for name in leaf if name != "proof"} for leaf in leaves]


async def done(shell: Shell, *arguments: str) -> Outcome:
    outcome = await shell.swarm(*arguments)
    assert outcome.code == 0, outcome
    return outcome


async def test_nothing_that_was_said_is_on_the_disk_in_the_clear(
    shell: Shell, run: AsyncRun
) -> None:
    home = locate(shell.home)
    assert run.id
    places = await asyncio.to_thread(lambda: list(files_below(home.root)))
    assert len(places) > 100
    assert seen({"the objective": MARK.encode()}, places) == []


async def test_nobody_is_forgotten_while_a_run_goes_on(shell: Shell, ann: AsyncSwarm) -> None:
    going = await ann.submit("Design something else", priority="low")
    await going.pause()
    outcome = await shell.swarm("audit", "forget", "ann", "--yes")
    assert outcome.code == 1, outcome
    assert going.id in outcome.err
    await going.cancel()
    assert (await going.wait(120)).status == "cancelled"


async def test_a_stranger_cannot_be_forgotten(shell: Shell) -> None:
    outcome = await shell.swarm("audit", "forget", "nobody-of-that-name", "--yes")
    assert outcome.code == 2, outcome
    assert "Nothing is known" in outcome.err


async def test_a_forgotten_person_leaves_a_record_that_verifies_and_says_nothing(
    shell: Shell, client: AsyncSwarm, run: AsyncRun, tmp_path: Path
) -> None:
    await proven(shell, run.id, tmp_path / "before.json")
    forgotten = await done(
        shell, "audit", "forget", "ann", "--reason", "she asked", "--yes", "--json"
    )
    told = json.loads(forgotten.out)
    assert told["runs"] == 2
    assert told["erased"] > 20
    assert told["plain"] == 0
    again = json.loads((await done(shell, "audit", "forget", "ann", "--yes", "--json")).out)
    assert again["forgotten_at"] == told["forgotten_at"]

    await proven(shell, run.id, tmp_path / "after.json")
    before, after = (leaves_of(tmp_path / name) for name in ("before.json", "after.json"))
    assert all(leaf in after for leaf in before)
    await done(shell, "audit", "verify")
    replayed = await shell.swarm("replay", run.id)
    assert replayed.code == 2, replayed
    assert "erased" in replayed.err
    assert ", 2 erased" in (await done(shell, "replay", "--all")).out

    seen_by_admin = client.run(run.id)
    async with asyncio.timeout(LIFE_S + 10):
        while (status := await seen_by_admin.status()).result != ERASED:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert status.status == "completed"
    assert MARK not in status.model_dump_json()


async def test_a_coordinator_that_starts_anew_says_nothing_of_what_it_cannot_read(
    shell: Shell, client: AsyncSwarm, run: AsyncRun
) -> None:
    before = await said_of(client, run.id)
    shell.kill_actor("Coordinator")
    status = await (await client.submit("Design another one")).wait(90)
    assert status.status == "completed", status.failure
    assert await said_of(client, run.id) == before


async def said_of(client: AsyncSwarm, run: str) -> list[str]:
    async with aclosing(client.run(run).events()) as events:
        return [event.type async for event in events]


async def test_nothing_more_is_kept_of_a_forgotten_person(
    ann: AsyncSwarm, client: AsyncSwarm, run: AsyncRun
) -> None:
    with pytest.raises(NotAllowed, match="forgotten"):
        await ann.submit("Design it again")
    with pytest.raises(Conflict, match="erased"):
        await client.run(run.id).fork(at="1")
