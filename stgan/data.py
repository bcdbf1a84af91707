"""Image files to batches: decoding, tf.data, and one policy for unreadable images."""

import functools
import io
import os
from typing import NamedTuple

import numpy as np

import imlib
from pylib import RunFailed, UserError, counted, usable_cores, warn
from stgan.celeba import ALIGNED_SIZE, crop_box, image_fault
from stgan.stream import Course, SampleStream
from tflib import collective, quiet_native_code, tf, utils

# A file of some hundred bytes may claim to be an image of any size ("decompression bomb").
MAX_PIXELS = 1 << 26
MAX_REDUCTION = 4    # of squares, without a warning
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _checked_size(size, img_size, crop, path, on_large):
    """(height, width) of an image upright, int32 [2]; fails if it is not one the networks take."""
    height, width = tf.unstack(size, 2)
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    allowed = tf.logical_and(pixels > 0, pixels <= MAX_PIXELS)
    fits = (tf.reduce_all(tf.equal(size, ALIGNED_SIZE[::-1])) if crop
            else tf.equal(height, width))
    checks = [tf.debugging.Assert(tf.logical_and(allowed, fits), [size])]
    if on_large and not crop:
        checks.append(tf.cond(height > MAX_REDUCTION * img_size,
                              lambda: tf.py_func(on_large, [path, height, img_size], tf.bool),
                              lambda: tf.constant(False)))
    with tf.control_dependencies(checks):
        return tf.identity(size)


def _png_size(content, path):
    """(height, width), int32 [2]; fails for anything but a PNG."""
    # The first chunk, which has to be the header, begins with width and height.
    is_png = tf.equal(tf.strings.substr(content, 0, 8), PNG_SIGNATURE)
    with tf.control_dependencies([tf.debugging.Assert(is_png, [path])]):
        return tf.decode_raw(tf.strings.substr(content, 16, 8), tf.int32,
                             little_endian=False)[::-1]


def _orientation(content):
    """EXIF orientation of an image file's content, int64 scalar in 1 .. 8; 1 is upright."""
    orientation = tf.py_func(lambda content: np.int64(imlib.orientation(io.BytesIO(content))),
                             [content], tf.int64, stateful=False)
    orientation.set_shape([])
    return orientation


def _turned_upright(image, orientation):
    """[H,W,3] as stored, turned as an EXIF orientation tells it is to be seen."""
    def flip_if(image, axis, *orientations):
        among = tf.reduce_any(tf.equal(orientation, orientations))
        return tf.cond(among, lambda: tf.reverse(image, [axis]), lambda: image)
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    return flip_if(flip_if(image, 0, 3, 4, 7, 8), 1, 2, 3, 6, 7)


def decode_image(path, img_size, crop, on_large=None):
    """Graph of one image: file name (string scalar) -> float32 [img_size,img_size,3] in [-1,1].

    Running it fails for anything but a JPEG or PNG of up to MAX_PIXELS pixels that is, upright, of
    CelebA's aligned size with `crop` and square without.

    Args:
        on_large: a function (file name as bytes, size, img_size) that is told of squares more than
            MAX_REDUCTION times as large as `img_size`.
    """
    content = tf.io.read_file(path)
    # By content: data sets from elsewhere have PNGs that are called .jpg.
    is_jpeg = tf.image.is_jpeg(content)
    has_metadata = tf.strings.regex_full_match(content, r'\C*(Exif|eXIf|tiff:Orientation)\C*')

    def checked(size):
        return tf.control_dependencies([_checked_size(size, img_size, crop, path, on_large)])

    def decode_plain_jpeg():
        """As all of CelebA's are; no Python, which would decode one image at a time."""
        with checked(tf.image.extract_jpeg_shape(content)[:2]):
            if crop:
                return tf.image.decode_and_crop_jpeg(content, crop_box(img_size), channels=3)
            return tf.image.decode_jpeg(content, channels=3)

    def decode_any():
        size = tf.cond(is_jpeg, lambda: tf.image.extract_jpeg_shape(content)[:2],
                       lambda: _png_size(content, path))
        # Now, as Pillow decodes a PNG to find its metadata.
        pixels = tf.reduce_prod(tf.cast(size, tf.int64))
        with tf.control_dependencies([tf.debugging.Assert(pixels <= MAX_PIXELS, [size])]):
            orientation = tf.cond(has_metadata, lambda: _orientation(content),
                                  lambda: tf.constant(1, tf.int64))
        with checked(tf.cond(orientation >= 5, lambda: size[::-1], lambda: size)):
            image = tf.cond(is_jpeg, lambda: tf.image.decode_jpeg(content, channels=3),
                            lambda: tf.image.decode_png(content, channels=3))
        image = _turned_upright(image, orientation)
        return tf.image.crop_to_bounding_box(image, *crop_box(img_size)) if crop else image

    image = tf.cond(tf.logical_and(is_jpeg, tf.logical_not(has_metadata)), decode_plain_jpeg,
                    decode_any)
    return _reduced(image, img_size)


