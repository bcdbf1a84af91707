"""Training the attribute classifier from the image folder."""

import functools
import os
from collections import OrderedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from att_classification.models import classifier
from pylib import FolderLock, UserError, counted, read_json, warn, write_json
from stgan import data, losses
from stgan.celeba import CelebA
from stgan.config import CHECKPOINTS
from stgan.loop import Schedule, TrainingGraph, Update, fit, remove_training
from tflib import checkpoint, npu, tf, utils
from tflib.layers import GlorotUniform

DESCRIPTION = 'classifier.json'
ACCURACY = 'test_accuracy.json'
WEIGHT_DECAY = 1e-4


def learning_rate(base, epochs, epoch):
    """Learning rate of a 0-based epoch: constant for 8 epochs, then falling polynomially."""
    return base * (1 - max(epoch - 8, 0) / epochs) ** 0.75


def build(batch, seed):
    """Return the `TrainingGraph` of the classifier on a `data.Batch`."""
    rate = tf.placeholder(tf.float32, [])
    with tf.variable_scope('', initializer=GlorotUniform(seed)):
        logits = classifier(batch.xa, batch.a.shape.as_list()[1])
    counter = utils.iteration_counter()
    decay = tf.add_n([tf.nn.l2_loss(v) for v in tf.trainable_variables()
                      if v.op.name.endswith('/weights')])
    loss = losses.sigmoid_cross_entropy(batch.a, logits) + WEIGHT_DECAY * decay
    accuracy = tf.reduce_mean(tf.cast(tf.equal(logits > 0, batch.a > 0), tf.float32))
    terms = OrderedDict(loss=loss, accuracy=accuracy)
    step = utils.minimize(tf.train.AdamOptimizer(rate), loss, tf.trainable_variables(),
                          terms.values())
    with tf.control_dependencies([step]):
        step = counter.assign_add(1, read_value=False)
    return TrainingGraph([Update(step, terms, (batch,))], counter, rate)


class _TestAccuracy:
    """Measures a classifier in training on the test split."""

    def __init__(self, celeba, img_size, folder):
        self._indices = celeba.part('test')
        self._paths = celeba.paths(self._indices)
        self._celeba, self._img_size, self._folder = celeba, img_size, folder
        self._images = tf.placeholder(tf.float32, [None, img_size, img_size, 3])
        self._logits = classifier(self._images, len(celeba.atts), is_training=False)

    def is_missing(self, name):
        """Whether the checkpoint of that name has not been measured."""
        if not os.path.exists(os.path.join(self._folder, ACCURACY)):
            return True
        try:
            return _read_accuracy(self._folder)['checkpoint'] != name
        except UserError as error:
            warn(f'{error}; measuring anew')
            return True

    def write(self, session, name):
        """Write the accuracy per attribute to test_accuracy.json and print the mean."""
        hits, count, unreadable = np.zeros(len(self._celeba.atts)), 0, []
        for positions, images in data.load_images(
                self._paths, self._img_size, self._celeba.crop, 64, unreadable=unreadable):
            labels = self._celeba.labels[self._indices[positions]]
            logits = session.run(self._logits, {self._images: images})
            hits += ((logits > 0) == (labels == 1)).sum(axis=0)
            count += len(images)
        if not count:
            raise UserError(f'{self._paths[0]}: unusable image ({unreadable[0][1]}), as are '
                            'all other test images; scripts/check_data.py finds all')
        accuracy = hits / count
        write_json(os.path.join(self._folder, ACCURACY), OrderedDict(
            checkpoint=name, images=count, unreadable_images=len(unreadable), mean=accuracy.mean(),
            attributes=OrderedDict(zip(self._celeba.atts, accuracy))))
        left_out = f', {len(unreadable)} unusable left out' if unreadable else ''
        print(f'\n{name}: accuracy {accuracy.mean():.2%} on {count} test images{left_out}',
              flush=True)


def _read_accuracy(folder):
    """What test_accuracy.json says; UserError if it is damaged."""
    path = os.path.join(folder, ACCURACY)
    result = read_json(path)
    try:
        numbers = [result['mean'], *result['attributes'].values()]
        if isinstance(result['checkpoint'], str) and result['images'] + sum(numbers) > 0:
            return result
    except (AttributeError, KeyError, TypeError):
        pass
    raise UserError(f'{path}: expected checkpoint, images, mean and attributes')


def print_test_accuracy(folder):
    """Print the table of what `train` measured last."""
    result = _read_accuracy(folder)
    table = Table('attribute', 'accuracy', title=f'test accuracy of {result["checkpoint"]} '
                                                 f'on {counted(result["images"], "image")}')
    for name, value in list(result['attributes'].items()) + [('mean', result['mean'])]:
        table.add_row(name, f'{value:.2%}')
    Console().print(table)


def train(config):
    """Train the classifier, or resume from the newest checkpoint in the output folder.

    Args:
        config: an `options.TrainingConfig`.

    Raises:
        UserError: bad data, or a folder trained with other attributes or image size.
    """
    folder, batch_size = config.output_dir, config.batch_size
    utils.select_gpus(config.gpu)
    device = utils.resolve_device(config.device)
    celeba = CelebA(config.dataroot, config.atts or None, config.split, config.use_cropped_img)
    indices = np.concatenate([celeba.part('train'), celeba.part('val')])
    if not len(celeba.part('test')):
        raise UserError(f'--split {config.split}: the test split is empty ({celeba.split})')
    iterations = len(indices) // batch_size
    if not iterations:
        raise UserError(f'--batch_size {batch_size}: there are only {len(indices)} images to '
                        f'train on ({celeba.split})')
    checkpoints = os.path.join(folder, CHECKPOINTS)
    description = OrderedDict(attributes=list(celeba.atts), img_size=config.img_size,
                              seed=config.seed, batch_size=batch_size)
    description_path = os.path.join(checkpoints, DESCRIPTION)
    if not config.clear and checkpoint.any_in(checkpoints) and (
            os.path.exists(description_path) and read_json(description_path) != description):
        raise UserError(f'{description_path}: trained with other attributes, img_size, seed or '
                        'batch_size; give those, or take another --output_dir')
    with FolderLock(folder), tf.Graph().as_default():
        batches = data.TrainingBatches(celeba, indices, config.img_size, batch_size, config.seed,
                                       config.max_bad_images)
        graph = build(batches.batch, config.seed)
        test = _TestAccuracy(celeba, config.img_size, folder)
        newest = None if config.clear else checkpoint.latest(checkpoints)
        if newest:
            checkpoint.check_fits(newest, tf.global_variables())
        print(f'{utils.tensorflow_version()} on the {device}: '
              f'{counted(len(celeba.atts), "attribute")}, '
              f'{len(indices)} images to train on, {len(celeba.part("test"))} to test on '
              f'({celeba.split})', flush=True)
        for note in celeba.notes:
            print(note, flush=True)
        if config.clear:
            remove_training(folder, ACCURACY)
        write_json(description_path, description)
        schedule = Schedule(config.epoch, iterations,
                            functools.partial(learning_rate, config.lr, config.epoch),
                            iterations, iterations, num_ckpt=1, time_limit=config.time_limit,
                            on_nan=config.on_nan)
        fit(folder, graph, batches, schedule, test,
            functools.partial(utils.session, device, config.threads, npu_options=(
                npu.training_options('high') if device == 'npu' else None)), newest)
    print_test_accuracy(folder)
