"""The commands for users, API keys and the key that signs tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from policies.token_keys import read_ring
from policies.tokens import key_thumbprint, save_private_key
from swarm import cli
from swarm.client import AsyncSwarm
from tests.unit.serve.fakes import Fakes
from tests.unit.swarm.cli.conftest import Command
from tests.unit.swarm.gateways import connected

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def as_admin(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    really = AsyncSwarm.connect

    async def connect(*args: Any, **options: Any) -> AsyncSwarm:
        return await (really(*args, **options) if args else connected(fakes, name="ada"))

    monkeypatch.setattr(AsyncSwarm, "connect", connect)
    with capture_logs():
        yield lambda *arguments: cli.run(list(arguments))


def test_an_admin_makes_lists_and_bars_users(
    fakes: Fakes, as_admin: Command, capsys: Printed
) -> None:
    made = as_admin("users", "add", "ben", "--password", "a password for ben", "--role", "viewer")
    assert (made, capsys.readouterr().out) == (0, "ben: viewer of default\n")
    assert as_admin("users", "role", "BEN", "user") == 0
    assert as_admin("users", "disable", "ben") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ben: user of default, disabled"
    assert as_admin("users", "list", "--json") == 0
    listed = {user["username"]: user for user in json.loads(capsys.readouterr().out)}
    assert (listed["ben"]["role"], listed["ben"]["disabled"]) == ("user", True)
    assert as_admin("users", "enable", "ben") == 0
    assert as_admin("users", "list") == 0
    assert "ben" in capsys.readouterr().out
    assert as_admin("users", "disable", "nobody") == 2
    assert "no user named nobody" in capsys.readouterr().err


def test_who_is_no_admin_is_told_so(command: Command, capsys: Printed) -> None:
    assert command("users", "list") == 2
    assert "may not do 'user.manage'" in " ".join(capsys.readouterr().err.split())


def test_a_key_is_printed_once_and_can_be_revoked(command: Command, capsys: Printed) -> None:
    assert command("api-keys", "create", "ci", "--scope", "run.read", "--days", "7") == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("swk_")
    assert command("api-keys", "list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert "key" not in listed
    assert key.startswith(listed["prefix"])
    assert command("api-keys", "list") == 0
    assert "run.read" in capsys.readouterr().out
    assert command("api-keys", "revoke", listed["id"]) == 0
    assert command("api-keys", "revoke", listed["id"]) == 2
    assert command("api-keys", "create", "ci", "--scope", "everything") == 2


def test_rotating_the_token_key_keeps_the_old_half_until_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("SWARM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / "tokens.pem"
    save_private_key(path, Ed25519PrivateKey.generate())
    old = read_ring(path)
    assert cli.run(["keys", "rotate", "tokens"]) == 0
    ring = read_ring(path)
    assert key_thumbprint(ring.signing.public_key()) in capsys.readouterr().out
    assert [key.public for key in ring.retired] == [old.signing.public_key()]
    assert cli.run(["keys", "rotate", "tokens", "--drop-old"]) == 0
    assert read_ring(path).retired == ()
    assert "not accepted" in capsys.readouterr().out


def test_without_a_key_there_is_nothing_to_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("SWARM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["keys", "rotate", "tokens"]) == 1
    assert "could not be read" in " ".join(capsys.readouterr().err.split())
