"""A page in the browser: edit faces in one's own photos with sliders, and watch trainings.

It runs on this machine only and sends nothing anywhere; Ctrl-C ends it. Needs two more extras:
pip install -e '.[photos,page]'

Without a model's name, the toy model in the box edits.

Examples:
    python scripts/page.py --open
    python scripts/page.py --experiment_name 128 --port 8080
    python scripts/page.py --watch
"""

import importlib.util
import os

if not __package__:
    import _checkout

from pylib import ArgumentParser, UserError, run_command
from scripts._checkout import ROOT
from stgan.config import PageConfig, add_options, from_args, load_config

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'page')


def drawn_face(number):
    """A face as in scripts/toy, 178x218, as a PNG."""
    import io

    from PIL import Image

    from scripts.toy.make_toy_celeba import draw_face, image_generator, sample_attributes
    rng = image_generator(seed=2024, index=number)
    stream = io.BytesIO()
    Image.fromarray(draw_face(sample_attributes(rng), rng)).save(stream, 'PNG')
    return stream.getvalue()


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, PageConfig)
    args = parser.parse_args()
    if not (args.experiment_name or args.watch):
        args.experiment_name = os.path.join(ROOT, 'models', 'toy')
    options = from_args(PageConfig, args)
    if not all(map(importlib.util.find_spec, ('starlette', 'uvicorn'))):
        raise UserError("starlette and uvicorn are not installed: pip install -e '.[page]'")
    if options.folder:
        load_config(options.folder)

    from stgan import page_runs
    page_runs.run(options, FOLDER, drawn_face)


if __name__ == '__main__':
    run_command(main)
