"""The published code's way of doing things, which benchmark.py compares with."""

import os
from collections import OrderedDict

import imlib
from stgan import data, sheets


def measure_folder(folder):
    """Return OrderedDict sheet name -> (PSNR in dB, SSIM) of the reconstructions in a folder.

    One process that reads whole sheets and measures with scikit-image.

    Args:
        folder: a `sheets.SheetFolder`.
    """
    from skimage.metrics import (  # noqa: PLC0415  (slow to import)
        peak_signal_noise_ratio,
        structural_similarity,
    )
    size = folder.img_size
    start = (size + sheets.gap_width(size)
             + folder.column_index('reconstruction') * size)
    values = OrderedDict()
    for name in folder.labels:
        sheet = imlib.read(os.path.join(folder.path, name))
        source, result = sheet[:, :size], sheet[:, start:start + size]
        values[name] = (peak_signal_noise_ratio(source, result, data_range=255),
                        structural_similarity(source, result, data_range=255, channel_axis=2))
    return values


def decode_image(path, img_size, crop):
    """Graph of one image: file name (string scalar) -> float32 [img_size,img_size,3] in [-1,1].

    Decodes the whole JPEG and crops then; csmliu/STGAN data.py@8a206ad.
    """
    from tflib import tf  # noqa: PLC0415  (slow to import)

    image = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
    if crop:
        image = tf.image.crop_to_bounding_box(image, *data.crop_box(img_size))
    image = tf.image.resize_images(image, [img_size, img_size], tf.image.ResizeMethod.BICUBIC)
    return tf.clip_by_value(image, 0, 255) / 127.5 - 1
