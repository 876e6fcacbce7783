"""After a small run of the whole pipeline: every study has its points in results/, in the report and in MLflow."""

import csv
import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path

POINTS = {
    "line_y2x": 2,
    "line_y3x": 2,
    "two_bits": 1,
    "three_bits": 4,
    "thirteen_lines": 1,
    "mnist": 2,
    "lr_range_check": 9,
}
ON_NUMPY = {
    "trainability_map": 1,
    "methods_three_bits": 4,
    "mnist_grid": 12,
    "lr_range_test": 8,
    "methods_mnist": 4,
    "features_mnist": 4,
    "width_transfer": 24,
    "edge_of_stability": 24,
    "edge_of_stability_adam": 12,
    "loss_landscape": 2,
    "depth_transfer": 24,
    "batch_transfer": 24,
    "warm_up": 12,
    "curve_divergence": 2,
    "curve_stuck": 2,
    "curve_local_minimum": 4,
    "curve_restarts": 1,
    "curve_basins": 2,
}
"""Maps, balls on a curve, and the whole grids of methods, features, widths, depths, batch sizes and warm-ups."""
ON_KERAS = {
    "mnist_grid": 2,
    "lr_range_test": 1,
    "methods_three_bits": 3,
    "methods_mnist": 3,
    "features_mnist": 2,
    "width_transfer": 4,
    "convnet": 4,
}
"""The parts that are compared with NumPy, whose axes in dvc.yaml keep all their values, and a model of Keras alone."""
RUNS = """
    select experiments.name, backend.value
    from runs
    join experiments using (experiment_id)
    join tags backend on backend.run_uuid = runs.run_uuid and backend.key = 'backend'
    join tags role on role.run_uuid = runs.run_uuid and role.key = 'lab.role'
    where role.value = 'point' and runs.status = 'FINISHED'
"""

expected = Counter({(study, backend): count for study, count in POINTS.items() for backend in ("numpy", "keras")})
expected.update({(study, "numpy"): count for study, count in ON_NUMPY.items()})
expected.update({(study, "keras"): count for study, count in ON_KERAS.items()})
sweeps = {path: json.loads(path.read_text()) for path in Path("results").glob("*/*/sweep.json")}
with Path("reports/points.csv").open(newline="") as stream:
    reported = Counter((row["study"], row["backend"]) for row in csv.DictReader(stream))
found = {
    "results/": Counter({(sweep["study"], sweep["backend"]): len(sweep["points"]) for sweep in sweeps.values()}),
    "reports/points.csv": reported,
    "MLflow": Counter(sqlite3.connect("mlruns/mlflow.db").execute(RUNS).fetchall()),
}
for place, points in found.items():
    if points != expected:
        sys.exit(f"{place} does not hold the points of every study.\n  expected: {expected}\n  received: {points}")
studies = {study for study, _ in expected}
print(f"small run: {expected.total()} points of {len(studies)} studies are in {', '.join(found)}")
