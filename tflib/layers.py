"""The layers of the published networks on `tf.nn`, under slim's variable names.

Each call creates its variables in a scope of its own (`Conv`, `Conv_1`, ...), numbered in order of
creation within the surrounding scope, exactly as tf.contrib.slim did. Images are NHWC.
"""

import contextlib
import threading
import zlib

from tflib import tf
from tflib.npu import float32_scope

BATCH_NORM_EPSILON = 1e-3

# A layer (or its kernel's gradient alone) is computed as a matrix product, see `products`, if its
# smaller map is at most so high and wide and its kernel has at least so many elements. Measured:
# docs/performance.md.
PRODUCT_MAP, PRODUCT_KERNEL = 8, 1 << 22
GRADIENT_MAP, GRADIENT_KERNEL = 16, 1 << 21

# Maps at least so high are normalized by rows, see `sums_by_rows`.
ROWS_MAP = 32


def keyed_uniform(shape, key, low=0., high=1., dtype=tf.float32):
    """Uniform random numbers in [low, high) that depend on the key, int64 [2], alone.

    XLA, which has a generator of its own, leaves them to TensorFlow's.
    """
    with tf.xla.experimental.jit_scope(compile_ops=False):
        return tf.random.stateless_uniform(shape, key, low, high, dtype)


class GlorotUniform:
    """Glorot-uniform initial weights that depend on the seed and the variable's name only.

    TensorFlow's own initializers give other values in 1.15 and 2.x for one graph seed. Install for
    all weights of a scope: `tf.variable_scope(scope, initializer=GlorotUniform(seed))`.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, formula 16 (slim's default initializer).
    """

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, shape, dtype=tf.float32, partition_info=None):
        # get_variable() calls this inside the name scope '<variable>/Initializer'.
        name = tf.get_default_graph().get_name_scope()
        receptive_field = 1
        for size in shape[:-2]:
            receptive_field *= int(size)
        limit = (6. / (receptive_field * (int(shape[-2]) + int(shape[-1])))) ** 0.5
        seed = [self.seed, zlib.crc32(name.encode()) & 0x7fffffff]
        return keyed_uniform(shape, seed, -limit, limit, dtype)


def shape(x):
    """Return the shape of `x` as a list: numbers where they are static, else scalar tensors."""
    static = x.shape.as_list()
    dynamic = tf.unstack(tf.shape(x))
    return [d if s is None else s for s, d in zip(static, dynamic)]


def variable(name, size, initializer=None, trainable=True):
    """The float32 variable `name` of the current scope; default: the scope's initializer."""
    return tf.get_variable(name, size, tf.float32, initializer, trainable=trainable)


@float32_scope()
def batch_norm(x, is_training, decay=0.999, epsilon=BATCH_NORM_EPSILON):
    """Batch normalization with scale and offset; x is [N,H,W,C].

    In training the moving averages are updated in the same run as the forward pass: the output
    depends on the update (slim's `updates_collections=None`).
    """
    with tf.variable_scope('BatchNorm'):
        channels = x.shape.as_list()[-1:]
        beta = variable('beta', channels, tf.zeros_initializer())
        gamma = variable('gamma', channels, tf.ones_initializer())
        mean = variable('moving_mean', channels, tf.zeros_initializer(), trainable=False)
        variance = variable('moving_variance', channels, tf.ones_initializer(), trainable=False)
        if not is_training:
            return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon,
                                          is_training=False)[0]
        y, batch_mean, batch_variance = _normalized_by_batch(x, gamma, beta, epsilon)
        updates = [tf.assign_sub(moving, (moving - batch) * (1. - decay))
                   for moving, batch in ((mean, batch_mean), (variance, batch_variance))]
        with tf.control_dependencies(updates):
            return tf.identity(y)


def _normalized_by_batch(x, gamma, beta, epsilon):
    """(normalized x, mean [C], variance [C]) as of `tf.nn.fused_batch_norm`.

    That normalizes by the variance of the batch, and gives out the estimate of all images' that has
    no bias, which is n/(n-1) times as large.
    """
    gather = _arranged.gather
    if gather is None:
        return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    rows = gather(tf.stack(tf.nn.moments(x, [0, 1, 2])))
    mean, variance = pooled_moments(rows)
    count = tf.cast(tf.size(x[..., 0]), tf.float32) * rows.shape.as_list()[0]
    return (tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon), mean,
            variance * (count / (count - 1.)))


