"""Faces are found where people see them, of any size and however turned; none elsewhere."""

import numpy as np
import people
import pytest
from PIL import Image

from pylib import UserError
from tflib import detection


@pytest.fixture(scope='module')
def detector():
    return detection.FaceDetector(threads=2)


@pytest.mark.parametrize('path', [people.ASTRONAUT, people.HOPPER])
def test_finds_the_one_face(detector, path):
    (face,) = detector.find(people.pixels(path))
    wanted = np.array(people.LANDMARKS[path], float)
    eyes = np.hypot(*(wanted[1] - wanted[0]))
    assert np.hypot(*(face.landmarks - wanted).T).max() < .1 * eyes
    assert (face.box[:2] < wanted.min(axis=0)).all() and (face.box[2:] > wanted.max(axis=0)).all()
    assert 1.5 * eyes < face.box[2] - face.box[0] < 3 * eyes and .9 < face.score <= 1


@pytest.mark.parametrize('path', people.WITHOUT_FACE)
def test_finds_none_where_there_is_none(detector, path):
    assert detector.find(people.pixels(path)) == []


@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_finds_turned_faces_and_says_where(detector, quarters):
    image = people.pixels(people.ASTRONAUT)[:400]    # not square
    height, width = image.shape[:2]
    turned = np.rot90(image, quarters)
    assert detector.find(turned, turns=False) == []
    (face,) = detector.find(turned)
    # Where a pixel of each landmark goes, by turning an image of them.
    for number, (x, y) in enumerate(people.LANDMARKS[people.ASTRONAUT]):
        spot = np.zeros([height, width])
        spot[int(y), int(x)] = 1
        row, column = np.argwhere(np.rot90(spot, quarters))[0]
        assert np.hypot(*(face.landmarks[number] - [column, row])) < 6
    assert (face.box[:2] < face.landmarks.min(axis=0)).all()
    assert (face.box[2:] > face.landmarks.max(axis=0)).all()


@pytest.mark.parametrize('path, height', [(people.ASTRONAUT, 113), (people.HOPPER, 215)])
@pytest.mark.parametrize('size', [42, 60, 109])
@pytest.mark.parametrize('degrees', [-25, 15])
def test_finds_small_and_rolled_faces(detector, path, height, size, degrees):
    with Image.open(path) as image:
        scale = size / height
        small = image.convert('RGB').rotate(degrees, Image.BICUBIC).resize(
            [int(side * scale) for side in image.size], Image.LANCZOS)
    assert len(detector.find(np.asarray(small), turns=False)) == 1


def test_smallest_face(detector):
    image = Image.fromarray(people.pixels(people.ASTRONAUT)).resize((256, 256), Image.LANCZOS)
    image = np.asarray(image)    # a face of 57 pixels
    assert len(detector.find(image, smallest=40)) == 1
    assert detector.find(image, smallest=100, turns=False) == []


def test_largest_first_in_a_photo_of_several(detector):
    small = Image.fromarray(people.pixels(people.ASTRONAUT)).resize((300, 300), Image.LANCZOS)
    canvas = Image.new('RGB', (900, 600), 'grey')
    canvas.paste(small, (0, 0))
    canvas.paste(Image.fromarray(people.pixels(people.HOPPER)), (340, 0))
    found = detector.find(np.asarray(canvas))
    assert len(found) == 2
    assert found[0].landmarks[0][0] > 340 > found[1].landmarks[1][0]
    np.testing.assert_allclose(found[1].landmarks[0], np.array([204, 100]) * 300 / 512, atol=4)


@pytest.mark.parametrize('shape', [(1, 1), (11, 300), (300, 13), (13, 12)])
def test_tiny_images(detector, shape):
    assert detector.find(np.zeros(shape + (3,), np.uint8)) == []


def test_strips_change_nothing(detector, monkeypatch):
    image = people.pixels(people.ASTRONAUT)[:301, :350]
    monkeypatch.setattr(detection, 'STRIP', 1 << 30)
    whole = detector._look_everywhere(image)
    assert whole[0].shape == (146, 170) and whole[0].max() > .9
    monkeypatch.setattr(detection, 'STRIP', 350 * 30)
    for one, other in zip(detector._look_everywhere(image), whole):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_boxes_that_overlap_are_one_face():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [2, 2, 6, 6.]])
    scores = np.array([.8, .9, .7, .95])
    # Best first; of the first two, which have 9/11 of their union in common, the better one.
    assert detection._suppress(boxes, scores, .7).tolist() == [3, 1, 2]
    assert detection._suppress(boxes, scores, .7, of_smaller=True).tolist() == [3, 2]
    assert detection._suppress(boxes[:0], scores[:0], .7).tolist() == []


def test_missing_and_unknown_weights_are_named(monkeypatch, tmp_path):
    package = tmp_path / 'mtcnn'
    package.mkdir()
    (package / '__init__.py').write_text('raise RuntimeError("its code is not to run")')
    (package / 'data').mkdir()
    other = {'pnet': [np.zeros(3)] * 13}
    np.save(str(package / 'data' / 'mtcnn_weights.npy'), other, allow_pickle=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match='unknown weights.*pip install'):
        detection.load_weights()
    monkeypatch.setattr('sys.path', [])
    with pytest.raises(UserError, match='mtcnn: not installed; .*pip install'):
        detection.load_weights()
