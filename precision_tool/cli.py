"""Find the operator at which an NPU run goes wrong, from dump files.

With a command, do that; without one, show a prompt. COMMAND --help tells more. Exit status: 0, 1 if
a check found something, 2 for bad input.

Examples:
    python -m precision_tool ac
    python -m precision_tool
"""

import argparse
import contextlib
import math
import os
import shlex
import sys
from cmd import Cmd

if not __package__:
    import _checkout

from precision_tool import commands, sources
from precision_tool.output import Output
from precision_tool.results import THRESHOLD
from precision_tool.workspace import DATA_ROOT, Workspace
from pylib import ArgumentParser, CommandError, UserError, run_command

# The same commands under the names of other versions of the official tool.
ALIASES = {'cp': ['compare'], 'vc': ['vector_compare']}


def _type(name, convert, is_legal):
    """An argparse type of numbers that are legal; messages call it `name`."""
    def converted(text):
        value = convert(text)
        if not is_legal(value):
            raise ValueError(text)
        return value
    converted.__name__ = name
    return converted


positive = _type('positive', int, lambda value: value > 0)
natural = _type('natural', int, lambda value: value >= 0)
finite = _type('finite', float, math.isfinite)    # nothing is below a threshold of NaN
tolerance = _type('tolerance', float, lambda value: 0 <= value < math.inf)


def build_parser():
    """The parser of a line: common flags and a sub-parser for each command."""
    parser = ArgumentParser(prog='precision_tool', description=__doc__)
    parser.add_argument('--root', default=DATA_ROOT, help='folder of all dumps and results')
    parser.add_argument('--json', action='store_true', help='answer in JSON, for scripts')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', title='commands')

    def add(name, example):
        function = getattr(commands, name)
        summary = function.__doc__.splitlines()[0]
        sub = subparsers.add_parser(
            name, aliases=ALIASES.get(name, []), help=summary,
            description=f'{summary}\n\nExamples:\n'
                        f'    python -m precision_tool {name} {example}'.rstrip())
        sub.set_defaults(function=function)
        return sub.add_argument

    def add_threshold(option, *flags):
        option(*flags, '--cosine', type=finite, default=THRESHOLD, help='cosine below which a '
               f'tensor is wrong (default {THRESHOLD})')

    def add_limit(option):
        option('-l', '--limit', type=positive, default=3, help='rows to show of each table '
               '(default 3)')

    option = add('ac', '')
    option('-c', '--compare', action='store_true', help='compare the dumps anew first')
    add_limit(option)
    add_threshold(option)
    option = add('vc', '-lt npu_dump -rt tf_dump')
    option('-lt', '--left', help='folder of an NPU dump or golden tensors; default: '
           'npu/debug_0/dump')
    option('-rt', '--right', help='folder to compare it with; default: tf/dump')
    option('-g', '--graph', help='part of a graph\'s name, to use only such graphs')
    option('-out', '--output', help='folder of the results; default: temp/vector_compare/TIME')
    option('--processes', type=positive, help='workers; default: one per core')
    add_threshold(option, '-c')
    option = add('vcs', '-c 0.95 -l 10')
    option('-f', '--file', help='CSV file, or its folder; default: the newest')
    add_threshold(option, '-c')
    add_limit(option)
    option = add('ls', '-t Conv2D')
    option('what', nargs='?', choices=('dump',), help='dump: what was dumped, not what is in the '
           'graphs')
    for flag, name, help in (('-t', '--type', 'type'), ('-n', '--name', 'name'),
                             ('-f', '--fused_by', 'fusion pass'), ('-k', '--kernel', 'kernel')):
        option(flag, name, default='', help=f'part of the {help}')
    option = add('ni', 'Genc/Conv/Conv2D -s 2')
    # Written `ni NAME` and `ni -n NAME`.
    option('name', help='name of an operator')
    option('-g', '--graph', default='', help='part of the graph\'s name')
    option('-a', '--attributes', action='store_true', help='all attributes too')
    option('-s', '--depth', type=natural, default=0, help='draw so many steps around it')
    option = add('pt', 'Genc_Conv_Conv2D.0.1619492699305998.npy')
    option('file', help='a .npy or dump file; names are searched for in the workspace')
    option('-s', '--save', action='store_true', help='write all values to FILE.txt')
    option = add('cp', 'left.npy right.npy')
    option('left', help='a .npy or dump file; of a dump, FILE:input:1 is one of its tensors '
           '(default: the first output)')
    option('right', help='another one')
    option('-p', '--print', type=positive, default=20, help='rows to show (default 20)')
    option('-al', '--absolute', type=tolerance, default=.001, help='tolerance (default 0.001)')
    option('-rl', '--relative', type=tolerance, default=.001, help='relative tolerance (default '
           '0.001)')
    option = add('dc', 'Genc/Conv/Conv2D')
    option('name', help='a dump file, a folder of them, or an operator\'s name')
    option('-r', '--raw', action='store_true', help='leave the NPU\'s layout as it is')
    option('-o', '--output', help='folder of the files; default: temp/decode/dump_convert')
    option = add('tf_dump', '')
    option('words', nargs=argparse.REMAINDER, metavar='COMMAND', help='to run first')
    option = add('npu_dump', 'python train.py')
    option('words', nargs=argparse.REMAINDER, metavar='COMMAND', help='to run')
    option = add('npu_overflow', 'python train.py')
    add_limit(option)
    option('words', nargs=argparse.REMAINDER, metavar='COMMAND', help='to run; without it, what '
           'was dumped is listed')
    option = add('infer', 'msquickcmp_output')
    option('folder', help='what msquickcmp wrote')
    add_limit(option)
    add_threshold(option)
    option = add('train', '-d cpu')
    option('-d', '--device', choices=('all', 'npu', 'cpu'), default='all', help='where (default '
           'all)')
    option('-a', '--action', default='dump', help='of tf_config, on the NPU (default dump)')
    option = add('run', '"ls precision_data | head"')
    option('words', nargs=argparse.REMAINDER, metavar='COMMAND', help='of the shell')
    option = add('data', 'other_precision_data')
    option('folder', nargs='?', help='to look at; at the prompt, also to work with from now on')
    return parser


