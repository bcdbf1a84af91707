"""The generator in inference mode, arranged for many edits of each image.

What `models.py` describes plainly is computed with fewer operations. The values are the same but
for rounding:

- batch norm, which is linear then, is folded into the weights before it;
- a convolution of [feature, state] is the sum of one of the feature, computed once per image, and
  one of the state, computed once per edit; so are the transposed convolutions of [feature, label];
- on CPUs deep layers are matrix products (`layers.products`), transposed ones convolutions by
  phases.

Source: Liu et al., CVPR 2019, section 3; the arithmetic is `models.py`'s.
"""

import contextlib

import numpy as np

from tflib import tf
from tflib.layers import BATCH_NORM_EPSILON, convolve, instance_normalization, products

# Up to this height and width a transposed convolution goes by phases on CPUs: its kernel is then
# larger than its images, and TensorFlow rearranges it in every call, unlike that of a convolution.
# docs/performance.md has the figures.
LARGEST_BY_PHASES = 16


class Layer:
    """Weights and bias of a convolution, batch norm folded in.

    Attributes:
        weights: [k,k,in,out], or [k,k,out,in] if transposed; bias: [out], zeros if it has none.
        norm: (beta, gamma) [out] of the instance norm that follows, or None.
    """

    def __init__(self, values, scope, transposed=False):
        self.transposed = transposed
        self.weights = values[f'{scope}/weights']
        channels = self.weights.shape.as_list()[2 if transposed else 3]
        self.bias = values.get(f'{scope}/biases', tf.zeros([channels]))
        self.norm = None
        if f'{scope}/InstanceNorm/beta' in values:
            self.norm = [values[f'{scope}/InstanceNorm/{name}'] for name in ('beta', 'gamma')]
        norm = f'{scope}/BatchNorm'
        if f'{norm}/gamma' in values:
            variance = values[f'{norm}/moving_variance']
            scale = values[f'{norm}/gamma'] * tf.rsqrt(variance + BATCH_NORM_EPSILON)
            self.weights = self.weights * (scale[:, tf.newaxis] if transposed else scale)
            self.bias = values[f'{norm}/beta'] - values[f'{norm}/moving_mean'] * scale

    def part(self, start, stop):
        """The kernel of the input channels start .. stop-1."""
        return self.weights[..., start:stop] if self.transposed else self.weights[:, :, start:stop]


