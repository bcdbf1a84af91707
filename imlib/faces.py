"""Geometry of faces: out of a photo upright and to size, and an edit's difference back into it.

Points are x, y in pixels, [...,2]; the centres of pixels have whole numbers, from 0. A map is a
matrix [2,3] that takes points (x, y, 1).

Source: CelebA's aligned images (178x218) are similarity transforms that take the eyes and the
middle of the mouth to `TEMPLATE`; that agrees with the mean of its published landmarks.
"""

import numpy as np
from PIL import Image

ALIGNED_SIZE = 178, 218
TEMPLATE = np.array([[69.745, 111.], [107.238, 111.], [88.432, 152.514]])
# Square crops: distance of the eyes and their height, as shares of the side. About what the
# defaults of HD-CelebA-Cropper give, whose table of landmarks is not published with its code.
SQUARE_EYES, SQUARE_HEIGHT = .2, .47
FEATHER = .12    # of the mask's half width: where it rises from 0 to 1
MARGIN = 4       # pixels around a part of an image, for interpolation


def three_points(landmarks):
    """Eyes and the middle of the mouth, [3,2], of landmarks [5,2]: eyes, nose, mouth corners."""
    landmarks = np.asarray(landmarks, float)
    return np.concatenate([landmarks[:2], landmarks[3:].mean(axis=0, keepdims=True)])


def likeness(landmarks):
    """How well a similarity can take landmarks [5,2] to `TEMPLATE`: 1 exactly, 0 not at all.

    Faces from the front come near 1, profiles near 0.8; with the eyes mixed up it is about 0.2, and
    the alignment, if there is any, makes nonsense.
    """
    z, w = (each[:, 0] - each[:, 0].mean() + 1j * (each[:, 1] - each[:, 1].mean())
            for each in (three_points(landmarks), TEMPLATE))
    return float(abs(np.vdot(z, w)) / max(1e-9, np.linalg.norm(z) * np.linalg.norm(w)))


def similarity(points, targets):
    """The map (turn, scale, shift; no mirror) that takes points [N,2] closest to targets [N,2].

    Raises:
        ValueError: the points are one and the same.
    """
    points, targets = np.asarray(points, float), np.asarray(targets, float)
    # With points as complex numbers it is z -> a z + b, and least squares give a.
    z, w = (each[:, 0] + 1j * each[:, 1] for each in (points, targets))
    centre, target = z.mean(), w.mean()
    spread = np.sum(np.abs(z - centre) ** 2)
    if not spread > 1e-9:
        raise ValueError('the points are one and the same')
    a = np.sum(np.conj(z - centre) * (w - target)) / spread
    b = target - a * centre
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def scaling(left, top, x_scale, y_scale=None):
    """The map (x, y) -> (left + x_scale x, top + y_scale y)."""
    return np.array([[x_scale, 0, left], [0, x_scale if y_scale is None else y_scale, top]], float)


def then(first, second):
    """The map that does `first`, then `second`."""
    return (np.vstack([second, [0, 0, 1]]) @ np.vstack([first, [0, 0, 1]]))[:2]


def inverse(mapping):
    """The map back."""
    return np.linalg.inv(np.vstack([mapping, [0, 0, 1]]))[:2]


def apply(mapping, points):
    """Points [...,2] -> points [...,2]."""
    return np.asarray(points, float) @ mapping[:, :2].T + mapping[:, 2]


def alignment(landmarks):
    """The map from a photo with a face to CelebA's aligned image of it.

    Args:
        landmarks: [5,2], see `three_points`.

    Raises:
        ValueError: the landmarks are one and the same point.
    """
    return similarity(three_points(landmarks), TEMPLATE)


def square_alignment(landmarks, size):
    """The map from a photo with a face to a square crop of it, of `size` pixels.

    Args:
        landmarks: [5,2], see `three_points`.

    Raises:
        ValueError: the landmarks are one and the same point.
    """
    (left, right, _), centre = TEMPLATE, TEMPLATE[:2].mean(axis=0)
    scale = SQUARE_EYES * size / (right - left)[0]
    to_square = scaling(size / 2 - .5 - scale * centre[0],
                        SQUARE_HEIGHT * size - .5 - scale * centre[1], scale)
    return then(alignment(landmarks), to_square)


def pixel_size(mapping):
    """Length of a map's image of a pixel's side."""
    return float(np.sqrt(abs(np.linalg.det(mapping[:, :2]))))


