"""What scripts/edit_photos.py does: photos in, edited photos and sheets of their faces out."""

import json
import os
import time
from collections import OrderedDict

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import imlib
import imlib.photos
from pylib import (
    FolderLock,
    RunFailed,
    StopRequest,
    UserError,
    progress,
    remove_unfinished,
    require_place,
    warn,
)
from stgan import photos
from stgan.celeba import read_rows
from stgan.editing import Editor
from tflib import checkpoint, faults, utils

EXTENSIONS = {'png': '.png', 'jpeg': '.jpg'}
COLOURS = 'red', 'yellow', 'lime', 'cyan', 'magenta', 'orange'
SHOWN = 128    # pixels of a face on a sheet, at least


def photo_files(arguments):
    """The photo files that the command line names, folders by what is in them.

    Raises:
        UserError: there is no such file, or a folder without photos.
    """
    paths = []
    for argument in arguments:
        if os.path.isdir(argument):
            paths += [os.path.join(argument, name) for name in imlib.photos.names_in(argument)]
        elif os.path.exists(argument):
            paths.append(argument)
        else:
            raise UserError(f'{argument}: no such photo')
    return list(OrderedDict.fromkeys(paths))


def read_landmarks(path):
    """Landmarks by photo: {file name: [[5,2], ...]}, of CelebA's list_landmarks or one like it.

    Raises:
        UserError: names the line at fault.
    """
    found = {}
    for number, fields in read_rows(path, 'is --landmarks right?')[1]:
        if not found and (len(fields) == 1 or not _is_number(fields[-1])):
            continue    # the count, and the names of the columns
        if len(fields) != 11 or not all(map(_is_number, fields[1:])):
            raise UserError(f'{path}:{number}: expected a file name and 10 numbers')
        points = np.array(fields[1:], float).reshape(5, 2)
        found.setdefault(fields[0], []).append(points)
    return found


def _is_number(text):
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def read_recipe(path):
    """The `photos.Recipe` in an edited photo, or in a text file.

    Raises:
        UserError: there is none.
    """
    try:
        with open(path, 'rb') as stream:
            start = stream.read(1 << 20)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; is --recipe right?') from None
    is_text = start.lstrip()[:1] == b'{'
    text = start.decode('utf-8', 'replace') if is_text else imlib.photos.read_text(path)
    return photos.Recipe.from_text(text, path)


