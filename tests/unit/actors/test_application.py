"""A user's file: what it may hold, and what is said where it cannot be used."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from actors.agent import Agent, handles
from actors.application import (
    Application,
    ApplicationSource,
    FunctionAgent,
    Role,
    RoleAnswer,
    StepAgent,
    StepSpec,
    WorkflowSpec,
    load_application,
)
from actors.crew import agent_actor
from actors.errors import ApplicationNotUsable, InvalidRole, RoleTaken, UnknownRole
from actors.team import AGENTS, agent_class
from bus.payloads import StepAssigned
from bus.work import Dead, Delivery, Verdict

EXAMPLES = Path(__file__).parents[3] / "examples"
HEAD = "from actors.application import *\n"


class Poem(RoleAnswer):
    lines: tuple[str, ...]


class Count(RoleAnswer):
    words: int


class Counter(FunctionAgent):
    """Counts."""

    role = "counter"

    async def answer(self, assigned: StepAssigned) -> Count:
        return Count(words=len(assigned.objective.split()))


class Bare(Agent):
    role = "bare"

    @handles(StepAssigned)
    async def take(self, assigned: StepAssigned, delivery: Delivery) -> Verdict:
        return Dead(reason=f"{assigned.step} at {delivery.deliveries}")


POET = Role(name="poet", prompt=" Write a poem. ", answer=Poem)


def named(role: str) -> type[Agent]:
    return type("Named", (Counter,), {"role": role})


def source(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "role", "workflow"),
    [
        ("own_agent", "counter", "counted"),
        ("own_workflow", "teacher", "explain"),
        ("own_tool", "guide", "guided"),
    ],
)
def test_the_examples_load(name: str, role: str, workflow: str) -> None:
    application = load_application(EXAMPLES / f"{name}.py")
    assert application.roles == (role,)
    assert set(application.with_shipped()) == {"sparc", workflow}


def test_an_agent_is_a_role_or_a_class() -> None:
    application = Application(agents=(POET, Counter, Bare))
    assert application.roles == ("poet", "counter", "bare")
    poet = application.agent_of("poet")
    assert poet is not None
    assert issubclass(poet, StepAgent)
    assert (poet.__name__, poet.role) == ("Poet", "poet")
    assert poet.task is not None
    assert (poet.task.prompt, poet.task.title) == ("Write a poem.", "Poet")
    assert application.agent_of("counter") is Counter
    assert application.agent_of("coder") is None


def test_only_who_asks_a_model_waits_for_one() -> None:
    assert all(agent.asks_model for agent in AGENTS.values())
    assert not Counter.asks_model
    assert not Bare.asks_model


def test_a_step_of_ones_own_role_carries_the_schema_of_its_answer() -> None:
    for step in (POET.step("poem", inputs=("research",), max_attempts=1), Counter.step("poem")):
        assert step.answer_schema is not None
        assert step.answer_schema["type"] == "object"
    assert POET.step("poem", inputs=("research",)).inputs == ("research",)
    assert POET.step("poem", answer_schema={"type": "object"}).answer_schema == {"type": "object"}


def test_a_workflow_may_use_built_in_and_own_roles() -> None:
    nodes = (StepSpec(name="research", role="researcher"), POET.step("poem", inputs=("research",)))
    workflow = WorkflowSpec(name="poems", nodes=nodes)
    application = Application(agents=(POET,), workflows=(workflow,))
    assert application.with_shipped()["poems"] is workflow


def test_a_role_that_nobody_has_is_refused() -> None:
    workflow = WorkflowSpec(name="poems", nodes=(POET.step("poem"),))
    with pytest.raises(ApplicationNotUsable, match="step poem of workflow poems has role poet"):
        Application(workflows=(workflow,))


@pytest.mark.parametrize("role", ["coder", "coordinator", "gateway", "authority", "observer"])
def test_a_role_of_the_swarm_is_taken(role: str) -> None:
    with pytest.raises(RoleTaken, match=role):
        Application(agents=(named(role),))


def test_two_agents_of_one_role_are_refused() -> None:
    with pytest.raises(RoleTaken, match="counter"):
        Application(agents=(Counter, named("counter")))


@pytest.mark.parametrize("role", ["", "Poet", "po-et", "po.et", "x" * 65, "poet\n", "5"])
def test_what_is_no_role_name_is_refused(role: str) -> None:
    with pytest.raises(InvalidRole):
        Application(agents=(named(role),))
    with pytest.raises(InvalidRole):
        Application(agents=(Role(name=role, prompt="x", answer=Poem),))


def test_a_workflow_with_a_name_that_is_taken_is_refused() -> None:
    workflow = WorkflowSpec(name="sparc", nodes=(StepSpec(name="research", role="researcher"),))
    with pytest.raises(ApplicationNotUsable, match="a workflow sparc already"):
        Application(workflows=(workflow,))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not define `application`"),
        ("application = 5", "is of type int, not an Application"),
        ("x = 1\nx = 1 / 0\n", "mine.py, line 2: ZeroDivisionError"),
        ("x = 1\n\ndef f(:\n", "mine.py, line 3: SyntaxError"),
        ("import nonsense_that_is_not_there", "line 1: ModuleNotFoundError"),
        (HEAD + "application = Application(agents=(5,))", "line 2: 5 is neither a Role nor"),
        (HEAD + "application = Application(workflows=(5,))", "5 is not a WorkflowSpec"),
        (HEAD + "application = Application(nonsense=1)", "TypeError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ApplicationNotUsable) as caught:
        load_application(source(tmp_path, text))
    assert said in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_a_mistake_in_a_workflow_keeps_its_kind_and_gets_a_place(tmp_path: Path) -> None:
    with pytest.raises(UnknownRole, match="mine.py, line 2: "):
        load_application(source(tmp_path, HEAD + "StepSpec(name='a', role='nobody')"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ApplicationNotUsable, match="there is no file"):
        load_application(tmp_path / "missing.py")
    with pytest.raises(ApplicationNotUsable, match="cannot be read"):
        load_application(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ApplicationNotUsable, match="cannot be read"):
        load_application(path)


def test_annotations_that_are_texts_are_understood(tmp_path: Path) -> None:
    text = (EXAMPLES / "own_agent.py").read_text()
    path = source(tmp_path, "from __future__ import annotations\n" + text)
    assert load_application(path).roles == ("counter",)


def test_a_role_belongs_to_the_swarm_or_to_the_application() -> None:
    own = ApplicationSource.read(EXAMPLES / "own_agent.py")
    assert agent_class("coder") is AGENTS["coder"]
    assert agent_class("coder", own) is AGENTS["coder"]
    assert agent_class("counter", own).__name__ == "WordCounter"
    with pytest.raises(UnknownRole):
        agent_class("counter")


def test_an_actor_class_reaches_a_process_that_does_not_have_the_file(tmp_path: Path) -> None:
    path = source(tmp_path, (EXAMPLES / "own_agent.py").read_text())
    actor: Any = agent_actor("counter", ApplicationSource.read(path))
    shell = actor.__ray_metadata__.modified_class
    assert shell.__name__ == "WordCounter"
    path.unlink()
    program = (
        "import sys; from ray import cloudpickle\n"
        "shell = cloudpickle.load(sys.stdin.buffer)\n"
        "from actors.team import agent_class\n"
        "print(agent_class(shell.role, shell.application).__name__)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        input=cloudpickle.dumps(shell),
        capture_output=True,
        check=True,
        cwd=EXAMPLES.parent,
    )
    assert told.stdout.decode().strip() == "WordCounter"
