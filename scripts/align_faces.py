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

if not __package__:
    import _checkout

from pylib import ArgumentParser, run_command


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

    from stgan import aligning
    aligning.run(args.photos, args.dataroot, args.attributes, args.size, args.smallest_face,
                 args.processes)


if __name__ == '__main__':
    run_command(main)
