"""What users can import: a name that goes away or changes its arguments breaks their code."""

import inspect

import pytest

import expraug

NAMES = [
    "AllGates",
    "Balance",
    "BalancedExpressionSampler",
    "Expression",
    "ExpressionAugmentedDataset",
    "ExpressionAugmenter",
    "ExpressionGate",
    "ExpressionMap",
    "IdentityGate",
    "JointTransform",
    "LabelScheme",
    "Matrix",
    "Outcome",
    "SynthesisCache",
    "SynthesisRequest",
    "SynthesizedFaces",
    "Synthesizer",
    "Uniform",
    "augment",
    "augment_video",
    "create_synthesizer",
    "detect_faces",
    "list_datasets",
    "list_synthesizers",
    "open_dataset",
    "register_synthesizer",
    "show",
]

ARGUMENTS = {
    "augment": "image source target intensity variant synthesizer face alignment device",
    "augment_video": "video source target out intensity onset variant synthesizer face alignment "
    "gate check_landmarks fps device max_pixels progress",
    "ExpressionAugmenter": "synthesizer policy intensity intensity_levels alignment gate "
    "check_landmarks cache on_miss per_image seed device batch_size",
    "SynthesisRequest": "target intensity variant",
    "JointTransform": "dataset transform scheme",
    "detect_faces": "images alignment device",
    "show": "what shows targets limit intensity synthesizer alignment device",
    "create_synthesizer": "name pretrained config",
}


def test_the_names_are_these():
    assert sorted(expraug.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(expraug))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_documented(name):
    assert inspect.getdoc(getattr(expraug, name))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name):
    parameters = list(inspect.signature(getattr(expraug, name)).parameters)
    assert [p for p in parameters if p != "self"] == ARGUMENTS[name].split()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = expraug.nothing
