"""A model swapped under its name shows in the receipts of its answers."""

from cluster.swaps import judge_weights_of_answers, swaps_in, swaps_since
from storage.answers import Answered

OLD, NEW = "ab" * 32, "cd" * 32


def answered(run: str, weights: str, *, model: str = "m", event: str = "e") -> Answered:
    return Answered(event=event, run=run, model=model, weights=weights)


def test_one_set_of_weights_for_each_name_is_fine() -> None:
    answers = [answered("r1", OLD), answered("r1", NEW, model="n"), answered("r2", NEW)]
    assert swaps_in(answers) == []
    finding = judge_weights_of_answers(answers, {})
    assert finding.ok
    assert "3 answers" in finding.detail


def test_a_run_in_which_one_name_stood_for_two_models_is_named() -> None:
    answers = [answered("r1", NEW, event="later"), answered("r1", OLD, event="first")]
    (line,) = swaps_in(answers)
    assert line == (
        "run r1: m answered with weights abababababab (from first) and cdcdcdcdcdcd (from later)"
    )
    finding = judge_weights_of_answers(answers, {})
    assert not finding.ok
    assert "run r1" in finding.detail
    assert finding.hint


def test_weights_that_changed_since_the_last_answer_are_told() -> None:
    answers = [answered("r2", NEW), answered("r1", OLD)]
    assert list(swaps_since(answers, {"m": NEW})) == []
    (line,) = swaps_since(answers, {"m": OLD})
    assert "cdcdcdcdcdcd; those of abababababab are there now" in line
    assert not judge_weights_of_answers(answers, {"m": OLD}).ok


def test_a_model_that_has_not_answered_or_is_not_here_is_not_compared() -> None:
    assert list(swaps_since([], {"m": NEW})) == []
    assert list(swaps_since([answered("r1", OLD)], {"m": "", "n": NEW})) == []
