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

from tqdm import tqdm

if not __package__:
    import _checkout

import imlib
from pylib import ArgumentParser, RunFailed, UserError, parallel_map, run_command, write_json
from stgan.celeba import ALIGNED_SIZE, PARTS, CelebA

HARMLESS = 'attributes that never change'    # unless they are to be edited
SHOWN = 10    # problems of a kind on the terminal
CHUNK = 64    # images a worker checks at once: it builds a graph for each chunk


def check_images(paths, crop):
    """Return [(problem or '', size or None, digest or None)] of some image files."""
    from stgan import data  # each worker loads TensorFlow, this process does not

    problems = dict(data.unreadable_images(paths, 128, crop))
    results = []
    for path in paths:
        size = digest = None
        if path not in problems:
            size = imlib.size(path)
            with open(path, 'rb') as stream:
                digest = hashlib.sha1(stream.read()).hexdigest()
        results.append((problems.get(path, ''), size, digest))
    return results


def inspect(celeba, processes=None):
    """Return {kind of problem: [what has it]} of a `CelebA`, empty lists for none."""
    part = {index: name for name in PARTS for index in celeba.part(name)}
    paths, there = celeba.find(range(len(celeba)))
    present = [index for index, is_there in enumerate(there) if is_there]
    found = OrderedDict((kind, []) for kind in (
        'missing', 'unreadable', 'of another size', 'duplicates', 'listed twice', HARMLESS))
    found['missing'] = [path for path, is_there in zip(paths, there) if not is_there]
    chunks = [[paths[index] for index in present[start:start + CHUNK]]
              for start in range(0, len(present), CHUNK)]
    results = itertools.chain.from_iterable(parallel_map(
        functools.partial(check_images, crop=celeba.crop), chunks, processes, chunksize=1))
    first = {}
    for index, (problem, size, digest) in zip(present, tqdm(
            results, total=len(present), unit='image', dynamic_ncols=True)):
        path = paths[index]
        if problem:
            found['unreadable'].append(f'{path}: {problem}')
            continue
        expected = ALIGNED_SIZE if celeba.crop else (max(size),) * 2
        if size != expected:
            found['of another size'].append(f'{path}: {size[0]}x{size[1]}, expected '
                                            f'{expected[0]}x{expected[1]}')
        other = first.setdefault(digest, index)
        if other != index:
            leak = '' if part[other] == part[index] else f', in {part[other]} and {part[index]}'
            found['duplicates'].append(f'{paths[other]} = {path}{leak}')
    counts = Counter(celeba.names)
    found['listed twice'] = [name for name, count in counts.items() if count > 1]
    found[HARMLESS] = [
        name for name, share in zip(celeba.atts, celeba.labels.mean(axis=0)) if share in (0, 1)]
    return found


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
    found = inspect(celeba, args.processes)
    print(f'{len(celeba)} images, {len(celeba.atts)} attributes; '
          + ', '.join(f'{name} {len(celeba.part(name))}' for name in PARTS)
          + f' ({celeba.split})')
    for kind, items in found.items():
        print(f'{len(items):7} {kind}')
        for item in items[:SHOWN]:
            print(f'          {item}')
        if len(items) > SHOWN:
            print(f'          ... {len(items) - SHOWN} more; --report FILE writes all')
    if args.report:
        write_json(args.report, found)
    problems = sum(len(items) for kind, items in found.items() if kind != HARMLESS)
    if problems:
        raise RunFailed(f'{args.dataroot}: {problems} problems')
    print(f'{args.dataroot}: all is well')


if __name__ == '__main__':
    run_command(main)
