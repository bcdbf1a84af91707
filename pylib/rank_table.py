"""Rank tables, which tell HCCL the Ascend NPUs that train together and their servers."""

import os
import re

from pylib import UserError, counted, read_json, write_json
from pylib.launching import is_here

HCCN = '/etc/hccn.conf'    # the addresses of a server's NPUs in the network between them
_ADDRESS = re.compile(r'\s*address_(\d+)\s*=\s*(\S+)\s*$')


def read(path):
    """[(server, device id)] of a rank table, by rank; both forms that are in use are known.

    Raises:
        UserError: it cannot be read, or is no rank table.
    """
    return [(server, device) for server, device, _ in _read(path)]


def _read(path):
    """[(server, device id, device's address)] by rank."""
    try:
        table = read_json(path)
        if 'group_list' in table:
            places = [(instance['rank_id'], instance['server_id'], device)
                      for group in table['group_list'] for instance in group['instance_list']
                      for device in instance['devices']]
        else:
            places = [(device['rank_id'], server['server_id'], device)
                      for server in table['server_list'] for device in server['device']]
        ranks = {int(rank): (server, int(device['device_id']), device['device_ip'])
                 for rank, server, device in places}
        if not places or sorted(ranks) != list(range(len(places))):
            raise ValueError
        npus = [ranks[rank] for rank in sorted(ranks)]
        if not all(isinstance(text, str) and text and device >= 0
                   for server, device, address in npus for text in (server, address)):
            raise ValueError
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise UserError(f'{path}: not a rank table whose ranks are 0, 1, ..., each with server_id, '
                        'device_id and device_ip; scripts/ascend/rank_table.py writes '
                        'one') from None
    _check_differ(npus, path)
    return npus


def _check_differ(npus, source):
    """Raise a UserError if an NPU, which takes one process, is there twice."""
    seen = set()
    for server, device, _ in npus:
        if (server, device) in seen:
            raise UserError(f'{source}: has device {device} of server {server} twice; name each '
                            'once')
        seen.add((server, device))


def of_server(server, devices=None, hccn=HCCN):
    """[(server, device id, device's address)] of a server's NPUs.

    Args:
        server: its address; devices: numbers of those to take; None: all.
        hccn: file that has a line `address_0=192.168.100.101` for each NPU.

    Raises:
        UserError: the file cannot be read, or lacks one of the devices.
    """
    try:
        with open(hccn) as stream:
            found = filter(None, map(_ADDRESS.match, stream))
            addresses = {int(match[1]): match[2] for match in found}
    except (OSError, UnicodeError) as error:
        raise UserError(f'{hccn}: {getattr(error, "strerror", None) or "not text"}; name with '
                        '--hccn_conf the file that has the addresses of the NPUs') from None
    devices = sorted(addresses) if devices is None else devices
    missing = [str(device) for device in devices if device not in addresses]
    if missing or not devices:
        what = f'address_{missing[0]}' if missing else 'address_0'
        raise UserError(f'{hccn}: has no line {what}=...; choose with --devices among '
                        f'{", ".join(map(str, sorted(addresses))) or "those of another file"}')
    npus = [(server, device, addresses[device]) for device in devices]
    _check_differ(npus, '--devices')
    return npus


def joined(paths):
    """The NPUs of several rank tables, one after the other; see `of_server`."""
    npus = [npu for path in paths for npu in _read(path)]
    _check_differ(npus, ', '.join(paths))
    servers = [server for server, _, _ in npus]
    for place, server in enumerate(servers):
        if place and server != servers[place - 1] and server in servers[:place]:
            raise UserError(f'server {server} is in two of the rank tables: {", ".join(paths)}')
    return npus


def write(path, npus):
    """Write a rank table of [(server, device id, device's address)].

    Raises:
        UserError: a folder is in its place; RunFailed: see `files.atomic_path`.
    """
    if os.path.isdir(path):
        raise UserError(f'{path}: is a folder; name a file for the rank table')
    servers = []
    for rank, (server, device, address) in enumerate(npus):
        if not servers or servers[-1]['server_id'] != server:
            servers.append({'server_id': server, 'device': []})
        servers[-1]['device'].append({'device_id': str(device), 'device_ip': address,
                                      'rank_id': str(rank)})
    write_json(path, {'version': '1.0', 'server_count': str(len(servers)),
                      'server_list': servers, 'status': 'completed'})
    print(f'{path}: {counted(len(npus), "NPU")} of {counted(len(servers), "server")}')


def plan(path, server=None):
    """{rank: {variable: value}} of this machine's processes, see `launching.Job`.

    Args:
        server: as which the table has this machine; None: found by its addresses.

    Raises:
        UserError: none are.
    """
    table = read(path)
    here = [(rank, device) for rank, (its_server, device) in enumerate(table)
            if (is_here(its_server) if server is None else its_server == server)]
    if not here:
        servers = list(dict.fromkeys(its_server for its_server, _ in table))
        raise UserError(f'{path}: this machine is none of its servers ({", ".join(servers)}); '
                        'name it with --server_id')
    # HCCL takes no training without a job's number, whatever it is.
    return {rank: {'RANK_TABLE_FILE': os.path.abspath(path), 'RANK_SIZE': str(len(table)),
                   'RANK_ID': str(rank), 'ASCEND_DEVICE_ID': str(device),
                   'JOB_ID': os.environ.get('JOB_ID') or '10087'}
            for rank, device in here}
