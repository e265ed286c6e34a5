"""The errors of the SDK."""

import pickle
from typing import TypeVar

import pytest

from swarm import errors
from swarm.errors import ClientError, Refused, Unavailable

Kind = TypeVar("Kind", bound=ClientError)


def every_error() -> list[type[ClientError]]:
    found, pending = [], [ClientError]
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == "swarm.errors"]


def copied(error: Kind) -> Kind:
    """As another process would get it."""
    copy: Kind = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    return copy


@pytest.mark.parametrize("kind", every_error())
def test_an_error_pickles_and_has_a_code_and_a_place_in_the_drawn_tree(
    kind: type[ClientError],
) -> None:
    copy = copied(kind("why"))
    assert (type(copy), str(copy)) == (kind, "why")
    assert kind.__name__ in (errors.__doc__ or "")
    assert str(kind()) == (kind.__doc__ or "").splitlines()[0]


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(set(codes)) == len(codes) == 17


def test_what_an_error_carries_survives_pickling() -> None:
    refused = copied(Refused("no", status=422, fields={"a": "b"}))
    assert (refused.status, refused.fields) == (422, {"a": "b"})
    away = copied(Unavailable("x", retry_after_s=2.0, not_done=True))
    assert (away.retry_after_s, away.not_done) == (2.0, True)
