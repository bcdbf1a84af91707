"""Check a whole data set before a long run: every image, its size, labels, duplicates.

Images are decoded by the decoder of training, in parallel. Exit status: 0 if all is well, 1 if
something is wrong, 2 if the data set cannot be read at all.

Examples:
    python scripts/check_data.py --dataroot DATAROOT
    python scripts/check_data.py --dataroot DATAROOT --report problems.json
"""

import functools
import hashlib
import itertools
from collections import Counter, OrderedDict
from typing import NamedTuple

if not __package__:
    import _checkout

import imlib
from pylib import (
    ArgumentParser,
    RunFailed,
    UserError,
    counted,
    parallel_map,
    progress,
    run_command,
    write_json,
)
from stgan.celeba import PARTS, CelebA, image_fault

# Kinds that are no problem: of attributes, unless they are to be edited.
CONSTANT, TURNED = 'attributes that never change', 'turned as their EXIF orientation says'
SHOWN = 10    # problems of a kind, and sizes, on the terminal
CHUNK = 64    # images a worker checks at once: it builds a graph for each chunk


class Checked(NamedTuple):
    """What was found out about an image file."""

    problem: str = ''        # why it cannot be decoded
    fault: str = ''          # what is wrong with its size
    size: str = ''           # such as 178x218, as it is to be seen
    orientation: int = 1     # EXIF's
    digest: str = ''


def check_images(paths, crop):
    """Return a `Checked` for each of some image files."""
    from stgan import data  # each worker loads TensorFlow, this process does not

    problems = dict(data.unreadable_images(paths, 128, crop))
    results = []
    for path in paths:
        fault = image_fault(path, crop)
        if path in problems and not fault:
            results.append(Checked(problem=problems[path]))
            continue
        with open(path, 'rb') as stream:
            digest = hashlib.sha1(stream.read()).hexdigest()
        width, height = imlib.upright_size(path)
        results.append(Checked('', fault, f'{width}x{height}', imlib.orientation(path), digest))
    return results


def inspect(celeba, processes=None):
    """Look at every image of a `CelebA`.

    Returns:
        {kind of problem: [what has it]}, empty lists for none; {size: how many images}, the most
        frequent first.

    Raises:
        UserError: there are no images at all.
    """
    part = {index: name for name in PARTS for index in celeba.part(name)}
    paths, there = celeba.find(range(len(celeba)))
    present = [index for index, is_there in enumerate(there) if is_there]
    if not present:
        celeba.paths(range(len(celeba)))    # says so
    found = OrderedDict((kind, []) for kind in (
        'missing', 'unreadable', 'of another size', 'duplicates', 'listed twice', TURNED, CONSTANT))
    found['missing'] = [path for path, is_there in zip(paths, there) if not is_there]
    chunks = [[paths[index] for index in present[start:start + CHUNK]]
              for start in range(0, len(present), CHUNK)]
    results = itertools.chain.from_iterable(parallel_map(
        functools.partial(check_images, crop=celeba.crop), chunks, processes, chunksize=1))
    first, sizes = {}, Counter()
    for index, image in zip(present, progress(results, total=len(present), unit='image')):
        path = paths[index]
        if image.problem:
            found['unreadable'].append(f'{path}: {image.problem}')
            continue
        sizes[image.size] += 1
        if image.fault:
            found['of another size'].append(f'{path}: {image.fault}')
        if image.orientation > 1:
            found[TURNED].append(f'{path}: orientation {image.orientation}')
        other = first.setdefault(image.digest, index)
        if other != index:
            leak = '' if part[other] == part[index] else f', in {part[other]} and {part[index]}'
            found['duplicates'].append(f'{paths[other]} = {path}{leak}')
    counts = Counter(celeba.names)
    found['listed twice'] = [name for name, count in counts.items() if count > 1]
    found[CONSTANT] = [
        name for name, share in zip(celeba.atts, celeba.labels.mean(axis=0)) if share in (0, 1)]
    return found, OrderedDict(sizes.most_common())


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--dataroot', required=True, metavar='DIR',
        help='folder of list_attr_celeba.txt and the images')
    add('--split', default='auto', metavar='HOW',
        help='as in train.py; tells which duplicates are in two parts')
    add('--use_cropped_img', action='store_true', help='take img_crop_celeba[_png]')
    add('--processes', type=int, help='workers; default: one per core')
    add('--report', metavar='FILE', help='write all problems to this JSON file')
    args = parser.parse_args()
    if args.processes is not None and args.processes < 1:
        raise UserError(f'--processes {args.processes}: expected at least 1')

    celeba = CelebA(args.dataroot, None, args.split, args.use_cropped_img)
    found, sizes = inspect(celeba, args.processes)
    print(f'{counted(len(celeba), "image")}, {counted(len(celeba.atts), "attribute")}; '
          + ', '.join(f'{name} {len(celeba.part(name))}' for name in PARTS)
          + f' ({celeba.split})')
    for note in celeba.notes:
        print(note)
    for size, count in list(sizes.items())[:SHOWN]:
        print(f'{count:7} of {size} pixels')
    if len(sizes) > SHOWN:
        print(f'        {len(sizes) - SHOWN} more sizes; --report FILE writes all')
    for kind, items in found.items():
        print(f'{len(items):7} {kind}')
        for item in items[:SHOWN]:
            print(f'          {item}')
        if len(items) > SHOWN:
            print(f'          ... {len(items) - SHOWN} more; --report FILE writes all')
    if args.report:
        write_json(args.report, OrderedDict(found, sizes=sizes))
    problems = sum(len(items) for kind, items in found.items() if kind not in (TURNED, CONSTANT))
    if problems:
        raise RunFailed(f'{args.dataroot}: {counted(problems, "problem")}')
    print(f'{args.dataroot}: all is well')


if __name__ == '__main__':
    run_command(main)
