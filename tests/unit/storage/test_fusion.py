"""Reciprocal rank fusion, by its formula and by what it promises."""

from hypothesis import given
from hypothesis import strategies as st

from storage.fusion import fuse

RANKINGS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 20), unique=True, max_size=10),
        st.floats(0.1, 3.0, allow_nan=False),
    ),
    max_size=4,
)


def test_a_score_is_the_sum_of_what_each_rank_is_worth() -> None:
    fused = fuse([(["a", "b"], 1.0), (["b", "c"], 0.5)], k=60)
    assert fused == [
        ("b", 1 / 62 + 0.5 / 61),
        ("a", 1 / 61),
        ("c", 0.5 / 62),
    ]


def test_what_both_find_stands_before_what_one_finds() -> None:
    best, *_ = fuse([(["x", "both"], 1.0), (["y", "both"], 1.0)])
    assert best[0] == "both"


@given(RANKINGS)
def test_everything_comes_once_and_the_best_first(rankings: list[tuple[list[int], float]]) -> None:
    fused = fuse(rankings)
    names = [name for name, _ in fused]
    assert sorted(names) == sorted({name for ranking, _ in rankings for name in ranking})
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.integers(0, 20), unique=True))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [name for name, _ in fuse([(ranking, 1.0)])] == ranking
