"""The verifier needs the standard library and PyNaCl, and nothing of the project."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import swarm.verify
from swarm.cli import verify as command_line
from swarm.verify import command
from swarm.verify.chain import Finding
from tests.evidence import Member, begun, small

FOLDER = Path(swarm.verify.__file__).parent
CLOSED = ("swarm", "bus", "storage", "serve", "actors", "pydantic", "nkeys")
MODULES = sorted(FOLDER.glob("*.py"))


def imports_of(module: Path) -> set[str]:
    """What a module imports: of the standard library and others the top-level name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    neighbours = {f"swarm.verify.{path.stem}" for path in MODULES}
    return {name.partition(".")[0] for name in found - neighbours}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_its_neighbours_the_standard_library_and_pynacl(module: Path) -> None:
    assert imports_of(module) <= {*sys.stdlib_module_names, "nacl"}


def test_the_folder_runs_alone_where_nothing_of_the_project_can_be_imported(tmp_path: Path) -> None:
    ledger = small()
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(ledger.bundle())
    lonely = (
        "import runpy, sys\n"
        "class Closed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {CLOSED} and name[:12] != 'swarm.verify':\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Closed())\n"
        f"sys.argv = ['verify', {str(bundle)!r}, '--root-key', {ledger.operator.public!r}]\n"
        f"runpy.run_path({str(FOLDER)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", lonely], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PROVEN. Run r1: 3 events verified, 0 refused")


def test_as_a_command_it_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    ledger = small()
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(ledger.bundle().replace(b'"run_index":2', b'"run_index":3'))
    command = [sys.executable, str(FOLDER), str(bundle), "--root-key", ledger.operator.public]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "NOT PROVEN. Leaf 7 (stream sequence 8) is number 3 of the run 'r1'" in done.stderr
    assert done.stdout == ""


def test_as_a_command_it_says_what_it_found_and_that_the_run_is_proven(tmp_path: Path) -> None:
    ledger, _, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    for number in range(22):
        ledger.say(coder, "step.claimed", suffix=("coder",), cause=f"none-{number}")
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(ledger.bundle())
    command = [sys.executable, str(FOLDER), str(bundle), "--root-key", ledger.operator.public]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "PROVEN. Run r1: 23 events verified, 0 refused. 22 FINDINGS, see below"
    assert rest[-21] == (
        "  FOUND leaf 4 (stream sequence 5) by coder/coder-1:"
        " it answers an event that is not in the run before it"
    )
    assert rest[-1] == "  FOUND 2 more"


def test_a_file_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER), str(tmp_path / "none"), "--root-key", "O"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


HOSTILE = "x\x1b[2K\x1b[1GPROVEN.\r\nPROVEN. Run r1\t\x7f\x9b2K\u2028\u202e\u0301"


def hostile(folder: Path) -> tuple[Path, str]:
    """A bundle whose credential has a name that would write another verdict, and the root's key."""
    ledger, authority, _, _ = begun()
    named = ledger.announce(Member("coder", HOSTILE), authority)
    ledger.say(Member("coder", "coder-2", named.key), "step.claimed", suffix=("coder",))
    bundle = folder / "bundle.json"
    bundle.write_bytes(ledger.bundle())
    return bundle, ledger.operator.public


def is_plain(text: str) -> bool:
    return all(each == "\n" or (each.isascii() and each.isprintable()) for each in text)


def test_no_name_in_a_bundle_writes_a_verdict_of_its_own(tmp_path: Path) -> None:
    bundle, root = hostile(tmp_path)
    command = [sys.executable, str(FOLDER), str(bundle), "--root-key", root]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    told = done.stderr.decode()
    assert is_plain(told)
    assert told.startswith("NOT PROVEN. Leaf 4 ")
    assert "its credential coder/x\\x1b[2K\\x1b[1GPROVEN.\\r\\nPROVEN. Run r1\\t\\x7f\\x9b" in told
    assert told.count("\n") == 1


def test_the_same_goes_for_swarm_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, root = hostile(tmp_path)
    assert command_line.verify(bundle, root_key=root) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("NOT PROVEN. Leaf 4 ")
    assert is_plain(told.err)


def test_what_is_proven_is_shown_as_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the verifier lets pass in a name: of a log, a sender, a run, a reason, a finding."""
    bundle = tmp_path / "bundle.json"
    ledger = small()
    bundle.write_bytes(ledger.bundle())
    finding = Finding(index=1, stream_sequence=2, sender=HOSTILE, key="U", what=HOSTILE)
    proven = replace(
        swarm.verify.verify(ledger.bundle(), ledger.operator.public),
        run=HOSTILE,
        log=HOSTILE,
        root=HOSTILE,
        refused={HOSTILE: 1},
        senders={HOSTILE: HOSTILE},
        policies=(HOSTILE,),
        findings=(finding,),
    )
    monkeypatch.setattr(command, "verify", lambda *_, **__: proven)
    assert command.report(bundle, "O", None, None) == 0
    told = capsys.readouterr().out
    assert is_plain(told)
    assert told.splitlines() == [command.shown(line) for line in command.lines(proven)]
    assert [line for line in told.splitlines() if line.startswith("PROVEN")] == [
        told.splitlines()[0]
    ]


def test_a_name_without_end_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, authority, _, _ = begun()
    named = ledger.announce(Member("coder", " " * 100_000), authority)
    ledger.say(Member("coder", "coder-2", named.key), "step.claimed", suffix=("coder",))
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(ledger.bundle())
    assert command.report(bundle, ledger.operator.public, None, None) == 1
    told = capsys.readouterr().err
    assert len(told) < 1_100
    assert "characters more" in told
