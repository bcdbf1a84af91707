"""Faces in photos: MTCNN, three small convolutional networks one after another.

P looks at every place of an image pyramid, R and O at what is left; each says whether there is a
face and where its box should be, O also where eyes, nose and mouth are. The weights come with the
PyPI package `mtcnn`, whose code is not imported: it runs eagerly, which a process with TensorFlow
2's behaviour switched off cannot.

Source: Zhang et al., "Joint face detection and alignment using multitask cascaded convolutional
networks", IEEE Signal Processing Letters 2016; the sizes of the layers are those of its figure 2.
"""

import functools
import importlib.util
import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from pylib import UserError
from tflib import tf, utils

SMALLEST = 40                   # height of the smallest face that is looked for, in pixels
THRESHOLDS = .6, .7, .9         # of P, R and O: the least probability of a face
PYRAMID = .709                  # from one level of the pyramid to the next, as published
CELL, STRIDE = 12, 2            # pixels that an output of P sees, and from one to the next
STRIP = 1 << 18                 # pixels that P looks at in one session run
CROPS = 256                     # boxes that R or O looks at in one session run

# Outputs of the kernels and layers, in the order in which the package keeps the weights.
_LAYERS = {'pnet': (10, 16, 32), 'rnet': (28, 48, 64, 128), 'onet': (32, 64, 64, 128, 256)}
_HEADS = {'pnet': (2, 4), 'rnet': (2, 4), 'onet': (2, 4, 10)}
# Size of the kernel and of the pooling window after each convolution, 0 for none. Caffe, with
# which the networks were trained, rounds sizes up: SAME, where that makes a difference.
_CONVOLUTIONS = {'pnet': ((3, 2, 'SAME'), (3, 0, ''), (3, 0, '')),
                 'rnet': ((3, 3, 'SAME'), (3, 3, 'VALID'), (2, 0, '')),
                 'onet': ((3, 3, 'SAME'), (3, 3, 'VALID'), (3, 2, 'SAME'), (2, 0, ''))}


class Face(NamedTuple):
    """A face in an image; pixel centres have whole numbers, from 0."""

    box: np.ndarray          # float [4]: left, top, right, bottom
    landmarks: np.ndarray    # float [5,2]: x, y of the eyes, the nose and the corners of the mouth,
                             # of each pair first the one that is left in an upright image
    score: float             # probability


