"""A user's own workflows and agents, from a Python file of a few lines.

    from actors.application import Application, FunctionAgent, WorkflowSpec

    application = Application(agents=(...), workflows=(...))

The file is one module: it may import what is installed, not its neighbours, because its
text travels to the machines where the agents live.
"""

import hashlib
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel, JsonValue

from actors.agent import Agent
from actors.errors import ActorError, ApplicationNotUsable, InvalidRole, RoleTaken
from actors.function_agent import FunctionAgent
from actors.roles import RoleAnswer, RoleSpec
from actors.roles.role import MAX_TOKENS, Paragraph, Sentence
from actors.sparc import WORKFLOWS
from actors.step_agent import StepAgent
from actors.tool import PythonTool, Tool, tool
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.payloads import StepAssigned
from policies.capabilities import Capabilities, is_role_name

__all__ = [
    "Agent",
    "Application",
    "ApplicationSource",
    "FunctionAgent",
    "LoopSpec",
    "Paragraph",
    "PythonTool",
    "Role",
    "RoleAnswer",
    "Sentence",
    "StepAgent",
    "StepAssigned",
    "StepSpec",
    "Tool",
    "WorkflowSpec",
    "load_application",
    "tool",
]

NAME: Final = "application"
"""What the file must define."""
MAX_SOURCE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role that is played with a model: what the model is told, and the shape of its answer.

    Attributes:
        name: 1 to 64 small letters.
        prompt: the instructions; the fields of the answer are listed behind it.
        answer: its field order is the order in which the model writes.
        title: for people; the name if empty.
        max_tokens: the longest answer, in tokens.
        recalls: whether it is told what the memory holds about the objective.
        tools: what it may use, where the policy lets the role.
    """

    name: str
    prompt: str
    answer: type[BaseModel]
    title: str = ""
    max_tokens: int = MAX_TOKENS
    recalls: bool = False
    tools: tuple[Tool, ...] = ()

    def step(self, name: str, **limits: Any) -> StepSpec:
        """A step of this role; takes what `StepSpec` takes."""
        schema: dict[str, JsonValue] = self.answer.model_json_schema()
        return StepSpec(name=name, role=self.name, **{"answer_schema": schema, **limits})

    def agent(self) -> type[StepAgent]:
        """The class of agents that play it."""
        task = RoleSpec(
            name=self.name,
            task=self.name,
            title=self.title or self.name.capitalize(),
            answer=self.answer,
            prompt=self.prompt.strip(),
            max_tokens=self.max_tokens,
            recalls=self.recalls,
        )
        attributes = {"role": self.name, "task": task, "tools": self.tools}
        return type(self.name.capitalize(), (StepAgent,), attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """Workflows and agents besides those that come with the swarm.

    Workflows may use roles of both.

    Raises:
        InvalidRole: an agent has no role, or one that cannot be named so.
        RoleTaken: two agents have the same role, or one has a role of the swarm.
        ApplicationNotUsable: something else is among them, a workflow has the name of
            another, or a step has a role that nobody plays.
    """

    workflows: tuple[WorkflowSpec, ...] = ()
    agents: tuple[type[Agent] | Role, ...] = ()
    _agents: Mapping[str, type[Agent]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        classes = tuple(map(_agent_class, self.agents))
        _check_roles([agent.role for agent in classes])
        object.__setattr__(self, "_agents", {agent.role: agent for agent in classes})
        self._check_workflows()

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of its agents."""
        return tuple(self._agents)

    def agent_of(self, role: str) -> type[Agent] | None:
        """The class of agents of a role, None where the role is not one of its own."""
        return self._agents.get(role)

    def with_shipped(self) -> dict[str, WorkflowSpec]:
        """Every workflow that can be asked for, by name."""
        return {**WORKFLOWS, **{workflow.name: workflow for workflow in self.workflows}}

    def _check_workflows(self) -> None:
        known = {*Capabilities.shipped().worker_roles, *self._agents}
        taken = set(WORKFLOWS)
        for workflow in self.workflows:
            if not isinstance(workflow, WorkflowSpec):
                raise ApplicationNotUsable(f"{workflow!r:.80} is not a WorkflowSpec")
            if workflow.name in taken:
                raise ApplicationNotUsable(f"there is a workflow {workflow.name} already")
            taken.add(workflow.name)
            for step in workflow.steps():
                if step.role not in known:
                    raise ApplicationNotUsable(
                        f"step {step.name} of workflow {workflow.name} has role {step.role[:64]}, "
                        "which no agent of the swarm or of this application has"
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSource:
    """The text of the file, from which every process makes its own application."""

    path: str
    text: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "ApplicationSource":
        """Read the file.

        Raises:
            ApplicationNotUsable: it is not there, or not a text.
        """
        try:
            text = path.read_bytes()[: MAX_SOURCE_BYTES + 1].decode()
        except FileNotFoundError as error:
            raise ApplicationNotUsable(f"there is no file {path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ApplicationNotUsable(f"{path} cannot be read: {error}") from error
        if len(text.encode()) > MAX_SOURCE_BYTES:
            raise ApplicationNotUsable(f"{path} is over {MAX_SOURCE_BYTES} bytes")
        return cls(path=str(path), text=text)

    def load(self) -> Application:
        """Run the text; the same text gives the same application in one process.

        Raises:
            ApplicationNotUsable: it fails, or defines no `application` of the right type.
        """
        return _loaded(self)


def load_application(path: Path) -> Application:
    """The application that a file defines.

    Raises:
        ApplicationNotUsable: the file is missing or fails, defines no `application`, or one
            that cannot be used; the message says where.
    """
    return ApplicationSource.read(path).load()


@lru_cache(maxsize=8)
def _loaded(source: ApplicationSource) -> Application:
    digest = hashlib.sha256(source.text.encode()).hexdigest()
    module = ModuleType(f"{NAME}_{digest[:16]}")
    module.__file__ = source.path
    # Where pydantic and dataclasses look annotations up.
    sys.modules[module.__name__] = module
    try:
        exec(compile(source.text, source.path, "exec"), vars(module))  # nosec B102 # noqa: S102  the user's own
    except ActorError as error:
        raise type(error)(f"{_place(error, source.path)}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ApplicationNotUsable(f"{_place(error, source.path)}: {reason}") from error
    application = vars(module).get(NAME)
    if application is None:
        raise ApplicationNotUsable(f"{source.path} does not define `{NAME}`")
    if not isinstance(application, Application):
        kind = type(application).__name__
        raise ApplicationNotUsable(
            f"`{NAME}` in {source.path} is of type {kind}, not an Application"
        )
    return application


def _agent_class(agent: object) -> type[Agent]:
    if isinstance(agent, Role):
        return agent.agent()
    if isinstance(agent, type) and issubclass(agent, Agent):
        return agent
    raise ApplicationNotUsable(f"{agent!r:.80} is neither a Role nor a subclass of Agent")


def _check_roles(roles: list[str]) -> None:
    taken = set(Capabilities.shipped().roles)
    for role in roles:
        if not is_role_name(role):
            raise InvalidRole(f"{role[:64]!r} cannot name a role")
        if role in taken:
            raise RoleTaken(f"there is a role {role} already")
        taken.add(role)


def _place(error: Exception, path: str) -> str:
    """The file and the line of it that the error came from."""
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    return f"{path}, line {lines[-1]}" if lines else path
