"""What native code writes to standard error: dropped, unless it was the last."""

import os
import subprocess
import sys
import threading

import pytest

import pylib
from pylib import hidden_native_errors

ROOT = os.path.dirname(pylib.__path__[0])


def standard_error(code):
    """(exit status, standard error) of Python code."""
    done = subprocess.run([sys.executable, '-c', 'import ctypes, os, sys, threading\n'
                           'from pylib import hidden_native_errors\n' + code], cwd=ROOT,
                          stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def test_chatter_is_dropped_and_what_follows_is_not():
    code = ('for _ in range(2):\n'
            '    with hidden_native_errors:\n'
            '        os.write(2, b"chatter" * 10000)\n'
            'os.write(2, b"news")\n')
    assert standard_error(code) == (0, 'news')


@pytest.mark.parametrize('end, status', [
    ('ctypes.CDLL(None).abort()', -6), ('ctypes.string_at(0)', -11),
    ('threading.Thread(target=ctypes.CDLL(None).abort).start()\n    threading.Event().wait()', -6)])
def test_why_native_code_ended_the_process_is_heard(end, status):
    code = ('with hidden_native_errors:\n'
            '    os.write(2, b"Check failed: 1 == 2\\n")\n'
            f'    {end}\n')
    assert standard_error(code) == (status, 'Check failed: 1 == 2\n')


def test_exceptions_pass():
    status, err = standard_error('with hidden_native_errors:\n    raise ValueError("why")\n')
    assert status == 1 and err.endswith('ValueError: why\n')


def test_threads_that_overlap_leave_standard_error_as_it_was():
    """The first to enter leaves first."""
    before, entered, left = os.fstat(2), threading.Event(), threading.Event()

    def first():
        with hidden_native_errors:
            assert entered.wait(10)
        left.set()
    thread = threading.Thread(target=first)
    thread.start()
    with hidden_native_errors:
        entered.set()
        assert left.wait(10)
        assert os.fstat(2) != before    # still hidden
    thread.join()
    assert os.path.samestat(os.fstat(2), before)


def test_no_files_pile_up():
    counts = []
    for _ in range(3):
        with hidden_native_errors:
            pass
        counts.append(len(os.listdir('/dev/fd')))
    assert counts[0] == counts[2]


def test_a_watcher_that_was_ended_is_replaced():
    code = ('import time\n'
            'with hidden_native_errors: pass\n'
            'hidden_native_errors._watcher.kill(); time.sleep(.2)\n'
            'with hidden_native_errors: os.write(2, b"chatter")\n'
            'with hidden_native_errors:\n'
            '    hidden_native_errors._watcher.kill(); time.sleep(.2)\n'
            'with hidden_native_errors:\n'
            '    os.write(2, b"last words"); os.abort()\n')
    assert standard_error(code) == (-6, 'last words\n')
