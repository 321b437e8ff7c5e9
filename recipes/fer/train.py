"""Train a timm model on your faces, with a few synthetic ones of rare classes in each batch.

    python -m recipes.fer.train FACES fear disgust --model resnet18 --pretrained

FACES holds train/CLASS/*.png and test/CLASS/*.png, as FER2013 is usually unpacked; then come the
classes to make more of, out of neutral faces. `--extra` synthetics come on top of each batch.
"""

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import typer
from torch.utils.data import DataLoader, RandomSampler, Subset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug import ExpressionAugmentedDataset, ExpressionAugmenter, Matrix


def main(
    faces: Path, rare: list[str], model: str = "resnet18", pretrained: bool = False,
    size: int = 112, epochs: int = 20, batch: int = 64, extra: int = 6, device: str = "cpu",
) -> None:  # fmt: skip
    train, test = ImageFolder(faces / "train"), ImageFolder(faces / "test")
    policy = Matrix({"neutral": dict.fromkeys(rare, 1 / len(rare))})
    augmenter = ExpressionAugmenter(policy=policy, gate="natural", cache="cache", device=device)
    both = ExpressionAugmentedDataset(train, augmenter)
    both.warm()  # makes them once; the same command then starts at once
    synthetic = Subset(both, range(len(train), len(both)))
    resized = [v2.ToImage(), v2.Resize((size, size)), v2.ToDtype(torch.float32, scale=True)]
    seen = v2.Compose([*resized, v2.Normalize([0.5], [0.25])])
    altered = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(10, (0.1, 0.1)), seen])

    def loader(dataset: Any, look: v2.Transform, batch: int, steps: int | None = None) -> Any:
        sampler = None if steps is None else RandomSampler(dataset, True, steps * batch)
        collate = lambda rows: default_collate([(look(x), y) for x, y in rows])  # noqa: E731
        return DataLoader(dataset, batch, sampler=sampler, collate_fn=collate)

    steps = len(train) // batch
    real, made = loader(train, altered, batch, steps), loader(synthetic, altered, extra, steps)
    net = timm.create_model(model, pretrained=pretrained, num_classes=len(train.classes)).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), 5e-4, weight_decay=0.05)
    for epoch in range(epochs):
        net.train()
        for parts in zip(real, made, strict=True):
            x, y = (torch.cat(part).to(device) for part in zip(*parts, strict=True))
            optimizer.zero_grad()
            F.cross_entropy(net(x), y, label_smoothing=0.1).backward()
            optimizer.step()
        with torch.inference_mode():
            net.eval()
            tested = [(net(x.to(device)).argmax(1).cpu(), y) for x, y in loader(test, seen, batch)]
        right = sum(int((found == y).sum()) for found, y in tested)
        print(f"epoch {epoch}: {right / len(test):.3f} of the test faces right", flush=True)


if __name__ == "__main__":
    typer.run(main)
