"""Evidence of a run on a whole swarm: exported, and proven without it."""

import json
from pathlib import Path

import pytest

from tests.commands import Outcome, Shell

pytestmark = pytest.mark.timeout(300)


async def done(shell: Shell, *arguments: str) -> Outcome:
    outcome = await shell.swarm(*arguments)
    assert outcome.code == 0, outcome
    return outcome


async def test_a_run_is_proven_to_who_has_the_root_key_and_an_earlier_checkpoint(
    shell: Shell, tmp_path: Path
) -> None:
    kept, bundle = tmp_path / "checkpoint", tmp_path / "bundle.json"
    root = (await done(shell, "audit", "root-key")).out.strip()
    await done(shell, "audit", "checkpoint", "--out", str(kept))
    run = json.loads((await done(shell, "run", "Design a rate limiter", "--json")).out)
    export = ("audit", "export", run["id"], "--since-checkpoint", str(kept))
    await done(shell, *export, "--out", str(bundle))
    verify = ("verify", str(bundle), "--root-key", root)
    proven = await done(shell, *verify, "--old-checkpoint", str(kept))
    assert f"PROVEN. Run {run['id']}: {run['audit']['events']} events verified" in proven.out
    assert "the log continues the checkpoint of" in proven.out
    raw = bundle.read_bytes()
    bundle.write_bytes(raw.replace(b'"run_index":1,', b'"run_index":2,', 1))
    refused = await shell.swarm(*verify)
    assert refused.code == 1, refused
    assert "NOT PROVEN. Leaf" in refused.err


async def test_the_log_of_a_running_swarm_is_verified_and_proofs_are_printed(
    shell: Shell, tmp_path: Path
) -> None:
    kept = tmp_path / "checkpoint"
    await done(shell, "audit", "checkpoint", "--out", str(kept))
    size = kept.read_text().splitlines()[1]
    leaf = json.loads((await done(shell, "audit", "prove", "--leaf", "0", "--size", size)).out)
    assert (leaf["leaf"], leaf["size"]) == (0, int(size))
    grown = json.loads((await done(shell, "audit", "prove", "--old", "1", "--new", size)).out)
    assert grown["proof"]
    verified = await done(shell, "audit", "verify", "--json", "--old-checkpoint", str(kept))
    report = json.loads(verified.out)
    assert report["intact"]
    assert report["events"] >= int(size)
    wrong = await shell.swarm("audit", "prove")
    assert wrong.code == 2, wrong
