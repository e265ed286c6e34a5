"""`swarm creds`: what a person's own tools need: a NATS credentials file, the log's public key."""

import asyncio
from datetime import timedelta
from typing import Annotated, Final
from uuid import uuid4

import typer

from actors.authority import acting_authority
from actors.member import Enrolment
from bus.identity import Credential, credentials_file
from bus.nkey import AgentKey
from cluster.assembly import authority
from cluster.control import read_state
from cluster.home import open_home
from cluster.log_access import domain_of
from cluster.log_key import log_verifier_key
from cluster.people import enrolment_secret_file
from cluster.settings import Settings
from cluster.tenants import tenant_credential
from swarm.cli.reading import OBSERVER
from swarm.cli.show import harmless, printer

LIFE: Final = timedelta(hours=12)
"""A person's own tool does not renew its credential: it has a working day."""

creds = typer.Typer(help="NATS credentials for your own tools.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(creds, name="creds")


@creds.command(name=OBSERVER)
def observer(
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Let it read the runs of one tenant only.")
    ] = None,
) -> None:
    """Print a .creds file of an identity that may read events and publish none.

    It counts for twelve hours. That of a tenant is in an account of its own on the broker;
    standard error tells the names that its consumers may have, and its inbox.
    """
    if tenant is None:
        typer.echo(asyncio.run(_observer(Settings.load())), nl=False)
        return
    made = asyncio.run(tenant_credential(Settings.load(), tenant, ttl=LIFE))
    note = printer(to_stderr=True)
    note.print(harmless(f"consumers      {', '.join(made.consumers)}"))
    note.print(harmless(f"inbox prefix   {made.inbox}"))
    note.print(harmless(f"subjects       {made.subjects}"))
    typer.echo(credentials_file(made.credential, made.key), nl=False)


@creds.command(name="log-key")
def log_key() -> None:
    """Print the audit log's origin and verifier key: what a witness of it is started with.

    Works before the first start too, so that the witness can be there first.
    """
    key = log_verifier_key(open_home(Settings.load().home))
    typer.echo(f"--origin {key.name} --log-key {key}")


async def _observer(settings: Settings) -> str:
    home = settings.located_home()
    state = read_state(settings)
    root = authority(home)
    domain = domain_of(state, root)
    secret = enrolment_secret_file(home).read_bytes().strip()
    key = AgentKey.generate()
    name = f"{OBSERVER}-{uuid4().hex[:8]}"
    acting = f"authority-{uuid4().hex[:8]}"
    async with acting_authority(root, secret, domain, acting, ttl=LIFE) as registrar:
        jwt = await registrar.issue(Enrolment.grant(secret, OBSERVER, name), key.public)
    return credentials_file(Credential.parse(jwt), key)
