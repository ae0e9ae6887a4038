# SPDX-License-Identifier: Apache-2.0
"""Rows beside their bars, and what they have in common: medians, intervals, an environment."""

import math
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAIRS = 17

missing = []


def row(what, value, low=None, high=None, bar='', held=None, note=''):
    between = f'{low} .. {high}' if low is not None else ''
    verdict = '' if held is None else 'held' if held else 'MISSED'
    print(f'{what:<44} {value:>12} {between:>19} {bar:>10}  {verdict:<6} {note}'.rstrip(),
          flush=True)


def lack(what, why):
    missing.append(what)
    print(f'{what:<44} not measured: {why}', flush=True)


def ranked(values):
    """Median and an interval of order statistics that covers it with >= 96 %."""
    values, n = sorted(values), len(values)
    below, k = 0.0, 0
    while below + math.comb(n, k) / 2 ** n <= 0.02:
        below += math.comb(n, k) / 2 ** n
        k += 1
    return values[n // 2], values[k - 1], values[n - k]


def head():
    print(f'{"":<44} {"median":>12} {"interval":>19} {"bar":>10}')


def environment(state, preload=None, **more):
    """That of a measured program: nothing of the caller's."""
    env = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
           'AGENTSHIM_DIR': state, **more}
    if preload:
        env['LD_PRELOAD'] = preload
    return env
