"""`swarm unit`: have the machine start the swarm."""

import sys
from pathlib import Path

import typer

from cluster.unit import Unit
from swarm.cli.lifecycle import Model, OwnApplication, settings_with


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(unit)


def unit(model: Model = None, application: OwnApplication = None) -> None:
    """Print a systemd unit that starts the swarm with the machine; it reads .env in this folder."""
    settings = settings_with(model, application)
    home = settings.located_home().root
    options = {"--model": settings.model_profile, "--application": settings.application}
    made = Unit(
        program=Path(sys.argv[0]).absolute(),
        arguments=[word for name, value in options.items() if value for word in (name, str(value))],
        folder=Path.cwd(),
        environment={"SWARM_HOME": str(home)},
        home=home,
    )
    typer.echo(made.text(), nl=False)
