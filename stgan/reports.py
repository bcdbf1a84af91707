"""What figures of sheets need beside them: their conditions, those of the paper, and a place."""

import contextlib
import os
from collections import OrderedDict

from pylib import RunFailed, UserError, counted, read_json, require_place
from stgan.commands import command_line
from stgan.config import SETTING

# Of the paper's tables: the whole test split of CelebA.
PAPER_SHEETS, PAPER_SIZE, PAPER_INTENSITY = 19962, 128, 2


def name_report(folder):
    """Say how to sum up an experiment, if the folder is that of one."""
    if os.path.exists(os.path.join(folder, SETTING)):
        path = os.path.relpath(folder)
        path = path if '/' in path else os.path.join(os.curdir, path)
        print(f'to sum up: {command_line("scripts/report.py", f"--experiment_name={path}")}')


def number_in_words(value):
    """A short number; 'unknown' for None."""
    return 'unknown' if value is None else f'{value:g}'


def conditions(folder):
    """What a report says of the sheets of a `SheetFolder` beside their number."""
    said = OrderedDict((name, folder.settings[name]) for name in ('checkpoint', 'precision')
                       if name in folder.settings)
    return OrderedDict(img_size=folder.img_size, test_int=folder.intensity,
                       unreadable_images=len(folder.left_out), **said)


def unlike_paper(images, img_size, intensity):
    """In which conditions figures of sheets are unlike the paper's, a list in words.

    Args:
        images: sheets; intensity: of single edits; None: unknown.
    """
    found = []
    if images != PAPER_SHEETS:
        found.append(f'{counted(images, "sheet")} instead of {PAPER_SHEETS}')
    if img_size != PAPER_SIZE:
        found.append(f'{img_size}x{img_size} pixels instead of {PAPER_SIZE}x{PAPER_SIZE}')
    if intensity != PAPER_INTENSITY:
        found.append(f'{number_in_words(intensity)} intensity instead of {PAPER_INTENSITY}')
    return found


def print_conditions(folder, unlike):
    """Print what a reader of figures beside the paper's has to know.

    Args:
        unlike: conditions that differ from the paper's, in words.
    """
    if folder.left_out:
        print(f'{counted(len(folder.left_out), "unusable image")} of the test without a sheet '
              f'({", ".join(image for image, _ in list(folder.left_out.values())[:5])})')
    print('not comparable with the paper: ' + '; '.join(unlike) if unlike else
          'number of sheets, size and intensity are those of the paper')


def report_path(folder, output_dir, name):
    """Where a command writes its report on the sheets of a `SheetFolder`.

    Args:
        output_dir: folder of the report; '': the one that holds the folder of the sheets.
        name: of the report, a JSON file.

    Raises:
        UserError: the report of other sheets is there.
    """
    path = os.path.join(output_dir or os.path.dirname(os.path.abspath(folder.path)), name)
    require_place(os.path.dirname(path), '--output_dir')
    try:
        of = read_json(path).get('sheets')
    except UserError:    # none, or a damaged one
        of = None
    if isinstance(of, str) and of != sheets_in_report(folder, path):
        raise UserError(f'{path}: is the report on the sheets in {of[:200]}; name another folder '
                        'with --output_dir')
    return path


@contextlib.contextmanager
def report_errors():
    """Context of writing a report: what fails there names the way out of a read-only folder."""
    try:
        yield
    except RunFailed as error:
        raise RunFailed(f'{error}, or name another folder with --output_dir') from None


def sheets_in_report(folder, path):
    """How the report at `path` names a `SheetFolder`: as seen from there, as both may be moved."""
    return os.path.relpath(os.path.abspath(folder.path), os.path.dirname(os.path.abspath(path)))
