"""Any photo: faces found, edited, pasted back.

A photo is decoded once, its faces are found once, and each face that is to be edited is cut out and
encoded once: `Photo`, `Photo.faces` and `EditableFace` may be kept for many edits.
"""

import hashlib
import json
import os
from typing import Dict, List, NamedTuple, Optional

import numpy as np

import imlib
import imlib.photos
from imlib import faces
from pylib import UserError
from stgan import attributes, data
from stgan.celeba import ALIGNED_SIZE, crop_box
from tflib import checkpoint, detection

# Eyes closer to each other than this share of the face's height: the face is seen from the side.
PROFILE = .15
# Landmarks less like a face's, see `faces.likeness`, are not in the right order.
MIXED_UP = .5
WHOLE_SQUARE = 'give square photos, or CelebA\'s aligned ones'


class Photo:
    """A photo and its faces.

    Attributes:
        pixels: uint8 [H,W,3], upright; name: what messages call it.
        recipe: how it was edited, a `Recipe`; None: not at all.
    """

    def __init__(self, decoded, name='photo', recipe=None):
        self._decoded, self.name, self.recipe = decoded, name, recipe
        self._faces = None

    @classmethod
    def open(cls, file, name=None, max_pixels=imlib.photos.MAX_PIXELS):
        """Decode a photo, see `imlib.photos.read`.

        Raises:
            UserError: no photo, a damaged one, or one that is too large.
        """
        if not name:
            name = str(file) if isinstance(file, (str, os.PathLike)) else 'photo'
        return cls(imlib.photos.read(file, name, max_pixels), name)

    @property
    def pixels(self):
        """uint8 [H,W,3], upright."""
        return self._decoded.pixels

    @property
    def faces(self):
        """The faces in it, `detection.Face`, the largest first; found at the first call."""
        if self._faces is None:
            self.find_faces()
        return self._faces

    def find_faces(self, smallest=detection.SMALLEST):
        """Find faces from so many pixels on, see `detection.FaceDetector.find`."""
        self._faces = detection.shared_detector().find(self.pixels, smallest)
        return self._faces

    def set_landmarks(self, landmarks):
        """Take these faces, landmarks [5,2] each (see `detection.Face`), instead of finding any.

        Raises:
            UserError: a face is outside of the photo, has no size, or its landmarks are mixed up.
        """
        height, width = self.pixels.shape[:2]
        found = []
        for number, values in enumerate(landmarks, 1):
            points = np.asarray(values, float)
            if points.shape != (5, 2) or not np.isfinite(points).all() or not (
                    (points > -.5).all() and (points < [width - .5, height - .5]).all()):
                raise UserError(f'{self.name}: face {number}: expected 5 landmarks within its '
                                f'{width}x{height} pixels')
            if np.ptp(faces.three_points(points), axis=0).max() < 2:
                raise UserError(f'{self.name}: face {number}: its landmarks are one point')
            if faces.likeness(points) < MIXED_UP:
                raise UserError(f'{self.name}: face {number}: its landmarks are mixed up; expected '
                                'left eye, right eye, nose, left and right corner of the mouth, '
                                'where left is so in an upright picture')
            found.append(detection.Face(_box_around(points), points, 1.))
        self._faces = found

    @property
    def digest(self):
        """A text that tells its pixels from others."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels)).hexdigest()[:16]

    def with_pixels(self, pixels, recipe=None):
        """The same photo, edited."""
        return Photo(self._decoded._replace(pixels=pixels), self.name, recipe)

    def encode(self, format='png'):
        """The bytes of its file, with colour profile, EXIF and recipe: 'png' or 'jpeg'.

        Raises:
            UserError: a JPEG cannot be as large.
        """
        self._check_size(format)
        return imlib.photos.encode(self._decoded, format, self._text())

    def save(self, path, format=None):
        """Write `encode` to a file; default: as the extension says.

        Raises:
            UserError: another extension, or a JPEG cannot be as large.
        """
        if format is None:
            endings = {'.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg'}
            ending = os.path.splitext(str(path))[1].lower()
            if ending not in endings:
                raise UserError(f'{path}: expected a name that ends in .png or .jpg')
            format = endings[ending]
        self._check_size(format)
        imlib.photos.write(str(path), self._decoded, format, self._text())

    def _check_size(self, format):
        height, width = self.pixels.shape[:2]
        if format == 'jpeg' and max(height, width) > imlib.photos.JPEG_SIDE:
            raise UserError(f'{self.name}: {width}x{height} pixels, of which a JPEG has at most '
                            f'{imlib.photos.JPEG_SIDE} in a row or column; take PNG')

    def _text(self):
        return self.recipe.to_text() if self.recipe else ''


class Recipe(NamedTuple):
    """What was done to a photo."""

    experiment: str                           # its name
    weights: str                              # what tells its weights from others
    photo: str                                # digest of the pixels it was
    values: Dict[str, float]                  # {attribute: how much}
    faces: List[List[List[float]]]            # landmarks of those edited, [5,2] each
    numbers: List[int]                        # of these among those found, from 1
    align: bool = True                        # or the photo is the face
    # Attributes that the faces show (label='target'): of all, or a list for each.
    labels: Optional[List] = None

    def to_text(self):
        """As JSON in ASCII, for `from_text`."""
        return json.dumps({'stgan': 1, **self._asdict()})

    @classmethod
    def from_text(cls, text, path):
        """The recipe that `to_text` wrote, from a file of that path.

        Raises:
            UserError: it is none.
        """
        try:
            values = json.loads(text)
            if values.pop('stgan') != 1:
                raise ValueError('of another version')
            recipe = cls(**values)
            amounts = {str(name): float(value) for name, value in recipe.values.items()}
            landmarks = np.asarray(recipe.faces, float).reshape(-1, 5, 2).tolist()
            numbers = [int(number) for number in recipe.numbers]
            attributes.changes(amounts, (), 1)    # are numbers that may be
            if len(numbers) != len(landmarks) or not all(number > 0 for number in numbers):
                raise ValueError('faces')
            recipe = recipe._replace(values=amounts, faces=landmarks, numbers=numbers,
                                     align=bool(recipe.align))
            count = len(landmarks) if recipe.align else 1
            for names in labels_by_face(recipe.labels, count) or [recipe.labels]:
                if names is not None and not _is_list_of(str, names):
                    raise ValueError('labels')
            return recipe
        except (ValueError, ArithmeticError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(f'{path}: holds no recipe; expected a photo that edit_photos.py has '
                            'written, or the text that is in one') from None


def labels_by_face(labels, count):
    """What `edit` is told of each of `count` faces.

    Raises:
        ValueError: a list for each face, but not of as many.
    """
    if not has_labels_by_face(labels):
        return [labels] * count
    if len(labels) != count:
        raise ValueError(f'labels: expected {count} lists, got {len(labels)}')
    return labels


def has_labels_by_face(labels):
    """Whether labels are a list for each face, not of all."""
    return bool(labels) and _is_list_of(list, labels)


def _is_list_of(kind, items):
    return isinstance(items, list) and all(isinstance(item, kind) for item in items)


class EditableFace:
    """A face cut out of a photo, upright and as the network takes it, encoded.

    Args:
        editor: the `Editor`; photo: the `Photo`.
        landmarks: [5,2] of the face; None: the whole photo is a face, cropped or aligned as in
            training.
        labels: names of the attributes that it shows, or a function that returns them for what
            the network sees, uint8 [S,S,3]; None: nobody knows them, which will do for experiments
            with label='diff'.

    Attributes:
        image: float32 [S,S,3] in [-1,1]. outline: its corners in the photo, [4,2], in turn.
        labels: names of the attributes that it shows, or None.

    Raises:
        UserError: labels are needed, or a whole photo has not the shape for it.
    """

    def __init__(self, editor, photo, landmarks=None, labels=None):
        self._editor, config = editor, editor.config
        if config.label == 'target' and labels is None:
            raise UserError(f'{config.experiment_name}: was trained with target labels, so it has '
                            'to be told which attributes a photo shows')
        crop, self._mapping = cut_out(photo, landmarks, config)
        size = config.img_size
        # The last row and column stand for a whole pixel, which reaches to the photo's border.
        self._is_whole = landmarks is None
        self._share = (np.ones([size + 1, size + 1], np.float32) if self._is_whole
                       else faces.mask(size))
        self.image = data.square_reader(size)(crop)
        self.labels = labels(imlib.to_uint8(self.image)) if callable(labels) else labels
        self._source = np.zeros(config.n_att, np.float32)
        if self.labels is not None:
            shown = [name in self.labels for name in config.atts]
            self._source = attributes.signed(shown, config.thres_int)
        self._encoded = editor.encode(self.image)
        self._reconstruction = None

    @property
    def outline(self):
        """Corners of the part that the network sees, in the photo: [4,2]."""
        return outline(self._mapping, self._editor.config.img_size)

    def edit(self, wishes):
        """Edited faces.

        Args:
            wishes: list of {attribute name: how much}, see `attributes.changes`.

        Returns:
            float32 [len(wishes),S,S,3] in [-1,1].
        """
        return self._editor.edit(self._encoded, self._targets(wishes), self._source)

    def gates(self, wishes):
        """How far the gates are open for edits, see `Editor.gates`."""
        return self._editor.gates(self._encoded, self._targets(wishes), self._source)

    def _targets(self, wishes):
        config = self._editor.config
        return np.stack([self._source + attributes.changes(values, config.atts, config.thres_int)
                         for values in wishes])

    @property
    def reconstruction(self):
        """What the network makes of the face without an edit: float32 [S,S,3] in [-1,1]."""
        if self._reconstruction is None:
            self._reconstruction = self.edit([{}])[0]
        return self._reconstruction

    def paste(self, pixels, edited, to_photo=None):
        """A copy of the photo's pixels with the difference between edit and reconstruction added.

        Args:
            pixels: uint8 [H,W,3], the photo's or what other edits have made of them.
            edited: float32 [S,S,3] of `edit`.
            to_photo: if the pixels are a part of the photo, or reduced: the map from them to it.
        """
        mapping = self._mapping if to_photo is None else faces.then(to_photo, self._mapping)
        levels = (edited - self.reconstruction) * 127.5
        if self._is_whole:
            levels = np.pad(levels, [(0, 1), (0, 1), (0, 0)], 'edge')
        return faces.pasted(pixels, levels, mapping, self._share)


def cut_out(photo, landmarks, config):
    """Cut a face out of a photo as an experiment was trained to see faces.

    Args:
        landmarks: [5,2]; None: the whole photo is one.
        config: the `RunConfig`.

    Returns:
        (what is reduced to the network's input, uint8 [h,w,3]; map from the photo to that input).
    """
    img_size = config.img_size
    row, column, height, width = crop_box(img_size)
    if landmarks is not None and config.use_cropped_img:
        to_square = faces.square_alignment(landmarks, img_size)
        return faces.warped(photo.pixels, to_square, (img_size, img_size)), to_square
    if landmarks is not None:
        to_aligned = faces.alignment(landmarks)
        image = faces.warped(photo.pixels, to_aligned, ALIGNED_SIZE)
    else:
        image, to_aligned = photo.pixels, faces.scaling(0, 0, 1)
        size = image.shape[1::-1]
        if size != ALIGNED_SIZE:
            if size[0] != size[1]:
                raise UserError(f'{photo.name}: {size[0]}x{size[1]} pixels; without alignment '
                                f'{WHOLE_SQUARE}')
            row, column, height, width = 0, 0, size[1], size[0]
            most = data.MAX_REDUCTION * img_size
            if width > most:    # more than training reduces without roughening
                factor = most / width
                to_aligned = faces.scaling(.5 * factor - .5, .5 * factor - .5, factor)
                image, height, width = faces.warped(image, to_aligned, (most, most)), most, most
    # TensorFlow 1 reduces without a shift of half a pixel.
    to_input = faces.inverse(faces.scaling(column, row, width / img_size, height / img_size))
    return image[row:row + height, column:column + width], faces.then(to_aligned, to_input)


def outline(mapping, img_size):
    """Corners in the photo of what a map takes to the network's input: [4,2], in turn."""
    last = img_size - 1
    return faces.apply(faces.inverse(mapping), [[0, 0], [last, 0], [last, last], [0, last]])


def edit(editor, photo, values, face=None, align=True, labels=None):
    """Edit a photo's faces.

    Args:
        editor: the `Editor`; photo: the `Photo`, which stays as it is.
        values: {attribute name: how much}, see `attributes.changes`.
        face: number of the only one to edit, or list of numbers, from 1, the largest; None: all.
        align: False: the whole photo is a face, cropped as in training.
        labels: of all faces, see `EditableFace`; or a list of such lists of names, one per face.

    Returns:
        The edited `Photo`, with its recipe.

    Raises:
        UserError: no such face or attribute.
    """
    check_attributes(editor.config, values)
    numbers, found = chosen_faces(photo, face, align)
    pixels, told = photo.pixels, labels_by_face(labels, len(found))
    is_change, shown = any(values.values()), []
    for landmarks, each in zip(found, told):
        if is_change or callable(each):    # the recipe tells what the function says
            editable = EditableFace(editor, photo, landmarks, each)
            shown.append(editable.labels)
        if is_change:
            pixels = editable.paste(pixels, editable.edit([values])[0])
    if callable(labels):
        labels = shown
    return photo.with_pixels(pixels, recipe_for(editor, photo, values, numbers, found, labels))


def recipe_for(editor, photo, values, numbers, found, labels=None):
    """The `Recipe` of an edit.

    Args:
        numbers, found: of `chosen_faces`; labels: names, or lists of them; the others: as for
            `edit`.
    """
    align = found[0] is not None
    return Recipe(
        editor.config.experiment_name, checkpoint.fingerprint(editor.checkpoint), photo.digest,
        {name: float(value) for name, value in values.items()},
        [landmarks.tolist() for landmarks in found] if align else [],
        numbers if align else [], align, None if labels is None else list(labels))


def check_attributes(config, names):
    """Raise a UserError unless the experiment edits all of them."""
    for name in names:
        if name not in config.atts:
            raise UserError(f'{name}: the experiment edits {" ".join(config.atts)}')


def chosen_faces(photo, face=None, align=True):
    """(numbers of the chosen faces, their landmarks); without alignment ([1], [None]).

    Args:
        face: number of a face, or list of numbers, from 1; None: all.

    Raises:
        UserError: there is none.
    """
    if not align:
        return [1], [None]
    count = len(photo.faces)
    if not count:
        raise UserError(f'{photo.name}: no face found; small ones and full profiles are not')
    numbers = [face] if isinstance(face, int) else list(face or range(1, count + 1))
    for number in numbers:
        if not 1 <= number <= count:
            raise UserError(f'{photo.name}: no face {number}, it has {count}')
    # As a recipe keeps them.
    return numbers, [np.round(photo.faces[number - 1].landmarks, 3) for number in numbers]


def is_profile(face):
    """Whether a face is seen so much from the side that its alignment means little."""
    left, right = face.landmarks[:2]
    return np.hypot(*(right - left)) < PROFILE * (face.box[3] - face.box[1])


def _box_around(points):
    """A box about as the detector would give for landmarks."""
    centre = points.mean(axis=0)
    half = 2.2 * np.abs(points - centre).max()
    return np.concatenate([centre - half, centre + half])