def pooled_moments(rows):
    """(mean, variance) of all values of several samples of one size.

    Args:
        rows: [samples,2,...], the mean and the variance of each.
    """
    means, variances = rows[:, 0], rows[:, 1]
    mean = tf.reduce_mean(means, 0)
    return mean, tf.reduce_mean(variances + tf.squared_difference(means, mean), 0)


def shared_statistics(gather):
    """Let batch norms take the statistics of the batches of several processes.

    Args:
        gather: function from a tensor to [processes, *its shape]; see `collective.Alone.gather`.
    """
    return _arrange('gather', gather)


@float32_scope()
def instance_norm(x, epsilon=1e-6):
    """Instance normalization with scale and offset; x is [N,H,W,C]."""
    with tf.variable_scope('InstanceNorm'):
        channels = x.shape.as_list()[-1:]
        beta = variable('beta', channels, tf.zeros_initializer())
        gamma = variable('gamma', channels, tf.ones_initializer())
        return instance_normalization(x, beta, gamma, epsilon)


def instance_normalization(x, beta, gamma, epsilon=1e-6):
    """Instance normalization of x [N,H,W,C] with given offset and scale [C]."""
    if _arranged.sums_by_rows and x.shape.as_list()[1] >= ROWS_MAP:
        return _instance_normalization_by_rows(x, beta, gamma, epsilon)
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def _instance_normalization_by_rows(x, beta, gamma, epsilon):
    """Instance normalization that sums, forwards and backwards, over columns, then over rows."""
    def mean_of(values):
        return tf.reduce_mean(tf.reduce_mean(values, 2, keepdims=True), 1, keepdims=True)

    def for_rows(values):    # not by broadcasting, whose gradient is one sum over both
        return tf.tile(values, [1, x.shape.as_list()[1], 1, 1])
    mean = mean_of(x)
    variance = mean_of(tf.squared_difference(x, tf.stop_gradient(for_rows(mean))))
    scale = tf.rsqrt(variance + epsilon) * gamma
    return x * for_rows(scale) + for_rows(beta - mean * scale)


def _finish(y, normalizer, activation):
    """Normalize or else add a bias (slim gives a layer one or the other), then activate."""
    if normalizer is not None:
        y = normalizer(y)
    else:
        biases = variable('biases', y.shape.as_list()[-1:], tf.zeros_initializer())
        y = y + biases if _arranged.sums_by_rows else tf.nn.bias_add(y, biases)
    return y if activation is None else activation(y)


def conv2d(x, channels, kernel_size, stride=1, normalizer=None, activation=None):
    """SAME convolution: [N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),channels]."""
    with tf.variable_scope(None, 'Conv'):
        weights = variable('weights', [kernel_size, kernel_size, x.shape.as_list()[-1], channels])
        return _finish(convolve(x, weights, stride), normalizer, activation)


def convolve(x, weights, stride=1):
    """SAME convolution [N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),channels] by a kernel."""
    size = x.shape.as_list()[1] // stride
    if _is_product(weights, stride, size):
        return _down_product(x, weights)
    if _has_product_gradient(weights, stride, size):
        return _convolution(x, weights)
    return tf.nn.conv2d(x, weights, [1, stride, stride, 1], 'SAME')


def conv2d_transpose(x, channels, kernel_size, stride=1, normalizer=None, activation=None):
    """SAME transposed convolution: [N,H,W,C] -> [N,H*stride,W*stride,channels]."""
    with tf.variable_scope(None, 'Conv2d_transpose'):
        batch, height, width, in_channels = shape(x)
        weights = variable('weights', [kernel_size, kernel_size, channels, in_channels])
        if _is_product(weights, stride, height):
            y = _up_product(x, weights)
        elif _has_product_gradient(weights, stride, height):
            y = _transposed_convolution(x, weights)
        else:
            y = tf.nn.conv2d_transpose(
                x, weights, [batch, height * stride, width * stride, channels],
                [1, stride, stride, 1], 'SAME')
        return _finish(y, normalizer, activation)


