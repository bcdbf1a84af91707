"""How far a command has come: a bar on a terminal, a line a minute in a log file."""

import sys

from tqdm import tqdm

LOG_INTERVAL = 60    # seconds


class _Lines:
    """Standard error as tqdm is to see it in a log: no returns to the start of a line."""

    @staticmethod
    def write(text):
        """Write a state of the bar as a line of its own, and nothing for a line wiped out."""
        text = text.strip()
        if text:
            sys.stderr.write(text + '\n')

    @staticmethod
    def flush():
        """Show what was written."""
        sys.stderr.flush()


def progress(items=None, **options):
    """A tqdm bar on standard error. Where that is no terminal, a line a minute and one at the end;
    nothing of what takes less than a minute.

    Args:
        options: of tqdm, such as total and unit.
    """
    if not sys.stderr.isatty():
        # No longest interval: tqdm's monitor would print more often.
        options.update(file=_Lines, mininterval=LOG_INTERVAL, delay=LOG_INTERVAL, miniters=1,
                       maxinterval=float('inf'), ascii=True)
    return tqdm(items, dynamic_ncols=True, **options)
