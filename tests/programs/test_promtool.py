#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prometheus' own tool reads what `agentshim metrics` prints and finds nothing to say (TAP).

tests/unit/test_tool.py checks the format by itself; this asks whoever defines it.

usage: test_promtool.py LAY_FILES
"""
import os
import subprocess
import sys
import tempfile

from harness import PATIENT_S, TOOL, Tap, check, equal, need

LAY = os.path.abspath(sys.argv[1])


def lay(folder, stem, name, *orders):
    first = f'service {folder}/state {stem} {name.encode().hex()}\n'
    subprocess.run([LAY], input=first + ''.join(o + '\n' for o in orders), text=True, check=True,
                   timeout=PATIENT_S)


def main():
    tap = Tap()
    with tap.case('promtool has nothing to say'), \
            tempfile.TemporaryDirectory(prefix='agentshim-promtool.') as folder:
        promtool = need('promtool')
        for number, name in enumerate(('curl', 'curl', 'q"u\\o')):
            lay(folder, f'x-{number:012d}', name, f'breaker {"db:5432".encode().hex()} ssfffff',
                f'breaker {"[::1]:80".encode().hex()} s', 'count 0 5', 'count 8 2',
                'observe 0 5000000', 'observe 1 60000000000')
        env = {k: v for k, v in os.environ.items() if not k.startswith('AGENTSHIM_')}
        env['AGENTSHIM_DIR'] = f'{folder}/state'
        page = subprocess.run([TOOL, 'metrics'], env=env, capture_output=True, check=True,
                              timeout=PATIENT_S).stdout
        check(page.count(b'\n') > 100, f'{page}')
        done = subprocess.run([promtool, 'check', 'metrics'], input=page, capture_output=True,
                              check=False, timeout=PATIENT_S)
        equal((done.returncode, done.stdout + done.stderr), (0, b''), 'promtool said')
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
