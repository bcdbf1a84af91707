"""What every command shares: one-line errors and honest exit statuses."""

import argparse
import atexit
import gc
import logging
import os
import re
import shutil
import sys
import textwrap
import warnings

from pylib.memory import keep_freed_memory


class CommandError(Exception):
    """Ends a command with one line on standard error and `exit_status`; never a traceback."""

    exit_status = 1


class UserError(CommandError):
    """The input is at fault: the message names the file, line or flag and the way out."""

    exit_status = 2


class RunFailed(CommandError):
    """The input was fine, the run was not (for example a loss that is not finite)."""


class NotFinite(RunFailed):
    """A loss or a weight is NaN or infinite."""


class _HelpFormatter(argparse.HelpFormatter):
    """Short usage, two columns, defaults only where they tell something."""

    def __init__(self, prog):
        width = min(shutil.get_terminal_size().columns, 100) - 2
        super().__init__(prog, max_help_position=28, width=width)

    def add_usage(self, usage, actions, groups, prefix=None):
        """Name what has to be given; [options] stands for the rest."""
        needed = {id(action) for group in groups if group.required
                  for action in group._group_actions}
        kept = [action for action in actions
                if action.required or not action.option_strings or id(action) in needed]
        if len(kept) < len(actions):
            kept.append(argparse.Action(['options'], dest='', nargs=0))
        super().add_usage(usage, kept, [group for group in groups if group.required], prefix)

    def _fill_text(self, text, width, indent):
        """Wrap paragraphs, but leave blocks with indented lines (tables, commands) as they are."""
        blocks = [block if re.search('^ ', block, re.M) else
                  super(_HelpFormatter, self)._fill_text(block, width, indent)
                  for block in text.split('\n\n')]
        return '\n\n'.join(blocks)

    def _format_args(self, action, default_metavar):
        if action.nargs not in ('+', '*'):
            return super()._format_args(action, default_metavar)
        words = f'{self._metavar_formatter(action, default_metavar)(1)[0]} ...'
        return words if action.nargs == '+' else f'[{words}]'

    def _get_default_metavar_for_optional(self, action):
        return {int: 'N', float: 'X'}.get(action.type) or action.dest.split('_')[-1].upper()

    def _get_help_string(self, action):
        text, default = action.help or '', action.default
        if action.option_strings and action.required:
            return f'{text} (required)'
        if ('default' in text or default in (None, argparse.SUPPRESS, '', (), []) or
                default is False):
            return text
        values = default if isinstance(default, (tuple, list)) else [default]
        shown = ' '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)
        return f'{text} (default: {shown.replace("%", "%%")})'


PROGRAM = 'STGAN_PROGRAM'    # environment: what a command is called in its help, if not as its file


class ArgumentParser(argparse.ArgumentParser):
    """argparse with help that is short to read and errors that take a single line.

    Args:
        description: a command's `__doc__`. What follows a line `Examples:` in it, indented, is
            shown at the end of the help, as it is.
    """

    def __init__(self, description='', **kwargs):
        kwargs.setdefault('formatter_class', _HelpFormatter)
        # Abbreviations would turn a misspelt flag into another one without a word.
        kwargs.setdefault('allow_abbrev', False)
        kwargs.setdefault('prog', os.environ.pop(PROGRAM, None))
        text, _, examples = description.partition('\nExamples:\n')
        if examples:
            kwargs['epilog'] = 'examples:\n' + textwrap.indent(textwrap.dedent(examples), '  ')
        super().__init__(description=text.strip(), **kwargs)
        self._optionals.title = 'options'    # 'optional arguments' before Python 3.10

    def error(self, message):
        self.exit(2, f'{self.prog}: error: {printable(message)} (see --help)\n')


class Interrupted(CommandError):
    """A signal asked a long run to stop, and it did so in good order."""

    def __init__(self, message, exit_status):
        super().__init__(message)
        self.exit_status = exit_status


def counted(number, noun):
    """A number of things in words: '1 image', '2 images'."""
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def printable(text):
    """Return `text`, which may be a file's name, without characters that cannot be written."""
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else char.encode('unicode_escape').decode()
                   for char in text)


def warn(message):
    """Print one warning line on standard error."""
    print(f'warning: {printable(str(message))}', file=sys.stderr, flush=True)


_tuned = False


def in_command():
    """Whether this process is that of a command, `run_command`'s, and not a library user's."""
    return _tuned


def run_command(main):
    """Call `main()` and end the process: 0, 2 for bad input, 130 and 143 for signals, else 1.

    Other exceptions are bugs and keep their traceback (Python exits with 1 then). The process is
    tuned for long runs, before main() imports what is slow to import.
    """
    tune_process()
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:    # closed by who has started this process
            setattr(sys, name, open(os.devnull, 'w'))    # noqa: SIM115  (till the end)
    try:
        main()
    except CommandError as error:
        print(f'error: {printable(str(error))}', file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr, flush=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) is gone; keep Python quiet about the flush at exit.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        # Disk full, no permission: the system's message names the file.
        print(f'error: {error}', file=sys.stderr, flush=True)
        sys.exit(1)


def tune_process():
    """Set what holds for the whole process; docs/performance.md has the gains.

    Library code never does: its process may be somebody else's.
    """
    global _tuned    # noqa: PLW0603  (as there is one process)
    if _tuned:
        return
    _tuned = True
    # Before there are threads, each of which would keep a heap of its own.
    keep_freed_memory()
    # TensorFlow's modules are some 400,000 objects that live as long as the process, graphs are
    # thousands more: the collector looks for cycles in them less often, and not at the end.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    # TensorFlow's chatter would bury the start banner; what the user's environment says wins.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # What TensorFlow opens by itself (tf.data does) would take all memory of a GPU, whatever the
    # sessions that come later are told.
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    # Pillow's, of images whose damaged metadata counts as none, see `imlib.orientation`.
    warnings.filterwarnings('ignore', 'Corrupt EXIF data', UserWarning)