def official_form(words):
    """The words of a line without the -n before a name that some commands take by position."""
    for index, word in enumerate(words):
        if word in ('ni', 'pt', 'cp', 'compare', 'dc'):
            rest = words[index + 1:]
            return words[:index + 1] + (rest[1:] if rest[:1] == ['-n'] else rest)
    return words


def execute(parser, words, root=None):
    """Run the command in `words` and print its answer.

    Returns:
        (exit status, root of the workspace from now on).
    """
    args = parser.parse_args(official_form(words))
    if getattr(args, 'words', [])[:1] == ['--']:    # `npu_dump -- COMMAND`
        args.words = args.words[1:]
    if not args.command:
        parser.print_help()
        return 0, root
    root = root or args.root
    if args.command == 'data' and args.folder:
        root = args.folder
    output = Output()
    args.function(args, Workspace(root), output)
    output.print(args.json)
    return int(output.found), root


class Prompt(Cmd):
    """Commands one after another, with history and completion."""

    prompt = 'PrecisionTool > '

    def __init__(self, parser, root):
        super().__init__()
        self._parser, self._root = parser, root
        actions = [action for action in parser._actions if action.dest == 'command']
        self._commands = sorted(actions[0].choices)
        self.intro = ('commands: ' + ' '.join(self._commands) + '; help COMMAND; other words go to '
                      'the shell; end with exit')

    def onecmd(self, line):
        """Run a line; an error is one line and no end."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            print(f'error: {line}: {error}', file=sys.stderr)
            return False
        if words in (['exit'], ['quit'], ['EOF']):
            return True
        if words[:1] == ['help']:
            words = [*words[1:], '--help'] if words[1:] else ['--help']
        elif words and words[0] not in self._commands:
            words = ['run', line]
        if not words:
            return False
        # argparse ends the process after help and errors.
        with contextlib.suppress(SystemExit):
            try:
                _, self._root = execute(self._parser, words, self._root)
            except CommandError as error:
                print(f'error: {error}', file=sys.stderr)
            except KeyboardInterrupt:
                print()
        return False

    def completenames(self, text, *ignored):
        """Commands that begin with `text`."""
        return [name for name in self._commands if name.startswith(text)]

    def completedefault(self, text, line, begidx, endidx):
        """Names of operators, or files, that begin with the word at the cursor."""
        word = line[:endidx].split(' ')[-1]
        cut = len(word) - len(text)
        names = set()
        with contextlib.suppress(UserError):
            names = {op.name for _, _, op in sources.operators(Workspace(self._root), [])}
        folder = os.path.dirname(word)
        with contextlib.suppress(OSError):
            names |= {os.path.join(folder, name) for name in os.listdir(folder or '.')}
        return sorted(name[cut:] for name in names if name.startswith(word))


def main():
    parser = build_parser()
    words = sys.argv[1:]
    known, rest = argparse.ArgumentParser(add_help=False), []
    known.add_argument('--root', default=DATA_ROOT)
    options, rest = known.parse_known_args(words)
    if not rest:
        Prompt(parser, options.root).cmdloop()
        return
    status, _ = execute(parser, words)
    sys.exit(status)


if __name__ == '__main__':
    run_command(main)
