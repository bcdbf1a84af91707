"""The losses of STGAN (paper section 3.3, formulas 9 - 14; csmliu/STGAN train.py@8a206ad).

Logits are [N,1] or [N,n_att]; every loss is a float32 scalar.
"""

from tflib import tf
from tflib.layers import flatten
from tflib.npu import float32_scope

# Under the square root of the gradient norm: the root's own gradient is infinite at zero, which a
# dead critic or a constant image reaches. Too small to change any other norm in float32.
NORM_EPSILON = 1e-12


@float32_scope()
def sigmoid_cross_entropy(labels, logits):
    """Mean sigmoid cross entropy; labels in {0,1}, any number type."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(labels, logits.dtype), logits=logits))


def _squared_error(target, logits):
    return tf.reduce_mean(tf.square(logits - target))


def _cross_entropy(target, logits):
    return sigmoid_cross_entropy(tf.fill(tf.shape(logits), target), logits)


@float32_scope()
def discriminator_adversarial_loss(mode, real_logit, fake_logit):
    """What D_adv minimizes, without the penalty; mode 'wgan', 'lsgan' or 'dcgan'."""
    if mode == 'wgan':
        return tf.reduce_mean(fake_logit) - tf.reduce_mean(real_logit)
    distance = {'lsgan': _squared_error, 'dcgan': _cross_entropy}[mode]
    return distance(1., real_logit) + distance(0., fake_logit)


@float32_scope()
def generator_adversarial_loss(mode, fake_logit):
    """What G minimizes to pass for real; mode 'wgan', 'lsgan' or 'dcgan'."""
    if mode == 'wgan':
        return -tf.reduce_mean(fake_logit)
    return {'lsgan': _squared_error, 'dcgan': _cross_entropy}[mode](1., fake_logit)


@float32_scope()
def reconstruction_loss(x, x_):
    """Mean absolute difference of two image batches."""
    return tf.reduce_mean(tf.abs(x - x_))


def gradient_penalty(critic, real, fake=None, alpha=None, beta=None, variance=None):
    """Mean squared distance of the critic's gradient norm from one.

    Gulrajani et al., "Improved training of Wasserstein GANs", 2017 (between real and fake), or
    without `fake` the DRAGAN point: Kodali et al., "On convergence and stability of GANs", 2017.

    Args:
        critic: function from images to logits, or to a tuple that starts with them.
        real, fake: images [N,H,W,3].
        alpha: position between both points, [N,1,1,1] or a scalar in [0,1]; None draws it.
        beta: strength of the DRAGAN noise, like `real` or a scalar in [0,1]; None draws it.
        variance: of the images' values, a scalar, for the DRAGAN noise; None: that of `real`.
    """
    with tf.name_scope('gradient_penalty'):
        if fake is None:
            if beta is None:
                beta = tf.random_uniform(tf.shape(real))
            # The deviation of the whole batch tensor, as published (a scalar).
            if variance is None:
                _, variance = tf.nn.moments(real, list(range(real.shape.ndims)))
            fake = real + 0.5 * tf.sqrt(variance) * beta
        if alpha is None:
            alpha = tf.random_uniform([tf.shape(real)[0]] + [1] * (real.shape.ndims - 1))
        x = real + alpha * (fake - real)
        x.set_shape(real.shape)
        logit = critic(x)
        if isinstance(logit, tuple):
            logit = logit[0]
        gradient = tf.gradients(logit, x)[0]
        with float32_scope():
            squares = tf.reduce_sum(tf.square(flatten(gradient)), axis=1)
            return tf.reduce_mean(tf.square(tf.sqrt(squares + NORM_EPSILON) - 1.))
