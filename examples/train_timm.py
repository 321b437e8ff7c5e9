"""Synthetic faces with soft labels in timm's own loader and loss."""

import tempfile
from pathlib import Path

import timm
import timm.data
import torch
from timm.loss import SoftTargetCrossEntropy

from expraug import ExpressionAugmenter
from expraug.datasets.timm import ExpressionMixDataset

FACES = Path(__file__).parent / "faces"


def main(epochs: int = 2) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as cache:
        faces = timm.data.create_dataset("", str(FACES))
        # A half-hearted smile is a half smile in the label, too. With timm's Mixup, which makes
        # soft labels of its own, leave soft_labels off.
        dataset = ExpressionMixDataset(
            faces, ExpressionAugmenter("pixel", cache=cache), copies=2, soft_labels=True
        )
        dataset.warm(progress=False)
        print(f"{len(faces)} faces became {len(dataset)}")
        loader = timm.data.create_loader(
            dataset,
            input_size=96,
            batch_size=8,
            is_training=True,
            auto_augment="rand-m5-mstd0.5",
            num_workers=2,
            device=device,
        )
        model = timm.create_model("mobilenetv3_small_050", num_classes=2).to(device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for epoch in range(epochs):
            for images, targets in loader:
                loss = SoftTargetCrossEntropy()(model(images), targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            print(f"epoch {epoch}: loss {loss.item():.3f}, targets {targets[0].tolist()}")


if __name__ == "__main__":
    main()
