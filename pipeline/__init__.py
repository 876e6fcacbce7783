"""What the learning rate and the hidden size do to training: commands, and the packages that they are made of."""

import sys
from importlib.util import find_spec

# Before any module imports them: a ModuleNotFoundError would not say what to type.
if not all(map(find_spec, ("filelock", "hydra", "matplotlib", "mlflow", "numpy", "psutil", "pydantic", "tqdm"))):
    raise SystemExit(
        f"error: {sys.executable} lacks packages of this project; "
        "type: make .venv/.installed && source .venv/bin/activate"
    )

from pipeline.system import environment

environment.apply()
