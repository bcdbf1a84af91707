"""Memory layouts of NPU tensors, and the way back to those of TensorFlow.

An NPU cuts channels into C1 groups of C0 (16, or 32 for 8-bit numbers), the last one padded, and
matrices into blocks of 16 x C0. Shapes as stored, with N1 = ceil(N/16) and so on:

    NC1HWC0       N C1 H W C0          images                      as TensorFlow: N H W C
    NDC1HWC0      N D C1 H W C0        videos                                     N D H W C
    FRACTAL_Z     (C1 H W) N1 N0 C0    convolution weights                        H W C N
    FRACTAL_Z_3D  (D C1 H W) N1 N0 C0  weights of 3-D convolutions                D H W C N
    FRACTAL_NZ    ... C1 R1 R0 C0      matrices of R rows, C columns              ... R C

Weights of G groups, C channels and N / G filters each, lie E groups to a block, E being the least
number that fills whole units: (G1 [D] C1 H W) N1 N0 C0 with G1 = ceil(G/E), and C1, N1 as for E*C
and E*N/G; group g has the channels from (g mod E)*C on and the filters from (g mod E)*N/G on.

Plain layouts (NCHW, NHWC, HWCN, NCDHW, NDHWC, DHWCN) are named by their axes; ND has no names.
Arrays keep their type; padding is cut off.
"""

import itertools
import math

import numpy as np

from pylib import UserError

TENSORFLOW = {'NC1HWC0': 'NHWC', 'NDC1HWC0': 'NDHWC', 'FRACTAL_Z': 'HWCN',
              'FRACTAL_Z_3D': 'DHWCN', 'NCHW': 'NHWC', 'NCDHW': 'NDHWC'}
PLAIN = ('NHWC', 'NCHW', 'HWCN', 'NDHWC', 'NCDHW', 'DHWCN')
IMAGES = ('NC1HWC0', 'NDC1HWC0')
WEIGHTS = ('FRACTAL_Z', 'FRACTAL_Z_3D')
BLOCK = 16    # rows and filters of a block


def to_plain(array, format, original_format, original_shape, groups=1):
    """Return `array`, stored in layout `format`, in the shape and layout it had in TensorFlow.

    Args:
        original_format: layout of the result; None or 'ND' if unknown: then that of TensorFlow, or
            else the first one that fits `original_shape`.
        original_shape: shape of the result, or () or None if unknown: then nothing is cut off.
        groups: of the convolution that the array holds the weights of.

    Raises:
        UserError: unknown layout, or one that cannot hold `original_shape`.
    """
    shape = tuple(original_shape or ())
    if array.shape == shape and format not in PLAIN + WEIGHTS:
        return array
    if format == 'FRACTAL_NZ':
        return _from_blocks(array, shape)
    if format in IMAGES + WEIGHTS:
        return _from_channels(array, format, original_format, shape,
                              groups if format in WEIGHTS else 1)
    if format != 'ND' and format not in PLAIN:
        raise UserError(f'layout {format} is not known; expected ND, FRACTAL_NZ, '
                        f'{", ".join(PLAIN + IMAGES + WEIGHTS)}')
    # Even if the shape fits already: axes of equal sizes may be swapped.
    axes = axes_of(array.shape, format, original_format, shape)
    if axes:
        return permute(array, format, axes)
    return _reshape(array, shape, format) if shape else array


def axes_of(stored, format, original_format, shape):
    """The axes of `shape` if it is `stored`, a shape in the plain layout `format`, permuted.

    None if it is not; (): any shape.
    """
    for axes in (original_format, format) + PLAIN:
        if len(stored) == len(format) and axes in PLAIN and sorted(axes) == sorted(format):
            sizes = dict(zip(format, stored))
            if not shape or shape == tuple(sizes[axis] for axis in axes):
                return axes
    return None


