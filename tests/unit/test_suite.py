"""The suite is run in two sessions: no folder with tests is left out of both."""

from pathlib import Path

from tests.run import THE_REST, WHOLE_SWARMS

TESTS = Path(__file__).parents[1]


def test_each_folder_with_tests_is_in_one_half() -> None:
    folders = {f"tests/{path.relative_to(TESTS).parts[0]}" for path in TESTS.rglob("test_*.py")}
    assert folders == {*WHOLE_SWARMS, *THE_REST}
    assert len(WHOLE_SWARMS) + len(THE_REST) == len(folders)
