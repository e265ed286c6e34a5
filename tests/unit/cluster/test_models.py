import pytest

from cluster.doctor import _model
from cluster.errors import ConfigurationError
from cluster.models import embedder_of, profiles_of
from cluster.settings import GiB, Settings
from serve.errors import UnknownProfile
from serve.fit import GpuNode


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


def test_what_embeds_is_chosen_by_its_setting_and_must_embed() -> None:
    assert embedder_of(Settings(model_profile="qwen3-8b")).name == "all-minilm-l6-v2"
    chosen = Settings(embedding_profile="all-minilm-l6-v2-gpu", vllm_gpu_memory_utilization=0.9)
    assert embedder_of(chosen).gpu_memory_utilization == 0.2  # 0.9 is for the one that writes
    with pytest.raises(ConfigurationError, match="qwen3-8b: it embeds nothing"):
        embedder_of(Settings(embedding_profile="qwen3-8b"))
    with pytest.raises(UnknownProfile):
        embedder_of(Settings(embedding_profile="ada"))


def test_the_doctor_looks_for_room_for_all_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Settings(model_profile="qwen3-8b", embedding_profile="all-minilm-l6-v2-gpu")

    def found(settings: Settings, gpus: int) -> dict[str, tuple[bool, str]]:
        node = GpuNode(name="here", count=gpus, memory_bytes=24 * GiB)
        monkeypatch.setattr("cluster.doctor.gpus_here", lambda: (node,))
        return {each.check: (each.ok, each.detail) for each in _model(settings)}

    assert found(both, 2)["gpus"] == (True, "qwen3-8b, all-minilm-l6-v2-gpu fits")
    fits, why = found(both, 1)["gpus"]
    assert not fits
    assert "all-minilm-l6-v2-gpu needs 1 GPU" in why
    writes_only = Settings(model_profile="scripted", embedding_profile="scripted")
    assert found(writes_only, 0)["embedding"] == (
        False,
        "SWARM_EMBEDDING_PROFILE cannot name scripted: it embeds nothing.",
    )
