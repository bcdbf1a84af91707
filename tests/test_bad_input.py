"""Bad input: one line that names file, line or flag, exit status 2, nothing written or lost."""

import shutil

import pytest
from conftest import SMALL

TRAIN = ['train.py', '--experiment_name', 'new', '--dataroot', 'data', '--epoch', '1', *SMALL]
TEST = ['test.py', '--experiment_name', 'toy', '--dataroot', 'data']
CLASSIFY = ['att_classification/test.py', '--img_dir', 'output/toy/sample_testing']


def edit_list(change):
    """A preparation that changes the lines of the attribute list."""
    def prepare(folder):
        path = folder / 'data' / 'list_attr_celeba.txt'
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text('\n'.join(lines) + '\n')
    return prepare


def set_line(number, function):
    return edit_list(lambda lines: lines.__setitem__(number, function(lines[number])))


def truncate(*names):
    def prepare(folder):
        for name in names:
            path = folder / 'data' / 'img_align_celeba' / name
            path.write_bytes(path.read_bytes()[:300])
    return prepare


def change_setting(old, new):
    def prepare(folder):
        path = folder / 'output' / 'toy' / 'setting.txt'
        path.write_text(path.read_text().replace(old, new))
    return prepare


def nothing(folder):
    pass


def empty_sheet_folder(folder):
    (folder / 'output' / 'toy' / 'sample_testing').mkdir()


CASES = {
    'missing data root': (nothing, ['train.py', '--dataroot', 'nowhere'], '--dataroot nowhere'),
    'no attribute list': (lambda f: (f / 'data' / 'list_attr_celeba.txt').unlink(), TRAIN,
                          'list_attr_celeba.txt: No such file'),
    'wrong count': (set_line(0, lambda line: '61'), TRAIN, 'list_attr_celeba.txt:1: says'),
    'row too short': (set_line(16, lambda line: line[:-3]), TRAIN,
                      'list_attr_celeba.txt:17: expected 41 fields, found 40'),
    'value other than 1': (set_line(16, lambda line: line.replace('-1', ' 0')), TRAIN,
                           "list_attr_celeba.txt:17: expected values 1 or -1, found '0'"),
    'attribute not in the header': (set_line(1, lambda line: line.replace('Bald', 'Bold')), TRAIN,
                                    'list_attr_celeba.txt:2: no attribute Bald'),
    'images missing': (lambda f: (f / 'data' / 'img_align_celeba' / '000002.jpg').unlink(), TRAIN,
                       'lacks 1 of 52 images (000002.jpg)'),
    'image folder missing': (lambda f: shutil.rmtree(str(f / 'data' / 'img_align_celeba')), TRAIN,
                             'img_align_celeba: no such folder'),
    'too many truncated images': (truncate(*(f'{i:06d}.jpg' for i in range(1, 53 - 2))), TRAIN,
                                  'images are unusable'),
    'truncated test image': (truncate('000001.jpg'), [*TEST, '--img', '1'],
                             '000001.jpg: unusable image'),
    'unknown attribute': (nothing, [*TRAIN, '--atts', 'Bald', 'Nose'], 'no attribute Nose'),
    'size not divisible': (nothing, [*TRAIN, '--img_size', '42'], '--img_size 42: not divisible'),
    'batch larger than the data': (nothing, [*TRAIN, '--batch_size', '99'], '--batch_size 99'),
    'no GPU': (nothing, [*TRAIN, '--device', 'gpu'], '--device gpu'),
    'slide without flag': (nothing, [*TEST, '--test_att', 'Bald'], '--test_slide and --test_att'),
    'intensity of single edits for others': (
        nothing, [*TEST, '--test_atts', 'Bald', '--test_int', '1'], '--test_int: has no effect'),
    'number of a slide that is none': (nothing, [*TEST, '--n_slide', '10'],
                                       '--n_slide: has no effect'),
    'attribute not edited': (nothing, [*TEST, '--test_atts', 'Smiling'], '--test_atts Smiling'),
    'position outside the list': (nothing, [*TEST, '--img', '61'], '--img 61: the list has'),
    'no experiment': (nothing, ['test.py', '--experiment_name', 'none'], 'output/none: no such'),
    'no experiment name': (nothing, ['test.py'], '--experiment_name'),
    'no experiment at a path': (nothing, ['test.py', '--experiment_name', './x'], './x: no such'),
    'name that is none': (nothing, ['test.py', '--experiment_name', ''], "--experiment_name ''"),
    'setting.txt is no JSON': (change_setting('{', ''), TEST, 'setting.txt:'),
    'checkpoint does not fit': (change_setting('"enc_dim": 4', '"enc_dim": 8'), TEST,
                                'does not fit the model: '),
    'checkpoint is damaged': (
        lambda f: [p.write_bytes(b'') for p in (f / 'output/toy/checkpoints').glob('*.index')],
        TEST, 'damaged checkpoint'),
    'checkpoint data cut short': (
        lambda f: [p.write_bytes(p.read_bytes()[:99])
                   for p in (f / 'output/toy/checkpoints').glob('*.data*')],
        TEST, 'damaged checkpoint'),
    'no checkpoint': (lambda f: shutil.rmtree(str(f / 'output' / 'toy' / 'checkpoints')), TEST,
                      'no checkpoint'),
    'resumed with other options': (
        nothing, [*(('toy' if a == 'new' else a) for a in TRAIN), '--dis_dim', '8'],
        '--dis_dim: 4 so far, now 8'),
    'resumed on another checkpoint': (
        change_setting('"dis_fc_dim": 8', '"dis_fc_dim": 16'),
        [*(('toy' if a == 'new' else a) for a in TRAIN), '--dis_fc_dim', '16'],
        'does not fit the model: '),
    'no sheets': (nothing, ['psnr_ssim.py', '--experiment_name', 'toy'], 'no such folder'),
    'empty sheet folder': (empty_sheet_folder, ['psnr_ssim.py', '--experiment_name', 'toy'],
                           'sample_testing: no sheets'),
    'empty folder to classify': (empty_sheet_folder, CLASSIFY, 'sample_testing: no sheets'),
    'classifier without test images': (
        nothing, ['att_classification/train.py', '--dataroot', 'data', '--split', '0.5,0.5,0'],
        'the test split is empty'),
    'classifier size': (nothing, ['att_classification/train.py', '--dataroot', 'data',
                                  '--img_size', '48'], '--img_size 48'),
}


