"""Start the workers of a training that several devices or machines share.

Each worker gets its place in TF_CONFIG, or on Ascend in HCCL's variables, and its output begins
with [its number]. When one fails the others end, too; SIGINT and SIGTERM go to all of them. The
exit status is the worst of theirs. With several machines the same command runs on each;
docs/distributed.md has more.

Examples:
    python scripts/launch.py -n 4 --restarts 3 -- train.py --dataroot DATAROOT
    python scripts/launch.py --hosts a:2,b:2 -- train.py --dataroot DATAROOT
    python scripts/launch.py --rank_table 8p.json -- train.py --dataroot DATAROOT
"""

import argparse
import functools
import os
import sys

if not __package__:
    import _checkout

from pylib import ArgumentParser, UserError, rank_table, run_command
from pylib.launching import MOST, Job, plan
from pylib.rendezvous import PORT


def command_of(words):
    """What to start for the words of a command line: Python for scripts and `stgan`'s commands."""
    from stgan import commands  # noqa: PLC0415

    name, *arguments = words
    if name in commands.COMMANDS and not os.path.exists(name):
        return [sys.executable, '-m', 'stgan', *words]
    if not name.endswith('.py'):
        return words
    here = name if os.path.exists(name) else os.path.join(commands.ROOT, name)
    if not os.path.exists(here):    # Python would say so in words of its own, in each worker
        raise UserError(f'{name}: No such file or directory')
    return [sys.executable, here, *arguments]


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('-n', '--nproc_per_node', type=int, default=1, metavar='N',
        help='workers on this machine, or on each of --hosts that names no number')
    add('--hosts', default='', metavar='A:N,B:N',
        help='machines and how many workers each has; default: this one')
    add('--node_rank', type=int, metavar='N',
        help='which of --hosts this machine is, from 0; default: found by its name and addresses')
    add('--port', type=int, default=PORT,
        help='with --hosts: of a machine\'s first worker, those that follow take the next ones')
    add('--rank_table', default='', metavar='FILE',
        help='Ascend: start the NPUs that this table of HCCL has for this machine, in place of '
             'the workers above; scripts/ascend/rank_table.py writes it')
    add('--server_id', metavar='ADDRESS',
        help='with --rank_table: as which it has this machine; default: found by its addresses')
    add('--restarts', type=int, default=0, metavar='N',
        help='start all workers again, at most so often, if one fails; they go on from the last '
             'checkpoint')
    add('command', nargs=argparse.REMAINDER, metavar='-- train.py ...',
        help='what each worker runs')
    args = parser.parse_args()
    words = args.command[1:] if args.command[:1] == ['--'] else args.command
    if not words:
        parser.error('nothing to start: give a command after --, such as -- train.py')
    for flag, value, least, most in (('-n', args.nproc_per_node, 1, MOST),
                                     ('--restarts', args.restarts, 0, 10 ** 6),
                                     ('--port', args.port, 1, 64000)):
        if not least <= value <= most:
            parser.error(f'{flag} {value}: expected {least} to {most}')
    if args.rank_table and args.hosts:
        parser.error('--rank_table: has the machines; take it without --hosts')
    if args.node_rank is not None and not args.hosts:
        parser.error(f'--node_rank {args.node_rank}: counts the machines of --hosts, which is '
                     'missing')
    if args.server_id is not None and not args.rank_table:
        parser.error(f'--server_id {args.server_id}: is one of --rank_table, which is missing')
    if args.rank_table:
        make_plan = functools.partial(rank_table.plan, args.rank_table, args.server_id)
    else:
        make_plan = functools.partial(plan, args.nproc_per_node, args.hosts, args.port,
                                      args.node_rank)
    job = Job(command_of(words), make_plan)
    sys.exit(job.run(args.restarts))


if __name__ == '__main__':
    run_command(main)
