"""`swarm users` and `swarm api-keys`."""

import asyncio
from typing import Annotated

import typer

from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer, show_table
from swarm.errors import NotFound
from swarm.people import DEFAULT_DAYS, ApiKey, UserAccount, UserRole

users = typer.Typer(help="People who may use the swarm.", no_args_is_help=True)
api_keys = typer.Typer(help="Keys for programs that act in your name.", no_args_is_help=True)

Username = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleOption = Annotated[UserRole, typer.Option("--role", help="admin, user or viewer.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whom the user belongs with.")]
Password = Annotated[
    str,
    typer.Option(
        "--password",
        prompt=True,
        hide_input=True,
        confirmation_prompt=True,
        help="Asked for where it is left out, which keeps it out of the shell's history.",
    ),
]
Scopes = Annotated[
    list[str], typer.Option("--scope", help="A permission that the key has; may be repeated.")
]
Days = Annotated[int, typer.Option("--days", help="Until the key expires; at most 365.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As in: swarm api-keys list.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(users, name="users")
    app.add_typer(api_keys, name="api-keys")


@users.command(name="list")
def list_users(*, as_json: Json = False) -> None:
    """Show every user."""
    found = asyncio.run(_users())
    if as_json:
        print_json([user.model_dump(mode="json") for user in found])
        return
    rows = [
        (
            user.username,
            user.role,
            user.tenant,
            "disabled" if user.disabled else "",
            f"{user.created_at:%Y-%m-%d %H:%M:%S}",
            user.id,
        )
        for user in found
    ]
    show_table(("name", "role", "tenant", "", "made", "id"), rows, "No users.")


@users.command(name="add")
def add_user(
    username: Username, *, password: Password, role: RoleOption = "user", tenant: Tenant = "default"
) -> None:
    """Make a user."""

    async def make() -> UserAccount:
        async with await local_swarm() as swarm:
            return await swarm.people.create_user(username, password, role=role, tenant=tenant)

    _say(asyncio.run(make()))


@users.command(name="role")
def change_role(
    username: Username, role: Annotated[UserRole, typer.Argument(help="admin, user or viewer.")]
) -> None:
    """Give a user another role; it holds within seconds."""
    _say(asyncio.run(_change(username, role=role)))


@users.command()
def disable(username: Username) -> None:
    """Bar a user: their sessions end, their keys do not work."""
    _say(asyncio.run(_change(username, disabled=True)))


@users.command()
def enable(username: Username) -> None:
    """Let a user in again."""
    _say(asyncio.run(_change(username, disabled=False)))


@api_keys.command(name="list")
def list_keys(*, as_json: Json = False) -> None:
    """Show your keys that are in force."""
    found = asyncio.run(_keys())
    if as_json:
        print_json([key.model_dump(mode="json", exclude={"key"}) for key in found])
        return
    rows = [
        (
            key.name,
            key.prefix,
            ", ".join(key.scopes),
            f"{key.expires_at:%Y-%m-%d}",
            f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
            key.id,
        )
        for key in found
    ]
    show_table(("name", "prefix", "scopes", "expires", "used", "id"), rows, "No API keys.")


@api_keys.command(name="create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For you to tell the key by.")],
    *,
    scope: Scopes,
    days: Days = DEFAULT_DAYS,
) -> None:
    """Make a key and print it, once."""

    async def make() -> ApiKey:
        async with await local_swarm() as swarm:
            return await swarm.people.create_api_key(name, scope, expires_in_days=days)

    key = asyncio.run(make())
    printer(to_stderr=True).print(
        harmless(f"{key.name} may {', '.join(key.scopes)} until {key.expires_at:%Y-%m-%d}.")
    )
    typer.echo(key.key)


@api_keys.command()
def revoke(key_id: KeyId) -> None:
    """Put a key out of force."""

    async def end() -> None:
        async with await local_swarm() as swarm:
            await swarm.people.revoke_api_key(key_id)

    asyncio.run(end())
    printer().print(harmless(f"{key_id} is not in force any more."))


async def _users() -> tuple[UserAccount, ...]:
    async with await local_swarm() as swarm:
        return await swarm.people.users()


async def _keys() -> tuple[ApiKey, ...]:
    async with await local_swarm() as swarm:
        return await swarm.people.api_keys()


async def _change(
    username: str, *, role: UserRole | None = None, disabled: bool | None = None
) -> UserAccount:
    async with await local_swarm() as swarm:
        for user in await swarm.people.users():
            if user.username.casefold() == username.casefold():
                return await swarm.people.change_user(user.id, role=role, disabled=disabled)
    raise NotFound(f"There is no user named {username}.")


def _say(user: UserAccount) -> None:
    standing = ", disabled" if user.disabled else ""
    printer().print(harmless(f"{user.username}: {user.role} of {user.tenant}{standing}"))
