"""Files that are whole or absent."""

import os
import resource
import tracemalloc

import pytest

import pylib


def test_atomic_path_replaces_or_leaves_alone(tmp_path):
    path = tmp_path / 'folder' / 'x.txt'
    pylib.write_text(str(path), 'one')
    assert path.read_text() == 'one'
    with pytest.raises(RuntimeError), pylib.atomic_path(str(path)) as temporary:
        assert temporary.endswith('.txt')
        with open(temporary, 'w') as stream:
            stream.write('half')
        raise RuntimeError
    assert path.read_text() == 'one' and os.listdir(str(path.parent)) == ['x.txt']


def test_only_regular_files_are_replaced(tmp_path):
    """A rename would put a file in the place of /dev/null."""
    os.mkfifo(str(tmp_path / 'pipe'))
    os.mkdir(str(tmp_path / 'folder'))
    for name in ('pipe', 'folder'):
        with pytest.raises(pylib.RunFailed, match=f'{name}: could not be written'):
            pylib.write_text(str(tmp_path / name), 'one')
    assert (tmp_path / 'pipe').is_fifo() and sorted(os.listdir(str(tmp_path))) == ['folder', 'pipe']


def test_names_may_be_as_long_as_the_system_allows(tmp_path):
    for name in ('x' * 251 + '.txt', 'é' * 125 + '.json'):
        pylib.write_text(str(tmp_path / name), 'one')
        assert (tmp_path / name).read_text() == 'one'


def test_atomic_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'above' / 'new'
    with pytest.raises(RuntimeError), pylib.atomic_folder(str(path)) as temporary:
        (tmp_path / temporary / 'half').write_text('')
        raise RuntimeError
    assert os.listdir(str(path.parent)) == []
    path.mkdir()    # an empty one gives way
    with pylib.atomic_folder(str(path) + '/') as temporary:
        os.makedirs(os.path.join(temporary, 'below'))
        pylib.write_text(os.path.join(temporary, 'below', 'x'), 'one')
        assert os.listdir(str(path)) == []
    assert (path / 'below' / 'x').read_text() == 'one' and os.listdir(str(path.parent)) == ['new']
    with pytest.raises(pylib.RunFailed, match='new: could not be written .Directory not empty'), \
            pylib.atomic_folder(str(path)):
        pass
    assert os.listdir(str(path)) == ['below'] and os.listdir(str(path.parent)) == ['new']


def test_a_new_folder_is_empty_or_not_there(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'empty').mkdir()
    for name in ('empty', 'none', 'none/below'):
        pylib.require_new_folder(str(tmp_path / name), '--flag')
    for name, words in (('', 'is there already; name another'), ('file', 'file is a file'),
                        ('file/below', 'file is a file')):
        with pytest.raises(pylib.UserError, match=f'{words}.*--flag'):
            pylib.require_new_folder(str(tmp_path / name), '--flag')


def test_a_full_disk_is_named_and_harms_nothing(tmp_path):
    path = tmp_path / 'x.txt'
    pylib.write_text(str(path), 'one')
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        with pytest.raises(pylib.RunFailed, match='x.txt: could not be written .File too large'):
            pylib.write_text(str(path), 'two' * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, [resource.RLIM_INFINITY] * 2)
    assert path.read_text() == 'one' and os.listdir(str(tmp_path)) == ['x.txt']


def test_a_read_only_folder_is_named(read_only):
    with pytest.raises(pylib.RunFailed, match='x.txt: could not be written .Permission denied'):
        pylib.write_text(str(read_only / 'x.txt'), 'one')


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / '.writing-a').mkdir()
    for name in ('.writing-a/x', '.writing-b.png', 'c.png'):
        (tmp_path / name).write_text('')
    pylib.remove_unfinished(str(tmp_path), str(tmp_path / 'none'))
    assert os.listdir(str(tmp_path)) == ['c.png']


@pytest.mark.parametrize('umask', [0o022, 0o027, 0])
def test_permissions_are_those_of_a_plain_file(tmp_path, monkeypatch, umask):
    before = os.umask(umask)
    try:
        (tmp_path / 'plain').write_text('')
        # It holds for the whole process: a thread that changes it shows others a wrong one.
        monkeypatch.setattr(os, 'umask', pytest.fail)
        pylib.write_text(str(tmp_path / 'atomic'), '')
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / 'atomic').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_a_file_is_on_the_disk_before_it_replaces_another(tmp_path, monkeypatch):
    """Or a power cut may leave an empty file in place of a good one."""
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda handle: calls.append(
        ('sync', os.fstat(handle).st_ino, os.fstat(handle).st_size)) or fsync(handle))
    monkeypatch.setattr(os, 'replace', lambda *paths: calls.append(
        ('replace', os.stat(paths[0]).st_ino, str(paths[1]))) or replace(*paths))
    path = tmp_path / 'x.txt'
    pylib.write_text(str(path), 'one')
    inode = path.stat().st_ino
    assert calls == [('sync', inode, 3), ('replace', inode, str(path))]


@pytest.mark.parametrize('content, complaint', [
    (b'{"a": 1,\n "b" 2}', ':2: not JSON'), (b'[1]', ': expected a JSON object'),
    (b'\xff\xfe', ': not JSON'), (None, ': No such file')])
def test_faulty_json_is_located(tmp_path, content, complaint):
    path = tmp_path / 'x.json'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(pylib.UserError) as error:
        pylib.read_json(str(path))
    assert str(error.value).startswith(str(path) + complaint)


def test_json_saved_by_an_editor_of_windows(tmp_path):
    (tmp_path / 'x.json').write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert pylib.read_json(str(tmp_path / 'x.json')) == {'a': 1}


def test_json_lines_end_at_a_line_cut_short(tmp_path):
    path = tmp_path / 'x.jsonl'
    assert pylib.read_json_lines(str(path)) == []
    with open(str(path), 'w') as stream:
        pylib.append_json_line(stream, {'a': 1})
        stream.write('{"a": ')
    assert pylib.read_json_lines(str(path)) == [{'a': 1}]


def test_a_log_is_cut_off_where_it_is_to_go_on(tmp_path):
    path = tmp_path / 'log.jsonl'
    lines = [b'{"iteration": 1}\n', b'{"iteration": 2, "name": "\xc3\xa9"}\n',
             b'{"iteration": 3}\n']
    for content, kept in (
            (b''.join(lines), 2), (b''.join(lines[:2]), 2),
            (lines[0] + b'no JSON\n' + lines[1], 1), (lines[0] + b'[1]\n' + lines[1], 1),
            (lines[0] + b'\xff\xfe\n' + lines[1], 1),
            (lines[0] + lines[1].rstrip(), 1),      # cut short by a crash
            (b'', 0)):
        path.write_bytes(content)
        pylib.cut_json_lines(str(path), lambda record: record['iteration'] <= 2)
        assert path.read_bytes() == b''.join(lines[:kept])
    pylib.cut_json_lines(str(tmp_path / 'none'), lambda record: True)
    assert not (tmp_path / 'none').exists()


def test_a_log_is_cut_without_holding_it_in_memory(tmp_path):
    path, line = tmp_path / 'log.jsonl', b'{"images": "' + b'x' * 999986 + b'"}\n'
    with open(str(path), 'wb') as stream:
        for _ in range(30):
            stream.write(line)
    tracemalloc.start()
    try:
        pylib.cut_json_lines(str(path), lambda record: True)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 30 * len(line)
