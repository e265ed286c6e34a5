"""`swarm up`, `down`, `status`, `doctor`."""

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cluster import control, doctor, health
from cluster.application import application_of
from cluster.log_status import LogStatus, log_status
from cluster.settings import Settings
from cluster.state import State
from swarm.cli.show import printer, show_findings, show_progress, show_status

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str | None, typer.Option("--model", help="Model profile; default: by what the machine has.")
]

OwnApplication = Annotated[
    Path | None,
    typer.Option(
        "--application",
        metavar="FILE",
        help="Python file with workflows and agents of your own.",
        dir_okay=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (up, down, status, diagnose):
        app.command(name="doctor" if command is diagnose else None)(command)


def up(model: Model = None, application: OwnApplication = None) -> None:
    """Start a swarm on this machine; it goes on in the background."""
    settings = settings_with(model, application)
    application_of(settings)  # a mistake in it is told before anything starts
    asyncio.run(start(settings))


def down() -> None:
    """Stop the swarm; returns when no process of it is left."""
    asyncio.run(stop(Settings.load()))


def status(*, as_json: Json = False) -> int:
    """Show where the parts of the swarm are and whether each is healthy."""
    settings = Settings.load()
    state = control.read_state(settings)
    parts, log = asyncio.run(_ask(state, settings))
    parts = [*parts, log_part(state, log), *witness_parts(log)]
    if as_json:
        print_json({**status_document(state, parts), "log": log.document()})
    else:
        show_status(state, parts)
    return 0 if all(part.healthy for part in parts) else 1


async def _ask(state: State, settings: Settings) -> tuple[list[health.PartHealth], LogStatus]:
    return await asyncio.gather(health.check(state, settings), log_status(settings, state))


def log_part(state: State, log: LogStatus) -> health.PartHealth:
    """The log among the parts: how far it is audited, how much work waits, what is lost."""
    return health.PartHealth(
        name="log",
        address=state.addresses.nats,
        healthy=log.healthy,
        detail=log.describe(),
        latency_ms=log.latency_ms,
    )


def witness_parts(log: LogStatus) -> list[health.PartHealth]:
    """The witnesses among the parts: whether each cosigns what it is shown."""
    return [
        health.PartHealth(
            name=f"witness {witness.name}",
            address=witness.url,
            healthy=witness.healthy,
            detail=witness.detail,
            latency_ms=0.0,
        )
        for witness in log.witnesses
    ]


def diagnose() -> int:
    """Look for what would keep a swarm from starting here, and for what its log has lost."""
    findings = asyncio.run(doctor.diagnose(Settings.load()))
    show_findings(findings)
    return 0 if all(finding.ok for finding in findings) else 1


async def start(settings: Settings) -> State:
    """Start the swarm of these settings, showing each part as it comes up."""
    out = printer(to_stderr=True)
    out.print(f"Starting a swarm in {settings.located_home().root}, model {settings.profile()}")
    began = time.monotonic()
    state = await control.up(settings, show_progress)
    out.print(f"Ready after {time.monotonic() - began:.1f} s")
    out.print(f"  gateway    {state.addresses.gateway}")
    out.print(f"  dashboard  {state.addresses.ray_dashboard or 'that of your Ray cluster'}")
    return state


async def stop(settings: Settings) -> None:
    """Stop the swarm of these settings, showing each part as it ends."""
    out = printer(to_stderr=True)
    began = time.monotonic()
    await control.down(settings, show_progress)
    out.print(f"Stopped after {time.monotonic() - began:.1f} s")


def settings_with(model: str | None, application: Path | None = None) -> Settings:
    """The settings of this process, with another model profile or application if one is named."""
    settings = Settings.load()
    named = {"model_profile": model, "application": application and application.absolute()}
    return settings.model_copy(update={name: value for name, value in named.items() if value})


def status_document(state: State, parts: list[health.PartHealth]) -> dict[str, object]:
    """What `swarm status --json` prints: the state, and each part by name."""
    return {
        "phase": state.phase,
        "began": state.began.isoformat(),
        "healthy": all(part.healthy for part in parts),
        "parts": {
            part.name: {
                "address": part.address,
                "healthy": part.healthy,
                "detail": part.detail,
                "latency_ms": round(part.latency_ms, 1),
            }
            for part in parts
        },
        "versions": state.versions,
        "seconds": state.seconds,
    }


def print_json(document: object) -> None:
    """Print one JSON document to stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
