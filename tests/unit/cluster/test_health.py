import json
from datetime import UTC, datetime

import pytest

from cluster.errors import NotAnswering
from cluster.health import application_status, applications_of
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


def test_the_application_of_each_model_is_asked_after() -> None:
    state = State(
        phase=Phase.READY,
        guard_pid=1,
        supervisor_pid=2,
        supervisor_started=0.0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="qwen3-8b",
        embedding_profile="all-minilm-l6-v2",
        further_profiles=("qwen3-32b",),
        addresses=PublicAddresses(),
    )
    assert applications_of(state) == {
        "model": "qwen3-8b",
        "model-qwen3-32b": "qwen3-32b",
        "embedding": "all-minilm-l6-v2",
    }
