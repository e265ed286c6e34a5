import json

import pytest

from cluster.errors import NotAnswering
from cluster.health import application_status


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