class FastGenerator:
    """G with a checkpoint's weights, built into the current graph.

    It adds local variables: the weights as it needs them, which tf.local_variables_initializer()
    computes from the checkpoint's, once for all runs.

    Args:
        config: the experiment's `RunConfig`.
        values: {variable name: tensor or variable} of Genc, Gstu and Gdec.
        device: 'cpu', 'gpu' or 'npu': on what the graph will run.

    Attributes:
        gates: [(reset, update)] of the last call of `edit`, the deepest first: [N*E,h,w,c].
    """

    def __init__(self, config, values, device='cpu'):
        self._config, self._on_cpu, self.gates = config, device == 'cpu', []
        self._encoder = [Layer(values, f'Genc/{_name("Conv", i)}')
                         for i in range(config.enc_layers)]
        self._decoder = [Layer(values, f'Gdec/{_name("Conv2d_transpose", i)}', transposed=True)
                         for i in range(config.dec_layers + bool(config.one_more_conv))]
        self._cells = []
        for i in range(config.stu_layers if config.use_stu else 0):
            up = Layer(values, f'Gstu/{_name("Conv2d_transpose", i)}', transposed=True)
            gates = [Layer(values, f'Gstu/{_name("Conv", 3 * i + gate)}') for gate in range(3)]
            self._cells.append((up, gates))

    def features(self, images):
        """What does not depend on the edit: a list of tensors, to be handed to `edit`.

        Args:
            images: float32 [N,S,S,3] in [-1,1].
        """
        zs, z = [], images
        size = self._config.img_size
        for i, layer in enumerate(self._encoder):
            if 0 < i < self._config.multi_inputs:
                z = tf.concat([z, tf.image.resize_bicubic(images, [size // 2 ** i] * 2)], axis=3)
            z = tf.nn.bias_add(self._conv(z, layer.weights, 2), _weight(layer.bias))
            z = tf.nn.leaky_relu(z)
            zs.append(z)
        deepest = zs[-1].shape.as_list()[-1]
        decoder_start = self._up(zs[-1], self._decoder[0].part(0, deepest), self._decoder[0].bias)
        if not self._cells:
            return [decoder_start] + zs[:-1][::-1]
        state = self._up(zs[-1], self._cells[0][0].part(0, deepest), self._cells[0][0].bias)
        gates = []
        for (_, layers), feature in zip(self._cells, zs[-2::-1]):
            for layer in layers:
                gate = self._conv(feature, layer.part(0, feature.shape.as_list()[-1]))
                gates.append(tf.nn.bias_add(gate, _weight(layer.bias)))
        return [decoder_start, state] + gates

    def edit(self, features, labels):
        """Edited images [N*E,S,S,3], those of an image one after another.

        Args:
            features: of `features`, for N images; labels: what G is told, float32 [N,E,n_att].
        """
        decoder_start, *others = features
        edits = tf.shape(labels)[1]
        flat = tf.reshape(labels, [-1, labels.shape.as_list()[-1]])
        selected = self._select(others, flat, edits) if self._cells else [
            repeat(z, edits) for z in others]
        config, z = self._config, None
        for i, layer in enumerate(self._decoder[:config.dec_layers - 1]):
            if i == 0:
                z = _label_map(flat, layer, decoder_start)
                z = tf.nn.relu(_add_per_image(z, decoder_start, edits))
            else:
                z = tf.nn.relu(self._up_with_label(z, layer, flat, config.inject_layers > i - 1))
            if config.shortcut_layers > i:
                z = tf.concat([z, selected[i]], axis=3)
        label_too = config.inject_layers > config.dec_layers - 2
        last = self._decoder[config.dec_layers - 1]
        z = self._up_with_label(z, last, flat, label_too)
        if config.one_more_conv:
            layer = self._decoder[config.dec_layers]
            z = self._up(tf.nn.relu(z), layer.weights, layer.bias, stride=1)
        return tf.nn.tanh(z)

    def _select(self, others, labels, edits):
        """The outputs of the selective transfer units, the deepest first."""
        config = self._config
        state, *gates = others
        selected, state_, self.gates = [], None, []
        for i, (up, layers) in enumerate(self._cells):
            if i == 0:
                state_ = _add_per_image(_label_map(labels, up, state), state, edits)
            else:
                state_ = self._up_with_label(state, up, labels, config.stu_inject_layers > i - 1)
            cell = list(zip(layers, gates[3 * i:3 * i + 3]))
            reset, update = [tf.nn.sigmoid(self._gate(state_, *gate, edits)) for gate in cell[:2]]
            self.gates.append((reset, update))
            new_state = reset * state_
            new_info = tf.nn.tanh(self._gate(new_state, *cell[2], edits))
            output = state_ + update * (new_info - state_)
            selected.append(output)
            state = {'stu': new_state, 'gru': output, 'direct': state_}[config.stu_state]
        return selected

    def _gate(self, state, layer, from_feature, edits):
        """Convolution of [feature, state], normalized; the feature's share is given."""
        _, _, depth, channels = layer.weights.shape.as_list()
        from_state = self._conv(state, layer.part(depth - channels, None))
        y = _add_per_image(from_state, from_feature, edits)
        if layer.norm is None:
            return y
        return instance_normalization(y, *[_weight(value) for value in layer.norm])

    def _up_with_label(self, x, layer, labels, with_label):
        """Transposed convolution of [x, label], or of x alone."""
        y = self._up(x, layer.part(0, x.shape.as_list()[-1]), layer.bias)
        return y + _label_map(labels, layer, y) if with_label else y

    def _conv(self, x, weights, stride=1):
        """SAME convolution of a constant kernel."""
        with products() if self._on_cpu else contextlib.nullcontext():
            return convolve(x, _weight(weights), stride)

    def _up(self, x, weights, bias, stride=2):
        """Transposed convolution [N,h,w,c] -> [N,h*stride,w*stride,channels], constant kernel."""
        height, width = x.shape.as_list()[1:3]
        if self._on_cpu and stride == 2 and max(height, width) <= LARGEST_BY_PHASES:
            y = _up_by_phases(x, weights)
        else:
            shape = [tf.shape(x)[0], height * stride, width * stride, weights.shape.as_list()[2]]
            y = tf.nn.conv2d_transpose(x, _weight(weights), shape, [1, stride, stride, 1], 'SAME')
            y.set_shape([None] + shape[1:])
        return tf.nn.bias_add(y, _weight(bias))


def _weight(value):
    """A local variable with the value of a tensor."""
    # No resource variable, which takes longer to make: nothing is written to it again.
    return tf.Variable(value, trainable=False, use_resource=False,
                       collections=[tf.GraphKeys.LOCAL_VARIABLES])


def _name(kind, number):
    """Scope of a layer, as `layers.conv2d` and `layers.conv2d_transpose` number them."""
    return f'{kind}_{number}' if number else kind


def _up_by_phases(x, weights):
    """Transposed convolution (4x4, stride 2): even and odd rows and columns one by one.

    Output row 2i sees the input rows i-1 and i through the taps 3 and 1, row 2i+1 the rows i and
    i+1 through 2 and 0; so do columns.
    """
    _, height, width, _ = x.shape.as_list()
    channels = weights.shape.as_list()[2]
    # [input rows, columns, channels, output channels] of each phase.
    taps = tf.transpose(tf.reshape(tf.reverse(weights, [0, 1]), [2, 2, 2, 2, channels, -1]),
                        [1, 3, 0, 2, 5, 4])
    rows = []
    for row in (0, 1):
        columns = []
        for column in (0, 1):
            padding = [[0, 0], [1 - row, row], [1 - column, column], [0, 0]]
            columns.append(tf.nn.conv2d(x, _weight(taps[row, column]), [1, 1, 1, 1],
                                        padding))
        rows.append(tf.reshape(tf.stack(columns, axis=3), [-1, height, 2 * width, channels]))
    return tf.reshape(tf.stack(rows, axis=2), [-1, 2 * height, 2 * width, channels])


def _add_per_image(x, per_image, edits):
    """x [N*E,h,w,c] plus per_image [N,h,w,c], the same for all edits of an image."""
    shape = x.shape.as_list()[1:]
    size = int(np.prod(shape))
    y = tf.reshape(x, [-1, edits, size]) + tf.reshape(per_image, [-1, 1, size])
    return tf.reshape(y, [-1] + shape)


def repeat(per_image, edits):
    """[N,h,w,c] -> [N*E,h,w,c]: each image `edits` times in turn."""
    shape = per_image.shape.as_list()[1:]
    y = tf.tile(tf.reshape(per_image, [-1, 1, int(np.prod(shape))]), [1, edits, 1])
    return tf.reshape(y, [-1] + shape)


def _label_map(labels, layer, like):
    """Transposed convolution (4x4, stride 2) of a label that is constant in space: [B,h,w,c].

    A constant map gives four values in the interior, by parity of row and column, and others at the
    border, where one tap of the kernel falls outside; all appear in the map of a 3x3 image.
    """
    height, width = like.shape.as_list()[1:3]
    _, _, channels, depth = layer.weights.shape.as_list()
    weights = layer.part(depth - labels.shape.as_list()[-1], None)
    taps = tf.constant([[any(2 * i + tap - 1 == row for i in range(3)) for tap in range(4)]
                        for row in range(6)], tf.float32)
    table = tf.einsum('oy,px,yxcj->jopc', taps, taps, weights)
    small = tf.tensordot(labels, _weight(table), 1)
    for axis, size in ((1, height), (2, width)):
        # First row, then odd and even ones in turn, last row.
        places = [0] + [1 if row % 2 else 2 for row in range(1, size - 1)] + [5]
        small = tf.gather(small, places, axis=axis)
    return small

