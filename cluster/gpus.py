"""Which GPUs there are: on this machine, as the driver says, or in a Ray cluster."""

import shutil
import subprocess  # nosec B404 - the driver's own tool, without a shell
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from cluster.settings import GiB, MiB, visible_gpus
from serve.fit import GpuNode

log = structlog.get_logger()

HERE: Final = "this machine"
_DEADLINE_S: Final = 10.0
_KIND: Final = "accelerator_type:"
_MEMORY_BYTES: Final = {
    kind: gib * GiB
    for kind, gib in {
        "T4": 16,
        "A10G": 24,
        "L4": 24,
        "A100-40G": 40,
        "L40S": 48,
        "A100-80G": 80,
        "H100": 80,
        "H20": 96,
        "H200": 141,
        "B200": 180,
    }.items()
}
"""Of the kinds that Ray names and of which there is one size (NVIDIA's data sheets)."""


def gpus_here(devices: Path = Path("/dev")) -> tuple[GpuNode, ...]:
    """The GPUs that this process may use; the smallest one's memory, where the driver says it."""
    found = len(list(devices.glob("nvidia[0-9]*")))
    visible = visible_gpus()
    if not found or visible == "":
        return ()
    sizes = _sizes(visible)
    if sizes:
        return (GpuNode(name=HERE, count=len(sizes), memory_bytes=min(sizes)),)
    count = found if visible is None else min(found, len(visible.split(",")))
    return (GpuNode(name=HERE, count=count),)


def gpus_in(nodes: Iterable[Mapping[str, object]]) -> tuple[GpuNode, ...]:
    """The GPUs of a Ray cluster, from what `ray.nodes()` gives."""
    found = []
    for node in nodes:
        resources = node.get("Resources")
        if not node.get("Alive") or not isinstance(resources, dict) or not resources.get("GPU"):
            continue
        kinds = sorted(str(name) for name in resources if str(name).startswith(_KIND))
        kind = kinds[-1].removeprefix(_KIND) if kinds else None  # `A100-80G` says more than `A100`
        found.append(
            GpuNode(
                name=str(node.get("NodeManagerHostname", "a node")),
                count=int(resources["GPU"]),
                memory_bytes=_MEMORY_BYTES.get(kind or ""),
                kind=kind,
            )
        )
    return tuple(found)


def _sizes(visible: str | None) -> Sequence[int]:
    """Bytes of each GPU; none where the driver's tool is missing or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    chosen = [] if visible is None else [f"--id={visible}"]
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits", *chosen]
    try:
        said = subprocess.run(  # noqa: S603  # nosec B603 - no shell, no input of a user's
            command, capture_output=True, text=True, timeout=_DEADLINE_S, check=True
        ).stdout
        return [int(line) * MiB for line in said.split()]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("gpus.size_unknown", reason=type(error).__name__)
        return ()