class PhotoRun:
    """Edits of many photos, all in the same way.

    Args:
        options: the `PhotoConfig`; config: the experiment's `RunConfig`; arguments: photos and
            folders of photos.
        open_classifier: function from the value of --labels_from_classifier, the experiment's
            attributes, device and threads to another one: from a face, uint8 [S,S,3], to the names
            of those attributes that it shows.

    Raises:
        UserError: the options do not fit each other, the experiment or the photos; nothing was
            written.
    """

    def __init__(self, options, config, arguments, open_classifier):
        self._options, self._config, self._open_classifier = options, config, open_classifier
        self._paths = photo_files(arguments)
        self._folder = options.output_dir or os.path.join(options.folder, 'photos')
        self._recipe = read_recipe(options.recipe) if options.recipe else None
        self._landmarks = read_landmarks(options.landmarks) if options.landmarks else None
        self._values = self._recipe.values if self._recipe else options.values
        self._is_edit = bool(self._recipe or self._values)    # a recipe may leave all as it is
        self._align = self._recipe.align if self._recipe else not options.no_align
        self._labels = self._recipe.labels if self._recipe else _labels(options, config)
        for flag, names in (('--recipe' if self._recipe else '--set', self._values),
                            ('--slide', [options.slide] if options.slide else []),
                            ('--recipe' if self._recipe else '--labels', self._known_labels())):
            for name in names:
                if name not in config.atts:
                    raise UserError(f'{flag} {name}: the experiment edits {" ".join(config.atts)}')
        if config.label == 'target' and self._labels is None and not (
                options.labels_from_classifier or options.dry_run):
            raise UserError(f'{options.experiment_name}: was trained with target labels; say with '
                            '--labels which attributes the photos show, or "none", or name a '
                            'classifier with --labels_from_classifier')
        require_place(self._folder, '--output_dir')
        self._check_names()

    def _known_labels(self):
        """All attributes that labels name."""
        if photos.has_labels_by_face(self._labels):
            return [name for names in self._labels for name in names]
        return self._labels or []

    def _check_names(self):
        """Raise a UserError if two photos would get the same name, or one be overwritten."""
        by_name = {}
        for path in self._paths:
            other = by_name.setdefault(self._stem(path), path)
            if other != path:
                raise UserError(f'{path} and {other}: their results would have the same name; '
                                'edit them one by one, into two folders with --output_dir')
            result = self._place(path)
            if os.path.exists(result) and os.path.samefile(result, path):
                raise UserError(f'{path}: would be overwritten; name another folder with '
                                '--output_dir')

    @staticmethod
    def _stem(path):
        return os.path.splitext(os.path.basename(path))[0]

    def _place(self, path, suffix='', extension=None):
        """Path of a result of a photo."""
        extension = extension or EXTENSIONS[self._options.format]
        return os.path.join(self._folder, self._stem(path) + suffix + extension)

    def run(self):
        """Edit all photos; what is wrong with one is told in a line, and the others go on.

        Raises:
            UserError: no photo could be edited. RunFailed: some could not.
            Interrupted: after SIGINT or SIGTERM, when a photo is finished.
        """
        options = self._options
        utils.select_gpus(options.gpu)
        if options.labels_from_classifier and not options.dry_run:
            self._labels = self._open_classifier(options.labels_from_classifier, self._config.atts,
                                                 options.device, options.threads)
        with FolderLock(self._folder):
            remove_unfinished(self._folder)
            editor = None if options.dry_run else Editor(
                options.folder, options.device, options.precision, options.threads,
                options.edit_batch, options.npu_option)
            if self._recipe and editor:
                self._compare_weights(editor)
            began, done, there = time.monotonic(), 0, 0
            with StopRequest() as stop, progress(self._paths, unit='photo') as bar:
                for path in bar:
                    if stop.requested:
                        raise stop.interruption(f'stopped before {path}; the same command does '
                                                'what is left')
                    try:
                        if self._do(editor, path):
                            done += 1
                        else:
                            there += 1
                    except UserError as error:
                        warn(error)
                    except faults.ERRORS as error:
                        raise faults.failure(error, path, 'lower --edit_batch', 'repeat the '
                                             'command') from None
            seconds = time.monotonic() - began
        failed = len(self._paths) - done - there
        if not done + there:
            raise UserError(f'none of {len(self._paths)} photos could be edited, see above')
        said = f'; {there} there already, made in the same way' if there else ''
        print(f'{done} of {len(self._paths)} photos, {done / max(seconds, 1e-3):.2g} a second; '
              f'wrote {self._folder}{said}')
        if failed:
            raise RunFailed(f'{failed} of {len(self._paths)} photos could not be edited, see above')

    def _compare_weights(self, editor):
        weights = checkpoint.fingerprint(editor.checkpoint)
        if weights != self._recipe.weights:
            warn(f'{self._options.recipe}: is of other weights ({self._recipe.experiment}, '
                 f'{self._recipe.weights}; now {weights}), so the result will be another one')

    def _do(self, editor, path):
        """Do what is asked for with a photo; return False if all of it was there already."""
        options = self._options
        if options.dry_run:
            self._refuse_existing(path, '_faces')
        photo = photos.Photo.open(path)
        numbers = self._choose_faces(photo)
        if options.dry_run:
            image = drawn_faces(photo, numbers, self._config, self._align)
            photo.with_pixels(image).save(self._place(path, '_faces'))
            return True
        is_wanted = self._is_edit and not self._is_made(editor, photo, path, numbers)
        if is_wanted:
            self._refuse_existing(path)
        written = [self._write_sheets(editor, photo, path, number)
                   for number in (numbers if options.strip or options.slide else ())]
        if is_wanted:
            edited = editor.edit_photo(photo, self._values, face=numbers, align=self._align,
                                       labels=self._labels)
            if self._is_of_recipe(photo):
                edited.recipe = edited.recipe._replace(numbers=self._recipe.numbers)
            edited.save(self._place(path))
        return is_wanted or any(written)

    def _is_made(self, editor, photo, path, numbers):
        """Whether the edited photo is there, by the same weights and in the same way."""
        try:
            recipe = None if self._options.force else read_recipe(self._place(path))
        except UserError:    # none, or somebody else's file
            recipe = None
        if not recipe:
            return False
        labels = recipe.labels if callable(self._labels) else self._labels
        found = photos.chosen_faces(photo, numbers, self._align)
        return recipe == photos.recipe_for(editor, photo, self._values, *found, labels)

    def _choose_faces(self, photo):
        """Numbers of the faces to edit; [1] without alignment."""
        options = self._options
        if photos.has_labels_by_face(self._labels) and not self._is_of_recipe(photo):
            raise UserError(f'{photo.name}: the labels in {options.recipe} are of the faces of '
                            'another photo; say with --set what to change, and with --labels or '
                            '--labels_from_classifier what this one shows')
        if not self._align:
            return [1]
        if self._is_of_recipe(photo):
            photo.set_landmarks(self._recipe.faces)
        elif self._landmarks is not None:
            name = os.path.basename(photo.name)
            if name not in self._landmarks:
                raise UserError(f'{photo.name}: {options.landmarks} has no line of {name}')
            photo.set_landmarks(self._landmarks[name])
        elif not photo.find_faces(options.smallest_face):
            raise UserError(f'{photo.name}: no face found from {options.smallest_face} pixels on; '
                            'lower --smallest_face, or name landmarks with --landmarks (full '
                            'profiles are never found)')
        wanted = options.face or None
        if self._recipe and not self._is_of_recipe(photo):
            wanted = self._recipe.numbers
        numbers, _ = photos.chosen_faces(photo, wanted)
        for number in numbers:
            if photos.is_profile(photo.faces[number - 1]):
                warn(f'{photo.name}: face {number} is seen from the side, as few in training are')
        return numbers

    def _is_of_recipe(self, photo):
        """Whether there is a recipe, and it is of this photo."""
        return bool(self._recipe) and self._recipe.photo == photo.digest

    def _write_sheets(self, editor, photo, path, number):
        """Write a face's strip and slide; return whether one was not there, made in the same way.
        """
        options, atts = self._options, self._config.atts
        plans = []
        if options.strip:
            wishes = [[{att: value} for att in atts] for value in (1, -1)]
            plans.append(('strip', wishes, ['source', 'no change', *atts], ['+1', '-1']))
        if options.slide:
            values = np.linspace(options.slide_min, options.slide_max, options.n_slide)
            wishes = [[{options.slide: value} for value in values]]
            plans.append((f'slide_{options.slide}', wishes,
                          ['source', 'no change', *map(_shown, values)], [options.slide]))
        landmarks = photos.chosen_faces(photo, number, self._align)[1][0]
        face = photos.EditableFace(editor, photo, landmarks, self._labels)
        recipe = photos.recipe_for(editor, photo, {}, [number], [landmarks], face.labels).to_text()
        plans = [(f'_face{number}_{kind}', f'{recipe} {json.dumps(wishes)}', wishes, *heads)
                 for kind, wishes, *heads in plans]
        todo = [plan for plan in plans if not self._is_there(path, *plan[:2])]
        for suffix, text, wishes, titles, captions in todo:
            rows = [[face.image, face.reconstruction, *face.edit(row)] for row in wishes]
            drawn = imlib.photos.Decoded(sheet(rows, titles, captions))
            imlib.photos.write(self._place(path, suffix, '.png'), drawn, 'png', text)
        return bool(todo)

    def _is_there(self, path, suffix, text):
        """Whether a sheet with that text within it is there; raises a UserError if another is."""
        try:
            if not self._options.force and text == imlib.photos.read_text(
                    self._place(path, suffix, '.png')):
                return True
        except UserError:    # none, or somebody else's file
            pass
        self._refuse_existing(path, suffix, '.png')
        return False

    def _refuse_existing(self, path, suffix='', extension=None):
        place = self._place(path, suffix, extension)
        if os.path.exists(place) and any(os.path.samefile(place, each) for each in self._paths
                                         if os.path.exists(each)):
            raise UserError(f'{place}: is one of the photos; name another folder with --output_dir')
        if os.path.exists(place) and not self._options.force:
            raise UserError(f'{place}: is there already; --force overwrites it')


