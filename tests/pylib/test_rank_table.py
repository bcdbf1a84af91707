"""HCCL's rank tables: written by hand here, as Huawei's documents and ModelZoo show them."""

import json

import pytest
from conftest import run_cli

from pylib import UserError, rank_table

# The form of CANN today, and the one before it.
NEW = """{
    "server_count": "2",
    "server_list": [
        {"server_id": "10.0.0.1", "device": [
            {"device_id": "4", "device_ip": "192.168.100.100", "rank_id": "0"},
            {"device_id": "5", "device_ip": "192.168.101.100", "rank_id": "1"}]},
        {"server_id": "127.0.0.1", "device": [
            {"device_id": "0", "device_ip": "192.168.100.101", "rank_id": "2"}]}],
    "status": "completed", "version": "1.0"}"""
OLD = """{
    "board_id": "0x002f", "chip_info": "910", "deploy_mode": "lab", "group_count": "1",
    "group_list": [{"device_num": "2", "server_num": "1", "group_name": "", "instance_count": "2",
        "instance_list": [
            {"devices": [{"device_id": "1", "device_ip": "192.1.27.7"}], "rank_id": "1",
             "server_id": "10.155.111.140"},
            {"devices": [{"device_id": "0", "device_ip": "192.1.27.6"}], "rank_id": "0",
             "server_id": "10.155.111.140"}]}],
    "para_plane_nic_location": "device", "para_plane_nic_name": ["eth0", "eth1"],
    "para_plane_nic_num": "2", "status": "completed"}"""
HCCN = """address_0=192.168.100.101
netmask_0=255.255.255.0
 address_1 = 192.168.101.101
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a text to a file and returns its path."""
    def write_text(text, name='table.json'):
        path = tmp_path / name
        path.write_text(text)
        return str(path)
    return write_text


def test_both_forms_are_read(write):
    assert rank_table.read(write(NEW)) == [('10.0.0.1', 4), ('10.0.0.1', 5), ('127.0.0.1', 0)]
    assert rank_table.read(write(OLD)) == [('10.155.111.140', 0), ('10.155.111.140', 1)]


def test_a_machine_finds_its_own(write, monkeypatch):
    monkeypatch.delenv('JOB_ID', raising=False)
    path = write(NEW)
    assert rank_table.plan(path) == {2: {
        'RANK_TABLE_FILE': path, 'RANK_SIZE': '3', 'RANK_ID': '2', 'ASCEND_DEVICE_ID': '0',
        'JOB_ID': '10087'}}
    monkeypatch.setenv('JOB_ID', '7')
    first = rank_table.plan(path, '10.0.0.1')
    assert [(rank, variables['ASCEND_DEVICE_ID'], variables['JOB_ID'])
            for rank, variables in first.items()] == [(0, '4', '7'), (1, '5', '7')]
    with pytest.raises(UserError, match='this machine is none of its servers .10.155.111.140.; '
                                        'name it with --server_id'):
        rank_table.plan(write(OLD))


@pytest.mark.parametrize('text', [
    '{}', '{"server_list": []}', '{"server_list": [{"server_id": "a"}]}',
    *(NEW.replace('"rank_id": "2"', f'"rank_id": "{rank}"') for rank in '13x'),
    NEW.replace('"server_list"', '"servers"'), NEW.replace('"rank_id": "2"', '"rank_id": 1e999'),
    NEW.replace('"device_ip": "192.168.100.100", ', ''),
    NEW.replace('"192.168.100.100"', 'null'), NEW.replace('"10.0.0.1"', '""'),
    NEW.replace('"device_id": "0"', '"device_id": "-1"')])
def test_what_is_no_rank_table_is_named(write, text):
    path = write(text)
    with pytest.raises(UserError) as error:
        rank_table.read(path)
    assert str(error.value).startswith(f'{path}: not a rank table whose ranks are 0, 1, ...')
    assert 'each with server_id, device_id and device_ip; ' in str(error.value)


def test_an_npu_takes_one_process(write):
    path = write(NEW.replace('"device_id": "5"', '"device_id": "4"'))
    with pytest.raises(UserError) as error:
        rank_table.read(path)
    assert str(error.value) == f'{path}: has device 4 of server 10.0.0.1 twice; name each once'


def test_tables_are_written_and_joined(write, tmp_path):
    def run(*arguments):
        return run_cli('scripts/ascend/rank_table.py', *arguments, cwd=tmp_path)
    hccn = write(HCCN, 'hccn.conf')
    done = run('a.json', '--server_id', '10.0.0.1', '--hccn_conf', hccn)
    assert done.status == 0 and done.out == 'a.json: 2 NPUs of 1 server\n', done.err
    assert json.loads((tmp_path / 'a.json').read_text()) == {
        'version': '1.0', 'server_count': '1', 'status': 'completed', 'server_list': [
            {'server_id': '10.0.0.1', 'device': [
                {'device_id': '0', 'device_ip': '192.168.100.101', 'rank_id': '0'},
                {'device_id': '1', 'device_ip': '192.168.101.101', 'rank_id': '1'}]}]}
    done = run('b.json', '--server_id', '10.0.0.2', '--hccn_conf', hccn, '--devices', 1)
    assert done.status == 0, done.err
    done = run('all.json', '--join', 'a.json', 'b.json')
    assert done.out == 'all.json: 3 NPUs of 2 servers\n', done.err
    assert rank_table.read(str(tmp_path / 'all.json')) == [
        ('10.0.0.1', 0), ('10.0.0.1', 1), ('10.0.0.2', 1)]
    write(NEW.replace('"4"', '"2"').replace('"5"', '"3"'), 'c.json')
    for arguments, said in (
            ([], 'rank_table.py: error: --server_id is missing'),
            (['--server_id', 'a', '--hccn_conf', 'none'], 'error: none: No such file'),
            (['--server_id', 'a', '--hccn_conf', hccn, '--devices', 1, 7],
             f'error: {hccn}: has no line address_7=...; choose with --devices among 0, 1'),
            (['--server_id', 'a', '--hccn_conf', hccn, '--devices', 1, 1],
             'error: --devices: has device 1 of server a twice'),
            (['--join', 'a.json', 'a.json'],
             'error: a.json, a.json: has device 0 of server 10.0.0.1 twice'),
            (['--join', 'a.json', 'b.json', 'c.json'], 'error: server 10.0.0.1 is in two of')):
        done = run('new.json', *arguments)
        assert done.status == 2 and done.err.splitlines()[-1].startswith(said), done.err
        assert not (tmp_path / 'new.json').exists()
    (tmp_path / 'folder').mkdir()
    done = run('folder', '--join', 'a.json')
    assert (done.status, done.err) == (
        2, 'error: folder: is a folder; name a file for the rank table\n')
