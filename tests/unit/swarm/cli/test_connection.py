"""Which swarm the commands reach: that of the settings, as `swarm up` and `swarm down` do."""

import json
from pathlib import Path

import pytest

from swarm import cli

ASKING = (
    "run x",
    "runs",
    "events r1",
    "cancel r1",
    "pause r1",
    "resume r1",
    "retry r1",
    "approvals",
    "approve a1",
    "deny a1 --reason x",
    "dead-letters",
    "users list",
    "users add ben --password sesame",
    "users disable ben",
    "api-keys list",
    "api-keys create ci --scope run.read",
    "api-keys revoke k1",
    "memory list",
    "memory write shared/notes a x",
    "memory search x",
    "memory rebuild",
    "audit checkpoint",
    "audit prove --old 1",
    "audit export r1",
    "audit forget ada --yes",
    "usage",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a swarm that is about to be ready, which `.env` alone names."""
    place = tmp_path / "x"
    (place / "run").mkdir(parents=True)
    state = {"phase": "starting", "addresses": {"gateway": "http://127.0.0.1:9"}}
    (place / "run" / "state.json").write_text(json.dumps(state))
    (tmp_path / ".env").write_text(f"SWARM_HOME={place}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("COLUMNS", "500")
    return place


@pytest.mark.parametrize("command", ASKING)
def test_every_command_reaches_the_swarm_whose_home_the_env_file_names(
    home: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert cli.run(command.split()) == 3
    assert f"The swarm in {home} is not ready: it is starting." in capsys.readouterr().err


def test_a_setting_that_cannot_be_used_is_a_mistake_of_usage_to_every_command(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_HOM", str(home))
    assert cli.run(["runs"]) == cli.run(["status"]) == 2
    assert capsys.readouterr().err.count("SWARM_HOM is not a setting.") == 2


def test_there_is_one_way_to_connect() -> None:
    """A command of its own way would look elsewhere for the swarm."""
    folder = Path(cli.__file__).parent
    assert [path.name for path in folder.glob("*.py") if ".connect(" in path.read_text()] == [
        "connection.py"
    ]
