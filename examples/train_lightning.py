"""The data set wrapper and the balancing sampler in a Lightning data module.

Lightning is no dependency of expraug: pip install lightning
"""

import tempfile
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from expraug import ExpressionAugmenter
from expraug.datasets import (
    BalancedExpressionSampler,
    ExpressionAugmentedDataset,
    JointTransform,
)

FACES = Path(__file__).parent / "faces"


class Faces(L.LightningDataModule):
    """Faces with other expressions of them, made once, before training starts."""

    def __init__(self, root: Path, cache: str, batch_size: int = 8) -> None:
        super().__init__()
        self.root, self.cache, self.batch_size = root, cache, batch_size

    def _dataset(self) -> ExpressionAugmentedDataset:
        folder = ImageFolder(str(self.root), transform=v2.Resize((96, 96), antialias=True))
        return ExpressionAugmentedDataset(folder, ExpressionAugmenter("pixel", cache=self.cache))

    def prepare_data(self) -> None:  # in one process of each machine
        self._dataset().warm(progress=False)

    def setup(self, stage: str) -> None:  # in every process
        self.dataset = self._dataset()

    def train_dataloader(self) -> DataLoader:
        self.sampler = BalancedExpressionSampler(
            self.dataset,
            seed=0,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )
        to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        faces = JointTransform(self.dataset, to_tensor)
        return DataLoader(faces, self.batch_size, sampler=self.sampler)


class Recogniser(L.LightningModule):
    """A small net for two expressions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mobilenet_v3_small(num_classes=2)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="auto",
            use_distributed_sampler=False,  # the sampler shares the epoch out itself
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        faces = Faces(FACES, f"{folder}/cache")
        trainer.fit(Recogniser(), datamodule=faces)
        loss = trainer.callback_metrics["loss"]
        print(f"{len(faces.dataset)} samples, {trainer.global_step} steps, loss {loss:.3f}")


if __name__ == "__main__":
    main()
