"""Edit the faces in photos of any size with a trained experiment, and paste them back.

Photos are JPEG, PNG, WebP or TIFF files, or folders of them. Exit status: 0 if all could be edited,
1 if some could, 2 if none could. Finding faces needs the package mtcnn: pip install -e '.[photos]'

Examples:
    python scripts/edit_photos.py me.jpg --experiment_name 128 --set Young=-1
    python scripts/edit_photos.py photos --experiment_name 128 \\
        --set Eyeglasses=1 Young=-0.5 --output_dir OUT
    python scripts/edit_photos.py me.jpg --experiment_name 128 --strip
    python scripts/edit_photos.py me.jpg --experiment_name 128 --dry_run
"""

if not __package__:
    import _checkout

from pylib import ArgumentParser, run_command
from stgan.config import PhotoConfig, add_options, from_args, load_config


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('photos', nargs='+', metavar='PHOTO', help='photo, or folder of photos')
    add_options(parser, PhotoConfig)
    args = parser.parse_args()
    options = from_args(PhotoConfig, args)
    config, _ = load_config(options.folder)

    from att_classification.evaluation import attribute_reader
    from stgan.photo_runs import PhotoRun
    PhotoRun(options, config, args.photos, attribute_reader).run()


if __name__ == '__main__':
    run_command(main)
