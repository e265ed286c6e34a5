"""Which models the settings ask for, and whether there is room for it."""

from collections.abc import Iterable, Mapping, Sequence

import structlog

from cluster.errors import ConfigurationError, ModelDoesNotFit
from cluster.gpus import gpus_here, gpus_in
from cluster.settings import Settings
from serve.fit import misfits_together
from serve.profile import ModelProfile, load_profile

log = structlog.get_logger()


def profiles_of(settings: Settings) -> tuple[ModelProfile, ...]:
    """The profiles of the agents' models: the one for everybody, then those of single roles.

    Raises:
        UnknownProfile: there is none of that name.
        ConfigurationError: one writes no texts, or two would be served under one name.
    """
    names = (settings.profile(), *settings.further_profiles())
    profiles = tuple(_profile(settings, name) for name in names)
    served = [profile.served_name for profile in profiles]
    for profile in profiles[1:]:
        if profile.task != "generate" or served.count(profile.served_name) > 1:
            why = "embeds" if profile.task != "generate" else "has the name of another model"
            raise ConfigurationError(f"SWARM_ROLE_MODELS cannot name {profile.name}: it {why}.")
    return profiles


def _profile(settings: Settings, name: str) -> ModelProfile:
    profile = load_profile(
        name,
        gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
        max_model_len=settings.vllm_max_model_len,
    )
    if profile.engine == "scripted":
        return profile.model_copy(update={"delay_s": settings.scripted_delay_s})
    return profile


def refuse_misfit(profiles: Sequence[ModelProfile]) -> None:
    """Return if this machine has room for the models.

    Raises:
        ModelDoesNotFit: it has none; the message says why.
    """
    on_gpus = any(profile.accelerator == "gpu" for profile in profiles)
    reasons = misfits_together(profiles, gpus_here()) if on_gpus else ()
    if reasons:
        raise ModelDoesNotFit(" ".join(reasons))


def warn_of_misfit(profiles: Sequence[ModelProfile], nodes: Iterable[Mapping[str, object]]) -> None:
    """Log why a Ray cluster, as `ray.nodes()` shows it, has no room yet: it may grow."""
    for reason in misfits_together(profiles, gpus_in(nodes)):
        log.warning("model.waits_for_gpus", reason=reason)
