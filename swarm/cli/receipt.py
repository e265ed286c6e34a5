"""`swarm receipt`: ask for an answer again, and say whether it is the one in the log."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer
from pydantic import JsonValue

from actors.equipment import Equipment
from actors.errors import CannotCheck, UnknownRole
from actors.model import ModelRequest
from actors.recheck import (
    Rebuilt,
    Recorded,
    difference,
    engine_changes,
    is_same_model,
    question_of,
    recorded_in,
)
from actors.roles import RoleSpec, role_spec
from actors.step_agent import StepAgent
from actors.team import AGENTS
from actors.tool import Tool
from cluster.application import application_of, bundle_of, servers_of, workers_of
from cluster.recalled import recalled_text
from cluster.settings import Settings
from policies.capabilities import Capabilities
from serve.fingerprint import Origin, origin_of
from serve.inference import chat_request
from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.reading import find_answer, observed_log, read_run
from swarm.cli.show import harmless, printer
from swarm.client import AsyncSwarm

MATCH: Final = 0
DIFFERS: Final = 1
EventId = Annotated[
    str, typer.Argument(metavar="EVENT", help="The event that holds the answer: id or place.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What came of asking again.

    Attributes:
        changes: what is different in who answers, each as a line.
        same_model: whether nothing shows that another model answers under the name.
        again: where the answer differs, asked as it was; empty for a match.
        greedy: the same at temperature 0; None where it was asked so in the first place.
    """

    recorded: Recorded
    origin: Origin
    changes: tuple[str, ...]
    same_model: bool
    again: str
    greedy: str | None

    @property
    def is_match(self) -> bool:
        """Whether the same model gave the same answer to the byte."""
        return self.same_model and not self.again


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(receipt)


def receipt(event: EventId, *, as_json: Json = False) -> int:
    """Ask the model again for an answer in the log, and compare: 0 match, 1 differs, 2 cannot.

    The prompt is built anew from the log and checked against the receipt. The model is asked as
    it was, with the same seed, and at temperature 0 besides.
    """
    return asyncio.run(_receipt(event, as_json=as_json))


async def _receipt(name: str, *, as_json: bool) -> int:
    settings = Settings.load()
    async with observed_log(settings) as log:
        run, event_id = await find_answer(log, settings, name)
        recorded = recorded_in(await read_run(log, settings, run), event_id)
    memory = await recalled_text(settings, run, recorded.recalled)
    agent = _agent_of(recorded.assigned.role, settings)
    spec = _spec_of(recorded, agent)
    rebuilt = question_of(recorded, spec, memory, await _tools_of(agent, settings))
    check = await _check(recorded, spec, rebuilt)
    if as_json:
        print_json(document_of(check))
    else:
        _show(check)
    return MATCH if check.is_match else DIFFERS


def _agent_of(role: str, settings: Settings) -> type[StepAgent]:
    """What answers for a role, the user's own agents included.

    Raises:
        CannotCheck: there is no such agent here that asks a model.
    """
    source = None if role in AGENTS else application_of(settings)
    own = source.load().agent_of(role) if source else None
    agent = AGENTS.get(role, own)
    if agent is None or not issubclass(agent, StepAgent):
        raise CannotCheck(f"the agents of role {role} are not known here")
    return agent


def _spec_of(recorded: Recorded, agent: type[StepAgent]) -> RoleSpec:
    """The task of who answered.

    Raises:
        CannotCheck: it is known no more.
    """
    assigned = recorded.assigned
    try:
        return agent.task or role_spec(assigned.role, assigned.step)
    except UnknownRole as error:
        raise CannotCheck(f"nobody here does the step {assigned.step}") from error


async def _tools_of(agent: type[StepAgent], settings: Settings) -> tuple[Tool, ...]:
    """The tools that such an agent is given here; MCP servers are asked for theirs."""
    equipment = Equipment(code=settings.code_tool, servers=servers_of(settings))
    policy = Capabilities.of(bundle_of(settings), workers_of(settings))
    return (await equipment.toolbox(agent, policy)).tools


async def _check(recorded: Recorded, spec: RoleSpec, rebuilt: Rebuilt) -> Check:
    """Ask again, twice where the answer was not asked for at temperature 0.

    Raises:
        CannotCheck: it was or is not the swarm's own engine.
    """
    kept = recorded.receipt
    if kept.provider:
        raise CannotCheck(f"the provider {kept.provider} gave the answer, not this swarm's engine")
    request = rebuilt.request

    def differs(text: str) -> str:
        return difference(recorded, spec, text, with_tools=rebuilt.with_tools)

    async with await local_swarm() as swarm:
        text, origin = await _ask(swarm, recorded, request)
        greedy = None
        if request.temperature:
            cold, _ = await _ask(swarm, recorded, replace(request, temperature=0.0))
            greedy = differs(cold)
    return Check(
        recorded=recorded,
        origin=origin,
        changes=engine_changes(kept, origin.engine),
        same_model=is_same_model(kept, origin.engine),
        again=differs(text),
        greedy=greedy,
    )


async def _ask(swarm: AsyncSwarm, recorded: Recorded, request: ModelRequest) -> tuple[str, Origin]:
    reply = await swarm.chat(
        [{"role": one.role, "content": one.content} for one in request.messages],
        model=recorded.outcome.model,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        response_format=chat_request(request).get("response_format"),
    )
    origin = origin_of(reply.fingerprint)
    if origin.provider:
        raise CannotCheck(f"the swarm's own engine is down: {origin.provider} answers in its place")
    return reply.text, origin


def document_of(check: Check) -> dict[str, JsonValue]:
    """A check as `--json` prints it."""
    event, outcome = check.recorded.event, check.recorded.outcome
    now = check.origin.engine
    engine: Mapping[str, JsonValue] = {
        "engine": now.name,
        "version": now.version,
        "weights": now.weights,
    }
    return {
        "event": event.event.id,
        "run": event.event.run,
        "step": outcome.step,
        "model": outcome.model,
        "match": check.is_match,
        "same_model": check.same_model,
        "receipt": check.recorded.receipt.model_dump(mode="json"),
        "digests": check.recorded.digests.model_dump(mode="json"),
        "now": dict(engine),
        "changes": list(check.changes),
        "again": check.again,
        "at_temperature_0": check.greedy,
    }


def _show(check: Check) -> None:
    out, recorded, kept = printer(), check.recorded, check.recorded.receipt
    event, outcome = recorded.event.event, recorded.outcome
    engine = f"{kept.engine} {kept.version}".strip() or "an engine that did not say"
    out.print(harmless(f"Event {event.id}: step {outcome.step} of run {event.run}"))
    out.print(harmless(f"  model          {outcome.model}, by {engine}"))
    out.print(f"  weights        {kept.weights or 'not known'}")
    out.print(
        f"  asked          temperature {kept.temperature:g}, seed {kept.seed}, "
        f"at most {kept.max_tokens} tokens"
    )
    out.print(f"  prompt         {recorded.digests.prompt}, built again from the log")
    for change in check.changes:
        out.print(harmless(f"  changed        {change}"))
    out.print(harmless(f"  asked again    {_word(check.again)}"))
    if check.greedy is not None:
        out.print(harmless(f"  temperature 0  {_word(check.greedy)}"))
    if not check.same_model:
        out.print("differs: another model answers under this name")
    else:
        out.print("match" if check.is_match else "differs")


def _word(difference: str) -> str:
    return f"differs: {difference}" if difference else "match"
