import asyncio
import socket
from pathlib import Path

from cluster.doctor import diagnose
from cluster.home import Home, locate
from tests.integration.cluster.conftest import Configure


async def test_this_machine_can_run_a_swarm(home: Home, configure: Configure) -> None:
    findings = {finding.check: finding for finding in await diagnose(configure(home))}
    for check in ("python", "nats-server", "postgres", "valkey-server", "home", "vllm", "state"):
        assert findings[check].ok, findings[check]
        assert findings[check].hint == ""
    assert not home.root.exists()  # looking changes nothing


async def test_what_is_wrong_comes_with_a_hint(configure: Configure, tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "file").touch)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        settings = configure(
            locate(tmp_path / "file" / "home"),
            gateway_port=port,
            model_profile="nonesuch",
            ray_address="10.255.0.1:6379",
        )
        wrong = {finding.check: finding for finding in await diagnose(settings) if not finding.ok}
    assert set(wrong) >= {"home", "port of gateway", "model", "external ray"}
    assert all(finding.hint for finding in wrong.values())
