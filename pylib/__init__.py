"""Plain Python helpers that know nothing of images or TensorFlow."""

from pylib.bars import progress
from pylib.command import (
    ArgumentParser,
    CommandError,
    Interrupted,
    NotFinite,
    RunFailed,
    UserError,
    counted,
    in_command,
    printable,
    run_command,
    warn,
)
from pylib.files import (
    UNFINISHED,
    append_json_line,
    atomic_folder,
    atomic_path,
    cut_json_lines,
    read_json,
    read_json_lines,
    remove_unfinished,
    require_new_folder,
    require_place,
    sync,
    write_json,
    write_text,
)
from pylib.locks import FolderLock
from pylib.memory import keep_freed_memory
from pylib.native import hidden_native_errors
from pylib.processes import parallel_map, usable_cores
from pylib.signals import StopRequest, child

__all__ = [
    'UNFINISHED', 'ArgumentParser', 'CommandError', 'FolderLock', 'Interrupted', 'NotFinite',
    'RunFailed', 'StopRequest', 'UserError', 'append_json_line', 'atomic_folder', 'atomic_path',
    'child', 'counted', 'cut_json_lines', 'hidden_native_errors', 'in_command',
    'keep_freed_memory', 'parallel_map', 'printable', 'progress', 'read_json', 'read_json_lines',
    'remove_unfinished', 'require_new_folder', 'require_place', 'run_command', 'sync',
    'usable_cores', 'warn', 'write_json', 'write_text',
]
