"""Photos that come with installed packages: their rights are clear, and nothing is downloaded."""

import os

import matplotlib
import numpy as np
import skimage
from PIL import Image

_SKIMAGE = os.path.join(os.path.dirname(skimage.__file__), 'data')
ASTRONAUT = os.path.join(_SKIMAGE, 'astronaut.png')
HOPPER = os.path.join(matplotlib.get_data_path(), 'sample_data', 'grace_hopper.jpg')
WITHOUT_FACE = [os.path.join(_SKIMAGE, name) for name in ('chelsea.png', 'coffee.png',
                                                          'rocket.jpg')]
# Eyes, nose and corners of the mouth as a person sees them, to some pixels.
LANDMARKS = {ASTRONAUT: [[204, 100], [246, 102], [226, 128], [203, 140], [246, 141]],
             HOPPER: [[220, 191], [309, 186], [267, 237], [232, 279], [305, 273]]}


def pixels(path):
    """A photo as uint8 [H,W,3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'))


def crowd(width, height):
    """Four people in a photo of that size: uint8 [H,W,3]."""
    with Image.open(ASTRONAUT) as image:
        one = image.convert('RGB').resize((width // 2, height // 2), Image.LANCZOS)
    return np.tile(np.asarray(one), (2, 2, 1))
