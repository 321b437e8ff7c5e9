import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

datasets = pytest.importorskip("datasets")

from crop_augmenter import crop_augmenter  # noqa: E402
from datasets.fingerprint import Hasher  # noqa: E402
from labelled_rows import NAMES, NotTheFirst, described  # noqa: E402
from unmoved import Unmoved  # noqa: E402

from expraug import (  # noqa: E402
    Expression,
    ExpressionAugmenter,
    SynthesisRequest,
)
from expraug.cache import image_digest  # noqa: E402
from expraug.datasets import ExpressionAugmentedDataset  # noqa: E402
from expraug.datasets.hf import PROVENANCE, ExpressionMap  # noqa: E402
from expraug.errors import LabelError  # noqa: E402
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE  # noqa: E402

HAPPY, NEUTRAL = 0, 1


def stored(dataset):
    """Return the rows with images as the bytes that are stored."""
    return dataset.cast_column("image", datasets.Image(decode=False))[:]


def test_adding_rows(rows, smile):
    augmenter = crop_augmenter(smile, intensity=(0.8, 0.8))
    made = rows.map(ExpressionMap(augmenter), batched=True, batch_size=4)
    assert made.num_rows == 12
    assert made.features["image"] == rows.features["image"]
    assert made.features["label"] == rows.features["label"]
    before, after = stored(rows), stored(made)
    assert after["image"][::2] == before["image"], "real images must keep their very bytes"
    for name in ("label", "identity"):
        assert after[name][::2] == before[name]
    assert after["identity"][1::2] == before["identity"]
    assert after["label"][1::2] == [1 - label for label in before["label"]]
    assert after["source_label"] == [label for label in before["label"] for _ in range(2)]
    assert after["synthetic"] == [False, True] * 6
    assert after["source_digest"][::2] == after["source_digest"][1::2]
    assert len(set(after["source_digest"])) == 6
    assert after["synthesizer"] == ["", "pixel"] * 6
    assert after["fingerprint"] == ["", str(augmenter.fingerprint)] * 6
    assert after["intensity"] == [0.0, 0.8] * 6
    assert after["reason"] == [""] * 12
    assert np.isnan(after["score_identity"]).all()
    for i in range(6):
        target = Expression.NEUTRAL if i < 3 else Expression.HAPPY
        (outcome,) = augmenter([np.array(rows[i]["image"])], [SynthesisRequest(target, 0.8)])
        assert np.array_equal(made[2 * i + 1]["image"], outcome.image)
        xmp = made[2 * i + 1]["image"].info["XML:com.adobe.xmp"]
        assert DIGITAL_SOURCE_TYPE in xmp
        assert after["source_digest"][2 * i] in xmp


def test_replacing_rows(rows, smile):
    made = rows.map(ExpressionMap(crop_augmenter(smile), mode="replace", seed=1), batched=True)
    assert made.num_rows == 6
    assert 0 < sum(made["synthetic"]) < 6
    for row, before, after in zip(made, stored(rows)["image"], stored(made)["image"], strict=True):
        assert row["synthetic"] == (row["label"] != row["source_label"]) == (before != after)
    every = rows.map(ExpressionMap(crop_augmenter(smile), mode="replace", p=1), batched=True)
    assert all(every["synthetic"])


def test_several_copies_are_the_menu_of_the_row(rows, smile):
    augmenter = crop_augmenter(smile, intensity_levels=9, per_image=5)
    made = rows.map(ExpressionMap(augmenter, copies=5), batched=True)
    for row in rows:
        of_it = [
            other
            for other in made
            if (other["identity"], other["source_label"]) == (row["identity"], row["label"])
        ]
        digest = image_digest(np.array(row["image"]))
        menu = augmenter.menu(digest, Expression.parse(NAMES[row["label"]]))
        asked = {(str(request.target), round(request.intensity, 2)) for request in menu}
        found = [(NAMES[r["label"]], round(r["intensity"], 2)) for r in of_it if r["synthetic"]]
        assert len(found) == len(set(found)) == 5
        assert set(found) == asked


def test_one_copy_is_what_a_seeded_transform_makes(rows, smile):
    """The same request of the same menu, whichever door."""
    augmenter = crop_augmenter(smile)
    function = ExpressionMap(augmenter, mode="replace", p=0.5, seed=3)
    same = ExpressionAugmentedDataset(rows, augmenter, mode="replace", p=0.5, seed=3)
    for i, row in enumerate(rows.map(function, batched=True)):
        assert row["label"] == same[i]["label"]
        assert np.array_equal(row["image"], same[i]["image"])


