"""The threat model names tests that exist, and leaves no letter of STRIDE out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", MODEL)))
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", MODEL, re.MULTILINE | re.DOTALL))
NOT_BOUNDARIES = {"Assets", "Actors", "What is not covered"}
BOUNDARIES = sorted(set(SECTIONS) - NOT_BOUNDARIES)
ROW = re.compile(r"^\| ([STRIDE]) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def rows(section: str) -> list[tuple[str, str, str, str]]:
    return ROW.findall(SECTIONS[section])


def functions_of(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


def test_there_is_something_to_check() -> None:
    assert len(NAMED) > 100
    assert len(BOUNDARIES) == 15


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_it_names_exists(file: str) -> None:
    wanted = {name for named, name in NAMED if named == file}
    assert sorted(wanted - functions_of(ROOT / file)) == []


def test_nothing_that_looks_like_a_test_is_misspelt() -> None:
    assert len(re.findall(r"`[^`]*::[^`]*`", MODEL)) == sum(
        MODEL.count(f"`{file}::{name}`") for file, name in NAMED
    ) + MODEL.count("`file::test`")


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_boundary_is_looked_at_by_each_letter(boundary: str) -> None:
    assert {letter for letter, *_ in rows(boundary)} == set("STRIDE")


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_threat_has_a_test_or_is_said_not_to_be_covered(boundary: str) -> None:
    lines = [line for line in SECTIONS[boundary].splitlines() if line.startswith("| ")]
    assert len(lines) == len(rows(boundary)) + 1, "a row that is not of the form"
    for _, threat, control, shown in rows(boundary):
        assert "::" in shown or re.fullmatch(r"G\d+", shown), threat
        assert control, threat


def test_what_is_said_not_to_be_covered_is_told_at_the_end() -> None:
    told = set(re.findall(r"^- \*\*(G\d+)\.", SECTIONS["What is not covered"], re.MULTILINE))
    tables = "".join(SECTIONS[boundary] for boundary in BOUNDARIES)
    assert set(re.findall(r"\bG\d+\b", tables)) <= told
    assert told == {f"G{number}" for number in range(1, len(told) + 1)}
