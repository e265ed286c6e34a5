from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from actors.agenda import Agenda

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_the_earliest_moment_counts() -> None:
    agenda = Agenda()
    agenda.set("a", at(5))
    agenda.set("a", at(3))
    agenda.set("a", at(9))
    agenda.set("b", at(4))
    assert agenda.next() == at(3)
    assert agenda.due(at(2)) == ()
    assert agenda.due(at(4)) == ("a", "b")
    assert agenda.next() is None
    assert agenda.due(at(99)) == ()


def test_what_is_forgotten_is_not_due() -> None:
    agenda = Agenda()
    agenda.set("a", at(1))
    agenda.forget("a")
    agenda.forget("never there")
    assert agenda.next() is None
    agenda.set("a", at(2))
    assert agenda.due(at(2)) == ("a",)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=30))
def test_everybody_is_called_once_and_in_time(story: list[tuple[str, int, bool]]) -> None:
    agenda, wanted = Agenda(), dict[str, datetime]()
    for name, seconds, forgets in story:
        if forgets:
            agenda.forget(name)
            wanted.pop(name, None)
        else:
            agenda.set(name, at(seconds))
            wanted[name] = min(wanted.get(name, at(seconds)), at(seconds))
    assert agenda.next() == min(wanted.values(), default=None)
    called: dict[str, int] = {}
    for second in range(10):
        called |= dict.fromkeys(agenda.due(at(second)), second)
    assert {name: at(second) for name, second in called.items()} == wanted
