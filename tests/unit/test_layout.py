"""The seven packages are plain top-level names: what keeps that safe is checked here."""

import ast
import importlib.util
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "bus", "cluster", "policies", "serve", "storage", "swarm")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
READS_THE_ENVIRONMENT = {
    "cluster/settings.py",  # everything that a swarm is told
    "swarm/home.py",  # SWARM_HOME, for a client that runs without the cluster package
}
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def imports_of(path: Path) -> list[str]:
    """Dotted names that a module imports, at any depth; ``from a import b`` gives ``a.b``."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_claims_the_name(package: str) -> None:
    assert set(packages_distributions().get(package, ())) <= {"vllm-swarm"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_name_is_ours_on_the_path(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")
    assert (ROOT / package / "py.typed").is_file()


@each_module
def test_ray_serve_is_never_taken_for_our_serve(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    imports = imports_of(path)
    assert "serve" not in imports, "import serve.<module>, never the bare name"
    if folder not in ("serve", "cluster"):
        assert not [name for name in imports if name.startswith("ray.serve")]


@each_module
def test_only_settings_read_the_environment(path: Path) -> None:
    if str(path.relative_to(ROOT)) in READS_THE_ENVIRONMENT:
        return
    read = [
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in (("os", "environ"), ("os", "getenv"))
    ]
    assert read == []


@each_module
def test_no_module_outgrows_the_house(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_every_folder_of_tests_is_a_package() -> None:
    """Else tests/unit/bus would shadow bus."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(f) for f in folders if not (f / "__init__.py").is_file()] == []


@pytest.mark.timeout(600)
def test_imports_keep_to_the_layers() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
