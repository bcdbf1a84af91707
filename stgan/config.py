"""Every option of a run, declared once.

`RunConfig` gives the command line its flags, the library its values and the experiment folder its
`setting.txt`, which is the published code's file with more keys.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
from functools import partial
from typing import Tuple

from pylib import ArgumentParser, UserError, read_json, write_json
from stgan.attributes import CONFLICTS, DEFAULT_ATTRIBUTES, MOST_CHANGE

DEVICES = ('auto', 'cpu', 'gpu', 'npu')
ENGINES = ('auto', 'none', 'tensorflow', 'horovod', 'hccl')
PRECISIONS = ('high', 'tf32', 'mixed')

# What a run keeps in its folder.
CHECKPOINTS, SUMMARIES, SAMPLES = 'checkpoints', 'summaries', 'sample_training'
SETTING, METRICS, ROLLBACKS = 'setting.txt', 'metrics.jsonl', 'rollbacks.json'
WORKERS = 'workers.json'
EXPERIMENT = 'name of the folder below output/, or a path such as models/toy'

# More than anybody needs: settings of strangers must not ask for all the memory there is.
MAX_INT = 2 ** 31 - 1
SIZE = {'minimum': 1, 'maximum': 4096}
LAYERS, ANY_LAYERS = {'minimum': 1, 'maximum': 12}, {'minimum': 0, 'maximum': 12}

# Ascend's recipe for mixed precision (ModelZoo STGAN_ID1473 train_.py).
MIXED_RECIPE = {'precision': 'mixed', 'epoch': 35, 'init_epoch': 15, 'batch_size': 64, 'lr': 4e-4,
                'gp_weight': 100., 'd_att_weight': 10.}


def boolean(text):
    """Parse a flag's value.

    Unlike the published code, rejects unknown words instead of reading them as False.
    """
    if text.lower() in ('true', 't', 'yes', 'y', '1'):
        return True
    if text.lower() in ('false', 'f', 'no', 'n', '0'):
        return False
    raise ValueError(text)


def option(default, help, section='', fixed=False, required=False, metavar=None, alias='',
           **constraints):
    """Declare an option.

    Args:
        section: title of the group of options in --help that starts with this one.
        fixed: the option shapes the networks or the order of the training data, so a run cannot be
            resumed with another value.
        required: the command line has to give it.
        metavar: what stands for the value in --help; alias: another name for the option.
        constraints: choices, or bounds: minimum and maximum, which are allowed, or above.
    """
    return dataclasses.field(default=default, metadata=dict(
        help=help, section=section, fixed=fixed, required=required, metavar=metavar, alias=alias,
        **constraints))


# Options that several commands have.
dataroot_option = partial(option, help='folder of list_attr_celeba.txt and the images',
                          metavar='DIR')
split_option = partial(
    option, 'auto', 'how images are divided into train, val and test: "position" in the list, as '
    'published; "partition", by list_eval_partition.txt; or ratios such as 0.8,0.1,0.1. "auto" is '
    'position for the full CelebA, else partition if there is that file, else 0.9,0.02,0.08',
    metavar='HOW')
cropped_option = partial(option, False,
                         help='take the square images in img_crop_celeba[_png]')
max_bad_images_option = partial(
    option, .001, 'share of the training images that may be unreadable; each is replaced by '
    'another one', minimum=0, maximum=1)
time_limit_option = partial(option, 0., 'stop after so many minutes as on SIGTERM; 0: no limit',
                            metavar='MINUTES', minimum=0)
on_nan_option = partial(
    option, 'stop', 'if a loss or a weight is not finite: stop, or go back to the last checkpoint '
    'and take another order of the data (three times at most)', choices=('stop', 'rollback'))
gpu_option = partial(option, 'all', 'GPUs to use, as in CUDA_VISIBLE_DEVICES',
                     metavar='IDS')
device_option = partial(option, 'auto', 'where to run; auto: on an NPU, else on a GPU, if there is '
                        'one', choices=DEVICES)
threads_option = partial(option, -1, 'CPU threads; -1: one per core', minimum=-1)
distribute_option = partial(
    option, 'auto', 'how several processes share the work, see docs/distributed.md; auto: as what '
    'has started them tells, else alone', choices=ENGINES)
editing_precision_option = partial(option, 'high', 'high: float32; tf32: float32 with '
                                   'products in TF32, on GPUs; mixed: 16 bits where that is safe',
                                   choices=PRECISIONS)
edit_batch_option = partial(option, 0, 'results per session run, of which fewer take less memory; '
                            '0: 32 on GPUs, else 5', minimum=0)
npu_settings_option = partial(option, (), 'settings of NpuOptimizer\'s parameter_map, and '
                              'adapter_version=r1.15 or the like: whose rules hold, for a plan '
                              'without CANN', metavar='KEY=VALUE')


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The options of a training run; the defaults are the published ones.

    Raises:
        UserError: from `check`, naming the flag at fault.
    """

    experiment_name: str = option('', f'{EXPERIMENT}; default: the time',
                                  section='experiment and data')
    dataroot: str = dataroot_option('/data/Datasets/CelebA/Img')
    use_cropped_img: bool = cropped_option()
    split: str = split_option(fixed=True)
    train_image_num: int = option(0, 'train on so many images only; 0: on all', fixed=True,
                                  minimum=0)
    max_bad_images: float = max_bad_images_option()
    seed: int = option(0, 'of initial weights, data order and random numbers', fixed=True,
                       minimum=0)

    atts: Tuple[str, ...] = option(DEFAULT_ATTRIBUTES, 'attributes to edit', section='model',
                                   fixed=True, metavar='NAME')
    img_size: int = option(128, 'image height and width', fixed=True, **SIZE)
    shortcut_layers: int = option(4, 'skip connections from encoder to decoder', fixed=True,
                                  **ANY_LAYERS)
    inject_layers: int = option(4, 'decoder layers that see the label', fixed=True, **ANY_LAYERS)
    enc_dim: int = option(64, 'channels of the first encoder layer', fixed=True, **SIZE)
    dec_dim: int = option(64, 'channels of the last decoder layer', fixed=True, **SIZE)
    dis_dim: int = option(64, 'channels of the first discriminator layer', fixed=True, **SIZE)
    dis_fc_dim: int = option(1024, 'units of the discriminator\'s hidden layers', fixed=True,
                             **SIZE)
    enc_layers: int = option(5, 'encoder layers', fixed=True, **LAYERS)
    dec_layers: int = option(5, 'decoder layers', fixed=True, **LAYERS)
    dis_layers: int = option(5, 'discriminator layers', fixed=True, **LAYERS)
    multi_inputs: int = option(1, 'encoder layers that see the image', fixed=True, **LAYERS)
    one_more_conv: int = option(0, 'kernel of one more convolution after the decoder; 0: none',
                                fixed=True, choices=(0, 1, 3))
    bn_decay: float = option(.999, 'decay of the batch norm averages that editing uses; an average '
                             'over 1/(1-decay) updates, so runs of a few thousand need less',
                             minimum=0, maximum=1)

    label: str = option('diff', 'what the generator is told: the difference to the source label, '
                        'or the target label', section='STGAN and its units (STU)',
                        fixed=True, choices=('diff', 'target'))
    use_stu: bool = option(True, 'selective transfer units; false: AttGAN-like', fixed=True)
    stu_dim: int = option(64, 'channels of the outermost STU', fixed=True, **SIZE)
    stu_layers: int = option(4, 'STUs', fixed=True, **LAYERS)
    stu_inject_layers: int = option(4, 'STUs whose state sees the label', fixed=True, **ANY_LAYERS)
    stu_kernel_size: int = option(3, 'kernel of the STU gates', fixed=True, **LAYERS)
    stu_norm: str = option('none', 'normalization of the STU gates', fixed=True,
                           choices=('none', 'bn', 'in'))
    stu_state: str = option('stu', 'what a STU passes on: its reset state (stu), its output (gru) '
                            'or the upsampled state (direct)', fixed=True,
                            choices=('stu', 'gru', 'direct'))

    mode: str = option('wgan', 'adversarial loss', section='losses', fixed=True,
                       choices=('wgan', 'lsgan', 'dcgan'))
    rec_loss_weight: float = option(100., 'weight of the reconstruction loss', minimum=0)
    gp_weight: float = option(10., 'weight of the gradient penalty', minimum=0)
    d_att_weight: float = option(1., 'weight of the discriminator\'s attribute loss', minimum=0)

    epoch: int = option(200, 'epochs', section='training', minimum=1)
    init_epoch: int = option(100, 'epochs until the learning rate falls to a tenth', minimum=1)
    batch_size: int = option(32, 'images per update, of each worker if several train together',
                             fixed=True, minimum=1)
    lr: float = option(2e-4, 'learning rate', above=0)
    n_d: int = option(5, 'D updates per G update', fixed=True, minimum=1)
    ema_decay: float = option(0., 'edit with averages of the generator\'s weights over the last '
                              '1/(1-decay) iterations, such as 0.999; 0: with the weights',
                              fixed=True, minimum=0, maximum=1)
    thres_int: float = option(.5, 'label of an attribute that is on; its negative means off',
                              fixed=True, above=0)
    init_checkpoint: str = option('', 'checkpoint, or folder of some, whose weights a new run '
                                  'starts with; default: random weights', metavar='PATH')
    time_limit: float = time_limit_option()
    on_nan: str = on_nan_option()

    n_sample: int = option(64, 'sample images', section='samples and checkpoints', minimum=1)
    test_int: float = option(1., 'intensity of sample edits, in multiples of thres_int')
    sample_freq: int = option(0, 'iterations between sample grids; 0: an epoch', minimum=0)
    save_freq: int = option(0, 'iterations between checkpoints; 0: an epoch', minimum=0)
    num_ckpt: int = option(1, 'checkpoints to keep; two are kept in any case, as the one before '
                           'stands in for a damaged newest one', minimum=1)
    keep_every: int = option(0, 'epochs between checkpoints that are kept for good; 0: none',
                             minimum=0)
    log_images: bool = option(False, 'log which images an iteration used, by list position')

    gpu: str = gpu_option(section='device and precision')
    device: str = device_option()
    threads: int = threads_option()
    precision: str = option('high', 'high: float32; tf32: float32 with products in TF32, on GPUs; '
                            'mixed: 16 bits where that is safe, with dynamic loss scaling',
                            choices=PRECISIONS)
    loss_scale: float = option(2. ** 15, 'first loss scale of mixed precision', minimum=1)
    fixed_loss_scale: bool = option(False, 'keep the first loss scale instead of adapting it')

    updates_per_call: int = option(1, 'updates that a session call makes, up to the n_d + 1 of an '
                                   'iteration; results stay, launches are saved', minimum=1)
    xla: bool = option(False, 'let XLA compile the graph, which takes a while at the start; see '
                       'docs/performance.md')

    distribute: str = distribute_option(section='several devices')
    sync_bn: bool = option(False, 'let batch norm take the statistics of all workers\' images')
    log_exchange: int = option(0, 'log how long the exchange between workers takes, for every so '
                               'many iterations, which take longer then; 0: never', minimum=0)
    worker_timeout: float = option(600., 'how long to wait for the other workers at the start',
                                   metavar='SECONDS', above=0)

    npu_option: Tuple[str, ...] = npu_settings_option(section='Ascend NPUs')
    over_dump: bool = option(False, 'dump operators that overflow')
    over_dump_path: str = option('overflow_dump', 'folder of --over_dump', metavar='DIR')
    data_dump: bool = option(False, 'dump all tensors of some steps')
    data_dump_path: str = option('data_dump', 'folder of --data_dump', metavar='DIR')
    data_dump_step: str = option('10', 'steps of --data_dump, such as 0|5|10-20', metavar='STEPS')
    profiling: bool = option(False, 'write profiles')
    profiling_dump_path: str = option('profiling', 'folder of --profiling', metavar='DIR')

    @property
    def n_att(self):
        """Number of attributes."""
        return len(self.atts)

    @property
    def folder(self):
        """The experiment folder, relative to the working directory as in the published code."""
        return experiment_folder(self.experiment_name)

    def check(self):
        """Return self if every value is legal on its own and with the others, else raise."""
        check_values(self)
        if len(set(self.atts)) < len(self.atts) or not self.atts:
            raise UserError('--atts: expected one or more different attributes')
        experiment_folder(self.experiment_name)
        for name in ('over_dump', 'data_dump', 'profiling'):
            if getattr(self, name) and self.device != 'npu':
                raise UserError(f'--{name}: needs --device npu')
        _check_npu_settings(self)
        if self.enc_layers != self.dec_layers:
            raise UserError(f'--dec_layers {self.dec_layers}: the decoder needs as many layers as '
                            f'the encoder (--enc_layers {self.enc_layers})')
        if self.use_stu and self.stu_layers != self.enc_layers - 1:
            raise UserError(f'--stu_layers {self.stu_layers}: expected one less than --enc_layers '
                            f'{self.enc_layers}')
        if self.one_more_conv and self.dec_dim < 4:
            raise UserError(f'--dec_dim {self.dec_dim}: --one_more_conv needs at least 4')
        factor = 2 ** max(self.enc_layers, self.dis_layers)
        if self.img_size % factor:
            raise UserError(f'--img_size {self.img_size}: not divisible by {factor} = '
                            f'2^{max(self.enc_layers, self.dis_layers)} (one halving per layer)')
        return self

    def save(self, folder):
        """Write `setting.txt`."""
        write_json(os.path.join(folder, SETTING), dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class TestConfig:
    """The options of a test run, see test.py."""

    __test__ = False  # pytest: this is no test class

    experiment_name: str = option('', EXPERIMENT, required=True, section='experiment and data')
    dataroot: str = option('', 'data folder; default: the one the experiment was trained with',
                           metavar='DIR')
    use_cropped_img: bool = cropped_option(help='take the square images in img_crop_celeba[_png]; '
                                           'default: as in training')
    img: Tuple[int, ...] = option((), '1-based list positions of the images, such as 182638 '
                                  '202599; default: the test split', minimum=1)
    output_dir: str = option('', 'folder of the sheets; default: sample_testing, '
                             'sample_testing_multi or sample_testing_slide in the experiment',
                             metavar='DIR')
    clear: bool = option(False, 'make sheets anew that are there already, and remove those of '
                         'other settings from the folder')

    test_int: float = option(1., 'intensity of single edits, in multiples of thres_int; the paper '
                             'uses 2', section='edits (default: each attribute by itself)')
    test_atts: Tuple[str, ...] = option((), 'invert these attributes at once', metavar='NAME')
    test_ints: Tuple[float, ...] = option((), 'their intensities; default: 1 each')
    test_slide: bool = option(False, 'slide the intensity of one attribute, --test_att')
    test_att: str = option('', 'attribute to slide', metavar='NAME')
    test_int_min: float = option(-1., 'first intensity of the slide')
    test_int_max: float = option(1., 'last intensity of the slide')
    n_slide: int = option(10, 'intensities of the slide', minimum=2)

    gpu: str = gpu_option(section='device and precision')
    device: str = device_option()
    threads: int = threads_option()
    precision: str = editing_precision_option()
    npu_option: Tuple[str, ...] = npu_settings_option()
    edit_batch: int = edit_batch_option()
    distribute: str = distribute_option()

    @property
    def folder(self):
        """The experiment folder."""
        return experiment_folder(self.experiment_name)

    def check(self):
        """Return self if every value is legal on its own and with the others, else raise."""
        check_values(self)
        experiment_folder(self.experiment_name)
        _check_npu_settings(self)
        if self.test_slide != bool(self.test_att):
            raise UserError('--test_slide and --test_att NAME belong together')
        if self.test_slide and self.test_int_min == self.test_int_max:
            raise UserError(f'--test_int_max {self.test_int_max}: a slide from --test_int_min '
                            f'{self.test_int_min} needs another end')
        if self.test_slide and self.test_atts:
            raise UserError('--test_slide slides one attribute: --test_atts does not go with it')
        self.check_used(field.name for field in dataclasses.fields(self)
                        if getattr(self, field.name) != field.default)
        self._check_attributes()
        return self

    def check_used(self, given):
        """Raise a UserError if one of the options of those names has no effect in this test."""
        for name in given:
            if name in ('test_int_min', 'test_int_max', 'n_slide') and not self.test_slide:
                raise UserError(f'--{name}: has no effect without --test_slide')
            if name == 'test_ints' and not self.test_atts:
                raise UserError('--test_ints: has no effect without --test_atts; --test_int is '
                                'the intensity of single edits')
            if name == 'test_int' and self.test_atts:
                raise UserError('--test_int: has no effect with --test_atts; name their '
                                'intensities with --test_ints')
            if name == 'test_int' and self.test_slide:
                raise UserError('--test_int: has no effect with --test_slide; name its range with '
                                '--test_int_min and --test_int_max')

    def _check_attributes(self):
        """Raise a UserError unless --test_atts and --test_ints make sense together."""
        for position, name in enumerate(self.test_atts):
            if name in self.test_atts[:position]:
                raise UserError(f'--test_atts: {name} is named twice')
            for other in self.test_atts[:position]:
                if other in CONFLICTS.get(name, ()):
                    raise UserError(f'--test_atts {other} {name}: contradict each other, so that '
                                    'switching one on undoes the edit of the other; edit them in '
                                    'tests of their own')
        if self.test_ints and len(self.test_ints) != len(self.test_atts):
            raise UserError(f'--test_ints: expected {len(self.test_atts)} numbers, one for each of '
                            '--test_atts')


@dataclasses.dataclass(frozen=True)
class PhotoConfig:
    """The options of scripts/edit_photos.py."""

    experiment_name: str = option('', EXPERIMENT, required=True, section='experiment and photos')
    output_dir: str = option('', 'folder of the results; default: photos, in the experiment',
                             metavar='DIR')
    format: str = option('png', 'of the edited photos; JPEG changes pixels that were not edited',
                         choices=('png', 'jpeg'))
    force: bool = option(False, 'overwrite results that are there')

    set: Tuple[str, ...] = option((), 'what to change, such as Young=-1 Eyeglasses=0.5: 0 leaves '
                                  'as it is, 1 is the step from off to on that training shows, -1 '
                                  'the one back', section='edits', metavar='NAME=X')
    strip: bool = option(False, 'show each face with every attribute changed by 1 and by -1')
    slide: str = option('', 'show each face with one attribute changed step by step',
                        metavar='NAME')
    slide_min: float = option(-1., 'first value of the slide', minimum=-MOST_CHANGE,
                              maximum=MOST_CHANGE)
    slide_max: float = option(1., 'last value of the slide', minimum=-MOST_CHANGE,
                              maximum=MOST_CHANGE)
    n_slide: int = option(9, 'values of the slide', minimum=2, maximum=100)
    recipe: str = option('', 'repeat the edit of a photo that this command has written',
                         metavar='FILE')
    labels: Tuple[str, ...] = option((), 'attributes that the photos show, or none: for '
                                     'experiments with --label target', metavar='NAME')
    labels_from_classifier: str = option('', 'or take for them what this classifier sees in each '
                                         'face: a checkpoint, or a folder of some', metavar='PATH')

    face: int = option(0, 'edit one face only, by its number: 1 is the largest; 0: all',
                       section='faces', minimum=0)
    smallest_face: int = option(40, 'height in pixels from which faces are looked for', minimum=12)
    landmarks: str = option('', 'list of faces, looked for in no photo then: lines of file name, '
                            'x and y of left eye, right eye, nose, left and right mouth corner',
                            metavar='FILE')
    no_align: bool = option(False, 'the photos are faces as in training: square crops, or '
                            'CelebA\'s aligned images')
    dry_run: bool = option(False, 'show which faces are found and what the network would see')

    gpu: str = gpu_option(section='device and precision')
    device: str = device_option()
    threads: int = threads_option()
    precision: str = editing_precision_option()
    npu_option: Tuple[str, ...] = npu_settings_option()
    edit_batch: int = edit_batch_option()

    @property
    def folder(self):
        """The experiment folder."""
        return experiment_folder(self.experiment_name)

    @property
    def values(self):
        """{attribute: how much} of --set."""
        values = {}
        for text in self.set:
            name, _, value = text.partition('=')
            try:
                values[name] = float(value)
            except ValueError:
                values[name] = math.nan
            if not abs(values[name]) <= MOST_CHANGE:
                raise UserError(f'--set {text}: expected an attribute and a number from '
                                f'-{MOST_CHANGE} to {MOST_CHANGE}, such as Young=-1')
        if len(values) < len(self.set):
            raise UserError('--set: an attribute is named twice')
        return values

    def check(self):
        """Return self if every value is legal on its own and with the others, else raise."""
        check_values(self)
        experiment_folder(self.experiment_name)
        _check_npu_settings(self)
        if self.recipe and (self.values or self.strip or self.slide or self.labels
                            or self.labels_from_classifier):
            raise UserError('--recipe: says what to do; --set, --strip, --slide, --labels and '
                            '--labels_from_classifier do not go with it')
        if self.labels and self.labels_from_classifier:
            raise UserError('take one of --labels and --labels_from_classifier')
        if self.recipe and (self.face or self.landmarks or self.no_align):
            raise UserError('--recipe: says which faces; --face, --landmarks and --no_align do '
                            'not go with it')
        if self.no_align and (self.face or self.landmarks):
            raise UserError('--no_align: the photos are faces; --face and --landmarks do not go '
                            'with it')
        if not (self.values or self.strip or self.slide or self.recipe or self.dry_run):
            raise UserError('nothing to do: say what with --set NAME=VALUE, --strip, --slide NAME '
                            'or --recipe FILE')
        return self


@dataclasses.dataclass(frozen=True)
class PageConfig:
    """The options of scripts/page.py."""

    experiment_name: str = option('', f'{EXPERIMENT}, the default; its model edits',
                                  section='model', metavar='NAME', alias='model')
    watch: bool = option(False, 'show trainings only; needs no checkpoint')

    host: str = option('127.0.0.1', 'address to listen on; another one than this lets others in, '
                       'who need the token that is printed then', section='server')
    port: int = option(8000, 'port to listen on; 0: a free one', minimum=0, maximum=65535)
    open: bool = option(False, 'open the page in the browser')

    gpu: str = gpu_option(section='device and precision')
    device: str = device_option()
    threads: int = threads_option()
    precision: str = editing_precision_option()

    @property
    def folder(self):
        """The experiment folder of the model; '' if trainings are watched only."""
        if self.watch:
            return ''
        return experiment_folder(self.experiment_name)

    def check(self):
        """Return self if every value is legal on its own and with the others, else raise."""
        check_values(self)
        if self.experiment_name:
            experiment_folder(self.experiment_name)
        if bool(self.experiment_name) == self.watch:
            raise UserError('take one of --experiment_name (or --model) and --watch')
        return self


def _check_npu_settings(options):
    if options.npu_option and options.device != 'npu':
        raise UserError('--npu_option: needs --device npu')


def _kind(field):
    """(type of one value, whether the option is a list of them)."""
    items = getattr(field.type, '__args__', None)
    return (items[0], True) if items else (field.type, False)


def _check_value(field, value):
    """Raise a UserError unless `value` has the field's type and satisfies its constraints."""
    flag, limits = f'--{field.name}', field.metadata
    kind, is_list = _kind(field)
    # bool is an int to Python, and JSON writes 100.0 as 100.
    kinds = (int, float) if kind is float else kind
    items = value if is_list else (value,)
    if not isinstance(items, tuple) or not all(
            isinstance(item, kinds) and isinstance(item, bool) == (kind is bool) for item in items):
        expected = f'list of {kind.__name__}' if is_list else kind.__name__
        raise UserError(f'{flag}: expected {expected}, got {json.dumps(value)}')
    if 'choices' in limits and value not in limits['choices']:
        raise UserError(f'{flag} {value}: choose from {", ".join(map(str, limits["choices"]))}')
    for item in items:
        if kind is float and not math.isfinite(item):
            raise UserError(f'{flag} {item}: expected a finite number')
        if kind is int and abs(item) > MAX_INT:
            raise UserError(f'{flag} {item}: expected at most {MAX_INT}')
        if 'minimum' in limits and item < limits['minimum']:
            raise UserError(f'{flag} {item}: expected at least {limits["minimum"]}')
        if 'maximum' in limits and item > limits['maximum']:
            raise UserError(f'{flag} {item}: expected at most {limits["maximum"]}')
        if 'above' in limits and item <= limits['above']:
            raise UserError(f'{flag} {item}: expected more than {limits["above"]}')


def add_options(parser, options, **defaults):
    """Give an argparse parser a flag for each field of an options class, in groups.

    Args:
        options: `RunConfig`, or another dataclass whose fields are made by `option`.
        defaults: other defaults than the class's.
    """
    group = parser
    for field in dataclasses.fields(options):
        flag, (kind, is_list), facts = f'--{field.name}', _kind(field), field.metadata
        default, help = defaults.get(field.name, field.default), facts['help']
        if facts['section']:
            group = parser.add_argument_group(facts['section'])
        if kind is bool and default is False:
            group.add_argument(flag, action='store_true', help=help)
            continue
        names = [flag, f'--{facts["alias"]}'] if facts['alias'] else [flag]
        group.add_argument(
            *names, type=boolean if kind is bool else kind, default=default, help=help,
            nargs='+' if is_list else None, choices=facts.get('choices'),
            required=facts['required'] and not default,
            metavar='BOOL' if kind is bool else facts['metavar'])


def parse_training(description, **defaults):
    """Parse the command line of train.py or train_mixed.py.

    Args:
        defaults: those that differ from `RunConfig`'s.

    Returns:
        (checked `RunConfig`, keyword arguments of `training.run`).
    """
    parser = ArgumentParser(description=description)
    now = datetime.datetime.now().strftime('%Y.%m.%d-%H%M%S')
    add_options(parser, RunConfig, experiment_name=now, **defaults)
    once = parser.add_argument_group('this time only')
    once.add_argument('--clear', action='store_true',
                      help='start over, removing what training left in the experiment folder')
    once.add_argument('--show_session', action='store_true',
                      help='print how the session would be configured, and exit')
    args = parser.parse_args()
    return from_args(RunConfig, args), {'clear': args.clear, 'show_session': args.show_session}


def given(parser, args):
    """Names of the options that the command line gives, be it with their default values.

    Args:
        args: the namespace that the parser has returned.
    """
    nothing = object()
    again = parser.parse_args(namespace=argparse.Namespace(**dict.fromkeys(vars(args), nothing)))
    return [name for name, value in vars(again).items() if value is not nothing]


def from_args(options, args):
    """Return the checked options in an argparse namespace, which may hold more."""
    names = [field.name for field in dataclasses.fields(options)]
    return options(**_with_tuples({name: getattr(args, name) for name in names})).check()


def _with_tuples(values):
    """`values` with lists, which JSON and argparse give, as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()}


def check_values(options):
    """Return `options` if each value is legal on its own, else raise a UserError."""
    for field in dataclasses.fields(options):
        _check_value(field, getattr(options, field.name))
    return options


def experiment_folder(name):
    """The folder of the experiment that a command line names.

    What has a slash in it is a path, and so are `.` and `..`; any other name means `output/<name>`.

    Raises:
        UserError: it is neither.
    """
    if '\0' not in name and ('/' in name or name in ('.', '..')):
        return name.rstrip('/') or '/'
    if not name or '\\' in name or '\0' in name:
        raise UserError(f'--experiment_name {name!r}: expected the name of a folder below output/, '
                        'or a path with a slash in it')
    return os.path.join('output', name)


def load_config(folder):
    """Return (RunConfig, ignored keys) of an experiment folder, also one of the published code.

    Options that its `setting.txt` does not know take their defaults.

    Raises:
        UserError: no such experiment, or a setting that is not legal.
    """
    path = os.path.join(folder, SETTING)
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such experiment; is --experiment_name right?')
    if not os.path.exists(path):
        raise UserError(f'{path}: missing, so this is no experiment folder')
    stored = read_json(path)
    known = {field.name for field in dataclasses.fields(RunConfig)}
    values = _with_tuples({name: value for name, value in stored.items() if name in known})
    # The folder may have been renamed since.
    values['experiment_name'] = os.path.basename(os.path.abspath(folder))
    try:
        config = RunConfig(**values).check()
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    return config, sorted(set(stored) - known - {'clear'})


def changed_options(config, reference=None):
    """Return lines `name = value  [default: x]` for options that differ from `reference`."""
    reference = reference or RunConfig()
    lines = []
    for field in dataclasses.fields(RunConfig):
        value, default = getattr(config, field.name), getattr(reference, field.name)
        if value != default and field.name != 'experiment_name':
            lines.append(f'{field.name} = {_shown(value)}  [default: {_shown(default)}]')
    return lines


def fixed_differences(config, stored):
    """Return lines for the options that differ but must not when a run is resumed."""
    return [f'--{field.name}: {_shown(getattr(stored, field.name))} so far, now '
            f'{_shown(getattr(config, field.name))}'
            for field in dataclasses.fields(RunConfig) if field.metadata['fixed']
            and getattr(config, field.name) != getattr(stored, field.name)]


def _shown(value):
    return ' '.join(value) if isinstance(value, tuple) else str(value)
