"""CelebA-like folders: checked attribute list -> splits -> batches.

    DATAROOT/list_attr_celeba.txt            count, attribute names, then `file v1 v2 ...`, -1 or 1
    DATAROOT/list_eval_partition.txt         optional: `file 0|1|2`
    DATAROOT/img_align_celeba[_png]/         178x218 aligned images
    DATAROOT/img_crop_celeba[_png]/          square images, with use_cropped_img
"""

import functools
import os
from collections import namedtuple

import numpy as np

import imlib
from pylib import RunFailed, UserError, usable_cores, warn
from tflib import quiet_native_code, tf, utils

PARTS = ('train', 'val', 'test')
CELEBA_IMAGES = 202599
ALIGNED_SIZE = (178, 218)

# What a random draw is for; with the run's seed and a step it keys the draw.
PERMUTATION, TARGET, REORDER = range(3)

# A file of some hundred bytes may claim to be an image of any size ("decompression bomb").
MAX_PIXELS = 1 << 26
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def read_attribute_list(path, atts=None):
    """Read a `list_attr_celeba.txt`.

    Args:
        atts: names of the attributes to return; None: all of the header.

    Returns:
        (attribute names as tuple, file names as list, {0,1} labels int64 [N,n_att]).

    Raises:
        UserError: names the line at fault.
    """
    lines = _read_lines(path)
    if len(lines) < 3:
        raise UserError(f'{path}: expected a count, a line of attribute names and a line per image')
    header = lines[1].split()
    atts = tuple(header) if atts is None else tuple(atts)
    unknown = [name for name in atts if name not in header]
    if unknown:
        raise UserError(f'{path}:2: no attribute {", ".join(unknown)}; choose --atts from: '
                        f'{" ".join(header)}')
    columns = [header.index(name) + 1 for name in atts]
    values = {'1': 1, '-1': 0}
    names, labels = [], []
    for number, line in enumerate(lines[2:], 3):
        fields = line.split()
        if len(fields) != len(header) + 1:
            raise UserError(f'{path}:{number}: expected {len(header) + 1} fields, found '
                            f'{len(fields)}')
        try:
            labels.append([values[fields[column]] for column in columns])
        except KeyError as error:
            raise UserError(f'{path}:{number}: expected values 1 or -1, found {error}') from None
        names.append(_checked_name(fields[0], path, number))
    if lines[0].strip() != str(len(names)):
        raise UserError(f'{path}:1: says {lines[0].strip()[:20]!r} images, but {len(names)} lines '
                        'follow; is the file complete?')
    return atts, names, np.array(labels, np.int64)


def _read_lines(path):
    try:
        with open(path, encoding='utf-8') as stream:
            return stream.read().rstrip().split('\n')
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; is --dataroot right?') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file') from None


def _checked_name(name, path, number):
    """Return an image's file name if it stays within the image folder."""
    if os.path.isabs(name) or '..' in name.split('/'):
        raise UserError(f'{path}:{number}: {name}: expected a file name within the image folder')
    return name


