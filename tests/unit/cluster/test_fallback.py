"""Which provider the settings ask for, and where its key is kept."""

from pathlib import Path

import pytest

from cluster.errors import ConfigurationError
from cluster.fallback import KEY_FILE, fallback_of, keep_key
from cluster.home import Home, open_home
from cluster.settings import MARKER, Settings, child_environment
from serve.fallback import FallbackConfig
from tests.secrets import secrets_of

KEY = "sk-test-9b51c3d2e6aa4f0e8d77"  # nobody's


@pytest.fixture(autouse=True)
def _somewhere_without_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (MARKER, "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def settings(home: Home, **fields: object) -> Settings:
    return Settings.model_validate({"home": home.root, **fields})


def test_it_is_off_unless_it_is_asked_for(home: Home) -> None:
    assert fallback_of(settings(home), home) is None
    assert fallback_of(settings(home, openai_api_key=KEY), home) is None
    assert fallback_of(settings(home, fallback_api_key=KEY, fallback_model="m"), home) is None


@pytest.mark.parametrize(
    ("name", "url"),
    [("openai", "https://api.openai.com/v1"), ("anthropic", "https://api.anthropic.com/v1")],
)
def test_a_known_provider_needs_its_own_key_and_a_model(home: Home, name: str, url: str) -> None:
    asked = settings(home, fallback=name, fallback_model="m", **{f"{name}_api_key": KEY})
    config = fallback_of(asked, home)
    assert config == FallbackConfig(name=name, url=url, model="m", key_file=home.keys / KEY_FILE)
    with pytest.raises(ConfigurationError, match=f"needs {name.upper()}_API_KEY"):
        fallback_of(settings(home, fallback=name, fallback_model="m"), home)
    with pytest.raises(ConfigurationError, match="SWARM_FALLBACK_MODEL is missing"):
        fallback_of(settings(home, fallback=name, **{f"{name}_api_key": KEY}), home)


def test_any_other_provider_is_named_by_its_host_and_may_want_no_key(home: Home) -> None:
    asked = settings(home, fallback_url="http://10.0.0.7:8000/v1", fallback_model="m")
    assert fallback_of(asked, home) == FallbackConfig(
        name="10.0.0.7", url="http://10.0.0.7:8000/v1", model="m"
    )


def test_the_key_is_kept_for_this_user_only_and_goes_with_the_setting(home: Home) -> None:
    asked = settings(
        home, fallback_url="https://llm.example/v1", fallback_model="m", fallback_api_key=KEY
    )
    keep_key(asked, home)
    path = home.keys / KEY_FILE
    assert path.read_text() == KEY
    assert path.stat().st_mode & 0o777 == 0o600
    assert secrets_of(home.keys)[f"{KEY_FILE}:1"] == KEY.encode()
    keep_key(settings(home), home)
    assert not path.exists()


@pytest.mark.parametrize("key", ["two words", "zwölf", "a\nb"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(home: Home, key: str) -> None:
    asked = settings(
        home, fallback_url="https://llm.example/v1", fallback_model="m", fallback_api_key=key
    )
    with pytest.raises(ConfigurationError) as refused:
        keep_key(asked, home)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["llm.example/v1", "ftp://x/v1", f"https://u:{KEY}@x/v1", f"https://x/v1?key={KEY}"]
)
def test_a_url_that_cannot_be_used_is_not_repeated(
    home: Home, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SWARM_FALLBACK_URL", url)
    with pytest.raises(ConfigurationError, match="^SWARM_FALLBACK_URL cannot be used") as refused:
        Settings.load()
    assert KEY not in str(refused.value)


def test_no_process_that_is_started_finds_the_key_in_its_environment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWARM_FALLBACK_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("SWARM_FALLBACK", "openai")
    loaded = Settings.load()
    assert KEY not in " ".join(child_environment(loaded).values())
    assert KEY not in repr(loaded)
    assert KEY not in repr(fallback_of(loaded.model_copy(update={"fallback_model": "m"}), home))


def test_a_key_that_is_not_used_here_is_left_to_the_users_own_agents(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert child_environment(Settings.load())["OPENAI_API_KEY"] == KEY