def test_soft_labels(rows, smile):
    soft = [[0.9, 0.1], [0.5, 0.5], [1.0, 0.0], [0.2, 0.8], [0.0, 1.0], [0.5, 0.6]]
    columns = rows.remove_columns("label").add_column("label", soft)
    with pytest.warns(UserWarning, match="rows are left alone"):
        made = columns.map(ExpressionMap(crop_augmenter(smile), NAMES), batched=True)
    real = made.filter(lambda synthetic: not synthetic, input_columns="synthetic")
    assert real["reason"][:] == ["", "ambiguous_label", "", "", "", "label_outside_scheme"]
    synthetic = made.filter(lambda synthetic: synthetic, input_columns="synthetic")
    assert synthetic["source_label"][:] == [soft[i] for i in (0, 2, 3, 4)]
    assert synthetic["label"][:] == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_columns_of_usual_names(rows, smile):
    renamed = rows.rename_columns({"image": "img", "label": "emotion"})
    made = renamed.map(ExpressionMap(crop_augmenter(smile)), batched=True)
    assert made["emotion"][1::2] == [1 - label for label in made["source_label"][::2]]
    assert made.features["img"] == rows.features["image"]


def test_batches_and_processes_change_nothing(rows, tmp_path, smile):
    function = ExpressionMap(crop_augmenter(smile, cache=tmp_path), copies=2)
    options = {"batched": True, "load_from_cache_file": False}
    reference = described(rows.map(function, batch_size=6, **options))
    assert described(rows.map(function, batch_size=1, **options)) == reference
    assert described(rows.map(function, batch_size=4, num_proc=2, **options)) == reference
    ranked = rows.map(function, batch_size=4, num_proc=2, with_rank=True, **options)
    assert described(ranked) == reference
    backwards = rows.select(range(5, -1, -1)).map(function, batch_size=6, **options)
    assert sorted(described(backwards)) == sorted(reference)


def test_set_transform(rows, smile):
    transform = ExpressionMap(crop_augmenter(smile), NAMES, mode="replace", p=0.5, seed=None)
    online = rows.with_transform(transform)
    torch.manual_seed(0)
    changed = []
    for i in range(6):
        for _ in range(8):
            row = online[i]
            assert isinstance(row["image"], Image.Image)
            changed.append(row["label"] != rows[i]["label"])
            assert np.array_equal(row["image"], rows[i]["image"]) != changed[-1]
    assert 12 < sum(changed) < 36

    def collate(samples):
        return [(np.asarray(s["image"]).tobytes(), s["label"]) for s in samples]

    def epoch():
        torch.manual_seed(1)
        return list(DataLoader(online, batch_size=2, num_workers=2, collate_fn=collate))

    assert epoch() == epoch()
    assert len(epoch()) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_gives_the_rows_of_map(rows, workers, smile):
    function = ExpressionMap(crop_augmenter(smile), rows.features["label"], copies=2)
    expected = described(rows.map(function, batched=True))
    stream = rows.to_iterable_dataset(num_shards=2)
    made = stream.map(
        function, batched=True, batch_size=2, features=function.features(stream.features)
    )
    assert made.features["source_label"] == rows.features["label"]
    assert set(PROVENANCE) < set(made.features)
    if workers == 0:
        assert described(made) == expected
    loaded = DataLoader(made, batch_size=None, num_workers=workers)
    assert sorted(described(loaded)) == sorted(expected)
    without_features = stream.map(function, batched=True, batch_size=3)
    assert described(without_features) == expected


