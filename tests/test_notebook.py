"""The notebook: its cells run, and say what is kept in it."""

import importlib.util
import json
import os

import matplotlib.pyplot as plt
import pytest
from conftest import ROOT

NOTEBOOK = ROOT / 'notebooks' / 'quickstart.ipynb'


@pytest.mark.slow
# The face detector's weights are files of this package.
@pytest.mark.skipif(not importlib.util.find_spec('mtcnn'), reason='pip install mtcnn')
def test_cells_run_and_say_what_is_kept(tmp_path, monkeypatch, capsys):
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    pictures = []
    monkeypatch.setattr(plt, 'show', lambda: pictures.append(plt.gcf().number))
    plt.switch_backend('Agg')
    namespace, kept = {'__name__': '__main__'}, 0
    for cell in cells:
        if cell['cell_type'] != 'code':
            continue
        exec(''.join(cell['source']), namespace)
        said = capsys.readouterr().out.splitlines()
        for output in cell['outputs']:
            if output['output_type'] == 'display_data':
                kept += 1
                continue
            # What is typed next, and where files are, differs where the packages are installed.
            wanted = [line for line in ''.join(output['text']).splitlines()
                      if 'stgan ' not in line and os.sep + 'quickstart' not in line]
            assert wanted and [line for line in wanted if line not in said] == []
    plt.close('all')
    assert len(pictures) == kept == 3
    assert (tmp_path / 'output' / 'mine' / 'report.html').exists()
