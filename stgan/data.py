"""Image files to batches: decoding, tf.data, and one policy for unreadable images."""

import functools
import os
from typing import NamedTuple

import numpy as np

from pylib import RunFailed, UserError, usable_cores, warn
from stgan.celeba import crop_box
from stgan.stream import SampleStream
from tflib import quiet_native_code, tf, utils

# A file of some hundred bytes may claim to be an image of any size ("decompression bomb").
MAX_PIXELS = 1 << 26
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _require_size(height, width):
    """An operation that fails for images of no or more than MAX_PIXELS pixels."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(tf.logical_and(pixels > 0, pixels <= MAX_PIXELS), [height, width])


def decode_image(path, img_size, crop):
    """Graph of one image: file name (string scalar) -> float32 [img_size,img_size,3] in [-1,1].

    Running it fails for anything but a JPEG or PNG of up to MAX_PIXELS pixels.
    """
    content = tf.io.read_file(path)

    def decode_jpeg():
        height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(content))
        with tf.control_dependencies([_require_size(height, width)]):
            if crop:
                return tf.image.decode_and_crop_jpeg(content, crop_box(img_size), channels=3)
            return tf.image.decode_jpeg(content, channels=3)

    def decode_png():
        # The first chunk, which has to be the header, begins with width and height.
        is_png = tf.equal(tf.strings.substr(content, 0, 8), PNG_SIGNATURE)
        width, height = tf.unstack(tf.decode_raw(tf.strings.substr(content, 16, 8), tf.int32,
                                                 little_endian=False), 2)
        with tf.control_dependencies([tf.debugging.Assert(is_png, [path]),
                                      _require_size(height, width)]):
            image = tf.image.decode_png(content, channels=3)
        return tf.image.crop_to_bounding_box(image, *crop_box(img_size)) if crop else image

    # By content: data sets from elsewhere have PNGs that are called .jpg.
    image = tf.cond(tf.image.is_jpeg(content), decode_jpeg, decode_png)
    image = tf.image.resize_bicubic(image[tf.newaxis], [img_size, img_size])[0]
    image.set_shape([img_size, img_size, 3])
    return tf.clip_by_value(image, 0., 255.) / 127.5 - 1.


def unreadable_images(paths, img_size, crop):
    """Return [(path, reason)] for those of the files that cannot be decoded."""
    bad = []
    with tf.Graph().as_default() as graph:
        path_ = tf.placeholder(tf.string, [])
        image = decode_image(path_, img_size, crop)
        with utils.session('cpu', threads=1, graph=graph) as session:
            for path in paths:
                try:
                    with quiet_native_code():
                        session.run(image, {path_: path})
                except tf.errors.InvalidArgumentError:
                    bad.append((path, 'cut short, too large, or no JPEG or PNG'))
                except tf.errors.OpError as error:
                    bad.append((path, type(error).__name__))
    return bad


def _decoder(img_size, crop):
    """`decode_image` as tf.data should take it: as a graph, not as Python to make one of, which
    takes a tenth of a second.
    """
    return tf.autograph.experimental.do_not_convert(
        functools.partial(decode_image, img_size=img_size, crop=crop))


def _without_autotuning(dataset):
    """A dataset without the thread that tunes it, for which a session's end can wait seconds."""
    options = tf.data.Options()
    if hasattr(options, 'autotune'):
        options.autotune.enabled = False
    else:    # TensorFlow before 2.5
        options.experimental_optimization.autotune = False
    return dataset.with_options(options)


def load_images(paths, img_size, crop, batch_size, threads=None):
    """Yield float32 batches [<=batch_size,img_size,img_size,3] in [-1,1], decoded in parallel.

    Args:
        threads: images decoded at once; None: one per core.

    Raises:
        UserError: an image cannot be decoded.
    """
    with tf.Graph().as_default() as graph:
        dataset = tf.data.Dataset.from_tensor_slices(list(paths))
        dataset = dataset.map(_decoder(img_size, crop),
                              num_parallel_calls=threads or usable_cores())
        dataset = _without_autotuning(dataset.batch(batch_size).prefetch(2))
        batch = tf.data.make_one_shot_iterator(dataset).get_next()
    # Not a `with` block: it would leave its graph the caller's default between two batches.
    session = utils.session('cpu', graph=graph, optimize=False)
    try:
        start = 0
        while start < len(paths):
            with quiet_native_code():
                images = session.run(batch)
            yield images
            start += batch_size
    except tf.errors.OpError:
        bad = unreadable_images(paths[start:start + batch_size], img_size, crop)
        if not bad:
            raise
        raise UserError(f'{bad[0][0]}: not a readable image ({bad[0][1]})') from None
    finally:
        session.close()


