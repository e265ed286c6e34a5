"""The circuit breaker, step by step."""

from serve.breaker import Breaker, Rules, abandoned, answered, asked, failed

RULES = Rules(failures=2, cool_down_s=10.0, probe_s=30.0)


def tripped(at: float = 0.0) -> Breaker:
    return failed(failed(Breaker(), at, RULES), at, RULES)


def test_failures_in_a_row_open_it() -> None:
    once = failed(Breaker(), 0.0, RULES)
    assert once.phase(0.0, RULES) == "closed"
    assert tripped().phase(0.0, RULES) == "open"
    assert not tripped().admits(9.9, RULES)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = failed(answered(failed(Breaker(), 0.0, RULES)), 1.0, RULES)
    assert breaker.phase(1.0, RULES) == "closed"


def test_after_the_cool_down_one_request_tries() -> None:
    breaker = tripped()
    assert breaker.phase(10.0, RULES) == "half-open"
    assert breaker.admits(10.0, RULES)
    trying = asked(breaker, 10.0, RULES)
    assert not trying.admits(10.0, RULES)
    assert trying.admits(40.0, RULES)


def test_a_try_that_succeeds_closes_it() -> None:
    assert answered(asked(tripped(), 10.0, RULES)) == Breaker()


def test_a_try_that_fails_opens_it_for_another_cool_down() -> None:
    breaker = failed(asked(tripped(), 10.0, RULES), 12.0, RULES)
    assert not breaker.admits(21.9, RULES)
    assert breaker.admits(22.0, RULES)


def test_a_try_that_was_cancelled_lets_another_one_begin() -> None:
    assert abandoned(asked(tripped(), 10.0, RULES)).admits(10.0, RULES)


def test_a_request_to_a_closed_breaker_is_no_try() -> None:
    assert asked(Breaker(), 0.0, RULES) == Breaker()
