"""Train a timm model on your faces, with a few synthetic ones of rare classes in each batch.

    python -m recipes.fer.train recipes/fer/train.yaml faces=FACES "rare=[fear,disgust]"

FACES holds train/CLASS/*.png and test/CLASS/*.png, as `recipes.fer.unpack` writes them. `extra`
synthetics come on top of each batch; 0 makes none. The same command goes on where it was stopped.
"""

from pathlib import Path
from typing import Annotated

import timm
import torch
import torch.nn.functional as F
import typer
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from expraug import ExpressionAugmentedDataset, ExpressionAugmenter, Matrix
from recipes.fer.loop import Settings, epochs_left, loader, measured
from recipes.training.options import load_settings


def main(config: Path, overrides: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    own = load_settings(Settings, config, overrides or ())
    torch.manual_seed(own.seed)
    train = ImageFolder(own.faces / "train")
    made = Subset(train, [])
    if own.extra:
        policy = Matrix({"neutral": dict.fromkeys(own.rare, 1 / len(own.rare))})
        augmenter = ExpressionAugmenter(
            policy=policy, gate="natural", cache=own.cache, device=own.device
        )
        both = ExpressionAugmentedDataset(train, augmenter)
        both.warm()  # makes them once; the same command then starts at once
        made = Subset(both, range(len(train), len(both)))

    file = {"file": str(own.weights)} if own.weights else None
    net = timm.create_model(
        own.model, own.pretrained, num_classes=len(train.classes), pretrained_cfg_overlay=file
    ).to(own.device)
    net = net.to(memory_format=torch.channels_last)  # a third faster
    steps = len(train) // own.batch
    optimizer = torch.optim.AdamW(net.parameters(), own.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, own.lr, own.epochs * steps)
    for epoch in epochs_left(own, net=net, optimizer=optimizer, schedule=schedule):
        real = loader(train, own.size, own.batch, steps)
        synthetic = loader(made, own.size, own.extra, steps)
        net.train()
        for parts in zip(real, synthetic, strict=True):
            x, y = (torch.cat(part).to(own.device) for part in zip(*parts, strict=True))
            optimizer.zero_grad()
            F.cross_entropy(net(x), y, label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
        epoch |= measured(net, own)


if __name__ == "__main__":
    typer.run(main)
