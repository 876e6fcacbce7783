"""Made-up images in the place of MNIST."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_prepared(project: Path, name: str) -> None:
    """A data set of 300 made-up images, as pipeline.prepare writes it."""
    folder = project / "data" / "prepared" / name
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sums = {}
    for split, rows in (("train", 250), ("test", 50)):
        inputs: NDArray[Any] = random.random((rows, 784), dtype=np.float32)
        targets: NDArray[Any] = random.integers(0, 10, rows)
        for role, array in (("inputs", inputs), ("targets", targets)):
            file = folder / f"{split}_{role}.npy"
            np.save(file, array, allow_pickle=False)
            sums[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "data.json").write_text(
        json.dumps({"name": name, "classes": 10, "row_shape": [28, 28, 1], "sha256": sums})
    )
