"""Which GPUs there are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cluster import settings as settings_module
from cluster.errors import ModelDoesNotFit
from cluster.gpus import HERE, gpus_here, gpus_in
from cluster.models import refuse_misfit, warn_of_misfit
from cluster.settings import GiB, MiB
from serve.fit import GpuNode
from serve.profile import load_profile

Tool = Callable[[str], None]


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (folder / name).touch()
    return folder


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    environment: dict[str, str] = {}
    monkeypatch.setattr(settings_module, "_environment", environment)
    return environment


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """A driver's tool that runs a script of ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(script: str) -> None:
        path = folder / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def test_the_driver_says_how_many_there_are_and_how_large(
    devices: Path, visible: dict[str, str], tool: Tool
) -> None:
    tool("echo 24564; echo 16384")
    assert gpus_here(devices) == (GpuNode(name=HERE, count=2, memory_bytes=16384 * MiB),)


def test_only_those_that_we_may_use_count(
    devices: Path, visible: dict[str, str], tool: Tool
) -> None:
    tool('case "$*" in *--id=1*) echo 24564;; *) echo 1; echo 2;; esac')
    visible["CUDA_VISIBLE_DEVICES"] = "1"
    assert gpus_here(devices) == (GpuNode(name=HERE, count=1, memory_bytes=24564 * MiB),)
    visible["CUDA_VISIBLE_DEVICES"] = ""
    assert gpus_here(devices) == ()


@pytest.mark.parametrize("script", ["exit 1", "echo not a number", "echo '[N/A]'"])
def test_without_an_answer_only_their_number_is_known(
    devices: Path, visible: dict[str, str], tool: Tool, script: str
) -> None:
    tool(script)
    assert gpus_here(devices) == (GpuNode(name=HERE, count=2),)
    visible["CUDA_VISIBLE_DEVICES"] = "0"
    assert gpus_here(devices) == (GpuNode(name=HERE, count=1),)


def test_without_the_tool_only_their_number_is_known(
    devices: Path, visible: dict[str, str], tool: Tool
) -> None:
    assert gpus_here(devices) == (GpuNode(name=HERE, count=2),)


def test_a_machine_without_any_has_none(tmp_path: Path, visible: dict[str, str]) -> None:
    assert gpus_here(tmp_path) == ()


def test_a_cluster_says_what_its_nodes_have() -> None:
    nodes: list[dict[str, object]] = [
        {"Alive": True, "NodeManagerHostname": "head", "Resources": {"CPU": 8.0}},
        {
            "Alive": True,
            "NodeManagerHostname": "one",
            "Resources": {
                "GPU": 8.0,
                "accelerator_type:A100": 1.0,
                "accelerator_type:A100-80G": 1.0,
            },
        },
        {"Alive": True, "NodeManagerHostname": "two", "Resources": {"GPU": 1.0}},
        {"Alive": False, "NodeManagerHostname": "gone", "Resources": {"GPU": 8.0}},
    ]
    assert gpus_in(nodes) == (
        GpuNode(name="one", count=8, memory_bytes=80 * GiB, kind="A100-80G"),
        GpuNode(name="two", count=1),
    )


def test_a_model_without_room_on_this_machine_is_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.models.gpus_here", lambda: ())
    refuse_misfit([load_profile("smollm2-135m")])
    with pytest.raises(ModelDoesNotFit, match="qwen3-32b needs 4 GPUs; none was found"):
        refuse_misfit([load_profile("qwen3-32b")])


def test_a_cluster_that_may_grow_is_waited_for() -> None:
    with capture_logs() as said:
        warn_of_misfit([load_profile("qwen3-32b")], [])
        warn_of_misfit([load_profile("smollm2-135m")], [])
    (line,) = said
    assert line["event"] == "model.waits_for_gpus"
    assert line["reason"] == "qwen3-32b needs 4 GPUs; none was found."
