"""How long it takes to ask a policy, in one process."""

import time
from collections.abc import Callable

from bus.subjects import parse, subject_for
from policies.capabilities import Capabilities

ASKED = 20_000
AIM_US = 20.0


def measure() -> dict[str, float]:
    """Microseconds for each question, of the policy that is shipped."""
    policy = Capabilities.shipped()
    own = parse(subject_for("r1", "swarm.step.completed.v1", "coder"))
    other = parse(subject_for("r1", "swarm.step.completed.v1", "judge"))
    questions: dict[str, Callable[[], str | None]] = {
        "publish, allowed": lambda: policy.refusal("coder", own),
        "publish, denied": lambda: policy.refusal("coder", other),
        "call": lambda: policy.call_refusal("coder", "model", "smollm2-135m"),
        "memory": lambda: policy.memory_refusal("coder", "write", "run/r1/plan", run="r1"),
    }
    return {name: _microseconds(ask) for name, ask in questions.items()}


def _microseconds(ask: Callable[[], str | None]) -> float:
    began = time.perf_counter()
    for _ in range(ASKED):
        ask()
    return (time.perf_counter() - began) / ASKED * 1e6
