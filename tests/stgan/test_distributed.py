"""Workers that train together, as real processes on this machine."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import FAKES, ROOT

from pylib import UserError, read_json, read_json_lines, write_json
from pylib.launching import free_ports
from pylib.processes import children_of, is_running
from scripts.bench import chaos
from stgan import data, distributed, graph, training
from stgan.celeba import CelebA
from stgan.config import RunConfig
from stgan.stream import Course
from tflib import checkpoint, tf, utils
from tflib.collective import Alone

# 52 images to train on: with a global batch of 8 an epoch has two iterations.
CONFIG = RunConfig(img_size=32, enc_layers=2, dec_layers=2, stu_layers=1, dis_layers=2,
                   shortcut_layers=1, inject_layers=1, stu_inject_layers=1, enc_dim=2, dec_dim=2,
                   stu_dim=2, dis_dim=2, dis_fc_dim=4, atts=('Male', 'Young'), batch_size=4, n_d=2,
                   epoch=2, lr=.002, n_sample=1, device='cpu', threads=1, experiment_name='run',
                   save_freq=2, log_images=True)
THREE_LAYERS = {'enc_layers': 3, 'dec_layers': 3, 'dis_layers': 3, 'stu_layers': 2, 'enc_dim': 4,
                'dec_dim': 4, 'stu_dim': 4, 'dis_dim': 4, 'shortcut_layers': 2}
CLASSIC = tf.__version__.startswith('1.')


@pytest.fixture
def config(tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    return dataclasses.replace(CONFIG, dataroot=str(toy_data))


def flags(config):
    """The command line that gives these options."""
    words = []
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if value == default:
            continue
        words.append(f'--{field.name}')
        if not (isinstance(default, bool) and default is False):
            words += map(str, value if isinstance(value, tuple) else [value])
    return words


def start(config, workers=2, *launch, dumps='.', within=(), **options):
    """The launcher of a training, in a process of its own, which the words `within` start."""
    return subprocess.Popen(
        [*within, sys.executable, str(ROOT / 'scripts' / 'launch.py'), '-n', str(workers),
         *map(str, launch), '--', str(ROOT / 'tests' / 'distributed_worker.py'), dumps,
         *flags(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def train(config, workers=2, *launch, **options):
    """Train to the end; returns (exit status, output, errors)."""
    process = start(config, workers, *launch, **options)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def train_on_npus(config, *switches):
    """Train on fake NPUs, as ModelZoo's scripts start it; returns [(exit status, out, err)].

    Args:
        switches: of the fake of each, {name: value}.
    """
    workers = len(switches)
    # Those that follow it are hoped to be free.
    port, = free_ports(1)
    adapter = 'npu_bridge_path' if CLASSIC else 'npu_device_path'
    os.mkdir('exchanged')
    write_json('table.json', {
        'version': '1.0', 'server_count': '1', 'status': 'completed', 'server_list': [
            {'server_id': '127.0.0.1', 'device': [
                {'device_id': str(rank), 'device_ip': f'192.168.100.10{rank}',
                 'rank_id': str(rank)} for rank in range(workers)]}]})
    processes = [subprocess.Popen(
        [sys.executable, str(ROOT / 'tests' / 'distributed_worker.py'), '.', *flags(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(
            os.environ, PYTHONPATH=str(FAKES / adapter), RANK_TABLE_FILE='table.json',
            RANK_SIZE=str(workers), RANK_ID=str(rank), JOB_ID='10087', MASTER_PORT=str(port),
            FAKE_NPU_EXCHANGE='exchanged', **{
                f'FAKE_NPU_{name}': value for name, value in its_switches.items()}))
        for rank, its_switches in enumerate(switches)]
    ends = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *end) for process, end in zip(processes, ends)]


def values(path):
    with np.load(path) as stored:
        return dict(stored)


def require_equal(left, right, **tolerance):
    """All variables: weights, Adam's, moving averages, counters; in every bit without tolerance."""
    assert set(left) == set(right) and len(left) > 20
    for name, value in left.items():
        if tolerance:
            np.testing.assert_allclose(value, right[name], err_msg=name, **tolerance)
        else:
            assert value.tobytes() == right[name].tobytes(), name


def stored(folder):
    return chaos._values(checkpoint.require_latest(os.path.join(folder, 'checkpoints')))


