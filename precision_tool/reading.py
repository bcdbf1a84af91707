"""Small text and JSON files of unknown origin, read with bounds."""

import json
import os

from pylib import UserError


def read_bytes(path, limit):
    """Return the bytes of a file of at most `limit` bytes.

    Raises:
        UserError: missing, unreadable, no plain file, or larger.
    """
    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f'{path}: not a file')
        with open(path, 'rb') as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    if len(data) > limit:
        raise UserError(f'{path}: larger than {limit} bytes, which no file of its kind is')
    return data


def read_text(path, limit):
    """Return the text of a UTF-8 file (see `read_bytes`); a byte order mark is left out."""
    try:
        return read_bytes(path, limit).decode('utf-8-sig')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not text (not UTF-8)') from None


def parse_json(text, path, start=0):
    """Return (value, position behind it) of the JSON value at `start` of the text of `path`.

    Raises:
        UserError: not JSON; names the line.
    """
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise UserError(f'{path}:{error.lineno}: not JSON ({error.msg})') from None
    except (RecursionError, ValueError):
        raise UserError(f'{path}: JSON nested too deep, or with numbers too long') from None


def parse_one_json(text, path):
    """Return the only JSON value in the text of `path`; raises as `parse_json`."""
    value, end = parse_json(text, path, len(text) - len(text.lstrip()))
    if text[end:].strip():
        line = text.count('\n', 0, end) + 1
        raise UserError(f'{path}:{line}: not JSON (more text behind the value)')
    return value
