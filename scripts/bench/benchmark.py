"""Speed, beside the published code's way of doing the same (scripts/bench/plain.py).

After a warm-up both ways take turns, each in a process of its own where it would profit from memory
that the other one keeps. Seconds are medians, ratios are medians of each round's ratio. Weights are
random, images are noise: neither changes the time.

Examples:
    python scripts/bench/benchmark.py
    python scripts/bench/benchmark.py sheet edit
    python scripts/bench/benchmark.py train --dim 16 --output train16.json
"""

import contextlib
import dataclasses
import functools
import logging
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

if not __package__:
    import _checkout

import imlib
from pylib import (
    ArgumentParser,
    RunFailed,
    child,
    keep_freed_memory,
    run_command,
    usable_cores,
    write_json,
)
from pylib.launching import free_ports
from scripts._checkout import ROOT
from stgan import attributes, metrics, sheets
from stgan.config import CHECKPOINTS, RunConfig

PRODUCT_SIZE = 4096
PRODUCT_FLOPS = 2 * PRODUCT_SIZE ** 3
PEAK_TYPES = {'high': 'float32', 'mixed': 'bfloat16'}    # by precision
CPU_FEATURES = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_tile', 'amx_bf16')

LINE = '{:<36}{:>9}{:>10}{:>8}{:>9}{:>9}{:>7}'    # of a result


def seconds_taking_turns(functions, rounds):
    """[len(functions), rounds] seconds of functions called in turns, after a call to warm up."""
    for function in functions:
        function()
    seconds = np.zeros([len(functions), rounds])
    for turn in range(rounds):
        for index, function in enumerate(functions):
            began = time.monotonic()
            function()
            seconds[index, turn] = time.monotonic() - began
    return seconds


def matrix_product(dtype, device='cpu', size=PRODUCT_SIZE):
    """A function that multiplies two square matrices of TensorFlow type `dtype`."""
    from tflib import tf, utils

    with tf.Graph().as_default() as graph:
        factors = [tf.Variable(tf.cast(tf.random.stateless_uniform([size, size], [0, i]), dtype))
                   for i in range(2)]
        product = tf.matmul(*factors)
        session = utils.session(device, graph=graph)
        session.run(tf.global_variables_initializer())
    return lambda: session.run(product.op)


def training_iteration(config, build, device='cpu', workers=None):
    """A function that runs one training iteration of `config` on an unchanging batch.

    Args:
        build: `graph.build`, or a function like it.
        workers: those that train together, see `engines.joined`; None: this process is alone.
    """
    from stgan import data
    from tflib import collective, tf, utils

    workers, together = workers or collective.Alone(), [workers] if workers else []
    random = np.random.RandomState(0)
    shape = [config.batch_size, config.img_size, config.img_size, 3]
    with tf.Graph().as_default() as graph, workers.scope():
        labels = [tf.constant(random.randint(0, 2, [config.batch_size, config.n_att]))
                  for _ in range(2)]
        batch = data.Batch(tf.constant(random.uniform(-1, 1, shape), tf.float32), *labels,
                           number=tf.constant(0, tf.int64))
        built = build(config, batch, device, *together)
        session = utils.session(device, config.threads, graph, config.precision, workers=workers)
        session.run(tf.global_variables_initializer())

    def iterate():
        for update in built.updates:
            session.run([update.op, update.terms], {built.learning_rate: config.lr})
    return iterate


def training_way(config, plain):
    """`training_iteration` as train.py runs it, or as the published code does."""
    from scripts.bench.plain import build as build_plainly
    from stgan.graph import build

    if plain:
        return training_iteration(config, build_plainly)
    keep_freed_memory()
    return training_iteration(config, build)


