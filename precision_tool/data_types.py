"""Data types of NPU tensors: their numbers in dump files, and how stored bytes become numbers.

The numbering is that of `ge.proto.DataType`. Types that NumPy lacks are widened: to float32, to
int8 and uint8 if a byte holds several numbers, to complex64. What has no numbers (text, handles,
types whose packing is not public) stays bytes.
"""

from typing import Callable, NamedTuple, Optional

import numpy as np


class DataType(NamedTuple):
    """How numbers of a type are stored.

    Attributes:
        name: such as 'float32'.
        stored: the NumPy type of what is stored.
        per_item: numbers in one of them; 0: it holds no numbers.
        decode: function of an array [N] of `stored` that returns the numbers [N * per_item];
            None: they are the numbers.
    """

    name: str
    stored: np.dtype
    per_item: int = 1
    decode: Optional[Callable] = None


def _plain(name, stored):
    return DataType(name, np.dtype(stored))


def _decoded(name, stored, decode, per_item=1):
    return DataType(name, np.dtype(stored), per_item, decode)


def _bytes(name, stored='u1'):
    return DataType(name, np.dtype(stored), 0)


def _from_bfloat16(array):
    # The upper half of a float32. Of a 0-dimensional array, NumPy makes a scalar.
    return np.asarray(array.astype('<u4') << np.uint32(16)).view('<f4')


def _from_table(table):
    return lambda array: table[array]


def _unpack(bits, table=None):
    """Function that takes numbers of so many bits out of bytes, the lowest bits first."""
    places = np.arange(0, 8, bits, dtype=np.uint8)

    def unpack(array):
        codes = (array[:, None] >> places & np.uint8((1 << bits) - 1)).reshape(-1)
        return codes if table is None else table[codes]
    return unpack


def _signed(bits):
    """Table of the two's complement of so many bits."""
    codes = np.arange(1 << bits)
    return np.where(codes >> (bits - 1), codes - (1 << bits), codes).astype(np.int8)


def _small_floats(exponent_bits, mantissa_bits, bias):
    """Table of floats with a sign, without infinity; the first exponent is that of subnormals."""
    codes = np.arange(1 << (1 + exponent_bits + mantissa_bits))
    mantissas = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    exponents = codes >> mantissa_bits & ((1 << exponent_bits) - 1)
    sizes = np.where(exponents == 0, mantissas * 2. ** (1 - bias),
                     (1 + mantissas) * 2. ** (exponents - bias))
    return np.where(codes >> (exponent_bits + mantissa_bits), -sizes, sizes).astype(np.float32)


def _e4m3fn():
    table = _small_floats(4, 3, bias=7)
    table[[0x7f, 0xff]] = np.nan
    return table


def _hifloat8():
    """Table of HiFloat8: behind the sign, a prefix tells how many bits the exponent takes.

    The exponent is a sign and a magnitude with a hidden leading one, the rest is the mantissa.
    """
    table = np.zeros(256, np.float32)
    for code in range(128):
        if code < 8:     # subnormal
            value = 2. ** (code - 23) if code else 0.
        else:
            width = next(width for width, least in ((4, 0x60), (3, 0x40), (2, 0x20), (1, 0x10),
                                                    (0, 0x8)) if code >= least)
            mantissa_bits = 3 if width < 2 else 5 - width
            exponent = code >> mantissa_bits & ((1 << width) - 1)
            if width:
                half = 1 << (width - 1)
                exponent = (half + (exponent & (half - 1))) * (-1 if exponent & half else 1)
            mantissa = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
            value = (1 + mantissa) * 2. ** exponent
        table[code], table[code | 0x80] = value, -value
    table[0x6f], table[0xef], table[0x80] = np.inf, -np.inf, np.nan
    return table


def _e8m0():
    """Table of powers of two, the scales of blocks of small floats."""
    return np.append(2. ** (np.arange(255) - 127), np.nan).astype(np.float32)


_FLOAT4 = {'float4_e2m1': _small_floats(2, 1, bias=1), 'float4_e1m2': _small_floats(1, 2, bias=1)}

TYPES = {
    0: _bytes('undefined', 'i1'), 1: _plain('float32', '<f4'), 2: _plain('float16', '<f2'),
    3: _plain('int8', 'i1'), 4: _plain('uint8', 'u1'), 5: _plain('int16', '<i2'),
    6: _plain('uint16', '<u2'), 7: _plain('int32', '<i4'), 8: _plain('int64', '<i8'),
    9: _plain('uint32', '<u4'), 10: _plain('uint64', '<u8'),
    11: _decoded('bool', 'u1', lambda array: array != 0), 12: _plain('float64', '<f8'),
    13: _bytes('string'), 14: _plain('dual_sub_int8', 'i1'), 15: _plain('dual_sub_uint8', 'u1'),
    16: _plain('complex64', '<c8'), 17: _plain('complex128', '<c16'), 18: _plain('qint8', 'i1'),
    19: _plain('qint16', '<i2'), 20: _plain('qint32', '<i4'), 21: _plain('quint8', 'u1'),
    22: _plain('quint16', '<u2'), 23: _bytes('resource', '<i8'), 24: _bytes('string_ref'),
    25: _bytes('dual'), 26: _bytes('variant'), 27: _decoded('bfloat16', '<u2', _from_bfloat16),
    28: _decoded('int4', 'u1', _unpack(4, _signed(4)), 2),
    # Of these bits the highest is the first, as the official converter has it.
    29: _decoded('uint1', 'u1', np.unpackbits, 8),
    30: _decoded('int2', 'u1', _unpack(2, _signed(2)), 4), 31: _decoded('uint2', 'u1', _unpack(2),
                                                                        4),
    32: _decoded('complex32', '<u4', lambda array: np.ascontiguousarray(array).view('<f2').astype(
        '<f4').view('<c8')),
    33: _decoded('hifloat8', 'u1', _from_table(_hifloat8())),
    34: _decoded('float8_e5m2', 'u1', lambda array: (array.astype('<u2') << np.uint16(8)).view(
        '<f2').astype('<f4')),
    35: _decoded('float8_e4m3fn', 'u1', _from_table(_e4m3fn())),
    36: _decoded('float8_e8m0', 'u1', _from_table(_e8m0())),
    37: _bytes('float6_e3m2'), 38: _bytes('float6_e2m3'),
    39: _decoded('float4_e2m1', 'u1', _unpack(4, _FLOAT4['float4_e2m1']), 2),
    40: _decoded('float4_e1m2', 'u1', _unpack(4, _FLOAT4['float4_e1m2']), 2),
}
_BY_NAME = {each.name: each for each in TYPES.values()}
# The types that are stored as they are, and those two, which NumPy has or widens without loss.
STORED = {name: each.stored for name, each in _BY_NAME.items()
          if not each.decode or name in ('bool', 'bfloat16')}


def by_number(number):
    """The `DataType` with a number; one of bytes, named by the number, if it is a new one."""
    return TYPES.get(number) or _bytes(f'type {number}')


def by_name(name):
    """The `DataType` that `by_number` called so."""
    return _BY_NAME.get(name) or _bytes(name)
