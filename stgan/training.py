"""The training graph, and the loop that runs it."""

import contextlib
import functools
import os
import re
import shutil
import sys
import time
from collections import OrderedDict, namedtuple

import numpy as np
from tqdm import tqdm

import imlib
from pylib import (
    FolderLock,
    NotFinite,
    StopRequest,
    UserError,
    remove_unfinished,
    warn,
)
from stgan import attributes, data, editing, losses, models, sheets
from stgan.config import changed_options, fixed_differences, load_config
from stgan.supervision import METRICS, ROLLBACKS, SUMMARIES, Log, Overflows, Rollbacks
from tflib import checkpoint, layers, loss_scale, npu, tf, utils
from tflib.layers import GlorotUniform

CHECKPOINTS, SAMPLES = 'checkpoints', 'sample_training'

# What a random draw of the graph is for; with the run's seed and the batch number it keys the draw.
ALPHA, BETA = range(2)

Update = namedtuple('Update', 'op terms')
Update.__doc__ = """An optimizer step, which takes its own batch; terms: name -> loss scalar."""

TrainingGraph = namedtuple('TrainingGraph', 'updates counter learning_rate')
TrainingGraph.__doc__ = """What `fit` runs.

updates: the `Update`s of one iteration, in order; counter: int64 variable, iterations finished;
learning_rate: float32 placeholder.
"""

Schedule = namedtuple(
    'Schedule', 'epochs iterations learning_rate save_freq sample_freq num_ckpt keep_every '
    'time_limit on_nan log_images', defaults=[0, 0, 'stop', False])
Schedule.__doc__ = """How long, how fast, and what is kept.

iterations: per epoch; learning_rate: function of the 0-based epoch; save_freq, sample_freq: in
iterations; num_ckpt, keep_every, time_limit, on_nan, log_images: as in `RunConfig`.
"""


def discriminator_terms(config, batch, alpha=None, beta=None, plain=False):
    """What a D update minimizes ('d_loss') and its parts, as OrderedDict of scalars.

    Source: paper formulas 9 and 11.

    Args:
        alpha, beta: as in `losses.gradient_penalty`.
        plain: call D for real and for edited images one after the other, as published.
    """
    critic = functools.partial(models.discriminate, config)
    source, target = _signed(config, batch.a), _signed(config, batch.b)
    with tf.name_scope('edit'):
        label = attributes.generator_label(config.label, source, target)
        xb_ = models.decode(config, models.encode(config, batch.xa), label)
    if plain:
        xa_logit_gan, xa_logit_att = critic(batch.xa)
        xb__logit_gan, _ = critic(xb_)
    else:
        (xa_logit_gan, xa_logit_att), (xb__logit_gan, _) = _of_pairs(critic, batch.xa, xb_)
    gan = losses.discriminator_adversarial_loss(config.mode, xa_logit_gan, xb__logit_gan)
    fake = xb_ if config.mode == 'wgan' else None
    gp = losses.gradient_penalty(critic, batch.xa, fake, alpha, beta)
    att = losses.sigmoid_cross_entropy(batch.a, xa_logit_att)
    loss = gan + config.gp_weight * gp + config.d_att_weight * att
    return OrderedDict(d_loss_gan=gan, gp=gp, d_loss_att=att, d_loss=loss)


def _of_pairs(critic, xa, xb_):
    """What the critic says of each of two image batches [N,S,S,3], in one call of 2N images.

    Images of both take turns: gradients that cancel each other, such as those of the last bias
    for wgan, then do so exactly in whatever order they are added up. A rounding error would be no
    less to Adam than a gradient.
    """
    pairs = tf.reshape(tf.stack([xa, xb_], axis=1), [-1] + xa.shape.as_list()[1:])
    logits = critic(pairs)
    return [[logit[place::2] for logit in logits] for place in range(2)]


