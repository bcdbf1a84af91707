"""The demo's commands: one after another, and ended together."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

# Runs two commands of a checkout that is the working directory.
DEMO = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pylib import run_command
from scripts import demo
demo.ROOT = os.getcwd()
run_command(lambda: demo.run_all(['first.py', 'second.py']))
"""
FIRST = """
import sys, time
sys.path.insert(0, {root!r})
import pylib
with pylib.StopRequest() as stop:
    open('ready', 'w').close()
    print('ready', flush=True)
    while not stop.requested:
        time.sleep(.01)
    time.sleep(1)
open('saved', 'w').close()
raise SystemExit(128 + stop.signum)
"""


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_training_save_and_ends_the_demo(tmp_path, signum):
    """subprocess.call() kills its child a quarter of a second after Ctrl-C."""
    (tmp_path / 'first.py').write_text(FIRST.format(root=str(ROOT)))
    (tmp_path / 'second.py').write_text('open("went_on", "w").close()')
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, '-c', DEMO, str(ROOT)], cwd=str(tmp_path),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        while process.stdout.readline() != 'ready\n':
            assert process.poll() is None
        process.send_signal(signum)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert err.splitlines()[-1].startswith(f'error: {signum.name}: the command has ended')
    assert (tmp_path / 'saved').exists() and not (tmp_path / 'went_on').exists()
