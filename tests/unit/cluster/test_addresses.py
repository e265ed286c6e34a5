import pytest

from cluster.addresses import Addresses
from cluster.parts.external import without_password


def _addresses(gateway_host: str = "127.0.0.1") -> Addresses:
    return Addresses(
        nats="nats://user:hunter2@broker:4222",
        database="postgresql://swarm:hunter2@db:5432/swarm",
        redis="redis://:hunter2@cache:6379/0",
        qdrant="/home/me/.swarm/qdrant",
        ray="127.0.0.1:6379",
        ray_dashboard="http://127.0.0.1:8265",
        gateway_host=gateway_host,
        gateway_port=8000,
    )


def test_no_password_is_public_or_printed() -> None:
    assert "hunter2" not in _addresses().public().model_dump_json()
    assert "hunter2" not in repr(_addresses())


def test_a_gateway_on_all_interfaces_is_reached_on_this_one() -> None:
    assert _addresses("0.0.0.0").gateway == "http://127.0.0.1:8000"  # noqa: S104
    assert _addresses("10.1.2.3").gateway == "http://10.1.2.3:8000"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("https://me:pw@host/path?key=pw", "https://host/path"),
        ("/home/me/qdrant", "/home/me/qdrant"),
        ("head:6379", "head:6379"),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(url: str, shown: str) -> None:
    assert without_password(url) == shown
