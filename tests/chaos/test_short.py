"""The chaos suite in short; `make chaos` is the long form."""

from pathlib import Path

import pytest

from tests.chaos.plan import WEIGHTS, plan
from tests.chaos.suite import report, unleash
from tests.chaos.victims import KINDS

SEED = 3


def test_a_seed_repeats_its_plan() -> None:
    assert plan(7, 100) == plan(7, 100)
    assert plan(7, 100) != plan(8, 100)


@pytest.mark.parametrize("kills", [1, 10, 100])
def test_a_plan_has_the_kills_that_were_asked_for(kills: int) -> None:
    strikes = plan(SEED, kills)
    assert sum(len(strike.victims) for strike in strikes) == kills
    assert all(len(set(strike.victims)) == len(strike.victims) for strike in strikes)


def test_a_long_plan_kills_everything_and_several_at_once() -> None:
    strikes = plan(SEED, 100)
    assert {victim for strike in strikes for victim in strike.victims} == set(WEIGHTS)
    assert set(WEIGHTS) <= set(KINDS)
    assert any(len(strike.victims) > 2 for strike in strikes)


@pytest.mark.timeout(900)
async def test_nothing_is_lost_or_done_twice_whatever_is_killed(tmp_path: Path) -> None:
    outcome = await unleash(tmp_path, seed=SEED, runs=20, kills=10)
    print(report(outcome))
    assert outcome.violations == (), report(outcome)
    assert outcome.divergences == {}, report(outcome)
    assert len(outcome.runs) >= 20
    assert len(outcome.kills) == 10
    assert set(outcome.runs.values()) == {"completed"}