def generator_terms(config, batch):
    """What a G update minimizes ('g_loss') and its parts, as OrderedDict of scalars.

    Source: paper formulas 10, 12 and 13.
    """
    source, target = _signed(config, batch.a), _signed(config, batch.b)
    zs = models.encode(config, batch.xa)
    with tf.name_scope('edit'):
        xb_ = models.decode(config, zs, attributes.generator_label(config.label, source, target))
    # Both passes update the same moving averages: one after the other, or runs would differ.
    with tf.name_scope('reconstruction'), tf.control_dependencies([xb_]):
        xa_ = models.decode(config, zs, attributes.generator_label(config.label, source, source))
    logit_gan, logit_att = models.discriminate(config, xb_)
    gan = losses.generator_adversarial_loss(config.mode, logit_gan)
    att = losses.sigmoid_cross_entropy(batch.b, logit_att)
    rec = losses.reconstruction_loss(batch.xa, xa_)
    loss = gan + 10. * att + config.rec_loss_weight * rec
    return OrderedDict(g_loss_gan=gan, g_loss_att=att, g_loss_rec=rec, g_loss=loss)


def _signed(config, labels):
    """{0,1} labels -> float32 labels of -thres_int and +thres_int, in the graph."""
    return (tf.cast(labels, tf.float32) * 2 - 1) * config.thres_int


def _uniform(shape, config, purpose, number):
    """float32 draws from [0,1) that depend on (seed, purpose, batch number) only."""
    key = tf.stack([tf.constant(2 * config.seed + purpose, tf.int64), number])
    return tf.random.stateless_uniform(shape, key)


def build(config, batch, device='cpu', plain=False):
    """Return the `TrainingGraph` of STGAN on a `data.Batch`.

    D and G have loss graphs of their own: a D update computes nothing that only G needs.

    Args:
        plain: arrange it as published, which is slower and gives the same but for rounding.
    """
    # precision_tool's golden runs set STGAN_PLAIN, as an NPU's graph has convolutions only.
    products = device == 'cpu' and not plain and not os.environ.get('STGAN_PLAIN')
    rate = tf.placeholder(tf.float32, [])
    with tf.variable_scope('', initializer=GlorotUniform(config.seed)), \
            layers.products() if products else contextlib.nullcontext():
        count = config.batch_size
        alpha = _uniform([count, 1, 1, 1], config, ALPHA, batch.number)
        beta = _uniform(tf.shape(batch.xa), config, BETA, batch.number)
        # G first: its variables are then created in the order of the published code.
        with tf.name_scope('G_loss'):
            g_terms = generator_terms(config, batch)
        with tf.name_scope('D_loss'):
            d_terms = discriminator_terms(config, batch, alpha, beta, plain)
    d_variables = utils.trainable_variables('D')
    g_variables = utils.trainable_variables(*models.GENERATOR_SCOPES)
    counter = utils.iteration_counter()
    # The order decides which of beta1_power and beta1_power_1 is whose.
    d_update = _update(config, device, 'd', d_terms, d_variables, rate)
    g_update = _update(config, device, 'g', g_terms, g_variables, rate)
    # After the update even if that is skipped: the counter tells the place in the data.
    with tf.control_dependencies([g_update.op]):
        g_update = g_update._replace(op=counter.assign_add(1, read_value=False))
    return TrainingGraph([d_update] * config.n_d + [g_update], counter, rate)


def _update(config, device, name, terms, variables, rate):
    """The `Update` that minimizes `<name>_loss` of `terms`; mixed precision scales the loss."""
    loss = terms[f'{name}_loss']
    optimizer = loss_scale.Adam(rate, beta1=0.5)
    if config.precision == 'high':
        return Update(utils.minimize(optimizer, loss, variables, terms.values()), terms)
    optimizer, manager = loss_scale.make_optimizer(optimizer, name, config.loss_scale, device,
                                                   config.fixed_loss_scale)
    step = utils.minimize(optimizer, loss, variables, terms.values())
    with tf.control_dependencies([step]):
        terms = OrderedDict(terms)
        terms[f'{name}_loss_scale'] = tf.identity(manager.scale)
        terms[f'{name}_skipped'] = tf.identity(manager.skipped)
    return Update(step, terms)


