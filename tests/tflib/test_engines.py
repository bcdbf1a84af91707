"""By which engine processes train together, and what describes them to it."""

import json
import sys
import types

import numpy as np
import pytest

from pylib import UserError
from tflib import engines, tf, utils
from tflib.collective import Alone
from tflib.engines import HcclWorkers, TensorFlowWorkers


def described(cluster, **task):
    return {'TF_CONFIG': json.dumps({'cluster': cluster, 'task': task})}


WORKERS = {'worker': ['a:1', 'b:1', 'b:2', 'c:3']}


@pytest.mark.parametrize('environment', [
    {}, {'TF_CONFIG': ' '}, {'TF_CONFIG': '{}'}, described({'worker': ['a:1']}, type='worker')])
def test_one_process_is_alone(environment):
    with engines.joined('auto', environment=environment) as workers:
        assert type(workers) is Alone and (workers.rank, workers.size) == (0, 1)
    with engines.joined('none', environment=described(WORKERS, index=1)) as workers:
        assert workers.size == 1


def test_the_place_of_each_of_several():
    places = []
    for index in range(4):
        addresses, rank = engines._described(described(WORKERS, type='worker', index=index))
        workers = TensorFlowWorkers(addresses, rank)
        places.append((workers.rank, workers.size, workers.local_rank, workers.local_size))
    assert places == [(0, 4, 0, 1), (1, 4, 0, 2), (2, 4, 1, 2), (3, 4, 0, 1)]
    # As Kubeflow describes the first one.
    cluster = {'chief': ['a:1'], 'worker': ['b:1', 'c:1']}
    assert engines._described(described(cluster, type='chief', index=0)) == (
        ['a:1', 'b:1', 'c:1'], 0)
    assert engines._described(described(cluster, type='worker', index=1))[1] == 2


@pytest.mark.parametrize('environment, said', [
    ({'TF_CONFIG': '{'}, 'TF_CONFIG: expected JSON such as'),
    ({'TF_CONFIG': '[]'}, 'TF_CONFIG: expected JSON such as'),
    (described(WORKERS, type='worker', index='x'), 'TF_CONFIG: expected JSON such as'),
    (described(WORKERS, type='worker', index=float('inf')), 'TF_CONFIG: expected JSON such as'),
    ({'TF_CONFIG': '[' * 100000}, 'TF_CONFIG: expected JSON such as'),
    (described(WORKERS), 'TF_CONFIG: expected JSON such as'),
    (described({'worker': []}, type='worker', index=0), 'TF_CONFIG: its cluster names no worker'),
    (described({'worker': ['a:²', 'b:1']}, index=0), "TF_CONFIG: 'a:²': expected host:port"),
    (described(WORKERS, type='worker', index=4), 'TF_CONFIG: task worker 4, but there are 4 wor'),
    (described(WORKERS, type='evaluator', index=0), 'TF_CONFIG: has tasks of type evaluator'),
    (described(dict(WORKERS, ps=['p:1']), index=0), 'TF_CONFIG: has tasks of type ps'),
    (described({'worker': ['a', 'b:1']}, index=0), "TF_CONFIG: 'a': expected host:port"),
    (described({'worker': ['a:1', 'a:1']}, index=0), 'TF_CONFIG: two workers have the same add')])
def test_a_wrong_description_is_named(environment, said):
    with pytest.raises(UserError) as error, engines.joined(environment=environment):
        pass
    assert str(error.value).startswith(said)


def test_the_engine_asked_for_needs_a_description():
    with pytest.raises(UserError, match='TF_CONFIG describes no workers'), \
            engines.joined('tensorflow', environment={}):
        pass


@pytest.fixture
def rank_table(tmp_path):
    """The path of a table of three NPUs on two servers."""
    def npus(server, *ranks):
        return {'server_id': server, 'device': [
            {'device_id': str(rank), 'device_ip': f'1.1.1.{rank}', 'rank_id': str(rank)}
            for rank in ranks]}
    path = tmp_path / 'table.json'
    path.write_text(json.dumps({
        'version': '1.0', 'server_count': '2', 'status': 'completed',
        'server_list': [npus('10.0.0.1', 0, 1), npus('10.0.0.2', 2)]}))
    return str(path)


def hccl(rank_table, **changes):
    """The environment of a process for an NPU."""
    return dict({'RANK_TABLE_FILE': rank_table, 'RANK_SIZE': '3', 'RANK_ID': '1',
                 'JOB_ID': '10087'}, **changes)


def test_a_rank_table_describes_npus(rank_table):
    for engine in ('hccl', 'auto'):
        workers = engines._workers(engine, 1, hccl(rank_table))
        assert type(workers) is HcclWorkers and (workers.rank, workers.size) == (1, 3)
        assert workers.addresses == ['10.0.0.1:29500', '10.0.0.1:29501', '10.0.0.2:29500']
    workers = engines._workers('auto', 1, hccl(rank_table, MASTER_PORT='4000'))
    assert workers.addresses[1:] == ['10.0.0.1:4001', '10.0.0.2:4000']
    # What the run scripts set for a single NPU.
    assert engines._workers('auto', 1, {'RANK_SIZE': '1', 'RANK_ID': '0', 'JOB_ID': '1'}) is None
    # The launcher's description goes first.
    both = dict(described(WORKERS, index=2), **hccl(rank_table))
    assert type(engines._workers('auto', 1, both)) is TensorFlowWorkers
    assert engines._workers('none', 1, both) is None


