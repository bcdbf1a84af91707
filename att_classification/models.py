"""The published attribute classifier (csmliu/STGAN att_classification/models.py@8a206ad)."""

from functools import partial

from tflib import tf
from tflib.layers import batch_norm, conv2d, flatten_fully_connected


def classifier(x, att_dim=40, dim=32, is_training=True):
    """Logits [N,att_dim] of images [N,S,S,3] in [-1,1]; S is 128 in the published checkpoint."""
    bn = partial(batch_norm, is_training=is_training, decay=0.9, epsilon=1e-5)
    conv_bn_relu = partial(conv2d, kernel_size=3, normalizer=bn, activation=tf.nn.relu)

    with tf.variable_scope('classifier', reuse=tf.AUTO_REUSE):
        y = x
        for channels in (dim // 2, dim, dim * 2, dim * 4, dim * 8):
            y = conv_bn_relu(y, channels)
            y = conv_bn_relu(y, channels)
            y = tf.nn.max_pool(y, [1, 2, 2, 1], [1, 2, 2, 1], 'VALID')
        y = flatten_fully_connected(y, dim * 16, tf.nn.relu)
        return flatten_fully_connected(y, att_dim)
