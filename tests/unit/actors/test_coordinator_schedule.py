"""What goes out next, checked against the rule said in one line: sort, then cut."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.command import AssignStep
from actors.schedule import RANKS, Schedule, Turn, outstanding
from bus.payloads import Priority
from tests.unit.actors.simulation import SimulatedRun
from tests.unit.actors.test_workflow_run import PAIR

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = ("coder", "tester")


def command(role: str, step: str = "s") -> AssignStep:
    return AssignStep(
        step=step,
        iteration=1,
        attempt=1,
        role=role,
        objective="x",
        inputs={},
        deadline_s=1.0,
        cause="c",
    )


def commands(*roles: str) -> list[AssignStep]:
    return [command(role, f"s{place}") for place, role in enumerate(roles)]


def offer(
    schedule: Schedule, run: str, *roles: str, priority: Priority = "normal", age: int = 0
) -> None:
    since = BEGIN - timedelta(seconds=age)
    schedule.offer(run, priority=priority, since=since, commands=commands(*roles))


def take_all(schedule: Schedule) -> list[str]:
    """The runs whose turn comes, while nothing comes back."""
    runs = []
    while (turn := schedule.take()) is not None:
        runs.append(turn.run)
    return runs


def test_a_run_of_high_priority_passes_what_was_submitted_before_it() -> None:
    schedule = Schedule(None)
    offer(schedule, "low", "coder", priority="low", age=3)
    offer(schedule, "old", "coder", age=2)
    offer(schedule, "older", "coder", age=4)
    offer(schedule, "high", "coder", priority="high")
    assert take_all(schedule) == ["high", "older", "old", "low"]


def test_no_more_than_the_window_is_out_and_other_roles_go_on() -> None:
    schedule = Schedule(1)
    schedule.note("a", ("coder",))
    offer(schedule, "b", "coder", "tester")
    turn = schedule.take()
    assert turn is not None
    assert turn.command.role == "tester"
    schedule.note("b", ("tester",))
    assert not schedule.has_turn()
    schedule.note("a", ())
    turn = schedule.take()
    assert turn is not None
    assert (turn.run, turn.command.role) == ("b", "coder")
    assert schedule.waiting("b") == ()


def test_what_is_offered_anew_replaces_what_was_offered() -> None:
    schedule = Schedule(None)
    offer(schedule, "a", "coder", "coder")
    offer(schedule, "a", "tester")
    assert [c.role for c in schedule.waiting("a")] == ["tester"]
    assert take_all(schedule) == ["a"]
    offer(schedule, "a", "coder")
    schedule.withdraw("a")
    assert not schedule.has_turn()


def test_a_forgotten_run_leaves_its_places_to_others() -> None:
    schedule = Schedule(1)
    schedule.note("a", ("coder",))
    offer(schedule, "b", "coder")
    assert schedule.take() is None
    schedule.forget("a")
    assert take_all(schedule) == ["b"]


def test_an_assignment_is_out_until_its_result_or_the_end_of_its_run() -> None:
    run = SimulatedRun(PAIR)
    run.submit()
    run.settle()
    assert outstanding(run.state) == ("coder",)
    run.do("code")
    assert outstanding(run.state) == ("tester",)
    run.do("test")
    assert run.state.ended is not None
    assert outstanding(run.state) == ()


def test_a_failed_attempt_is_not_out() -> None:
    run = SimulatedRun(PAIR)
    run.submit()
    run.settle()
    run.fail(run.claim(run.assigned("code")))
    assert outstanding(run.state) == ()
    run.settle()
    assert outstanding(run.state) == ("coder",)


@dataclass
class Model:
    """The rule in one line, on plain lists."""

    window: int | None
    offers: dict[str, tuple[int, datetime, list[AssignStep]]] = field(default_factory=dict)
    out: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self) -> Turn | None:
        total = Counter(role for roles in self.out.values() for role in roles)
        may = [
            (rank, since, run, int(each.step[1:]), each)
            for run, (rank, since, offered) in self.offers.items()
            for each in offered
            if self.window is None or total[each.role] < self.window
        ]
        if not may:
            return None
        *_, run, _, best = min(may, key=lambda entry: entry[:4])
        self.offers[run][2].remove(best)
        return Turn(run=run, command=best)


runs = st.sampled_from(["a", "b", "c", "d"])
roles = st.lists(st.sampled_from(ROLES), max_size=3)
steps = st.one_of(
    st.tuples(st.just("offer"), runs, roles, st.sampled_from(list(RANKS)), st.integers(0, 2)),
    st.tuples(st.just("note"), runs, roles),
    st.tuples(st.just("forget"), runs),
    st.tuples(st.just("take")),
)


@settings(max_examples=300, deadline=None)
@given(window=st.one_of(st.none(), st.integers(0, 3)), story=st.lists(steps, max_size=40))
def test_every_turn_is_the_one_that_sorting_everything_would_give(
    window: int | None, story: list[tuple[object, ...]]
) -> None:
    schedule, model = Schedule(window), Model(window)
    for step in story:
        match step:
            case ("offer", str(run), list(offered), "high" | "normal" | "low" as rank, int(age)):
                offer(schedule, run, *offered, priority=rank, age=age)
                model.offers[run] = RANKS[rank], BEGIN - timedelta(seconds=age), commands(*offered)
            case ("note", str(run), list(out)):
                schedule.note(run, tuple(out))
                model.out[run] = tuple(out)
            case ("forget", str(run)):
                schedule.forget(run)
                model.offers.pop(run, None)
                model.out.pop(run, None)
            case _:
                expected = model.take()
                assert schedule.has_turn() == (expected is not None)
                assert schedule.take() == expected
    for role in ROLES:
        assert schedule.out(role) == sum(out.count(role) for out in model.out.values())