def read_partition(path, names):
    """Return the part (0 train, 1 val, 2 test) of each named image: int64 [N]."""
    parts = {}
    for number, line in enumerate(_read_lines(path), 1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ('0', '1', '2'):
            raise UserError(f'{path}:{number}: expected `file 0|1|2`, found {line.strip()[:40]!r}')
        parts[fields[0]] = int(fields[1])
    missing = [name for name in names if name not in parts]
    if missing:
        raise UserError(f'{path}: {len(missing)} images of the attribute list are missing '
                        f'({missing[0]}, ...)')
    return np.array([parts[name] for name in names], np.int64)


def split_parts(split, names, partition_path):
    """Return (description, part of each image int64 [N]) for a value of --split.

    'position' is the published split: 182000 for training, 637 for samples, the rest for tests.
    """
    count = len(names)
    if split == 'auto':
        if count == CELEBA_IMAGES:
            split = 'position'
        else:
            split = 'partition' if os.path.exists(partition_path) else '0.9,0.02,0.08'
    if split == 'position':
        bounds = [182000, 182637]
        return 'by position as published', np.searchsorted(bounds, np.arange(count), 'right')
    if split == 'partition':
        return os.path.basename(partition_path), read_partition(partition_path, names)
    try:
        ratios = [float(ratio) for ratio in split.split(',')]
    except ValueError:
        ratios = []
    if len(ratios) != len(PARTS) or min(ratios) < 0 or not abs(sum(ratios) - 1) < 1e-6:
        raise UserError(f'--split {split}: expected auto, position, partition or three ratios that '
                        'add up to 1, such as 0.8,0.1,0.1')
    bounds = np.round(np.cumsum(ratios[:2]) * count)
    return f'ratios {split}', np.searchsorted(bounds, np.arange(count), 'right')


class CelebA:
    """A checked attribute list and where its images are.

    Attributes:
        atts: attribute names; names: file names; labels: {0,1} int64 [N,n_att].
        split: how the images are divided, in words.
        crop: whether images are cropped (the aligned ones) or taken whole.
    """

    def __init__(self, dataroot, atts=None, split='auto', use_cropped_img=False):
        if not os.path.isdir(dataroot):
            raise UserError(f'--dataroot {dataroot}: no such folder')
        self.crop = not use_cropped_img
        self.folder = _image_folder(dataroot, self.crop)
        list_path = os.path.join(dataroot, 'list_attr_celeba.txt')
        self.atts, self.names, self.labels = read_attribute_list(list_path, atts)
        self.split, self._parts = split_parts(
            split, self.names, os.path.join(dataroot, 'list_eval_partition.txt'))

    def __len__(self):
        return len(self.names)

    def part(self, name):
        """Indices (0-based list positions) of 'train', 'val' or 'test': int64 [n]."""
        return np.flatnonzero(self._parts == PARTS.index(name))

    def paths(self, indices):
        """Return the image files of some list positions after a check that they exist.

        Raises:
            UserError: images are missing, or are not CelebA's aligned size where that is expected.
        """
        paths, there = self.find(indices)
        missing = [os.path.relpath(path, self.folder) for path, is_there in zip(paths, there)
                   if not is_there]
        if missing:
            raise UserError(f'{self.folder}: {len(missing)} of {len(paths)} images are missing '
                            f'({", ".join(missing[:3])}{", ..." if len(missing) > 3 else ""})')
        if self.crop and paths:
            _check_aligned(paths[0])
        return paths

    def find(self, indices):
        """Return (image files of some list positions, whether each exists)."""
        names = [self.names[i] for i in indices]
        if self.folder.endswith('_png'):
            names = [os.path.splitext(name)[0] + '.png' for name in names]
        paths = [os.path.join(self.folder, name) for name in names]
        # One directory listing instead of 200,000 queries; names in subfolders are rare.
        present = set(os.listdir(self.folder))
        return paths, [name in present or ('/' in name and os.path.exists(path))
                       for name, path in zip(names, paths)]


def _image_folder(dataroot, crop):
    """The PNG folder if there is one, as published, else the JPEG folder."""
    name = 'img_align_celeba' if crop else 'img_crop_celeba'
    for folder in (name + '_png', name):
        path = os.path.join(dataroot, folder)
        if os.path.isdir(path):
            return path
    raise UserError(f'{os.path.join(dataroot, name)}: no such folder'
                    + ('; for square images see --use_cropped_img' if crop else ''))


def _check_aligned(path):
    try:
        size = imlib.size(path)
    except UserError:
        return  # A broken image is dealt with when it is decoded.
    if size != ALIGNED_SIZE:
        raise UserError(f'{path}: {size[0]}x{size[1]} pixels, expected CelebA\'s aligned 178x218; '
                        'for other images put square ones into img_crop_celeba and take '
                        '--use_cropped_img')


def crop_box(img_size):
    """(row, column, height, width) of the published crop of a 178x218 image."""
    return (40, 15, 148, 148) if img_size == 64 else (26, 3, 170, 170)


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


class SampleStream:
    """The endless stream of training samples.

    The permutations of all samples given by (seed, 0), (seed, 1), ... one after another, so every
    sample is used once a pass and a place in the stream is one number.

    Attributes:
        bad: samples that are replaced by the next good one of their pass.
        reorderings: positions from which on another order was drawn, see `reorder`.
    """

    def __init__(self, size, seed):
        self.size = size
        self.seed = seed
        self.bad = set()
        self.reorderings = []
        # Two passes, as a batch may reach into the next one.
        self._permutation = functools.lru_cache(maxsize=2)(self._draw_permutation)

    def _draw_permutation(self, number):
        # RandomState rather than a Generator: NumPy guarantees its values for all versions.
        permutation = np.random.RandomState(
            [self.seed, PERMUTATION, number]).permutation(self.size)
        for count, position in enumerate(self.reorderings):
            first = min(max(position - number * self.size, 0), self.size)
            order = np.random.RandomState([self.seed, REORDER, number, count])
            permutation[first:] = order.permutation(permutation[first:])
        return permutation

    def reorder(self, position):
        """Draw another order of what comes from `position` on; still once a pass."""
        self.reorderings.append(position)
        self._permutation.cache_clear()

    def samples(self, start, count):
        """Return the samples at positions start .. start+count-1: int64 [count]."""
        return np.array([self._sample(position) for position in range(start, start + count)])

    def replaced(self, start, count):
        """How many of the positions start .. start+count-1 have another sample than their own."""
        places = (divmod(position, self.size) for position in range(start, start + count))
        return sum(self._permutation(number)[offset] in self.bad for number, offset in places)

    def _sample(self, position):
        number, offset = divmod(position, self.size)
        permutation = self._permutation(number)
        while permutation[offset] in self.bad:
            offset = (offset + 1) % self.size
        return permutation[offset]


Batch = namedtuple('Batch', 'xa a b number images', defaults=[None])
Batch.__doc__ = """Tensors of a training batch; each session run that uses one takes the next batch.

xa: float32 [N,S,S,3] in [-1,1]; a: {0,1} int64 [N,n_att]; b: `a` shuffled along the batch;
number: int64 scalar, counts the batches of the run; images: int64 [N], 1-based list positions.
"""


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
            order = np.random.RandomState([self.stream.seed, TARGET, number])
            b = a[order.permutation(self.batch_size)]
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
        """Draw another order of what batch `number` begins with; takes effect when it is sought."""
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
