"""`swarm audit` and `swarm verify`: what they print and write, and how they exit."""

import asyncio
import json
from pathlib import Path

import pytest

from bus.identity import Authority
from cluster.keys import rotate_root
from cluster.settings import Settings
from storage.audit_check import Finding
from storage.log_checker import LogCheck
from swarm.cli import audit
from tests.evidence import small
from tests.unit.serve.fakes import Fakes
from tests.unit.swarm.cli.conftest import Command

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def audited(fakes: Fakes) -> Fakes:
    fakes.have_audited(small(), [4, 10])
    return fakes


def test_a_bundle_is_exported_since_a_checkpoint_and_verified(
    audited: Fakes, command: Command, capsys: Printed, tmp_path: Path
) -> None:
    kept, bundle = tmp_path / "kept", tmp_path / "bundle.json"
    assert command("audit", "checkpoint", "--size", "4", "--out", str(kept)) == 0
    assert kept.read_text() == audited.audit.ledger.checkpoint(4).note
    export = ("audit", "export", "r1", "--out", str(bundle))
    assert command(*export, "--since-checkpoint", str(kept)) == 0
    root = audited.audit.ledger.operator.public
    verify = ("verify", str(bundle), "--root-key", root, "--old-checkpoint", str(kept))
    assert command(*verify) == 0
    said = capsys.readouterr().out
    assert "PROVEN. Run r1: 3 events verified, 0 refused" in said
    assert "the log continues the checkpoint of 4 leaves" in said
    assert "sender coder/coder-1" in said
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert command(*verify) == 1
    assert "NOT PROVEN. The bundle is not written" in capsys.readouterr().err


def test_checkpoint_proofs_and_bundle_go_to_standard_output(
    audited: Fakes, command: Command, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ledger = audited.audit.ledger
    assert command("audit", "checkpoint") == 0
    assert capfdbinary.readouterr().out.decode() == ledger.checkpoint().note
    assert command("audit", "prove", "--leaf", "2", "--size", "4") == 0
    told = json.loads(capfdbinary.readouterr().out)
    assert told["proof"] == [each.hex() for each in ledger.inclusion(2, 4)]
    assert command("audit", "prove", "--old", "4") == 0
    assert json.loads(capfdbinary.readouterr().out)["new"] == 10
    assert command("audit", "export", "r1") == 0
    assert json.loads(capfdbinary.readouterr().out)["run"] == "r1"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("prove",), "Give either --leaf or --old"),
        (("prove", "--leaf", "1", "--old", "1"), "Give either --leaf or --old"),
        (("prove", "--leaf", "10"), "must be less than the tree's size"),
        (("checkpoint", "--size", "5"), "no such checkpoint"),
        (("checkpoint", "--out", "/proc/none/x"), "Cannot write"),
        (("export", "r9"), "no run of that id"),
    ],
)
def test_what_makes_no_sense_is_refused(
    audited: Fakes, command: Command, capsys: Printed, arguments: tuple[str, ...], why: str
) -> None:
    assert command("audit", *arguments) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_no_checkpoint_is_refused(
    audited: Fakes, command: Command, capsys: Printed, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a\nb\nc\n")
    since = ("--since-checkpoint", str(tmp_path / "kept"))
    assert command("audit", "export", "r1", *since) == 2
    assert "is not a checkpoint" in " ".join(capsys.readouterr().err.split())


def test_the_root_key_is_that_of_the_home(
    command: Command, capsys: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_HOME", str(tmp_path))
    assert command("audit", "root-key") == 3
    assert command("audit", "verify") == 3
    capsys.readouterr()
    root = Authority.create()
    (tmp_path / "keys").mkdir()
    root.save(tmp_path / "keys")
    assert command("audit", "root-key") == 0
    assert capsys.readouterr().out == f"{root.operator_public_key}\n"
    rotated = asyncio.run(rotate_root(Settings(home=tmp_path), reason="stolen"))
    assert not rotated  # nobody runs who could be told
    following = Authority.load(tmp_path / "keys").ring.operator
    assert following != root.operator_public_key
    assert command("audit", "root-key") == 0
    assert capsys.readouterr().out == f"{following}\n"
    assert command("audit", "root-key", "--first") == 0
    assert capsys.readouterr().out == f"{root.operator_public_key}\n"


def test_a_log_that_was_tampered_with_is_told_with_the_place(
    command: Command, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding(stream_sequence=7, what="the row of stream sequence 7 was changed")
    done = LogCheck(events=9, checkpoints=2, root=bytes(32), finding=found)

    async def verified(*_: object) -> LogCheck:
        return done

    monkeypatch.setattr(audit, "verify_log", verified)
    assert command("audit", "verify") == 1
    assert "was tampered with: the row of stream sequence 7 was changed." in " ".join(
        capsys.readouterr().err.split()
    )
    assert command("audit", "verify", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["intact"], document["stream_sequence"]) == (False, 7)
    done = LogCheck(events=9, checkpoints=2, root=bytes(32), finding=None)
    assert command("audit", "verify") == 0
    assert "is intact: 9 events, 2 checkpoints" in " ".join(capsys.readouterr().out.split())
