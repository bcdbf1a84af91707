"""What the page of scripts/page.py asks for, without HTTP: photos in memory, views, edits.

All functions may be called by several threads at once.
"""

import io
import secrets
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from PIL import Image

import imlib.bounded
from imlib import faces
from pylib import UserError
from stgan import photos
from stgan.celeba import ALIGNED_SIZE
from tflib import checkpoint, detection

MOST_PIXELS = 40_000_000                        # of a photo
MOST_PHOTOS, LIFETIME = 32, 30 * 60             # kept in memory, and for how many seconds
MOST_KEPT = 160_000_000                         # pixels of all photos together
MOST_FACES = MOST_VIEWS = 16                    # encoded and reduced ones, of all photos
PHOTO_SIDE, FACE_SIDE, TILE = 1280, 640, 112    # longest sides of what the page shows, in pixels
MARGIN = .12                                    # around the face in its view
MOST_VALUE = 10.                                # of a wish
WHOLE = 0    # number of the face that is the whole photo, as in `edit_photos.py --no_align`


class Gone(UserError):
    """There is no photo of that id, or no longer."""

    status = 404    # of HTTP


class View(NamedTuple):
    """What the page shows of a photo."""

    pixels: np.ndarray      # uint8 [h,w,3]
    to_photo: np.ndarray    # map from them to the photo's


