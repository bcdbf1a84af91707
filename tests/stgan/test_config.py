"""Options: flags, setting.txt, and what may change when a run is resumed."""

import dataclasses
import json

import pytest

from pylib import ArgumentParser, UserError
from stgan import config as config_module
from stgan.config import RunConfig, TestConfig, add_options, from_args, load_config


def parse(*arguments, options=RunConfig):
    parser = ArgumentParser()
    add_options(parser, options, experiment_name='name')
    return from_args(options, parser.parse_args(list(arguments)))


def test_published_defaults():
    config = parse()
    assert config == RunConfig(experiment_name='name')
    published = {'img_size': 128, 'enc_dim': 64, 'dis_fc_dim': 1024, 'label': 'diff',
                 'use_stu': True, 'stu_norm': 'none', 'stu_state': 'stu', 'mode': 'wgan',
                 'epoch': 200, 'init_epoch': 100, 'batch_size': 32, 'lr': 2e-4, 'n_d': 5,
                 'thres_int': .5, 'test_int': 1., 'rec_loss_weight': 100., 'gp_weight': 10.,
                 'd_att_weight': 1., 'num_ckpt': 1, 'n_sample': 64}
    assert {name: getattr(config, name) for name in published} == published


@pytest.mark.parametrize('text, value', [('true', True), ('False', False), ('0', False)])
def test_boolean_flags(text, value):
    assert parse('--use_stu', text).use_stu is value


def test_attgan_and_384_recipes_are_legal():
    parse('--use_stu', 'false', '--shortcut_layers', '1', '--inject_layers', '1')
    parse('--img_size', '384', '--enc_dim', '48', '--dec_dim', '48', '--dis_dim', '48',
          '--dis_fc_dim', '512', '--n_sample', '24', '--use_cropped_img')


@pytest.mark.parametrize('arguments, complaint', [
    (['--img_size', '100'], '--img_size 100: not divisible by 32'),
    (['--lr', '0'], '--lr 0.0'), (['--lr', 'nan'], '--lr nan'),
    (['--test_int', 'inf'], '--test_int inf'),
    (['--seed', '2147483648'], '--seed 2147483648'), (['--epoch', '0'], '--epoch 0'),
    (['--atts', 'Bald', 'Bald'], '--atts'), (['--dec_layers', '4'], '--dec_layers 4'),
    (['--stu_layers', '3'], '--stu_layers 3'),
    (['--experiment_name', 'a\\b'], '--experiment_name'),
    (['--one_more_conv', '3', '--dec_dim', '2'], '--dec_dim 2')])
def test_illegal_values_are_named(arguments, complaint):
    with pytest.raises(UserError) as error:
        parse(*arguments)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize('name, folder', [
    ('128', 'output/128'), ('a b', 'output/a b'), ('-[a]', 'output/-[a]'), ('...', 'output/...'),
    ('models/toy', 'models/toy'), ('./toy/', './toy'), ('/abs/x', '/abs/x'), ('../x', '../x'),
    ('.', '.'), ('..', '..'), ('/', '/')])
def test_a_slash_makes_a_path_of_an_experiment_name(name, folder):
    for options in (RunConfig, TestConfig):
        assert parse(f'--experiment_name={name}', options=options).folder == folder


@pytest.mark.parametrize('arguments', [['--use_stu', 'maybe'], ['--mode', 'gan'], ['--bogus', '1'],
                                       ['--batch_size', 'x'], ['--img', '128']])
def test_flags_that_argparse_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_setting_txt_round_trip(tmp_path):
    config = parse('--atts', 'Bald', 'Male', '--use_cropped_img')
    (tmp_path / 'name').mkdir()
    config.save(str(tmp_path / 'name'))
    assert load_config(str(tmp_path / 'name')) == (config, [])


def write_setting(folder, **changes):
    stored = dict(dataclasses.asdict(RunConfig()), **changes)
    (folder / 'setting.txt').write_text(json.dumps(stored))


@pytest.mark.parametrize('changes, complaint', [
    ({'img_size': '128'}, '--img_size: expected int'), ({'use_stu': 1}, '--use_stu: expected bool'),
    ({'atts': 'Bald'}, '--atts: expected list of str'), ({'lr': None}, '--lr: expected float'),
    ({'mode': 'gan'}, '--mode gan'), ({'n_d': True}, '--n_d: expected int')])
