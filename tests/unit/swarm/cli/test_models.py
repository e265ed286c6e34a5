"""`swarm models`: what can be served here."""

import json
from pathlib import Path

import pytest

from cluster.settings import GiB
from serve.fit import GpuNode
from serve.profile import profile_names
from swarm import cli


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWARM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWARM_MODEL_PROFILE", "scripted")
    monkeypatch.setenv("COLUMNS", "120")
    have(monkeypatch, GpuNode(name="this machine", count=1, memory_bytes=24 * GiB))


def have(monkeypatch: pytest.MonkeyPatch, *nodes: GpuNode) -> None:
    monkeypatch.setattr("swarm.cli.models.gpus_here", lambda: nodes)


def test_every_profile_is_listed_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[1:].split()[0]: line for line in lines[1 : 1 + len(profile_names())]}
    assert list(rows) == profile_names()
    assert rows["qwen3-8b"].split()[1:] == ["1", "19.5", "GiB", "fits", "Qwen/Qwen3-8B"]
    assert rows["qwen3-32b"].split()[1:] == ["4", "18.3", "GiB", "no", "Qwen/Qwen3-32B"]
    assert rows["scripted"].split() == ["*", "scripted", "fits"]
    assert "  qwen3-32b needs 4 GPUs in one node, 1 time: this machine has 1." in lines


def test_the_list_is_there_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch)
    assert cli.run(["models", "--json"]) == 0
    offers = {each["profile"]: each for each in json.loads(capsys.readouterr().out)}
    assert offers["qwen2.5-72b"]["gpus"] == 16
    assert offers["qwen2.5-72b"]["gpu_bytes"] / GiB == pytest.approx(10.8, abs=0.1)
    assert offers["qwen2.5-72b"]["misfits"] == ["qwen2.5-72b needs 16 GPUs; none was found."]
    assert offers["scripted"]["misfits"] == []


def test_what_embeds_on_a_gpu_takes_one_beside_what_writes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_MODEL_PROFILE", "qwen3-8b")
    monkeypatch.setenv("SWARM_EMBEDDING_PROFILE", "all-minilm-l6-v2-gpu")
    assert cli.run(["models"]) == 0
    said = capsys.readouterr().out
    assert "do not fit beside each other" in said
    assert "GPUs that qwen3-8b takes are not counted." in said
    have(monkeypatch, GpuNode(name="this machine", count=2, memory_bytes=24 * GiB))
    assert cli.run(["models"]) == 0
    assert "do not fit" not in capsys.readouterr().out
