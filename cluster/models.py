"""Which models the settings ask for, and whether there is room for it."""

from collections.abc import Iterable, Mapping, Sequence

import structlog

from cluster.errors import ConfigurationError, ModelDoesNotFit
from cluster.gpus import gpus_here, gpus_in
from cluster.settings import Settings
from serve.errors import UnknownProfile
from serve.fit import misfits_together
from serve.profile import ModelProfile, load_profile
from serve.scripted import engine
from serve.weights import PACKAGE
from serve.weights_digest import local_folder, weights_digest

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


def embedder_of(settings: Settings) -> ModelProfile:
    """The profile of the model that turns texts into vectors.

    What the settings override of a model that writes is not asked of it.

    Raises:
        UnknownProfile: there is none of that name.
        ConfigurationError: it embeds nothing.
    """
    profile = load_profile(settings.embedder())
    if profile.task != "embed":
        raise ConfigurationError(
            f"SWARM_EMBEDDING_PROFILE cannot name {profile.name}: it embeds nothing."
        )
    return profile


def _profile(settings: Settings, name: str) -> ModelProfile:
    profile = load_profile(
        name,
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
        profiles = profiles_of(settings)
    except (UnknownProfile, ConfigurationError):
        return {}
    found = ((profile.served_name, _weights_of(profile, settings)) for profile in profiles)
    return {name: digest for name, digest in found if digest}


def _weights_of(profile: ModelProfile, settings: Settings) -> str:
    """Empty for what is not on this machine."""
    if profile.engine == "scripted":
        return engine().weights
    prepared = settings.located_home().models / profile.name
    folder = local_folder(str(prepared) if profile.weights == PACKAGE else profile.weights)
    return "" if folder is None else weights_digest(folder)


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
