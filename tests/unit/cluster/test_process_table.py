"""Processes are found again after their ids have come round."""

import psutil

from cluster.process_table import processes


def test_no_handle_is_kept_from_one_listing_to_the_next() -> None:
    me = psutil.Process().pid
    first, second = (next(p for p in processes() if p.pid == me) for _ in range(2))
    assert first == second
    assert first is not second
