"""Plain Python helpers that know nothing of images or TensorFlow."""

from pylib.command import (
    ArgumentParser,
    CommandError,
    Interrupted,
    RunFailed,
    UserError,
    run_command,
    warn,
)
from pylib.files import (
    append_json_line,
    atomic_path,
    read_json,
    read_json_lines,
    write_json,
    write_text,
)
from pylib.processes import parallel_map, usable_cores
from pylib.signals import StopRequest

__all__ = [
    'ArgumentParser', 'CommandError', 'Interrupted', 'RunFailed', 'StopRequest', 'UserError',
    'append_json_line', 'atomic_path', 'parallel_map', 'read_json', 'read_json_lines',
    'run_command', 'usable_cores', 'warn', 'write_json', 'write_text',
]
