import numpy as np
import torch

from expraug.faces import CropDetector, LandmarkDetector, MTCNNDetector
from expraug.faces.frame import frame
from expraug.faces.pixels import as_array, as_tensor, on_device, shrunk, sides, stack

CPU = torch.device("cpu")


def test_an_array_is_wrapped_and_not_copied(neutral_images):
    image = neutral_images[0].copy()
    tensor = as_tensor(image, CPU)
    assert tensor.shape == (3, 256, 256)
    assert tensor.data_ptr() == image.ctypes.data
    assert sides(image) == sides(tensor) == (256, 256)
    assert np.array_equal(as_array(tensor), image)
    assert np.array_equal(as_array(as_tensor(image[:, :, 0], CPU)), image[:, :, 0])


def test_means_of_squares_are_pillows_on_tensors_too(neutral_images):
    image = neutral_images[0][:250, :251]
    tensor = as_tensor(image, CPU).contiguous()
    assert np.array_equal(as_array(shrunk(tensor, 4)), shrunk(image, 4))
    assert np.array_equal(as_array(shrunk(tensor[:1], 4)), shrunk(image[:, :, 0], 4))


def test_stacks_have_one_layout(neutral_images):
    arrays = [image[:, :200] for image in neutral_images[:2]]
    tensors = [as_tensor(image, CPU).contiguous() for image in arrays]
    for some, same in ((arrays, tensors), ([a[:, :, 0] for a in arrays], [t[:1] for t in tensors])):
        assert torch.equal(stack(some), stack(same))
        assert stack(some).stride() == stack(same).stride()


def test_an_image_is_moved_once_however_often_it_comes(neutral_images):
    first, second = neutral_images[:2]
    moved = on_device([first, second, first], torch.device("meta"))
    assert moved[0] is moved[2]
    assert [image.device.type for image in moved] == ["meta"] * 3
    assert on_device([first, second], CPU)[0] is first


def test_detectors_and_frames_see_tensors_as_they_see_arrays(neutral_images):
    arrays = [neutral_images[0], neutral_images[1][:200], neutral_images[2][:, :, 0]]
    tensors = [torch.from_numpy(np.atleast_3d(a)).permute(2, 0, 1).contiguous() for a in arrays]
    for detector in (LandmarkDetector("crop"), CropDetector()):
        for array, tensor, one, other in zip(
            arrays, tensors, detector(arrays), detector(tensors), strict=True
        ):
            assert np.array_equal(one.pack(), other.pack())
            left, right = (frame(image, one, 128) for image in (array, tensor))
            assert np.array_equal(as_array(right.pixels), left.pixels)
            assert right.boxes == left.boxes


def test_mtcnn_fits_tensors_as_it_fits_arrays(neutral_images):
    detector = MTCNNDetector(side=40)  # small, so that the image is reduced first
    image = neutral_images[0]
    tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    assert torch.equal(detector._fit(image), detector._fit(tensor))
