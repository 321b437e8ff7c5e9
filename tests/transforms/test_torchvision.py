import pickle
from functools import partial

import numpy as np
import pytest
import torch
from crop_augmenter import MeanFaceDetector, crop_augmenter, unchecked
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from unmoved import Unmoved

from expraug import Expression, ExpressionAugmenter, LabelScheme, SynthesisRequest
from expraug.errors import LabelError, UnsupportedExpressionError
from expraug.faces.detect import CROP_POINTS
from expraug.transforms.torchvision import RandomExpression

SCHEME = ["happy", "neutral"]
HAPPY, NEUTRAL = 0, 1


def always(**options):
    return RandomExpression(SCHEME, "pixel", p=1.0, **unchecked() | options)


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def test_one_sample_in_every_structure(neutral_images):
    pil, uint8 = Image.fromarray(neutral_images[0]), tensor(neutral_images[0])
    transform = always(intensity=(1, 1))
    expected, label = transform(pil, NEUTRAL)
    assert label == HAPPY
    expected = tensor(np.array(expected))
    assert not torch.equal(expected, uint8)
    samples = {
        "tuple": (uint8, torch.tensor(NEUTRAL)),
        "nested": (uint8, {"boxes": [1, 1], "label": NEUTRAL}),
        "dict": {"id": 1, "image": uint8, "label": NEUTRAL},
        "tv": {"labels": NEUTRAL, "image": tv_tensors.Image(uint8), "extra": torch.rand(3, 3, 3)},
        "names": (uint8, "neutral"),
    }
    for sample in samples.values():
        made = transform(sample)
        assert type(made) is type(sample)
        values = list(made.values()) if isinstance(made, dict) else list(made)
        image = next(v for v in values if isinstance(v, torch.Tensor) and v.ndim == 3
                     and v.dtype == torch.uint8)  # fmt: skip
        assert torch.equal(image.as_subclass(torch.Tensor), expected)
    assert transform(samples["tuple"])[1].item() == HAPPY
    assert transform(samples["nested"])[1] == {"boxes": [1, 1], "label": HAPPY}
    assert transform(samples["dict"])["id"] == 1, "an equal integer elsewhere must stay"
    assert isinstance(transform(samples["tv"])["image"], tv_tensors.Image)
    assert torch.equal(transform(samples["tv"])["extra"], samples["tv"]["extra"])
    assert transform(samples["names"])[1] == "happy"


def test_batches_equal_single_samples(neutral_images, happy_images):
    images = torch.stack([tensor(i) for i in (*neutral_images[:3], *happy_images[:3])])
    labels = torch.tensor([NEUTRAL] * 3 + [HAPPY] * 3)
    transform = always(seed=5)
    changed, new = transform(images, labels)
    assert new.tolist() == [HAPPY] * 3 + [NEUTRAL] * 3
    for i in range(6):
        one, label = transform(images[i], int(labels[i]))
        assert torch.equal(one, changed[i])
        assert label == new[i]
    assert torch.equal(labels, torch.tensor([NEUTRAL] * 3 + [HAPPY] * 3)), "input must stay"


def test_floats_keep_what_8_bits_cannot_hold(neutral_images):
    image = tensor(neutral_images[0]).float() / 255
    image = v2.functional.pad(image, 128, padding_mode="edge")  # more than a face moves
    image = image + torch.rand_like(image) / 1000
    in_the_middle = MeanFaceDetector((CROP_POINTS - 0.5) / 2 + 0.5)
    made, _ = always(alignment=in_the_middle)(image, NEUTRAL)
    assert made.dtype == torch.float32
    beside = torch.ones(image.shape[1:], dtype=torch.bool)
    beside[32:-32, 32:-32] = False
    assert torch.equal(made[:, beside], image[:, beside]), "outside the face every bit must stay"
    assert (made - image).abs().max() > 0.05


def test_grey_alpha_and_orientation(neutral_images):
    grey = Image.fromarray(neutral_images[0]).convert("L")
    made, label = always()(grey, NEUTRAL)
    assert (made.mode, made.size, label) == ("L", grey.size, HAPPY)
    assert always()(tensor(neutral_images[0])[:1], NEUTRAL)[0].shape == (1, 256, 256)
    alpha = Image.fromarray(neutral_images[0]).convert("RGBA")
    assert always()(alpha, NEUTRAL)[0].mode == "RGBA"


