"""Whether a model fits on the GPUs that there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.fit import GpuNode, gpu_need, misfits, misfits_together
from serve.profile import Autoscaling, ModelProfile, ModelShape, load_profile, profile_names

GIB = 1024**3
ON_GPUS = [name for name in profile_names() if load_profile(name).accelerator == "gpu"]


def node(name: str, count: int, gib: float | None = None, kind: str | None = None) -> GpuNode:
    memory = None if gib is None else int(gib * GIB)
    return GpuNode(name=name, count=count, memory_bytes=memory, kind=kind)


def changed(profile: ModelProfile, **values: object) -> ModelProfile:
    return ModelProfile.model_validate({**profile.model_dump(), **values})


@pytest.mark.parametrize(
    ("name", "weights", "cache", "fitting", "too_small"),
    [
        ("phi-3.5-mini", 7.1, 6.0, [node("a", 1, 24)], [node("a", 1, 16)]),
        ("qwen3-8b", 15.3, 2.25, [node("a", 1, 24)], [node("a", 1, 20)]),
        ("qwen3-32b", 15.3, 1.0, [node("a", 4, 24)], [node("a", 4, 20)]),
        ("all-minilm-l6-v2-gpu", 0.04, 0.0, [node("a", 1, 12)], [node("a", 1, 8)]),
        (
            "qwen2.5-72b",
            8.5,
            0.3,
            [node("a", 8, 16), node("b", 8, 16)],
            [node("a", 8, 10), node("b", 8, 10)],
        ),
    ],
)
def test_the_need_of_each_shipped_profile(
    name: str, weights: float, cache: float, fitting: list[GpuNode], too_small: list[GpuNode]
) -> None:
    profile = load_profile(name)
    assert profile.shape is not None
    need = gpu_need(profile, profile.shape)
    assert need.weights / GIB == pytest.approx(weights, abs=0.1)
    assert need.cache / GIB == pytest.approx(cache, abs=0.05)
    assert misfits(profile, fitting) == ()
    (reason,) = misfits(profile, too_small)
    assert f"{need.total / GIB:.1f} GiB on each GPU" in reason
    assert (
        f"{profile.gpu_memory_utilization:.0%} of {(too_small[0].memory_bytes or 0) / GIB:.1f} GiB"
        in reason
    )


def test_every_gpu_profile_is_looked_at_above() -> None:
    assert ON_GPUS == [
        "all-minilm-l6-v2-gpu",
        "phi-3.5-mini",
        "qwen2.5-72b",
        "qwen3-32b",
        "qwen3-8b",
    ]


def test_an_encoder_needs_no_cache_however_long_its_texts_are() -> None:
    profile = load_profile("all-minilm-l6-v2-gpu")
    (reason,) = misfits(profile, [node("a", 1, 8)])
    assert "0.0 GiB of weights, 2.0 GiB besides." in reason
    assert profile.shape is not None
    long = changed(profile, max_model_len=32_768)
    assert gpu_need(long, profile.shape) == gpu_need(profile, profile.shape)
    keeps = ModelShape.model_validate({**profile.shape.model_dump(), "kv_heads": 12})
    (other,) = misfits(changed(profile, shape=keeps.model_dump()), [node("a", 1, 8)])
    assert "for one text of 256 tokens" in other


@pytest.mark.parametrize("name", ON_GPUS)
def test_without_a_gpu_none_fits(name: str) -> None:
    for nodes in ([], [node("head", 0)]):
        (reason,) = misfits(load_profile(name), nodes)
        assert "none was found" in reason


def test_a_model_on_the_cpu_needs_no_gpu() -> None:
    assert misfits(load_profile("smollm2-135m"), []) == ()
    assert misfits(load_profile("scripted"), []) == ()


def test_a_layer_is_not_dealt_out_over_nodes() -> None:
    profile = load_profile("qwen3-32b")
    (reason,) = misfits(profile, [node("a", 2, 80), node("b", 2, 80)])
    assert reason == "qwen3-32b needs 4 GPUs in one node, 1 time: a has 2, b has 2."
    assert misfits(profile, [node("a", 2, 80), node("b", 4, 80)]) == ()


def test_the_stages_of_a_pipeline_may_stand_in_several_nodes() -> None:
    profile = load_profile("qwen2.5-72b")
    assert misfits(profile, [node("a", 16, 80)]) == ()
    (reason,) = misfits(profile, [node("a", 8, 80), node("b", 7, 80)])
    assert reason == "qwen2.5-72b needs 8 GPUs in one node, 2 times: a has 8, b has 7."


def test_each_replica_wants_its_own_gpus() -> None:
    profile = changed(load_profile("qwen3-8b"), replicas=3)
    (reason,) = misfits(profile, [node("a", 2, 80)])
    assert "needs 1 GPU in one node, 3 times" in reason
    assert misfits(profile, [node("a", 2, 80), node("b", 1, 80)]) == ()


def test_of_replicas_that_come_with_the_load_the_least_must_fit() -> None:
    scaling = Autoscaling(least=1, most=8, target_ongoing_requests=16)
    profile = changed(load_profile("qwen3-8b"), autoscaling=scaling.model_dump())
    assert misfits(profile, [node("a", 1, 80)]) == ()


def test_only_gpus_of_the_kind_that_is_asked_for_count() -> None:
    profile = changed(load_profile("qwen3-8b"), accelerator_type="H100")
    (reason,) = misfits(profile, [node("a", 4, 80, "A100"), node("b", 1, 24, "L4")])
    assert "of kind H100; found: A100, L4" in reason
    assert misfits(profile, [node("a", 1, 80)]) == ()  # nobody can say that it is another
    assert misfits(profile, [node("a", 4, 80, "A100"), node("b", 1, 80, "H100")]) == ()


def test_where_nobody_can_say_how_large_they_are_only_their_number_counts() -> None:
    profile = load_profile("qwen3-32b")
    assert misfits(profile, [node("a", 4)]) == ()
    assert misfits(profile, [node("a", 3)]) != ()


def test_quantized_weights_need_half_or_less() -> None:
    plain = load_profile("qwen3-8b")
    assert plain.shape is not None
    whole = gpu_need(plain, plain.shape).weights
    fp8 = gpu_need(changed(plain, quantization="fp8"), plain.shape).weights
    awq = gpu_need(changed(plain, quantization="awq"), plain.shape).weights
    assert fp8 == pytest.approx(whole / 2)
    assert awq < whole / 3


def test_more_gpus_than_heads_that_keep_anything_do_not_shrink_the_cache_further() -> None:
    shape = ModelShape(parameters=10**9, layers=8, heads=16, kv_heads=2, head_size=64)
    eight = changed(load_profile("qwen3-8b"), shape=shape.model_dump(), tensor_parallel=8)
    two = changed(eight, tensor_parallel=2)
    assert gpu_need(eight, shape).cache == gpu_need(two, shape).cache


@given(
    st.sampled_from(ON_GPUS),
    st.lists(st.tuples(st.integers(0, 16), st.floats(4, 200)), max_size=6),
    st.integers(0, 5),
)
def test_more_or_larger_gpus_never_stop_what_fits(
    name: str, sizes: list[tuple[int, float]], index: int
) -> None:
    profile = load_profile(name)
    nodes = [node(f"n{i}", count, gib) for i, (count, gib) in enumerate(sizes)]
    if misfits(profile, nodes):
        return
    grown = [*nodes, node("more", 3, 1)]
    chosen = nodes[index % len(nodes)]
    grown[index % len(nodes)] = node(
        chosen.name, chosen.count + 1, (chosen.memory_bytes or 0) / GIB + 1
    )
    assert misfits(profile, grown) == ()


def test_models_that_run_at_once_need_their_gpus_together() -> None:
    small, large = load_profile("qwen3-8b"), load_profile("qwen3-32b")
    assert misfits_together([small, large], [node("a", 5, 24)]) == ()
    assert misfits_together([small, large], [node("a", 4, 24), node("b", 1, 24)]) == ()
    (reason,) = misfits_together([small, large], [node("a", 4, 24)])
    assert reason.startswith("qwen3-8b needs 1 GPU")
    assert reason.endswith("GPUs that qwen3-32b takes are not counted.")
    assert misfits_together([load_profile("scripted"), small], [node("a", 1, 24)]) == ()


def test_a_gpu_that_is_too_small_for_a_model_is_left_to_another() -> None:
    phi, small = load_profile("phi-3.5-mini"), load_profile("qwen3-8b")
    phi = changed(phi, max_model_len=4096)
    nodes = [node("b", 1, 24), node("a", 1, 16)]
    assert misfits_together([phi, small], nodes) == ()


@given(st.lists(st.sampled_from(ON_GPUS), max_size=4), st.lists(st.integers(0, 8), max_size=4))
def test_alone_each_fits_where_all_fit_together(names: list[str], counts: list[int]) -> None:
    profiles = [load_profile(name) for name in names]
    nodes = [node(str(number), count, 80) for number, count in enumerate(counts)]
    if not misfits_together(profiles, nodes):
        assert all(misfits(profile, nodes) == () for profile in profiles)
        wanted = sum(profile.accelerators * profile.least_replicas for profile in profiles)
        assert wanted <= sum(counts)
