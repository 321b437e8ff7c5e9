"""Rows with other expressions in a `datasets.Dataset`: made once, kept with the data set."""

from collections import Counter
from pathlib import Path

from datasets import disable_progress_bars, load_dataset

from expraug import ExpressionAugmenter
from expraug.datasets.hf import ExpressionMap

FACES = Path(__file__).parent / "faces"


def main() -> None:
    disable_progress_bars()
    faces = load_dataset("imagefolder", data_dir=str(FACES), split="train")
    augmenter = ExpressionAugmenter("pixel", alignment="detect")
    # Images are large: smaller batches than the usual 1000 keep memory low. A second run of this
    # script takes the rows from the cache of `datasets`.
    expanded = faces.map(
        ExpressionMap(augmenter), batched=True, batch_size=64, writer_batch_size=64, num_proc=2
    )
    names = expanded.features["label"].names
    counts = Counter((names[label], made) for label, made in zip(
        expanded["label"], expanded["synthetic"], strict=True
    ))  # fmt: skip
    print(f"{len(faces)} rows became {len(expanded)}")
    for (name, synthetic), count in sorted(counts.items()):
        print(f"{'synthetic' if synthetic else 'real':>9} {name}: {count}")
    row = expanded.filter(lambda made: made, input_columns="synthetic")[0]
    print({key: row[key] for key in ("source_label", "label", "intensity", "synthesizer")})

    # Made anew at each access, for training without storing anything:
    online = ExpressionMap(augmenter, faces.features["label"], mode="replace", p=1.0, seed=None)
    faces.set_transform(online)
    print(f"on the fly: row 0 is {names[faces[0]['label']]} now")


if __name__ == "__main__":
    main()
