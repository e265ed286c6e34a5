"""`swarm policy` where no swarm runs: check, test, diff and show."""

import json
from pathlib import Path

import pytest

from policies.capabilities import Capabilities, shipped_source
from swarm import cli

BROKEN = "version: 1\nroles:\n  coder:\n    publsh: [a.b]\n"


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWARM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWARM_POLICY", raising=False)
    monkeypatch.delenv("SWARM_APPLICATION", raising=False)


def write(name: str, text: str | bytes) -> str:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_bundle_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["policy", "check", write("p.yaml", shipped_source())]) == 0
    out = capsys.readouterr().out
    assert Capabilities.shipped().digest in out
    assert "\nlauncher\n  may make the streams and queues" in out


def test_what_is_wrong_with_a_bundle_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write("p.yaml", BROKEN)
    assert cli.run(["policy", "check", path]) == 1
    assert "line 4: roles.coder.publsh: there is no such field" in capsys.readouterr().err
    assert cli.run(["policy", "check", path, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is False
    assert any("line 4" in problem for problem in document["problems"])
    assert cli.run(["policy", "check", "missing.yaml"]) == 1
    assert cli.run(["policy", "check", write("empty.yaml", "\n")]) == 1


@pytest.mark.parametrize(
    ("action", "code", "told"),
    [
        ("publish step.completed.coder", 0, "allowed  roles.coder.publish: step.completed.{role}"),
        ("publish step.completed.judge", 1, "denied  roles.coder.publish: no rule"),
        ("call model:smollm2-135m", 0, "allowed  roles.coder.call.models: *"),
        ("call tool:shell", 1, "denied  roles.coder.call.tools: no rule"),
        ("memory write shared/x", 1, "denied  roles.coder.memory.write: no rule"),
        ("work", 0, "allowed  roles.coder.work: true"),
        ("fly", 2, ""),
    ],
)
def test_an_action_is_allowed_or_denied_by_a_rule(
    capsys: pytest.CaptureFixture[str], action: str, code: int, told: str
) -> None:
    asked = ["policy", "test", "--role", "coder", "--action", action]
    assert cli.run(asked) == code
    assert capsys.readouterr().out.startswith(told)
    if told:
        assert cli.run([*asked, "--bundle", "shipped", "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert document["allowed"] == (code == 0)
        assert document["digest"] == Capabilities.shipped().digest


def test_the_run_at_hand_counts_for_memory() -> None:
    asked = ["policy", "test", "--role", "coder", "--action", "memory write run/r1/x", "--run"]
    assert cli.run([*asked, "r1"]) == 0
    assert cli.run([*asked, "r2"]) == 1


def test_a_difference_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    mute = write("mute.yaml", shipped_source().replace(b"      - run.submitted\n", b""))
    assert cli.run(["policy", "diff", "shipped", mute]) == 0
    assert capsys.readouterr().out == "- gateway      publish run.submitted\n"
    assert cli.run(["policy", "diff", mute, "current", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["changes"] == [
        {"role": "gateway", "kind": "gained", "what": "publish run.submitted"}
    ]
    assert cli.run(["policy", "diff", "shipped", "shipped"]) == 0
    assert capsys.readouterr().out == "Both allow the same.\n"


def test_the_log_of_no_swarm_cannot_be_compared_with() -> None:
    assert cli.run(["policy", "diff", "shipped", "shipped", "--against-log"]) == 3


def test_the_policy_of_the_next_start_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shipped_source().replace(b"tokens_per_run: 4_000_000", b"tokens_per_run: 5")
    monkeypatch.setenv("SWARM_POLICY", write("own.yaml", own))
    assert cli.run(["policy", "show"]) == 0
    assert "for the next start" in capsys.readouterr().out
    assert cli.run(["policy", "show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["in_force"] is False
    assert document["digest"] == Capabilities(own).digest
