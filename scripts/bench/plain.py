"""The published code's way of doing things, which benchmark.py compares with.

As a command it edits like the published test.py, from start to end. Sheets go to the folder plain
of the experiment.

Examples:
    python scripts/bench/plain.py output/128 --img 182638
"""

import contextlib
import functools
import os
from collections import OrderedDict
from unittest import mock

import numpy as np

if not __package__:
    import _checkout

import imlib
from pylib import ArgumentParser
from stgan import attributes, sheets
from stgan.celeba import CelebA, crop_box
from stgan.config import CHECKPOINTS, load_config


class Generator:
    """G in inference mode, added to the current graph: an encoding for every edit."""

    def __init__(self, config):
        from stgan import models
        from tflib import tf

        size = config.img_size
        self._images = tf.placeholder(tf.float32, [None, size, size, 3])
        self._labels = tf.placeholder(tf.float32, [None, config.n_att])
        zs = models.encode(config, self._images, is_training=False)
        self._edited = models.decode(config, zs, self._labels, is_training=False)

    def run(self, session, images, labels):
        """Images [N,S,S,3] and what G is told [N,n_att] -> edited images."""
        return session.run(self._edited, {self._images: images, self._labels: labels})

    def sheet(self, session, image, labels):
        """An image [S,S,3] with each of labels [E,n_att], one session run each: [E,S,S,3]."""
        return np.concatenate([self.run(session, image[np.newaxis], label[np.newaxis])
                               for label in labels])


def build(config, batch, device='cpu'):
    """`graph.build` as the published code has it: convolutions only, D called twice."""
    from stgan import graph
    from tflib import layers

    with mock.patch.object(layers, 'products', contextlib.nullcontext), \
            mock.patch.object(graph, 'judge_both', lambda critic, *images: map(critic, images)):
        return graph.build(config, batch, device)


def test(experiment_dir, dataroot, positions, use_cropped_img=False, test_int=2.):
    """Edit the images at 1-based list positions, as csmliu/STGAN test.py@8a206ad does."""
    from stgan import models
    from tflib import checkpoint, tf, utils

    config, _ = load_config(experiment_dir)
    celeba = CelebA(dataroot or config.dataroot, config.atts, config.split,
                    use_cropped_img or config.use_cropped_img)
    indices = np.array(positions) - 1 if positions else celeba.part('test')
    state = tf.train.get_checkpoint_state(os.path.join(experiment_dir, CHECKPOINTS))
    with tf.Graph().as_default(), utils.session() as session:
        generator = Generator(config)
        checkpoint.restore(session, state.model_checkpoint_path, tf.global_variables(),
                           models.GENERATOR_SCOPES)
        for index, (image,) in zip(indices, load_images(
                celeba.paths(indices), config.img_size, celeba.crop, 1)):
            labels = celeba.labels[[index]]
            targets, = attributes.single_targets(labels, config.atts, config.thres_int, test_int)
            labels = attributes.generator_label(
                config.label, attributes.signed(labels, config.thres_int), targets)
            imlib.write(os.path.join(experiment_dir, 'plain', f'{index + 1:06d}.png'),
                        sheets.compose(image, generator.sheet(session, image, labels)))


def measure_folder(folder):
    """Return OrderedDict sheet name -> (PSNR in dB, SSIM) of the reconstructions in a folder.

    One process that reads whole sheets and measures with scikit-image.

    Args:
        folder: a `sheets.SheetFolder`.
    """
    from skimage.metrics import (
        peak_signal_noise_ratio,
        structural_similarity,
    )
    size = folder.img_size
    start = (size + sheets.gap_width(size)
             + folder.column_index('reconstruction') * size)
    values = OrderedDict()
    for name in folder.labels:
        sheet = imlib.read(os.path.join(folder.path, name))
        source, result = sheet[:, :size], sheet[:, start:start + size]
        values[name] = (peak_signal_noise_ratio(source, result, data_range=255),
                        structural_similarity(source, result, data_range=255, channel_axis=2))
    return values


def decode_image(path, img_size, crop):
    """Graph of one image: file name (string scalar) -> float32 [img_size,img_size,3] in [-1,1].

    Decodes the whole JPEG and crops then; csmliu/STGAN data.py@8a206ad.
    """
    from tflib import tf

    image = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
    if crop:
        image = tf.image.crop_to_bounding_box(image, *crop_box(img_size))
    image = tf.image.resize_images(image, [img_size, img_size], tf.image.ResizeMethod.BICUBIC)
    return tf.clip_by_value(image, 0, 255) / 127.5 - 1


def load_images(paths, img_size, crop, batch_size, threads=16):
    """Yield batches as csmliu/STGAN data.py@8a206ad reads them; see `data.load_images`."""
    from tflib import tf, utils

    with tf.Graph().as_default() as graph:
        dataset = tf.data.Dataset.from_tensor_slices(paths)
        dataset = dataset.map(functools.partial(decode_image, img_size=img_size, crop=crop),
                              num_parallel_calls=threads)
        batch = tf.data.make_one_shot_iterator(dataset.batch(batch_size).prefetch(2)).get_next()
    session = utils.session(graph=graph)
    for _ in range(0, len(paths), batch_size):
        yield session.run(batch)
    session.close()


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('experiment_dir', metavar='EXPERIMENT_DIR', help='such as output/128')
    parser.add_argument('--dataroot', default='', metavar='DIR',
                        help='data folder; default: the one the experiment was trained with')
    parser.add_argument('--use_cropped_img', action='store_true',
                        help='take img_crop_celeba[_png]; default: as the experiment did')
    parser.add_argument('--img', type=int, nargs='*', help='1-based list positions')
    args = parser.parse_args()
    test(args.experiment_dir, args.dataroot, args.img, args.use_cropped_img)


if __name__ == '__main__':
    main()