class Batch(NamedTuple):
    """Tensors of a training batch; each session run that uses one takes the next batch."""

    xa: tf.Tensor               # float32 [N,S,S,3] in [-1,1]
    a: tf.Tensor                # {0,1} int64 [N,n_att]
    b: tf.Tensor                # `a`, shuffled along the batch
    number: tf.Tensor           # int64 scalar, counts the batches of the run
    images: tf.Tensor = None    # int64 [N], 1-based list positions


class TrainingBatches:
    """Batches from the sample stream, seekable and robust against single bad images.

    Args:
        celeba: the data set; indices: the list positions to train on.
        max_bad_images: share of them that may be unreadable, and are replaced then.

    Attributes:
        batch: the tensors, a `Batch`; stream: the `SampleStream`, which knows the bad images.
    """

    def __init__(self, celeba, indices, img_size, batch_size, seed, max_bad_images=.001):
        self.stream = SampleStream(len(indices), seed)
        self.batch_size = batch_size
        self._folder = celeba.folder
        self._indices = np.asarray(indices)
        self._paths = np.array(celeba.paths(indices))
        self._labels = celeba.labels[indices]
        self._img_size, self._crop = img_size, celeba.crop
        self._max_bad = max(1, int(max_bad_images * len(indices))) if max_bad_images else 0
        self._first = 0
        with tf.device('/cpu:0'):
            self._iterator = tf.data.make_initializable_iterator(self._dataset())
            xa, a, b, number, images = self._iterator.get_next()
        self.batch = Batch(xa, a, b, number[0], images)

    def _descriptions(self):
        """Yield (paths, a, b, batch number, list positions), each of a whole batch, without end.

        The first is the batch last sought.
        """
        number = self._first
        while True:
            samples = self.stream.samples(number * self.batch_size, self.batch_size)
            a = self._labels[samples]
            b = a[self.stream.target_order(number, self.batch_size)]
            yield (self._paths[samples], a, b, np.full(self.batch_size, number),
                   self._indices[samples] + 1)
            number += 1

    def _dataset(self):
        n_att = self._labels.shape[1]
        dataset = tf.data.Dataset.from_generator(
            self._descriptions, (tf.string, tf.int64, tf.int64, tf.int64, tf.int64),
            ([None], [None, n_att], [None, n_att], [None], [None]))
        dataset = dataset.flat_map(
            lambda *description: tf.data.Dataset.from_tensor_slices(description))
        dataset = dataset.map(
            lambda path, *rest: (decode_image(path, self._img_size, self._crop),) + rest,
            num_parallel_calls=usable_cores())
        return _without_autotuning(dataset.batch(self.batch_size, drop_remainder=True).prefetch(4))

    def replaced(self, number, count):
        """{'replaced_images': n} of `count` batches from `number` on, {} if there are none."""
        images = self.stream.bad and self.stream.replaced(number * self.batch_size,
                                                          count * self.batch_size)
        return {'replaced_images': images} if images else {}

    def reorder(self, number):
        """Draw another order of all samples from batch `number` on; call `seek` after it."""
        self.stream.reorder(number * self.batch_size)

    def seek(self, session, number):
        """Make batch `number` (0-based) the next one."""
        self._first = number
        session.run(self._iterator.initializer)

    def recover(self, session, number, error):
        """Go on after a run that was to take batch `number` ended in `error`.

        Unreadable images of the batch are named and replaced; without any, the error is raised.

        Raises:
            UserError: too many images are unreadable.
            RunFailed: the image folder is gone.
        """
        if not os.path.isdir(self._folder):
            raise RunFailed(f'{self._folder}: the image folder is gone; when it is back, repeat '
                            'the command: it goes on from the last checkpoint')
        samples = self.stream.samples(number * self.batch_size, self.batch_size)
        by_path = {self._paths[sample]: sample for sample in samples}
        bad = unreadable_images(list(by_path), self._img_size, self._crop)
        if not bad:
            raise error
        for path, reason in bad:
            warn(f'{path}: not a readable image ({reason}); another one takes its place')
            self.stream.bad.add(by_path[path])
        if len(self.stream.bad) > min(self._max_bad, self.stream.size - 1):
            named = ', '.join(self._paths[sample] for sample in sorted(self.stream.bad)[:10])
            raise UserError(f'{len(self.stream.bad)} of {self.stream.size} images are unreadable, '
                            f'at most {self._max_bad} may be (--max_bad_images): {named}; repair '
                            'or remove them, scripts/check_data.py finds all')
        self.seek(session, number)
