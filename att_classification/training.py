"""Training the attribute classifier from the image folder."""

import functools
import os
from collections import OrderedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from att_classification.models import classifier
from pylib import FolderLock, UserError, read_json, write_json
from stgan import data, losses
from stgan.training import (
    CHECKPOINTS,
    METRICS,
    ROLLBACKS,
    SUMMARIES,
    Schedule,
    TrainingGraph,
    Update,
    fit,
    remove_training,
)
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
    return TrainingGraph([Update(step, terms)], counter, rate)


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
        path = os.path.join(self._folder, ACCURACY)
        return not os.path.exists(path) or read_json(path).get('checkpoint') != name

    def write(self, session, name):
        """Write the accuracy per attribute to test_accuracy.json and print the mean."""
        hits = np.zeros(len(self._celeba.atts))
        start = 0
        for images in data.load_images(self._paths, self._img_size, self._celeba.crop, 64):
            labels = self._celeba.labels[self._indices[start:start + len(images)]]
            logits = session.run(self._logits, {self._images: images})
            hits += ((logits > 0) == (labels == 1)).sum(axis=0)
            start += len(images)
        accuracy = hits / len(self._paths)
        write_json(os.path.join(self._folder, ACCURACY), OrderedDict(
            checkpoint=name, images=len(self._paths), mean=accuracy.mean(),
            attributes=OrderedDict(zip(self._celeba.atts, accuracy))))
        print(f'\n{name}: accuracy {accuracy.mean():.2%} on {len(self._paths)} test images',
              flush=True)


def print_test_accuracy(folder):
    """Print the table of what `train` measured last."""
    result = read_json(os.path.join(folder, ACCURACY))
    table = Table('attribute', 'accuracy', title=f'test accuracy of {result["checkpoint"]} '
                                                 f'on {result["images"]} images')
    for name, value in list(result['attributes'].items()) + [('mean', result['mean'])]:
        table.add_row(name, f'{value:.2%}')
    Console().print(table)


def train(dataroot,
          folder,                # of checkpoints/, summaries/, metrics.jsonl
          atts=None,             # names; None: all of the attribute list
          split='auto',          # trained on train and val, measured on test
          use_cropped_img=False,
          img_size=128,
          epochs=25,
          batch_size=64,
          rate=2e-4,             # initial learning rate
          seed=0,
          device='auto',
          threads=-1,
          clear=False,           # start over
          time_limit=0,          # minutes; 0: none
          on_nan='stop'):        # or 'rollback'
    """Train the classifier, or resume from the newest checkpoint in `folder`.

    The defaults are the published values.

    Raises:
        UserError: bad data, or a folder trained with other attributes or image size.
    """
    if img_size < 32 or img_size % 32:
        raise UserError(f'--img_size {img_size}: expected a multiple of 32 (five poolings)')
    device = utils.resolve_device(device)
    celeba = data.CelebA(dataroot, atts, split, use_cropped_img)
    indices = np.concatenate([celeba.part('train'), celeba.part('val')])
    if not len(celeba.part('test')):
        raise UserError(f'--split {split}: the test split is empty ({celeba.split})')
    iterations = len(indices) // batch_size
    if not iterations:
        raise UserError(f'--batch_size {batch_size}: there are only {len(indices)} images to '
                        f'train on ({celeba.split})')
    checkpoints = os.path.join(folder, CHECKPOINTS)
    description = OrderedDict(attributes=list(celeba.atts), img_size=img_size, seed=seed,
                              batch_size=batch_size)
    description_path = os.path.join(checkpoints, DESCRIPTION)
    if not clear and os.path.exists(description_path) and (
            read_json(description_path) != description):
        raise UserError(f'{description_path}: trained with other attributes, img_size, seed or '
                        'batch_size; take another --output_dir, or --clear to start over')
    with FolderLock(folder), tf.Graph().as_default():
        batches = data.TrainingBatches(celeba, indices, img_size, batch_size, seed)
        graph = build(batches.batch, seed)
        test = _TestAccuracy(celeba, img_size, folder)
        newest = None if clear else checkpoint.latest(checkpoints)
        if newest:
            checkpoint.check_fits(newest, tf.global_variables())
        print(f'{utils.tensorflow_version()} on the {device}: {len(celeba.atts)} attributes, '
              f'{len(indices)} images to train on, {len(celeba.part("test"))} to test on '
              f'({celeba.split})', flush=True)
        if clear:
            remove_training(folder, (CHECKPOINTS, SUMMARIES, METRICS, ROLLBACKS, ACCURACY))
        write_json(description_path, description)
        schedule = Schedule(epochs, iterations, lambda epoch: learning_rate(rate, epochs, epoch),
                            iterations, iterations, num_ckpt=1, time_limit=time_limit,
                            on_nan=on_nan)
        fit(folder, graph, batches, schedule, test,
            functools.partial(utils.session, device, threads, npu_options=(
                npu.training_options('high') if device == 'npu' else None)), newest)
    print_test_accuracy(folder)
