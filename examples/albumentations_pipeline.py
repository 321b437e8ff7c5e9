"""RandomExpression in an albumentations pipeline: image and label change together."""

from pathlib import Path

import albumentations as A
import cv2

from expraug.transforms.albumentations import RandomExpression

FACES = Path(__file__).parent / "faces"
CLASSES = ["happy", "neutral"]


def main() -> None:
    pipeline = A.Compose(
        [
            RandomExpression(CLASSES, alignment="detect", p=0.5),  # first of all
            A.RandomResizedCrop((112, 112), scale=(0.8, 1.0)),
            A.HorizontalFlip(p=0.5),
        ],
        seed=0,
    )
    for name in CLASSES:
        for path in sorted((FACES / name).glob("*.jpg"))[:4]:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            out = pipeline(image=image, label=CLASSES.index(name))
            print(f"{name}/{path.name} -> {CLASSES[out['label']]}, {out['image'].shape}")


if __name__ == "__main__":
    main()
