"""The application that the settings ask for, seen to be usable before anything starts."""

from pathlib import Path

import pytest

from actors.errors import ApplicationNotUsable
from cluster.application import application_of, bundle_of
from cluster.errors import ConfigurationError
from cluster.settings import Settings
from policies.capabilities import Capabilities, shipped_source
from policies.errors import PolicyNotUsable

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_agent.py"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    monkeypatch.delenv("SWARM_APPLICATION", raising=False)
    monkeypatch.delenv("SWARM_AGENTS", raising=False)
    monkeypatch.delenv("SWARM_POLICY", raising=False)


def test_without_one_there_is_none() -> None:
    assert application_of(Settings.load()) is None


def test_a_relative_path_is_one_of_the_folder_where_the_swarm_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text())
    monkeypatch.setenv("SWARM_APPLICATION", "mine.py")
    settings = Settings.from_wire(Settings.load().to_wire())
    assert settings.application == tmp_path / "mine.py"
    application = application_of(settings)
    assert application is not None
    assert application.load().roles == ("counter",)


def test_its_roles_may_have_several_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_APPLICATION", str(EXAMPLE))
    monkeypatch.setenv("SWARM_AGENTS", "counter=3,coder=2")
    settings = Settings.load()
    assert application_of(settings) is not None
    assert settings.agents_of("counter") == 3


def test_a_role_that_nobody_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_APPLICATION", str(EXAMPLE))
    monkeypatch.setenv("SWARM_AGENTS", "wizard=1")
    with pytest.raises(ConfigurationError, match="no role is called wizard; there are .*counter"):
        application_of(Settings.load())


def test_a_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_APPLICATION", "missing.py")
    with pytest.raises(ApplicationNotUsable, match="there is no file .*missing.py"):
        application_of(Settings.load())


def test_without_a_bundle_of_ones_own_the_shipped_one_is_meant() -> None:
    assert bundle_of(Settings.load()) == ""


def test_a_bundle_travels_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = shipped_source().decode() + "# mine\n"
    (tmp_path / "policy.yaml").write_text(text)
    monkeypatch.setenv("SWARM_POLICY", "policy.yaml")
    settings = Settings.from_wire(Settings.load().to_wire())
    assert settings.policy == tmp_path / "policy.yaml"
    assert bundle_of(settings) == text
    assert Capabilities.of(text).digest == Capabilities.shipped().digest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\nroles:\n  coder:\n    publsh: []\n", "policy.yaml: (.|\n)*line 4"),
        ("version: 1\nroles: {}\n", "no swarm can start where role launcher may not provision"),
        (
            shipped_source().decode().replace("      - policy.adopted\n", ""),
            "role authority may not publish policy.adopted",
        ),
        (
            shipped_source().decode().replace("  critic: *agent\n", ""),
            "role critic has agents, but may not work",
        ),
    ],
)
def test_a_bundle_that_cannot_be_put_in_force_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    monkeypatch.setenv("SWARM_POLICY", "policy.yaml")
    with pytest.raises(PolicyNotUsable, match=told):
        bundle_of(Settings.load())


def test_a_bundle_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_POLICY", "missing.yaml")
    with pytest.raises(PolicyNotUsable, match="missing.yaml cannot be read"):
        bundle_of(Settings.load())
