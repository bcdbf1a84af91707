"""Signals: the same one twice, and those for a command that another one has started."""

import os
import signal
import subprocess
import sys
import time

import pytest

import pylib

ROOT = os.path.dirname(pylib.__path__[0])
# Marks that it was told to stop, in its own time.
PATIENT = '''
import sys, time, pylib
with pylib.StopRequest() as stop:
    print('ready', flush=True)
    while not stop.requested:
        time.sleep(.01)
    time.sleep(1.5)
print('saved', flush=True)
sys.exit(128 + stop.signum)
'''


def python(code, **options):
    """A Python process in which SIGINT is not ignored, as it is in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, universal_newlines=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_repeat_within_a_second_is_the_same_signal(signum):
    """As `timeout` sends it: to its child, and to the group a moment later."""
    with python(PATIENT) as process:
        assert process.stdout.readline() == 'ready\n'
        for wait in (.005, .2, .2):
            process.send_signal(signum)
            time.sleep(wait)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + signum, 'saved\n', '')


def test_timeout_lets_a_run_save():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = subprocess.run(['timeout', '2', sys.executable, '-c', PATIENT], cwd=ROOT,
                          stdout=subprocess.PIPE, text=True, timeout=30)
    signal.signal(signal.SIGINT, before)
    assert done.stdout == 'ready\nsaved\n'


@pytest.mark.parametrize('native', [False, True], ids=['Python', 'native code'])
def test_the_same_signal_later_is_a_second_one(native):
    code = ('import hashlib, time, pylib\n'
            'with pylib.StopRequest():\n'
            '    print("ready", flush=True)\n'
            + ('    hashlib.pbkdf2_hmac("sha256", b"", b"", 10 ** 9)\n' if native else
               '    time.sleep(60)\n'))
    with python(code) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        time.sleep(1.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


PARENT = f'''
import sys, pylib
def main():
    with pylib.child([sys.executable, '-c', {PATIENT!r}]) as process:
        pass
    print('went on with', process.returncode, flush=True)
pylib.run_command(main)
'''


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('whom', ['parent', 'group', 'twice'])
def test_a_parent_waits_for_its_child(signum, whom):
    with python(PARENT, start_new_session=True) as process:
        assert process.stdout.readline() == 'ready\n'
        for _ in range(1 + (whom == 'twice')):
            (os.killpg if whom == 'group' else os.kill)(process.pid, signum)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + signum, 'saved\n')
    assert err == (f'error: {signum.name}: the command has ended, with status {128 + signum}\n')


def test_a_later_signal_is_passed_on_too():
    with python(PARENT) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, '')


def test_a_child_left_alone():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pylib.child([sys.executable, '-c', 'raise SystemExit(7)']) as process:
        pass
    assert process.returncode == 7
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    with pytest.raises(FileNotFoundError), pylib.child(['/no/such/command']):
        pass
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
