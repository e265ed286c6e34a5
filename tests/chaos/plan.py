"""Who is killed when: made from a seed alone, so that a seed repeats it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from actors.team import AGENTS

WEIGHTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(AGENTS, 1),
    "coordinator": 4,
    "nats": 4,
    "postgres": 3,
    "auditor": 2,
    "authority": 2,
    "valkey": 2,
    "gateway": 2,
    "model": 1,
    "postgres backend": 1,
}
LONGEST_PAUSE_S: Final = 2.0
SEVERAL: Final = 0.2
"""Share of strikes that hit more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One moment, and who is killed in it."""

    pause_s: float
    """Since the strike before."""
    victims: tuple[str, ...]


def plan(seed: int, kills: int) -> tuple[Strike, ...]:
    """Strikes with that many victims together; the same seed gives the same ones."""
    chance = random.Random(seed)  # noqa: S311  repeatable, not secret
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    strikes: list[Strike] = []
    while (left := kills - sum(len(strike.victims) for strike in strikes)) > 0:
        wanted = chance.choice((2, 3, 4)) if chance.random() < SEVERAL else 1
        drawn = dict.fromkeys(chance.choices(kinds, weights)[0] for _ in range(min(wanted, left)))
        pause_s = round(chance.uniform(0.0, LONGEST_PAUSE_S), 3)
        strikes.append(Strike(pause_s=pause_s, victims=tuple(drawn)))
    return tuple(strikes)
