"""Every error of every folder: documented, coded, and the same on the other side of a process."""

import importlib
import pickle
import re

import pytest

from bus.errors import SwarmError

FOLDERS = ("bus", "policies", "storage", "actors", "serve", "cluster", "swarm")
TREES = {folder: importlib.import_module(f"{folder}.errors") for folder in FOLDERS}
BRANCHES = {
    name: importlib.import_module(name) for name in ("serve.problems", "swarm.witness.errors")
}
"""Modules that draw a branch of their folder's tree beside what it is about."""


def descendants(kind: type[SwarmError]) -> list[type[SwarmError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in descendants(child))]


MODULES = {f"{folder}.errors" for folder in FOLDERS} | BRANCHES.keys()
ERRORS = [kind for kind in descendants(SwarmError) if kind.__module__ in MODULES]
each_error = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)


def test_every_folder_has_errors() -> None:
    assert {kind.__module__ for kind in ERRORS} == MODULES


@each_error
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_crosses_processes(kind: type[SwarmError], protocol: int) -> None:
    for error in (kind(), kind("what happened, with a 'quote' and ü")):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


@each_error
def test_its_docstring_is_its_message(kind: type[SwarmError]) -> None:
    assert "__doc__" in vars(kind)
    first_line = (kind.__doc__ or "").splitlines()[0]
    assert re.fullmatch(r"[A-Z].{8,}\.", first_line)
    assert str(kind()) == first_line
    assert str(kind("a message")) == "a message"


@each_error
def test_it_has_a_code_of_its_own(kind: type[SwarmError]) -> None:
    """Within its folder: a client's error has the code of the refusal that it stands for."""
    folder = kind.__module__.partition(".")[0]
    assert "code" in vars(kind)
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", kind.code)
    same = [other for other in ERRORS if other.code == kind.code]
    assert [other for other in same if other.__module__.partition(".")[0] == folder] == [kind]


@each_error
def test_its_hint_is_a_sentence(kind: type[SwarmError]) -> None:
    assert kind.hint == "" or re.fullmatch(r"[A-Z][\s\S]*[.?!`]|[A-Z].*: .*", kind.hint)


@each_error
def test_its_name_stands_in_the_tree_that_its_module_draws(kind: type[SwarmError]) -> None:
    drawn = importlib.import_module(kind.__module__).__doc__ or ""
    assert re.search(rf"\b{kind.__name__}\b", drawn)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_one_tree(folder: str) -> None:
    kinds = {kind for kind in ERRORS if kind.__module__ == f"{folder}.errors"}
    roots = [kind for kind in kinds if not kinds & set(kind.__mro__[1:])]
    assert len(roots) == 1
    assert roots[0] is SwarmError or roots[0].__bases__ == (SwarmError,)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_other_exception_stands_beside_the_tree(folder: str) -> None:
    own = [
        value
        for value in vars(TREES[folder]).values()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == f"{folder}.errors"
    ]
    assert own
    assert all(issubclass(kind, SwarmError) for kind in own)
