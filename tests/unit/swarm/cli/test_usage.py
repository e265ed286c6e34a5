"""The command that shows what was used up."""

import json

import pytest

from policies.capabilities import Capabilities, shipped_source
from storage.usage import Total
from tests.unit.serve.fakes import MODEL, UMA, Fakes
from tests.unit.swarm.cli.conftest import Command

Printed = pytest.CaptureFixture[str]
BUNDLE = shipped_source() + b"\npeople: {tokens_per_day: 200000}\n"


def test_totals_are_a_table_with_what_is_left_of_today(
    fakes: Fakes, command: Command, capsys: Printed
) -> None:
    fakes.policy = Capabilities(BUNDLE)
    fakes.usage.spent_tokens = 1_312
    fakes.usage.found = (
        Total(
            parts={"day": "2026-01-01", "model": MODEL},
            questions=12,
            prompt_tokens=1_840,
            completion_tokens=905,
        ),
    )
    assert command("usage", "--since", "2026-01-01", "--until", "2026-01-02") == 0
    shown = capsys.readouterr().out
    for text in ("2026-01-01", MODEL, "12", "1,840", "905", "Today: 1,312 of 200,000 tokens."):
        assert text in shown
    assert command("usage", "--json") == 0
    assert json.loads(capsys.readouterr().out)["totals"][0]["questions"] == 12
    [first, _] = fakes.usage.asked
    assert (first[0].user, first[1]) == (UMA, ("day", "model"))


def test_nothing_used_up_is_said_so(command: Command, capsys: Printed) -> None:
    assert command("usage", "--by", "agent", "--run", "r1") == 0
    assert "Nothing was used up" in capsys.readouterr().out


def test_what_is_no_part_of_a_total_is_refused(command: Command, capsys: Printed) -> None:
    assert command("usage", "--by", "password") == 2
    assert "'password' is none of user" in " ".join(capsys.readouterr().err.split())


def test_who_is_no_admin_sees_nobody_elses(command: Command, capsys: Printed) -> None:
    assert command("usage", "--user", "*") == 2
    assert "does not manage users" in " ".join(capsys.readouterr().err.split())