@pytest.mark.parametrize('changes, said', [
    ({'RANK_SIZE': ''}, '--distribute hccl: RANK_SIZE is not set, a whole number was expected'),
    ({'RANK_SIZE': '²'}, '--distribute hccl: RANK_SIZE is ², a whole number was expected'),
    ({'RANK_ID': 'x'}, '--distribute hccl: RANK_ID is x, a whole number was expected'),
    ({'RANK_SIZE': '4'}, '{}: describes 3 devices, but RANK_SIZE is 4 and RANK_ID 1'),
    ({'RANK_ID': '3'}, '{}: describes 3 devices, but RANK_SIZE is 3 and RANK_ID 3'),
    ({'JOB_ID': ''}, '--distribute hccl: JOB_ID is not set'),
    ({'MASTER_PORT': '²'}, 'MASTER_PORT is ², a port'),
    ({'MASTER_PORT': 'x'}, 'MASTER_PORT is x, a port from 1 to 64000 was expected'),
    ({'RANK_TABLE_FILE': ''}, '--distribute hccl: RANK_TABLE_FILE is not set'),
    ({'RANK_TABLE_FILE': 'none'}, 'none: ')])
def test_a_wrong_description_of_npus_is_named(rank_table, changes, said):
    with pytest.raises(UserError) as error, engines.joined(
            'hccl', environment=hccl(rank_table, **changes)):
        pass
    assert str(error.value).startswith(said.format(rank_table))


@pytest.fixture
def npus(fake, monkeypatch):
    """(the first of two NPUs, the recorder of the adapter that stands for both)."""
    monkeypatch.setenv('RANK_SIZE', '2')
    recorder = fake('r1.15')
    utils.resolve_device('npu')
    return HcclWorkers(['localhost:1', 'localhost:2'], 0), recorder


def test_the_session_of_npus_opens_hccl_and_closes_it_at_last(npus):
    workers, recorder = npus
    with tf.Graph().as_default():
        total = workers.summed(tf.constant([1., 2.]))
        with utils.session('npu', workers=workers) as session:
            assert recorder.ran == ['initialize_system'] and recorder.initialized
            np.testing.assert_array_equal(session.run(total), [2., 4.])
    assert recorder.ran == ['initialize_system', 'allreduce', 'shutdown_system']
    # Its configuration is the one with the options of the graph engine.
    assert len(recorder.sessions) == 1


def test_npus_average_and_take_over_values(npus):
    workers, recorder = npus
    with tf.Graph().as_default():
        gradients = workers.average([tf.constant([1., 2.]), tf.constant(3.)])
        assert [built['fusion'] for built in recorder.named('allreduce')] == [1, 1]
        variables = [tf.get_variable('w', [2], tf.float32, tf.ones_initializer()),
                     tf.get_variable('n', [], tf.int64, tf.zeros_initializer())]
        share = workers.broadcast(variables)
        assert recorder.named('broadcast')[-1]['root_rank'] == 0
        assert len(recorder.named('broadcast')) == 1
        with utils.session('npu', workers=workers) as session:
            session.run(tf.global_variables_initializer())
            first, second = session.run(gradients)
            np.testing.assert_array_equal(first, [1., 2.])
            assert second == 3.
            session.run(share)
            assert session.run([v.read_value() for v in variables])[1] == 0
        # Whole numbers of 64 bits are not summed on every version.
        workers.agreement()
        sums = [op for op in tf.get_default_graph().get_operations() if op.type == 'Mul']
        assert sums[-1].outputs[0].dtype == tf.int32


def test_horovod_that_is_not_there_is_named(monkeypatch):
    for name in ('horovod', 'horovod.tensorflow'):
        monkeypatch.setitem(sys.modules, name, None)
    for engine, environment in (('horovod', {}), ('auto', {'HOROVOD_SIZE': '2'}),
                                ('auto', {'OMPI_COMM_WORLD_SIZE': '2'})):
        with pytest.raises(UserError) as error, engines.joined(engine, environment=environment):
            pass
        assert str(error.value).startswith('--distribute horovod: Horovod cannot be imported (')


def test_a_single_process_of_horovod_is_alone(monkeypatch):
    module = types.ModuleType('horovod.tensorflow')
    module.init, module.size = (lambda: None), (lambda: 1)
    monkeypatch.setitem(sys.modules, 'horovod', types.ModuleType('horovod'))
    monkeypatch.setitem(sys.modules, 'horovod.tensorflow', module)
    sys.modules['horovod'].tensorflow = module
    with engines.joined('horovod') as workers:
        assert type(workers) is Alone