def test_what_cannot_be_made_stays_with_its_reason(rows, smile):
    blank = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(blank, "PNG")
    good = stored(rows)["image"][3]["bytes"]
    cells = [
        (good, NEUTRAL, ""),
        (blank.getvalue(), NEUTRAL, "no_face"),
        (good[: len(good) // 2], NEUTRAL, "unreadable_image"),
        (b"no image", NEUTRAL, "unreadable_image"),
        (None, NEUTRAL, "unreadable_image"),
        (good, -1, "label_outside_scheme"),
        (good, None, "label_outside_scheme"),
    ]
    damaged = datasets.Dataset.from_dict(
        {
            "image": [None if data is None else {"bytes": data} for data, _, _ in cells],
            "label": [label for _, label, _ in cells],
        },
        features=datasets.Features(image=datasets.Image(), label=rows.features["label"]),
    )
    function = ExpressionMap(crop_augmenter(smile, alignment="detect"))
    with pytest.warns(UserWarning, match="label -1 is outside"):
        made = damaged.map(function, batched=True, batch_size=3)
    real = made.filter(lambda synthetic: not synthetic, input_columns="synthetic")
    assert stored(real)["image"] == stored(damaged)["image"]
    assert stored(real)["label"] == stored(damaged)["label"]
    assert stored(real)["reason"] == [reason for _, _, reason in cells]
    assert made.num_rows == len(cells) + 1


def test_gate_scores(rows, smile):
    function = ExpressionMap(crop_augmenter(smile, gate=NotTheFirst()), mode="replace", p=1)
    made = rows.map(function, batched=True)
    scored = [row for row in made if row["synthetic"]]
    lost = [row for row in made if not row["synthetic"]]
    assert scored
    assert lost
    assert all(row["score_identity"] > 0.645 for row in scored)
    assert all(row["reason"] == "identity_lost" for row in lost)
    assert all(row["label"] == row["source_label"] for row in lost)


def test_images_whose_mode_cannot_hold_the_change(rows, smile):
    """Given as PIL images, they are left alone with the reason, which is counted."""
    face = rows[3]["image"]
    images = [face.convert("1"), face.quantize(2), face.quantize(256)]
    augmenter = crop_augmenter(smile)
    batch = {"image": images, "label": [NEUTRAL] * 3}
    for mode in ("add", "replace"):
        made = ExpressionMap(augmenter, NAMES, mode=mode, p=1)(batch)
        real = [i for i, synthetic in enumerate(made["synthetic"]) if not synthetic]
        assert [made["reason"][i] for i in real[:2]] == ["image_mode", "image_mode"]
        assert [made["label"][i] for i in real[:2]] == [NEUTRAL, NEUTRAL]
        assert made["image"][:2] == images[:2]
        assert made["synthetic"].count(True) == 1
        assert (made["image"][-1].mode, made["label"][-1]) == ("P", HAPPY)
    assert augmenter.stats["image_mode"] == 4


def test_faces_whose_landmarks_disagree_stay_with_that_reason(faces):
    """By default."""
    images = [Image.open(path) for path in sorted((faces / "happy").iterdir())]
    augmenter = ExpressionAugmenter(Unmoved())
    made = ExpressionMap(augmenter, NAMES, mode="replace", p=1)(
        {"image": images, "label": [HAPPY] * 10}
    )
    for label, synthetic, reason in zip(
        made["label"], made["synthetic"], made["reason"], strict=True
    ):
        assert reason == ("" if synthetic else "landmarks_disagree")
        assert label == (NEUTRAL if synthetic else HAPPY)
    assert 0 < augmenter.stats["landmarks_disagree"] == made["synthetic"].count(False) < 10


def test_saved_and_loaded_again(rows, tmp_path, smile):
    made = rows.map(ExpressionMap(crop_augmenter(smile)), batched=True)
    made.save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(tmp_path / "made.parquet")
    parquet = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "made.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    for again in (datasets.load_from_disk(str(tmp_path / "saved")), parquet):
        assert again.features == made.features
        assert described(again) == described(made)
        assert again["reason"][:] == made["reason"][:]
    people = parquet.filter(lambda synthetic: synthetic, input_columns="synthetic")
    assert sorted(people["identity"]) == sorted(rows["identity"])


def test_pushed(rows, tmp_path, monkeypatch, smile):
    """All of `push_to_hub` but the network: the hub is a folder."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem
    from huggingface_hub import HfApi

    if not hasattr(datasets.arrow_dataset, "DirFileSystem"):
        pytest.skip("this version of datasets reads the hub in another way, which is not replaced")
    hub = tmp_path / "hub"
    hub.mkdir()

    def upload(self, *, additions, **options):
        for addition in additions:
            (hub / addition.path_in_repo).parent.mkdir(exist_ok=True)
            (hub / addition.path_in_repo).write_bytes(Path(addition.path_or_fileobj).read_bytes())

    def commit(self, repo_id, operations, **options):
        for operation in operations:
            if operation.path_in_repo == "README.md":
                (hub / "README.md").write_bytes(operation.path_or_fileobj)
        return "committed"

    class Info:
        id, sha = "someone/faces", "0" * 40

    for name, method in {
        "repo_info": lambda self, *args, **options: Info(),
        "create_repo": lambda self, *args, **options: pytest.fail("the repository is there"),
        "preupload_lfs_files": upload,
        "create_commit": commit,
    }.items():
        monkeypatch.setattr(HfApi, name, method)
    monkeypatch.setattr(
        "datasets.arrow_dataset.DirFileSystem",
        lambda fs, path: DirFileSystem(path=str(hub), fs=LocalFileSystem()),
    )
    made = rows.map(ExpressionMap(crop_augmenter(smile)), batched=True)
    assert made.push_to_hub("someone/faces", split="train") == "committed"
    pulled = datasets.load_dataset(str(hub), split="train", cache_dir=str(tmp_path / "cache"))
    assert pulled.features == made.features
    assert described(pulled) == described(made)


def test_ranks_go_to_their_gpus(monkeypatch, smile):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        "expraug.pipeline.augmenter.device_for", lambda device, _: torch.device(device)
    )
    augmenter = crop_augmenter(smile, alignment="detect")
    augmenter.device = augmenter.detector.device = torch.device("cuda")
    function = ExpressionMap(augmenter)
    before = Hasher.hash(function)
    for rank, expected in ((0, 0), (1, 1), (2, 0)):
        moved = function._augmenter_for(rank)
        assert moved.device == moved.detector.device == torch.device("cuda", expected)
        assert moved is function._augmenter_for(rank)
    assert function._augmenter_for(None) is augmenter
    assert augmenter.device == augmenter.detector.device == torch.device("cuda")
    assert Hasher.hash(function) == before
    on_cpu = ExpressionMap(crop_augmenter(smile))
    assert on_cpu._augmenter_for(1) is on_cpu.augmenter


def test_labels_as_names(rows, smile):
    names = rows.cast_column("label", datasets.Value("string"))
    texts = [{0: "happy", 1: "neutral"}[int(label)] for label in names["label"]]
    named = names.remove_columns("label").add_column("expression", texts)
    made = named.map(ExpressionMap(crop_augmenter(smile)), batched=True)
    assert made["expression"][:2] == ["happy", "neutral"]
    other_words = ["joy" if text == "happy" else "calm" for text in texts]
    synonyms = named.remove_columns("expression").add_column("expression", other_words)
    with pytest.raises(LabelError, match="how the set spells"):
        synonyms.map(ExpressionMap(crop_augmenter(smile)), batched=True)
    function = ExpressionMap(crop_augmenter(smile), ["joy", "calm"], label_column="expression")
    assert synonyms.map(function, batched=True)["expression"][:2] == ["joy", "calm"]


def test_wrong_use(rows, smile):
    function = ExpressionMap(crop_augmenter(smile), NAMES)
    with pytest.raises(ValueError, match="batched=True"):
        rows.map(function)
    with pytest.raises(ValueError, match="expanded before"):
        rows.map(function, batched=True).map(function, batched=True)
    with pytest.raises(ValueError, match="no column image or"):
        rows.remove_columns("image").map(function, batched=True)
    with pytest.raises(ValueError, match="no column label or"):
        rows.remove_columns("label").map(function, batched=True)
    with pytest.raises(ValueError, match="with_format"):
        rows.with_format("torch").map(function, batched=True)
    stream = rows.to_iterable_dataset().map(ExpressionMap(crop_augmenter(smile)), batched=True)
    with pytest.raises(LabelError, match="nothing tells what the numbers"):
        next(iter(stream))
    for wrong in (
        {"mode": "append"},
        {"copies": 0},
        {"copies": 5},
        {"copies": 2, "mode": "replace"},
        {"p": 2},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ExpressionMap(crop_augmenter(smile), **wrong)


def test_a_data_set_of_rows_is_a_base_too(rows, smile):
    dataset = ExpressionAugmentedDataset(rows, crop_augmenter(smile))
    assert dataset.targets == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    sample = dataset[7]
    assert (sample["label"], sample["identity"]) == (NEUTRAL, rows[1]["identity"])


def test_with_transfer(rows, tmp_path):
    augmenter = ExpressionAugmenter("transfer", cache=tmp_path)
    scheme = [*NAMES, "sad", "surprise", "fear", "disgust", "angry", "contempt"]
    function = ExpressionMap(augmenter, scheme, copies=2)
    few = rows.select([0, 3]).cast_column("label", datasets.Value("int64"))
    before = Hasher.hash(function)
    made = few.map(function, batched=True)
    assert made.num_rows > 4
    assert all(row["synthetic"] == (row["label"] != row["source_label"]) for row in made)
    assert Hasher.hash(function) == before
