"""Other expressions in a stream, `datasets.IterableDataset`, and in a loader with workers."""

from pathlib import Path

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from expraug import ExpressionAugmenter
from expraug.datasets.hf import ExpressionMap

FACES = Path(__file__).parent / "faces"

to_tensor = v2.Compose(
    [v2.ToImage(), v2.Resize((112, 112), antialias=True), v2.ToDtype(torch.float32, scale=True)]
)


def collate(rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor, int]:
    images = torch.stack([to_tensor(row["image"]) for row in rows])
    labels = torch.tensor([row["label"] for row in rows])
    return images, labels, sum(row["synthetic"] for row in rows)


def main() -> None:
    stream = load_dataset("imagefolder", data_dir=str(FACES), split="train", streaming=True)
    # a stream does not pass on what its numbers mean, nor the columns that come out
    expressions = ExpressionMap(ExpressionAugmenter("pixel"), stream.features["label"])
    expanded = stream.map(
        expressions, batched=True, batch_size=16, features=expressions.features(stream.features)
    )
    for images, labels, synthetic in DataLoader(
        expanded.shuffle(seed=0, buffer_size=32), batch_size=8, num_workers=1, collate_fn=collate
    ):
        print(f"{tuple(images.shape)}, labels {labels.tolist()}, {synthetic} synthetic")


if __name__ == "__main__":
    main()