def _reduced(image, img_size):
    """Levels [h,w,3] -> float32 [img_size,img_size,3] in [-1,1], as published."""
    image = tf.image.resize_bicubic(image[tf.newaxis], [img_size, img_size])[0]
    image.set_shape([img_size, img_size, 3])
    return tf.clip_by_value(image, 0., 255.) / 127.5 - 1.


@functools.lru_cache(maxsize=8)
def square_reader(img_size):
    """A function that makes of uint8 [h,w,3] what the networks are trained with.

    It gives float32 [img_size,img_size,3] in [-1,1]. Threads may share it.
    """
    with tf.Graph().as_default() as graph:
        image = tf.placeholder(tf.uint8, [None, None, 3])
        session = utils.session('cpu', threads=1, graph=graph, optimize=False)
        return session.make_callable(_reduced(image, img_size), [image])


_large_images = []    # (file name, size, img_size) of the first, then what was said of it


def _note_large(path, size, img_size):
    """Keep the first square that is reduced a lot; any thread may call this."""
    if not _large_images:
        _large_images.append((path.decode(), size, img_size))
    return True


def _warn_of_large():
    """Say once in a process's life that squares are reduced a lot."""
    if len(_large_images) == 1:
        path, size, img_size = _large_images[0]
        _large_images.append(True)
        warn(f'{path}: {size}x{size} pixels become {img_size}x{img_size} without antialiasing, as '
             'published, which roughens them; reduce such images beforehand')


def unreadable_images(paths, img_size, crop):
    """Return [(path, reason)] for those of the files that cannot be decoded.

    Raises:
        RunFailed: the image folder is gone.
    """
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
                    bad.append((path, _other_format(path) or image_fault(path, crop)
                                or 'cut short, too large, or no JPEG or PNG'))
                except tf.errors.OpError as error:
                    _require_folder(os.path.dirname(path))
                    bad.append((path, utils.reason(error)))
    return bad


def _other_format(path):
    """Which image format that is not decoded a file is in, in words; '' if none is known."""
    name = imlib.format_name(path)
    return '' if name in ('', 'JPEG', 'MPO', 'PNG') else f'in {name} format, expected JPEG or PNG'


def _require_folder(folder, way_out='repeat the command'):
    if not os.path.isdir(folder):
        raise RunFailed(f'{folder}: the image folder is gone; when it is back, {way_out}')


def _decoder(img_size, crop):
    """`decode_image` as tf.data should take it: as a graph, not as Python to make one of, which
    takes a tenth of a second.
    """
    return tf.autograph.experimental.do_not_convert(
        functools.partial(decode_image, img_size=img_size, crop=crop, on_large=_note_large))


def _without_autotuning(dataset):
    """A dataset without the thread that tunes it, for which a session's end can wait seconds."""
    options = tf.data.Options()
    if hasattr(options, 'autotune'):
        options.autotune.enabled = False
    else:    # TensorFlow before 2.5
        options.experimental_optimization.autotune = False
    return dataset.with_options(options)


