"""`stgan COMMAND ...`: the commands of a checkout, also where none is, only the packages.

A wheel has the entry scripts, and what they need beside the packages, in stgan/checkout.
"""

import ast
import os
import runpy
import shlex
import shutil
import sys
from collections import OrderedDict

from pylib.command import PROGRAM
from stgan import __version__

_HERE = os.path.dirname(os.path.abspath(__file__))
IN_WHEEL = os.path.join(_HERE, 'checkout')
ROOT = IN_WHEEL if os.path.isdir(IN_WHEEL) else os.path.dirname(_HERE)

COMMANDS = OrderedDict([
    ('train', 'train.py'), ('train_mixed', 'train_mixed.py'), ('test', 'test.py'),
    ('launch', 'scripts/launch.py'), ('psnr_ssim', 'psnr_ssim.py'),
    ('train_classifier', 'att_classification/train.py'),
    ('test_classifier', 'att_classification/test.py'), ('report', 'scripts/report.py'),
    ('edit_photos', 'scripts/edit_photos.py'), ('align_faces', 'scripts/align_faces.py'),
    ('page', 'scripts/page.py'), ('export', 'scripts/export.py'),
    ('check_data', 'scripts/check_data.py'),
    ('make_toy_celeba', 'scripts/toy/make_toy_celeba.py')])


def path_of(script):
    """Path of an entry script, named as in a checkout."""
    path = os.path.join(ROOT, script)
    # att_classification is a package, which a wheel has beside stgan.
    return path if os.path.exists(path) else os.path.join(os.path.dirname(_HERE), script)


def command_line(script, *arguments):
    """What to type to run an entry script, named as in a checkout."""
    if ROOT == IN_WHEEL:
        words = ['stgan', next(name for name, path in COMMANDS.items() if path == script)]
    else:
        found = shutil.which('python')
        same = found and sys.executable and os.path.samefile(found, sys.executable)
        words = ['python' if same else sys.executable or 'python3',
                 os.path.relpath(os.path.join(ROOT, script))]
    return ' '.join(map(shlex.quote, [*words, *arguments]))


def _purpose(script):
    """The first line of an entry script's docstring."""
    with open(path_of(script), encoding='utf-8') as stream:
        return ast.get_docstring(ast.parse(stream.read())).splitlines()[0]


def _usage():
    width = max(map(len, COMMANDS))
    return '\n'.join(['usage: stgan COMMAND [options]', '']
                     + [f'  {name:{width}}  {_purpose(script)}'
                        for name, script in COMMANDS.items()]
                     + ['', 'stgan COMMAND --help explains a command; stgan --version'])


def main():
    """Run the command that the command line names, as its entry script does."""
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name in ('-h', '--help'):
        print(_usage())
    elif name == '--version':
        print(f'stgan {__version__}')
    elif name in COMMANDS:
        path = path_of(COMMANDS[name])
        os.environ[PROGRAM] = f'stgan {name}'
        del sys.argv[1]
        sys.path.insert(0, os.path.dirname(path))    # as Python does for a script
        runpy.run_path(path, run_name='__main__')
    else:
        print(f'error: {name or "no command"}: choose from {" ".join(COMMANDS)}', file=sys.stderr)
        sys.exit(2)
