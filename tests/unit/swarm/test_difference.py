"""What a fork made of it that its parent did not."""

from datetime import UTC, datetime

import pytest
import typer
from pydantic import JsonValue

from swarm.cli.difference import answers_of, compare_answers, compare_texts
from swarm.cli.forking import _prompt, _value
from swarm.view import RunEvent, RunStatus

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def event(kind: str, payload: dict[str, JsonValue], event_id: str = "e") -> RunEvent:
    return RunEvent(
        stream_sequence=1,
        stored_at=NOW,
        type=f"swarm.{kind}.v1",
        subject="x",
        id=event_id,
        payload=payload,
    )


def completed(step: str, answer: JsonValue, event_id: str, iteration: int = 1) -> RunEvent:
    payload: dict[str, JsonValue] = {"step": step, "iteration": iteration, "answer": answer}
    return event("step.completed", payload, event_id)


def status(run: str, result: str | None) -> RunStatus:
    return RunStatus(
        id=run,
        status="completed" if result else "failed",
        objective="x",
        workflow="w",
        model="m",
        requested_by="ada",
        submitted_at=NOW,
        result=result,
        stream_sequence=9,
    )


PARENT = answers_of(
    [
        event("run.submitted", {"objective": "x"}),
        completed("a", {"n": 1}, "1"),
        completed("b", {"n": 9}, "2"),
        event("result.refused", {"refused": "2"}),
        completed("b", {"n": 2}, "3"),
        completed("b", {"n": 3}, "4", iteration=2),
    ]
)
FORK = answers_of(
    [
        event(
            "run.submitted",
            {"fork": {"adopted": [{"step": "a", "iteration": 1, "item": 0, "answer": {"n": 1}}]}},
        ),
        completed("b", {"n": 5}, "5"),
        completed("c", {"n": 6}, "6"),
    ]
)


def test_refused_answers_do_not_count_and_adopted_ones_do() -> None:
    assert PARENT == {("a", 1, 0): {"n": 1}, ("b", 1, 0): {"n": 2}, ("b", 2, 0): {"n": 3}}
    assert FORK == {("a", 1, 0): {"n": 1}, ("b", 1, 0): {"n": 5}, ("c", 1, 0): {"n": 6}}


def test_every_step_of_either_run_is_told() -> None:
    assert [(part.name, part.verdict) for part in compare_answers(PARENT, FORK)] == [
        ("a", "same"),
        ("b", "differs"),
        ("b#2", "only in the parent"),
        ("c", "only in the fork"),
    ]


def test_documents_are_compared_where_both_have_one() -> None:
    lines = list(compare_texts(status("r1", "# T\none"), status("r2", "# T\ntwo"), PARENT, FORK))
    assert lines == ["--- r1", "+++ r2", "@@ -1,2 +1,2 @@", " # T", "-one", "+two"]


def test_answers_are_compared_where_one_has_no_document() -> None:
    lines = list(compare_texts(status("r1", "# T"), status("r2", None), PARENT, FORK))
    assert '-  "n": 2' in lines
    assert '+  "n": 5' in lines


def test_a_value_is_json_or_else_the_text_as_it_stands() -> None:
    assert _value("objective=7 wonders = all") == ("objective", "7 wonders = all")
    assert _value("deadline_s=60") == ("deadline_s", 60)
    assert _value('code.code="x = 1"') == ("code.code", "x = 1")
    assert _value("code.language=go") == ("code.language", "go")


@pytest.mark.parametrize("text", ["", "x", "=x"])
def test_what_is_not_a_pair_is_a_matter_of_usage(text: str) -> None:
    for read in (_value, _prompt):
        with pytest.raises(typer.BadParameter):
            read(text)
