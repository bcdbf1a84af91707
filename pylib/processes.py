"""Work on several cores."""

import math
import multiprocessing
import os
import signal

from pylib.command import in_command, tune_process


def usable_cores():
    """The cores this process may use, which containers and batch systems restrict.

    They do so by naming the cores or by a quota of processor time, of which a part of a core counts
    as one.
    """
    # macOS has neither.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return max(1, math.ceil(min(cores or 1, cpu_quota())))


def cpu_quota(groups='/proc/self/cgroup', root='/sys/fs/cgroup'):
    """The cores' worth of time that Linux control groups grant; infinite without a limit.

    Args:
        groups: file that names this process's groups; root: where their file systems are mounted.

    Source: cgroups(7) and the kernel's admin-guide/cgroup-v2.rst, sched-bwc.rst.
    """
    quota = math.inf
    for line in _content(groups).splitlines():
        _, controllers, group = line.split(':', 2)
        if not controllers:    # version 2
            folder, files = root, ['cpu.max']
        elif 'cpu' in controllers.split(','):
            folder, files = os.path.join(root, 'cpu'), ['cpu.cfs_quota_us', 'cpu.cfs_period_us']
        else:
            continue
        # The groups above limit it too. In a container its own group may be mounted as the highest.
        for part in ['', *group.strip('/').split('/')]:
            folder = os.path.join(folder, part)
            words = ' '.join(_content(os.path.join(folder, name)) for name in files).split()
            # Unlimited: 'max' in version 2, -1 in version 1.
            if len(words) == 2 and words[0].isdigit():
                quota = min(quota, int(words[0]) / int(words[1]))
    return quota


def children_of(parent):
    """Ids of the processes that a process has started and that have not ended; Linux only."""
    fields = {int(name): _status(name) for name in os.listdir('/proc') if name.isdigit()}
    return [pid for pid, (state, its_parent, *_) in fields.items()
            if its_parent == str(parent) and state not in ('', 'Z')]


def is_running(pid):
    """Whether a process is there that has not ended; Linux only.

    In a container nobody may wait for a process whose parent is gone, so that it stays a zombie.
    """
    return _status(pid)[0] not in ('', 'Z')


def _status(pid):
    """[state, parent, ...] of a process as in proc(5), each '' if there is none."""
    return _content(f'/proc/{pid}/stat').rpartition(')')[2].split() or ['', '']


def _content(path):
    """The text of a file of the system; none if there is no such file."""
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ''


def parallel_map(function, items, processes=None, chunksize=8):
    """Yield `function(item)` for each item, in order, from worker processes.

    Those of a command are tuned as its own process is.

    Args:
        function: a module-level function (workers import it by name).
        processes: number of workers; None takes all usable cores; 1 stays in this process.
        chunksize: items that a worker takes at once; 1 for items of uneven size.
    """
    items = list(items)
    processes = min(processes or usable_cores(), max(len(items), 1))
    if processes == 1:
        yield from map(function, items)
        return
    # 'spawn': forking a process that has TensorFlow's threads can hang.
    with multiprocessing.get_context('spawn').Pool(
            processes, _prepare_worker, [in_command()]) as pool:
        yield from pool.imap(function, items, chunksize)


def _prepare_worker(is_of_command):
    # A terminal's Ctrl-C reaches workers, too, but it is the process above that ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if is_of_command:
        tune_process()
