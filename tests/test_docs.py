"""What README and docs show exists and does what they say; both languages show the same."""

import os
import re
import shlex
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from conftest import ROOT

import stgan

PAGES = ['README.md', 'README.zh-CN.md', 'CONTRIBUTING.md', 'CHANGELOG.md',
         *sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'docs').rglob('*.md'))]
TRANSLATED = {'README.md': 'README.zh-CN.md',
              **{page: page.replace('docs/', 'docs/zh-CN/') for page in PAGES
                 if (ROOT / page.replace('docs/', 'docs/zh-CN/')).exists()
                 and page.startswith('docs/') and 'zh-CN' not in page}}


def text(page):
    return (ROOT / page).read_text('utf-8')


def code_lines(page):
    """Lines of a page that a reader may paste: of console blocks, and commands in the text."""
    joined = text(page).replace('\\\n', ' ')
    for block in re.findall(r'```console\n(.*?)```', joined, re.S):
        yield from (re.sub(r'^\$ ', '', line) for line in block.splitlines())
    yield from re.findall(r'(?<!`)`((?:python|bash|make) [^`\n]+)`', joined)


def commands(lines):
    """[(script, sub-command or '', flags)] of the commands in some lines that run this project."""
    found = []
    for line in lines:
        folder = ''
        # What stands after -- is a command of its own, which the one before it starts.
        for part in line.replace(' -- ', ' && python ').split('&&'):
            if not re.match(r'\s*(python|bash|cd) ', part):
                continue
            program, *words = shlex.split(part, comments=True)
            flags = tuple(word.split('=')[0] for word in words if re.match('--?[a-z]', word))
            if program == 'cd':
                folder = words[0] + '/'
            elif words[0] == '-m':
                rest = [word for word in words[2:] if not word.startswith('-')]
                found.append((words[1] + '/__main__.py', rest[0] if rest else '', flags[1:]))
            else:
                found.append((folder + words[0], '', flags))
    return found


DOCUMENTED = {}
for page in PAGES:
    for script, word, flags in commands(code_lines(page)):
        DOCUMENTED.setdefault((script, word), set()).update(flags)


def test_there_are_commands():
    assert len(commands(code_lines('README.md'))) >= 5 and len(DOCUMENTED) >= 20
    assert '--dis_fc_dim' in DOCUMENTED['train.py', '']    # on the second line of a command
    assert ('precision_tool/__main__.py', 'ac') in DOCUMENTED


def flags_of(out):
    """The flags that --help shows."""
    return set(re.findall(r'(?<![\w-])--?[a-z]\w*', out))


@pytest.mark.parametrize('script, word', sorted(DOCUMENTED))
def test_flags_exist(run, script, word):
    if script.endswith('.sh'):
        done = subprocess.run(['bash', str(ROOT / script), '--help'], stdout=subprocess.PIPE,
                              text=True)
        status, out = done.returncode, done.stdout
    else:
        status, out, _ = run(script, *[word] if word else [], '--help')
    assert status == 0
    assert DOCUMENTED[script, word] <= flags_of(out)


@pytest.mark.parametrize('script', [
    str(path.relative_to(ROOT)) for folder in ('', 'att_classification', 'scripts', 'scripts/toy',
                                               'scripts/bench', 'scripts/ascend')
    for path in sorted((ROOT / folder).glob('*.py')) if 'ArgumentParser' in path.read_text('utf-8')
    or 'parse_training' in path.read_text('utf-8')])
def test_help_fits_and_its_examples_can_be_pasted(run, monkeypatch, script):
    monkeypatch.setenv('COLUMNS', '80')
    done = run(script, '--help')
    usage, *_ = done.out.split('\n\n')
    assert done.status == 0 and len(usage.splitlines()) <= 2
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    assert not re.search(r'default: (None|False|\(|\[|\))|None:', done.out)
    examples = done.out.partition('examples:\n')[2].replace('\\\n', ' ')
    found = commands(line.strip() for line in examples.splitlines())
    assert found or script == 'scripts/ascend/report_run.py'    # which people do not run
    for command, _, flags in found:
        known = done.out if command.endswith(script) else run(command, '--help').out
        assert set(flags) <= flags_of(known.partition('examples:')[0])


