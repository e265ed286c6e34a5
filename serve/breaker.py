"""A circuit breaker: when the swarm's own engine is asked, and when it is left alone. Pure.

    closed     everybody asks it; so many failures in a row open the breaker
    open       nobody asks it until it has had time to come back
    half-open  one request tries it; how that goes closes the breaker or opens it anew

Source: M. Nygard, Release It!, chapter 5. State and time are arguments; nothing here waits.
"""

from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When the breaker opens, and for how long."""

    failures: int = 3
    """In a row, with no answer in between."""
    cool_down_s: float = 10.0
    """A replica of a small model is back by then; a large one is tried in vain a few times."""
    probe_s: float = 30.0
    """A try that has said nothing by then is given up, and another one may begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is known of the engine.

    Attributes:
        failures: since the last answer.
        opened_at: when the last failure opened the breaker; None while it is closed.
        probing_since: when the one request began that tries the engine; None if there is none.
    """

    failures: int = 0
    opened_at: float | None = None
    probing_since: float | None = None

    def phase(self, now: float, rules: Rules) -> Phase:
        """Where the breaker stands."""
        if self.opened_at is None:
            return "closed"
        return "open" if now - self.opened_at < rules.cool_down_s else "half-open"

    def admits(self, now: float, rules: Rules) -> bool:
        """Whether a request may ask the engine now."""
        match self.phase(now, rules):
            case "closed":
                return True
            case "open":
                return False
        return self.probing_since is None or now - self.probing_since >= rules.probe_s


def asked(breaker: Breaker, now: float, rules: Rules) -> Breaker:
    """After a request that was admitted has begun."""
    if breaker.phase(now, rules) == "half-open":
        return replace(breaker, probing_since=now)
    return breaker


def answered(_: Breaker) -> Breaker:
    """After the engine has answered, if only by refusing a bad request: it is there."""
    return Breaker()


def failed(breaker: Breaker, now: float, rules: Rules) -> Breaker:
    """After the engine was not there to answer."""
    failures = breaker.failures + 1
    opens = failures >= rules.failures or breaker.opened_at is not None
    return Breaker(failures=failures, opened_at=now if opens else None)


def abandoned(breaker: Breaker) -> Breaker:
    """After a request that ended without telling anything: cancelled, or out of time."""
    return replace(breaker, probing_since=None)
