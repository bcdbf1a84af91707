"""What every command shares: one-line errors and honest exit statuses."""

import argparse
import atexit
import gc
import logging
import os
import sys

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


class ArgumentParser(argparse.ArgumentParser):
    """argparse with defaults in the help and errors that take a single line."""

    def __init__(self, **kwargs):
        kwargs.setdefault('formatter_class', argparse.ArgumentDefaultsHelpFormatter)
        # Abbreviations would turn a misspelt flag into another one without a word.
        kwargs.setdefault('allow_abbrev', False)
        super().__init__(**kwargs)

    def error(self, message):
        self.exit(2, f'{self.prog}: error: {message} (see --help)\n')


class Interrupted(CommandError):
    """A signal asked a long run to stop, and it did so in good order."""

    def __init__(self, message, exit_status):
        super().__init__(message)
        self.exit_status = exit_status


def warn(message):
    """Print one warning line on standard error."""
    print(f'warning: {message}', file=sys.stderr, flush=True)


_tuned = False


def in_command():
    """Whether this process is that of a command, `run_command`'s, and not a library user's."""
    return _tuned


def run_command(main):
    """Call `main()` and end the process: 0, 2 for bad input, 130 and 143 for signals, else 1.

    Other exceptions are bugs and keep their traceback (Python exits with 1 then). The process is
    tuned for long runs, before main() imports what is slow to import.
    """
    _tune_process()
    try:
        main()
    except CommandError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
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


def _tune_process():
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
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
