"""Progress: a bar for people, a line a minute for log files."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from conftest import ROOT

SCRIPT = '''
import time, pylib.bars
pylib.bars.LOG_INTERVAL = {interval}
began = time.monotonic()
bar = pylib.bars.progress(range(40), unit='sheet')
for _ in bar:
    time.sleep(.05)
    bar.write('said')
print(time.monotonic() - began)
'''


def run_script(interval, stderr=subprocess.PIPE):
    done = subprocess.run([sys.executable, '-c', SCRIPT.format(interval=interval)], text=True,
                          stdout=subprocess.PIPE, stderr=stderr, cwd=str(ROOT))
    *said, seconds = done.stdout.split()
    assert done.returncode == 0 and said == ['said'] * 40
    return float(seconds), done.stderr


def test_a_log_file_gets_a_line_an_interval():
    seconds, log = run_script(.4)
    lines = log.splitlines()
    # One at the end, too; a busy machine may skip some.
    assert 3 <= len(lines) <= seconds / .4 + 1 and '\r' not in log
    counts = [int(re.fullmatch(r' *\d+%\|.*\| (\d+)/40 .*sheet.*', line).group(1))
              for line in lines]
    assert counts == sorted(counts) and counts[0] < 20 and counts[-1] == 40


def test_what_takes_less_than_a_minute_is_not_logged():
    assert run_script(60)[1] == ''


def test_a_terminal_gets_a_bar():
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
    run_script(60, stderr=end)
    os.close(end)
    shown = b''
    with contextlib.suppress(OSError):    # at the end
        while True:
            shown += os.read(terminal, 4096)
    os.close(terminal)
    shown = shown.decode()
    assert shown.count('\r') > 3 and '40/40' in shown


def test_no_command_has_a_bar_of_its_own():
    files = [*ROOT.glob('*.py'), *(path for folder in (
        'stgan', 'tflib', 'imlib', 'pylib', 'att_classification', 'precision_tool', 'scripts')
        for path in (ROOT / folder).rglob('*.py'))]
    assert [path.name for path in files
            if re.search(r'^(?:from|import) tqdm', path.read_text('utf-8'), re.M)] == [
                'bars.py']