def training_worker(config, addresses, rank, does):
    """`training_iteration` of one of several workers at once.

    Args:
        does: what an iteration does: 'compute', 'exchange' of zeros as large as gradients, or both,
            'train'.

    Returns:
        A function that returns how many bytes this one has sent, in a ring of them, in a call.
    """
    from stgan.graph import TrainingGraph, Update, build
    from stgan.models import GENERATOR_SCOPES
    from tflib import engines, tf, utils

    workers = engines.TensorFlowWorkers(addresses, rank)
    workers.meet({})
    exchanging, sizes = does != 'compute' and workers.size > 1, []

    def build_and_count(*arguments):
        built = build(*arguments)
        updates = []
        for repeats, scopes in ((config.n_d, ['D']), (1, GENERATOR_SCOPES)):
            shapes = [v.shape for v in utils.trainable_variables(*scopes)]
            sizes.extend([shape.num_elements() for shape in shapes] * repeats)
            if does == 'exchange' and exchanging:
                averages = workers.average([tf.zeros(shape) for shape in shapes])
                updates += [Update(tf.group(*averages), {}, ())] * repeats
        return TrainingGraph(updates, built.counter, built.learning_rate) if updates else built
    iterate = training_iteration(config, build_and_count, workers=workers if exchanging else None)

    def iterate_and_count():
        iterate()
        count = len(addresses)
        return int(sum(sizes)) * 4 * 2 * (count - 1) // count if exchanging else 0
    return iterate_and_count


def editing_way(config, precision, plain, images, edits):
    """A function that returns edits [images,edits,S,S,3] of noise, by random weights.

    Args:
        plain: 'one by one': a session run for each, as published; 'at once': the plain network on
            a batch with one edit each; '': as `editing.Editor` does.
    """
    from scripts.bench.plain import Generator
    from stgan import editing
    from tflib import tf, utils
    from tflib.layers import GlorotUniform

    if not plain:
        keep_freed_memory()
    with tf.Graph().as_default() as graph, \
            tf.variable_scope('', initializer=GlorotUniform(0)):
        generator = Generator(config)
        if not plain:
            generator = editing.EditGraph(config, {v.op.name: v for v in tf.global_variables()})
        session = utils.session('cpu', precision=precision, graph=graph, optimize=bool(plain))
        session.run(tf.global_variables_initializer())
        session.run(tf.local_variables_initializer())
    random = np.random.RandomState(0)
    x = random.uniform(-1, 1, [images, config.img_size, config.img_size, 3]).astype(np.float32)
    targets = random.uniform(-1, 1, [images, edits, config.n_att]).astype(np.float32)
    sources = np.zeros([images, config.n_att], np.float32)
    return {
        'one by one': lambda: np.stack([generator.sheet(session, *pair) for pair in
                                        zip(x, targets)]),
        'at once': lambda: generator.run(session, x, targets[:, 0])[:, np.newaxis],
        '': lambda: generator.run(session, x, targets, sources, most=images * edits),
    }[plain]


def generator_flops(config):
    """Floating-point operations of one edit by `models.py`: 2 per weight and position."""
    from scripts.bench import plain
    from tflib import tf

    with tf.Graph().as_default() as graph:
        plain.Generator(config)
        flops = 0
        for operation in graph.get_operations():
            if operation.type in ('Conv2D', 'Conv2DBackpropInput'):
                up = operation.type == 'Conv2DBackpropInput'
                kernel = operation.inputs[1].shape.num_elements()
                # A kernel is applied at every pixel of the smaller of both maps.
                pixels = (operation.inputs[2] if up else operation.outputs[0]).shape.as_list()
                flops += 2 * kernel * pixels[1] * pixels[2]
    return flops