def learning_rate(config, epoch):
    """Learning rate of a 0-based epoch: a tenth after every `init_epoch` epochs."""
    return config.lr / 10 ** (epoch // config.init_epoch)


def fit(folder, graph, batches, schedule, report, open_session, newest=None, initialize=None):
    """Run a training graph to the end of its schedule.

    Writes checkpoints/, summaries/ and metrics.jsonl into `folder`, which nothing else may do.

    Args:
        batches: the `data.TrainingBatches` that the graph reads.
        report: what is written every `sample_freq` iterations, an object with the functions
            write(session, checkpoint name) and is_missing(checkpoint name).
        open_session: function that opens the session, such as a partial `utils.session`.
        newest: checkpoint to go on from; None: this is a new run.
        initialize: function (session) that gives a new run other weights than random ones.

    Raises:
        UserError: the checkpoint does not fit.
        RunFailed: a loss is not finite, or the disk fails; the checkpoints stay as they were.
        Interrupted: after SIGINT, SIGTERM or the time limit, when the iteration is finished and
            saved.
    """
    checkpoints = checkpoint.Checkpoints(
        os.path.join(folder, CHECKPOINTS), schedule.num_ckpt,
        functools.partial(is_kept_for_good, keep_every=schedule.keep_every))
    remove_unfinished(folder, checkpoints.folder, os.path.join(folder, SAMPLES))
    rollbacks, overflows = Rollbacks(folder, schedule.on_nan), Overflows()
    total, n_updates = schedule.epochs * schedule.iterations, len(graph.updates)
    images = [batches.batch.images] if schedule.log_images else []
    for iteration in rollbacks.iterations:
        batches.reorder(iteration * n_updates)
    with open_session() as session, StopRequest(schedule.time_limit) as stop:
        iteration = first = _load(session, graph, checkpoints, newest, initialize)
        print(f'{"resuming after" if first else "starting at"} iteration {first} of {total}'
              + (f', from {newest}' if newest else ''), flush=True)
        name = published_name(*_place(first - 1, schedule))
        if first and _is_due(first, total, schedule.sample_freq) and report.is_missing(name):
            report.write(session, name)    # the run was killed between checkpoint and report
        if first >= total:
            print('nothing to do: all epochs are trained; raise --epoch to train on', flush=True)
            return
        batches.seek(session, first * n_updates)
        with contextlib.closing(Log(folder, first)) as log, tqdm(
                total=total, initial=first, unit='it', dynamic_ncols=True,
                mininterval=.5 if sys.stderr.isatty() else 60) as progress:
            while iteration < total:
                place = _place(iteration, schedule)
                began = time.monotonic()
                try:
                    # 1. updates, each with a batch of its own
                    rate = schedule.learning_rate(place.epoch)
                    terms, used = OrderedDict(), []
                    for number, update in enumerate(graph.updates, iteration * n_updates):
                        values, its_images = _run_update(
                            session, update, {graph.learning_rate: rate}, batches, number, images)
                        overflows.check(values, iteration, checkpoints.folder)
                        terms.update(values)
                        used += its_images

                    # 2. log
                    seconds = round(time.monotonic() - began, 4)
                    log.write(iteration + 1, OrderedDict(
                        epoch=place.epoch, lr=rate, seconds=seconds, **terms,
                        **({'images': used} if used else {}),
                        **batches.replaced(iteration * n_updates, n_updates)))
                    _show(progress, terms)
                    if iteration == first:
                        warm = time.monotonic()    # the first iteration is slow
                    elif iteration == first + 10:
                        hours = (time.monotonic() - warm) / 10 * (total - iteration - 1) / 3600
                        progress.write(f'about {hours:.2g} hours to go')

                    # 3. checkpoint and samples
                    iteration += 1
                    name = published_name(*place)
                    stopping = stop.requested
                    if stopping or _is_due(iteration, total, schedule.save_freq,
                                           schedule.keep_every * schedule.iterations):
                        log.sync()
                        progress.write(f'saved {checkpoints.save(session, name)}')
                    if _is_due(iteration, total, schedule.sample_freq):
                        report.write(session, name)
                except NotFinite as error:
                    rollbacks.allow(error)
                    newest = checkpoint.latest(checkpoints.folder)
                    iteration = _load(session, graph, checkpoints, newest, initialize)
                    rollbacks.add(iteration, error)
                    batches.reorder(iteration * n_updates)
                    batches.seek(session, iteration * n_updates)
                    log.rewind(iteration)
                    progress.n, overflows = iteration, Overflows()
                    continue

                # 4. stop in good order
                if stopping and iteration < total:
                    raise stop.interruption(f'stopped and saved after iteration {iteration} of '
                                            f'{total}; the same command goes on')


_PUBLISHED = re.compile(r'Epoch_\((\d+)\)_\((\d+)of(\d+)\)\.ckpt')


def published_name(epoch, iteration, iterations):
    """`Epoch_(e)_(iofn).ckpt`: 0-based epoch, 1-based iteration in it, iterations per epoch."""
    return f'Epoch_({epoch})_({iteration}of{iterations}).ckpt'


def is_kept_for_good(name, keep_every):
    """Whether a checkpoint is never deleted: every `keep_every` epochs, and what is none of ours.

    Args:
        keep_every: epochs; 0: no checkpoint of ours is kept.
    """
    place = _PUBLISHED.fullmatch(name)
    if not place:
        return True
    epoch, iteration, iterations = map(int, place.groups())
    return bool(keep_every) and iteration == iterations and (epoch + 1) % keep_every == 0


_Place = namedtuple('_Place', 'epoch iteration iterations')


def _place(iteration, schedule):
    """The arguments of `published_name` for a 0-based iteration."""
    epoch, in_epoch = divmod(iteration, schedule.iterations)
    return _Place(epoch, in_epoch + 1, schedule.iterations)


def _is_due(iteration, total, *intervals):
    """Whether something is done after so many iterations; an interval of 0 is none."""
    return iteration == total or any(each and iteration % each == 0 for each in intervals)


def _load(session, graph, checkpoints, newest, initialize):
    """Give all variables the values of a checkpoint or of a new run; return iterations finished."""
    session.run(tf.global_variables_initializer())
    if newest:
        checkpoints.restore(session, newest)
    elif initialize:
        initialize(session)
    return int(session.run(graph.counter))


def _show(progress, terms):
    """Move the progress bar on by an iteration, with the losses and the skipped updates."""
    progress.update()
    progress.set_postfix({name: f'{value:.3g}' for name, value in terms.items()
                          if name.endswith('loss') or (name.endswith('skipped') and value)},
                         refresh=False)


def _run_update(session, update, feed, batches, number, fetches=()):
    """Run an update; unreadable images are replaced.

    Args:
        number: of the batch it takes; fetches: tensors to fetch beside.

    Returns:
        (its terms as floats, the fetched arrays as lists).
    """
    while True:
        try:
            values, fetched, _ = session.run([update.terms, fetches, update.op], feed)
            return (OrderedDict((name, float(value)) for name, value in values.items()),
                    [array.tolist() for array in fetched])
        except tf.errors.OpError as error:
            batches.recover(session, number, error)


class _SampleGrid:
    """Edits of the same validation images, written at intervals: a column per attribute."""

    def __init__(self, config, celeba):
        indices = celeba.part('val')[:config.n_sample]
        self._config = config
        self._graph = editing.EditGraph(config)
        self._labels = celeba.labels[indices]
        self._images = np.concatenate(list(data.load_images(
            celeba.paths(indices), config.img_size, celeba.crop, 16))) if len(indices) else []

    def _path(self, name):
        return os.path.join(self._config.folder, SAMPLES, os.path.splitext(name)[0] + '.jpg')

    def is_missing(self, name):
        """Whether there is no grid of that name yet."""
        return not os.path.exists(self._path(name))

    def write(self, session, name):
        """Write `sample_training/<name>.jpg`: images below each other, as in test sheets."""
        if not len(self._images):
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
        RunFailed, Interrupted: see `fit`.
    """
    if not clear:
        _check_resumable(config)
    utils.select_gpus(config.gpu)
    npu_options(config, config.device)    # illegal ones are found before an adapter is loaded
    device = utils.resolve_device(config.device)
    open_session = _session_opener(config, device)
    if config.img_size == 2 ** config.dis_layers:
        warn(f'--dis_layers {config.dis_layers}: leaves a single pixel of --img_size '
             f'{config.img_size}, which instance norm makes constant: D will not learn')
    celeba = data.CelebA(config.dataroot, config.atts, config.split, config.use_cropped_img)
    indices = celeba.part('train')[:config.train_image_num or None]
    schedule = _schedule(config, len(indices), celeba)
    with FolderLock(config.folder), tf.Graph().as_default():
        batches = data.TrainingBatches(celeba, indices, config.img_size, config.batch_size,
                                       config.seed, config.max_bad_images)
        graph = build(config, batches.batch, device)
        samples = _SampleGrid(config, celeba)
        newest = None if clear else checkpoint.latest(os.path.join(config.folder, CHECKPOINTS))
        if newest:
            checkpoint.check_fits(newest, tf.global_variables())
        initialize = _initializer(config) if config.init_checkpoint else None
        _print_banner(config, device, celeba, len(indices), schedule)
        if clear:
            # Test sheets stay: they are test.py's.
            remove_training(config.folder,
                            ('setting.txt', CHECKPOINTS, SUMMARIES, METRICS, ROLLBACKS, SAMPLES))
        config.save(config.folder)
        fit(config.folder, graph, batches, schedule, samples, open_session, newest, initialize)
    bad = len(batches.stream.bad)
    if bad:
        print(f'{bad} unreadable images were replaced by others')
    print(f'trained: {config.folder}; next: python test.py --experiment_name '
          f'{config.experiment_name} --test_int 2')


def _session_opener(config, device):
    """A function without arguments that opens the run's session on the current graph."""
    options = npu_options(config, device)
    # Now, as what is impossible or unusable has to be found before anything is written.
    session_config = utils.session_config(device, config.precision, config.threads, options)
    if device == 'npu':
        npu.prepare_session(session_config)
    return functools.partial(utils.session, device, config.threads, precision=config.precision,
                             npu_options=options)


def _initializer(config):
    """A function (session) that restores the networks' weights from `--init_checkpoint`."""
    path = config.init_checkpoint
    if os.path.isdir(path):
        path = checkpoint.require_latest(path)
    scopes = (*models.GENERATOR_SCOPES, 'D')
    weights = checkpoint.without_slots(v for v in tf.global_variables()
                                       if v.op.name.split('/')[0] in scopes)
    checkpoint.check_fits(path, weights, scopes)
    return lambda session: checkpoint.restore(session, path, weights, scopes)


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
                                          npu_options(config, device))
    print('\n'.join(utils.describe_session(session_config, device, config.precision)))


