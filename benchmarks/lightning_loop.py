"""The grid of mnist_grid as a template of PyTorch Lightning under Hydra trains and tracks it.

    python -m benchmarks.lightning_loop -m folder=FOLDER learning_rate=... hidden_size=... seed=...

Hydra's own launcher takes one point after the other; Lightning's MLFlowLogger writes to the store in FOLDER.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.core.config_store import ConfigStore
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.tracked_loops import CLASSES, rows, settings


@dataclass
class Point:
    """What Hydra may sweep."""

    folder: str = "???"
    learning_rate: float = 0.001
    hidden_size: int = 64
    seed: int = 1


ConfigStore.instance().store("point", Point)


class Network(lightning.LightningModule):
    """One hidden layer under Adam, with loss and accuracy of both sets of rows."""

    def __init__(self, features: int, point: Point) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rate = point.learning_rate
        layers = (torch.nn.Linear(features, point.hidden_size), torch.nn.ReLU())
        self.network = torch.nn.Sequential(*layers, torch.nn.Linear(point.hidden_size, CLASSES))

    def step(self, batch: Any, name: str) -> torch.Tensor:
        """Loss of a batch, logged with the accuracy."""
        inputs, targets = batch
        outputs = self.network(inputs)
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        accuracy = (outputs.argmax(1) == targets).float().mean()
        self.log_dict({f"{name}_loss": loss, f"{name}_accuracy": accuracy}, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        """Lightning's hook."""
        return self.step(batch, "train")

    def validation_step(self, batch: Any, _index: int) -> torch.Tensor:
        """Lightning's hook."""
        return self.step(batch, "validation")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook."""
        return torch.optim.Adam(self.parameters(), lr=self.rate, eps=1e-7)


@hydra.main(version_base="1.3", config_path=None, config_name="point")
def main(point: Point) -> None:
    """Train one point."""
    folder = Path(point.folder)
    arrays, fixed = rows(folder), settings(folder)
    lightning.seed_everything(point.seed, verbose=False)
    loaders = {}
    for name in ("train", "validation"):
        inputs = torch.from_numpy(arrays[f"{name}_inputs"])
        targets = torch.from_numpy(arrays[f"{name}_targets"]).long()
        dataset = TensorDataset(inputs, targets)
        loaders[name] = DataLoader(dataset, fixed["batch_size"], shuffle=name == "train")
    logger = MLFlowLogger("grid", tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=f"{folder}/artifacts")
    logger.log_hyperparams({"learning_rate": point.learning_rate, "hidden_size": point.hidden_size, "seed": point.seed})
    trainer = lightning.Trainer(
        max_epochs=fixed["epochs"], logger=logger, accelerator="cpu", default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Network(arrays["train_inputs"].shape[1], point), loaders["train"], loaders["validation"])


if __name__ == "__main__":
    main()
