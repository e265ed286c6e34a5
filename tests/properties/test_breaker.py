"""The circuit breaker against a plain account of what happened."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from serve.breaker import Breaker, Rules, abandoned, answered, asked, failed


class BreakerMachine(RuleBasedStateMachine):
    """Requests that begin and end in any order, while time passes."""

    @initialize(
        failures=st.integers(1, 4),
        cool_down_s=st.floats(0.5, 20),
        probe_s=st.floats(0.5, 20),
    )
    def begin(self, failures: int, cool_down_s: float, probe_s: float) -> None:
        self.set = Rules(failures=failures, cool_down_s=cool_down_s, probe_s=probe_s)
        self.breaker = Breaker()
        self.now = 0.0
        self.out = 0
        """Requests that were admitted and have not ended."""
        self.in_a_row = 0
        self.tripped = False
        self.last_failure = 0.0
        self.tries: list[float] = []
        """When requests began that tried an engine given up, since the last end of one."""

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        if not self.breaker.admits(self.now, self.set):
            assert self.tripped
            return
        if self.tripped:
            assert self.now - self.last_failure >= self.set.cool_down_s
            assert all(self.now - began >= self.set.probe_s for began in self.tries)
            self.tries.append(self.now)
        self.breaker = asked(self.breaker, self.now, self.set)
        self.out += 1

    @rule()
    def answer(self) -> None:
        if self.out:
            self.out -= 1
            self.breaker = answered(self.breaker)
            self.in_a_row, self.tripped, self.tries = 0, False, []

    @rule()
    def fail(self) -> None:
        if self.out:
            self.out -= 1
            self.breaker = failed(self.breaker, self.now, self.set)
            self.in_a_row += 1
            self.last_failure, self.tries = self.now, []
            self.tripped = self.tripped or self.in_a_row >= self.set.failures

    @rule()
    def give_up(self) -> None:
        if self.out:
            self.out -= 1
            self.breaker = abandoned(self.breaker)
            self.tries = []

    @invariant()
    def it_is_closed_until_it_was_tripped(self) -> None:
        if hasattr(self, "rules"):
            closed = self.breaker.phase(self.now, self.set) == "closed"
            assert closed == (not self.tripped)
            assert not closed or self.breaker.admits(self.now, self.set)

    @invariant()
    def nobody_is_shut_out_for_ever(self) -> None:
        if hasattr(self, "rules"):
            patience_s = self.set.cool_down_s + self.set.probe_s + 1
            assert self.breaker.admits(self.now + patience_s, self.set)


TestBreaker = BreakerMachine.TestCase
