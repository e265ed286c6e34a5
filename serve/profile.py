"""A model profile: which model is served, by what, on which hardware.

A profile is a YAML file in serve/profiles and names everything that decides how
a model runs, so that two people who name the same profile get the same model.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from serve.errors import UnknownProfile

_FOLDER = "profiles"
_SUFFIX = ".yaml"
_OWN_FIELDS: Final = {
    "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel",
}
_DATA_PARALLEL: Final = "data_parallel_"


class ModelShape(BaseModel):
    """What of a model's own configuration decides how much memory it takes.

    Attributes:
        parameters: how many numbers the weights are.
        layers: of the transformer.
        heads: attention heads of a layer; tensor parallelism deals them out.
        kv_heads: of these, how many keep keys and values; 0 of an encoder, which reads a text
            in one pass and keeps none.
        head_size: numbers in each of a head's keys and values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Annotated[int, Field(gt=0)]
    layers: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]
    kv_heads: Annotated[int, Field(ge=0)]
    head_size: Annotated[int, Field(gt=0)]


class Autoscaling(BaseModel):
    """Replicas that come and go with the load.

    Attributes:
        least: replicas that always run.
        most: replicas that may run.
        target_ongoing_requests: of each replica; above it another one is started.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: Annotated[int, Field(ge=1)] = 1
    most: Annotated[int, Field(ge=1)]
    target_ongoing_requests: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError("autoscaling: least must not be above most")
        return self


class ModelProfile(BaseModel):
    """How one model is served. Values are checked when the file is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    """What people call it; the stem of its file."""
    task: Literal["generate", "embed"] = "generate"
    """Whether it writes texts or turns them into vectors."""
    engine: Literal["vllm", "scripted", "transformers"]
    served_name: Annotated[str, Field(min_length=1)]
    """The model name that requests carry and answers show."""
    weights: str = ""
    """A hub id, a directory, or the name of a package that carries weights (serve/weights.py)."""
    accelerator: Literal["cpu", "gpu"] = "cpu"
    accelerator_type: str | None = None
    """A kind of GPU as Ray names it, such as `A100`; None takes any."""
    dtype: str = "auto"
    max_model_len: Annotated[int, Field(gt=0)] = 4096
    """Tokens of prompt and answer together; a text that is embedded is cut off there."""
    dimensions: Annotated[int, Field(gt=0)] | None = None
    """Of a vector, where texts are embedded."""
    batch: Annotated[int, Field(ge=1)] = 32
    """Texts that are embedded at once."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each GPU's memory that vLLM may take; None on CPU."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """GPUs, or on the CPU processes of one machine, that each layer is split over."""
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1
    """Groups of GPUs that the layers are dealt out to."""
    placement: Literal["PACK", "STRICT_PACK", "SPREAD"] = "PACK"
    """How the GPUs of a replica are chosen: on few nodes, on one node only, or on many."""
    quantization: str | None = None
    """Of the weights, as vLLM names it, such as `fp8`; None serves them as they are."""
    structured_outputs: Literal["xgrammar", "guidance", "outlines"] | None = None
    """What holds an answer to a schema; None leaves the choice to vLLM."""
    shape: ModelShape | None = None
    """Needed of a model on GPUs: whether it fits is worked out before anything is started."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Copies of the weights side by side, each with accelerators and a queue of its own: the
    data parallelism here (docs/adr/0032)."""
    autoscaling: Autoscaling | None = None
    """In place of a fixed number of replicas."""
    router: Literal["power-of-two", "prefix-aware"] | None = None
    """How a replica is chosen: the idler one of two, or the one that has read the beginning of
    the prompt before, while it is not much busier than the others. None takes the latter where
    vLLM may have several replicas."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 256
    """Requests one replica takes at once; more wait at their senders."""
    max_queued_requests: Annotated[int, Field(ge=1)] = 128
    """Requests that wait in one process, such as the gateway; more are refused as they come."""
    delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Scripted engine only: seconds that each answer takes."""
    engine_kwargs: Mapping[str, JsonValue] = Field(default_factory=dict)
    """Passed to vLLM's engine as they are; not how many accelerators it spans."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Environment of the replica and of the processes it starts."""

    @property
    def accelerators(self) -> int:
        """GPUs, or processes on the CPU, that one replica spans."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def least_replicas(self) -> int:
        """Replicas that run when nobody asks anything."""
        return self.autoscaling.least if self.autoscaling else self.replicas

    @property
    def prefix_aware(self) -> bool:
        """Whether a replica is chosen by what it has read before."""
        if self.router is not None:
            return self.router == "prefix-aware"
        most = self.autoscaling.most if self.autoscaling else self.replicas
        return (self.engine, self.task) == ("vllm", "generate") and most > 1

    @model_validator(mode="after")
    def _scales_one_way(self) -> Self:
        if self.autoscaling is not None and self.replicas != 1:
            raise ValueError("autoscaling stands in place of replicas: name one of them")
        return self

    @model_validator(mode="after")
    def _splits_evenly(self) -> Self:
        if self.shape is None:
            if self.accelerator == "gpu":
                raise ValueError("a GPU profile states the model's shape")
            return self
        if self.shape.heads % self.tensor_parallel:
            raise ValueError(f"tensor_parallel must divide the model's {self.shape.heads} heads")
        if self.pipeline_parallel > self.shape.layers:
            raise ValueError(f"pipeline_parallel is above the model's {self.shape.layers} layers")
        return self

    @model_validator(mode="after")
    def _counts_what_it_spans(self) -> Self:
        for name in self.engine_kwargs:
            if name in _OWN_FIELDS:
                raise ValueError(f"engine_kwargs: {name} is the profile's own {_OWN_FIELDS[name]}")
            if name.startswith(_DATA_PARALLEL):
                raise ValueError(
                    f"engine_kwargs: {name} is not served in one replica: use replicas, which are"
                    " data parallel: copies of the weights side by side"
                )
        return self

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.engine != "scripted" and not self.weights:
            raise ValueError("a profile of a model names its weights")
        if (self.task == "embed") != (self.dimensions is not None):
            raise ValueError("what embeds has dimensions, and nothing else has")
        if self.engine == "transformers" and (self.task, self.accelerator) != ("embed", "cpu"):
            raise ValueError("the engine transformers embeds, on the CPU")
        if self.task == "generate" and self.shape is not None and not self.shape.kv_heads:
            raise ValueError("what writes keeps keys and values: kv_heads is above 0")
        if self.task == "embed" and self.router == "prefix-aware":
            raise ValueError("what embeds keeps no prompt in cache: leave out the router")
        if self.accelerator == "cpu" and self.gpu_memory_utilization is not None:
            raise ValueError("gpu_memory_utilization needs accelerator: gpu")
        if self.accelerator == "cpu" and self.pipeline_parallel > 1:
            raise ValueError("a model on the CPU is split by tensor_parallel only")
        return self


def profile_names() -> list[str]:
    """The profiles that are shipped, in alphabetical order."""
    folder = resources.files("serve") / _FOLDER
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def load_profile(
    name: str,
    *,
    gpu_memory_utilization: float | None = None,
    max_model_len: int | None = None,
) -> ModelProfile:
    """Read the profile called `name`, with what the caller's settings override.

    Args:
        name: Stem of a file in serve/profiles.
        gpu_memory_utilization: Share of GPU memory in (0, 1]; a profile for CPU ignores it,
            since one environment may serve both.
        max_model_len: Tokens of prompt and answer together.

    Raises:
        UnknownProfile: No such file; the message names those there are.
        pydantic.ValidationError: An override is out of range.
    """
    known = profile_names()
    if name not in known:
        raise UnknownProfile(f"no model profile {name!r}; there are {', '.join(known)}")
    text = (resources.files("serve") / _FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
    values: dict[str, object] = {"name": name, **yaml.safe_load(text)}
    if max_model_len is not None:
        values["max_model_len"] = max_model_len
    if gpu_memory_utilization is not None and values.get("accelerator") == "gpu":
        values["gpu_memory_utilization"] = gpu_memory_utilization
    return ModelProfile.model_validate(values)
