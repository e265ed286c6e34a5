"""Whether another model answers under the name of one: seen by the receipts of answers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cluster.findings import NAMED, Finding
from storage.answers import Answered

_SHOWN: Final = 12
"""Digits of a digest: enough to tell two apart."""


def swaps_in(answers: Sequence[Answered]) -> list[str]:
    """Runs in which one name stood for different weights, each as a line.

    Args:
        answers: of any runs, newest first.
    """
    seen: dict[tuple[str, str], dict[str, Answered]] = {}
    for answer in reversed(answers):
        seen.setdefault((answer.run, answer.model), {}).setdefault(answer.weights, answer)
    return [
        f"run {run}: {model} answered with weights {_told(firsts)}"
        for (run, model), firsts in seen.items()
        if len(firsts) > 1
    ]


def swaps_since(answers: Sequence[Answered], serving: Mapping[str, str]) -> Iterator[str]:
    """Models of which the latest answer came from other weights than are there now.

    Args:
        answers: newest first.
        serving: hex SHA-256 of the weights that are there now, by the model's name.
    """
    for model, now in serving.items():
        last = next((answer for answer in answers if answer.model == model), None)
        if last is not None and now and last.weights != now:
            yield (
                f"{model}: its last answer, {last.event}, came from weights "
                f"{last.weights[:_SHOWN]}; those of {now[:_SHOWN]} are there now"
            )


def judge_weights_of_answers(answers: Sequence[Answered], serving: Mapping[str, str]) -> Finding:
    """Whether each name stood for one model in the latest runs, and still does."""
    found = [*swaps_in(answers), *swaps_since(answers, serving)]
    named = "".join(f"\n     {line}" for line in found[:NAMED])
    return Finding(
        check="model identity",
        ok=not found,
        detail=f"another model under the same name:{named}" if found else _fine(answers),
        hint="Serve other weights under another name; swarm receipt EVENT shows what they change.",
    )


def _fine(answers: Sequence[Answered]) -> str:
    return f"{len(answers)} answers looked at, one set of weights for each name in each run"


def _told(firsts: Mapping[str, Answered]) -> str:
    return " and ".join(
        f"{weights[:_SHOWN]} (from {first.event})" for weights, first in firsts.items()
    )
