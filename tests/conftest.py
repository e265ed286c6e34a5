"""Settings that all tests share."""

import pytest
from hypothesis import settings, strategies

# The machine may be busy with brokers and models: a slow example is not a wrong one. pytest's
# own timeout still ends what hangs. A failure prints what is needed to repeat it.
settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have hypothesis import what it otherwise imports as late as in a test.

    Compiled there, it may fail on Python 3.11.7 where something else is compiled meanwhile
    (cpython issue 106905).
    """
    if session.items:
        strategies.from_regex("a").validate()