def test_image_and_label_change_together_or_not_at_all(neutral_images):
    torch.manual_seed(0)
    transform = RandomExpression(SCHEME, "pixel", p=0.4, **unchecked())
    changed = 0
    image = Image.fromarray(neutral_images[0])
    for _ in range(200):
        made, label = transform(image, NEUTRAL)
        assert (made is image) == (label == NEUTRAL)
        changed += label == HAPPY
    assert 50 < changed < 110
    fer = RandomExpression("fer2013", synthesizer="fevgan", p=1.0, **unchecked())
    assert fer(image, 4) == (image, 4), "fevgan has nothing for sad faces"
    assert fer(image, 6)[1] != 6, "it has for neutral ones"
    small = Image.new("L", (8, 8))
    assert transform(small, NEUTRAL) == (small, NEUTRAL)
    unknown = RandomExpression({"happy": "happy", "neutral": "neutral", "bored": None}, p=1.0)
    assert unknown(image, 2) == (image, 2)


def test_an_expression_without_a_class_is_never_made(neutral_images):
    image = Image.fromarray(neutral_images[0])
    only = RandomExpression(["neutral"], p=1.0)
    assert only(image, 0) == (image, 0)
    any_target = RandomExpression(["neutral"], p=1.0, policy={"uniform": ["happy"]})
    assert any_target(image, 0) == (image, 0)


def test_errors(neutral_images, smile):
    image = Image.fromarray(neutral_images[0])
    with pytest.raises(LabelError, match="label 5 is outside"):
        always()(image, 5)
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad"):
        RandomExpression("fer2013", synthesizer=smile, targets=["sad"])
    with pytest.raises(LabelError, match="no class for sad"):
        RandomExpression(SCHEME, targets=["sad"])
    with pytest.raises(ValueError, match="targets or a policy"):
        RandomExpression(SCHEME, targets=["happy"], policy={"uniform": None})
    with pytest.raises(ValueError, match=r"targets must be a list, as \['happy'\]"):
        RandomExpression(SCHEME, targets="happy")
    with pytest.raises(ValueError, match="p must be"):
        RandomExpression(SCHEME, p=1.5)
    with pytest.raises(ValueError, match=r"intensity must be \(low, high\), as .* not 0.8"):
        RandomExpression(SCHEME, intensity=0.8)
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or the like, not 'gpu'"):
        RandomExpression(SCHEME, device="gpu")
    with pytest.raises(ValueError, match="labels_getter must be"):
        RandomExpression(SCHEME, labels_getter="label")


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"finds no CUDA device .* use device='cpu'"):
        RandomExpression(SCHEME, "pixel", device="cuda")


def test_an_augmenter_brings_its_own_arguments():
    ready = ExpressionAugmenter("pixel")
    with pytest.raises(ValueError, match="its own synthesizer, intensity, alignment, on_miss, dev"):
        RandomExpression(SCHEME, "pixel", augmenter=ready, intensity=(0.5, 1), alignment="detect",
                         on_miss="keep", device="cuda")  # fmt: skip
    with pytest.raises(ValueError, match="its own targets, policy, gate, cache, per_image;"):
        RandomExpression(SCHEME, augmenter=ready, targets=["happy"], policy={"uniform": None},
                         gate="identity", cache="x", per_image=2)  # fmt: skip
    with pytest.raises(ValueError, match="its own check_landmarks;"):
        RandomExpression(SCHEME, augmenter=ready, check_landmarks=False)
    assert RandomExpression(SCHEME, augmenter=ready, intensity=[0.6, 1.0]).augmenter is ready


def test_faces_whose_landmarks_disagree_stay_as_they_were(faces):
    """By default."""
    folder = Subset(ImageFolder(str(faces)), range(10))
    checked = RandomExpression(SCHEME, Unmoved(), p=1.0, seed=0)
    every = RandomExpression(SCHEME, Unmoved(), p=1.0, seed=0, check_landmarks=False)
    for image, label in folder:
        made, new = checked(image, label)
        assert (made is image) == (new == label)
        assert every(image, label)[1] == NEUTRAL
    refused = checked.augmenter.stats["landmarks_disagree"]
    assert refused > 0
    assert checked.augmenter.stats["made"] == 10 - refused > 0
    assert every.augmenter.stats == {"made": 10}


# -- requests


def test_p_of_1_changes_every_face_of_which_anything_can_be_made(faces):
    """Also with a scheme that has fewer classes than the synthesizer expressions."""
    folder = ImageFolder(str(faces))
    for names in (SCHEME, ["happy", "sad", "neutral"]):
        scheme = LabelScheme.from_classes(names)
        transform = RandomExpression(scheme, "pixel", p=1.0, **unchecked())
        for image, label in folder:
            _, made = transform(image, folder.classes[label])
            assert made != folder.classes[label]
            assert made in names