def require_near(expected, values):
    """All variables are equal but for rounding."""
    assert set(expected) == set(values)
    for name, value in expected.items():
        # Relative to the largest value: what gradients are sums of is larger than they are.
        difference = (value.astype(np.float64) - values[name]) / max(np.abs(value).max(), .02)
        # Rounding errors grow: four iterations of three layers were seen to make 3e-5 of them.
        mean, most = (2e-4, 2e-3) if '/Adam' in name else (5e-5, 2e-3)
        # Where a gradient is next to nothing Adam makes a step of its rounding error.
        assert np.sqrt(np.mean(difference ** 2)) < mean and np.abs(difference).max() < most, name


def joint(config, workers=2):
    """Train in this process with the batch of so many workers; returns the folder."""
    alone = dataclasses.replace(config, batch_size=workers * config.batch_size, sync_bn=False,
                                updates_per_call=1, experiment_name='joint')
    training.train(alone)
    return alone.folder


def require_as_one(config, workers=2):
    """Workers end as one process with their joint batch does, but for rounding."""
    status, out, err = train(config, workers)
    assert status == 0, err
    iterations = len(read_json_lines(os.path.join(config.folder, 'metrics.jsonl')))
    dumps = [values(f'{rank}-{iterations}.npz') for rank in range(workers)]
    for dump in dumps[1:]:
        require_equal(dumps[0], dump)
    one = joint(config, workers)
    require_near(stored(one), dumps[0])
    logs = [read_json_lines(os.path.join(folder, 'metrics.jsonl')) for folder in
            (config.folder, one)]
    for together, alone in zip(*logs):
        assert together['images'] == alone['images']
        for name in ('d_loss', 'g_loss', 'gp', 'd_loss_att', 'g_loss_rec'):
            np.testing.assert_allclose(together[name], alone[name], rtol=1e-5, err_msg=name)
    return out, err


def test_two_workers_train_as_one_with_their_joint_batch(config, toy_data):
    """Also: rank 0 alone speaks, each image comes once a pass, one worker goes on."""
    out, err = require_as_one(dataclasses.replace(config, sync_bn=True, ema_decay=.5,
                                                  log_exchange=2, updates_per_call=2))
    assert all(line.startswith('[0] ') for line in out.splitlines()) and not err
    assert 'an update takes 2 x 4 = 8 images, with learning rate 0.002' in out
    assert read_json('output/run/workers.json') == {'changes': [{'iteration': 0, 'workers': 2}]}
    # 4 iterations of 24 images are 1 pass of 52, and 44 of the next; one worker takes 12 each.
    training.train(dataclasses.replace(config, sync_bn=True, ema_decay=.5, epoch=3))
    assert read_json('output/run/workers.json')['changes'][1:] == [{'iteration': 4, 'workers': 1}]
    log = read_json_lines('output/run/metrics.jsonl')
    assert [record['epoch'] for record in log] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [sum(map(len, record['images'])) for record in log] == [24] * 4 + [12] * 4
    images = CelebA(str(toy_data)).part('train') + 1
    assert chaos.require_once_a_pass('output/run', images) == 2
    for name in ('d_exchange_seconds', 'g_compute_seconds'):
        assert [record.get(name, 0) > 0 for record in log] == [False, True] * 2 + [False] * 4


def test_two_npus_train_as_one_with_their_joint_batch(config):
    """Through HCCL's interface, with adapters whose operations files stand for."""
    npus = dataclasses.replace(config, sync_bn=True, device='npu', threads=99)
    ends = train_on_npus(npus, {}, {})
    assert [status for status, _, _ in ends] == [0, 0], ends
    dumps = [values(f'{rank}-4.npz') for rank in range(2)]
    require_equal(*dumps)
    require_near(stored(joint(config)), dumps[0])


def test_an_overflow_on_one_npu_skips_the_update_on_all(config):
    """The third update, of each iteration's two D updates and one G update."""
    npus = dataclasses.replace(config, precision='mixed', device='npu', threads=99, epoch=1)
    ends = train_on_npus(npus, {'INF_NAN': '0'}, {'INF_NAN': '0', 'OVERFLOW_AT': '2'})
    assert [status for status, _, _ in ends] == [0, 0], ends
    dumps = [values(f'{rank}-2.npz') for rank in range(2)]
    require_equal(*dumps)
    assert (dumps[0]['loss_scale/d/skipped'], dumps[0]['loss_scale/g/skipped']) == (0, 1)


class Stub(Alone):
    """One of two workers, whose other has the same."""

    def __init__(self, rank):
        self.rank, self.size = rank, 2

    def average(self, tensors):
        return [tf.identity(tensor, 'averaged') for tensor in tensors]

    def gather(self, tensor):
        return tf.stack([tensor, tensor], name='gathered')

    def name(self, rank):
        return f'worker {rank}'


