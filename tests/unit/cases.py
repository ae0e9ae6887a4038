# SPDX-License-Identifier: Apache-2.0
"""Runs cases one after the other, each with a directory of its own, and says in TAP how they ended."""

import re
import tempfile
import traceback


class Skip(Exception):
    """Raised in a case that this machine cannot run; its text is the reason."""


def needs_a_plain_shim(shim):
    with open(shim, 'rb') as f:
        if re.search(rb'__[at]san_init', f.read()):
            raise Skip('a sanitized shim cannot be preloaded into a plain sh')


def run(cases, place, prefix):
    """Calls each case with place(PATH); the exit status for all of them."""
    failed = 0
    print(f'1..{len(cases)}')
    for number, case in enumerate(cases, 1):
        verdict, note = 'ok', ''
        with tempfile.TemporaryDirectory(prefix=prefix) as path:
            try:
                case(place(path))
            except Skip as reason:
                note = f' # SKIP {reason}'
            except Exception:  # pylint: disable=broad-except
                verdict = 'not ok'
                failed += 1
                for line in traceback.format_exc().splitlines():
                    print('#', line.encode('ascii', 'backslashreplace').decode())
        print(f'{verdict} {number} - {case.__name__}{note}', flush=True)
    return 1 if failed else 0