def _schedule(config, images, celeba):
    iterations = images // (config.batch_size * (config.n_d + 1))
    if not iterations:
        raise UserError(f'--batch_size {config.batch_size}: an iteration takes '
                        f'{config.batch_size * (config.n_d + 1)} images (n_d + 1 batches), but '
                        f'there are {images} to train on ({celeba.split})')
    return Schedule(config.epoch, iterations, functools.partial(learning_rate, config),
                    config.save_freq or iterations, config.sample_freq or iterations,
                    config.num_ckpt, config.keep_every, config.time_limit, config.on_nan,
                    config.log_images)


def _check_resumable(config):
    """Raise a UserError if the folder holds a run that these options cannot go on with."""
    if not os.path.exists(os.path.join(config.folder, 'setting.txt')):
        return
    stored, ignored = load_config(config.folder)
    if ignored:
        warn(f'{config.folder}/setting.txt: unknown options: {", ".join(ignored)}')
    differences = fixed_differences(config, stored)
    if differences:
        raise UserError(f'{config.folder} cannot be resumed with other values of '
                        f'{"; ".join(differences)}. Take another --experiment_name, or --clear to '
                        'start over')


def _print_banner(config, device, celeba, train_images, schedule):
    why = f'--device {config.device}' if config.device != 'auto' else (
        'found a GPU' if device == 'gpu' else 'NO GPU FOUND, which full-size training needs')
    print(f'experiment  {config.folder}')
    print(f'device      {device.upper()} ({why})')
    print(f'TensorFlow  {utils.tensorflow_version()}, Python {sys.version.split()[0]}')
    print(f'images      {train_images} train, {len(celeba.part("val"))} val, '
          f'{len(celeba.part("test"))} test ({celeba.split})')
    print(f'iterations  {schedule.iterations} an epoch, {schedule.epochs} epochs; one is '
          f'{config.n_d} D updates and 1 G update, each on {config.batch_size} images')
    for number, line in enumerate(changed_options(config)):
        print(f'{"" if number else "options":12}{line}')
    sys.stdout.flush()


def remove_training(folder, names):
    """Say which of the named files and folders of earlier training there are, and remove them."""
    names = [name for name in names if os.path.exists(os.path.join(folder, name))]
    if names:
        print(f'--clear: removing {", ".join(names)} from {folder}', flush=True)
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