def _shown(value):
    return f'{value:+.3g}' if value else '0'


def _labels(options, config):
    """The attributes that --labels names; None: it does not say."""
    for flag in ('labels', 'labels_from_classifier'):
        if getattr(options, flag) and config.label != 'target':
            raise UserError(f'--{flag}: has no effect, as the experiment was trained with '
                            'differences of labels')
    if not options.labels:
        return None
    return [] if options.labels == ('none',) else list(options.labels)


def drawn_faces(photo, numbers, config, align=True):
    """A photo with boxes, landmarks and numbers of faces, and what the network would see of them.

    Returns:
        uint8 [H,W,3].
    """
    image = Image.fromarray(photo.pixels)
    draw = ImageDraw.Draw(image)
    width = max(1, max(image.size) // 250)
    font = _font(max(12, max(image.size) // 40))
    for number in numbers:
        colour = COLOURS[(number - 1) % len(COLOURS)]
        landmarks = None
        if align:
            face = photo.faces[number - 1]
            landmarks = face.landmarks
            draw.rectangle(face.box.tolist(), outline=colour, width=width)
            for x, y in landmarks:
                draw.ellipse([x - 1.5 * width, y - 1.5 * width, x + 1.5 * width, y + 1.5 * width],
                             fill=colour)
            draw.text((face.box[0] + 2 * width, face.box[1] + width), str(number), colour, font,
                      stroke_width=width, stroke_fill='black')
        _, mapping = photos.cut_out(photo, landmarks, config)
        corners = [tuple(corner) for corner in photos.outline(mapping, config.img_size)]
        draw.line([*corners, corners[0]], colour, width)
    return np.asarray(image)


def sheet(rows, titles, captions):
    """Faces in rows, with titles above the columns and captions beside the rows.

    Args:
        rows: lists of float [S,S,3] in [-1,1].

    Returns:
        uint8 [H,W,3].
    """
    size = len(rows[0][0])
    cell = size * max(1, -(-SHOWN // size))
    font = _font(cell // 9)
    words = [title.replace('_', '\n') for title in titles]
    top = int(1.2 * cell // 9 * max(text.count('\n') + 1 for text in words)) + 8
    canvas = Image.new('RGB', (cell // 2 + cell * len(titles), top + cell * len(rows)), 'white')
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(words):
        draw.multiline_text((cell // 2 + cell * column + 4, 2), text, 'black', font, spacing=2)
    for row, (pictures, caption) in enumerate(zip(rows, captions)):
        draw.multiline_text((4, top + cell * row + cell // 2), caption.replace('_', '\n'), 'black',
                            font, spacing=2)
        for column, picture in enumerate(pictures):
            shown = Image.fromarray(imlib.to_uint8(picture)).resize((cell, cell), Image.BICUBIC)
            canvas.paste(shown, (cell // 2 + cell * column, top + cell * row))
    return np.asarray(canvas)


def _font(size):
    """The font that comes with Matplotlib, which draws this project's other pictures."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf',
                                           'DejaVuSans.ttf'), size)
