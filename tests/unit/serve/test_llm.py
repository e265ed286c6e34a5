import subprocess
import sys

import pytest
from pydantic import BaseModel
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from serve.llm import (
    VllmModel,
    build_model_app,
    deployment_options,
    documents,
    engine_kwargs,
    llm_config,
    placement_bundles,
    process_env,
)
from serve.profile import Autoscaling, ModelProfile, load_profile
from serve.routing import ROUTER, UNEVEN

CPU = load_profile("smollm2-135m")
GPU = load_profile("phi-3.5-mini")
EMBEDS = load_profile("all-minilm-l6-v2-gpu")
SHARDED = GPU.model_copy(
    update={"tensor_parallel": 2, "pipeline_parallel": 2, "accelerator_type": "A100"}
)


def test_the_cpu_engine_runs_eagerly_in_float32_with_tight_json() -> None:
    kwargs = engine_kwargs(CPU)
    assert kwargs["dtype"] == "float32"
    assert kwargs["enforce_eager"] is True
    assert kwargs["max_model_len"] == 8192
    assert kwargs["structured_outputs_config"] == {
        "backend": "xgrammar",
        "disable_any_whitespace": True,
    }
    assert "gpu_memory_utilization" not in kwargs


def test_the_gpu_engine_gets_its_share_of_memory_and_its_length() -> None:
    kwargs = engine_kwargs(GPU)
    assert kwargs["gpu_memory_utilization"] == 0.90
    assert kwargs["max_model_len"] == 16384
    assert (kwargs["tensor_parallel_size"], kwargs["pipeline_parallel_size"]) == (1, 1)


def test_what_a_profile_names_reaches_the_engine() -> None:
    named = {"quantization": "fp8", "structured_outputs": "guidance"}
    assert engine_kwargs(GPU.model_copy(update=named))["quantization"] == "fp8"
    kwargs = engine_kwargs(CPU.model_copy(update=named))
    assert kwargs["structured_outputs_config"] == {
        "backend": "guidance",
        "disable_any_whitespace": True,
    }
    assert "quantization" not in engine_kwargs(GPU)


def test_replicas_are_a_number_or_follow_the_load() -> None:
    assert deployment_options(GPU, {})["num_replicas"] == 1
    scaling = Autoscaling(least=2, most=5, target_ongoing_requests=8)
    options = deployment_options(GPU.model_copy(update={"autoscaling": scaling}), {})
    assert "num_replicas" not in options
    assert AutoscalingConfig(**options["autoscaling_config"]).max_replicas == 5
    assert options["autoscaling_config"]["min_replicas"] == 2


def test_several_replicas_are_chosen_by_prefix_unless_the_profile_says_otherwise() -> None:
    assert "request_router_config" not in deployment_options(GPU, {})
    several = GPU.model_copy(update={"replicas": 2})
    config = RequestRouterConfig(**deployment_options(several, {})["request_router_config"])
    assert config.request_router_class == ROUTER
    assert config.request_router_kwargs["imbalanced_threshold"] == UNEVEN
    one_at_a_time = several.model_copy(update={"max_ongoing_requests": 1})
    kwargs = deployment_options(one_at_a_time, {})["request_router_config"]["request_router_kwargs"]
    assert kwargs["imbalanced_threshold"] == 0
    random = several.model_copy(update={"router": "power-of-two"})
    assert "request_router_config" not in deployment_options(random, {})
    grows = Autoscaling(most=4, target_ongoing_requests=8)
    assert GPU.model_copy(update={"autoscaling": grows}).prefix_aware


def test_only_so_many_requests_wait_for_a_replica() -> None:
    options = deployment_options(CPU, {})
    assert (options["max_ongoing_requests"], options["max_queued_requests"]) == (64, 128)


def test_the_gpus_of_a_layer_can_be_kept_in_one_node() -> None:
    profile = load_profile("qwen3-32b")
    assert deployment_options(profile, {})["placement_group_strategy"] == "STRICT_PACK"
    config = llm_config(profile, profile.weights)
    assert config["placement_group_config"]["strategy"] == "STRICT_PACK"


