import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expraug import Expression, create_synthesizer, list_synthesizers, register_synthesizer
from expraug.errors import InvalidWeightsError, MissingWeightsError, UnsupportedExpressionError
from expraug.pretrained import CONFIG_FILE, WEIGHTS_FILE
from expraug.synthesizer import Synthesizer
from expraug.synthesizers import UNetCGANSynthesizer

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(params=list_synthesizers(pretrained=True))
def synthesizer(request):
    return create_synthesizer(request.param)


def batch(synthesizer, n=3, times=1):
    size = synthesizer.image_size * times
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(n, 3, size, size, generator=generator)
    target = torch.tensor([int(synthesizer.expressions[i % len(synthesizer.expressions)])
                           for i in range(n)])  # fmt: skip
    return faces, target


@pytest.mark.parametrize("times", [1, 2])
def test_contract(synthesizer, times):
    if times > 1 and not synthesizer.size_agnostic:
        pytest.skip("works at its own size only")
    faces, target = batch(synthesizer, times=times)
    made = synthesizer(faces, target, torch.ones(len(faces)))
    assert made.shape == faces.shape
    assert made.dtype == faces.dtype
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(synthesizer(faces, target, torch.zeros(len(faces))), faces)
    alone = synthesizer(faces[1:2], target[1:2], torch.ones(1))
    assert torch.equal(alone[0], made[1]), "a face must not depend on its batch"
    assert torch.equal(synthesizer(faces[:0], target[:0], torch.ones(0)), faces[:0])


def test_clip_starts_at_the_source(synthesizer):
    faces, target = batch(synthesizer, 2)
    clip = synthesizer.clip(faces, target, frames=4)
    assert clip.shape == (2, 4, *faces.shape[1:])
    assert torch.equal(clip[:, 0], faces)
    # a net that makes all frames at once rounds otherwise than for the last one alone
    whole = synthesizer(faces, target, torch.ones(2))
    torch.testing.assert_close(clip[:, -1], whole, atol=1e-5, rtol=0)


def test_what_it_synthesizes_is_what_it_renders(synthesizer):
    faces, target = batch(synthesizer, 2)
    made = synthesizer.synthesize(faces, target, torch.ones(2))
    expected = synthesizer(faces, target, torch.ones(2))
    assert torch.allclose(made.render(faces), expected, atol=1e-6)
    clip = synthesizer.clip(faces, target, frames=3)
    of_clip = synthesizer.synthesize_clip(faces, target, 3)
    assert len(of_clip) == 3
    for k, one in enumerate(of_clip):
        assert torch.allclose(one.render(faces), clip[:, k], atol=1e-6)


def test_unknown_target_lists_what_there_is(smile):
    pixel = create_synthesizer(smile)
    faces, _ = batch(pixel, 1)
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad; it can make happy"):
        pixel(faces, torch.tensor([int(Expression.SAD)]), torch.ones(1))


def test_save_and_load(synthesizer, tmp_path):
    synthesizer.save_pretrained(tmp_path)
    again = Synthesizer.from_pretrained(tmp_path)
    assert again.fingerprint == synthesizer.fingerprint
    assert create_synthesizer(str(tmp_path)).fingerprint == synthesizer.fingerprint
    assert not any(p.requires_grad for p in again.parameters())


def test_fingerprint_follows_weights_and_config(synthesizer):
    before = synthesizer.fingerprint
    tensor = next(t for t in synthesizer.state_dict().values() if t.is_floating_point())
    tensor.view(-1)[0] += 1
    assert synthesizer.fingerprint != before


def test_missing_weights_say_what_there_is():
    with pytest.raises(MissingWeightsError, match=r"embedded are .*pixel"):
        create_synthesizer("nothing-here")
    with pytest.raises(MissingWeightsError, match=r"no synthesizer 'nothing-here'; there are "):
        create_synthesizer("nothing-here", pretrained=False)
    with pytest.raises(InvalidWeightsError, match="'pixel', not a UNetCGANSynthesizer"):
        UNetCGANSynthesizer.from_pretrained("pixel")