class Benchmark:
    """The parts of this command: each a method that yields rows, dicts of what was measured."""

    def __init__(self, args):
        self.args = args
        dims = {'enc_dim': args.dim, 'dec_dim': args.dim, 'stu_dim': args.dim, 'dis_dim': args.dim}
        self.config = RunConfig(experiment_name='speed', img_size=args.img_size, **dims).check()
        self._products = {dtype: matrix_product(dtype) for dtype in PEAK_TYPES.values()}

    def compare(self, what, ways, flops=0, precision='high', size=1):
        """The row of two ways, which take turns.

        Args:
            flops: of a call, counted by `models.py`; a matrix product takes turns too then.
            precision: of the second way.
            size: items of a call; the row has seconds of an item.
        """
        if flops:
            ways = [*ways, self._products[PEAK_TYPES[precision]]]
        seconds = seconds_taking_turns(ways, self.args.rounds)
        plain, fast = np.median(seconds[:2], axis=1)
        row = {'what': what, 'plain': plain / size, 'fast': fast / size,
               'ratio': np.median(seconds[0] / seconds[1])}
        if flops:
            row['gflops'] = flops / fast / 1e9
            row['of peak'] = np.median(seconds[2] / seconds[1]) * flops / PRODUCT_FLOPS
        return row

    def measure_peak(self):
        """GFLOP/s of matrix products, by number type."""
        seconds = np.median(seconds_taking_turns(list(self._products.values()), 7), axis=1)
        return dict(zip(self._products, PRODUCT_FLOPS / seconds / 1e9))

    def edit(self):
        """One edit of a batch of images, in one session run both ways."""
        yield from self._edits('edit, batch {}', [(8, 1), (32, 1)], 'at once')

    def sheet(self):
        """All columns of a test image: a session run for each, or one."""
        columns = self.config.n_att + 1
        yield from self._edits(f'sheet of {columns}, batch {{}}', [(1, columns), (2, columns)],
                               'one by one')

    def _edits(self, title, shapes, plain):
        for precision in self.args.precisions:
            for images, edits in shapes:
                with Way(editing_way, self.config, 'high', plain, images, edits) as plain_way, \
                        Way(editing_way, self.config, precision, '', images, edits) as fast_way:
                    row = self.compare(f'{title.format(images)}, {precision}',
                                       [plain_way, fast_way],
                                       generator_flops(self.config) * images * edits, precision,
                                       size=images)
                    yield dict(row, difference=float(np.abs(
                        plain_way.result() - fast_way.result()).max()))

    def train(self):
        """A training iteration: n_d updates of D and one of G."""
        for batch_size in self.args.batch_sizes:
            plain = dataclasses.replace(self.config, batch_size=batch_size)
            for precision in self.args.precisions:
                fast = dataclasses.replace(plain, precision=precision)
                what = f'iteration, batch {batch_size}, {precision}'
                with Way(training_way, plain, True) as plain_way, \
                        Way(training_way, fast, False) as fast_way:
                    yield self.compare(what, [plain_way, fast_way])
                yield {'what': f'{what}, memory', 'plain': plain_way.memory,
                       'fast': fast_way.memory, 'ratio': fast_way.memory / plain_way.memory,
                       'unit': 'MB'}

    def scale(self):
        """Workers that share this machine's cores: each by itself, and averaging gradients.

        What the exchange takes by itself tells what it would cost if nothing overlapped.
        """
        for batch_size in self.args.batch_sizes:
            for count in self.args.workers:
                config = dataclasses.replace(self.config, batch_size=batch_size,
                                             threads=max(1, usable_cores() // count))
                what = f'images, {count} x batch {batch_size}'
                with Team(config, count, 'compute') as apart, \
                        Team(config, count, 'train') as together, \
                        Team(config, count, 'exchange') as exchange:
                    seconds = seconds_taking_turns(
                        [apart, together] + [exchange] * (count > 1), self.args.rounds)
                    sent = together.result()
                medians, ratio = np.median(seconds, axis=1), np.median(seconds[0] / seconds[1])
                plain, fast = count * batch_size / medians[:2]
                alone = medians[2] if count > 1 else 0.
                yield {'what': f'{what}, {sent / 1e6:.3g} MB in {_seconds(alone)}', 'unit': '/s',
                       'plain': plain, 'fast': fast, 'ratio': ratio, 'bytes': sent,
                       'share': 1 - ratio, 'exchange': alone,
                       'without overlap': count * batch_size / (medians[0] + alone)}

    def data(self):
        """A folder of JPEGs to batches, on one thread and on all cores."""
        from scripts.bench import plain
        from stgan import data

        with tempfile.TemporaryDirectory() as folder:
            paths = _noisy_photos(folder, 64) * self.args.epochs
            for threads in sorted({1, usable_cores()}):
                ways = [lambda threads=threads, load=load: [
                    None for _ in load(paths, self.config.img_size, True, 32, threads)]
                    for load in (plain.load_images, data.load_images)]
                yield self.compare(f'decoding an image, {threads} threads', ways, size=len(paths))

    def metrics(self):
        """PSNR and SSIM of a folder of sheets, on all cores."""
        from scripts.bench import plain

        with tempfile.TemporaryDirectory() as path, _without_progress():
            folder = _noisy_sheets(path, self.config, self.args.sheets)
            few = sheets.SheetFolder(folder.path, folder.img_size, folder.columns, folder.atts,
                                     dict(list(folder.labels.items())[:self.args.sheets // 10]))
            ways = [lambda: plain.measure_folder(few), lambda: metrics.measure_folder(folder)]
            # The plain way gets a tenth: its time per sheet does not depend on their number.
            plain_seconds, fast_seconds = seconds_taking_turns(ways, 3) / [
                [len(few.labels)], [len(folder.labels)]]
            wanted, found = ways[0](), ways[1]()
            yield {'what': f'measuring {len(folder.labels)} sheets, each',
                   'plain': np.median(plain_seconds), 'fast': np.median(fast_seconds),
                   'ratio': np.median(plain_seconds / fast_seconds),
                   'difference': max(float(np.abs(np.subtract(found[name], wanted[name])).max())
                                     for name in wanted)}

    def start(self):
        """test.py for one image, from command to picture."""
        yield from self._commands('test.py on 1 image', 1, self.args.rounds)

    def test(self):
        """test.py for many images, from command to the last picture."""
        yield from self._commands(f'test.py on {self.args.images} images', self.args.images, 1)

    def _commands(self, what, images, rounds):
        with tempfile.TemporaryDirectory() as folder:
            experiment = _experiment(folder, dataclasses.replace(
                self.config, dataroot=os.path.join(folder, 'data')), images)
            positions = [str(position + 1) for position in range(images)]
            commands = [[os.path.join(ROOT, 'scripts', 'bench', 'plain.py'), experiment, '--img',
                         *positions],
                        [os.path.join(ROOT, 'test.py'), '--experiment_name',
                         os.path.basename(experiment), '--test_int', '2', '--clear', '--img',
                         *positions]]
            results = [[_run(command, folder) for command in commands] for _ in range(rounds)]
            seconds, memory = np.median(results, axis=0).T
            yield {'what': what, 'plain': seconds[0], 'fast': seconds[1],
                   'ratio': seconds[0] / seconds[1]}
            yield {'what': f'{what}, memory', 'plain': memory[0], 'fast': memory[1],
                   'ratio': memory[1] / memory[0], 'unit': 'MB'}


PARTS = ('edit', 'sheet', 'train', 'scale', 'data', 'metrics', 'start', 'test')


class Way:
    """A process that does something whenever called; memory that it keeps serves it alone.

    Args:
        make: a module-level function that returns, for `arguments`, the function to call.

    Attributes:
        memory: peak of the process so far in MB.
    """

    def __init__(self, make, *arguments):
        self.memory = 0
        context = multiprocessing.get_context('spawn')
        self._connection, connection = context.Pipe()
        self._process = context.Process(target=_serve, args=(connection, make, arguments),
                                        daemon=True)
        self._process.start()
        connection.close()    # only the process holds it now: when that ends, so do our reads

    def __call__(self):
        self.memory = self._ask('run')

    def result(self):
        """What the function returned when it was last called."""
        return self._ask('result')

    def _ask(self, what):
        try:
            self._connection.send(what)
            return self._connection.recv()
        except (EOFError, OSError):
            raise RunFailed('a process that was measured has ended; out of memory?') from None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._connection.close()
        self._process.join()


class Team:
    """Workers that run `training_worker` at once, each in a process of its own.

    Args:
        count: how many; does: see `training_worker`.
    """

    def __init__(self, config, count, does):
        addresses = [f'localhost:{port}' for port in free_ports(count)]
        self._ways = [Way(training_worker, config, addresses, rank, does)
                      for rank in range(count)]

    def __call__(self):
        with ThreadPoolExecutor(len(self._ways)) as pool:
            list(pool.map(Way.__call__, self._ways))

    def result(self):
        """What the first worker returned when it was last called."""
        return self._ways[0].result()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for way in self._ways:
            way.__exit__(*exception)


def _serve(connection, make, arguments):
    logging.getLogger('tensorflow').setLevel(logging.ERROR)    # as in the command's own process
    function, result = make(*arguments), None
    with contextlib.suppress(EOFError):
        while True:
            if connection.recv() == 'run':
                result = function()
                connection.send(_peak_memory('self'))
            else:
                connection.send(result)
    # At a usual exit a server of TensorFlow 1.15 writes a traceback.
    os._exit(0)


def _peak_memory(process):
    """Most memory in MB that a process had so far; 0 if it has ended.

    Linux only. Not that of `resource`, which begins with what the parent had at the fork.
    """
    with open(f'/proc/{process}/status') as stream:
        lines = [line.split() for line in stream if line.startswith('VmHWM')]
    return int(lines[0][1]) / 1024 if lines else 0


def _run(arguments, folder):
    """(seconds, peak memory in MB) of a Python command."""
    began, memory = time.monotonic(), 0
    with open(os.path.join(folder, 'errors.txt'), 'w+') as errors:
        with child([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL,
                   stderr=errors) as process:
            while process.poll() is None:
                memory = max(memory, _peak_memory(process.pid))
                time.sleep(.02)
            seconds = time.monotonic() - began
        if process.returncode:
            errors.seek(0)
            raise RunFailed(f'{" ".join(arguments[:3])} ...: {errors.read()[-500:]}')
    return seconds, memory


def _noisy_photos(folder, count):
    """Paths of JPEGs of CelebA's size, and about its bytes."""
    random, paths = np.random.RandomState(0), []
    for number in range(1, count + 1):
        small = random.randint(0, 256, [28, 23, 3], np.uint8).repeat(8, 0).repeat(8, 1)
        noise = random.normal(scale=8, size=[218, 178, 3])
        paths.append(os.path.join(folder, f'{number:06d}.jpg'))
        imlib.write(paths[-1], np.clip(small[:218, :178] + noise, 0, 255).astype(np.uint8),
                    quality=60)
    return paths


def _noisy_sheets(path, config, count):
    """A `SheetFolder` of sheets as test.py writes them."""
    plan, random = sheets.single_plan(config, 2.), np.random.RandomState(0)
    size, columns = config.img_size, len(plan.columns)
    names = [f'{number:06d}.png' for number in range(1, count + 1)]
    ramp = np.linspace(-.8, .8, size, dtype=np.float32)[:, np.newaxis, np.newaxis]
    for number, name in enumerate(names):
        if number < 20:
            pictures = ramp + random.normal(scale=.02, size=[1 + columns, size, size, 3])
            imlib.write(os.path.join(path, name), sheets.compose(pictures[0], pictures[1:]))
        else:
            os.link(os.path.join(path, names[number % 20]), os.path.join(path, name))
    return sheets.SheetFolder(path, size, plan.columns, list(config.atts),
                              dict.fromkeys(names))


def _experiment(folder, config, images):
    """Folder of an experiment with random weights and slots, as training leaves it."""
    os.makedirs(os.path.join(config.dataroot, 'img_align_celeba'))
    names = [os.path.basename(path) for path in _noisy_photos(
        os.path.join(config.dataroot, 'img_align_celeba'), images)]
    random = np.random.RandomState(0)
    rows = [' '.join([name] + list(random.choice(['1', '-1'], 40))) for name in names]
    with open(os.path.join(config.dataroot, 'list_attr_celeba.txt'), 'w') as stream:
        stream.write('\n'.join([str(images), ' '.join(attributes.CELEBA_ATTRIBUTES)] + rows))
    experiment = os.path.join(folder, 'output', 'speed')
    config.save(experiment)
    # A process that has ended takes no memory from the commands that are measured next.
    with Way(functools.partial, _save_weights, config, experiment) as save:
        save()
    return experiment


def _save_weights(config, experiment):
    """Write a checkpoint of a training that has not begun."""
    from stgan import data
    from stgan.graph import build
    from tflib import checkpoint, tf, utils

    size = config.img_size
    labels = tf.zeros([config.batch_size, config.n_att], tf.int64)
    build(config, data.Batch(tf.zeros([config.batch_size, size, size, 3]), labels, labels,
                             tf.constant(0, tf.int64)))
    with utils.session() as session:
        session.run(tf.global_variables_initializer())
        checkpoint.Checkpoints(os.path.join(experiment, CHECKPOINTS), 1).save(session, 'model')


@contextlib.contextmanager
def _without_progress():
    """Hide progress bars of library code."""
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def machine():
    """What the figures depend on."""
    from tflib import utils

    model, flags = platform.processor(), []
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as stream:
        lines = dict(line.split(':', 1) for line in stream.read().splitlines() if ':' in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        model, flags = lines.get('model name', model), lines.get('flags', '').split()
    return {'tensorflow': utils.tensorflow_version(), 'python': platform.python_version(),
            'cpu': model, 'features': [name for name in CPU_FEATURES if name in flags],
            'threads': usable_cores()}


def print_facts(facts):
    """Print the machine, and the heads of the columns that `print_row` fills."""
    print(f'{facts["tensorflow"]}, Python {facts["python"]}, {facts["threads"]} threads, '
          f'{facts["cpu"]} ({" ".join(facts["features"])})')
    print('matrix product, GFLOP/s: ' + ', '.join(
        f'{name} {value:.0f}' for name, value in facts['peak'].items()))
    print(LINE.format('', 'plain', 'here', 'ratio', 'GFLOP/s', 'of peak', 'diff.'), flush=True)


def print_row(row):
    """Print what was measured as a line."""
    unit = row.get('unit')
    plain, here = (f'{row[way]:{".0f" if row[way] >= 100 else ".3g"}} {unit}' if unit
                   else _seconds(row[way]) for way in ('plain', 'fast'))
    print(LINE.format(row['what'], plain, here, f'{row["ratio"]:.2f}x',
                      f'{row["gflops"]:.0f}' if 'gflops' in row else '',
                      f'{row["of peak"]:.0%}' if 'of peak' in row else '',
                      f'{row["difference"]:.0e}' if 'difference' in row else '').rstrip(),
          flush=True)


def _seconds(value):
    return f'{value:.3g} s' if value >= 1 else f'{value * 1e3:.3g} ms'


def main():
    parser = ArgumentParser(description=__doc__)
    # No `choices`: of Python 3.7 to 3.8, which refuse an empty list of them.
    parser.add_argument('parts', nargs='*', metavar='PART',
                        help=f'what to measure: {" ".join(PARTS)}; default: all')
    parser.add_argument('--dim', type=int, default=64, help='channels of the first layers')
    parser.add_argument('--img_size', type=int, default=128, help='image height and width')
    parser.add_argument('--batch_sizes', type=int, nargs='+', default=[8, 16], help='of training')
    parser.add_argument('--precisions', nargs='+', default=['high'], choices=('high', 'mixed'),
                        help='of the fast way; the plain one is in high')
    parser.add_argument('--rounds', type=int, default=5, help='how often both ways take turns')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2], help='of the part '
                        '`scale`, which share the cores')
    parser.add_argument('--images', type=int, default=200, help='of the part `test`')
    parser.add_argument('--sheets', type=int, default=2000, help='of the part `metrics`')
    parser.add_argument('--epochs', type=int, default=64, help='over 64 photos, of the part `data`')
    parser.add_argument('--output', default='', metavar='FILE', help='JSON file to write')
    args = parser.parse_args()
    unknown = set(args.parts).difference(PARTS)
    if unknown:
        parser.error(f'{" ".join(sorted(unknown))}: choose from {" ".join(PARTS)}')
    for flag in ('dim', 'rounds', 'images', 'sheets', 'epochs'):
        if getattr(args, flag) < 1:
            parser.error(f'--{flag} {getattr(args, flag)}: expected at least 1')
    if min(args.workers) < 1:
        parser.error(f'--workers {min(args.workers)}: expected at least 1')
    if args.sheets < 10:
        parser.error(f'--sheets {args.sheets}: expected at least 10')

    from tflib import utils
    utils.resolve_device('auto')    # quietly
    for precision in args.precisions:
        utils.session_config('cpu', precision)    # refuses what cannot mix
    benchmark = Benchmark(args)
    facts = dict(machine(), peak=benchmark.measure_peak())
    print_facts(facts)
    rows = []
    for part in args.parts or PARTS:
        for row in getattr(benchmark, part)():
            print_row(row)
            rows.append(row)
    if args.output:
        write_json(args.output, dict(facts, options=vars(args), rows=rows))
        print(f'wrote {args.output}')


if __name__ == '__main__':
    run_command(main)
