import pytest

from cluster.errors import ConfigurationError
from cluster.models import profiles_of
from cluster.settings import Settings
from serve.errors import UnknownProfile


def with_role(profile: str) -> Settings:
    return Settings(model_profile="scripted", role_models={"coder": profile}, scripted_delay_s=2)


def test_each_profile_is_served_once_and_everybody_s_comes_first() -> None:
    settings = Settings(
        model_profile="scripted",
        role_models={"coder": "scripted-other", "judge": "scripted-other", "critic": "scripted"},
        scripted_delay_s=2,
    )
    profiles = profiles_of(settings)
    assert [profile.name for profile in profiles] == ["scripted", "scripted-other"]
    assert {profile.delay_s for profile in profiles} == {2}


def test_a_role_cannot_have_what_is_no_profile_or_writes_nothing() -> None:
    with pytest.raises(UnknownProfile):
        profiles_of(with_role("gpt-9"))
    with pytest.raises(ConfigurationError, match="embeds"):
        profiles_of(with_role("scripted-embedding"))