def snapshot(folder):
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


# Those that come to light only after a graph is built.
TRAINED = 'too many truncated images', 'resumed on another checkpoint'


@pytest.mark.parametrize('prepare, command, complaint', [
    pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in TRAINED else [])
    for name, case in CASES.items()])
def test_bad_input(run, workspace, toy_data, prepare, command, complaint):
    shutil.copytree(str(toy_data), str(workspace / 'data'))
    prepare(workspace)
    before = snapshot(workspace)
    done = run(*command)
    assert done.status == 2, done.err
    # Progress bars end before the error is printed.
    *others, last = [line for line in done.err.strip().splitlines() if '%|' not in line]
    assert 'error: ' in last and complaint in last
    if complaint == 'images are unusable':
        return    # found while training, which has begun to write then
    # An unreadable image is named before it turns out that there is no other one.
    assert not [line for line in others if line and f'{complaint} (' not in line]
    assert snapshot(workspace) == before


def test_sheets_need_a_classifier(run, workspace):
    done = run('test.py', '--experiment_name', 'toy', '--img', '1')
    assert done.status == 0, done.err
    (workspace / 'none').mkdir()
    done = run(*CLASSIFY, '--checkpoint', 'none')
    assert done.status == 2 and 'none: no classifier checkpoint' in done.err


def test_help_is_there_for_every_command(run):
    for script in ('train.py', 'test.py', 'psnr_ssim.py', 'att_classification/train.py',
                   'att_classification/test.py', 'scripts/toy/make_toy_celeba.py'):
        done = run(script, '--help')
        assert done.status == 0 and '--' in done.out
