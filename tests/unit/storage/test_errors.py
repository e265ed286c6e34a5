"""The error trees of storage and policies."""

import pickle

import pytest

import policies.errors
import storage.errors
from bus.errors import SwarmError
from policies.errors import PolicyError
from storage.errors import IntegrityError, StorageError


def _tree(root: type[SwarmError]) -> list[type[SwarmError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


CLASSES = [*_tree(StorageError), *_tree(PolicyError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_the_way_to_another_process(kind: type[SwarmError]) -> None:
    for error in (kind(), kind("What happened.")):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(copy) is kind
        assert str(copy) == str(error) != ""


def test_every_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("kind", _tree(IntegrityError))
def test_integrity_errors_are_never_retried(kind: type[SwarmError]) -> None:
    assert not kind.retryable


@pytest.mark.parametrize("module", [storage.errors, policies.errors])
def test_the_drawn_tree_names_every_error(module: object) -> None:
    drawn = (module.__doc__ or "").split()
    for kind in CLASSES:
        if kind.__module__ == getattr(module, "__name__", None):
            assert kind.__name__ in drawn
