"""How often something may be done: no minute holds more than the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pace import WINDOW_S, Pace


@given(st.integers(1, 5), st.lists(st.floats(0, 30), max_size=40))
def test_no_minute_holds_more_than_the_limit(limit: int, pauses: list[float]) -> None:
    pace, now, done = Pace(limit), 0.0, []
    for pause in pauses:
        now += pause + pace.wait_s(now + pause)
        if pace.wait_s(now) > 0:  # the sum of two floats may fall short of the window
            now += pace.wait_s(now) + 1e-9
        pace.done(now)
        done.append(now)
    for begin in done:
        assert sum(begin <= moment < begin + WINDOW_S - 1e-3 for moment in done) <= limit


@given(st.integers(1, 20), st.integers(1, 20))
def test_those_who_share_a_limit_keep_to_it_together(limit: int, sharers: int) -> None:
    """Over an hour, each as often as it may."""
    total = 0
    for _ in range(sharers):
        pace, now = Pace(limit, sharers=sharers), 0.0
        while now < 3600.0:
            pace.done(now)
            total += 1
            now += pace.wait_s(now) + 1e-6
    assert total <= limit * 60 + sharers


def test_none_and_unlimited() -> None:
    assert Pace(0).allows_none
    assert Pace(0).wait_s(1.0) == float("inf")
    free = Pace("unlimited", sharers=3)
    assert not free.allows_none
    for _ in range(1000):
        assert free.wait_s(0.0) == 0.0
        free.done(0.0)


@pytest.mark.parametrize(("sharers", "wait_s"), [(1, 0.0), (2, 60.0), (4, 120.0)])
def test_a_share_of_less_than_one_a_minute_is_one_in_several(sharers: int, wait_s: float) -> None:
    pace = Pace(2, sharers=sharers)
    pace.done(0.0)
    assert pace.wait_s(0.0) == wait_s
