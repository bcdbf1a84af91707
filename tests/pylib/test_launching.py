"""Starting, watching and ending the processes of a job."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pylib import UserError, launching
from pylib.launching import Job, free_ports, plan
from pylib.processes import is_running

PLAN = {rank: {'TF_CONFIG': json.dumps({'task': {'index': rank}}), 'PLACE': f'place {rank}'}
        for rank in range(3)}
# What each process knows of itself.
RANK = '''
import json, os, sys, time
rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
'''


def job(code, make_plan=lambda: PLAN):
    return Job([sys.executable, '-c', RANK + textwrap.dedent(code)], make_plan)


def test_each_process_learns_its_place_and_its_output_is_marked(capfd):
    status = job('''
        print(os.environ["PLACE"], "x", sep="\\n")
        print("half\\rwhole", file=sys.stderr)
    ''').run()
    out, err = capfd.readouterr()
    assert status == 0
    assert sorted(out.splitlines()) == sorted(
        line for rank in range(3) for line in (f'[{rank}] x', f'[{rank}] place {rank}'))
    assert sorted(err.splitlines()) == ['[0] whole', '[1] whole', '[2] whole']


def test_only_this_machines_share_is_started(capfd):
    assert job('print(rank)', lambda: {rank: PLAN[rank] for rank in (1, 2)}).run() == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ['[1] 1', '[2] 2']


def test_when_one_is_killed_the_others_end_and_the_worst_status_is_passed_on(monkeypatch, capfd):
    """One of the others ends by itself, the other one hangs."""
    monkeypatch.setattr(launching, 'PATIENCE', 2)
    began = time.monotonic()
    status = job('''
        if rank == 0:
            os.kill(os.getpid(), 9)
        time.sleep(.3 if rank == 1 else 60)
        sys.exit(1)
    ''').run()
    assert status == 128 + 9 and time.monotonic() - began < 10
    err = capfd.readouterr().err
    assert 'launch: worker 0 (process ' in err and ') was ended by SIGKILL; ending' in err
    assert 'launch: killing worker 2, still running after 2 s' in err


def test_a_failed_job_is_started_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    failing = job('''
        open(f"{rank}", "a").write("x")
        sys.exit(rank == 1 and len(open("1").read()) < 3)
    ''')
    assert failing.run(restarts=5) == 0
    assert (tmp_path / '1').read_text() == 'xxx'
    err = capfd.readouterr().err
    assert err.count('launch: worker 1 (process ') == 2
    assert 'launch: restart 1 of 5' in err and 'launch: restart 2 of 5' in err


@pytest.mark.parametrize('status', [2, 130, 143])
def test_bad_input_and_signals_are_not_repeated(tmp_path, monkeypatch, status):
    monkeypatch.chdir(tmp_path)
    code = f'open(f"{{rank}}", "a").write("x"); sys.exit({status})'
    assert job(code).run(restarts=5) == status
    assert (tmp_path / '1').read_text() == 'x'


def script(tmp_path, body):
    """A launcher in a process of its own, whose workers write `<rank>` when they wait."""
    code = f'''
        import sys
        from pylib.launching import Job
        body = {RANK + textwrap.dedent(body)!r}
        plan = dict(enumerate({[PLAN[0], PLAN[1]]!r}))
        print(Job([sys.executable, "-c", body], lambda: plan).run(3))
    '''
    launcher = subprocess.Popen([sys.executable, '-c', textwrap.dedent(code)], cwd=str(tmp_path),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=dict(os.environ, PYTHONPATH=os.getcwd()))
    deadline = time.monotonic() + 20
    while not all((tmp_path / rank).exists() for rank in '01') and time.monotonic() < deadline:
        time.sleep(.05)
    return launcher


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_signals_are_handed_on_once(tmp_path, signum):
    launcher = script(tmp_path, f'''
        import signal
        def stop(*arguments):
            print("asked", flush=True)
            time.sleep(.5)
            sys.exit({128 + signum})
        signal.signal({int(signum)}, stop)
        open(f"{{rank}}", "w").close()
        time.sleep(60)
    ''')
    launcher.send_signal(signum)
    launcher.send_signal(signum)    # as a terminal and a parent do
    out, err = launcher.communicate(timeout=20)
    assert sorted(out.decode().splitlines()) == sorted(
        ['[0] asked', '[1] asked', str(128 + signum)])
    assert not err    # nothing has failed, and nothing is started again


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs prctl')
def test_nothing_is_left_of_a_killed_launcher(tmp_path):
    launcher = script(tmp_path, '''
        open(f"{rank}", "w").write(str(os.getpid()))
        time.sleep(60)
    ''')
    launcher.kill()
    launcher.communicate(timeout=20)
    pids = [int((tmp_path / rank).read_text()) for rank in '01']
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(.05)
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs a device that is always full')
def test_output_that_nobody_takes_ends_the_job_without_a_traceback(tmp_path):
    for target, said in (('| head -n 1; exit ${PIPESTATUS[0]}', ''), (
            '> /dev/full', 'launch: cannot write output (No space left on device)\n')):
        launcher = f'''{sys.executable} -c '
import sys
from pylib import run_command
from pylib.launching import Job, plan
code = """
import sys, time
for number in range(600):
    try:
        print(number)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    time.sleep(.05)
