"""`swarm memory`."""

import json
from pathlib import Path

import pytest

from cluster import quarantine as quarantines
from cluster.quarantine import Quarantined
from swarm import cli
from tests.unit.serve.fakes import UMA, Fakes
from tests.unit.swarm.cli.conftest import Command

Printed = pytest.CaptureFixture[str]


def test_an_item_is_written_read_listed_exported_and_deleted(
    command: Command, capsys: Printed, tmp_path: Path
) -> None:
    (tmp_path / "b.md").write_text("from a file")
    assert command("memory", "write", "shared/notes", "a", "A token bucket.", "--base", "0") == 0
    assert capsys.readouterr().out == "shared/notes/a is at version 1.\n"
    assert command("memory", "write", "shared/notes", "b", "--file", str(tmp_path / "b.md")) == 0
    assert command("memory", "write", "shared/notes", "s", "x", "--kind", "session") == 2
    capsys.readouterr()
    assert command("memory", "read", "shared/notes", "a") == 0
    printed = capsys.readouterr()
    assert printed.out == "A token bucket.\n"
    assert "gateway/gateway-1" in printed.err
    assert command("memory", "list", "--json") == 0
    assert [item["item"] for item in json.loads(capsys.readouterr().out)] == ["a", "b"]
    assert command("memory", "list") == 0
    assert "from a file" in capsys.readouterr().out
    assert command("memory", "export", "shared") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["content"] for line in lines] == ["A token bucket.", "from a file"]
    assert command("memory", "delete", "shared/notes", "a", "--base", "1") == 0
    assert capsys.readouterr().out == "shared/notes/a is deleted.\n"
    assert command("memory", "read", "shared/notes", "a") == 2


def test_a_clash_fails_and_says_what_to_do(command: Command, capsys: Printed) -> None:
    assert command("memory", "write", "shared/notes", "a", "one") == 0
    assert command("memory", "write", "shared/notes", "a", "two", "--base", "0") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "shared/notes/a is at version 1, not at 0." in said
    assert "Read the item as it is now" in said


def test_a_search_says_when_it_went_by_words_only(
    fakes: Fakes, command: Command, capsys: Printed
) -> None:
    assert command("memory", "write", f"user/{UMA}/notes", "a", "my bucket") == 0
    capsys.readouterr()
    assert command("memory", "search", "bucket", "--in", f"user/{UMA}", "--in", "shared") == 0
    printed = capsys.readouterr()
    assert "my bucket" in printed.out
    assert printed.err == ""
    fakes.memory.is_away = True
    assert command("memory", "search", "bucket", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recall"] == "keyword"
    assert command("memory", "search", "bucket") == 0
    assert "by words only" in capsys.readouterr().err


def test_a_search_is_narrowed(command: Command, capsys: Printed) -> None:
    written = ("memory", "write", "shared/notes")
    assert command(*written, "a", "bucket", "--meta", "lang=en", "--meta", "n=1") == 0
    assert command(*written, "b", "bucket", "--meta", "lang=de", "--meta", "n=[1]") == 0
    capsys.readouterr()
    for options, found in (
        (("--meta", "lang=en", "--meta", "n=1"), ["a"]),
        (("--meta", 'lang="de"', "--meta", "n=[1]"), ["b"]),
        (("--meta", 'n="1"'), []),
        (("--author", "gateway/gateway-1", "--run", "memory"), ["a", "b"]),
        (("--author", "coder/coder-1"), []),
        (("--since", "2026-01-01", "--before", "9999-01-01T00:00:00+02:00"), ["a", "b"]),
        (("--before", "2026-01-01T12:00:00"), []),
    ):
        assert command("memory", "search", "bucket", "--json", *options) == 0
        result = json.loads(capsys.readouterr().out)
        assert [each["item"]["item"] for each in result["found"]] == found, options


@pytest.mark.parametrize("option", [("--meta", "lang"), ("--meta", "=x"), ("--author", "x")])
def test_a_search_cannot_be_narrowed_to_nonsense(option: tuple[str, str], command: Command) -> None:
    assert command("memory", "search", "bucket", *option) == 2


@pytest.mark.parametrize("text", ["NaN", "1e999", "-Infinity", "[]", "a=b"])
def test_what_is_no_json_of_one_value_is_text(text: str, command: Command, capsys: Printed) -> None:
    assert command("memory", "write", "shared/notes", "a", "x", "--meta", f"k={text}") == 0
    capsys.readouterr()
    assert command("memory", "read", "shared/notes", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["metadata"] == {"k": text}


def test_upkeep_is_for_admins(command: Command, capsys: Printed) -> None:
    assert command("memory", "reindex") == 2
    assert command("memory", "rebuild") == 2
    assert "memory.manage" in " ".join(capsys.readouterr().err.split())


def test_either_a_text_or_a_file_is_written(command: Command, capsys: Printed) -> None:
    assert command("memory", "write", "shared/notes", "a") == 2
    assert "Give either a text or --file." in capsys.readouterr().err


def test_a_quarantine_says_how_much_it_hides(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWARM_HOME", str(tmp_path))
    items: list[int | None] = [3, None, 0]

    async def told(_settings: object, _one: str, *_two: str, reason: str) -> Quarantined:
        assert reason in ("", "stolen")
        return Quarantined(event="q1", agent="coder/coder-1", since=7, items=items.pop(0))

    monkeypatch.setattr(quarantines, "quarantine", told)
    monkeypatch.setattr(quarantines, "release", told)
    arguments = ["memory", "quarantine", "coder-1", "--since", "e1"]
    assert cli.run([*arguments, "--reason", "stolen"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "What coder/coder-1 wrote from place 7 of the log on: 3 items are hidden" in said
    assert "swarm memory release q1" in said
    assert cli.run(arguments) == 0
    assert "has not looked at it yet" in " ".join(capsys.readouterr().out.split())
    assert cli.run(["memory", "release", "q1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 0
