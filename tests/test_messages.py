"""No message names a flag that its command lacks: found by reading the code, not by running it."""

import ast
import re

import pytest
from conftest import ROOT

PACKAGES = ['', 'att_classification', 'imlib', 'precision_tool', 'pylib', 'scripts',
            'scripts/ascend', 'scripts/bench', 'scripts/toy', 'stgan', 'tflib']
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).glob('*.py'))
         if path.name != 'setup.py']
COMMANDS = [str(path.relative_to(ROOT)) for path in FILES
            if re.search(r'ArgumentParser\(|parse_training\(__doc__', path.read_text('utf-8'))
            and 'run_command(main)' in path.read_text('utf-8')]
FLAG = r'(?<![\w-])--[a-z]\w*'
# What reading cannot tell: (file, function) -> why its messages do not come up in ...
NOT_SEEN = {
    ('stgan/config.py', 'RunConfig'): 'setting.txt is named before the flag by load_config',
    ('stgan/config.py', 'TestConfig'): 'other commands give legal values',
    ('stgan/config.py', '_check_npu_settings'): 'only where there is --npu_option',
    ('tflib/npu.py', 'choose_adapter_version'): 'only where there is --npu_option',
    ('tflib/npu.py', 'parse_option'): 'only where there is --npu_option',
    ('tflib/npu.py', 'training_options'): 'only for options of training commands',
    ('tflib/utils.py', '_rewrite_to_16_bits'): 'only for precision "mixed", which is a flag\'s',
    ('tflib/utils.py', 'session_config'): 'only for precision "tf32", which is a flag\'s',
}
# ... these commands.
NOT_SEEN_IN = {
    # They give others what they have made.
    'scripts/demo.py': ['stgan/config.py', 'stgan/sheets.py', 'tflib/npu.py', 'tflib/utils.py'],
    'scripts/bench/chaos.py': ['stgan/celeba.py'],
    'scripts/bench/benchmark.py': ['stgan/config.py', 'tflib/npu.py', 'tflib/utils.py'],
    'scripts/bench/compare_precision.py': ['stgan/config.py'],
    'scripts/precision_walkthrough.py': ['stgan/config.py'],
    # It edits on the CPU, and there is no flag that it might name.
    'scripts/toy/pictures.py': ['stgan/sheets.py:open_folder', 'tflib/npu.py', 'tflib/utils.py'],
    'scripts/toy/pack_model.py': ['stgan/export.py', 'tflib/npu.py', 'tflib/utils.py'],
    # It reads labels, no images, and setting.txt only if that is there.
    'att_classification/test.py': ['stgan/celeba.py:_check_sizes', 'stgan/celeba.py:_image_folder',
                                   'stgan/config.py'],
}


def module_name(path):
    relative = path.relative_to(ROOT).with_suffix('')
    parts = relative.parts[:-1] if relative.name == '__init__' else relative.parts
    return '.'.join(parts)


class Module:
    """What a module defines and imports, by name."""

    def __init__(self, path):
        self.tree, self.path = ast.parse(path.read_text('utf-8')), str(path.relative_to(ROOT))
        self.definitions = {node.name: node for node in self.tree.body
                            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        self.imported = {}    # name -> (module, name in it or None)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = node.module, alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = alias.name, None


MODULES = {module_name(path): Module(path) for path in FILES}


def definition(module, name):
    """(module, name) of what a name in a module stands for; None if it is not the project's."""
    while module in MODULES:
        if name in MODULES[module].definitions:
            return module, name
        if f'{module}.{name}' in MODULES:
            return f'{module}.{name}', None
        if name not in MODULES[module].imported:
            return None
        module, name = MODULES[module].imported[name]
        if name is None:
            return (module, None) if module in MODULES else None
    return None


def used(module, node):
    """The functions and classes of the project that a definition names."""
    for part in ast.walk(node):
        found = None
        if isinstance(part, ast.Name):
            found = definition(module, part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            owner = definition(module, part.value.id)
            found = definition(owner[0], part.attr) if owner and owner[1] is None else None
        if found and found[1]:
            yield found


def reachable(module):
    """What a command may call: all that is named by what it may call. Classes bring all methods."""
    todo, seen = [(module, name) for name in MODULES[module].definitions], set()
    while todo:
        each = todo.pop()
        if each not in seen:
            seen.add(each)
            todo += used(each[0], MODULES[each[0]].definitions[each[1]])
    return seen


def messages(node):
    """The texts that a definition raises or prints."""
    for part in ast.walk(node):
        is_call = isinstance(part, ast.Call) and (
            getattr(part.func, 'id', getattr(part.func, 'attr', '')) in (
                'warn', 'print', 'error', 'interruption', 'UserError', 'RunFailed'))
        if is_call or isinstance(part, ast.Raise):
            # Python 3.7 calls the value of a string s.
            texts = [vars(text).get('value', vars(text).get('s')) for text in ast.walk(part)]
            yield ' '.join(text for text in texts if isinstance(text, str))


@pytest.fixture(scope='module')
def flags():
    """A function that returns the flags a command's --help shows, with those of sub-commands."""
    known = {}

    def flags_of(run, command):
        if command not in known:
            if command.startswith('precision_tool'):
                text = ''.join(path.read_text('utf-8')
                               for path in (ROOT / 'precision_tool').glob('*.py'))
                known[command] = set(re.findall(r"\(\s*(?:'-\w', )?'(--\w+)", text))
            else:
                known[command] = set(re.findall(FLAG, run(command, '--help').out))
        return known[command]
    return flags_of


def test_the_reading_finds_what_is_there():
    assert len(COMMANDS) >= 15 and {'test.py', 'att_classification/train.py'} <= set(COMMANDS)
    assert ('stgan.celeba', '_image_folder') in reachable('test')
    assert ('pylib.files', 'read_json') in reachable('psnr_ssim')    # through pylib/__init__.py
    assert ('stgan.data', 'TrainingBatches') in reachable('att_classification.train')
    assert ('stgan.data', 'TrainingBatches') not in reachable('test')
    code = ast.parse('def f():\n    raise UserError(f"{x}: take --this, or " "--that")')
    assert re.findall(FLAG, next(messages(code))) == ['--this', '--that']


@pytest.mark.parametrize('command', COMMANDS)
def test_every_flag_of_every_message_exists(run, flags, command):
    lacking = []
    for module, name in reachable(module_name(ROOT / command)):
        path = MODULES[module].path
        left_out = NOT_SEEN_IN.get(command, [])
        if (path, name) in NOT_SEEN or path in left_out or f'{path}:{name}' in left_out:
            continue
        for message in messages(MODULES[module].definitions[name]):
            allowed = set(flags(run, command))
            for other in re.findall(r'[\w/]+\.py\b', message):    # that the message names
                allowed |= flags(run, other) if other in COMMANDS else set()
            unknown = set(re.findall(FLAG, message)) - allowed
            if unknown:
                lacking.append((path, name, sorted(unknown), message[:60]))
    assert not lacking, lacking
