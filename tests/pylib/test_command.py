"""Exit statuses and one-line errors."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

import pylib


@pytest.mark.parametrize('error, status, line', [
    (pylib.UserError('a.txt:3: wrong'), 2, 'error: a.txt:3: wrong'),
    (pylib.RunFailed('loss not finite'), 1, 'error: loss not finite'),
    (pylib.UserError('a\nb\x1b[31m\udcff é.jpg: no'), 2, 'error: a\\nb\\x1b[31m\\udcff é.jpg: no'),
    (pylib.Interrupted('stopped', 143), 143, 'error: stopped'),
    (KeyboardInterrupt(), 130, 'interrupted'),
    (PermissionError(13, 'Permission denied', 'x'), 1, "error: [Errno 13] Permission denied: 'x'")])
def test_statuses(error, status, line, capsys):
    def main():
        raise error
    with pytest.raises(SystemExit) as end:
        pylib.run_command(main)
    assert end.value.code == status
    assert capsys.readouterr().err == line + '\n'


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        pylib.run_command(lambda: 1 / 0)


def test_output_may_be_closed():
    code = 'import pylib, sys; pylib.run_command(lambda: (print(1), sys.stdout.flush()))'
    done = subprocess.run(['sh', '-c', f"'{sys.executable}' -c '{code}' >&-"],
                          stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b'')


def test_warnings_take_one_line(capsys):
    pylib.warn(pylib.UserError('a\nb.jpg: no face'))
    assert capsys.readouterr().err == 'warning: a\\nb.jpg: no face\n'


def test_parser_errors_take_one_line(capsys):
    parser = pylib.ArgumentParser(prog='x.py')
    parser.add_argument('--number', type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--number', 'y'])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "x.py: error: argument --number: invalid int value: 'y' (see --help)\n")


def test_flags_are_not_abbreviated():
    parser = pylib.ArgumentParser()
    parser.add_argument('--number', type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(['--num', '1'])


HELP = """\
usage: x.py --name NAME (--left | --right) [options] FILE

What it does, in a paragraph that is long enough to be wrapped at the width of
a common terminal.

    a table    is left
    as it      is

positional arguments:
  FILE                      to read

options:
  -h, --help                show this help message and exit
  --name NAME               of the thing (required)
  --left
  --right
  --rate X                  100% of it (default: 0.0001)
  --counts N ...            of things (default: 1 2)
  --more [N ...]            default: none
  --batch_size N
  --empty WORD
  --switch
  --kind {one,other,another}
                            which (default: one)

examples:
  python x.py --name a \\
      --left
"""


def test_help(monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    parser = pylib.ArgumentParser(prog='x.py', description=(
        'What it does, in a paragraph that is long\nenough to be wrapped at the width of a common '
        'terminal.\n\n    a table    is left\n    as it      is\n\n'
        'Examples:\n    python x.py --name a \\\n        --left\n'))
    parser.add_argument('file', metavar='FILE', help='to read')
    parser.add_argument('--name', required=True, help='of the thing')
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument('--left', action='store_true')
    side.add_argument('--right', action='store_true')
    parser.add_argument('--rate', type=float, default=1e-4, help='100%% of it')
    parser.add_argument('--counts', type=int, nargs='+', default=(1, 2), help='of things')
    parser.add_argument('--more', type=int, nargs='*', default=[], help='default: none')
    parser.add_argument('--batch_size', type=int)
    parser.add_argument('--empty', default='', metavar='WORD')
    parser.add_argument('--switch', action='store_true')
    parser.add_argument('--kind', choices=('one', 'other', 'another'), default='one', help='which')
    parser.print_help()
    shown = capsys.readouterr().out
    assert shown == HELP
    assert max(map(len, shown.splitlines())) <= 80


def test_help_of_commands_within_a_command(capsys):
    parser = pylib.ArgumentParser(prog='x.py')
    parser.add_subparsers(metavar='COMMAND').add_parser('do').add_argument('--fast')
    with pytest.raises(SystemExit):
        parser.parse_args(['do', '--help'])
    assert capsys.readouterr().out.startswith('usage: x.py do [options]\n')


def test_a_second_signal_ends_at_once():
    code = ('import os, signal, pylib\n'
            'with pylib.StopRequest() as stop:\n'
            '    os.kill(os.getpid(), signal.SIGTERM)\n'
            '    assert stop.signum == signal.SIGTERM\n'
            '    os.kill(os.getpid(), signal.SIGINT)\n'
            'print("not reached")\n')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          cwd=pylib.__path__[0] + '/..')
    assert (done.returncode, done.stdout) == (130, '')


def test_a_second_signal_ends_a_long_native_call():
    """Python's own handlers wait for its end."""
    code = ('import hashlib, pylib\n'
            'with pylib.StopRequest():\n'
            '    print("go", flush=True)\n'
            '    hashlib.pbkdf2_hmac("sha256", b"", b"", 10 ** 9)\n')
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE,
                               cwd=pylib.__path__[0] + '/..')
    with process.stdout:
        process.stdout.readline()
        for signum in (signal.SIGTERM, signal.SIGINT):
            time.sleep(.2)
            assert process.poll() is None
            process.send_signal(signum)
        assert process.wait(10) == 130


def test_handlers_are_restored():
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with pylib.StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
    time.sleep(.1)
    assert threading.active_count() == threads


def test_a_time_limit_is_a_request():
    with pylib.StopRequest() as never, pylib.StopRequest(1e-9) as stop:
        assert stop.requested and stop.signum is None and not never.requested
    assert stop.interruption('saved').exit_status == 143


TUNED = """
import atexit, gc, os, warnings, pylib
def block_is_kept():
    block = bytearray(100 << 20)
    block[::4096] = bytes(len(block[::4096]))
    del block
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * 4096 > 100 << 20
def main():
    print(gc.get_threshold()[0], os.environ["TF_CPP_MIN_LOG_LEVEL"], block_is_kept(),
          pylib.in_command())
    warnings.warn("Corrupt EXIF data, as Pillow says")
    # Called after what the command registers.
    atexit.register(lambda: print(gc.get_freeze_count() > 1000))
before = gc.get_threshold()
assert not pylib.in_command() and not block_is_kept()
atexit.register(lambda: print(gc.get_freeze_count() > 1000))
pylib.run_command(main)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='memory of other systems')
def test_a_command_tunes_its_process():
    """And nothing does before it; at its end the collector has nothing to look through."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL='2')
    for level in ('2', '0'):
        environment['TF_CPP_MIN_LOG_LEVEL'] = level
        done = subprocess.run([sys.executable, '-c', TUNED], capture_output=True, text=True,
                              cwd=pylib.__path__[0] + '/..', env=environment)
        assert done.stdout.split() == ['50000', level, 'True', 'True', 'False', 'True'], done.stderr
        assert 'EXIF' not in done.stderr
