"""The documentation's commands do what it shows, in its order."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT


def blocks(page):
    """[(command, output shown)] of the console blocks of a page."""
    found = []
    for block in re.findall(r'```console\n(.*?)```', (ROOT / page).read_text('utf-8'), re.S):
        for part in re.split(r'^\$ ', block, flags=re.M)[1:]:
            command, _, output = part.partition('\n')
            found.append((command, output))
    return found


def words(text):
    """What has to be there whatever the numbers, which differ between machines: the words."""
    return [word for word in re.findall(r'[A-Za-z_][\w/]*', text)
            if not re.search(r'result_|T\d', word)]


@pytest.mark.parametrize('page', ['docs/precision_tool.md'])
def test_commands_give_the_output_shown(tmp_path, page):
    assert len(blocks(page)) >= 4
    for command, output in blocks(page):
        program, *arguments = shlex.split(command)
        assert program == 'python'
        if arguments[0] != '-m':
            arguments[0] = str(ROOT / arguments[0])
        done = subprocess.run([sys.executable, *arguments], cwd=str(tmp_path), text=True,
                              env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True)
        assert done.returncode in (0, 1) and 'Traceback' not in done.stderr, done.stderr
        assert words(done.stdout) == words(output), command
