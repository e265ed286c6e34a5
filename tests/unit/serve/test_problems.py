"""What a refusal says of whether anything was done: only then may a client ask again by itself."""

import pytest

from bus.errors import BusUnreachable, PublishUnconfirmed
from serve.errors import ModelUnavailable, NobodyAnswered, ProviderFailed, ReplicaLost
from serve.problems import problem_of, refusal_of
from storage.errors import StorageUnavailable


@pytest.mark.parametrize(
    ("error", "not_done"),
    [
        (ModelUnavailable("away"), True),
        (ModelUnavailable("it failed at it", was_asked=True), None),
        (ReplicaLost("it died at it"), None),
        (ProviderFailed("it broke off"), None),
        (ProviderFailed("no connection", was_asked=False), True),
        (NobodyAnswered("one of them was asked"), None),
        (NobodyAnswered("none was asked", was_asked=False), True),
        (BusUnreachable("away"), None),
        (PublishUnconfirmed("it may be stored"), None),
        (StorageUnavailable("it may be committed"), None),
        (TimeoutError(), None),
    ],
)
def test_only_what_was_surely_not_done_may_be_asked_for_again(
    error: Exception,
    not_done: bool | None,  # noqa: FBT001 - pytest gives it
) -> None:
    problem = problem_of(refusal_of(error))
    assert (problem.status, problem.retryable, problem.not_done) == (503, True, not_done)
    assert ('"not_done"' in problem.model_dump_json(exclude_none=True)) is bool(not_done)
