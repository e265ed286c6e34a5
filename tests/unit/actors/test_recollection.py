"""What was recalled, as it stands in a prompt."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from actors.recollection import recollection
from storage.memory_item import MemoryItem


def item(name: str, content: str) -> MemoryItem:
    return MemoryItem(
        tenant="default",
        namespace="shared/notes",
        item=name,
        version=3,
        kind="semantic",
        content=content,
        metadata={},
        written_at=datetime(2026, 11, 26, tzinfo=UTC),
        place=1,
        event="e",
        author="coder/coder-1",
        run="r",
        step=None,
        subject=None,
        reason="",
    )


def test_each_item_stands_under_the_name_by_which_it_is_cited() -> None:
    text = recollection([item("a", "First."), item("b", "Second.\n")])
    assert text == "[shared/notes/a@3]\nFirst.\n\n[shared/notes/b@3]\nSecond."
    assert recollection([]) == ""


def test_a_long_item_is_cut_and_leaves_room_for_the_next() -> None:
    text = recollection([item("a", "x" * 5_000), item("b", "y" * 5_000)], budget_bytes=600)
    assert "[shared/notes/a@3]" in text
    assert "[shared/notes/b@3]" in text
    assert text.count("...") == 2


def test_what_an_item_does_not_need_the_next_one_gets() -> None:
    text = recollection([item("a", "Short."), item("b", "y" * 450)], budget_bytes=600)
    assert "y" * 450 in text


@given(st.lists(st.text(min_size=1, max_size=400), max_size=8), st.integers(0, 2_000))
def test_it_never_takes_more_than_it_may(contents: list[str], budget: int) -> None:
    items = [item(f"i{number}", content) for number, content in enumerate(contents)]
    assert len(recollection(items, budget_bytes=budget).encode()) <= budget
