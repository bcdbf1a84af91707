"""Editing with a trained network: encode an image once, decode it for every edit."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple

import numpy as np

from pylib import UserError
from stgan import attributes, fast, models, photos
from stgan.config import CHECKPOINTS, load_config
from stgan.models import GENERATOR_SCOPES
from tflib import checkpoint, npu, tf, utils


class Encoded(NamedTuple):
    """What all edits of some images share, see `Editor.encode`."""

    arrays: List[np.ndarray]    # [N,...]


class EditGraph:
    """The generator in inference mode, added to the current graph.

    Args:
        config: the `RunConfig`.
        weights: {variable name: tensor}, which `fast.FastGenerator` arranges for many edits of an
            image; None: the graph gets variables, and computes with them as `models.py` does.
        device: 'cpu', 'gpu' or 'npu': on what the graph will run.

    Attributes:
        edited: tensor of the results, [N*E,S,S,3], those of an image one after another.
    """

    def __init__(self, config, weights=None, device='cpu'):
        size, self._label_mode = config.img_size, config.label
        self._images = tf.placeholder(tf.float32, [None, size, size, 3])
        self._labels = tf.placeholder(tf.float32, [None, None, config.n_att])
        self._features = []    # what a session run may be given instead of the images
        self._gates = []       # [(reset, update)], the deepest first: means over channels [N*E,h,w]
        if weights is None:
            zs = models.encode(config, self._images, is_training=False)
            zs = [fast.repeat(z, tf.shape(self._labels)[1]) for z in zs]
            labels = tf.reshape(self._labels, [-1, config.n_att])
            self.edited = models.decode(config, zs, labels, is_training=False)
        else:
            generator = fast.FastGenerator(config, weights, device)
            self._features = generator.features(self._images)
            self.edited = generator.edit(self._features, self._labels)
            self._gates = [[tf.reduce_mean(gate, axis=3) for gate in pair]
                           for pair in generator.gates]

    def encode(self, session, images):
        """What does not depend on the edit: an `Encoded`, for `run` in the images' place."""
        if not self._features:
            return Encoded([images])
        return Encoded(session.run(self._features, {self._images: images}))

    def run(self, session, images, targets, sources, most=5):
        """Edit every image towards each of its targets.

        Args:
            images: float32 [N,S,S,3] in [-1,1], or what `encode` has made of them.
            targets: signed labels [N,E,n_att] (see `stgan.attributes`).
            sources: signed labels [N,n_att].
            most: results of a session run, on which its memory depends.

        Returns:
            float32 [N,E,S,S,3] in [-1,1].
        """
        labels = attributes.generator_label(self._label_mode, sources[:, np.newaxis], targets)
        edits, shape = labels.shape[1], tuple(self._images.shape.as_list()[1:])
        edited = np.empty(labels.shape[:2] + shape, np.float32)
        rows, columns = max(1, most // edits), min(most, edits)
        for row in range(0, len(labels), rows):
            if isinstance(images, Encoded):
                part = Encoded([array[row:row + rows] for array in images.arrays])
            elif self._features and columns < edits:    # encode once for all session runs
                part = self.encode(session, images[row:row + rows])
            else:
                part = images[row:row + rows]
            if isinstance(part, Encoded):
                feed = dict(zip(self._features or [self._images], part.arrays))
            else:
                feed = {self._images: part}
            for column in range(0, edits, columns):
                part = slice(row, row + rows), slice(column, column + columns)
                result = session.run(self.edited, {**feed, self._labels: labels[part]})
                edited[part] = result.reshape((-1, labels[part].shape[1]) + shape)
        return edited

    def gates(self, session, encoded, targets, sources):
        """What the selective transfer units let through, see `Editor.gates`: [E,h,w] each."""
        labels = attributes.generator_label(self._label_mode, sources[:, np.newaxis], targets)
        feed = dict(zip(self._features, encoded.arrays))
        return session.run(self._gates, {**feed, self._labels: labels}) if self._gates else []


def _check_range(images):
    """Raise a ValueError unless the images are floats in [-1,1]."""
    if images.dtype.kind != 'f':
        raise ValueError(f'images: expected floats in [-1,1], got {images.dtype}; '
                         'imlib.to_float makes them of uint8')
    with np.errstate(invalid='ignore'):    # NaN is in no range
        in_range = (np.abs(images) <= 1).all()
    if not in_range:
        raise ValueError(f'images: expected floats in [-1,1], got values from '
                         f'{images.min():.4g} to {images.max():.4g}')


class Editor:
    """A trained generator, ready to edit, for several threads at once.

    Args:
        experiment_dir: experiment folder of this or of the published code, e.g. 'output/128'.
        device: 'auto', 'cpu', 'gpu' or 'npu'; precision: 'high', 'tf32' or 'mixed'.
        edit_batch: results per session run, on which its memory depends; 0: 32 on GPUs, else 5.
        npu_options: `key=value` texts, settings of an NPU's session.

    Attributes:
        config: the experiment's `RunConfig`; checkpoint: path of the weights in use;
        results_per_run: what `edit_batch` came to.

    Raises:
        UserError: no such experiment, no checkpoint, or one that does not fit.
    """

    def __init__(self, experiment_dir, device='auto', precision='high', threads=-1, edit_batch=0,
                 npu_options=()):
        self.config, _ = load_config(experiment_dir)
        self._device = utils.resolve_device(device)
        # Small runs leave a GPU idle (docs/performance.md), but a CPU has less memory.
        self.results_per_run = edit_batch or (32 if self._device == 'gpu' else 5)
        folder = os.path.join(experiment_dir, CHECKPOINTS)
        open_session = functools.partial(utils.session, self._device, threads,
                                         precision=precision, optimize=False)
        if self._device == 'npu':
            open_session.keywords['npu_options'] = npu.inference_options(precision, npu_options)
            print('NPU: edits as stgan/models.py computes them; the faster stgan/fast.py was never '
                  'tried on one', flush=True)
            self.checkpoint = checkpoint.require_latest(folder, GENERATOR_SCOPES)
            with tf.Graph().as_default():
                self._graph, self._session = EditGraph(self.config), open_session()
                checkpoint.restore(self._session, self.checkpoint, tf.global_variables(),
                                   GENERATOR_SCOPES)
            return
        self.checkpoint = checkpoint.require_newest(folder)
        try:
            self._load(open_session)
        except UserError:
            # If it is damaged, the one before may not be. To look first would be to read twice.
            sound = checkpoint.require_latest(folder, GENERATOR_SCOPES)
            if sound == self.checkpoint:
                raise
            self.checkpoint = sound
            self._load(open_session)

    def _load(self, open_session):
        """Open a session that has the checkpoint's weights, arranged."""
        with tf.Graph().as_default() as graph:
            weights = checkpoint.tensors(self.checkpoint, GENERATOR_SCOPES)
            try:
                self._graph = EditGraph(self.config, weights, self._device)
            except (LookupError, ValueError):
                self._check_fits()    # says in which way
                raise
            # Not finite if a value is not. To look at each takes longer, and memory.
            total = tf.add_n([tf.reduce_sum(values) for values in weights.values()])
            load = [tf.local_variables_initializer(), total]
            self._session = open_session(graph=graph)
        with ThreadPoolExecutor(1) as background:
            loading = background.submit(self._session.run, load)
            self._check_fits()
            try:
                _, total = loading.result()
            except tf.errors.ResourceExhaustedError:
                raise    # of memory, which is not the checkpoint's fault
            except tf.errors.OpError as error:
                raise UserError(f'{self.checkpoint}: unusable ({utils.reason(error)})') from None
        if not np.isfinite(total):
            raise UserError(f'{self.checkpoint}: weights are not finite')

    def _check_fits(self):
        """Compare the checkpoint with the plain generator, which has the published variables."""
        with tf.Graph().as_default():
            EditGraph(self.config)
            checkpoint.check_fits(self.checkpoint, tf.global_variables(), GENERATOR_SCOPES)

    def edit(self, image, targets, source=None):
        """Edit one image.

        Args:
            image: float32 [S,S,3] in [-1,1], S the experiment's img_size, or what `encode` has
                made of it.
            targets: signed labels [E,n_att] (see `stgan.attributes`), one edit a row.
            source: signed label [n_att] of the image. None stands for zeros: `targets` are then
                the differences themselves (experiments with label='diff').

        Returns:
            float32 [E,S,S,3] in [-1,1].
        """
        targets = np.asarray(targets, np.float32)
        source = np.zeros(targets.shape[-1:], np.float32) if source is None else np.asarray(source)
        if isinstance(image, Encoded):
            return self._graph.run(self._session, image, targets[np.newaxis],
                                   source[np.newaxis], self.results_per_run)[0]
        image = np.asarray(image)
        return self.edit_batch(image[np.newaxis], targets[np.newaxis], source[np.newaxis])[0]

    def gates(self, encoded, targets, source=None):
        """How far the gates of the selective transfer units are open for edits of an image.

        The reset gate says how much of the deeper state goes on, the update gate how much of the
        encoder's feature replaces it (Liu et al., section 3.2): both in [0,1], means over channels.

        Args:
            encoded: of `encode`; targets, source: as for `edit`.

        Returns:
            List of (reset, update), the deepest first, float32 [E,h,w] each; empty without such
            units, and on NPUs.
        """
        targets = np.asarray(targets, np.float32)
        source = np.zeros(targets.shape[-1:], np.float32) if source is None else np.asarray(source)
        return self._graph.gates(self._session, encoded, targets[np.newaxis], source[np.newaxis])

    def encode(self, image):
        """Do once what all edits of an image share.

        Args:
            image: as for `edit`, which takes the result in its place.
        """
        image = np.asarray(image)[np.newaxis]
        _check_range(image)
        return self._graph.encode(self._session, image)

    def edit_photo(self, file, values, **options):
        """Edit the faces of a photo, see `photos.edit`: a `photos.Photo`, to be saved.

        Args:
            file: path, binary stream, or `photos.Photo`; values: {attribute name: how much}.
        """
        photo = file if isinstance(file, photos.Photo) else photos.Photo.open(file)
        return photos.edit(self, photo, values, **options)

    def edit_batch(self, images, targets, sources):
        """Edit a batch, see `EditGraph.run`.

        Raises:
            ValueError: the images are not float or not in [-1,1].
        """
        _check_range(images)
        return self._graph.run(self._session, images, targets, sources, self.results_per_run)

    def close(self):
        """Free the session."""
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