"""
run_command(lambda: sys.exit(Job([sys.executable, "-c", code], lambda: plan(1)).run()))
' '''
        done = subprocess.run(['bash', '-c', launcher + target], stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, text=True, timeout=20)
        assert done.returncode == 1
        lines = done.stderr.splitlines(True)
        assert lines[-1].startswith('launch: worker 0 (process '), done.stderr
        assert ''.join(lines[:-1]) == said


def test_a_command_that_cannot_be_started_is_named():
    with pytest.raises(UserError, match='^/nowhere/python: No such file or directory$'):
        Job(['/nowhere/python'], lambda: PLAN).run()


def test_plans():
    def described(environments):
        return {rank: json.loads(variables['TF_CONFIG'])
                for rank, variables in environments.items()}
    alone = described(plan(3))
    cluster = alone[0]['cluster']
    assert alone == {rank: {'cluster': cluster, 'task': {'type': 'worker', 'index': rank}}
                     for rank in range(3)}
    assert list(cluster) == ['worker'] and len(set(cluster['worker'])) == 3
    assert all(address.startswith('localhost:') for address in cluster['worker'])
    addresses = ['far.invalid:500', 'far.invalid:501', '127.0.0.1:500', '127.0.0.1:501',
                 '127.0.0.1:502']
    second = described(plan(3, 'far.invalid:2,127.0.0.1', 500))
    assert list(second) == [2, 3, 4] and second[4] == {
        'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': 4}}
    first = described(plan(3, 'far.invalid:2,127.0.0.1', 500, node_rank=0))
    assert list(first) == [0, 1] and first[0]['cluster'] == second[4]['cluster']


@pytest.mark.parametrize('hosts, node_rank, said', [
    ('far.invalid:2', None, '--hosts far.invalid:2: this machine, '),
    ('127.0.0.1:x', None, '--hosts 127.0.0.1:x: expected a name and a number'),
    ('127.0.0.1:0', None, '--hosts 127.0.0.1:0: expected a name and a number'),
    ('127.0.0.1:²', None, '--hosts 127.0.0.1:²: expected a name and a number'),
    ('127.0.0.1:1025', None, '--hosts 127.0.0.1:1025: expected a name and a number of processes '
     'up to 1024'),
    ('a,,b', 0, '--hosts : expected a name and a number'),
    ('a:1,a:2', 0, '--hosts a:1,a:2: a machine is named twice'),
    ('a:1,b:2', 2, '--node_rank 2: --hosts names 2 hosts, counted from 0')])
def test_impossible_plans_are_named(hosts, node_rank, said):
    with pytest.raises(UserError) as error:
        plan(2, hosts, 500, node_rank)
    assert str(error.value).startswith(said)


def test_free_ports_are_free_and_different():
    assert len(set(free_ports(20))) == 20
