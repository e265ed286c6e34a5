"""`swarm policy check`, `test`, `diff` and `show`."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from bus.errors import SwarmError
from bus.event import StoredEvent
from bus.log import EventLog
from bus.subjects import ALL_EVENTS
from cluster.application import bundle_of, workers_of
from cluster.control import read_state
from cluster.errors import NotRunning
from cluster.settings import Settings
from policies.action import decide
from policies.capabilities import Capabilities
from policies.difference import Change, compare, would_refuse
from policies.errors import InvalidAction, PolicyNotUsable
from policies.explain import explain, explain_people
from policies.source import MAX_SOURCE_BYTES
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.reading import observed_log
from swarm.cli.show import complain, harmless, printer

ALLOWED = 0
DENIED = 1
SHIPPED: Final = "shipped"
CURRENT: Final = "current"
_MARKS: Final = {"gained": "+", "lost": "-", "changed": "~"}

Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A YAML file, or `shipped`.")]
Old = Annotated[
    str, typer.Argument(metavar="OLD", help="A file, `shipped`, or `current`: the one in force.")
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The same.")]
Role = Annotated[str, typer.Option("--role", help="Who would act.")]
Action = Annotated[
    str,
    typer.Option(
        "--action",
        help="'publish KIND', 'call model:NAME', 'call tool:NAME', 'memory read|write NAMESPACE', "
        "'spend tokens|requests|cost:NUMBER', 'work', 'read', 'unseal' or 'provision'.",
    ),
]
From = Annotated[
    str, typer.Option("--bundle", help="A file, or `shipped`; the one in force if left out.")
]
OfRun = Annotated[str, typer.Option("--run", help="The run it would act for: {run} in a rule.")]
AgainstLog = Annotated[
    bool, typer.Option("--against-log", help="List the recorded events that NEW would refuse.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldRefuse:
    """An event of the log that a policy would refuse."""

    stream_sequence: int
    run: str
    type: str
    source: str
    reason: str


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        name="policy", help="What each role of the swarm may do.", no_args_is_help=True
    )
    group.command(name="check")(check)
    group.command(name="test")(try_action)
    group.command(name="diff")(diff)
    group.command(name="show")(show)
    app.add_typer(group)


def check(bundle: Bundle, *, as_json: Json = False) -> int:
    """Say whether a bundle can be put in force, and what each role may do under it."""
    try:
        policy = _read(bundle)
    except PolicyNotUsable as error:
        if as_json:
            print_json({"usable": False, "problems": str(error).splitlines()})
        else:
            complain(str(error), error.hint)
        return DENIED
    if as_json:
        print_json({"usable": True, **_document(policy)})
    else:
        _explain(policy)
    return ALLOWED


def try_action(
    *, role: Role, action: Action, bundle: From = CURRENT, run: OfRun = "", as_json: Json = False
) -> int:
    """Say whether a role may do something, and by which rule; the exit code is 0 if it may."""
    policy = _read(bundle)
    try:
        decision = decide(policy, role, action, run=run)
    except InvalidAction as error:
        raise typer.BadParameter(f"{error}. {error.hint}") from error
    if as_json:
        print_json({"role": role, "action": action, **asdict(decision), "digest": policy.digest})
    else:
        word = "allowed" if decision.allowed else "denied"
        reason = f"  ({decision.reason})" if decision.reason else ""
        printer().print(harmless(f"{word}  {decision.rule}{reason}"))
    return ALLOWED if decision.allowed else DENIED


def diff(old: Old, new: New, *, against_log: AgainstLog = False, as_json: Json = False) -> int:
    """List what NEW allows and OLD does not, and the other way round."""
    before, after = _read(old), _read(new)
    changes = compare(before, after)
    refused = asyncio.run(_refused(after)) if against_log else None
    if as_json:
        document: dict[str, object] = {
            "old": before.digest,
            "new": after.digest,
            "changes": [asdict(change) for change in changes],
        }
        if refused is not None:
            document["refused"] = [asdict(each) for each in refused]
        print_json(document)
    else:
        _show_changes(changes)
        if refused is not None:
            _show_refused(refused)
    return DENIED if refused else ALLOWED


def show(*, as_json: Json = False) -> None:
    """Print the policy in force, with its digest; if no swarm runs, the one for its next start."""
    policy, is_in_force = _current()
    if as_json:
        print_json({"in_force": is_in_force, **_document(policy)})
        return
    printer().print("in force" if is_in_force else "for the next start: no swarm is running")
    _explain(policy)


def _read(name: str) -> Capabilities:
    """A policy by name or file, for the roles of the user's own agents as well.

    Raises:
        PolicyNotUsable: there is no such file, or it is no bundle; problems with their lines.
    """
    if name == CURRENT:
        return _current()[0]
    text = ""
    if name != SHIPPED:
        try:
            text = Path(name).read_bytes()[: MAX_SOURCE_BYTES + 1].decode()
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyNotUsable(f"{name} cannot be read: {error}") from error
        if not text.strip():
            raise PolicyNotUsable(f"{name} is empty")
    return Capabilities.of(text, _workers())


def _workers() -> tuple[str, ...]:
    """The roles of the user's own agents: those of the swarm that runs, else of the settings."""
    settings = Settings.load()
    with suppress(NotRunning):
        return read_state(settings).workers
    return workers_of(settings)