def test_single_samples_and_batches_give_what_the_augmenter_makes(neutral_images):
    """For the same request, the same bytes."""
    augmenter = crop_augmenter("pixel", per_image=1, intensity=(0.7, 0.7), policy=_Only())
    request = SynthesisRequest(Expression.HAPPY, 0.7)
    arrays = neutral_images[:2]
    expected = [outcome.image for outcome in augmenter(arrays, [request] * 2)]
    transform = RandomExpression(SCHEME, augmenter=augmenter, p=1.0)
    for array, made in zip(arrays, expected, strict=True):
        assert np.array_equal(transform(Image.fromarray(array), NEUTRAL)[0], made)
        assert np.array_equal(transform(tensor(array), NEUTRAL)[0].permute(1, 2, 0), made)
    batch, _ = transform(torch.stack([tensor(a) for a in arrays]), torch.tensor([NEUTRAL] * 2))
    assert np.array_equal(batch.permute(0, 2, 3, 1), np.stack(expected))


class _Only:
    def probabilities(self, source, available):
        return {Expression.HAPPY: 1.0} if Expression.HAPPY in available else {}


def test_only_the_menu_is_asked_for(neutral_images):
    """However often an image comes, it becomes one of `per_image` pictures."""
    image = Image.fromarray(neutral_images[0])
    transform = RandomExpression("fer2013", "pixel", p=1.0, per_image=3, **unchecked())
    seen = {np.asarray(transform(image, 6)[0]).tobytes() for _ in range(40)}
    assert len(seen) == 3


# -- the scheme


def test_without_a_scheme_a_label_has_no_meaning(neutral_images):
    image = Image.fromarray(neutral_images[0])
    transform = RandomExpression(synthesizer="pixel", p=1.0)
    for label in (NEUTRAL, "neutral", [0, 1]):
        with pytest.raises(LabelError, match=r"give RandomExpression a scheme .*JointTransform"):
            transform(image, label)


def test_names_need_no_scheme_where_the_targets_spell_them(neutral_images):
    image = Image.fromarray(neutral_images[0])
    transform = RandomExpression(synthesizer="pixel", targets=["happiness"], p=1.0)
    assert transform(image, "neutral")[1] == "happiness"
    with pytest.raises(LabelError, match="both mean happy"):
        transform(image, "happy")
    with pytest.raises(LabelError, match="no telling"):
        transform(image, NEUTRAL)


def test_bind(neutral_images):
    own = LabelScheme.from_classes(SCHEME)
    transform = RandomExpression(synthesizer="pixel", p=1.0)
    transform.bind(own)
    assert transform.scheme is own
    assert transform(Image.fromarray(neutral_images[0]), NEUTRAL)[1] == HAPPY
    assert "scheme=['happy', 'neutral']" in repr(transform)
    transform.bind(own)
    with pytest.raises(LabelError, match="contradicts the data set: at index 0"):
        transform.bind(LabelScheme.from_classes(["neutral", "happy"]))
    with pytest.raises(LabelError, match=r"'fer2013' contradicts .* at index 0"):
        RandomExpression("fer2013", "pixel").bind(own)
    given = RandomExpression(["joy", "calm"], "pixel")
    given.bind(own)
    assert given.scheme.classes == {0: "joy", 1: "calm"}, "the given spelling stays"
    with pytest.raises(LabelError, match="no class for sad"):
        RandomExpression(synthesizer="pixel", targets=["sad"]).bind(own)


# -- being one transform among others


def test_repr_tells_what_it_does(tmp_path):
    told = repr(RandomExpression("fer2013", "pixel", targets=["happy"], cache=tmp_path, p=0.3))
    for part in ("scheme='fer2013'", "p=0.3", "synthesizer='pixel'", "targets=['happy']",
                 "intensity=(0.6, 1.0)", "alignment='crop'", "gate=None",
                 tmp_path.name):  # fmt: skip
        assert part in told
    ready = repr(RandomExpression(SCHEME, augmenter=ExpressionAugmenter("pixel", per_image=2)))
    assert "ExpressionAugmenter('pixel'" in ready
    assert "per_image=2" in ready
    policy = {"balance": {"happy": 2, "neutral": 1}}
    assert f"policy={policy}" in repr(RandomExpression(SCHEME, "pixel", policy=policy))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="torch 2.6 cannot compile torchvision's ToImage"
)
def test_torch_compile_around_it(neutral_images):
    # what other backends make of torchvision's own operations is not ours, and takes them long
    compiled = partial(torch.compile, backend="eager")
    pipeline = compiled(v2.Compose([
        always(seed=1), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
    ]))  # fmt: skip
    image, label = pipeline(Image.fromarray(neutral_images[0]), NEUTRAL)
    expected, _ = always(seed=1)(tensor(neutral_images[0]), NEUTRAL)
    assert label == HAPPY
    assert torch.allclose(image.as_subclass(torch.Tensor), expected / 255)
    alone = compiled(always(seed=1))
    batch, labels = alone(tensor(neutral_images[0])[None], torch.tensor([NEUTRAL]))
    assert labels.tolist() == [HAPPY]
    assert torch.equal(batch[0], expected)