def stored_shapes(format, original_format, shape, groups, c0_sizes):
    """Yield the shapes that a tensor of `shape` may be stored in, the likeliest first.

    Args:
        shape: in TensorFlow; the others as of `to_plain`.
        c0_sizes: the sizes that C0 may have, the likeliest first.
    """
    if format == 'ND':
        yield shape
    for axes in (original_format, format) + PLAIN if format in PLAIN else ():
        if axes in PLAIN and sorted(axes) == sorted(format) and len(axes) == len(shape):
            sizes = dict(zip(axes, shape))
            yield tuple(sizes[axis] for axis in format)
    for c0 in c0_sizes:
        if format == 'FRACTAL_NZ':
            *batch, rows, columns = (1,) * (2 - len(shape)) + shape
            yield (*batch, -(-columns // c0), -(-rows // BLOCK), BLOCK, c0)
        for _, sizes in _readings(format, original_format, shape):
            stored = _stored(format, sizes, groups, BLOCK, c0)
            if stored:
                yield stored


def _from_channels(array, format, original_format, shape, groups):
    """`to_plain` of the layouts that split channels."""
    native = TENSORFLOW[format]
    if array.ndim != (4 if format in WEIGHTS else len(native) + 1):
        raise UserError(f'layout {format}: stored as {_text(array.shape)}, which is none of its '
                        'shapes')
    if not shape:
        if format in WEIGHTS:
            raise UserError(f'layout {format}: not to be undone without the original shape')
        return _join_image_channels(array)
    for axes, sizes in _readings(format, original_format, shape):
        if _stored(format, sizes, groups, *array.shape[-2:]) == array.shape:
            plain = (_join_weights(array, sizes, groups) if format in WEIGHTS
                     else _join_image_channels(array)[..., :sizes['C']])
            return permute(plain, native, axes).reshape(shape)
    of_groups = f' in {groups} groups' if groups > 1 else ''
    raise UserError(f'layout {format}: stored as {_text(array.shape)}, which cannot hold '
                    f'{_text(shape)}{of_groups}')


def _readings(format, original_format, shape):
    """Yield (axes, {axis letter: size}) that `shape` may mean in a layout that splits channels."""
    native = TENSORFLOW[format] if format in IMAGES + WEIGHTS else ''
    for axes in (original_format, native) + PLAIN:
        if axes in PLAIN and len(axes) == len(native):
            for full in _widened(shape, len(axes)):
                yield axes, dict(zip(axes, full))


def _widened(shape, ndim):
    """Yield `shape` with as many ones put in as it takes to have `ndim` dimensions."""
    # The last axes first: matrices among weights are C x N, lone sizes are channels.
    for places in itertools.combinations(reversed(range(ndim)), len(shape)):
        full = [1] * ndim
        for place, size in zip(sorted(places), shape):
            full[place] = size
        yield tuple(full)


def _stored(format, sizes, groups, n0, c0):
    """The shape that a tensor with `sizes` {axis letter: size} is stored in, None if in none."""
    if not c0:
        return None
    depth = (sizes['D'],) if 'D' in sizes else ()
    if format in IMAGES:
        return (sizes['N'], *depth, -(-sizes['C'] // c0), sizes['H'], sizes['W'], c0)
    if not n0 or sizes['N'] % groups or groups > 1 and not sizes['C'] * sizes['N']:
        return None
    blocks, c1, n1 = _weight_blocks(sizes, groups, n0, c0)[1:]
    return (blocks * sizes.get('D', 1) * c1 * sizes['H'] * sizes['W'], n1, n0, c0)


def _weight_blocks(sizes, groups, n0, c0):
    """(groups to a block, blocks, C1, N1) of weights in groups; units have n0 x c0 numbers."""
    channels, filters = sizes['C'], sizes['N'] // groups
    together = 1
    if groups > 1:
        together = min(_multiple(_multiple(channels, c0) // channels,
                                 _multiple(filters, n0) // filters), groups)
    return (together, -(-groups // together), -(-together * channels // c0),
            -(-together * filters // n0))


def _multiple(a, b):
    """The least common multiple of two natural numbers."""
    return a * b // math.gcd(a, b)


def _join_image_channels(array):
    """Return a stored image with its channels last, padding included."""
    return _join(np.moveaxis(array, -4, -2), -2)  # N [D] C1 H W C0 -> N [D] H W C1 C0


def _join_weights(array, sizes, groups):
    """Return stored weights as [D] H W C N of `sizes`."""
    channels, filters = sizes['C'], sizes['N'] // groups
    n0, c0 = array.shape[-2:]
    together, blocks, c1, _ = _weight_blocks(sizes, groups, n0, c0)
    depth = [sizes['D']] if 'D' in sizes else []
    array = array.reshape((blocks, *depth, c1, sizes['H'], sizes['W']) + array.shape[1:])
    # G1 [D] C1 H W N1 N0 C0 -> G1 [D] H W C1 C0 N1 N0
    array = np.moveaxis(np.moveaxis(array, -6, -4), -1, -3)
    array = _join(_join(array, -2), -3)
    parts = []
    for group in range(groups):
        first = group % together
        parts.append(array[group // together][..., first * channels:(first + 1) * channels,
                                              first * filters:(first + 1) * filters])
    return parts[0] if groups == 1 else np.concatenate(parts, axis=-1)


def _from_blocks(array, shape):
    """FRACTAL_NZ as ND of `shape`; with its padding if that is ()."""
    if array.ndim < 4:
        raise UserError(f'layout FRACTAL_NZ: {array.ndim} dimensions stored, expected 4 or more')
    blocks = array.shape[-4:]
    array = _join(_join(np.moveaxis(array, -4, -2), -2), -3)
    if not shape:
        return array
    full = (1,) * (2 - len(shape)) + shape
    rows, columns = full[-2:]
    if not all(blocks[2:]) or blocks[:2] != (-(-columns // blocks[3]), -(-rows // blocks[2])):
        raise UserError(f'layout FRACTAL_NZ: blocks {_text(blocks)} cannot hold {_text(shape)}')
    return _reshape(array[..., :rows, :columns], shape, 'FRACTAL_NZ')


def permute(array, axes, wanted):
    """Transpose from the layout `axes` to the layout `wanted`."""
    return array.transpose([axes.index(axis) for axis in wanted])


def _join(array, axis):
    """Join an axis (negative) with the next one."""
    axis += array.ndim
    joined = array.shape[axis] * array.shape[axis + 1]
    return array.reshape(array.shape[:axis] + (joined,) + array.shape[axis + 2:])


def _reshape(array, shape, format):
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):
        raise UserError(f'layout {format}: {_text(array.shape)} stored, which cannot be '
                        f'{_text(shape)}') from None


def _text(shape):
    return 'x'.join(map(str, shape)) or 'a scalar'
