"""The way in which a replica is chosen makes vLLM find more of its prompts in cache."""

import pytest

from benchmarks import prefix_cache

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

MARGIN = 0.05


async def test_replicas_chosen_by_prefix_find_more_in_cache() -> None:
    figures = await prefix_cache.measure()
    prefix_cache.show(figures)
    by_prefix = figures["chats", "prefix-aware"].rate
    assert by_prefix >= figures["chats", "power-of-two"].rate + MARGIN
    own = figures["SPARC", "prefix-aware"].rate
    assert own > figures["SPARC", "power-of-two"].rate