def test_labels_getter(neutral_images):
    transform = always(labels_getter=lambda sample: sample[2]["y"])
    made = transform(Image.fromarray(neutral_images[0]), NEUTRAL, {"y": NEUTRAL})
    assert made[1:] == (NEUTRAL, {"y": HAPPY})
    with pytest.raises(LabelError, match="labels_getter failed"):
        transform(Image.fromarray(neutral_images[0]), NEUTRAL)
    with pytest.raises(LabelError, match="one element of the sample"):
        always(labels_getter=lambda sample: 1)(Image.fromarray(neutral_images[0]), NEUTRAL)


def test_in_a_v2_pipeline(neutral_images):
    pipeline = v2.Compose([
        always(),
        v2.RandomResizedCrop(64, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    image, label = pipeline(Image.fromarray(neutral_images[0]), NEUTRAL)
    assert image.shape == (3, 64, 64)
    assert label == HAPPY
    assert "p=1.0" in repr(pipeline)


class Joint(Dataset):
    """An image folder whose transform takes image and label; gives what it was, too."""

    def __init__(self, folder, transform):
        self.folder, self.transform = ImageFolder(str(folder)), transform

    def __len__(self):
        return len(self.folder)

    def __getitem__(self, index):
        image, label = self.transform(*self.folder[index])
        return index, torch.from_numpy(np.array(image)), label


def epoch(dataset, workers, context=None, seed=0):
    """Return images and labels of an epoch, by index."""
    torch.manual_seed(seed)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=workers,
                        multiprocessing_context=context)  # fmt: skip
    found = {}
    for indices, images, labels in loader:
        for i, image, label in zip(indices.tolist(), images, labels.tolist(), strict=True):
            found[i] = (image.numpy().tobytes(), label)
    return found


def test_same_seed_same_pictures(faces, tmp_path):
    """Whatever the workers and however they start, with and without what the cache holds."""

    def dataset(cache):
        transform = RandomExpression(SCHEME, "pixel", p=0.7, seed=3, cache=cache, **unchecked())
        return Joint(faces, transform)

    cached = dataset(tmp_path / "cache")
    reference = epoch(cached, 0)
    assert {label for _, label in reference.values()} == {HAPPY, NEUTRAL}
    assert epoch(cached, 2, "fork") == reference
    assert epoch(cached, 4, "fork", seed=9) == reference, "shuffling must not matter"
    assert epoch(cached, 1, "spawn") == reference  # each imports torch anew, which takes seconds
    assert epoch(dataset(tmp_path / "empty"), 2, "fork") == reference
    assert epoch(dataset(None), 0) == reference
    cached.transform.set_epoch(1)
    assert epoch(cached, 0) != reference
    assert epoch(cached, 2, "fork") == epoch(cached, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_seed_repeats_a_run(faces, tmp_path, workers):
    transform = RandomExpression(SCHEME, "pixel", p=0.5, cache=tmp_path, **unchecked())
    dataset = Joint(faces, transform)
    first, again, other = (epoch(dataset, workers, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_epochs_of_persistent_workers_follow_set_epoch(faces):
    transform = RandomExpression(SCHEME, "pixel", p=0.5, seed=1, **unchecked())
    loader = DataLoader(Joint(faces, transform), batch_size=20, num_workers=1,
                        persistent_workers=True)  # fmt: skip

    def labels():
        return next(iter(loader))[2].tolist()

    first = labels()
    assert labels() == first
    transform.set_epoch(1)
    assert labels() != first


def test_pickles_small():
    assert len(pickle.dumps(RandomExpression("fer2013"))) < 10_000


def test_photographs(neutral_images):
    transform = always(alignment="detect")
    photograph = Image.new("RGB", (700, 500), "white")
    photograph.paste(Image.fromarray(neutral_images[0]), (300, 120))
    made, label = transform(photograph, NEUTRAL)
    change = np.abs(np.asarray(made).astype(int) - np.asarray(photograph)).max(axis=2)
    assert label == HAPPY
    assert change[120:376, 300:556].any()
    change[120:376, 300:556] = 0
    assert not change.any()
    assert transform.scheme.expression(HAPPY) is Expression.HAPPY