def load_images(paths, img_size, crop, batch_size, threads=None, unreadable=None):
    """Yield (indices, images) of batches of image files, decoded in parallel.

    Images that cannot be decoded are named by a warning and left out.

    Args:
        threads: images decoded at once; None: one per core.
        unreadable: a list that takes (path, reason) of the images left out.

    Yields:
        indices: int64 [N], positions in `paths` of the images, ascending; N is batch_size but for
            the last batch.
        images: float32 [N,img_size,img_size,3] in [-1,1].

    Raises:
        RunFailed: the image folder is gone.
    """
    paths, todo = np.array(paths, object), np.arange(len(paths))
    with tf.Graph().as_default() as graph:
        paths_ = tf.placeholder(tf.string, [None])
        dataset = tf.data.Dataset.from_tensor_slices(paths_)
        dataset = dataset.map(_decoder(img_size, crop),
                              num_parallel_calls=threads or usable_cores())
        dataset = _without_autotuning(dataset.batch(batch_size).prefetch(2))
        iterator = tf.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
    # Not a `with` block: it would leave its graph the caller's default between two batches.
    session = utils.session('cpu', graph=graph, optimize=False)
    is_open = is_retried = False
    try:
        while len(todo):
            try:
                with quiet_native_code():
                    if not is_open:
                        session.run(iterator.initializer, {paths_: paths[todo]})
                    images = session.run(batch)
                _warn_of_large()
            except tf.errors.OpError:
                bad = unreadable_images(paths[todo[:batch_size]], img_size, crop)
                if is_retried and not bad:
                    raise
                for path, reason in bad:
                    warn(f'{path}: unusable image ({reason}); it is left out')
                if unreadable is not None:
                    unreadable += bad
                names = {path for path, _ in bad}
                todo = np.array([index for index in todo if paths[index] not in names], np.int64)
                is_open, is_retried = False, not bad
            else:
                yield todo[:batch_size], images
                todo, is_open, is_retried = todo[batch_size:], True, False
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
        device: 'cpu', 'gpu' or 'npu': on what the graph will run.
        course: the `stream.Course` of a run of several workers; rank: which of them this is.
        several: whether a session run may take several batches, see `next_batch`.

    Attributes:
        batch: the tensors, a `Batch`, of this worker's share of a batch; stream: the
            `SampleStream`, which knows the bad images that this worker has met.
    """

    def __init__(self, celeba, indices, img_size, batch_size, seed, max_bad_images=.001,
                 device='cpu', course=None, rank=0, several=False):
        self.stream = SampleStream(len(indices), seed)
        self.batch_size, self._rank = batch_size, rank
        self._course = course or Course(batch_size)
        self._staged = several or self._course.workers > 1
        self._whole = batch_size * self._course.workers    # images of a batch of all workers
        self._folder = celeba.folder
        self._indices = np.asarray(indices)
        self._paths = np.array(celeba.paths(indices))
        self._labels = celeba.labels[indices]
        self._img_size, self._crop = img_size, celeba.crop
        self._max_bad = max(1, int(max_bad_images * len(indices))) if max_bad_images else 0
        self._first = 0
        with tf.device('/cpu:0'):
            dataset = self._dataset()
        if device == 'gpu':
            # The next batch is copied there while one is computed with.
            dataset = dataset.apply(tf.data.experimental.prefetch_to_device('/gpu:0', 2))
        self._place = '/gpu:0' if device == 'gpu' else '/cpu:0'
        with tf.device(self._place):
            self._iterator = tf.data.make_initializable_iterator(dataset)
            self._get = self._iterator.get_next
            if self._staged:
                self._take, self._get, self._drop = collective.staged(self._get())
        self.batch = self.next_batch()

    def next_batch(self):
        """Add operations that take another batch in the same session run, as a `Batch`.

        Which one is theirs, control dependencies have to say.
        """
        with tf.device(self._place):
            xa, a, b, number, images = self._get()
        return Batch(xa, a, b, number[0], images)

    def take(self, session):
        """Read the next batch, if that is done before computing; once for each that a run takes.

        A run that exchanges tensors must not fail in one worker only: the others would wait. Nor
        must one that has made the first of several updates.
        """
        if self._staged:
            session.run(self._take)

    def _descriptions(self):
        """Yield (paths, a, b, batch number, list positions), each of a whole batch, without end.

        The first is the batch last sought.
        """
        number = self._first
        while True:
            samples = self._samples(number)
            a = self._labels[samples]
            if self._course.workers == 1:
                b = a[self.stream.target_order(number, self.batch_size)]
            else:
                # Of the images that were drawn: what replaces a bad one, others need not know.
                start = self._rank * self.batch_size
                order = self.stream.target_order(number, self._whole)
                drawn = self.stream.own_samples(self._course.position(number), self._whole)
                b = self._labels[drawn[order[start:start + self.batch_size]]]
            yield (self._paths[samples], a, b, np.full(self.batch_size, number),
                   self._indices[samples] + 1)
            number += 1

    def _samples(self, number):
        """The samples of this worker's share of batch `number`."""
        start = self._course.position(number) + self._rank * self.batch_size
        return self.stream.samples(start, self.batch_size)

    def _dataset(self):
        n_att, decode = self._labels.shape[1], _decoder(self._img_size, self._crop)
        dataset = tf.data.Dataset.from_generator(
            self._descriptions, (tf.string, tf.int64, tf.int64, tf.int64, tf.int64),
            ([None], [None, n_att], [None, n_att], [None], [None]))
        dataset = dataset.flat_map(
            lambda *description: tf.data.Dataset.from_tensor_slices(description))
        dataset = dataset.map(
            lambda path, *rest: (decode(path),) + rest,
            num_parallel_calls=usable_cores())
        return _without_autotuning(dataset.batch(self.batch_size, drop_remainder=True).prefetch(4))

    def replaced(self, number, count):
        """{'replaced_images': n} of `count` batches from `number` on, {} if there are none."""
        _warn_of_large()
        images = self.stream.bad and self.stream.replaced(self._course.position(number),
                                                          count * self._whole)
        return {'replaced_images': images} if images else {}

    def reorder(self, number):
        """Draw another order of all samples from batch `number` on; call `seek` after it."""
        self.stream.reorder(self._course.position(number))

    def seek(self, session, number):
        """Make batch `number` (0-based) the next one.

        Raises:
            RunFailed: another number of workers has shared that batch, as all newer checkpoints are
                damaged.
        """
        if number < self._course.first:
            raise RunFailed(f'the checkpoints since --batch_size {self.batch_size} was that of '
                            f'{counted(self._course.workers, "worker")} are damaged; the same '
                            'command without --clear goes on from the one before')
        self._first = number
        session.run(self._iterator.initializer)
        if self._staged:
            session.run(self._drop)

    def recover(self, session, number, error):
        """Go on after a run that was to take batch `number` ended in `error`.

        Unreadable images of the batch are named and replaced; without any, the error is raised.

        Raises:
            UserError: too many images are unreadable.
            RunFailed: the image folder is gone.
        """
        _require_folder(self._folder, 'the same command without --clear goes on')
        samples = self._samples(number)
        by_path = {self._paths[sample]: sample for sample in samples}
        bad = unreadable_images(list(by_path), self._img_size, self._crop)
        if not bad:
            raise error
        for path, reason in bad:
            warn(f'{path}: unusable image ({reason}); another one takes its place')
            self.stream.bad.add(by_path[path])
        if len(self.stream.bad) > min(self._max_bad, self.stream.size - 1):
            named = ', '.join(self._paths[sample] for sample in sorted(self.stream.bad)[:10])
            raise UserError(f'{len(self.stream.bad)} of {self.stream.size} images are unusable, '
                            f'at most {self._max_bad} may be (--max_bad_images): {named}; repair '
                            'or remove them, scripts/check_data.py finds all')
        self.seek(session, number)