@pytest.mark.parametrize('page', [*PAGES, '.github/workflows/ci.yml'])
def test_make_targets_exist(page):
    targets = re.findall(r'^([\w-]+):', text('Makefile'), re.M)
    named = re.findall(r'(?:^|`|run: )make ([\w-]+)', text(page), re.M)
    assert set(named) <= set(targets)


@pytest.mark.parametrize('page, translation', TRANSLATED.items())
def test_translation_shows_the_same(page, translation):
    assert commands(code_lines(translation)) == commands(code_lines(page))
    for pattern in (r'^#+ ', r'^\|', r'^- ', r'`(--\w+)', r'\]\((?:\.\./)*(?:docs/)?(?:zh-CN/)?'
                    r'([\w.]+\.(?:md|py))'):
        shown, wanted = (sorted(re.findall(pattern, text(name), re.M))
                         for name in (translation, page))
        assert [word for word in shown if 'README' not in word] == (
            [word for word in wanted if 'README' not in word])


def anchors(page):
    """What a link's # may name: the headings, as GitHub writes them."""
    return [re.sub(r'[^\w -]', '', heading.lower()).strip().replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)', text(page), re.M)]


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r'\]\((?!http)([^)#]*)#?([^)]*)\)', text(page)):
        path = os.path.normpath(os.path.join(os.path.dirname(page), target)) if target else page
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(path), anchor


@pytest.mark.parametrize('page', PAGES)
def test_named_files_and_tests_exist(page):
    for name in re.findall(r'`((?:[a-z_]+|\.github)/[\w./-]+\.(?:py|sh|md|yml))\b', text(page)):
        assert (ROOT / name).exists(), name
    tests = {path.name: path.read_text('utf-8') for path in (ROOT / 'tests').rglob('test_*.py')}
    for file, name in re.findall(r'`(?:tests/[\w/]*)?(test_\w+\.py)?(?:::)?(test_\w+)?`',
                                 text(page)):
        assert not file or file in tests, file
        assert not name or f'def {name}(' in tests.get(file, '\n'.join(tests.values())), name


@pytest.mark.parametrize('page', ['docs/editing.md', 'docs/zh-CN/editing.md'])
def test_python_example_runs(trained, monkeypatch, page):
    (code,) = re.findall(r'```python\n(.*?)```', text(page), re.S)
    monkeypatch.chdir(trained)
    namespace = {'image': np.zeros([32, 32, 3], np.float32), 'labels': np.zeros([1, 13], int)}
    exec(code.replace('output/128', 'output/toy'), namespace)
    assert namespace['edits'].shape == (14, 32, 32, 3)


@pytest.mark.parametrize('page', ['README.md', 'README.zh-CN.md'])
def test_readme_is_short(page):
    lines = text(page).splitlines()
    assert len(lines) <= 180
    for line in lines:
        assert sum(1 + (unicodedata.east_asian_width(c) in 'WF') for c in line) <= 120, line


def test_versions_agree():
    assert f'\n## {stgan.__version__} ' in text('CHANGELOG.md')
    assert f'\nversion: {stgan.__version__}\n' in text('CITATION.cff')
    setup = subprocess.run([sys.executable, 'setup.py', '--version'], cwd=str(ROOT),
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert setup.stdout.split()[-1] == stgan.__version__


def shown_output(page):
    """[(command, output shown)] of the console blocks of a page."""
    found = []
    for block in re.findall(r'```console\n(.*?)```', text(page), re.S):
        for part in re.split(r'^\$ ', block, flags=re.M)[1:]:
            command, _, output = part.partition('\n')
            found.append((command, output))
    return found


def words(output):
    """What has to be there whatever the numbers, which differ between machines: the words."""
    return [word for word in re.findall(r'[A-Za-z_][\w/]*', output)
            if not re.search(r'result_|T\d', word)]


@pytest.mark.parametrize('page', ['docs/precision_tool.md'])
def test_commands_give_the_output_shown(tmp_path, page):
    assert len(shown_output(page)) >= 4
    for command, output in shown_output(page):
        program, *arguments = shlex.split(command)
        assert program == 'python'
        if arguments[0] != '-m':
            arguments[0] = str(ROOT / arguments[0])
        done = subprocess.run([sys.executable, *arguments], cwd=str(tmp_path), text=True,
                              env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True)
        assert done.returncode in (0, 1) and 'Traceback' not in done.stderr, done.stderr
        assert words(done.stdout) == words(output), command
