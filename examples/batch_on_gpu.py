"""RandomExpression on whole batches in the training process, on the GPU where there is one."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug.transforms.torchvision import RandomExpression

FACES = Path(__file__).parent / "faces"


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    to_tensor = v2.Compose([v2.ToImage(), v2.Resize((224, 224), antialias=True)])
    folder = ImageFolder(str(FACES), transform=to_tensor)
    expression = RandomExpression(folder.classes, alignment="detect", device=device, p=0.5)
    for images, labels in DataLoader(folder, batch_size=10, shuffle=True):
        images, labels = images.to(device), labels.to(device)
        changed, new_labels = expression(images, labels)
        count = int((labels != new_labels).sum())
        print(f"batch on {changed.device}: {count} of {len(labels)} faces got another expression")


if __name__ == "__main__":
    main()
