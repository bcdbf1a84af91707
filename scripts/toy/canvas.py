"""The drawing tools of the toy faces: a canvas in face coordinates, shapes, colours, noise.

All shapes are formulas of face coordinates (pixels; x to the right from the middle of the face, y
down from the line of the eyes), so that edges are anti-aliased without drawing at a larger size.
"""

import math
from types import SimpleNamespace

import numpy as np

WIDTH, HEIGHT = 178, 218
CENTRE_X, EYE_ROW = 88.5, 112.  # CelebA's alignment: eyes near (69, 112) and (108, 112)

# Everything that varies without a label: name -> range of a uniform number.
LOOK_RANGES = {
    'shift_x': (-3.5, 3.5), 'shift_y': (-2.5, 2.5), 'scale': (.94, 1.06), 'tilt': (-.07, .07),
    'yaw': (-5, 5), 'pitch': (-2, 2), 'width': (.93, 1.04), 'jaw': (-2.5, 1.5), 'chin': (-2, 2),
    'skin': (0, 1), 'skin_red': (-.02, .02), 'eye_size': (.92, 1.08), 'eye_open': (.88, 1.12),
    'eye_tilt': (-.5, 1.8), 'gaze_x': (-1.8, 1.8), 'gaze_y': (-.6, .8), 'iris': (0, 1),
    'brow_height': (-1.5, 1.5), 'brow_slope': (-1.2, 1.2), 'nose_width': (.88, 1.14),
    'nose_length': (-1.5, 2), 'mouth_width': (.93, 1.07), 'lip': (.88, 1.15), 'lipstick': (0, 1),
    'hair_light': (.88, 1.12), 'hair_volume': (-3, 5), 'hair_length': (0, 1), 'parting': (-14, 14),
    'fringe': (-1.5, 1.5), 'wave': (0, 6.3), 'frame': (0, 1), 'frame_round': (2.2, 4.5),
    'hat_hue': (0, 1), 'hat_style': (0, 1), 'cloth_hue': (0, 1), 'cloth_light': (.2, .75),
    'neckline': (0, 1), 'light_x': (-.75, .75), 'light_y': (-.5, 0), 'gain': (.9, 1.08),
    'warmth': (-.035, .035), 'back_hue': (0, 1), 'back_spread': (.04, .3), 'back_light': (.3, .85),
    'back_angle': (0, 6.3), 'blur': (0, .55), 'noise': (.002, .01),
}


def sample_look(rng):
    """Draw all that varies without a label; always the same number of random draws.

    Returns:
        namespace of LOOK_RANGES' names, and `strands` (smooth noise, float32 [4, 2048] around 0),
        `spots` (6 x 5 numbers in 0..1) and `grain` (float32 [218, 178], standard normal).
    """
    low, high = np.array(list(LOOK_RANGES.values())).T
    look = SimpleNamespace(**dict(zip(LOOK_RANGES, rng.uniform(low, high).tolist())))
    coarse = rng.uniform(-1, 1, [4, 256])
    position = np.arange(2048) / 8
    look.strands = np.stack([np.interp(position, np.arange(256), row, period=256)
                             for row in coarse]).astype(np.float32)
    look.spots = rng.random([6, 5]).tolist()
    look.grain = rng.standard_normal([HEIGHT, WIDTH], dtype=np.float32)
    return look


def face_coordinates(look):
    """Return x, y (float32 [218, 178]): face coordinates of all pixels."""
    column = (np.arange(WIDTH, dtype=np.float32) - CENTRE_X - look.shift_x) / look.scale
    # Turn about the middle of the face, so that eyes and mouth both stay near their places.
    row = (np.arange(HEIGHT, dtype=np.float32)[:, None] - EYE_ROW - look.shift_y) / look.scale - 15
    x = math.cos(look.tilt) * column + math.sin(look.tilt) * row
    y = math.cos(look.tilt) * row - math.sin(look.tilt) * column + 15
    # A turned head moves the features, but hardly its outline.
    x = x - look.yaw * np.clip(1 - (x / 60) ** 2, 0, None)
    y = y - look.pitch * np.clip(1 - ((y - 10) / 60) ** 2, 0, None)
    return x, y


