"""timm, put together as its `train.py` does: loader, mixup, soft targets, model EMA, scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expraug import ExpressionAugmenter
from expraug.datasets.timm import ExpressionMixDataset

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("mixup", [False, True])
def test_train(folder: Path, tmp_path: Path, mixup: bool) -> None:
    from timm.data import FastCollateMixup, create_dataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter, ModelEmaV3, accuracy

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=2)
    ema = ModelEmaV3(model)
    faces = create_dataset("", root=str(folder), split="train", is_training=True)
    augmenter = ExpressionAugmenter("pixel", cache=tmp_path / "cache")
    train = ExpressionMixDataset(faces, augmenter, copies=2)
    train.warm(progress=False)
    assert len(train) > 12
    arguments = {"num_classes": 2, "label_smoothing": 0.1, "mixup_alpha": 0.2}
    loader = create_loader(
        train,
        input_size=(3, 64, 64),
        batch_size=4,
        is_training=True,
        use_prefetcher=mixup,  # FastCollateMixup works on uint8 batches, as train.py has it
        collate_fn=FastCollateMixup(**arguments) if mixup else None,
        re_prob=0.2,
        auto_augment="rand-m5-mstd0.5",
        num_workers=1,
        device=torch.device("cpu"),
    )
    loss_of = SoftTargetCrossEntropy() if mixup else LabelSmoothingCrossEntropy(0.1)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3)
    scheduler, epochs = create_scheduler_v2(optimiser, num_epochs=2, warmup_epochs=0)
    losses = AverageMeter()
    for epoch in range(2):
        model.train()
        for images, targets in loader:
            loss = loss_of(model(images), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            ema.update(model)
            losses.update(loss.item(), len(images))
        scheduler.step(epoch + 1)
    assert epochs >= 2
    assert losses.count == 2 * (len(train) - len(train) % 4)
    assert 0 < losses.avg < 10

    held_out = create_loader(
        create_dataset("", root=str(folder), split="validation"),
        input_size=(3, 64, 64),
        batch_size=4,
        use_prefetcher=False,
        num_workers=0,
        device=torch.device("cpu"),
    )
    model.eval()
    with torch.no_grad():
        outputs = [(model(images), labels) for images, labels in held_out]
    scores, labels = (torch.cat(part) for part in zip(*outputs, strict=True))
    (share,) = accuracy(scores, labels)
    assert 0 <= float(share) <= 100


def test_an_expanded_folder_has_the_indices_of_its_source(folder: Path, tmp_path: Path) -> None:
    """What `train.py --data-dir` sees, without a line of code."""
    from timm.data import create_dataset

    from expraug.expand import expand

    report = expand(folder, tmp_path / "more", synthesizer="pixel", gate=None, with_originals=True)
    before = create_dataset("", root=str(folder))
    after = create_dataset("", root=str(report.folder))
    assert after.reader.class_to_idx == before.reader.class_to_idx
    assert len(after) == len(before) + report.made
    assert report.made > 6