def _current() -> tuple[Capabilities, bool]:
    """The policy in force, or the one that a start would put in force; and which it is."""
    settings = Settings.load()
    try:
        document = asyncio.run(_in_force(settings))
    except NotRunning:
        return Capabilities.of(bundle_of(settings), workers_of(settings)), False
    return Capabilities(document.encode()), True


async def _in_force(settings: Settings) -> str:
    async with observed_log(settings) as log:
        rules = await log.policy_in_force()
    if rules is None:
        raise NotRunning("No policy was adopted yet.")
    return rules.document


async def _refused(policy: Capabilities) -> list[WouldRefuse]:
    async with observed_log(Settings.load()) as log:
        return await refused_in(log, policy)


async def refused_in(log: EventLog, policy: Capabilities) -> list[WouldRefuse]:
    """Every accepted event of the log that the policy would refuse, in the order of the log.

    Raises:
        BusUnreachable: the broker went away.
    """
    found = []
    async with aclosing(log.read(ALL_EVENTS)) as events:
        async for received in events:
            if not isinstance(received, StoredEvent):
                continue
            try:
                reason = would_refuse(policy, received)
            except SwarmError as error:
                reason = str(error)
            if reason is not None:
                event = received.event
                found.append(
                    WouldRefuse(
                        stream_sequence=received.stream_sequence,
                        run=event.run,
                        type=event.type,
                        source=event.source,
                        reason=reason,
                    )
                )
    return found


def _document(policy: Capabilities) -> dict[str, object]:
    return {
        "digest": policy.digest,
        "document": policy.document,
        "roles": {role: list(explain(policy, role)) for role in policy.roles},
        "people": list(explain_people(policy.people)),
    }


def _explain(policy: Capabilities) -> None:
    out = printer()
    out.print(f"policy {policy.digest}")
    for role in policy.roles:
        out.print(f"\n{role}")
        for sentence in explain(policy, role):
            out.print(f"  {sentence}")
    out.print("\npeople")
    for sentence in explain_people(policy.people):
        out.print(f"  {harmless(sentence)}")
    for model, price in policy.prices.items():
        cost = f"{price.prompt} read and {price.completion} written"
        out.print(f"\n{model} costs {cost}, in millionths for 1,000 tokens")


def _show_changes(changes: tuple[Change, ...]) -> None:
    out = printer()
    for change in changes:
        kind: Literal["gained", "lost", "changed"] = change.kind
        out.print(f"{_MARKS[kind]} {change.role or 'prices':<12} {change.what}")
    if not changes:
        out.print("Both allow the same.")


def _show_refused(refused: list[WouldRefuse]) -> None:
    out = printer()
    out.print(f"\nRecorded events that the new one would refuse: {len(refused)}")
    for each in refused:
        line = f"  {each.stream_sequence:>8} {each.run} {each.source} {each.type}  {each.reason}"
        out.print(harmless(line))
