"""Alignment and the way back, to a tenth of a pixel; what is pasted where."""

import numpy as np
import pytest

from imlib import faces

# As the published crops are reduced: row, column, size; the network's size.
CROPS = [(26, 3, 170, 128), (40, 15, 148, 64)]
FACES = [(.7, 0), (1, 20), (2.7, -40), (5, 170)]    # photo pixels per aligned one, degrees
SHAPE = 900, 1000


def blob(shape, point, sigma):
    """A soft dot at x, y: float [H,W] in [0,200]."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    return 200 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma ** 2))


def centre(image, near, radius):
    """Centre of mass around a point: x, y."""
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    mass = image * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < radius ** 2)
    return np.array([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


def in_photo(points, scale, degrees):
    """Points of the aligned image in a photo, by turning and scaling them by hand."""
    angle = np.deg2rad(degrees)
    x, y = np.transpose(points) - [[89], [109]]
    return np.stack([480 + scale * (np.cos(angle) * x - np.sin(angle) * y),
                     450 + scale * (np.sin(angle) * x + np.cos(angle) * y)], axis=1)


def landmarks(scale, degrees):
    """Five landmarks whose eyes and middle of the mouth are where CelebA has them."""
    return in_photo([[69.745, 111], [107.238, 111], [90, 130], [73.432, 150.514],
                     [103.432, 154.514]], scale, degrees)


@pytest.mark.parametrize('scale, degrees', FACES)
def test_alignment_goes_where_it_says(scale, degrees):
    mapping = faces.alignment(landmarks(scale, degrees))
    point = np.array([[60.3, 80.2]])
    (place,) = in_photo(point, scale, degrees)
    photo = np.repeat(blob(SHAPE, place, 5 * scale)[..., np.newaxis], 3, axis=2)
    aligned = faces.warped(np.rint(photo).astype(np.uint8), mapping, (178, 218))
    assert aligned.shape == (218, 178, 3) and aligned.max() > 180
    np.testing.assert_allclose(centre(aligned[..., 0], point[0], 25), point[0], atol=.1)


@pytest.mark.parametrize('scale, degrees', FACES)
@pytest.mark.parametrize('row, column, side, size', CROPS)
def test_a_difference_comes_back_to_its_place(row, column, side, size, scale, degrees):
    to_aligned = faces.alignment(landmarks(scale, degrees))
    # Pixel j of the network's input is at column + j * side / size of the aligned image.
    to_input = faces.then(to_aligned, faces.inverse(faces.scaling(column, row, side / size)))
    spot = np.array([size * .4, size * .55])
    (wanted,) = in_photo([spot * side / size + [column, row]], scale, degrees)
    change = np.repeat(blob((size, size), spot, size / 20)[..., np.newaxis], 3, axis=2)
    pasted = faces.pasted(np.full(SHAPE + (3,), 20, np.uint8), change.astype(np.float32), to_input,
                          np.ones([size, size], np.float32))
    found = centre(pasted[..., 1] - 20., wanted, side / 4 * scale)
    np.testing.assert_allclose(found, wanted, atol=.1)
    np.testing.assert_allclose(pasted.max(), 220, atol=12)


def test_similarity_has_no_mirror_and_fits_least_squares():
    points = np.array([[0, 0], [4, 0], [0, 4.]])
    mapping = faces.similarity(points, points * [-1, 1])
    assert np.linalg.det(mapping[:, :2]) > 0
    turned = faces.similarity(points, np.array([[1, 1], [1, 9], [-7, 1.]]))
    np.testing.assert_allclose(turned, [[0, -2, 1], [2, 0, 1]], atol=1e-9)
    with pytest.raises(ValueError, match='one and the same'):
        faces.similarity(np.ones([3, 2]), points)


def test_likeness_to_a_face():
    seen = landmarks(2.7, 20)
    assert faces.likeness(seen) == pytest.approx(1)
    assert faces.likeness(seen[[1, 0, 2, 4, 3]]) < .3 and faces.likeness(np.ones([5, 2])) == 0
    profile = np.array([[0, 0], [0, 0], [5, 20], [0, 50], [0, 50.]])
    assert .7 < faces.likeness(profile) < .9


def test_square_crops_have_the_eyes_in_their_place():
    found = faces.apply(faces.square_alignment(landmarks(2.7, 20), 384), landmarks(2.7, 20))
    # From pixels' centres to shares of the side.
    shares = (found + .5) / 384
    np.testing.assert_allclose(shares[:2], [[.4, .47], [.6, .47]], atol=.001)
    assert abs(shares[3:, 0].mean() - .5) < .01 and .6 < shares[3, 1] < .75


def test_maps_follow_one_another():
    first, second = faces.scaling(1, 2, 3), faces.similarity([[0, 0], [1, 0]], [[0, 0], [0, 2]])
    points = np.array([[5., 7], [0, 1]])
    np.testing.assert_allclose(faces.apply(faces.then(first, second), points),
                               faces.apply(second, faces.apply(first, points)))
    np.testing.assert_allclose(faces.apply(faces.inverse(first), faces.apply(first, points)),
                               points)
    assert faces.pixel_size(second) == pytest.approx(2)


def test_large_photos_are_reduced_without_aliasing():
    stripes = np.zeros([1000, 1000, 3], np.uint8)
    stripes[:, ::2] = 255
    aligned = faces.warped(stripes, faces.scaling(0, 0, .2), (100, 100))
    assert np.ptp(aligned[5:-5, 5:-5]) <= 4 and abs(aligned.mean() - 127.5) < 3


def test_what_is_outside_of_a_photo_repeats_its_border():
    photo = np.full([50, 60, 3], 90, np.uint8)
    photo[:, -8:] = 200
    aligned = faces.warped(photo, faces.scaling(0, 0, 1), (200, 50))
    assert (aligned[:, :50] == 90).all() and (aligned[:, 56:] == 200).all()
    far = faces.warped(photo, faces.scaling(-1000, 0, 1), (30, 30))    # all of it outside
    assert (far == 200).all()


@pytest.mark.parametrize('size', [32, 64, 128])
def test_mask(size):
    mask = faces.mask(size)
    assert mask.shape == (size, size) and mask.dtype == np.float32
    rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert (rim == 0).all() and mask.max() == 1 and mask[size // 2, size // 2] == 1
    np.testing.assert_array_equal(mask, mask[::-1])
    np.testing.assert_array_equal(mask, mask.T)
    middle = mask[size // 2, :size // 2]
    assert (np.diff(middle) >= 0).all() and np.abs(np.diff(middle)).max() < 48 / size


@pytest.mark.parametrize('scale', [.2, 1, 4])
def test_pixels_outside_of_the_mask_stay(scale):
    photo = np.random.RandomState(0).randint(0, 256, [300, 300, 3]).astype(np.uint8)
    mapping = faces.scaling(-20, -30, 1 / scale)
    change = np.full([64, 64, 3], 70, np.float32)
    pasted = faces.pasted(photo, change, mapping, faces.mask(64))
    y, x = np.mgrid[:300, :300]
    # Outside of the superellipse, with the reach of the interpolation where the photo is coarser.
    u, v = (np.abs(2 * (each / scale - shift) - 63) / 63 for each, shift in ((x, 20), (y, 30)))
    outside = u ** 4 + v ** 4 > (1.12 if scale < 1 else 1.03) ** 4
    assert outside.any() and (~outside).sum() > 100
    np.testing.assert_array_equal(pasted[outside], photo[outside])
    changed = (pasted != photo).any(axis=2)
    assert changed[u ** 4 + v ** 4 < .4].mean() > .9
    np.testing.assert_array_equal(
        faces.pasted(photo, np.zeros([64, 64, 3], np.float32), mapping, faces.mask(64)), photo)


def test_levels_are_rounded_and_do_not_wrap():
    photo = np.full([40, 40, 3], 100, np.uint8)
    photo[:, 20:] = 250
    share = np.ones([40, 40], np.float32)
    for change, left, right in ((.6, 101, 251), (-.6, 99, 249), (.4, 100, 250), (9, 109, 255),
                                (-120, 0, 130)):
        pasted = faces.pasted(photo, np.full([40, 40, 3], change, np.float32),
                              faces.scaling(0, 0, 1), share)
        assert (pasted[:, :20] == left).all() and (pasted[:, 20:] == right).all()


def test_a_face_that_is_not_in_the_photo_changes_nothing():
    photo = np.full([40, 40, 3], 7, np.uint8)
    pasted = faces.pasted(photo, np.ones([8, 8, 3], np.float32) * 50, faces.scaling(900, 0, 1),
                          np.ones([8, 8], np.float32))
    np.testing.assert_array_equal(pasted, photo)
    assert pasted is not photo
