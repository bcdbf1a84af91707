"""The training graph: losses and updates of D and G, put together as in the paper."""

import contextlib
import functools
import os
from collections import OrderedDict

from stgan import attributes, losses, models
from stgan.loop import TrainingGraph, Update
from tflib import checkpoint, collective, layers, loss_scale, moving_average, tf, utils
from tflib.layers import GlorotUniform

# What a random draw of the graph is for; with the run's seed and the batch number it keys the draw.
ALPHA, BETA = range(2)


def discriminator_terms(config, batch, alpha=None, beta=None, variance=None):
    """What a D update minimizes ('d_loss') and its parts, as OrderedDict of scalars.

    Source: paper formulas 9 and 11.

    Args:
        alpha, beta, variance: as in `losses.gradient_penalty`.
    """
    critic = functools.partial(models.discriminate, config)
    source, target = _signed(config, batch.a), _signed(config, batch.b)
    with tf.name_scope('edit'):
        label = attributes.generator_label(config.label, source, target)
        xb_ = models.decode(config, models.encode(config, batch.xa), label)
    (xa_logit_gan, xa_logit_att), (xb__logit_gan, _) = judge_both(critic, batch.xa, xb_)
    gan = losses.discriminator_adversarial_loss(config.mode, xa_logit_gan, xb__logit_gan)
    fake = xb_ if config.mode == 'wgan' else None
    gp = losses.gradient_penalty(critic, batch.xa, fake, alpha, beta, variance)
    att = losses.sigmoid_cross_entropy(batch.a, xa_logit_att)
    loss = gan + config.gp_weight * gp + config.d_att_weight * att
    return OrderedDict(d_loss_gan=gan, gp=gp, d_loss_att=att, d_loss=loss)


def judge_both(critic, xa, xb_):
    """What the critic says of each of two image batches [N,S,S,3], in one call of 2N images.

    Real and edited images alternate in the batch. WGAN's gradient of the last bias is a sum of
    +1/N and -1/N that has to be exactly zero: Adam would turn a rounding error into a full step.
    Alternating, the terms cancel in whatever order they are added up.
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
    return layers.keyed_uniform(shape, key)


def build(config, batch, device='cpu', workers=None, next_batch=None):
    """Return the `TrainingGraph` of STGAN on a `data.Batch`.

    D and G have loss graphs of their own: a D update computes nothing that only G needs.

    Args:
        workers: those that train together, see `engines.joined`, of whose global batch `batch`
            is the share of this one; None: this process is alone.
        next_batch: function that adds operations which take another batch in the same session call;
            with `config.updates_per_call` above 1.
    """
    workers = workers or collective.Alone()
    # G first: its variables are then created in the order of the published code.
    terms = {network: _terms(config, network, batch, device, workers) for network in 'GD'}
    counter, rate = utils.iteration_counter(), tf.placeholder(tf.float32, [])
    # The order of D and G decides which of beta1_power and beta1_power_1 is whose.
    optimizers = {network: _optimizer(config, network, rate, device, workers) for network in 'DG'}
    step = functools.partial(_step, config, optimizers, counter, workers)
    calls = _calls(config)
    updates = {}
    for networks in OrderedDict.fromkeys(calls):
        update = step(networks[0], batch, terms[networks[0]])
        for network in networks[1:]:
            with tf.control_dependencies([update.op]):
                batch_ = next_batch()
                following = step(network, batch_,
                                 _terms(config, network, batch_, device, workers))
            update = _joined(update, following)
        updates[networks] = update
    return TrainingGraph([updates[networks] for networks in calls], counter, rate)


def _calls(config):
    """The networks that each session call of an iteration updates, e.g. ['DDD', 'DDG']."""
    networks, most = config.n_d * 'D' + 'G', config.updates_per_call
    return [networks[first:first + most] for first in range(0, len(networks), most)]


def _joined(first, second):
    """The `Update` of two of which the second waits for the first."""
    return Update(second.op, OrderedDict(first.terms, **second.terms),
                  first.batches + second.batches, OrderedDict(first.groups, **second.groups))


def _terms(config, network, batch, device, workers):
    """Add the loss graph of network 'D' or 'G'; returns its terms."""
    with tf.variable_scope('', initializer=GlorotUniform(config.seed), reuse=tf.AUTO_REUSE), \
            _arrangement(device), _statistics(config, workers), tf.name_scope(f'{network}_loss'):
        if network == 'G':
            return generator_terms(config, batch)
        return discriminator_terms(config, batch, *_penalty_draws(config, batch, workers),
                                   _variance(config, batch, workers))


def _arrangement(device):
    """The scope of how layers are computed on a device."""
    # precision_tool's golden runs set STGAN_PLAIN: an NPU's graph, which they are compared with,
    # has convolutions only.
    if device == 'npu' or os.environ.get('STGAN_PLAIN'):
        return contextlib.nullcontext()
    return layers.products() if device == 'cpu' else layers.sums_by_rows()


def _statistics(config, workers):
    """The scope of whose statistics batch norms take."""
    if config.sync_bn and workers.size > 1:
        return layers.shared_statistics(workers.gather)
    return contextlib.nullcontext()


def _penalty_draws(config, batch, workers):
    """(alpha [N,1,1,1], beta [N,S,S,3]) of `losses.gradient_penalty`, keyed by the batch number.

    Each of several workers takes its share of what one draws for all their images.
    """
    sizes = [config.batch_size, 1, 1, 1], tf.shape(batch.xa)
    if workers.size == 1:
        return [_uniform(size, config, purpose, batch.number)
                for purpose, size in zip((ALPHA, BETA), sizes)]
    first = workers.rank * config.batch_size
    return [_uniform(tf.concat([[workers.size * config.batch_size], size[1:]], 0), config, purpose,
                     batch.number)[first:first + config.batch_size]
            for purpose, size in zip((ALPHA, BETA), sizes)]


def _variance(config, batch, workers):
    """The variance of all workers' images if a DRAGAN point needs it, else None."""
    if workers.size == 1 or config.mode == 'wgan':
        return None
    moments = tf.nn.moments(batch.xa, list(range(batch.xa.shape.ndims)))
    return layers.pooled_moments(workers.gather(tf.stack(moments)))[1]


