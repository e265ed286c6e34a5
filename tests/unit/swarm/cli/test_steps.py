"""The line that a watching person gets to read of each event."""

from typing import Any

import pytest

from swarm.cli.show import harmless
from swarm.cli.steps import step_line
from swarm.view import RunEvent

STEP = {"step": "code", "iteration": 1, "attempt": 1, "item": 0, "epoch": 1}
BY = {"requested_by": "uma", "reason": "lunch"}
ANSWERS = "swarm approve e7   or: swarm deny e7 --reason ..."
USAGE = {"prompt_tokens": 3, "completion_tokens": 12}


def an_event(kind: str, payload: dict[str, Any] | None = None, source: str = "coder-1") -> RunEvent:
    return RunEvent.model_validate(
        {
            "stream_sequence": 7,
            "stored_at": "2026-01-01T00:00:00Z",
            "type": f"swarm.{kind}.v1",
            "subject": f"evt.02.r1.{kind}",
            "id": "e7",
            "source": f"swarm://coder/{source}",
            "payload": payload,
        }
    )


@pytest.mark.parametrize(
    ("kind", "payload", "line"),
    [
        ("step.claimed", STEP, "  code             coder-1        works"),
        ("step.claimed", {**STEP, "iteration": 2}, "  code #2          coder-1        works"),
        ("step.claimed", {**STEP, "item": 3}, "  code [3]         coder-1        works"),
        (
            "step.completed",
            {**STEP, "duration_ms": 1_500, "usage": USAGE},
            "  code             coder-1        done       1.5 s     12 tokens",
        ),
        (
            "step.failed",
            {**STEP, "code": "model_timeout", "message": "too slow"},
            "  code             coder-1        failed  model_timeout: too slow",
        ),
        (
            "assignment.dead",
            {**STEP, "deliveries": 5, "reason": "nobody"},
            "  code             coder-1        gave up after 5 deliveries: nobody",
        ),
        (
            "tool.called",
            {**STEP, "tool": "run_tests", "arguments": {}},
            "  code             coder-1        calls   run_tests",
        ),
        (
            "tool.answered",
            {**STEP, "tool": "run_tests", "outcome": "answered", "message": ""},
            "  code             coder-1        answered run_tests",
        ),
        (
            "tool.answered",
            {**STEP, "tool": "run_tests", "outcome": "refused", "message": "not allowed"},
            "  code             coder-1        refused run_tests: not allowed",
        ),
        (
            "approval.requested",
            {"step": "code", "iteration": 1, "item": 0, "role": "coder"},
            f"  code             waits for approval: {ANSWERS}",
        ),
        ("approval.given", {**BY, "approval": "e1"}, "  approved by uma: lunch"),
        ("approval.denied", {**BY, "approval": "e1"}, "  denied by uma: lunch"),
        ("pause.requested", BY, "  paused by uma: lunch; to go on: swarm resume r1"),
        ("resume.requested", {**BY, "reason": ""}, "  resumed by uma"),
        ("retry.requested", BY, "  retried by uma: lunch"),
        ("cancel.requested", BY, "  to be cancelled, says uma: lunch"),
        ("run.cancelled", BY, "  cancelled by uma: lunch"),
        ("stall.noticed", {"code": "x", "waits_for": "an agent"}, "  nothing moves: an agent"),
        ("run.submitted", {"objective": "x"}, None),
        ("something.new", None, None),
    ],
)
def test_an_event_is_told_in_a_line(
    kind: str, payload: dict[str, Any] | None, line: str | None
) -> None:
    assert step_line(an_event(kind, payload)) == line


def test_a_refused_event_is_told_as_such() -> None:
    refused = an_event("x.y").model_copy(update={"type": "refused", "code": "bad_signature"})
    assert step_line(refused) == "  refused event 7: bad_signature"


@pytest.mark.parametrize("kind", ["step.failed", "pause.requested", "approval.requested"])
def test_an_event_of_another_version_breaks_nothing(kind: str) -> None:
    assert step_line(an_event(kind, {})) is not None


def test_what_would_steer_the_terminal_is_left_out() -> None:
    line = step_line(an_event("run.cancelled", {**BY, "reason": "\x1b[2Jgone"}))
    assert harmless(line or "") == "  cancelled by uma: [2Jgone"
