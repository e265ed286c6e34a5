"""A whole swarm on Ray whose agents use tools: code in the sandbox, and a real MCP server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Shell

pytestmark = pytest.mark.timeout(400)


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in events if each["type"] == f"swarm.{kind}.v1"]


async def test_tools_are_used_in_the_actors_and_a_replay_needs_none_of_them(
    equipped: Shell, tmp_path: Path
) -> None:
    ran = await equipped.swarm("run", "Add two numbers", "--json", deadline_s=240)
    assert ran.code == 0, ran
    run = json.loads(ran.out)["id"]
    listed = await equipped.swarm("events", run, "--json")
    events = [json.loads(line) for line in listed.out.splitlines()]

    called, answered = of_kind(events, "tool.called"), of_kind(events, "tool.answered")
    assert {each["payload"]["tool"] for each in called} == {"run_python", "run_tests", "town.hours"}
    assert len(called) == len(answered)
    assert {each["payload"]["outcome"] for each in answered} <= {"answered", "failed"}
    told = [each["payload"] for each in answered if each["payload"]["tool"] == "town.hours"]
    assert all("9 to 18" in str(each["result"]) for each in told), told
    programs = [each["payload"] for each in answered if each["payload"]["tool"] == "run_python"]
    assert all(each["outcome"] == "answered" for each in programs), programs
    # The scripted model writes no programs: what it writes is run, and is told to be wrong.
    assert all("SyntaxError" in each["result"]["stderr"] for each in programs), programs

    for role in ("coder", "tester", "researcher"):
        done = of_kind(events, "step.completed")
        answer = next(each["id"] for each in done if f"//{role}/" in each["source"])
        receipt = await equipped.swarm("receipt", answer, deadline_s=120)
        assert (receipt.code, receipt.out.splitlines()[-1]) == (0, "match"), receipt

    replayed = await equipped.swarm("replay", run)
    assert replayed.code == 0, replayed
    bundle = tmp_path / "bundle.json"
    exported = await equipped.swarm("audit", "export", run, "--out", str(bundle))
    assert exported.code == 0, exported
    root = (await equipped.swarm("audit", "root-key")).out.strip()
    proven = await equipped.swarm("verify", str(bundle), "--root-key", root)
    assert f"PROVEN. Run {run}" in proven.out, proven
