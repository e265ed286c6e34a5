"""`swarm models`: what can be served, what it needs, and whether it fits here."""

from dataclasses import asdict, dataclass

import typer
from rich.table import Table

from cluster.gpus import gpus_here
from cluster.models import embedder_of, profiles_of
from cluster.settings import GiB, Settings
from serve.fit import GpuNode, gpu_need, misfits, misfits_together
from serve.profile import ModelProfile, load_profile, profile_names
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import printer


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A profile as it is listed.

    Attributes:
        weights: where they come from; empty for what has none.
        gpus: that all replicas together need at least.
        gpu_bytes: that each of these must give.
        misfits: why it does not fit on this machine; none if it does.
    """

    profile: str
    weights: str
    gpus: int
    gpu_bytes: int
    misfits: tuple[str, ...]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(models)


def models(*, as_json: Json = False) -> None:
    """List the model profiles, the GPUs that each needs, and whether this machine has them."""
    nodes = gpus_here()
    offers = [_offer(load_profile(name), nodes) for name in profile_names()]
    if as_json:
        print_json([asdict(offer) for offer in offers])
        return
    settings = Settings.load()
    chosen = {settings.profile(), settings.embedder(), *settings.further_profiles()}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "profile", "GPUs", "each", "here", "weights"):
        table.add_column(column, justify="right" if column in ("GPUs", "each") else "left")
    for offer in offers:
        each = f"{offer.gpu_bytes / GiB:.1f} GiB" if offer.gpus else ""
        fits = "no" if offer.misfits else "fits"
        mark = "*" if offer.profile in chosen else ""
        table.add_row(mark, offer.profile, str(offer.gpus or ""), each, fits, offer.weights)
    out = printer()
    out.print(table)
    for offer in offers:
        for reason in offer.misfits:
            out.print(f"  {reason}")
    served = (*profiles_of(settings), embedder_of(settings))
    on_gpus = [profile for profile in served if profile.accelerator == "gpu"]
    if len(on_gpus) > 1:
        together = misfits_together(on_gpus, nodes)
        if together:
            out.print("Those that were chosen (*) do not fit beside each other:")
        for reason in together:
            out.print(f"  {reason}")


def _offer(profile: ModelProfile, nodes: tuple[GpuNode, ...]) -> Offer:
    on_gpus = profile.accelerator == "gpu"
    need = gpu_need(profile, profile.shape).total if on_gpus and profile.shape else 0
    return Offer(
        profile=profile.name,
        weights=profile.weights,
        gpus=profile.accelerators * profile.least_replicas if on_gpus else 0,
        gpu_bytes=need,
        misfits=misfits(profile, nodes),
    )
