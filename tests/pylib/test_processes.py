"""Work on several cores, and how many there are."""

import math
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

import pylib
from pylib.processes import children_of, cpu_quota, is_running


@pytest.mark.parametrize('processes', [1, 2, None])
def test_parallel_map_keeps_the_order(processes):
    assert list(pylib.parallel_map(abs, range(-20, 0), processes)) == list(range(20, 0, -1))


IN_WORKERS = """
import pylib
from pylib.command import in_command
def is_tuned(item):
    return in_command()
def main():
    print(*pylib.parallel_map(is_tuned, range(2), 2))
if __name__ == "__main__":
    print(*pylib.parallel_map(is_tuned, range(2), 2))
    pylib.run_command(main)
"""


def test_workers_of_a_command_are_tuned_as_it_is(tmp_path):
    (tmp_path / 'x.py').write_text(IN_WORKERS)
    done = subprocess.run([sys.executable, str(tmp_path / 'x.py')], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.stdout == 'False False\nTrue True\n', done.stderr


SLOW = '''
import os
import time
from pylib import parallel_map, run_command

def slow(item):
    os.write(1, b'%9d' % os.getpid())
    time.sleep(1)
    return item

def main():
    print(*parallel_map(slow, range(2), 2, 1))

if __name__ == '__main__':
    run_command(main)
'''


def test_ctrl_c_is_not_for_workers(tmp_path):
    """A terminal sends it to all; the process above ends them, and they say nothing themselves."""
    (tmp_path / 'slow.py').write_text(SLOW)
    with subprocess.Popen([sys.executable, 'slow.py'], cwd=str(tmp_path), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          start_new_session=True) as process:
        try:
            for _ in range(2):
                os.kill(int(process.stdout.read(9)), signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0 and out == b'0 1\n' and err == b''


def test_parallel_map_of_nothing():
    assert list(pylib.parallel_map(abs, [])) == []


VERSION_2 = '0::/batch/job\n'
VERSION_1 = '12:memory:/batch\n4:cpu,cpuacct:/batch/job\n3:cpuset:/\n1:name=systemd:/x\n0::/x\n'


@pytest.mark.parametrize('groups, files, cores', [
    (VERSION_2, {'batch/job/cpu.max': '150000 100000\n'}, 1.5),
    (VERSION_2, {'batch/job/cpu.max': 'max 100000\n', 'batch/cpu.max': '50000 25000\n'}, 2),
    (VERSION_2, {'batch/job/cpu.max': '400000 100000\n', 'batch/cpu.max': '100000 100000\n'}, 1),
    (VERSION_2, {'batch/job/cpu.max': 'max 100000\n'}, math.inf),
    (VERSION_2, {}, math.inf),
    # As a container sees it.
    ('0::/\n', {'cpu.max': '300000 100000\n'}, 3),
    (VERSION_1, {'cpu/batch/job/cpu.cfs_quota_us': '250000\n',
                 'cpu/batch/job/cpu.cfs_period_us': '100000\n'}, 2.5),
    (VERSION_1, {'cpu/batch/job/cpu.cfs_quota_us': '-1\n',
                 'cpu/batch/job/cpu.cfs_period_us': '100000\n',
                 'cpu/batch/cpu.cfs_quota_us': '10000\n',
                 'cpu/batch/cpu.cfs_period_us': '20000\n'}, .5),
    (VERSION_1, {'cpu/cpu.cfs_quota_us': '700000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 7),
    (VERSION_1, {'cpu/batch/job/cpu.cfs_quota_us': '-1\n',
                 'cpu/batch/job/cpu.cfs_period_us': '100000\n'}, math.inf),
    ('', {}, math.inf)])
def test_quotas_of_control_groups(tmp_path, groups, files, cores):
    """Both versions; files as the kernel's documentation describes them."""
    (tmp_path / 'cgroup').write_text(groups)
    for name, content in files.items():
        path = tmp_path / 'mounts' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert cpu_quota(str(tmp_path / 'cgroup'), str(tmp_path / 'mounts')) == cores


def test_other_systems_have_no_quota(tmp_path):
    assert cpu_quota(str(tmp_path / 'none'), str(tmp_path)) == math.inf


@pytest.mark.parametrize('quota, cores', [(math.inf, 8), (8, 8), (99, 8), (2.5, 3), (.2, 1)])
def test_usable_cores_are_limited_by_the_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(pylib.processes, 'cpu_quota', lambda: quota)
    assert pylib.usable_cores() == cores


def test_usable_cores_are_those_named(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {5}, raising=False)
    assert pylib.usable_cores() == 1


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_processes_are_found_by_who_started_them():
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid()) and is_running(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)    # a zombie
        assert child.pid not in children_of(os.getpid()) and not is_running(child.pid)
    assert not is_running(child.pid) and not children_of(child.pid)
