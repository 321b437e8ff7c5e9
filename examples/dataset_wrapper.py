"""A data set that holds other expressions too, with a sampler that balances the classes."""

import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from expraug import ExpressionAugmenter, Uniform
from expraug.datasets import (
    BalancedExpressionSampler,
    ExpressionAugmentedDataset,
    JointTransform,
)

FACES = Path(__file__).parent / "faces"


def main(epochs: int = 2) -> None:
    folder = ImageFolder(str(FACES))
    rare = Subset(folder, range(7, 20))  # three smiling people, ten neutral ones
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(96, scale=(0.8, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    with tempfile.TemporaryDirectory() as cache:
        augmenter = ExpressionAugmenter("pixel", policy=Uniform(["happy"]), cache=cache)
        dataset = ExpressionAugmentedDataset(rare, augmenter)
        dataset.warm(progress=False)  # made ahead; what cannot be made is left out
        counts = Counter(folder.classes[label] for label in dataset.targets)
        print(f"{len(rare)} faces became {len(dataset)}: {dict(counts)}")
        loader = DataLoader(
            # random transforms behind the wrapper, which must see the same pixels each time
            JointTransform(dataset, transform),
            batch_size=8,
            sampler=BalancedExpressionSampler(dataset, max_synthetic=0.5),
            num_workers=2,
        )
        model = mobilenet_v3_small(num_classes=len(folder.classes))
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for epoch in range(epochs):
            seen: Counter[str] = Counter()
            for images, labels in loader:
                loss = nn.functional.cross_entropy(model(images), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                seen.update(folder.classes[label] for label in labels)
            print(f"epoch {epoch}: loss {loss.item():.3f}, classes seen {dict(seen)}")


if __name__ == "__main__":
    main()
