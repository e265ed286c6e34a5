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


def test_a_port_of_ours_that_the_system_offers_again_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other = ports.free(), ports.free()
    monkeypatch.delitem(ports._claims, other)
    offers = iter([ours, other])

    class Probe(socket.socket):
        def bind(self, _: object) -> None:
            """The system chooses."""

        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", next(offers)

    monkeypatch.setattr(ports.socket, "socket", Probe)
    monkeypatch.setattr(ports, "claim", lambda _: True)
    assert ports.free() == other


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