def test_illegal_settings_are_named(tmp_path, changes, complaint):
    write_setting(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        load_config(str(tmp_path))
    assert 'setting.txt: ' + complaint in str(error.value)


def test_unknown_settings_are_listed_and_missing_ones_take_defaults(tmp_path):
    (tmp_path / 'setting.txt').write_text(json.dumps({'enc_dim': 8, 'clear': True, 'novel': 1}))
    config, ignored = load_config(str(tmp_path))
    assert (config.enc_dim, config.dec_dim, ignored) == (8, 64, ['novel'])


def test_only_fixed_options_block_resuming():
    stored = RunConfig()
    longer = dataclasses.replace(stored, epoch=300, lr=1e-4)
    assert config_module.fixed_differences(longer, stored) == []
    (line,) = config_module.fixed_differences(dataclasses.replace(stored, enc_dim=32), stored)
    assert line == '--enc_dim: 64 so far, now 32'


def test_changed_options_show_their_defaults():
    lines = config_module.changed_options(RunConfig(batch_size=8, atts=('Bald', 'Male')))
    assert lines[0].startswith('atts = Bald Male  [default: Bald Bangs')
    assert lines[1] == 'batch_size = 8  [default: 32]'


@pytest.mark.parametrize('arguments, complaint', [
    (['--test_att', 'Bald'], '--test_slide and --test_att'),
    (['--test_slide'], '--test_slide and --test_att'),
    (['--test_slide', '--test_att', 'Bald', '--test_atts', 'Male'], '--test_slide slides one'),
    (['--test_slide', '--test_att', 'Bald', '--n_slide', '1'], '--n_slide 1'),
    (['--test_slide', '--test_att', 'Bald', '--test_int_min', '1'], '--test_int_max 1.0: a slide '
     'from --test_int_min 1.0 needs another end'),
    (['--test_atts', 'Bald', '--test_ints', '1', '2'], '--test_ints: expected 1'),
    (['--test_slide', '--test_att', 'Bald', '--test_int', '2'], '--test_int: has no effect with '
     '--test_slide'),
    (['--test_atts', 'Bald', '--test_int', '2'], '--test_int: has no effect with --test_atts'),
    (['--test_ints', '2'], '--test_ints: has no effect without --test_atts'),
    (['--n_slide', '3'], '--n_slide: has no effect without --test_slide'),
    (['--test_int_min', '-2'], '--test_int_min: has no effect without --test_slide'),
    (['--test_atts', 'Bald', '--test_int_max', '2'], '--test_int_max: has no effect without'),
    (['--test_atts', 'Male', 'Bald', 'Male'], '--test_atts: Male is named twice'),
    (['--test_atts', 'Black_Hair', 'Male', 'Blond_Hair'], '--test_atts Black_Hair Blond_Hair: '
     'contradict each other'),
    (['--test_atts', 'Bangs', 'Bald'], '--test_atts Bangs Bald: contradict each other'),
    (['--img', '0'], '--img 0')])
def test_illegal_test_options_are_named(arguments, complaint):
    with pytest.raises(UserError) as error:
        parse(*arguments, options=TestConfig)
    assert str(error.value).startswith(complaint)


def test_test_ints_are_numbers():
    """The published code keeps them as text and crashes."""
    options = parse('--test_atts', 'Bald', 'Male', '--test_ints', '1.0', '2', options=TestConfig)
    assert options.test_ints == (1., 2.)


def test_options_are_shown_in_groups(monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    parser = ArgumentParser(prog='x.py')
    add_options(parser, TestConfig)
    parser.print_help()
    usage, _, *groups = capsys.readouterr().out.split('\n\n')
    assert usage == 'usage: x.py --experiment_name NAME [options]'
    assert [group.split('\n')[0] for group in groups] == [
        'experiment and data:', 'edits (default: each attribute by itself):',
        'device and precision:']
    assert '--test_slide ' in groups[1] and '--device {auto,cpu,gpu,npu}' in groups[2]


def test_required_options_have_to_be_given(capsys):
    parser = ArgumentParser(prog='x.py')
    add_options(parser, TestConfig)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert capsys.readouterr().err == ('x.py: error: the following arguments are required: '
                                       '--experiment_name (see --help)\n')