@pytest.mark.parametrize(
    ("profile", "bundles"),
    [
        (CPU, [{"CPU": 1.0}]),
        (CPU.model_copy(update={"tensor_parallel": 2}), [{"CPU": 2.0}]),
        (GPU, [{"CPU": 1.0, "GPU": 1.0}]),
        (
            SHARDED,
            [
                {"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001},
                *[{"GPU": 1.0, "accelerator_type:A100": 0.001}] * 3,
            ],
        ),
    ],
)
def test_a_replica_has_a_bundle_for_each_accelerator(
    profile: ModelProfile, bundles: list[dict[str, float]]
) -> None:
    assert placement_bundles(profile) == bundles
    options = deployment_options(profile, {})
    assert options["placement_group_bundles"] == bundles
    assert options["placement_group_strategy"] == "PACK"


def test_the_cpu_config_names_directory_model_and_kind_of_hardware() -> None:
    config = llm_config(CPU, "/weights")
    assert config["model_loading_config"] == {
        "model_id": "smollm2-135m",
        "model_source": "/weights",
    }
    assert config["accelerator_config"] == {"kind": "cpu"}
    assert "accelerator_type" not in config
    assert config["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_the_sharded_config_asks_for_its_gpus() -> None:
    config = llm_config(SHARDED, SHARDED.weights)
    assert config["accelerator_config"] == {"kind": "gpu"}
    assert config["accelerator_type"] == "A100"
    assert config["engine_kwargs"]["tensor_parallel_size"] == 2
    assert config["engine_kwargs"]["pipeline_parallel_size"] == 2
    assert len(config["placement_group_config"]["bundles"]) == 4


@pytest.mark.parametrize(
    ("processes", "cores", "threads"),
    [(1, 1, "1"), (1, 2, "1"), (1, 8, "7"), (2, 2, "1"), (2, 9, "4")],
)
def test_a_cpu_replica_leaves_a_core_to_the_others(
    processes: int, cores: int, threads: str
) -> None:
    profile = CPU.model_copy(update={"tensor_parallel": processes})
    assert process_env(profile, cores=cores)["OMP_NUM_THREADS"] == threads


def test_a_cpu_replica_is_started_with_its_libraries_and_environment() -> None:
    env = process_env(CPU, cores=2, preload=["/a.so", "/b.so"])
    assert env["LD_PRELOAD"] == "/a.so:/b.so"
    assert env["PYTHONDONTWRITEBYTECODE"] == ""
    assert env["HF_HUB_OFFLINE"] == "1"


def test_the_profile_wins_over_what_is_worked_out() -> None:
    profile = CPU.model_copy(update={"env": {"OMP_NUM_THREADS": "7"}})
    assert process_env(profile, cores=2)["OMP_NUM_THREADS"] == "7"


def test_a_gpu_replica_keeps_its_own_threads_and_libraries() -> None:
    assert process_env(GPU, cores=2, preload=["/a.so"]).keys() == {
        "PYTHONDONTWRITEBYTECODE",
        "VLLM_NO_USAGE_STATS",
    }


def test_what_embeds_takes_no_core_from_what_writes() -> None:
    options = deployment_options(load_profile("all-minilm-l6-v2"), {})
    assert options["ray_actor_options"]["num_cpus"] == 0
    assert "placement_group_bundles" not in options
    assert deployment_options(CPU, {})["ray_actor_options"]["num_cpus"] == 1


def test_an_engine_that_embeds_pools_as_its_profile_says() -> None:
    kwargs = engine_kwargs(EMBEDS)
    assert kwargs["runner"] == "pooling"
    assert kwargs["pooler_config"] == {"seq_pooling_type": "MEAN", "use_activation": True}
    assert (kwargs["max_num_seqs"], kwargs["max_model_len"]) == (EMBEDS.batch, 256)
    assert not engine_kwargs(GPU).keys() & {"runner", "pooler_config", "max_num_seqs"}


def test_an_engine_that_embeds_has_a_place_of_its_own() -> None:
    options = deployment_options(EMBEDS, {})
    assert options["name"] == "Embedder:all-minilm-l6-v2-gpu"
    assert options["placement_group_bundles"] == [{"CPU": 1.0, "GPU": 1.0}]
    assert options["ray_actor_options"]["num_cpus"] == 1
    several = deployment_options(EMBEDS.model_copy(update={"replicas": 2}), {})
    assert "request_router_config" not in several


@pytest.mark.parametrize(
    ("name", "served_by"),
    [
        ("all-minilm-l6-v2-gpu", "VllmModel"),
        ("all-minilm-l6-v2", "Embedder"),
        ("scripted-embedding", "Embedder"),
        ("phi-3.5-mini", "VllmModel"),
        ("scripted", "ScriptedModel"),
    ],
)
def test_the_engine_of_a_profile_decides_who_answers(name: str, served_by: str) -> None:
    app = build_model_app(load_profile(name), "/weights")
    assert getattr(app._bound_deployment.func_or_class, "__name__", "") == served_by


async def test_a_model_on_an_engine_says_how_long_its_vectors_are_if_it_makes_any() -> None:
    embeds, writes = [await VllmModel(profile, "").models() for profile in (EMBEDS, GPU)]
    assert embeds["data"][0]["dimensions"] == 384  # type: ignore[index,call-overload]
    assert "dimensions" not in writes["data"][0]  # type: ignore[index,operator]


def test_deployments_are_named_for_the_dashboard() -> None:
    assert deployment_options(CPU, {})["name"] == "VLLM:smollm2-135m"
    assert deployment_options(load_profile("scripted"), {})["name"] == "Scripted"
    embedder = load_profile("all-minilm-l6-v2")
    assert deployment_options(embedder, {})["name"] == "Embedder:all-minilm-l6-v2"


class Said(BaseModel):
    text: str
    missing: str | None = None


def test_server_sent_events_become_documents() -> None:
    batch = ['data: {"a":1}\n\n', 'data: {"b":2}\n\ndata: {"c":3}\n\n', "data: [DONE]\n\n"]
    assert documents(batch) == ['{"a":1}', '{"b":2}', '{"c":3}']


def test_only_a_line_feed_ends_a_line_of_server_sent_events() -> None:
    """JSON leaves these as they are, and str.splitlines takes them for ends of lines."""
    document = '{"content":"a\u2028b\u2029c\x85d"}'
    assert documents(f"data: {document}\n\n") == [document]
    assert documents(f"data: {document}\r\n\r\ndata: [DONE]\r\n\r\n") == [document]


def test_a_typed_answer_becomes_one_document() -> None:
    assert documents(Said(text="x")) == ['{"text":"x"}']
    assert documents([Said(text="x")]) == ['{"text":"x"}']


def test_anything_else_from_the_engine_is_an_error() -> None:
    with pytest.raises(TypeError, match="int"):
        documents(3)


def test_building_an_app_imports_no_engine() -> None:
    program = (
        "import sys; from serve.llm import build_model_app; from serve.profile import load_profile;"
        "app = build_model_app(load_profile('smollm2-135m'), '/weights');"
        "print(sorted({'vllm', 'torch', 'transformers', 'ray.llm'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
