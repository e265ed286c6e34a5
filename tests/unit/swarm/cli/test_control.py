"""The commands that control runs: what they do, what they print, how they exit."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from swarm.client import AsyncSwarm
from swarm.errors import NotReachable
from tests.unit.serve.fakes import (
    BASE_URL,
    PASSWORD,
    RESEARCH,
    Fakes,
    MemoryLog,
    ask_approval,
    cancelled,
    complete,
    do_step,
    fail,
    give_up,
    submit,
)
from tests.unit.swarm.cli.conftest import Command
from tests.unit.swarm.gateways import AwayLine

Printed = pytest.CaptureFixture[str]


def after(*deeds: Coroutine[Any, Any, Any]) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return [await deed for deed in deeds]

    return asyncio.run(all_of_them())


def test_a_run_is_controlled_by_its_id(fakes: Fakes, command: Command, capsys: Printed) -> None:
    after(submit(fakes.log))
    assert command("pause", "r1", "--reason", "lunch") == 0
    assert "Run r1 is paused: paused by uma since" in capsys.readouterr().out
    assert command("resume", "r1") == 0
    assert "Run r1 is running" in capsys.readouterr().out
    assert command("cancel", "r1", "--reason", "no need") == 0
    assert capsys.readouterr().out == "Run r1 is being cancelled\n"
    after(cancelled(fakes.log, "r1"))
    assert command("cancel", "r1") == 0
    assert capsys.readouterr().out == "Run r1 is cancelled\n"
    (stored,) = fakes.log.of_kind("cancel.requested")
    assert json.loads(stored.event.body)["reason"] == "no need"


def test_a_failed_run_is_retried(fakes: Fakes, command: Command, capsys: Printed) -> None:
    after(submit(fakes.log), fail(fakes.log, "r1"))
    assert command("retry", "r1") == 0
    assert "Run r1 is running" in capsys.readouterr().out


def test_what_makes_no_sense_fails_with_the_reason(
    fakes: Fakes, command: Command, capsys: Printed
) -> None:
    after(submit(fakes.log), complete(fakes.log, "r1"))
    for verb in ("cancel", "pause", "resume", "retry"):
        assert command(verb, "r1") == 1
        assert "swarm: The run cannot be" in capsys.readouterr().err
    assert command("cancel", "r0") == 2
    assert "There is no run of that id." in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("cancel",),
        ("cancel", "r1", "r2"),
        ("pause", "r1", "--because", "x"),
        ("deny", "a1"),
        ("approve",),
        ("run", "x", "--priority", "urgent"),
        ("run", "x", "--deadline", "0"),
        ("runs", "--limit", "0"),
    ],
)
def test_a_command_that_is_spelt_wrong_is_a_matter_of_usage(
    command: Command, arguments: tuple[str, ...]
) -> None:
    assert command(*arguments) == 2


@pytest.mark.parametrize("reason", ["x" * 501, "a\x1bb", "two\nlines", "\udcff"])
def test_a_reason_that_cannot_be_stored_is_a_matter_of_usage(
    fakes: Fakes, command: Command, reason: str
) -> None:
    after(submit(fakes.log))
    assert command("cancel", "r1", "--reason", reason) == 2
    assert len(fakes.log.stored) == 1


@pytest.mark.parametrize("verb", [("cancel", "r1"), ("approvals",), ("dead-letters",), ("runs",)])
def test_without_a_swarm_there_is_nothing_to_control(
    command: Command, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    async def nobody(*_: Any, **__: Any) -> AsyncSwarm:
        raise NotReachable

    monkeypatch.setattr(AsyncSwarm, "connect", nobody)
    assert command(*verb) == 3


def test_approvals_are_listed_and_answered(fakes: Fakes, command: Command, capsys: Printed) -> None:
    assert command("approvals") == 0
    assert capsys.readouterr().out == "Nothing waits for an approval.\n"
    _, first, _, second = after(
        submit(fakes.log),
        ask_approval(fakes.log),
        submit(fakes.log, "r2"),
        ask_approval(fakes.log, "r2"),
    )
    assert command("approvals") == 0
    printed = capsys.readouterr().out
    assert first in printed
    assert second in printed
    assert command("approve", first) == 0
    assert capsys.readouterr().out == "Step research of run r1: given by uma\n"
    assert command("deny", second, "--reason", "too dear") == 0
    assert capsys.readouterr().out == "Step research of run r2: denied by uma\n"
    assert command("approve", second) == 1
    assert "denied by uma" in capsys.readouterr().err
    assert command("approvals", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_dead_letters_are_listed_and_redriven(
    fakes: Fakes, command: Command, capsys: Printed
) -> None:
    assert command("dead-letters") == 0
    assert capsys.readouterr().out == "No dead letters.\n"
    _, letter, _ = after(submit(fakes.log), give_up(fakes.log), fail(fakes.log, "r1"))
    assert command("dead-letters") == 0
    assert "handed out 5 times" in capsys.readouterr().out
    assert command("dead-letters", "--redrive", letter) == 0
    assert "Run r1 is running" in capsys.readouterr().out
    assert command("dead-letters", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["id"], found["redriven"]) == (letter, True)
    assert command("dead-letters", "--redrive", "nothing") == 2


def test_runs_are_listed(fakes: Fakes, command: Command, capsys: Printed) -> None:
    assert command("runs") == 0
    assert capsys.readouterr().out == "No runs yet.\n"
    after(submit(fakes.log), cancelled(fakes.log, "r1"), submit(fakes.log, "r2"))
    long = "r" + "0" * 40
    after(submit(fakes.log, long))
    assert command("runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["r1", "cancelled"],
        ["r2", "running"],
        [long, "running"],
    ]
    assert lines[0].index("objective") == lines[1].index("Write a parser.")
    assert command("runs", "--json", "--limit", "1") == 0
    assert [run["id"] for run in json.loads(capsys.readouterr().out)] == [long]


class LivelyLog(MemoryLog):
    """A swarm that does its part as soon as a run is handed in."""

    async def append(self, *args: Any, **options: Any) -> Any:
        stored = await super().append(*args, **options)
        if stored.event.type == "swarm.run.submitted.v1":
            run = stored.event.run
            await ask_approval(self, run)
            await do_step(self, run, step="research", role="researcher", answer=RESEARCH, item=2)
            await give_up(self, run, "code")
            await cancelled(self, run)
        return stored


def test_who_watches_a_run_reads_what_to_type_and_how_it_ended(
    fakes: Fakes, command: Command, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "log", LivelyLog())
    monkeypatch.setattr("swarm.cli.runs.AUDIT_DEADLINE_S", 0.01)
    assert command("run", "Write a parser.", "--priority", "high", "--deadline", "60") == 1
    printed = capsys.readouterr()
    (asked,) = fakes.log.of_kind("approval.requested")
    assert f"research         waits for approval: swarm approve {asked.event.id}" in printed.err
    assert "research [2]     researcher-1   works" in printed.err
    assert "code             researcher-1   gave up after 5 deliveries" in printed.err
    assert "cancelled by uma: no need" in printed.err
    assert "The run was cancelled by uma: no need" in printed.err
    assert " cancelled in " in printed.out
    (submitted,) = fakes.log.of_kind("run.submitted")
    said = json.loads(submitted.event.data)
    assert (said["priority"], said["deadline_s"]) == ("high", 60.0)


def reached_by(line: AwayLine, monkeypatch: pytest.MonkeyPatch, *, timeout_s: float = 30.0) -> None:
    """Have the commands connect by this line, and lose patience at once."""
    connect = AsyncSwarm.connect

    async def connecting(*_: Any, **__: Any) -> AsyncSwarm:
        return await connect(
            BASE_URL,
            username="uma",
            password=PASSWORD,
            transport=line,
            timeout_s=timeout_s,
            patience_s=0.0,
        )

    monkeypatch.setattr(AsyncSwarm, "connect", connecting)


@pytest.mark.parametrize("away", [9, 10])  # nobody listens; who listens knows of no gateway
def test_who_watches_a_run_learns_that_it_is_kept_when_the_swarm_goes_away(
    fakes: Fakes, command: Command, capsys: Printed, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    reached_by(AwayLine(fakes, away), monkeypatch)
    assert command("run", "Write a parser.") == 3
    (submitted,) = fakes.log.of_kind("run.submitted")
    run = submitted.event.run
    told = " ".join(capsys.readouterr().err.split())
    assert f"Run {run} is kept" in told
    assert f"swarm events {run}" in told


def test_a_result_is_shown_though_nobody_tells_of_its_audit(
    fakes: Fakes, command: Command, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "log", LivelyLog())
    monkeypatch.setattr("swarm.cli.runs.AUDIT_DEADLINE_S", 1.2)
    reached_by(AwayLine(fakes, 100_000, of="/audit"), monkeypatch, timeout_s=0.5)
    assert command("run", "Write a parser.") == 1
    assert " cancelled in " in capsys.readouterr().out
