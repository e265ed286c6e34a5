import pytest
from pydantic import ValidationError

from serve.errors import UnknownProfile
from serve.profile import ModelProfile, load_profile, profile_names

SHAPE: dict[str, object] = {
    "parameters": 1_000_000,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_size": 8,
}
ON_GPU: dict[str, object] = {
    "engine": "vllm",
    "weights": "x",
    "accelerator": "gpu",
    "shape": SHAPE,
}
SCALING: dict[str, object] = {"least": 1, "most": 4, "target_ongoing_requests": 8}


def test_the_shipped_profiles_all_load_under_their_own_names() -> None:
    assert profile_names() == [
        "all-minilm-l6-v2",
        "all-minilm-l6-v2-gpu",
        "phi-3.5-mini",
        "qwen2.5-72b",
        "qwen3-32b",
        "qwen3-8b",
        "scripted",
        "scripted-embedding",
        "scripted-other",
        "smollm2-135m",
    ]
    for name in profile_names():
        assert load_profile(name).name == name


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        UnknownProfile, match=r"'gpt-5'; there are all-minilm-l6-v2, .*, scripted, .*, smollm"
    ):
        load_profile("gpt-5")


def test_a_name_cannot_reach_out_of_the_folder() -> None:
    with pytest.raises(UnknownProfile):
        load_profile("../profiles/scripted")


def test_the_gpu_profile_has_the_values_people_are_told_about() -> None:
    profile = load_profile("phi-3.5-mini")
    assert profile.weights == "microsoft/Phi-3.5-mini-instruct"
    assert profile.gpu_memory_utilization == 0.90
    assert profile.max_model_len == 16384
    assert profile.accelerators == 1


def test_overrides_win_over_the_file() -> None:
    profile = load_profile("phi-3.5-mini", gpu_memory_utilization=0.5, max_model_len=2048)
    assert (profile.gpu_memory_utilization, profile.max_model_len) == (0.5, 2048)


def test_a_cpu_profile_ignores_the_share_of_gpu_memory() -> None:
    profile = load_profile("smollm2-135m", gpu_memory_utilization=0.5, max_model_len=1024)
    assert (profile.gpu_memory_utilization, profile.max_model_len) == (None, 1024)


@pytest.mark.parametrize("share", [0.0, 1.1, -0.5])
def test_a_share_of_memory_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValidationError):
        load_profile("phi-3.5-mini", gpu_memory_utilization=share)


@pytest.mark.parametrize(
    "values",
    [
        {"engine": "vllm"},  # names no weights
        {"engine": "vllm", "weights": "x", "pipeline_parallel": 2},  # on the CPU
        {"engine": "vllm", "weights": "x", "gpu_memory_utilization": 0.5},  # of no GPU
        {"engine": "vllm", "weights": "x", "accelerator": "gpu"},  # of no known shape
        {"engine": "scripted", "replicas": 2, "autoscaling": SCALING},  # which of them?
        {"engine": "scripted", "autoscaling": {**SCALING, "least": 5}},  # above the most
        {**ON_GPU, "tensor_parallel": 3},  # of four heads
        {**ON_GPU, "pipeline_parallel": 3},  # of two layers
        {"engine": "scripted", "task": "embed"},  # of what length?
        {"engine": "scripted", "dimensions": 384},  # of what?
        {"engine": "transformers", "weights": "x"},  # writes nothing
        {"engine": "transformers", "task": "embed", "dimensions": 384},  # of no weights
        {"engine": "vllm", "weights": "x", "task": "embed"},  # of what length?
        {"engine": "transformers", "weights": "x", "task": "embed", "dimensions": 8}
        | {"accelerator": "gpu", "shape": SHAPE},  # which is vLLM's
        {**ON_GPU, "shape": {**SHAPE, "kv_heads": 0}},  # writes, and keeps nothing
        {"engine": "magic"},
        {"engine": "scripted", "surprise": 1},
    ],
)
def test_values_that_do_not_belong_together_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelProfile.model_validate({"name": "x", "served_name": "x", **values})


def test_what_embeds_on_gpus_and_on_the_cpu_makes_the_same_vectors_under_one_name() -> None:
    gpu, cpu = load_profile("all-minilm-l6-v2-gpu"), load_profile("all-minilm-l6-v2")
    same = ("task", "served_name", "weights", "dimensions", "max_model_len")
    assert gpu.model_dump(include=set(same)) == cpu.model_dump(include=set(same))
    assert (gpu.engine, gpu.accelerator) == ("vllm", "gpu")
    assert not gpu.model_copy(update={"replicas": 2}).prefix_aware


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_profile("scripted").delay_s = 1.0  # type: ignore[misc]


def test_what_is_refused_above_is_refused_for_that_one_reason() -> None:
    good = {"name": "x", "served_name": "x"}
    sharded = {"tensor_parallel": 4, "pipeline_parallel": 2}
    assert ModelProfile.model_validate({**good, **ON_GPU, **sharded}).accelerators == 8
    encoder = {**ON_GPU, "task": "embed", "dimensions": 8, "shape": {**SHAPE, "kv_heads": 0}}
    assert ModelProfile.model_validate({**good, **encoder}).dimensions == 8
    scaled = ModelProfile.model_validate({**good, "engine": "scripted", "autoscaling": SCALING})
    assert scaled.least_replicas == 1


@pytest.mark.parametrize(
    ("named", "instead"),
    [
        ("data_parallel_size", "replicas"),
        ("data_parallel_backend", "replicas"),
        ("tensor_parallel_size", "tensor_parallel"),
        ("pipeline_parallel_size", "pipeline_parallel"),
    ],
)
def test_what_a_replica_spans_is_not_changed_behind_its_back(named: str, instead: str) -> None:
    """Accelerators, placement and fit are counted from the profile's own fields."""
    values = {"name": "x", "served_name": "x", **ON_GPU, "engine_kwargs": {named: 2}}
    with pytest.raises(ValidationError, match=rf"engine_kwargs: {named} .*{instead}"):
        ModelProfile.model_validate(values)
