"""The networks of STGAN (Liu et al., CVPR 2019, section 3), readable beside the paper.

Names, keywords and variable names are those of the published code (csmliu/STGAN models.py@8a206ad),
so that its checkpoints load. Images are [N,H,W,3] in [-1,1]; labels are [N,n_att] floats.
"""

from functools import partial

from tflib import tf
from tflib.layers import (
    batch_norm,
    concat_label,
    conv2d,
    conv2d_transpose,
    flatten_fully_connected,
    instance_norm,
)

MAX_DIM = 1024
GENERATOR_SCOPES = ('Genc', 'Gstu', 'Gdec')    # top variable scopes of G


def Genc(x, dim=64, n_layers=5, multi_inputs=1, is_training=True, bn_decay=0.999):
    """Encoder.

    Args:
        multi_inputs: m > 1 shows layers 1 .. m-1 the image too, resized to their input's size.

    Returns:
        The feature maps [z0 .. z(n_layers-1)]; zi is [N, H/2^(i+1), W/2^(i+1), min(dim*2^i, 1024)].
    """
    bn = partial(batch_norm, is_training=is_training, decay=bn_decay)
    conv_bn_lrelu = partial(conv2d, normalizer=bn, activation=tf.nn.leaky_relu)

    with tf.variable_scope('Genc', reuse=tf.AUTO_REUSE):
        height, width = x.shape.as_list()[1:3]
        z = x
        zs = []
        for i in range(n_layers):
            if 0 < i < multi_inputs:
                size = (height // 2 ** i, width // 2 ** i)
                z = tf.concat([z, tf.image.resize_bicubic(x, size)], axis=3)
            z = conv_bn_lrelu(z, min(dim * 2 ** i, MAX_DIM), 4, 2)
            zs.append(z)
        return zs


def stu_cell(feature, state, channels, is_training=True, kernel_size=3, norm='none',
             pass_state='stu', bn_decay=0.999):
    """Selective transfer unit (paper section 3.2; ConvGRUCell in the published code).

    Args:
        feature: encoder feature map [N,h,w,c].
        state: hidden state of the next deeper cell [N,h/2,w/2,c'].
        norm: 'none', 'bn' or 'in': normalization of the three gate convolutions.
        pass_state: what the next cell receives: 'stu' the reset state, 'gru' the output, 'direct'
            the upsampled state.

    Returns:
        (output, state for the next cell), each [N,h,w,channels].
    """
    normalizer = {'none': None,
                  'bn': partial(batch_norm, is_training=is_training, decay=bn_decay),
                  'in': instance_norm}[norm]
    gate = partial(conv2d, channels=channels, kernel_size=kernel_size, normalizer=normalizer,
                   activation=tf.nn.sigmoid)
    info = partial(conv2d, channels=channels, kernel_size=kernel_size, normalizer=normalizer,
                   activation=tf.nn.tanh)

    state_ = conv2d_transpose(state, channels, 4, 2)
    reset = gate(tf.concat([feature, state_], axis=3))
    update = gate(tf.concat([feature, state_], axis=3))
    new_state = reset * state_
    new_info = info(tf.concat([feature, new_state], axis=3))
    output = (1 - update) * state_ + update * new_info
    return output, {'stu': new_state, 'gru': output, 'direct': state_}[pass_state]


def Gstu(zs, a, dim=64, n_layers=4, inject_layers=4, is_training=True, kernel_size=3, norm='none',
         pass_state='stu', bn_decay=0.999):
    """Selective transfer units between encoder and decoder, from the deepest map outwards.

    Args:
        zs: the encoder's n_layers + 1 feature maps.
        a: label [N,n_att], concatenated to the first `1 + inject_layers` states.

    Returns:
        Feature maps like `zs`, all but the deepest replaced by what the decoder should see.
    """
    with tf.variable_scope('Gstu', reuse=tf.AUTO_REUSE):
        selected = [zs[-1]]
        state = concat_label(zs[-1], a)
        for i in range(n_layers):
            level = n_layers - 1 - i
            output, state = stu_cell(zs[level], state, min(dim * 2 ** level, MAX_DIM), is_training,
                                     kernel_size, norm, pass_state, bn_decay)
            selected.insert(0, output)
            if inject_layers > i:
                state = concat_label(state, a)
        return selected


def Gdec(zs, a, dim=64, n_layers=5, shortcut_layers=4, inject_layers=4, is_training=True,
         one_more_conv=0, bn_decay=0.999):
    """Decoder.

    Args:
        zs: feature maps of the encoder or of `Gstu`.
        a: label [N,n_att].
        shortcut_layers, inject_layers: how many layers see the skip connection and the label.
        one_more_conv: kernel size of an additional output convolution; 0 for none.

    Returns:
        Images [N,H,W,3] in [-1,1].
    """
    bn = partial(batch_norm, is_training=is_training, decay=bn_decay)
    dconv_bn_relu = partial(conv2d_transpose, normalizer=bn, activation=tf.nn.relu)

    with tf.variable_scope('Gdec', reuse=tf.AUTO_REUSE):
        z = concat_label(zs[-1], a)
        for i in range(n_layers - 1):
            z = dconv_bn_relu(z, min(dim * 2 ** (n_layers - 1 - i), MAX_DIM), 4, 2)
            if shortcut_layers > i:
                z = tf.concat([z, zs[n_layers - 2 - i]], axis=3)
            if inject_layers > i:
                z = concat_label(z, a)
        if one_more_conv:
            z = dconv_bn_relu(z, dim // 4, 4, 2)
            return tf.nn.tanh(conv2d_transpose(z, 3, one_more_conv))
        return tf.nn.tanh(conv2d_transpose(z, 3, 4, 2))


def D(x, n_att, dim=64, fc_dim=1024, n_layers=5):
    """Discriminator and attribute classifier on shared convolutions.

    Returns:
        (logit_gan [N,1], logit_att [N,n_att]): D_adv and D_att of the paper.
    """
    conv_in_lrelu = partial(conv2d, normalizer=instance_norm, activation=tf.nn.leaky_relu)

    with tf.variable_scope('D', reuse=tf.AUTO_REUSE):
        y = x
        for i in range(n_layers):
            y = conv_in_lrelu(y, min(dim * 2 ** i, MAX_DIM), 4, 2)
        logit_gan = flatten_fully_connected(y, fc_dim, tf.nn.leaky_relu)
        logit_gan = flatten_fully_connected(logit_gan, 1)
        logit_att = flatten_fully_connected(y, fc_dim, tf.nn.leaky_relu)
        logit_att = flatten_fully_connected(logit_att, n_att)
        return logit_gan, logit_att


def encode(config, x, is_training=True):
    """Feature maps of images [N,S,S,3]: the part of G that does not depend on the edit."""
    return Genc(x, config.enc_dim, config.enc_layers, config.multi_inputs, is_training,
                config.bn_decay)


def decode(config, zs, label, is_training=True):
    """Edited images [N,S,S,3] from feature maps and label [N,n_att]: the rest of G."""
    if config.use_stu:
        zs = Gstu(zs, label, config.stu_dim, config.stu_layers, config.stu_inject_layers,
                  is_training, config.stu_kernel_size, config.stu_norm, config.stu_state,
                  config.bn_decay)
    return Gdec(zs, label, config.dec_dim, config.dec_layers, config.shortcut_layers,
                config.inject_layers, is_training, config.one_more_conv, config.bn_decay)


def discriminate(config, x):
    """(logit_gan [N,1], logit_att [N,n_att]) of images [N,S,S,3]."""
    return D(x, config.n_att, config.dis_dim, config.dis_fc_dim, config.dis_layers)
