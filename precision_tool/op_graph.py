"""Pictures of the neighbourhood of an operator, as Graphviz text and, where `dot` is, SVG."""

import json
import os
import shutil
import subprocess

from pylib import warn, write_text


def draw(path, graph, op, depth):
    """Write the operators up to `depth` steps upstream and downstream of `op`.

    Returns:
        The paths written: `path`, and an .svg beside it if Graphviz is installed.
    """
    near, edges = _neighbourhood(graph, op, depth)
    lines = ['digraph {', '  rankdir=TB; node [shape=box, fontname=sans]']
    for name in near:
        each = graph.operators[name]
        style = ', style=filled, fillcolor=gold' if each is op else ''
        # JSON's quotes and escapes are Graphviz's.
        label = json.dumps(f'{each.type}\n{name}')
        lines.append(f'  {json.dumps(name)} [label={label}{style}]')
    lines += [f'  {json.dumps(producer)} -> {json.dumps(consumer)} [label="{index}"]'
              for producer, index, consumer in edges]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_text(path, '\n'.join([*lines, '}']) + '\n')
    if not shutil.which('dot'):
        return [path]
    picture = path[:-len('.gv')] + '.svg'
    if subprocess.call(['dot', '-Tsvg', path, '-o', picture]):
        warn(f'{path}: dot could not draw it')
        return [path]
    return [path, picture]


def _neighbourhood(graph, op, depth):
    """(names in the graph's order, [(producer, output index, consumer)])."""
    edges = [(name, index, each.name) for each in graph.operators.values()
             for name, index in each.inputs if name in graph.operators]
    near = {op.name}
    for _ in range(depth):
        near |= ({producer for producer, _, consumer in edges if consumer in near}
                 | {consumer for producer, _, consumer in edges if producer in near})
    return ([name for name in graph.operators if name in near],
            [edge for edge in edges if edge[0] in near and edge[2] in near])
