import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.errors import NotAnswering
from cluster.health import application_status, applications_of, check
from cluster.settings import Settings
from cluster.state import Phase, PublicAddresses, State


def _applications(**applications: dict[str, str]) -> str:
    return json.dumps({"applications": applications})


def test_a_running_model_is_healthy() -> None:
    assert application_status(_applications(model={"status": "RUNNING"}), "model") == "running"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (_applications(), "No model is deployed"),
        (_applications(model={"status": "DEPLOYING", "message": ""}), "is deploying"),
        (_applications(model={"status": "UNHEALTHY", "message": "no memory"}), "no memory"),
        ("{}", "not understood"),
        ("<html>", "not understood"),
        ('{"applications": {"model": {}}}', "not understood"),
    ],
)
def test_anything_else_is_not(document: str, words: str) -> None:
    with pytest.raises(NotAnswering, match=words):
        application_status(document, "model")


def _state(phase: Phase) -> State:
    return State(
        phase=phase,
        guard_pid=1,
        supervisor_pid=2,
        supervisor_started=0.0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="qwen3-8b",
        embedding_profile="all-minilm-l6-v2",
        further_profiles=("qwen3-32b",),
        addresses=PublicAddresses(),
    )


async def test_parts_that_have_no_address_yet_are_starting_and_not_healthy(tmp_path: Path) -> None:
    parts = await check(_state(Phase.STARTING), Settings(home=tmp_path))
    assert {part.name for part in parts} == {
        "gateway", "nats", "postgres", "redis", "qdrant", "ray",
    }  # fmt: skip
    assert {part.detail for part in parts} == {"no address yet: the swarm is starting"}
    assert not any(part.healthy for part in parts)


def test_the_application_of_each_model_is_asked_after() -> None:
    assert applications_of(_state(Phase.READY)) == {
        "model": "qwen3-8b",
        "model-qwen3-32b": "qwen3-32b",
        "embedding": "all-minilm-l6-v2",
    }