def shares(config, toy_data, rank, workers):
    """[(a, b, list positions)] of two batches from the second on, of one worker."""
    celeba = CelebA(str(toy_data), config.atts)
    with tf.Graph().as_default(), utils.session() as session:
        batches = data.TrainingBatches(celeba, celeba.part('train'), 32, 8 // workers, 3,
                                       course=Course(8 // workers, 3, [(0, workers)]), rank=rank)
        batches.seek(session, 1)
        taken = []
        for _ in range(2):
            batches.take(session)
            taken.append(session.run([batches.batch.a, batches.batch.b, batches.batch.number,
                                      batches.batch.images, batches.batch.xa]))
    return taken


def test_workers_cut_the_batch_of_one(config, toy_data):
    """Images, labels and target labels, which are shuffled over the whole batch."""
    whole = shares(config, toy_data, 0, 1)
    first, second = (shares(config, toy_data, rank, 2) for rank in range(2))
    for of_one, left, right in zip(whole, first, second):
        for index in (0, 1, 3, 4):
            np.testing.assert_array_equal(np.concatenate([left[index], right[index]]),
                                          of_one[index])
        assert left[2] == right[2] == of_one[2]


def test_workers_cut_the_random_draws_of_one(config):
    """And the variance of the DRAGAN point is that of all their images."""
    def drawn(batch_size, workers, **changes):
        changed = dataclasses.replace(config, batch_size=batch_size, **changes)
        with tf.Graph().as_default(), utils.session() as session:
            batch = data.Batch(tf.zeros([batch_size, 32, 32, 3]), None, None,
                               tf.constant(5, tf.int64))
            return (*session.run(graph._penalty_draws(changed, batch, workers)),
                    graph._variance(changed, batch, workers))
    one = drawn(8, Alone())
    parts = [drawn(4, Stub(rank)) for rank in range(2)]
    for place in range(2):
        np.testing.assert_array_equal(np.concatenate([part[place] for part in parts]), one[place])
    assert one[2] is None and parts[0][2] is None    # wgan has no DRAGAN point
    assert drawn(8, Alone(), mode='lsgan')[2] is None
    assert drawn(4, Stub(1), mode='lsgan')[2] is not None


def updates(config, **changes):
    """Names of the operations of a G update of one of two workers."""
    with tf.Graph().as_default():
        labels = tf.zeros([4, 2], tf.int64)
        batch = data.Batch(tf.zeros([4, 32, 32, 3]), labels, labels, tf.constant(5, tf.int64))
        built = graph.build(dataclasses.replace(config, **changes), batch, workers=Stub(0))
        moving = sum('moving_' in v.op.name for v in tf.global_variables())
        weights = len(utils.trainable_variables('Genc', 'Gstu', 'Gdec'))
        step = built.updates[-1]
        names = [node.name for node in tf.graph_util.extract_sub_graph(
            tf.get_default_graph().as_graph_def(),
            [step.op.name, *[term.op.name for term in step.terms.values()]]).node]
    return ([name for name in names if 'averaged' in name],
            [name for name in names if 'gathered' in name], weights, moving, len(step.terms))


def test_gradients_losses_and_moving_averages_are_averaged(config):
    averaged, gathered, weights, moving, terms = updates(config)
    assert len(averaged) == weights + moving + terms and not gathered


@pytest.mark.slow
def test_common_statistics_need_no_averaging_of_moving_averages(config):
    averaged, gathered, weights, moving, terms = updates(config, sync_bn=True)
    assert len(averaged) == weights + terms and len(gathered) >= moving // 2


def test_a_batch_replaced_in_one_worker_keeps_the_labels_of_the_others(config, toy_data):
    """What one worker knows of bad images must not change what another one trains on."""
    celeba = CelebA(str(toy_data), RunConfig().atts)    # so many that labels differ
    with tf.Graph().as_default():
        batches = data.TrainingBatches(celeba, celeba.part('train'), 32, 4, 3,
                                       course=Course(4, 3, [(0, 2)]), rank=0)
        before = next(batches._descriptions())
        batches.stream.bad.update(batches.stream.samples(0, 2))
        whole = batches.stream.samples(0, 8)
        assert (celeba.labels[celeba.part('train')[whole]].sum() !=
                celeba.labels[celeba.part('train')[batches.stream.own_samples(0, 8)]].sum())
        after = next(batches._descriptions())
    assert (before[0][:2] != after[0][:2]).all() and (before[0][2:] == after[0][2:]).all()
    np.testing.assert_array_equal(before[2], after[2])


class Met(Stub):
    """Workers of which the second one brings something else."""

    def __init__(self, **changes):
        super().__init__(1)
        self._changes = changes

    def meet(self, facts):
        facts = json.loads(json.dumps(facts))
        return [facts, dict(facts, state={}, **self._changes)]


@pytest.mark.parametrize('changes, said', [
    ({'--lr': .5}, 'worker 1 has another --lr than worker 0: 0.5, not 0.002'),
    ({'--atts': ['Bald']}, "worker 1 has another --atts than worker 0: ['Bald'], not"),
    ({'device': 'gpu'}, 'worker 1 has another device than worker 0: gpu, not cpu'),
    ({'list of labels': 'x'}, 'worker 1 has another list of labels than worker 0: x, not '),
    ({'version of the code': 'x'}, 'worker 1 has another version of the code than worker 0: x'),
    ({'version of TensorFlow': 'x'}, 'worker 1 has another version of TensorFlow than worker 0')])
def test_workers_that_do_not_belong_together_are_named(config, toy_data, changes, said):
    celeba = CelebA(str(toy_data), config.atts)

    def meet(workers):
        return distributed.meet(workers, config, 'cpu', celeba, celeba.part('train'), {'a': 1})
    assert meet(Met()) == {'a': 1}
    with pytest.raises(UserError) as error:
        meet(Met(**changes))
    assert str(error.value).startswith(said)


def test_what_identifies_data_and_code(config, toy_data, monkeypatch):
    celeba = CelebA(str(toy_data), config.atts)
    indices = celeba.part('train')

    def identity(indices=indices, **changes):
        return distributed._identity(dataclasses.replace(config, **changes), 'cpu', celeba, indices)
    whole = identity(experiment_name='b', dataroot='/x', threads=3)
    assert whole == identity()
    cut = identity(indices[:-1])
    assert {name for name in whole if whole[name] != cut[name]} == {'list of training images',
                                                                    'list of labels'}
    celeba.labels[indices[0]] ^= 1
    assert identity()['list of labels'] != whole['list of labels']
    monkeypatch.setattr(distributed, '_CODE', ('stgan',))
    assert identity()['version of the code'] != whole['version of the code']


@pytest.mark.parametrize('text', [
    '{}', '{"changes": []}', '{"changes": [{"iteration": 1, "workers": 1}]}',
    '{"changes": [{"iteration": 0, "workers": 0}]}',
    '{"changes": [{"iteration": 0, "workers": 1e999}]}'])
def test_a_damaged_list_of_changes_is_named(tmp_path, text):
    assert distributed.read_changes(str(tmp_path)) == [(0, 1)]
    distributed.write_changes(str(tmp_path), [(0, 1)])
    assert not list(tmp_path.iterdir())    # as it was before there were workers
    distributed.write_changes(str(tmp_path), [(0, 2), (5, 1)])
    assert distributed.read_changes(str(tmp_path)) == [(0, 2), (5, 1)]
    (tmp_path / 'workers.json').write_text(text)
    with pytest.raises(UserError, match='workers.json: damaged'):
        distributed.read_changes(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['wgan', 'lsgan', 'dcgan'])
def test_every_mode_trains_as_one_with_the_joint_batch(config, mode):
    require_as_one(dataclasses.replace(config, sync_bn=True, mode=mode, epoch=2, stu_norm='bn',
                                       save_freq=10, **THREE_LAYERS))


@pytest.mark.slow
def test_four_workers_train_as_one_with_their_joint_batch(config):
    require_as_one(dataclasses.replace(config, sync_bn=True, batch_size=2, epoch=5, save_freq=10),
                   workers=4)


@pytest.mark.slow
@pytest.mark.parametrize('changes', [{}, {'precision': 'mixed'}], ids=['high', 'mixed'])
def test_workers_are_equal_and_repeatable_in_every_bit(config, changes):
    """With statistics of their own, too: their moving averages are common."""
    if changes and CLASSIC:
        pytest.skip('no 16 bits on the CPU')
    dumps = []
    for name in ('first', 'second'):
        os.mkdir(name)
        status, _, err = train(dataclasses.replace(config, experiment_name=name, epoch=5, n_d=1,
                                                   ema_decay=.9, save_freq=5, **changes),
                               dumps=name)
        assert status == 0, err
        dumps += [values(f'{name}/{rank}-15.npz') for rank in range(2)]
    for dump in dumps[1:]:
        require_equal(dumps[0], dump)
    if changes:
        assert dumps[0]['loss_scale/d/good_steps'] + dumps[0]['loss_scale/d/skipped'] == 15


def wait_for(path, lines, process):
    """Wait until a log has so many lines."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if os.path.exists(path) and len(read_json_lines(path)) >= lines:
            return
        time.sleep(.1)
    raise AssertionError(process.communicate())


def workers_of(launcher):
    """{rank: process id} of a launcher's workers."""
    found = {}
    for pid in children_of(launcher.pid):
        with open(f'/proc/{pid}/environ') as stream:
            described = stream.read().partition('TF_CONFIG=')[2].partition('\0')[0]
        found[json.loads(described)['task']['index']] = pid
    return found


@pytest.mark.slow
@pytest.mark.parametrize('who, signum, status', [
    (0, signal.SIGKILL, 137), (1, signal.SIGKILL, 137), (0, signal.SIGTERM, 143),
    (1, signal.SIGTERM, 143), (None, signal.SIGTERM, 143), (None, signal.SIGINT, 130),
    (None, signal.SIGKILL, -9)])
def test_whatever_is_ended_all_end_and_the_same_command_goes_on(config, who, signum, status):
    """Within 30 seconds, and as an undisturbed run in every bit. None: the launcher."""
    config = dataclasses.replace(config, epoch=40)
    log = os.path.join(config.folder, 'metrics.jsonl')
    launcher = start(config)
    wait_for(log, 5, launcher)
    workers = workers_of(launcher)
    assert sorted(workers) == [0, 1]
    began = time.monotonic()
    os.kill(launcher.pid if who is None else workers[who], signum)
    out, err = launcher.communicate(timeout=60)
    while any(map(is_running, workers.values())) and time.monotonic() < began + 60:
        time.sleep(.1)
    assert time.monotonic() - began < 30 and not any(map(is_running, workers.values()))
    assert launcher.returncode == status
    if signum == signal.SIGKILL and who is not None:
        assert f'launch: worker {who} (process {workers[who]}) was ended by SIGKILL' in err
        assert f'[{1 - who}] error: worker {who} (localhost:' in err
    if status in (130, 143):
        assert err.count(': stopped and saved after iteration ') == 2, err
    if status == 143 and who is not None:
        assert f'[{1 - who}] error: another worker was told to stop: stopped and saved' in err
    assert len(read_json_lines(log)) < 80
    require_to_go_on(config)


def require_to_go_on(config):
    """The same command ends as an undisturbed run in every bit; 80 iterations in all."""
    status, _, err = train(config)
    assert status == 0, err
    os.mkdir('calm')
    status, _, err = train(dataclasses.replace(config, experiment_name='calm'), dumps='calm')
    assert status == 0, err
    require_equal(values('0-80.npz'), values('calm/1-80.npz'))
    assert chaos.require_equal(config.folder, 'output/calm') > 20


@pytest.fixture
def machines():
    """Two network namespaces of this machine, stgan0 and stgan1, with a cable between them."""
    def ip(words):
        return subprocess.run(['ip', *words.split()], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        allowed = ip('netns add stgan0')
    except FileNotFoundError:
        pytest.skip('the command ip is not there (package iproute2)')
    if allowed.returncode:
        pytest.skip(f'no network namespaces: {allowed.stdout.strip()}')
    try:
        done = [ip(words) for words in (
            'netns add stgan1', 'link add stgan0 netns stgan0 type veth peer stgan1 netns stgan1',
            *(f'-n stgan{number} {words}' for number in range(2) for words in (
                f'address add 10.231.17.{number + 1}/24 dev stgan{number}', 'link set lo up',
                f'link set stgan{number} up')))]
        if any(each.returncode for each in done):
            pytest.skip(f'no network between namespaces: {[each.stdout for each in done]}')
        yield ip
    finally:
        ip('netns delete stgan0')
        ip('netns delete stgan1')


@pytest.mark.slow
def test_a_cut_network_ends_all_and_the_same_command_goes_on(config, machines):
    config = dataclasses.replace(config, epoch=40)
    log = os.path.join(config.folder, 'metrics.jsonl')
    launchers = [start(config, 1, '--hosts', '10.231.17.1:1,10.231.17.2:1',
                       within=['ip', 'netns', 'exec', f'stgan{number}']) for number in range(2)]
    wait_for(log, 5, launchers[0])
    began = time.monotonic()
    assert machines('-n stgan0 link set stgan0 down').returncode == 0
    ends = [launcher.communicate(timeout=60) for launcher in launchers]
    assert time.monotonic() - began < 30
    assert [launcher.returncode for launcher in launchers] == [1, 1]
    for number, (_, err) in enumerate(ends):
        other = 1 - number
        assert f'[{number}] error: worker {other} (10.231.17.{other + 1}:29500) is gone' in err, err
    assert 5 <= len(read_json_lines(log)) < 80
    require_to_go_on(config)


@pytest.mark.slow
def test_the_launcher_restarts_from_the_last_checkpoint(config):
    launcher = start(dataclasses.replace(config, epoch=40), 2, '--restarts', 1)
    wait_for(os.path.join(config.folder, 'metrics.jsonl'), 5, launcher)
    os.kill(workers_of(launcher)[1], signal.SIGKILL)
    out, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, err
    assert 'launch: restart 1 of 1' in err and '[0] resuming after iteration ' in out
    assert len(read_json_lines('output/run/metrics.jsonl')) == 80


@pytest.mark.slow
def test_every_image_comes_once_a_pass_whatever_the_number_of_workers(config, toy_data):
    """1, 2, 4, 2 and 1 workers in turn, each for some iterations."""
    for epoch, workers in enumerate((1, 2, 4, 2, 1), 1):
        config = dataclasses.replace(config, epoch=epoch, batch_size=2)
        status, out, err = train(config, workers)
        assert status == 0, err
    log = read_json_lines(os.path.join(config.folder, 'metrics.jsonl'))
    assert [record['epoch'] for record in log] == [0] * 8 + [1] * 4 + [2] * 2 + [3] * 4 + [4] * 8
    images = CelebA(str(toy_data)).part('train') + 1
    assert chaos.require_once_a_pass(config.folder, images) == 4


@pytest.mark.slow
def test_what_is_not_finite_in_one_worker_takes_all_back(config, toy_data):
    """A NaN that one worker alone has computes all losses; the runs go on together."""
    config = dataclasses.replace(config, epoch=4, on_nan='rollback')
    status, out, err = train(config, env=dict(os.environ, DISTRIBUTED_NAN='1-5'))
    assert status == 0, err
    assert err.count('not finite; ') == 1 and 'rollback 1 of 3' in err
    require_equal(values('0-8.npz'), values('1-8.npz'))
    assert [record['iteration'] for record in read_json_lines('output/run/metrics.jsonl')] == (
        list(range(1, 9)))
    config = dataclasses.replace(config, experiment_name='stops', on_nan='stop')
    status, out, err = train(config, env=dict(os.environ, DISTRIBUTED_NAN='1-5'))
    assert status == 1
    assert '[0] error: iteration 5: ' in err and '[1] error: iteration 5: ' in err


def in_order(config, first, second, **seconds):
    """Two workers started by hand; returns [(exit status, output and errors)] of both."""
    addresses, processes = [f'localhost:{port}' for port in free_ports(2)], []
    for rank, one in enumerate((first, second)):
        described = {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': rank}}
        processes.append(subprocess.Popen(
            [sys.executable, str(ROOT / 'train.py'), *flags(dataclasses.replace(config, **one))],
            env=dict(os.environ, TF_CONFIG=json.dumps(described)), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        time.sleep(seconds.get('apart', 0))
    return [(process.wait(), process.communicate()[0]) for process in processes]


@pytest.mark.slow
def test_a_late_worker_is_waited_for(config):
    (status, out), (other, _) = in_order(config, {}, {}, apart=20)
    assert (status, other) == (0, 0)
    assert 'waiting for worker 1 (localhost:' in out


@pytest.mark.slow
@pytest.mark.parametrize('second, said', [
    ({'lr': .5}, 'has another --lr than worker 0: 0.5, not 0.002'),
    ({'train_image_num': 40}, 'has another --train_image_num than worker 0: 40, not 0'),
    ({'dataroot': '/nowhere'}, '/nowhere')], ids=['flag', 'number', 'data'])
def test_workers_that_differ_end_in_one_line_each(config, second, said):
    ends = in_order(config, {}, second)
    assert [status for status, _ in ends] == [2, 2]
    for _, text in ends:
        assert said in text and len(text.splitlines()) == 1 and 'error: ' in text
    assert not os.path.exists('output')
