"""One writer at a time in a folder."""

import json
import os
import signal
import subprocess
import sys

import pytest

import pylib
from pylib import FolderLock

HOLD = ('import sys, pylib\n'
        'with pylib.FolderLock(sys.argv[1]):\n'
        '    print("held", flush=True)\n'
        '    sys.stdin.read()\n')


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path / 'run'."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path / 'run')],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               cwd=os.path.dirname(pylib.__path__[0]))
    assert process.stdout.readline() == b'held\n'
    yield process
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()


def test_another_process_is_refused_and_the_owner_named(tmp_path, holder):
    owner = f'run: in use by process {holder.pid} on .* since '
    with pytest.raises(pylib.UserError, match=owner), FolderLock(str(tmp_path / 'run')):
        pass
    holder.stdin.close()
    assert holder.wait(10) == 0
    with FolderLock(str(tmp_path / 'run')):
        pass


def test_a_lock_left_by_a_killed_process_is_taken_over(tmp_path, holder, capfd):
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    assert (tmp_path / 'run' / 'in_use.lock').exists()
    with FolderLock(str(tmp_path / 'run')):
        owner = json.loads((tmp_path / 'run' / 'in_use.lock').read_text())
        assert owner['pid'] == os.getpid()
    assert (f'in_use.lock: taken over, process {holder.pid} on {owner["host"]} since'
            in capfd.readouterr().err)
    assert not (tmp_path / 'run' / 'in_use.lock').exists()


def test_a_damaged_lock_file_is_no_obstacle(tmp_path, capfd):
    (tmp_path / 'in_use.lock').write_bytes(b'\xff{')
    with FolderLock(str(tmp_path)):
        pass
    assert 'taken over, an unknown process' in capfd.readouterr().err


def test_a_folder_made_for_the_lock_goes_with_it_if_empty(tmp_path):
    for name in ('empty', 'used'):
        with FolderLock(str(tmp_path / name)):
            if name == 'used':
                (tmp_path / name / 'x').write_text('')
    assert os.listdir(str(tmp_path)) == ['used']


def test_so_do_the_folders_around_it(tmp_path):
    with FolderLock(str(tmp_path / 'output' / 'run')):
        pass
    assert not list(tmp_path.iterdir())
    with FolderLock(str(tmp_path / 'output' / 'run')):
        (tmp_path / 'output' / 'note.txt').write_text('')
    assert os.listdir(str(tmp_path / 'output')) == ['note.txt']


def test_a_read_only_folder_is_named(read_only):
    with pytest.raises(pylib.RunFailed, match='cannot be written to .Permission denied'), \
            FolderLock(str(read_only)):
        pass
