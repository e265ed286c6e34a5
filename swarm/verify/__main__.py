"""`python swarm/verify BUNDLE --root-key O...`: the verifier without the rest of the project."""

import importlib.util
import sys
from pathlib import Path

if __package__:
    from swarm.verify.command import main
else:  # run as a folder, which is then no package of anything
    _folder = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != _folder]
    _spec = importlib.util.spec_from_file_location(
        "swarm_verify", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    assert _spec is not None and _spec.loader is not None  # noqa: PT018, S101 # nosec B101
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["swarm_verify"] = _package
    _spec.loader.exec_module(_package)
    main = importlib.import_module("swarm_verify.command").main

sys.exit(main(sys.argv[1:]))
