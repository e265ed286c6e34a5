"""Which model the settings ask for, and whether there is room for it."""

from collections.abc import Iterable, Mapping

import structlog

from cluster.errors import ModelDoesNotFit
from cluster.gpus import gpus_here, gpus_in
from cluster.settings import Settings
from serve.errors import UnknownProfile
from serve.fit import misfits
from serve.profile import ModelProfile, load_profile
from serve.scripted import engine
from serve.weights import PACKAGE
from serve.weights_digest import local_folder, weights_digest

log = structlog.get_logger()


def profile_of(settings: Settings) -> ModelProfile:
    """The model profile that the settings ask for.

    Raises:
        UnknownProfile: there is none of that name.
    """
    profile = load_profile(
        settings.profile(),
        gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
        max_model_len=settings.vllm_max_model_len,
    )
    if profile.engine == "scripted":
        return profile.model_copy(update={"delay_s": settings.scripted_delay_s})
    return profile


def serving_weights(settings: Settings) -> dict[str, str]:
    """The digest of the weights that the settings would serve, by the model's name.

    Without what is not on this machine. Blocks while it reads what was changed.
    """
    try:
        profile = profile_of(settings)
    except UnknownProfile:
        return {}
    if profile.engine == "scripted":
        return {profile.served_name: engine().weights}
    prepared = settings.located_home().models / profile.name
    folder = local_folder(str(prepared) if profile.weights == PACKAGE else profile.weights)
    return {} if folder is None else {profile.served_name: weights_digest(folder)}


def refuse_misfit(profile: ModelProfile) -> None:
    """Return if this machine has room for the model.

    Raises:
        ModelDoesNotFit: it has none; the message says why.
    """
    reasons = misfits(profile, gpus_here()) if profile.accelerator == "gpu" else ()
    if reasons:
        raise ModelDoesNotFit(" ".join(reasons))


def warn_of_misfit(profile: ModelProfile, nodes: Iterable[Mapping[str, object]]) -> None:
    """Log why a Ray cluster, as `ray.nodes()` shows it, has no room yet: it may grow."""
    for reason in misfits(profile, gpus_in(nodes)):
        log.warning("model.waits_for_gpus", profile=profile.name, reason=reason)