def warped(image, mapping, size):
    """The part of an image that a map takes to a new image, interpolated with cubics.

    What lies outside of the image repeats its border. Where the new image is smaller, the old one
    is reduced with an antialiasing filter beforehand.

    Args:
        image: uint8 [H,W,3]; mapping: from it to the new image; size: (width, height) of that.

    Returns:
        uint8 [height,width,3].
    """
    height, width = image.shape[:2]
    corners = apply(inverse(mapping), _corners(size))
    reduction = max(1., 1 / pixel_size(mapping))
    margin = MARGIN * reduction
    low = np.floor(corners.min(axis=0) - margin).astype(int)
    high = np.ceil(corners.max(axis=0) + margin).astype(int) + 1
    # A face at the border may have most of its box outside: as much as is near, repeated.
    inner_low, inner_high = np.clip(low, 0, [width - 1, height - 1]), np.clip(
        high, 1, [width, height])
    inner_high = np.maximum(inner_high, inner_low + 1)
    part = Image.fromarray(image[inner_low[1]:inner_high[1], inner_low[0]:inner_high[0]])
    if reduction > 1:
        shape = np.maximum(1, np.rint(np.divide(part.size, reduction))).astype(int)
        factors = np.divide(part.size, shape)
        part = part.resize(tuple(shape.tolist()), Image.BICUBIC, reducing_gap=4)
    else:
        factors = np.ones(2)
    # From the reduced part, whose pixel 0 covers the photo's pixels from inner_low on, to it.
    to_photo = scaling(*(inner_low + factors / 2 - .5), *factors)
    before = np.maximum(0, np.ceil((inner_low - low) / factors)).astype(int)
    after = np.maximum(0, np.ceil((high - inner_high) / factors)).astype(int)
    padded = np.pad(np.asarray(part), [(before[1], after[1]), (before[0], after[0]), (0, 0)],
                    'edge')
    to_new = then(then(scaling(*-before, 1), to_photo), mapping)
    return np.asarray(_transformed(Image.fromarray(padded), to_new, size, Image.BICUBIC))


def mask(size):
    """What share of a difference is pasted: float32 [size,size] in [0,1].

    A superellipse, 1 within and 0 from the middle of each side on, with a soft rim: a square would
    show its seams.
    """
    place = np.abs(2 * np.arange(size) + 1 - size) / max(1, size - 1)
    radius = (place ** 4 + place[:, np.newaxis] ** 4) ** .25
    t = np.clip((1 - radius) / FEATHER, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def pasted(image, difference, mapping, share):
    """A copy of an image with a difference added.

    The image keeps its own sharpness, and a difference of 0 leaves it as it is. Pixels outside of
    the mask stay.

    Args:
        image: uint8 [H,W,3].
        difference: float32 [S,S,3], in levels.
        mapping: from the image to the difference.
        share: what of it counts, float32 [S,S], such as `mask`.

    Returns:
        uint8 [H,W,3].
    """
    image = np.array(image)
    size, to_image = len(difference), inverse(mapping)
    height, width = image.shape[:2]
    corners = apply(to_image, _corners((size, size)))
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, [width, height])
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, [width, height])
    if not difference.any() or (high <= low).any():
        return image
    # Where the image is coarser than the difference, that is reduced beforehand.
    coarse = min(size, max(1, int(round(size * pixel_size(to_image)))))
    mapping = then(mapping, scaling(.5 * coarse / size - .5, .5 * coarse / size - .5,
                                    coarse / size))
    to_part = then(scaling(*low, 1), mapping)
    shape = tuple((high - low).tolist())
    part = image[low[1]:high[1], low[0]:high[0]]
    weights = _resampled(share, coarse, to_part, shape, Image.BILINEAR)
    for channel in range(3):
        change = _resampled(difference[:, :, channel], coarse, to_part, shape, Image.BICUBIC)
        values = part[:, :, channel] + weights * change
        part[:, :, channel] = np.clip(np.rint(values), 0, 255)
    return image


def _resampled(values, size, to_part, shape, method):
    """Float [S,S] reduced to `size`, then taken to a part of an image: float32 [height,width]."""
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    if size < len(values):    # a mask must not overshoot
        plane = plane.resize((size, size), Image.BOX if method == Image.BILINEAR else method)
    return np.asarray(_transformed(plane, inverse(to_part), shape, method))


def _transformed(image, mapping, size, method):
    """A Pillow image taken by a map to a new one; 0 where it has no pixels."""
    # Pillow asks where in the old image a pixel comes from, and counts from pixels' corners.
    (a, b, c), (d, e, f) = inverse(mapping)
    data = a, b, c + (1 - a - b) / 2, d, e, f + (1 - d - e) / 2
    return image.transform(size, Image.AFFINE, data, method)


def _corners(size):
    """The corner pixels' outer corners of an image of (width, height): [4,2]."""
    width, height = size
    return np.array([[x, y] for x in (-.5, width - .5) for y in (-.5, height - .5)])