class FaceDetector:
    """The three networks in a session of their own, for several threads at once.

    Raises:
        UserError: the weights are not installed.
    """

    def __init__(self, threads=-1):
        weights = load_weights()
        with tf.Graph().as_default() as graph:
            self._images = {'pnet': tf.placeholder(tf.uint8, [1, None, None, 3]),
                            'rnet': tf.placeholder(tf.uint8, [None, 24, 24, 3]),
                            'onet': tf.placeholder(tf.uint8, [None, 48, 48, 3])}
            self._outputs = {name: _network(name, images, weights[name])
                             for name, images in self._images.items()}
            self._session = utils.session('cpu', threads, graph, optimize=False)

    def find(self, image, smallest=SMALLEST, turns=True):
        """Find the faces in an image.

        Args:
            image: uint8 [H,W,3].
            smallest: height of the smallest face to look for, in pixels.
            turns: if there is none, look at the image in quarter turns.

        Returns:
            List of `Face`, the largest first.
        """
        height, width = image.shape[:2]
        for quarters in range(4 if turns else 1):
            faces = self._find_upright(Image.fromarray(np.rot90(image, quarters)), smallest)
            if faces:
                return [_turned_back(face, quarters, width, height) for face in faces]
        return []

    def _find_upright(self, image, smallest):
        boxes = self._propose(image, smallest)
        if not len(boxes):    # which TensorFlow 2.x cannot pool
            return []
        scores, shifts = self._look(image, boxes, 'rnet', 24)
        boxes, scores, shifts = _chosen(scores > THRESHOLDS[1], boxes, scores, shifts)
        boxes, shifts = _chosen(_suppress(boxes, scores, .7), boxes, shifts)
        if not len(boxes):
            return []
        boxes = _square(_shifted(boxes, shifts))
        scores, shifts, points = self._look(image, boxes, 'onet', 48)
        boxes, scores, shifts, points = _chosen(scores > THRESHOLDS[2], boxes, scores, shifts,
                                                points)
        # Five columns and five rows, each a share of the box.
        sides = boxes[:, np.newaxis, 2:] - boxes[:, np.newaxis, :2]
        landmarks = boxes[:, np.newaxis, :2] + points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides
        boxes = _shifted(boxes, shifts)
        kept = _suppress(boxes, scores, .7, of_smaller=True)
        # From borders of pixels to their centres.
        faces = [Face(boxes[i] - .5, landmarks[i] - .5, float(scores[i])) for i in kept]
        return sorted(faces, key=lambda face: -np.prod(face.box[2:] - face.box[:2]))

    def _propose(self, image, smallest):
        """Square boxes [N,4] where P sees faces."""
        scale, found = min(1., CELL / smallest), []
        level = image
        while min(image.size) * scale >= CELL:
            size = [int(round(side * scale)) for side in image.size]
            level = level.resize(size, Image.BILINEAR, reducing_gap=2)
            scores, shifts = self._look_everywhere(np.asarray(level))
            rows, columns = np.nonzero(scores > THRESHOLDS[0])
            corners = STRIDE * np.stack([columns, rows], axis=1)
            factor = np.divide(image.size, size)
            boxes = np.concatenate([corners * factor, (corners + CELL) * factor], axis=1)
            scores, shifts = scores[rows, columns], shifts[rows, columns]
            found.append(_chosen(_suppress(boxes, scores, .5), boxes, scores, shifts))
            scale *= PYRAMID
        if not found:
            return np.zeros([0, 4])
        boxes, scores, shifts = (np.concatenate(part) for part in zip(*found))
        boxes, shifts = _chosen(_suppress(boxes, scores, .7), boxes, shifts)
        return _square(_shifted(boxes, shifts))

    def _look_everywhere(self, level):
        """Outputs of P for uint8 [H,W,3]: maps of scores and box shifts."""
        # In strips, which take less memory, and less time as they fit into the cache.
        height = max(1, STRIP // level.shape[1] // STRIDE) * STRIDE
        strips = [level[np.newaxis, start:start + height + CELL - STRIDE]
                  for start in range(0, len(level) - CELL + 1, height)]
        runs = [self._run('pnet', strip) for strip in strips]
        return [np.concatenate(part, axis=1)[0] for part in zip(*runs)]

    def _look(self, image, boxes, name, size):
        """Outputs of R or O for square boxes; outside of the image is black."""
        halves = [image]    # large boxes are cut from reduced copies, which takes less time
        while min(halves[-1].size) >= 4 * size:
            halves.append(halves[-1].reduce(2))
        crops = np.zeros([len(boxes), size, size, 3], np.uint8)
        for crop, box in zip(crops, boxes):
            level = int(np.log2(max(1, (box[2] - box[0]) / (2 * size))))
            level = min(level, len(halves) - 1)
            corners = np.rint(box / 2 ** level).astype(int)
            if (corners[2:] > corners[:2]).all():
                part = halves[level].crop(tuple(corners.tolist()))
                crop[:] = part.resize((size, size), Image.BILINEAR)
        runs = [self._run(name, crops[start:start + CROPS])
                for start in range(0, len(crops), CROPS)]
        return [np.concatenate(part) for part in zip(*runs)]

    def _run(self, name, images):
        return self._session.run(self._outputs[name], {self._images[name]: images})


@functools.lru_cache(maxsize=1)
def shared_detector(threads=-1):
    """The one `FaceDetector` of this process."""
    return FaceDetector(threads)


def load_weights():
    """Weights of the networks: {'pnet', 'rnet', 'onet': list of float32 arrays}.

    Kernels, biases and slopes of the layers, then kernels and biases of the outputs: probability,
    box, landmarks.

    Raises:
        UserError: the package that has them is not installed, or has others.
    """
    install = ("faces are found with the weights in the package mtcnn: pip install 'mtcnn' (0.1.1 "
               'or 1.0.0), or give the landmarks')
    spec = importlib.util.find_spec('mtcnn')    # which does not import it
    if spec is None or not spec.origin:
        raise UserError(f'mtcnn: not installed; {install}')
    folder = os.path.dirname(spec.origin)
    try:
        return {name: _in_order(name, values) for name, values in _stored(folder).items()}
    except (OSError, ImportError, LookupError, ValueError, TypeError) as error:
        raise UserError(f'{folder}: unknown weights ({error}); {install}') from None


def _stored(folder):
    """The weights as the package keeps them, kernels [height,width,in,out]."""
    path = os.path.join(folder, 'data', 'mtcnn_weights.npy')
    if os.path.exists(path):    # 0.1.1, whose networks look at the image mirrored at its diagonal
        return {name: [values.transpose(1, 0, 2, 3) if values.ndim == 4 else values
                       for values in weights]
                for name, weights in np.load(path, allow_pickle=True).item().items()}
    import joblib  # noqa: PLC0415  (the package brings it, from 1.0.0 on)
    return {name: joblib.load(os.path.join(folder, 'assets', 'weights', f'{name}.lz4'))
            for name in _LAYERS}


def _in_order(name, values):
    """The weights of a network with the outputs in order, features flattened as TensorFlow does."""
    hidden, heads = 3 * len(_LAYERS[name]), {}
    for kernel, bias in zip(values[hidden::2], values[hidden + 1::2]):
        heads[kernel.shape[-1]] = [kernel, bias]
    ordered = list(values[:hidden])
    if tuple(kernel.shape[-1] for kernel in ordered[::3]) != _LAYERS[name]:
        raise ValueError(f'{name}: other layers')
    if name != 'pnet':    # columns before rows, there
        kernel = ordered[-3]
        channels = _LAYERS[name][-2]
        grid = kernel.reshape(3, 3, channels, -1).transpose(1, 0, 2, 3)
        ordered[-3] = grid.reshape(kernel.shape)
    for size in _HEADS[name]:
        ordered += heads[size]
    return ordered


def _network(name, images, weights):
    """Outputs for uint8 [N,h,w,3]: probability of a face, box, for O landmarks.

    Those of P are maps [N,rows,columns(,4)], those of the others [N(,4)].
    """
    values = iter(weights)
    x = (tf.cast(images, tf.float32) - 127.5) / 128
    for _, window, padding in _CONVOLUTIONS[name]:
        x = tf.nn.conv2d(x, next(values), [1, 1, 1, 1], 'VALID')
        x = _leaky(tf.nn.bias_add(x, next(values)), next(values))
        if window:
            x = tf.nn.max_pool(x, [1, window, window, 1], [1, 2, 2, 1], padding)
    if name != 'pnet':
        kernel = next(values)
        x = tf.reshape(x, [-1, len(kernel)])
        x = _leaky(tf.matmul(x, kernel) + next(values), next(values))
    outputs = []
    for _ in _HEADS[name]:
        kernel, bias = next(values), next(values)
        # P's outputs are those of 1x1 convolutions.
        outputs.append(tf.tensordot(x, kernel.reshape(kernel.shape[-2:]), 1) + bias)
    return [tf.nn.softmax(outputs[0])[..., 1]] + outputs[1:]


def _leaky(x, slopes):
    """Leaky ReLU with a slope for each channel."""
    return tf.maximum(x, 0.) + slopes.reshape(-1) * tf.minimum(x, 0.)


def _chosen(which, *arrays):
    """Each array's rows of a mask or of a list of numbers."""
    return tuple(array[which] for array in arrays)


def _shifted(boxes, shifts):
    """Boxes with their corners moved by shares of their sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + shifts * np.concatenate([sides, sides], axis=1)


def _square(boxes):
    """Squares as large as the longer sides, around the centres."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0, keepdims=True) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _suppress(boxes, scores, most, of_smaller=False):
    """Numbers of the boxes, best first, that overlap no better one by more than a share.

    Args:
        most: the share, of the union of two boxes, or of the smaller one.
    """
    order, kept = np.argsort(-scores, kind='stable'), []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        sides = (np.minimum(boxes[order, 2:], boxes[best, 2:])
                 - np.maximum(boxes[order, :2], boxes[best, :2]))
        common = np.prod(np.maximum(sides, 0), axis=1)
        whole = (np.minimum(areas[order], areas[best]) if of_smaller
                 else areas[order] + areas[best] - common)
        order = order[common <= most * whole]
    return np.array(kept, np.int64)


def _turned_back(face, quarters, width, height):
    """A face found in np.rot90(image, quarters), in the image, whose size is given."""
    points = np.concatenate([face.landmarks, face.box.reshape(2, 2)])
    for quarter in range(quarters, 0, -1):
        # rot90 makes columns rows: pixel (x, y) goes to (y, side - 1 - x).
        side = width if quarter % 2 else height
        points = np.stack([side - 1 - points[:, 1], points[:, 0]], axis=1)
    box = np.concatenate([points[5:].min(axis=0), points[5:].max(axis=0)])
    return Face(box, points[:5], face.score)
