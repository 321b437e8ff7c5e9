"""RandomExpression in a torchvision v2 training loop: a minute's training on the sample faces."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from expraug import ExpressionAugmenter
from expraug.datasets import JointTransform
from expraug.transforms.torchvision import RandomExpression

FACES = Path(__file__).parent / "faces"


def main(epochs: int = 2) -> None:
    folder = ImageFolder(str(FACES))
    with tempfile.TemporaryDirectory() as cache:
        # Make every synthetic face once, ahead; workers then only read.
        augmenter = ExpressionAugmenter("pixel", alignment="detect", cache=cache, on_miss="keep")
        report = augmenter.warm(folder)
        print(f"{report.made} synthetic faces made, skipped: {dict(report.skipped)}")
        transform = v2.Compose(
            [
                RandomExpression(augmenter=augmenter, p=0.5),  # first of all
                v2.RandomResizedCrop(96, scale=(0.8, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )
        # ImageFolder's own transform sees the image alone; this one sees image and label, and
        # tells RandomExpression what the folder's labels mean.
        train = JointTransform(folder, transform)
        loader = DataLoader(train, batch_size=10, shuffle=True, num_workers=2)
        model = mobilenet_v3_small(num_classes=len(folder.classes))
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for epoch in range(epochs):
            for images, labels in loader:
                loss = nn.functional.cross_entropy(model(images), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
