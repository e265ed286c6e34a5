"""The systemd unit: what systemd reads in it is what was meant."""

import configparser
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigurationError
from cluster.unit import Unit

WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


def unit(
    program: str = "/opt/swarm", folder: str = "/srv", home: str = "/h", *arguments: str
) -> Unit:
    return Unit(
        program=Path(program),
        arguments=arguments,
        folder=Path(folder),
        environment={"SWARM_HOME": home},
        home=Path(home),
    )


def read(text: str) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=True, delimiters=("=",), comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[assignment,method-assign]  # names are told apart by case
    found.read_string(text)
    return found


def words(line: str, *, is_command: bool) -> list[str]:
    """As systemd splits and unquotes a line of words in double quotes, by its manual."""
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    found = [re.sub(r"\\(.)", r"\1", one) or other for one, other in quoted]
    plain = [re.sub("%(.)", r"\1", each) for each in found]
    return [each.replace("$$", "$") if is_command else each for each in plain]


def test_it_starts_and_stops_the_swarm_of_its_home() -> None:
    made = read(unit("/opt/swarm", "/srv", "/home/ada/.swarm", "--model", "scripted").text())
    service = made["Service"]
    assert words(service["ExecStart"], is_command=True) == [
        "/opt/swarm",
        "up",
        "--model",
        "scripted",
    ]
    assert words(service["ExecStop"], is_command=True) == ["/opt/swarm", "down"]
    assert words(service["Environment"], is_command=False) == ["SWARM_HOME=/home/ada/.swarm"]
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")
    assert made["Install"]["WantedBy"] == "default.target"


@given(WORDS, WORDS, WORDS)
def test_any_path_comes_out_as_it_went_in(program: str, home: str, option: str) -> None:
    made = Unit(
        program=Path(f"/{program}/swarm"),
        arguments=["--application", option],
        folder=Path("/srv"),
        environment={"SWARM_HOME": f"/{home}/x"},
        home=Path("/h"),
    )
    service = read(made.text())["Service"]
    assert words(service["ExecStart"], is_command=True) == [
        str(made.program),
        "up",
        "--application",
        option,
    ]
    assert words(service["Environment"], is_command=False) == [f"SWARM_HOME=/{home}/x"]


@pytest.mark.parametrize("folder", ["/a\nb", "/a\x00b", "/a ", "/a\tb"])
def test_what_no_unit_can_hold_is_refused(folder: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot hold"):
        unit(folder=folder).text()


def test_a_percent_sign_in_a_folder_is_no_specifier() -> None:
    assert read(unit(folder="/a%h").text())["Service"]["WorkingDirectory"] == "/a%%h"
