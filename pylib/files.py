"""Files that are either whole or absent."""

import contextlib
import json
import os
import shutil

from pylib.command import RunFailed, UserError

# Names of files and folders that are being written begin with this; a killed process leaves them.
UNFINISHED = '.writing-'


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary name keeps the extension, so image writers see the format they expect.

    Raises:
        RunFailed: disk full, no permission and the like; what was at `path` is still there.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise RunFailed(f'{path}: could not be written (a device or pipe, which a file would '
                        'replace); name another file')
    folder, name = os.path.split(os.path.abspath(path))
    # No longer than the name itself may be: of a long one only the end.
    end = os.fsdecode(os.fsencode(name)[-100:])
    temporary = os.path.join(folder, f'{UNFINISHED}{os.urandom(4).hex()}-{end}')
    with _named_errors(path):
        os.makedirs(folder, exist_ok=True)
        # By open(), not tempfile: the system then gives it the permissions of any new file. Python
        # can only tell which these are by changing the umask, which other threads would notice.
        open(temporary, 'xb').close()
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


@contextlib.contextmanager
def atomic_folder(path):
    """Yield a new folder beside `path`; rename it to `path` when the block ends well.

    Raises:
        RunFailed: disk full, no permission, or a folder that is not empty is there, and the like.
    """
    above, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(above, f'{UNFINISHED}{os.urandom(4).hex()}-{name}')
    with _named_errors(path):
        os.makedirs(temporary)
        try:
            yield temporary
            for folder, _, names in os.walk(temporary):
                for each in (*names, '.'):
                    sync(os.path.join(folder, each))
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def require_new_folder(folder, flag):
    """Raise a UserError unless a folder is empty or can be made, see `require_place`."""
    require_place(folder, flag)
    if os.path.isdir(folder) and os.listdir(folder):
        raise UserError(f'{folder}: is there already; name another folder with {flag}')


def require_place(folder, flag):
    """Raise a UserError if a folder cannot be made because a file is in its place, or above it.

    Args:
        flag: names another folder.
    """
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise UserError(f'{folder}: {place} is a file; name another folder with {flag}')


@contextlib.contextmanager
def _named_errors(path):
    """Turn errors of the system, which lack the path when a disk is full, into a RunFailed."""
    try:
        yield
    except OSError as error:
        raise RunFailed(f'{path}: could not be written ({error.strerror or error}); free or repair '
                        'the disk, then repeat the command') from None


def sync(path):
    """Wait until a file's content, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(*folders):
    """Remove what killed processes were writing in the folders. Nothing else may be writing there.
    """
    for folder in folders:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if name.startswith(UNFINISHED):
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def write_text(path, text):
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary, \
            open(temporary, 'w', encoding='utf-8', newline='') as stream:
        stream.write(text)


def write_json(path, value):
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=4) + '\n')


def read_json(path):
    """Return the object in a JSON file.

    Raises:
        UserError: the file is missing, unreadable, or holds something else than a JSON object.
    """
    try:
        with open(path, encoding='utf-8-sig') as stream:    # Windows' editors put a mark first
            value = json.load(stream)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: not JSON (not even UTF-8 text)') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{path}:{error.lineno}: not JSON ({error.msg})') from None
    except (ValueError, RecursionError):
        raise UserError(f'{path}: not JSON that we read (a number of thousands of digits, or lists '
                        'within thousands of lists)') from None
    if not isinstance(value, dict):
        raise UserError(f'{path}: expected a JSON object')
    return value


def append_json_line(stream, record):
    """Append one JSON record to an open text file and flush it, so that readers can follow.

    Raises:
        RunFailed: it cannot be written.
    """
    with _named_errors(stream.name):
        stream.write(json.dumps(record) + '\n')
        stream.flush()


def cut_json_lines(path, is_kept):
    """Cut a JSON-lines file off before the first record that is not kept, or line that is none.

    The file is read line by line, as it may be larger than the memory; a missing one is left so.

    Args:
        is_kept: function from a record to whether it stays.
    """
    if not os.path.exists(path):
        return
    with _named_errors(path), open(path, 'r+b') as stream:
        end = 0
        for line in stream:
            record = _json_object(line)
            if record is None or not is_kept(record):
                break
            end += len(line)
        stream.truncate(end)


def read_json_lines(path):
    """Return the records of a JSON-lines file up to the first line that is none.

    The last line may have been cut short by a crash.
    """
    records = []
    if not os.path.exists(path):
        return records
    with open(path, 'rb') as stream:
        for line in stream:
            record = _json_object(line)
            if record is None:
                break
            records.append(record)
    return records


def _json_object(line):
    """The JSON object in a whole line of bytes; None if it holds something else."""
    try:
        record = json.loads(line.decode()) if line.endswith(b'\n') else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
