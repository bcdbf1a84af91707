"""What scripts/align_faces.py does: photos in, a data set of one face each out."""

import functools
import os
from collections import OrderedDict

import imlib
from imlib import faces
from imlib.photos import names_in
from pylib import (
    FolderLock,
    RunFailed,
    UserError,
    counted,
    parallel_map,
    progress,
    remove_unfinished,
    require_place,
    warn,
    write_text,
)
from stgan.celeba import ALIGNED_SIZE, ATTRIBUTES, read_rows

VALUES = {'1': 1, '0': -1, '-1': -1}


def run(photos, dataroot, attributes=None, size=None, smallest=40, processes=None):
    """Make a data set.

    Args:
        photos: folder of photos; dataroot: folder of the data set.
        attributes: path of the CSV file that tells what they show.
        size: of square crops; None: as CelebA's aligned images.
        smallest: height in pixels from which faces are looked for.
        processes: number of workers; None: one per core.

    Raises:
        UserError: nothing could be made. RunFailed: some photos could not be used.
    """
    names = photo_names(photos)
    atts, values = read_attributes(attributes) if attributes else ((), {})
    if attributes:
        names = listed(names, values)
        if not names:
            raise UserError(f'{attributes}: lists no photo of {photos}')
    require_place(dataroot, 'DATAROOT')

    folder = os.path.join(dataroot, 'img_crop_celeba' if size else 'img_align_celeba')
    targets = OrderedDict((name, os.path.join(folder, file_name(name))) for name in names)
    with FolderLock(dataroot):
        remove_unfinished(folder)
        if size:
            check_size(targets.values(), size)
        todo = [(os.path.join(photos, name), target) for name, target in targets.items()
                if not os.path.exists(target)]
        work = functools.partial(align, size=size, smallest=smallest)
        for problem in progress(parallel_map(work, todo, processes), total=len(todo),
                                unit='photo'):
            if problem:
                warn(problem)
        done = [name for name in names if os.path.exists(targets[name])]
        if not done:
            raise UserError(f'{photos}: none of {len(names)} photos could be used, see above')
        if attributes:
            write_list(os.path.join(dataroot, ATTRIBUTES + '.txt'), atts,
                       [(os.path.basename(targets[name]), values[name]) for name in done])
    print(f'{len(done)} of {len(names)} photos in {folder}')
    if not attributes:
        print(f'no {ATTRIBUTES}.txt, which training needs: give --attributes')
    if len(done) < len(names):
        raise RunFailed(f'{len(names) - len(done)} of {len(names)} photos could not be used')


def photo_names(folder):
    """Names of the photos in a folder, sorted.

    Raises:
        UserError: no such folder, no photo in it, or two whose `file_name` is the same.
    """
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder')
    names, made = names_in(folder), {}
    for name in names:
        other = made.setdefault(file_name(name), name)
        if other != name:
            raise UserError(f'{folder}: {other} and {name} would become the same file; rename one')
    return names


def file_name(name):
    """Name of the file that is made of a photo: without spaces, which end a name in lists."""
    return '_'.join(os.path.splitext(name)[0].split()) + '.png'


def read_attributes(path):
    """Return (attribute names, {photo file name: values, 1 or -1}) of a CSV file.

    Raises:
        UserError: names the line at fault.
    """
    _, rows = read_rows(path, 'is --attributes right?')
    number, (_, *names) = next(rows)
    bad = [name for name in names if not name or len(name.split()) != 1]
    if not names or bad or len({*names}) < len(names):
        raise UserError(f'{path}:{number}: expected a title and different attribute names without '
                        'spaces, separated by commas')
    values = OrderedDict()
    for line, row in rows:
        name, fields = ''.join(row[:1]), row[1:]
        if len(fields) != len(names) or not set(fields) <= set(VALUES):
            raise UserError(f'{path}:{line}: expected a file name and '
                            f'{counted(len(names), "value")}, 1 or 0')
        if name in values:
            raise UserError(f'{path}:{line}: {name} is listed twice')
        values[name] = [VALUES[field] for field in fields]
    return names, values


def listed(names, values):
    """The names of photos that have values; a line tells how many have none."""
    without = [name for name in names if name not in values]
    if without:
        warn(f'{len(without)} of {len(names)} photos are left out, as --attributes does not list '
             f'them ({without[0]})')
    return [name for name in names if name in values]


def write_list(path, atts, rows):
    """Write a list_attr_celeba.txt; rows: [(file name, values)]."""
    lines = [str(len(rows)), ' '.join(atts)]
    lines += [' '.join([name, *(f'{value:2d}' for value in values)]) for name, values in rows]
    write_text(path, '\n'.join(lines) + '\n')


def check_size(paths, size):
    """Raise a UserError if crops of another size are there already."""
    for path in paths:
        if os.path.exists(path):
            if imlib.size(path) != (size, size):
                raise UserError(f'{path}: is of another size than --size {size}; remove the '
                                'folder, or name another one')
            return


def align(paths, size, smallest):
    """Cut the largest face out of a photo and write it.

    Args:
        paths: (photo, file to write); size: of a square crop; None: as CelebA's aligned images.

    Returns:
        What is wrong with the photo, '' for nothing.
    """
    # Each worker loads TensorFlow, this process does without.
    from stgan.photos import Photo  # noqa: PLC0415
    from tflib import detection  # noqa: PLC0415

    source, target = paths
    try:
        photo = Photo.open(source)
        found = detection.shared_detector(1).find(photo.pixels, smallest)
    except UserError as error:
        return str(error)
    if not found:
        return f'{source}: no face found from {smallest} pixels on; see --smallest_face'
    landmarks = found[0].landmarks
    if size:
        mapping, shape = faces.square_alignment(landmarks, size), (size, size)
    else:
        mapping, shape = faces.alignment(landmarks), ALIGNED_SIZE
    imlib.write(target, faces.warped(photo.pixels, mapping, shape))
    return ''
