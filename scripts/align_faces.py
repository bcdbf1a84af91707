"""Make a data set of your own photos: one face each, as CelebA has them.

The largest face of each photo is turned and scaled as in CelebA's aligned images (178x218), or into
square crops with --size. DATAROOT then has img_align_celeba/ or img_crop_celeba/ and, with
--attributes, list_attr_celeba.txt. Photos that are there are not made again, so an interrupted
command goes on. Exit status: 0 if all could be made, 1 if some could, 2 if none could.

--attributes is a CSV file with a line of names, then a line per photo with 1 or 0 (or -1):

    file,Smiling,Hat
    a.jpg,1,0

Examples:
    python scripts/align_faces.py photos DATAROOT --attributes labels.csv
    python scripts/align_faces.py photos DATAROOT --size 384
"""

import functools
import os
from collections import OrderedDict

if not __package__:
    import _checkout

import imlib
from imlib import faces
from imlib.photos import EXTENSIONS
from pylib import (
    ArgumentParser,
    FolderLock,
    RunFailed,
    UserError,
    parallel_map,
    progress,
    remove_unfinished,
    require_place,
    run_command,
    warn,
    write_text,
)
from stgan.celeba import ALIGNED_SIZE, ATTRIBUTES, read_rows

VALUES = {'1': 1, '0': -1, '-1': -1}


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
    for line, (name, *fields) in rows:
        if len(fields) != len(names) or not set(fields) <= set(VALUES):
            raise UserError(f'{path}:{line}: expected a file name and {len(names)} values, 1 or 0')
        if name in values:
            raise UserError(f'{path}:{line}: {name} is listed twice')
        values[name] = [VALUES[field] for field in fields]
    return names, values


def align(paths, size, smallest):
    """Cut the largest face out of a photo and write it.

    Args:
        paths: (photo, file to write); size: of a square crop; None: as CelebA's aligned images.

    Returns:
        What is wrong with the photo, '' for nothing.
    """
    # Each worker loads TensorFlow, this process does without.
    from stgan.photos import Photo
    from tflib import detection

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


def photo_names(folder):
    """Names of the photos in a folder, sorted.

    Raises:
        UserError: there is none, or two differ in their extension only.
    """
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder')
    names = sorted(name for name in os.listdir(folder)
                   if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
    if not names:
        raise UserError(f'{folder}: has no JPEG, PNG, WebP or TIFF')
    stems = {}
    for name in names:
        other = stems.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise UserError(f'{folder}: {other} and {name} would become the same file; rename one')
    return names


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


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('photos', help='folder of photos')
    add('dataroot', help='folder of the data set')
    add('--attributes', metavar='CSV', help='what the photos show, see above')
    add('--size', type=int, help='height and width of square crops; default: CelebA\'s 178x218')
    add('--smallest_face', type=int, default=40,
        help='height in pixels from which faces are looked for')
    add('--processes', type=int, help='worker processes; default: one per core')
    args = parser.parse_args()
    for flag, value, least, most in (('--size', args.size, 16, 4096),
                                     ('--smallest_face', args.smallest_face, 12, 4096),
                                     ('--processes', args.processes, 1, 4096)):
        if value is not None and not least <= value <= most:
            parser.error(f'{flag} {value}: expected {least} to {most}')
    names = photo_names(args.photos)
    atts, values = read_attributes(args.attributes) if args.attributes else ((), {})
    if args.attributes:
        names = listed(names, values)
        if not names:
            raise UserError(f'{args.attributes}: lists no photo of {args.photos}')
    require_place(args.dataroot, 'DATAROOT')

    folder = os.path.join(args.dataroot, 'img_crop_celeba' if args.size else 'img_align_celeba')
    targets = OrderedDict((name, os.path.join(folder, os.path.splitext(name)[0] + '.png'))
                          for name in names)
    with FolderLock(args.dataroot):
        remove_unfinished(folder)
        if args.size:
            check_size(targets.values(), args.size)
        todo = [(os.path.join(args.photos, name), target) for name, target in targets.items()
                if not os.path.exists(target)]
        work = functools.partial(align, size=args.size, smallest=args.smallest_face)
        for problem in progress(parallel_map(work, todo, args.processes), total=len(todo),
                                unit='photo'):
            if problem:
                warn(problem)
        done = [name for name in names if os.path.exists(targets[name])]
        if not done:
            raise UserError(f'{args.photos}: none of {len(names)} photos could be used, see above')
        if args.attributes:
            write_list(os.path.join(args.dataroot, ATTRIBUTES + '.txt'), atts,
                       [(os.path.basename(targets[name]), values[name]) for name in done])
    print(f'{len(done)} of {len(names)} photos in {folder}')
    if not args.attributes:
        print(f'no {ATTRIBUTES}.txt, which training needs: give --attributes')
    if len(done) < len(names):
        raise RunFailed(f'{len(names) - len(done)} of {len(names)} photos could not be used')


def check_size(paths, size):
    """Raise a UserError if crops of another size are there already."""
    for path in paths:
        if os.path.exists(path):
            if imlib.size(path) != (size, size):
                raise UserError(f'{path}: is of another size than --size {size}; remove the '
                                'folder, or name another one')
            return


if __name__ == '__main__':
    run_command(main)