def test_registry():
    with pytest.raises(ValueError, match="taken"):

        @register_synthesizer("pixel")
        class Other(Synthesizer):
            pass

    with pytest.raises(TypeError, match="fix the configuration"):
        create_synthesizer("pixel", image_size=64)
    few = {"sources": {"sad": ["neutral"]}, "triangles": 1, "samples": 1}
    fresh = create_synthesizer("pixel", pretrained=False, **few)
    assert fresh.expressions == (Expression.SAD,)


def test_a_class_of_the_same_name_from_elsewhere_takes_nothing_over():
    namesake = type("PixelSynthesizer", (Synthesizer,), {})
    with pytest.raises(ValueError, match=r"taken by expraug\.synthesizers\.pixel\.PixelSynth"):
        register_synthesizer("pixel")(namesake)
    assert create_synthesizer("pixel").name == "pixel"


PLUGIN = (
    "from expraug import Synthesizer, register_synthesizer\n"
    "@register_synthesizer('{name}')\nclass Plugin(Synthesizer):\n    pass\n"
)


def install(site: Path, package: str, code: str | None, name: str = "") -> None:
    """Install a package whose module is a plug-in; without code, the module is not there."""
    module = package.replace("-", "_")
    if code is not None:
        (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[expraug.synthesizers]\n{name or package} = {module}\n"
    )


def run_with(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}
    script = site / "script.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False
    )


def test_entry_points_register_and_broken_ones_are_left_out_by_name(tmp_path):
    """A package that names its module in the entry-point group is found."""
    half = PLUGIN.format(name="half-registered") + "raise RuntimeError('no licence')\n"
    install(tmp_path, "sound", PLUGIN.format(name="sound"))
    install(tmp_path, "raises", half, name="half-registered")
    install(tmp_path, "exits", "import sys\nsys.exit('not on this machine')\n")
    install(tmp_path, "taken", PLUGIN.format(name="pixel"))
    install(tmp_path, "absent", None)
    done = run_with(
        tmp_path,
        "import expraug\n"
        "from expraug.errors import MissingWeightsError\n"
        "names = expraug.list_synthesizers()\n"
        "assert 'sound' in names and 'pixel' in names, names\n"
        "assert 'half-registered' not in names\n"
        "assert type(expraug.create_synthesizer('pixel')).__module__ == "
        "'expraug.synthesizers.pixel'\n"
        "for pretrained in (True, False):\n"
        "    try:\n"
        "        expraug.create_synthesizer('half-registered', pretrained=pretrained)\n"
        "    except MissingWeightsError as error:\n"
        "        print(error)\n",
    )
    assert done.returncode == 0, done.stderr
    for package, why in {
        "raises": "RuntimeError: no licence",
        "exits": "SystemExit: not on this machine",
        "taken": "ValueError: synthesizer name 'pixel' is taken by expraug.synthesizers.pixel",
        "absent": "ModuleNotFoundError: No module named 'absent'",
    }.items():
        (line,) = (x for x in done.stderr.splitlines() if f"of the package {package} " in x)
        assert why in line
        assert "script.py:3: UserWarning" in line, "it points at the caller's line"
    assert "sound" not in done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 2
    for line in told:
        assert "no synthesizer 'half-registered'; there are " in line
        assert "of the package raises cannot be imported (RuntimeError: no licence)" in line


def test_embedded_weights_have_model_cards():
    for name in list_synthesizers(pretrained=True):
        folder = REPOSITORY / "expraug" / "weights" / name
        card = (folder / "README.md").read_text()
        digest = json.loads((folder / CONFIG_FILE).read_text())["weights_sha256"]
        for word in ("Data", "People left out", "Command", "Licence", digest[:12]):
            assert word in card, f"{name}'s model card has no {word!r}"
        assert (folder / WEIGHTS_FILE).stat().st_size <= 16 * 2**20