class _Arranged(threading.local):
    """Which of the arrangements below hold; of each thread, as TensorFlow's own scopes are."""

    products = sums_by_rows = False
    gather = None


_arranged = _Arranged()


@contextlib.contextmanager
def _arrange(name, value=True):
    before = getattr(_arranged, name)
    setattr(_arranged, name, value)
    try:
        yield
    finally:
        setattr(_arranged, name, before)


def products():
    """Compute deep layers, whose kernels are far larger than their maps, as matrix products.

    For CPUs: a convolution rearranges its kernel in every call there, a product takes it as it is.
    Kernels that are not quite as large have only their gradients computed as products. The values
    are the same but for rounding.
    """
    return _arrange('products')


def sums_by_rows():
    """Sum over large maps, for instance norm and biases, in two steps.

    For GPUs: there a sum over height and width has but one thread for each image and channel, and
    biases have a gradient that adds atomically, slowly in 16 bits and in another order each time.
    The values are the same but for rounding.
    """
    return _arrange('sums_by_rows')


def _is_product(weights, stride, size):
    return (_arranged.products and size <= PRODUCT_MAP and _is_halving(weights, stride)
            and weights.shape.num_elements() >= PRODUCT_KERNEL)


def _has_product_gradient(weights, stride, size):
    return (_arranged.products and size <= GRADIENT_MAP
            and (_is_halving(weights, stride) or (stride == 1 and weights.shape.as_list()[0] % 2))
            and weights.shape.num_elements() >= GRADIENT_KERNEL)


def _is_halving(weights, stride):
    """Whether a convolution halves, or a transposed one doubles, height and width."""
    return weights.shape.as_list()[:2] == [4, 4] and stride == 2


@tf.custom_gradient
def _convolution(x, weights):
    """SAME convolution whose kernel's gradient is a product; see `_has_product_gradient`.

    In 16 bits TensorFlow takes up to three times as long for it (docs/performance.md).
    """
    def gradient(dy):
        return _transposed_convolution(dy, weights), _kernel_gradient(x, dy, weights)
    stride = _stride(weights)
    return tf.nn.conv2d(x, weights, [1, stride, stride, 1], 'SAME'), gradient


@tf.custom_gradient
def _transposed_convolution(x, weights):
    """SAME transposed convolution; see `_convolution`."""
    def gradient(dy):
        return _convolution(dy, weights), _kernel_gradient(dy, x, weights)
    batch, height, width, _ = shape(x)
    stride = _stride(weights)
    size = [batch, height * stride, width * stride, weights.shape.as_list()[2]]
    return tf.nn.conv2d_transpose(x, weights, size, [1, stride, stride, 1], 'SAME'), gradient


def _stride(weights):
    """The stride of a layer that `_has_product_gradient`, by its kernel's size."""
    return 1 if weights.shape.as_list()[0] % 2 else 2


def _kernel_gradient(larger, smaller, weights):
    """The kernel's gradient, from the map at one end and the gradient of that at the other.

    Args:
        larger: [N,h*stride,w*stride,in]; smaller: [N,h,w,out]; weights: [k,k,in,out].
    """
    size, _, in_channels, channels = weights.shape.as_list()
    patches = _neighbourhoods(larger, size) if size % 2 else _patches(larger)
    dw = tf.matmul(tf.reshape(patches, [-1, size ** 2 * in_channels]),
                   tf.reshape(smaller, [-1, channels]), transpose_a=True)
    return tf.reshape(dw, weights.shape)


def _neighbourhoods(x, size):
    """What each place of a kernel of odd size sees: [N,h,w,c] -> [N,h,w,size*size*c]."""
    _, height, width, _ = x.shape.as_list()
    padding = [size // 2] * 2
    x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])
    return tf.concat([x[:, row:row + height, column:column + width]
                      for row in range(size) for column in range(size)], axis=3)


