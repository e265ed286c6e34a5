"""Reciprocal rank fusion: one ranking out of several, whatever their scores mean. Pure.

Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods", SIGIR 2009.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, TypeVar

K: Final = 60.0
"""As in the paper: how little it matters whether something is first or tenth."""

T = TypeVar("T", bound=Hashable)


def fuse(rankings: Iterable[tuple[Sequence[T], float]], *, k: float = K) -> list[tuple[T, float]]:
    """Everything that is in any ranking, the best first, with its score.

    Args:
        rankings: each the best first and without repeats, and how much it counts.
        k: what is added to each rank.

    Returns:
        What has the same score keeps the order in which it was met.
    """
    scores: dict[T, float] = {}
    for ranking, weight in rankings:
        for rank, each in enumerate(ranking, start=1):
            scores[each] = scores.get(each, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda scored: -scored[1])
