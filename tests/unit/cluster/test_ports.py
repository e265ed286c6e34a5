import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import ports
from cluster.errors import PortTaken


def _choose(wanted: int | None, preferred: int = 0) -> int:
    return ports.choose(wanted, part="gateway", variable="SWARM_GATEWAY_PORT", preferred=preferred)


def test_without_a_wish_the_preferred_port_is_taken_where_it_is_free() -> None:
    preferred = ports.free()
    assert _choose(None, preferred) == preferred
    with socket.create_server(("127.0.0.1", preferred)):
        assert _choose(None, preferred) not in {0, preferred}


def test_a_wish_is_met_or_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"gateway cannot listen on port {port}.*GATEWAY_PORT"):
            _choose(port)
    assert _choose(port) == port


def test_free_ports_differ() -> None:
    assert len({_choose(0) for _ in range(50)}) == 50


def test_a_port_of_ours_that_is_drawn_again_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other = ports.free(), ports.drawn()
    draws = iter([ours, other])
    monkeypatch.setattr(ports, "drawn", lambda _: next(draws))
    assert ports.free() == other


def test_a_port_that_is_in_use_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ports.drawn()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        draws = iter([holder.getsockname()[1], other])
        monkeypatch.setattr(ports._chance, "choice", lambda _: next(draws))
        assert ports.drawn() == other


def test_no_port_is_drawn_that_a_connection_could_take() -> None:
    low, high = map(int, ports._OF_CONNECTIONS.read_text().split())
    assert not [port for port in (ports.drawn() for _ in range(200)) if low <= port <= high]


@pytest.mark.parametrize(
    ("connections", "first", "count"),
    [
        ("32768\t60999\n", 10_000, 22_768 + 4_536),
        ("1024 60999", 61_000, 4_536),
        ("1024 65535", 10_000, 55_536),  # all of them are: any will do
    ],
)
def test_what_is_drawn_from(
    connections: str, first: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text(connections)
    monkeypatch.setattr(ports, "_OF_CONNECTIONS", tmp_path / "range")
    lot = ports._lot.__wrapped__()
    assert (lot[0], len(lot)) == (first, count)


def test_a_port_that_another_process_has_claimed_is_left_to_it() -> None:
    port = ports.free()
    program = (
        "from cluster import ports\n"
        f"print(ports.claim({port}), ports.choose(None, part='x', variable='Y', preferred={port}))"
    )
    root = Path(__file__).parents[3]
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert output[0] == "False"
    assert output[1] != str(port)
