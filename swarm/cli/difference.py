"""What a fork made of it that its parent did not. Pure."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from swarm.view import RunEvent, RunStatus

Part = tuple[str, int, int]
"""A step, its iteration and its item."""
Answers = Mapping[Part, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDifference:
    """One step of two runs."""

    name: str
    verdict: Literal["same", "differs", "only in the parent", "only in the fork"]


def answers_of(events: Iterable[RunEvent]) -> dict[Part, JsonValue]:
    """The answers that counted in a run, those that it adopted among them."""
    told: dict[str, tuple[Part, JsonValue]] = {}
    answers: dict[Part, JsonValue] = {}
    for event in events:
        payload = event.payload or {}
        if event.type == "swarm.run.submitted.v1":
            answers.update(_adopted(payload))
        elif event.type == "swarm.step.completed.v1" and event.id is not None:
            told[event.id] = _part(payload), payload.get("answer")
        elif event.type == "swarm.result.refused.v1":
            told.pop(str(payload.get("refused")), None)
    for part, answer in told.values():
        answers.setdefault(part, answer)
    return answers


def compare_answers(parent: Answers, fork: Answers) -> tuple[PartDifference, ...]:
    """Every step of either run, in the order in which it was answered first."""
    return tuple(
        PartDifference(
            name=name_of(*part),
            verdict="only in the fork"
            if part not in parent
            else "only in the parent"
            if part not in fork
            else "same"
            if parent[part] == fork[part]
            else "differs",
        )
        for part in {**parent, **fork}
    )


def compare_texts(
    parent: RunStatus, fork: RunStatus, parent_answers: Answers, fork_answers: Answers
) -> Iterator[str]:
    """The lines of a unified diff: of the documents, or of the answers where one has none."""
    was, now = parent.result, fork.result
    if was is None or now is None:
        was, now = _text(parent_answers), _text(fork_answers)
    return difflib.unified_diff(
        was.splitlines(), now.splitlines(), parent.id, fork.id, n=1, lineterm=""
    )


def name_of(step: str, iteration: int, item: int) -> str:
    """A step as `--set` names it: ``code``, ``code#2``, ``each/3``."""
    return step + (f"#{iteration}" if iteration > 1 else "") + (f"/{item}" if item else "")


def _adopted(payload: Mapping[str, JsonValue]) -> Iterator[tuple[Part, JsonValue]]:
    fork = payload.get("fork")
    adopted = fork.get("adopted") if isinstance(fork, dict) else None
    for each in adopted if isinstance(adopted, list) else []:
        if isinstance(each, dict):
            yield _part(each), each.get("answer")


def _part(payload: Mapping[str, JsonValue]) -> Part:
    iteration, item = payload.get("iteration", 1), payload.get("item", 0)
    return (
        str(payload.get("step")),
        iteration if isinstance(iteration, int) else 1,
        item if isinstance(item, int) else 0,
    )


def _text(answers: Answers) -> str:
    return "\n".join(
        f"{name_of(*part)}\n{json.dumps(answer, indent=2, ensure_ascii=False)}"
        for part, answer in answers.items()
    )