class Canvas:
    """A picture, or a rectangle of it, with the face coordinates of its pixels.

    Attributes:
        pixels: float32 [3, h, w], 0..1.
        x, y: float32 [h, w], face coordinates in pixels.
        side: |x|, for all that is symmetric.
        rim: float32 [h, w], signed distance to the outline of the head, inside > 0.
    """

    def __init__(self, pixels, x, y, rim):
        self.pixels, self.x, self.y, self.side, self.rim = pixels, x, y, np.abs(x), rim

    def window(self, left, top, right, bottom):
        """Return the part around a rectangle of face coordinates; it shares our pixels."""
        row, column = self.x[self.x.shape[0] // 2], self.y[:, self.y.shape[1] // 2]
        margin = np.array((-9, 9))  # the face may be tilted
        box = (slice(*np.searchsorted(column, (top, bottom) + margin)),
               slice(*np.searchsorted(row, (left, right) + margin)))
        return Canvas(self.pixels[(slice(None), *box)], self.x[box], self.y[box], self.rim[box])

    def paint(self, alpha, colour):
        """Cover with a colour ([3] or [3, h, w]) at opacity `alpha` [h, w]."""
        self.pixels += alpha * (planes(colour) - self.pixels)

    def glaze(self, alpha, colour):
        """Multiply by a colour at opacity `alpha` [h, w]: shadows keep what they fall on."""
        self.pixels *= 1 - alpha * (1 - planes(colour))


def planes(colour):
    """Return a colour as float32 [3, 1, 1], or [3, h, w] as it is."""
    colour = np.asarray(colour, np.float32)
    return colour[:, None, None] if colour.ndim == 1 else colour


def cover(distance, softness=1.):
    """Turn a signed distance to an edge (pixels, inside > 0) into an opacity 0..1."""
    ramp = np.clip(distance * (1 / softness) + .5, 0, 1)
    return ramp if softness <= 1 else ramp * ramp * (3 - 2 * ramp)


def blob(x, y, centre_x, centre_y, radius_x, radius_y):
    """A soft spot: 1 at its centre, 0.37 at its radii."""
    return np.exp(-((x - centre_x) * (1 / radius_x)) ** 2 - ((y - centre_y) * (1 / radius_y)) ** 2)


def arch(x, y, half_width, top, spring):
    """Signed distance to an arch: half an ellipse above y = spring, open below.

    Returns:
        (distance, across): pixels, inside > 0; and -1..1 from the left side to the right one.
    """
    rise = np.clip((spring - y) * (1 / (spring - top)), 0, None)
    widest = np.asarray(half_width, np.float32)
    distance = (1 - np.hypot(x / widest, rise)) * np.minimum(widest, spring - top)
    return distance, x / (widest * np.sqrt(np.clip(1 - rise * rise, .12, None)))


def pick(palette, number):
    """Return the colour [3] at `number` in 0..1 along a palette [n, 3]."""
    steps = np.linspace(0, 1, len(palette))
    return np.array([np.interp(number, steps, column) for column in np.transpose(palette)])


def hue_colour(hue, saturation, light):
    """A colour [3] from hue, saturation and lightness, each in 0..1."""
    wheel = .5 + .5 * np.cos(2 * np.pi * (hue - np.array((0, 1 / 3, 2 / 3))))
    return np.clip(light * (1 - saturation + 2 * saturation * wheel * .75), 0, 1)


def strand_noise(look, row, position):
    """Smooth noise (-1..1, wavelength about 2) of any array of positions."""
    return look.strands[row][(position * 8).astype(np.int32) & 2047]
