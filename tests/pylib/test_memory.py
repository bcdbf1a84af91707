"""What becomes of freed memory, each time in a process that nothing else uses."""

import os
import platform
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc',
                                reason='other systems keep memory their way')

MEGABYTES = '''
import pylib
def megabytes():
    with open('/proc/self/statm') as stream:
        return int(stream.read().split()[1]) * 4096 >> 20
'''


def printed(code):
    """The numbers that Python code prints."""
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True,
                         stdout=subprocess.PIPE).stdout
    return [int(word) for word in out.split()]


@pytest.mark.parametrize('keep', [False, True])
def test_freed_memory_is_kept(keep):
    """A block of 100 MB, above what glibc keeps by itself."""
    after, = printed(MEGABYTES + f'''
if {keep}:
    pylib.keep_freed_memory()
block = bytearray(100 << 20)
block[::4096] = bytes(len(block[::4096]))
del block
print(megabytes())
''')
    assert (after >= 100) == keep


@pytest.mark.parametrize('share', [False, True])
def test_threads_share_freed_memory(share, tmp_path):
    """Threads that all have memory at the same time, by the number of heaps glibc made for them."""
    heaps, = printed(f'''
import ctypes, pylib, threading
if {share}:
    pylib.keep_freed_memory()
libc, barrier = ctypes.CDLL(None), threading.Barrier(4)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p
def allocate():
    barrier.wait()
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stream = ctypes.c_void_p(libc.fopen({str(tmp_path / "heaps.xml")!r}.encode(), b'w'))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(open({str(tmp_path / "heaps.xml")!r}).read().count('<heap nr='))
''')
    assert (heaps == 1) == share
