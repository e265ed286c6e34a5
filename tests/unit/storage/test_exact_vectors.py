"""The index in memory, compared with the same done one by one."""

import math

from hypothesis import given
from hypothesis import strategies as st

from storage.exact_vectors import ExactVectors, Group

GROUPS: list[Group] = [("t", "shared"), ("t", "role/coder"), ("other", "shared")]
NUMBERS = st.lists(st.integers(-3, 3), min_size=3, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from(GROUPS), NUMBERS),
        st.tuples(st.just("drop"), st.integers(0, 9), st.just(GROUPS[0]), st.just([0, 0, 0])),
    ),
    max_size=40,
)


def cosine(one: list[int], other: list[int]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


@given(STEPS, NUMBERS, st.sets(st.sampled_from(GROUPS)), st.integers(1, 12))
def test_it_finds_what_a_look_at_each_finds(
    steps: list[tuple[str, int, Group, list[int]]],
    asked: list[int],
    groups: set[Group],
    limit: int,
) -> None:
    index = ExactVectors(3)
    kept: dict[str, tuple[Group, list[int]]] = {}
    for action, number, group, vector in steps:
        if action == "put":
            index.put(f"p{number}", group, vector)
            kept[f"p{number}"] = group, vector
        else:
            index.drop(f"p{number}")
            kept.pop(f"p{number}", None)
    assert len(index) == len(kept)
    scores = {
        point: cosine(vector, asked) for point, (group, vector) in kept.items() if group in groups
    }
    found = index.nearest(asked, within=groups.__contains__, limit=limit)
    assert len(found) == min(limit, len(scores))
    assert len({point for point, _ in found}) == len(found)
    for point, score in found:
        assert math.isclose(score, scores[point], abs_tol=1e-5)
    worst = min((score for _, score in found), default=1.0)
    left_out = [score for point, score in scores.items() if point not in dict(found)]
    assert all(score <= worst + 1e-5 for score in left_out)


def test_it_grows_and_uses_again_what_was_left() -> None:
    index = ExactVectors(2)
    for number in range(3_000):
        index.put(f"p{number}", GROUPS[0], [1.0, number / 3_000])
    for number in range(0, 3_000, 2):
        index.drop(f"p{number}")
    for number in range(1_500):
        index.put(f"q{number}", GROUPS[1], [0.0, 1.0])
    assert len(index) == 3_000
    [(point, score)] = index.nearest([1.0, 0.0], within=lambda _: True, limit=1)
    assert (point, round(score, 6)) == ("p1", 1.0)
    assert index.nearest([1.0, 0.0], within=lambda group: group == GROUPS[2], limit=5) == []