def _optimizer(config, network, rate, device, workers):
    """(optimizer of a network, its loss scale or None); one for all its steps."""
    optimizer = loss_scale.Adam(rate, beta1=0.5)
    if config.precision != 'mixed':
        return optimizer, None
    return loss_scale.make_optimizer(optimizer, network.lower(), config.loss_scale, device,
                                     config.fixed_loss_scale, workers)


def _step(config, optimizers, counter, workers, network, batch, terms):
    """The `Update` that minimizes the loss of network 'D' or 'G', once.

    Args:
        optimizers: {network: as of `_optimizer`}; terms: as of `_terms`, on `batch`.
    """
    scopes = ['D'] if network == 'D' else models.GENERATOR_SCOPES
    with workers.in_order():
        step, terms = _minimize(network, terms, utils.trainable_variables(*scopes),
                                *optimizers[network], workers)
        if network == 'G' and workers.size > 1 and not config.sync_bn:
            step = _common_statistics(step, workers)
    if network == 'G':
        if config.ema_decay:
            step = _average(config, counter, step)
        # After the update even if that is skipped: the counter tells the place in the data.
        with tf.control_dependencies([step]):
            step = counter.assign_add(1, read_value=False)
    return Update(step, terms, (batch,), dict.fromkeys(terms, network))


def _common_statistics(update, workers):
    """Return the operation that gives all workers the mean of their batch norm averages.

    Once an iteration: whenever weights are saved or used they are the same everywhere then.
    """
    moving = [v for v in tf.global_variables()
              if v.op.name.rpartition('/')[2] in ('moving_mean', 'moving_variance')]
    with tf.control_dependencies([update]):
        averages = workers.average([v.read_value() for v in moving])
    return tf.group(update, *[v.assign(average) for v, average in zip(moving, averages)])


def _average(config, counter, update):
    """Return the operation that averages G's weights, and its batch norms', after an update."""
    variables = checkpoint.without_slots(
        v for v in tf.global_variables() if v.op.name.split('/')[0] in models.GENERATOR_SCOPES)
    with tf.control_dependencies([update]):
        return moving_average.update(variables, config.ema_decay, counter.read_value())


def _minimize(network, terms, variables, optimizer, scale, workers):
    """(operation of an optimizer step, terms); in mixed precision its loss is scaled.

    Several workers average gradients before they look for overflows, and the terms: what is not
    finite in one is not finite in all.
    """
    name = network.lower()
    step = utils.minimize(optimizer, terms[f'{name}_loss'], variables, terms.values(),
                          workers.average)
    if scale is None:
        return step, _averaged(terms, workers)
    with tf.control_dependencies([step]):
        terms = _averaged(terms, workers)
        terms[f'{name}_loss_scale'] = tf.identity(scale.scale)
        terms[f'{name}_skipped'] = tf.identity(scale.skipped)
    return step, terms


def _averaged(terms, workers):
    """{name: scalar} averaged over all workers."""
    return OrderedDict(zip(terms, workers.average(terms.values())))
