"""A run of train.py: options -> data -> training graph -> loop."""

import contextlib
import functools
import os
import sys

import numpy as np

import imlib
from pylib import FolderLock, UserError, counted, remove_unfinished, warn
from stgan import attributes, commands, data, distributed, editing, loop, reports, sheets
from stgan.celeba import CelebA
from stgan.config import (
    CHECKPOINTS,
    SAMPLES,
    SETTING,
    WORKERS,
    changed_options,
    fixed_differences,
    load_config,
)
from stgan.graph import build
from stgan.models import GENERATOR_SCOPES
from stgan.stream import Course, changed_course
from tflib import checkpoint, collective, engines, moving_average, npu, tf, utils


def learning_rate(config, epoch):
    """Learning rate of a 0-based epoch: a tenth after every `init_epoch` epochs."""
    return config.lr / 10 ** (epoch // config.init_epoch)


class SampleGrid:
    """Edits of the same validation images, written at intervals: a column per attribute.

    Attributes:
        folder: where they go.
    """

    def __init__(self, config, celeba):
        indices = celeba.part('val')[:config.n_sample]
        self._config = config
        self.folder = os.path.join(config.folder, SAMPLES)
        with tf.variable_scope('', custom_getter=moving_average.get_average):
            self._graph = editing.EditGraph(config)
        batches = list(data.load_images(celeba.paths(indices), config.img_size, celeba.crop, 16))
        self._images = [image for _, images in batches for image in images]
        self._labels = [celeba.labels[indices[position]] for positions, _ in batches
                        for position in positions]

    def _path(self, name):
        return os.path.join(self.folder, os.path.splitext(name)[0] + '.jpg')

    def is_missing(self, name):
        """Whether there is no grid of that name yet."""
        return not os.path.exists(self._path(name))

    def write(self, session, name):
        """Write `sample_training/<name>.jpg`: images below each other, as in test sheets."""
        if not self._images:
            return
        config, rows = self._config, []
        for image, row in zip(self._images, self._labels):
            labels = row[np.newaxis]
            targets = attributes.single_targets(labels, config.atts, config.thres_int,
                                                config.test_int)
            results = self._graph.run(session, image[np.newaxis], targets,
                                      attributes.signed(labels, config.thres_int))[0]
            # The first result is the reconstruction, result 1 + i edits attribute i.
            sheets.mark(results[1:], np.diagonal(targets[0, 1:]) > 0)
            rows.append(sheets.compose(image, results))
        imlib.write(self._path(name), imlib.stack_rows(np.array(rows)), quality=95)


def train(config, clear=False):
    """Train an experiment from its folder's state on; see train.py.

    Args:
        clear: start over, removing what earlier training left in the folder.

    Raises:
        UserError: bad input, or another process trains this experiment.
        RunFailed, Interrupted: see `loop.fit`.
    """
    with engines.joined(config.distribute, config.worker_timeout) as workers:
        _train(config, clear, workers)


def _train(config, clear, workers):
    """`train` of one of the workers; the first one reads and writes the folder."""
    if not clear and not workers.rank:
        _check_resumable(config)
    utils.select_gpus(collective.gpus_of(config.gpu, workers))
    npu_options(config, config.device)    # illegal ones are found before an adapter is loaded
    device = workers.device = utils.resolve_device(config.device)
    if workers.size > 1 and device not in workers.devices:
        raise UserError(f'--device {device}: several NPUs train with --distribute hccl, other '
                        'devices with --distribute tensorflow or horovod; --distribute none '
                        'trains on one')
    open_session = _session_opener(config, device, workers)
    if config.img_size == 2 ** config.dis_layers:
        warn(f'--dis_layers {config.dis_layers}: leaves a single pixel of --img_size '
             f'{config.img_size}, which instance norm makes constant: D will not learn')
    celeba = CelebA(config.dataroot, config.atts, config.split, config.use_cropped_img)
    indices = celeba.part('train')[:config.train_image_num or None]
    # What is too few images for all is found before the folder is touched.
    _schedule(config, len(indices), celeba, Course(config.batch_size, config.n_d + 1,
                                                   [(0, workers.size)]))
    with contextlib.nullcontext() if workers.rank else FolderLock(config.folder), \
            tf.Graph().as_default(), workers.scope():
        state = {} if workers.rank else _state(config, clear, workers.size)
        state = distributed.meet(workers, config, device, celeba, indices, state)
        course = Course(config.batch_size, config.n_d + 1, state['changes'])
        schedule = _schedule(config, len(indices), celeba, course)
        batches = data.TrainingBatches(celeba, indices, config.img_size, config.batch_size,
                                       config.seed, config.max_bad_images, device, course,
                                       workers.rank, several=config.updates_per_call > 1)
        graph = build(config, batches.batch, device, workers, batches.next_batch)
        if workers.rank:
            loop.fit(config.folder, graph, batches, schedule, None, open_session, workers=workers,
                     reorderings=state['rollbacks'])
            return
        samples, newest = SampleGrid(config, celeba), state['newest']
        if newest:
            checkpoint.check_fits(newest, tf.global_variables())
        initialize = _initializer(config) if config.init_checkpoint else None
        _print_banner(config, device, celeba, len(indices), schedule, workers)
        if clear:
            # Test sheets stay: they are test.py's.
            loop.remove_training(config.folder, SETTING, SAMPLES, WORKERS)
        remove_unfinished(samples.folder)
        config.save(config.folder)
        distributed.write_changes(config.folder, state['changes'])
        loop.fit(config.folder, graph, batches, schedule, samples, open_session, newest,
                 initialize, workers)
    if batches.stream.bad:
        print(f'{counted(len(batches.stream.bad), "unusable image")} replaced by others')
    test = commands.command_line('test.py', f'--experiment_name={config.experiment_name}',
                                '--test_int', '2')
    print(f'trained: {config.folder}; next: {test}')
    reports.name_report(config.folder)


def _state(config, clear, workers):
    """What the first worker finds in the folder and tells the others, see `distributed.meet`."""
    if clear:
        return {'newest': None, 'changes': [(0, workers)], 'rollbacks': []}
    newest = checkpoint.latest(os.path.join(config.folder, CHECKPOINTS))
    iteration = checkpoint.iteration_of(newest) if newest else 0
    changes = distributed.read_changes(config.folder) if newest else []
    return {'newest': newest, 'changes': changed_course(changes, iteration, workers),
            'rollbacks': loop.Rollbacks(config.folder, config.on_nan).iterations}


def _session_opener(config, device, workers):
    """A function without arguments that opens the run's session on the current graph."""
    options = npu_options(config, device)
    threads = collective.threads_of(config.threads, workers)
    # Now, as what is impossible or unusable has to be found before anything is written.
    session_config = utils.session_config(device, config.precision, threads, options,
                                          xla=config.xla)
    if device == 'npu':
        npu.prepare_session(session_config)
    return functools.partial(utils.session, device, threads, precision=config.precision,
                             npu_options=options, xla=config.xla, workers=workers)


def _initializer(config):
    """A function (session) that restores the networks' weights from `--init_checkpoint`."""
    path = checkpoint.meant_by(config.init_checkpoint, CHECKPOINTS)
    scopes = (*GENERATOR_SCOPES, 'D')
    if _is_slim(path):
        scopes = GENERATOR_SCOPES
        warn(f'{path}: holds a generator only; the discriminator starts with random weights')
    weights = checkpoint.without_slots(v for v in tf.global_variables()
                                       if v.op.name.split('/')[0] in scopes)
    checkpoint.check_fits(path, weights, scopes)
    return lambda session: checkpoint.restore(session, path, weights, scopes)


def _is_slim(path):
    """Whether a checkpoint holds a generator but no discriminator."""
    try:
        scopes = {name.split('/')[0] for name in checkpoint.variables_in(path)}
    except UserError:    # damaged
        return False
    return 'Genc' in scopes and 'D' not in scopes


def npu_options(config, device):
    """The parameter_map values of a run, or None if it is not on an NPU."""
    if device != 'npu':
        return None
    return npu.training_options(
        config.precision,
        config.over_dump_path if config.over_dump else '',
        config.data_dump_path if config.data_dump else '', config.data_dump_step,
        config.profiling_dump_path if config.profiling else '', config.npu_option)


def run(config, clear=False, show_session=False):
    """Train, or only print what the session would be configured to, on this machine or another."""
    if not show_session:
        train(config, clear)
        return
    device = utils.resolve_device('auto') if config.device == 'auto' else config.device
    session_config = utils.session_config(device, config.precision, config.threads,
                                          npu_options(config, device), xla=config.xla)
    print('\n'.join(utils.describe_session(session_config, device, config.precision)))


def _schedule(config, images, celeba, course):
    iterations = course.iterations(images)
    if not iterations:
        of_all = f' of each of {course.workers} workers' if course.workers > 1 else ''
        raise UserError(f'--batch_size {config.batch_size}: an iteration takes '
                        f'{course.workers * config.batch_size * (config.n_d + 1)} images (n_d + 1 '
                        f'batches{of_all}), but there are {images} to train on ({celeba.split})')
    return loop.Schedule(
        config.epoch, iterations, functools.partial(learning_rate, config),
        save_freq=config.save_freq or iterations, sample_freq=config.sample_freq or iterations,
        num_ckpt=config.num_ckpt, keep_every=config.keep_every, time_limit=config.time_limit,
        on_nan=config.on_nan, log_images=config.log_images, log_exchange=config.log_exchange,
        lead=course.lead(images))


def _check_resumable(config):
    """Raise a UserError if the folder holds a run that these options cannot go on with."""
    checkpoints = os.path.join(config.folder, CHECKPOINTS)
    if not (os.path.exists(os.path.join(config.folder, SETTING))
            and checkpoint.any_in(checkpoints)):
        return
    if _is_slim(checkpoint.require_newest(checkpoints)):
        raise UserError(f'{config.folder}: holds a slim checkpoint, which training cannot go on '
                        'with; to begin with its weights, take another --experiment_name with '
                        f'--init_checkpoint {config.folder}')
    stored, ignored = load_config(config.folder)
    if ignored:
        warn(f'{config.folder}/{SETTING}: unknown options: {", ".join(ignored)}')
    differences = fixed_differences(config, stored)
    if differences:
        raise UserError(f'{config.folder} cannot be resumed with other values of '
                        f'{"; ".join(differences)}. Give the values so far, or take another '
                        '--experiment_name')


def _print_banner(config, device, celeba, train_images, schedule, workers):
    why = f'--device {config.device}' if config.device != 'auto' else (
        'found a GPU' if device == 'gpu' else 'NO GPU FOUND, which full-size training needs')
    print(f'experiment  {config.folder}')
    print(f'device      {device.upper()} ({why})')
    print(f'precision   {utils.describe_precision(device, config.precision)}')
    print(f'TensorFlow  {utils.tensorflow_version()}, Python {sys.version.split()[0]}')
    if workers.size > 1:
        print(f'workers     {workers.size} ({", ".join(workers.addresses)}); an update takes '
              f'{workers.size} x {config.batch_size} = {workers.size * config.batch_size} images, '
              f'with learning rate {config.lr:g} as for one')
    print(f'images      {train_images} train, {len(celeba.part("val"))} val, '
          f'{len(celeba.part("test"))} test ({celeba.split})')
    for note in celeba.notes:
        print(f'{"":12}{note}')
    print(f'iterations  {schedule.iterations} an epoch, {schedule.epochs} epochs; one is '
          f'{config.n_d} D updates and 1 G update, each on '
          f'{workers.size * config.batch_size} images')
    for number, line in enumerate(changed_options(config)):
        print(f'{"" if number else "options":12}{line}')
    sys.stdout.flush()
