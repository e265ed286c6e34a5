"""Whether a model fits on the GPUs that there are, before anything is started. Pure.

What a GPU needs is its part of the weights, the keys and values of one answer of full length,
and an allowance for what vLLM takes besides. That is the least with which the engine starts;
whatever is left over is room for more answers at once. An encoder keeps no keys and values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from serve.profile import ModelProfile, ModelShape

_GIB: Final = 1024**3
RESERVE_BYTES: Final = 2 * _GIB
"""For CUDA's context, captured graphs and activations: an allowance, not a measurement."""
_NUMBER_BYTES: Final = {"float32": 4.0}
_QUANTIZED_BYTES: Final = {"fp8": 1.0, "awq": 0.6, "gptq": 0.6, "awq_marlin": 0.6}
"""Of a number of the weights; four bits, with their scales, take 0.6 bytes."""
_HALF_BYTES: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNode:
    """The GPUs of one machine, which are all alike.

    Attributes:
        name: of the machine.
        count: GPUs that may be used.
        memory_bytes: of each; None where nobody can say.
        kind: as Ray names it, such as `A100`; None where nobody can say.
    """

    name: str
    count: int
    memory_bytes: int | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeed:
    """Bytes that each GPU of a replica must have to give."""

    weights: int
    cache: int
    reserve: int = RESERVE_BYTES

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.reserve


def gpu_need(profile: ModelProfile, shape: ModelShape) -> GpuNeed:
    """What one GPU needs of a profile.

    Keys and values follow the layers over the stages of the pipeline, and the heads over the
    GPUs of a stage, as far as there are heads for them (Kwon et al. 2023, section 4.6).
    """
    number = _NUMBER_BYTES.get(profile.dtype, _HALF_BYTES)
    stored = _QUANTIZED_BYTES.get(profile.quantization or "", number)
    heads = math.ceil(shape.kv_heads / profile.tensor_parallel)
    layers = math.ceil(shape.layers / profile.pipeline_parallel)
    cache = 2 * layers * heads * shape.head_size * number * profile.max_model_len
    weights = shape.parameters * stored / profile.accelerators
    return GpuNeed(weights=math.ceil(weights), cache=math.ceil(cache))


def misfits(profile: ModelProfile, nodes: Sequence[GpuNode]) -> tuple[str, ...]:
    """Why the profile cannot run on these nodes: sentences, none if it can."""
    if profile.accelerator != "gpu" or profile.shape is None:
        return ()
    if not any(node.count for node in nodes):
        return (f"{profile.name} needs {_gpus(profile.accelerators)}; none was found.",)
    wanted = profile.accelerator_type
    right = [n for n in nodes if wanted is None or n.kind in (None, wanted)]
    if not right:
        kinds = ", ".join(sorted({str(node.kind) for node in nodes}))
        return (f"{profile.name} asks for GPUs of kind {wanted}; found: {kinds}.",)
    need = gpu_need(profile, profile.shape)
    share = profile.gpu_memory_utilization or 1.0
    roomy = [node for node in right if _suits(profile, node)]
    if not roomy:
        return (_too_small(profile, need, right, share),)
    return _too_few(profile, roomy)


def misfits_together(profiles: Sequence[ModelProfile], nodes: Sequence[GpuNode]) -> tuple[str, ...]:
    """Why profiles that run at once cannot on these nodes; each GPU is given away once.

    The ones with most GPUs in one node come first, then those that need most of each. So they
    are placed here, to see whether there is room; Ray may place them otherwise.
    """
    reasons: list[str] = []
    left = tuple(nodes)
    placed: list[str] = []
    for profile in sorted(profiles, key=_size, reverse=True):
        found = misfits(profile, left)
        beside = f" GPUs that {', '.join(placed)} takes are not counted." if placed else ""
        reasons += [f"{reason}{beside}" for reason in found]
        if not found and profile.accelerator == "gpu":
            left = _without(profile, left)
            placed.append(profile.name)
    return tuple(reasons)


def _without(profile: ModelProfile, nodes: Sequence[GpuNode]) -> tuple[GpuNode, ...]:
    """The nodes with the GPUs that are left when the profile runs there."""
    size, groups = _group(profile)
    left = []
    for node in nodes:
        taken = min(groups, node.count // size) if _suits(profile, node) else 0
        groups -= taken
        left.append(replace(node, count=node.count - taken * size))
    return tuple(left)


def _suits(profile: ModelProfile, node: GpuNode) -> bool:
    """Whether the node's GPUs are of the right kind, and large enough."""
    wanted = profile.accelerator_type
    if profile.shape is None or (wanted is not None and node.kind not in (None, wanted)):
        return False
    share = profile.gpu_memory_utilization or 1.0
    need = gpu_need(profile, profile.shape).total
    return node.memory_bytes is None or node.memory_bytes * share >= need


def _too_small(profile: ModelProfile, need: GpuNeed, nodes: Sequence[GpuNode], share: float) -> str:
    largest = max(nodes, key=lambda node: node.memory_bytes or 0)
    have = (largest.memory_bytes or 0) * share
    what = "text" if profile.task == "embed" else "answer"
    cache = f" {_in_gib(need.cache)} for one {what} of {profile.max_model_len} tokens,"
    return (
        f"{profile.name} needs {_in_gib(need.total)} on each GPU:"
        f" {_in_gib(need.weights)} of weights,"
        f"{cache if need.cache else ''}"
        f" {_in_gib(need.reserve)} besides."
        f" The largest, on {largest.name}, gives {_in_gib(have)}"
        f" ({share:.0%} of {_in_gib(largest.memory_bytes or 0)})."
    )


def _too_few(profile: ModelProfile, nodes: Sequence[GpuNode]) -> tuple[str, ...]:
    """A stage of the pipeline stands in one node: its GPUs talk after each token."""
    size, groups = _group(profile)
    if sum(node.count // size for node in nodes) >= groups:
        return ()
    have = ", ".join(f"{node.name} has {node.count}" for node in nodes)
    often = f"{groups} time{'s' * (groups > 1)}"
    return (f"{profile.name} needs {_gpus(size)} in one node, {often}: {have}.",)


def _size(profile: ModelProfile) -> tuple[int, int]:
    need = 0 if profile.shape is None else gpu_need(profile, profile.shape).total
    return _group(profile)[0], need


def _group(profile: ModelProfile) -> tuple[int, int]:
    """How many GPUs stand in one node, and how often."""
    if profile.placement == "STRICT_PACK":
        return profile.accelerators, profile.least_replicas
    return profile.tensor_parallel, profile.pipeline_parallel * profile.least_replicas


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count > 1)}"


def _in_gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB"
