"""RandomExpression in an albumentations pipeline: image and label change together."""

from pathlib import Path

import albumentations as A
from torchvision.datasets import ImageFolder

from expraug.datasets import JointTransform
from expraug.transforms.albumentations import RandomExpression

FACES = Path(__file__).parent / "faces"


def main() -> None:
    folder = ImageFolder(str(FACES))
    pipeline = A.Compose(
        [
            RandomExpression(alignment="detect", p=0.5),  # first of all
            A.RandomResizedCrop((112, 112), scale=(0.8, 1.0)),
            A.HorizontalFlip(p=0.5),
        ],
        seed=0,
    )
    train = JointTransform(folder, pipeline)  # tells RandomExpression what the labels mean
    for index in (*range(4), *range(10, 14)):
        path, label = folder.samples[index]
        image, new_label = train[index]
        print(
            f"{folder.classes[label]}/{Path(path).name} -> "
            f"{folder.classes[new_label]}, {image.shape}"
        )


if __name__ == "__main__":
    main()