def _down_product(x, weights):
    """SAME convolution (4x4, stride 2) as a product of image patches and the flat kernel."""
    _, _, in_channels, channels = weights.shape.as_list()
    height, width = (size // 2 for size in x.shape.as_list()[1:3])
    y = _product(tf.reshape(_patches(x), [-1, 16 * in_channels]),
                 tf.reshape(weights, [16 * in_channels, channels]))
    return tf.reshape(y, [-1, height, width, channels])


def _up_product(x, weights):
    """SAME transposed convolution (4x4, stride 2): all taps of all pixels, added up."""
    _, height, width, in_channels = x.shape.as_list()
    channels = weights.shape.as_list()[2]
    y = _product_transposed(tf.reshape(x, [-1, in_channels]),
                            tf.reshape(weights, [16 * channels, in_channels]))
    return _added_up(tf.reshape(y, [-1, height, width, 16 * channels]))


@tf.custom_gradient
def _product(x, weights):
    """x [N,k] times weights [k,n].

    With a gradient of its own because x weights^T, the gradient of x, is slow as TensorFlow writes
    it: it goes through the weights, of which there are far more, against their order.
    """
    def gradient(dy):
        return _product_transposed(dy, weights), tf.matmul(x, dy, transpose_a=True)
    return tf.matmul(x, weights), gradient


@tf.custom_gradient
def _product_transposed(x, weights):
    """x [N,n] times weights^T [n,k]; see `_product`."""
    def gradient(dy):
        return _product(dy, weights), tf.matmul(dy, x, transpose_a=True)
    return tf.transpose(tf.matmul(weights, x, transpose_b=True)), gradient


@tf.custom_gradient
def _patches(x):
    """What each place of a 4x4 kernel of stride 2 sees: [N,2h,2w,c] -> [N,h,w,16c].

    By pairs of rows and columns, which overlap by one, as whole rows are faster to move than
    every other pixel.
    """
    _, height, width, channels = x.shape.as_list()
    pairs = tf.reshape(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
                       [-1, height // 2 + 1, 2, width // 2 + 1, 2 * channels])
    even, odd = tf.unstack(tf.concat([pairs[:, :, :, :-1], pairs[:, :, :, 1:]], axis=4), axis=2)
    return tf.concat([even[:, :-1], odd[:, :-1], even[:, 1:], odd[:, 1:]], axis=3), _added_up


@tf.custom_gradient
def _added_up(patches):
    """Patches laid over each other where they come from, see `_patches`: -> [N,2h,2w,c]."""
    _, height, width, depth = patches.shape.as_list()
    taps = tf.split(patches, 4, axis=3)
    rows = [_overlapping(taps[row], taps[2 + row], axis=1) for row in range(2)]
    left, right = tf.split(tf.stack(rows, axis=2), 2, axis=4)
    x = tf.reshape(_overlapping(left, right, axis=3),
                   [-1, 2 * height + 2, 2 * width + 2, depth // 16])
    return x[:, 1:-1, 1:-1], _patches


def _overlapping(first, second, axis):
    """The sum of two tensors, the second of them one place further along an axis."""
    def padded(x, *places):
        return tf.pad(x, [places if each == axis else (0, 0) for each in range(x.shape.ndims)])
    return padded(first, 0, 1) + padded(second, 1, 0)


def flatten(x):
    """[N, ...] -> [N, product of the rest], which must be static."""
    size = 1
    for dimension in x.shape.as_list()[1:]:
        size *= dimension
    return tf.reshape(x, [-1, size])


def flatten_fully_connected(x, channels, activation=None):
    """[N, ...] -> [N,channels], with bias."""
    with tf.variable_scope(None, 'flatten_fully_connected'):
        x = flatten(x)
        with tf.variable_scope('fully_connected'):
            weights = variable('weights', [x.shape.as_list()[-1], channels])
            multiply = _product if _arranged.products else tf.matmul
            return _finish(multiply(x, weights), None, activation)


def concat_label(z, label):
    """Append `label` [N,n], tiled over the image, to the channels of `z` [N,H,W,C]."""
    _, height, width, _ = shape(z)
    tiled = tf.tile(label[:, tf.newaxis, tf.newaxis, :], [1, height, width, 1])
    return tf.concat([z, tiled], axis=3)
