"""Whether the time of a refusal tells if there is a user of that name."""

import random
import statistics
import time

from argon2 import PasswordHasher

from policies.passwords import Passwords
from tests.unit.serve.fakes import Fakes

TRIES = 200
SIGMAS = 5.0
"""One false alarm in millions of runs, were the times of the two alike."""


async def test_a_known_and_an_unknown_name_are_refused_in_the_same_time() -> None:
    """Mann-Whitney's U over ranks: a few tries that the machine held up weigh no more than others.

    The two kinds are tried in turns of random order, so that load on the machine meets both.
    """
    fakes = Fakes()
    hasher = PasswordHasher(time_cost=1, memory_cost=4_096, parallelism=1)
    fakes.passwords = Passwords(hasher)
    stored = hasher.hash("whatever it is, it is not guessed")
    fakes.throttle.limit = 10**9
    for number in range(TRIES):
        fakes.users.add(f"known{number:03}", "user", stored)
    seconds: dict[str, list[float]] = {"known": [], "stray": []}
    async with fakes.client(None) as client:
        kinds = ["known", "stray"] * TRIES
        random.Random(7).shuffle(kinds)  # noqa: S311 - no secret
        for number, kind in enumerate([*kinds[:20], *kinds]):
            body = {"username": f"{kind}{number % TRIES:03}", "password": "a guess of 12"}
            began = time.perf_counter()
            answer = await client.post("/auth/login", json=body)
            if number >= 20:  # the first ones warm up
                seconds[kind].append(time.perf_counter() - began)
            assert answer.status_code == 401
    assert len(seconds["known"]) == len(seconds["stray"]) == TRIES
    z = mann_whitney_z(seconds["known"], seconds["stray"])
    medians = {kind: statistics.median(each) * 1e3 for kind, each in seconds.items()}
    assert abs(z) < SIGMAS, f"z = {z:.1f}, medians in ms: {medians}"


def test_the_statistic_would_see_a_difference() -> None:
    """A tenth of a millisecond among times of four with some noise, as a shortcut would give."""
    noise = random.Random(11)  # noqa: S311 - no secret
    known = [4e-3 + noise.expovariate(1 / 2e-4) for _ in range(TRIES)]
    stray = [3.85e-3 + noise.expovariate(1 / 2e-4) for _ in range(TRIES)]
    assert mann_whitney_z(known, stray) > SIGMAS


def mann_whitney_z(first: list[float], second: list[float]) -> float:
    """How far the rank sum of the first is from what chance would give, in deviations."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank_sum = sum(rank for rank, (_, group) in enumerate(ranked, start=1) if group == 0)
    n, m = len(first), len(second)
    u = rank_sum - n * (n + 1) / 2
    return float((u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5)
