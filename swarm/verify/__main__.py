"""`python swarm/verify BUNDLE --root-key O...`: the verifier without the rest of the project."""

import sys
from pathlib import Path
from types import ModuleType

if not __package__:  # run as a folder: a bare package stands in for the one around it
    _folder = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != _folder]
    _around = ModuleType("swarm")
    _around.__path__ = [str(_folder.parent)]
    sys.modules["swarm"] = _around

from swarm.verify.command import main

sys.exit(main(sys.argv[1:]))
