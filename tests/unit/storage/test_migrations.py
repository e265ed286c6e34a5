"""Which migrations are left to apply."""

import pytest

from storage.errors import MigrationError
from storage.postgres import Migration, bundled_migrations, check_numbering, pending

STEPS = tuple(Migration(version=n, name=f"step{n}", sql=f"select {n}") for n in (1, 2, 3))
APPLIED = [(step.version, step.name, step.sha256) for step in STEPS]


def test_the_shipped_migrations_are_numbered_without_gaps() -> None:
    steps = bundled_migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert [step.name for step in steps][:2] == ["users", "audit"]


@pytest.mark.parametrize("done", range(4))
def test_what_is_not_recorded_is_left_to_do(done: int) -> None:
    assert pending(STEPS, APPLIED[:done]) == STEPS[done:]


def test_a_changed_migration_is_refused() -> None:
    with pytest.raises(MigrationError, match="0001_step1 was changed"):
        pending(STEPS, [(1, "step1", "0" * 64)])


def test_a_newer_migration_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0003_step3, newer than this program"):
        pending(STEPS[:2], APPLIED)


def test_a_gap_in_what_was_applied_is_refused() -> None:
    with pytest.raises(MigrationError, match="has migration 0003 but not 0002"):
        pending(STEPS, [APPLIED[0], APPLIED[2]])


@pytest.mark.parametrize("versions", [(2,), (1, 3), (1, 1), (0, 1)])
def test_numbers_that_are_missing_or_double_are_refused(versions: tuple[int, ...]) -> None:
    with pytest.raises(MigrationError, match="missing or given twice"):
        check_numbering([Migration(version=v, name="x", sql="") for v in versions])
