"""Write a rank table, which tells HCCL the Ascend NPUs that train together.

Run it on each server, which writes a table of its own NPUs; then join the tables, and copy the
result to all servers.

Examples:
    python scripts/ascend/rank_table.py a.json --server_id 10.0.0.1
    python scripts/ascend/rank_table.py all.json --join a.json b.json
"""

if not __package__:
    import _checkout

from pylib import ArgumentParser, rank_table, run_command


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('path', metavar='TABLE.json', help='the rank table to write')
    add('--server_id', metavar='ADDRESS', help='of this machine, as the other servers reach it')
    add('--devices', type=int, nargs='+', metavar='N', help='NPUs to take; default: all')
    add('--hccn_conf', default=rank_table.HCCN, metavar='FILE',
        help='has a line address_0=... for each NPU; hccn_tool -i 0 -ip -g tells it, too')
    add('--join', nargs='+', metavar='FILE', help='write one table of several')
    args = parser.parse_args()
    if args.join:
        npus = rank_table.joined(args.join)
    else:
        if not args.server_id:
            parser.error('--server_id is missing: the address of this machine')
        npus = rank_table.of_server(args.server_id, args.devices, args.hccn_conf)
    rank_table.write(args.path, npus)


if __name__ == '__main__':
    run_command(main)
