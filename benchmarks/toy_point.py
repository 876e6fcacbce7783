"""What a point of a sweep of toy networks costs beside its training: CPU time of all processes of the command."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.commands import TRAIN, fresh_project, run
from benchmarks.measuring import Benchmark, Contenders
from benchmarks.untracked import composed, train_points, with_rates
from pipeline.backends.numpy.training import train
from pipeline.data.arrays import load
from pipeline.system.project import PROJECT

TOY = ("study=toy", "data=three_bits", "training.epochs=2000", "training.batch_size=null")
OPTIMIZERS = ("sgd", "momentum", "adam")
HIDDEN_SIZES = (4, 8)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
POINTS = len(OPTIMIZERS) * len(HIDDEN_SIZES) * len(RATES)
# A run with `recording.metrics_every=auto` has these records, each of five metrics.
RECORDS = 300
METRICS = ("train/loss", "train/mean_absolute_error", "gradient_norm", "weights/norm", "weights/update_ratio")


def grid() -> list[str]:
    """The sweep as a person types it."""
    return [
        *TOY,
        f"optimizer={','.join(OPTIMIZERS)}",
        f"model.hidden_size={','.join(map(str, HIDDEN_SIZES))}",
        f"optimizer.learning_rate={','.join(map(str, RATES))}",
    ]


def cpu_of_command() -> float:
    """CPU seconds of the whole sweep as a command in a fresh project, with the process that writes to MLflow."""
    with fresh_project() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run((*TRAIN, "-m", *grid()), folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_of_training() -> float:
    """CPU seconds of training the same points in the same stacks, and nothing else."""
    seconds = 0.0
    for optimizer in OPTIMIZERS:
        for hidden_size in HIDDEN_SIZES:
            first = composed(*TOY, f"optimizer={optimizer}", f"model.hidden_size={hidden_size}")
            points = with_rates(first, RATES)
            arrays = load(first.data, first.dtype, PROJECT)
            started = time.process_time()
            train_points(train, points, arrays)
            seconds += time.process_time() - started
    return seconds


@contextmanager
def _toy_point() -> Iterator[Contenders]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiment = client.create_experiment("plain", artifact_location=(folder / "artifacts").as_uri())
        artifact = folder / "weights.npz"
        artifact.write_bytes(bytes(2000))

        def plain_run() -> float:
            started = time.process_time()
            run_id = client.create_run(experiment).info.run_id
            for step in range(RECORDS):
                now = time.time_ns() // 1_000_000
                client.log_batch(run_id, metrics=[Metric(key, 1 / (step + 1), now, step) for key in METRICS])
            client.log_artifact(run_id, str(artifact))
            client.set_terminated(run_id)
            return time.process_time() - started

        plain_run()
        yield Contenders(lambda: (cpu_of_command() - cpu_of_training()) / POINTS, plain_run)


BENCHMARKS = [
    Benchmark(
        "toy_point",
        f"a point of a {POINTS}-point sweep of toy networks, CPU beside training",
        "MLflow's own cost of one run with 300 records and an artifact, CPU",
        1.5,
        f"`python -m pipeline.train -m {' '.join(grid())}` in a fresh copy of the project, CPU seconds of all its "
        "processes without those of training the same points in this process, divided by the number of points; against "
        "a run in an SQLite store of its own, which MLflow's client creates, gives 300 records of five metrics, one "
        "call each, and an artifact, and ends. What happens once, such as imports and creating the store, counts in "
        "ours alone.",
        _toy_point,
        unit="s CPU",
        most_rounds=2,
    )
]