class Shelf:
    """Photos in memory by random id: the latest used ones, for some time.

    Args:
        clock: function that returns seconds.
    """

    def __init__(self, clock=time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._photos = OrderedDict()    # id -> [when it was used, photo], the latest last

    def add(self, photo):
        """Keep a photo; returns its id."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._photos[key] = [self._clock(), photo]
            self._forget()
        return key

    def get(self, key):
        """The photo of an id.

        Raises:
            Gone: there is none.
        """
        with self._lock:
            self._forget()
            if key not in self._photos:
                raise Gone('this photo is forgotten: photos are kept in memory for '
                           f'{LIFETIME // 60} minutes, at most {MOST_PHOTOS}; load it again')
            self._photos.move_to_end(key)
            self._photos[key][0] = self._clock()
            return self._photos[key][1]

    def remove(self, key):
        """Forget a photo, if it is there."""
        with self._lock:
            self._photos.pop(key, None)

    def forget(self):
        """Forget what is too old."""
        with self._lock:
            self._forget()

    def __len__(self):
        return len(self._photos)

    def __contains__(self, key):
        return key in self._photos

    def _forget(self):
        oldest = self._clock() - LIFETIME
        kept = sum(_pixel_count(photo) for _, photo in self._photos.values())
        for key, (used, photo) in list(self._photos.items()):
            if used >= oldest and len(self._photos) <= MOST_PHOTOS and (
                    kept <= MOST_KEPT or len(self._photos) == 1):
                break
            kept -= _pixel_count(photo)
            del self._photos[key]


def _pixel_count(photo):
    return photo.pixels.size // 3


class _Latest:
    """Things that take long to make: as many as may be kept, the latest used ones."""

    def __init__(self, most):
        self._most, self._things, self._lock = most, OrderedDict(), threading.Lock()

    def get(self, key, make):
        """The thing of a key, which `make()` makes if it is not there."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
        thing = make()    # others need not wait; if two make the same, that does no harm
        with self._lock:
            self._things[key] = thing
            while len(self._things) > self._most:
                self._things.popitem(last=False)
        return thing

    def forget(self, is_gone):
        """Forget those for whose key `is_gone(key)` is true."""
        with self._lock:
            for key in [key for key in self._things if is_gone(key)]:
                del self._things[key]

    def __len__(self):
        return len(self._things)


class Page:
    """The edits of a page.

    Args:
        editor: the `Editor`.

    All raise:
        UserError: with what is wrong in words for the page's user; Gone: the photo is.
    """

    def __init__(self, editor, clock=time.monotonic):
        self._editor, self.config = editor, editor.config
        self.weights = checkpoint.fingerprint(editor.checkpoint)
        self.shelf = Shelf(clock)
        self._encoded, self._views = _Latest(MOST_FACES), _Latest(MOST_VIEWS)

    def forget(self, key=None):
        """Forget a photo; by default those that are too old."""
        if key is None:
            self.shelf.forget()
        else:
            self.shelf.remove(key)
        for latest in (self._encoded, self._views):
            latest.forget(lambda wanted: wanted[0] not in self.shelf)

    def add(self, data, name):
        """Take a photo, the bytes of a file: what `describe` says of it."""
        photo = photos.Photo(imlib.bounded.read(data, name, MOST_PIXELS), name)
        # In a large photo only faces that are not tiny beside it: it takes a fourth of the time.
        try:
            photo.find_faces(max(detection.SMALLEST, max(photo.pixels.shape) // 50))
            trouble = '' if photo.faces else 'No face found; small ones and full profiles are not.'
        except UserError as error:
            photo.set_landmarks([])
            trouble = str(error)
        return self.describe(self.shelf.add(photo), trouble)

    def describe(self, key, trouble=''):
        """What the page has to know of a photo."""
        photo = self.shelf.get(key)
        height, width = photo.pixels.shape[:2]
        whole = (width, height) == ALIGNED_SIZE or width == height
        return {'id': key, 'name': photo.name, 'width': width, 'height': height,
                'trouble': trouble, 'whole': whole, 'aligned': (width, height) == ALIGNED_SIZE,
                'faces': [{'number': number, 'box': np.round(face.box, 1).tolist(),
                           'profile': bool(photos.is_profile(face))}
                          for number, face in enumerate(photo.faces, 1)]}

    def view(self, key, kind, numbers):
        """A photo as PNG: 'photo', the whole of it, or 'face', the chosen faces."""
        return _png(self._view(key, self.shelf.get(key), kind, numbers).pixels)

    def edit(self, key, kind, numbers, values, labels=None):
        """Edit faces in a view.

        Args:
            numbers: of the faces; values: {attribute: how much}; labels: see `EditableFace`.

        Returns:
            (PNG of the part of the view that may have changed, its left and top).
        """
        photo, values = self.shelf.get(key), self._checked(values)
        view = self._view(key, photo, kind, numbers)
        pixels, corners = view.pixels, []
        for number in numbers:
            face = self._face(key, photo, number, labels)
            pixels = face.paste(pixels, face.edit([values])[0], view.to_photo)
            corners.append(faces.apply(faces.inverse(view.to_photo), face.outline))
        corners, size = np.concatenate(corners), pixels.shape[1::-1]
        left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, np.array(size) - 1)
        right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, [left + 1, top + 1],
                                size)
        return _png(pixels[top:bottom, left:right]), int(left), int(top)

    def strip(self, key, number, amount, labels=None):
        """A face with every attribute changed, one after another, side by side, as PNG."""
        photo = self.shelf.get(key)
        face = self._face(key, photo, number, labels)
        view = _reduced(photo.pixels, _around(face.outline, photo.pixels, 0), TILE)
        edited = face.edit([self._checked({name: amount}) for name in self.config.atts])
        tiles = [face.paste(view.pixels, each, view.to_photo) for each in edited]
        return _png(np.concatenate(tiles, axis=1))

    def gates(self, key, number, values, labels=None):
        """How far the gates are open, with the edit and without, see `Editor.gates`.

        Returns:
            List of {'reset', 'update', 'reset_before', 'update_before'}: float32 [h,w] each.
        """
        face = self._face(key, self.shelf.get(key), number, labels)
        return [{'reset': reset[0], 'update': update[0],
                 'reset_before': reset[1], 'update_before': update[1]}
                for reset, update in face.gates([self._checked(values), {}])]

    def edited(self, key, numbers, values, labels=None):
        """The whole photo edited, a `photos.Photo` as `photos.edit` makes it."""
        photo, align = self.shelf.get(key), numbers != [WHOLE]
        return photos.edit(self._editor, photo, self._checked(values),
                           numbers if align else None, align, labels)

    def recipe(self, key, numbers, values, labels=None):
        """The text of the recipe, see `photos.Recipe`."""
        photo, align = self.shelf.get(key), numbers != [WHOLE]
        return photos.recipe_for(self._editor, photo, self._checked(values),
                                 *photos.chosen_faces(photo, numbers, align), labels).to_text()

    def read_recipe(self, key, text):
        """What a recipe, or a text like Young=-1 Bangs=0.5, asks for.

        Returns:
            {'values', 'numbers': of the faces, 'labels': what these show, 'remark'}; None: as it is
            on the page.
        """
        photo = self.shelf.get(key)
        if not text.lstrip().startswith('{'):
            return {'values': self._checked(_assignments(text)), 'numbers': None, 'labels': None,
                    'remark': ''}
        recipe = photos.Recipe.from_text(text, 'the text')
        count, labels, remark = len(photo.faces), recipe.labels, ''
        numbers = [number for number in recipe.numbers if number <= count] or None
        if not recipe.align:
            photos.cut_out(photo, None, self.config)    # refuses photos of another shape
            numbers = [WHOLE]
        if recipe.weights != self.weights:
            remark = 'It is of other weights, so the result will be another one.'
        elif recipe.photo != photo.digest:
            remark = 'It is of another photo.'
        if photos.has_labels_by_face(labels):    # the page has one set of them for all faces
            is_one = recipe.photo == photo.digest and all(each == labels[0] for each in labels)
            labels = labels[0] if is_one else None
            if not is_one and not remark:
                remark = 'Its faces show different attributes; choose one, and tick what it shows.'
        return {'values': self._checked(recipe.values), 'numbers': numbers, 'labels': labels,
                'remark': remark}

    def _checked(self, values):
        """The values that are not 0."""
        photos.check_attributes(self.config, values)
        for name, value in values.items():
            if not abs(value) <= MOST_VALUE:
                raise UserError(f'{name}: expected a number from {-MOST_VALUE:g} to '
                                f'{MOST_VALUE:g}')
        return {name: float(value) for name, value in values.items() if value}

    def _view(self, key, photo, kind, numbers):
        """The `View`, of those that were used lately."""
        return self._views.get((key, kind, kind == 'photo' or tuple(numbers)),
                               lambda: self._new_view(photo, kind, numbers))

    def _new_view(self, photo, kind, numbers):
        height, width = photo.pixels.shape[:2]
        if kind == 'photo':
            return _reduced(photo.pixels, (0, 0, width, height), PHOTO_SIDE)
        corners = [photos.outline(photos.cut_out(photo, landmarks, self.config)[1],
                                  self.config.img_size)
                   for landmarks in self._landmarks(photo, numbers)]
        return _reduced(photo.pixels, _around(np.concatenate(corners), photo.pixels, MARGIN),
                        FACE_SIDE)

    @staticmethod
    def _landmarks(photo, numbers):
        return photos.chosen_faces(photo, numbers, numbers != [WHOLE])[1]

    def _face(self, key, photo, number, labels):
        """The `EditableFace`, of those that were used lately."""
        def encoded():
            landmarks = self._landmarks(photo, [number])[0]
            return photos.EditableFace(self._editor, photo, landmarks, labels)
        return self._encoded.get((key, number, None if labels is None else tuple(labels)), encoded)


def _assignments(text):
    """{name: number} of a text like --set's."""
    values = {}
    for part in text.replace(',', ' ').split():
        name, _, value = part.partition('=')
        try:
            values[name] = float(value)
        except ValueError:
            raise UserError(f'{part[:60]}: expected a recipe, or text like Young=-1 Bangs=0.5'
                            ) from None
    if not values:
        raise UserError('nothing there: expected a recipe, or text like Young=-1 Bangs=0.5')
    return values


def _around(corners, pixels, margin):
    """The box (left, top, right, bottom) around points within a photo, with a margin."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    extra, size = margin * (high - low), np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(low - extra).astype(int), 0, size - 1)
    high = np.clip(np.ceil(high + extra).astype(int) + 1, low + 1, size)
    return (*low.tolist(), *high.tolist())


def _reduced(pixels, box, most):
    """The `View` of a part of a photo, reduced to so many pixels at most."""
    left, top, right, bottom = box
    part, size = pixels[top:bottom, left:right], np.array([right - left, bottom - top])
    shape = np.maximum(1, np.rint(size * min(1, most / size.max()))).astype(int)
    if (shape < size).any():
        part = np.asarray(Image.fromarray(part).resize(tuple(shape.tolist()), Image.LANCZOS,
                                                       reducing_gap=3))
    factors = size / shape
    return View(part, faces.scaling(*(np.array([left, top]) + factors / 2 - .5), *factors))


def _png(pixels):
    stream = io.BytesIO()
    # To compress what is small takes longer than to send it.
    level = 1 if pixels.size > 1 << 20 else 0
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, 'PNG', compress_level=level)
    return stream.getvalue()
