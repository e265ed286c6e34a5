import pickle

import pytest

from cluster import errors
from cluster.errors import ClusterError, PartFailed, PortTaken, from_code

_TREE = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [k for k in _TREE if issubclass(k, ClusterError)])
def test_every_error_survives_the_way_through_the_state_file(kind: type[ClusterError]) -> None:
    again = from_code(kind.code, "why")
    assert type(again) is kind
    assert str(again) == "why"
    assert type(pickle.loads(pickle.dumps(again))) is kind  # noqa: S301


def test_an_error_of_another_folder_comes_back_as_one_of_ours() -> None:
    assert type(from_code("unknown_profile", "no such model")) is ClusterError


def test_a_taken_port_is_a_part_that_failed() -> None:
    assert issubclass(PortTaken, PartFailed)
