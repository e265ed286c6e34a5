import pickle

import pytest

from bus.errors import SwarmError
from serve import errors


def _tree(root: type[SwarmError]) -> list[type[SwarmError]]:
    return [root, *(one for child in root.__subclasses__() for one in _tree(child))]


@pytest.mark.parametrize("kind", _tree(errors.ServeError))
def test_every_error_survives_a_pickle(kind: type[SwarmError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("because")))  # noqa: S301 - our own
    assert type(copy) is kind
    assert str(copy) == "because"


@pytest.mark.parametrize("kind", _tree(errors.ServeError))
def test_every_error_says_something_by_itself(kind: type[SwarmError]) -> None:
    assert str(kind()).endswith(".") or str(kind())
    assert kind.code != SwarmError.code


def test_what_may_be_tried_again_is_marked() -> None:
    assert errors.ModelUnavailable.retryable
    assert errors.ModelTimeout.retryable
    assert not errors.ModelRefused.retryable
