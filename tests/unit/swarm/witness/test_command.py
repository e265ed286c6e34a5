"""The command that runs a witness: what it refuses before it listens."""

import socket
from pathlib import Path

import pytest

from swarm import cli
from swarm.witness.__main__ import main
from swarm.witness.state import open_state
from tests.branching import LOG_VKEY, ORIGIN
from tests.witnessing import NAME, WATCHED


@pytest.fixture(autouse=True)
def _this_process_keeps_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.witness.command.configure_logs", lambda: None)


def arguments(path: Path, **changed: str) -> list[str]:
    options = {
        "origin": ORIGIN,
        "log-key": str(LOG_VKEY),
        "state": str(path),
        "listen": "127.0.0.1:0",
        **changed,
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"log-key": "nonsense"}, "--log-key cannot be used: A verifier key has three parts"),
        ({"listen": "8200"}, "--listen is HOST:PORT"),
        ({"listen": "127.0.0.1:http"}, "--listen is HOST:PORT"),
        ({"listen": "192.0.2.1:0"}, "Cannot listen on 192.0.2.1:0"),
        ({"name": "two words"}, "cannot be the name of a witness"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], sentence: str
) -> None:
    assert main(arguments(tmp_path, **changed)) == 1
    assert sentence in capsys.readouterr().err


def test_a_place_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(arguments(tmp_path, listen=listen)) == 1
    assert "Address already in use" in capsys.readouterr().err
    with open_state(tmp_path, WATCHED):
        assert main(arguments(tmp_path)) == 1
    assert "Another process" in capsys.readouterr().err


def test_a_lost_state_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_state(tmp_path, WATCHED, NAME):
        pass
    (tmp_path / "state.json").unlink()
    assert main(arguments(tmp_path, name=NAME)) == 1
    assert "--newest FILE" in capsys.readouterr().err


def test_a_missing_option_is_a_matter_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--origin", ORIGIN]) == 2
    assert cli.run(["witness", *arguments(tmp_path, **{"log-key": "nonsense"})]) == cli.USAGE
    assert "log-key" in capsys.readouterr().err
