"""Keys of a swarm that is stopped: a change is made on disk and told at the next start."""

from pathlib import Path

from bus.identity import Authority
from bus.trust_payloads import RootRotated
from cluster.assembly import authority
from cluster.home import open_home
from cluster.keys import rotate_root
from cluster.log_key import log_key_jwt, log_verifier_key
from cluster.settings import Settings
from swarm.verify.note import log_key


async def test_a_new_root_vouches_for_the_logs_key_in_what_the_log_is_told(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    log_key_jwt(home, authority(home))
    assert not await rotate_root(Settings(home=home.root), reason="stolen")
    root = Authority.load(home.keys)
    told = root.ring.untold[0].payload
    assert isinstance(told, RootRotated)
    key = log_key(told.log_key_jwt)
    assert key.voucher == root.ring.operator == told.operator != root.operator_public_key
    assert (key.name, key.public) == (
        log_verifier_key(home).name,
        log_verifier_key(home).public_key,
    )
    assert log_key(log_key_jwt(home, root)) == key  # as the next start says
