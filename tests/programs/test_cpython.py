# SPDX-License-Identifier: Apache-2.0
"""CPython's own tests of sockets, TLS, event loops and processes, bare and under the shim, case by case.

Every case that passes bare passes under the shim. Some of CPython's cases fail now and then
on a busy machine: a case that differs is run alone, three times each way, and counts as a
failure when it then fails under the shim and never bare.
"""

import collections
import os
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ET

from harness import PATH, SHIM, Skip, Tap, check, own_network

PYTHON = '/usr/bin/python3'
# Runs side by side each way: these wait far more than they compute.
PARTS = (('test_subprocess', 'test_fork1'),
          ('test_socket', 'test_httplib', 'test_select', 'test_selectors'),
          ('test_ssl', 'test_urllib2_localnet', 'test_asyncio'))
# In virtual machines these hang, bare too.
IGNORED = ('-i', '*VSOCK*')
LIMIT_S = 420       # several times what it takes
ALONE = 3


class Runs:
    """Runs of CPython's tests, each in a directory and, where it may, a network of its own."""

    def __init__(self, home):
        self.home = home
        self.apart = True
        self.serial = 0
        self.lock = threading.Lock()

    def environment(self, shimmed, place):
        env = {'PATH': PATH, 'HOME': place, 'TMPDIR': place, 'LC_ALL': 'C.UTF-8',
               'PYTHONDONTWRITEBYTECODE': '1'}
        if shimmed:
            env.update(LD_PRELOAD=SHIM, AGENTSHIM_DIR=os.path.join(self.home, 'state'))
        return env

    def run(self, shimmed, modules, only=None):
        """{case: 'passed' | 'skipped' | 'failed'}, and what it printed."""
        with self.lock:
            self.serial += 1
            place = os.path.join(self.home, str(self.serial))
        os.mkdir(place)
        xml = os.path.join(self.home, f'{os.path.basename(place)}.xml')
        command = [PYTHON, '-m', 'test', '--junit-xml', xml, *IGNORED]
        if only:
            command += ['-m', only]
        started = subprocess.Popen(command + list(modules), cwd=place, stdin=subprocess.DEVNULL,
                                   env=self.environment(shimmed, place), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors='replace',
                                   start_new_session=True,
                                   preexec_fn=own_network if self.apart else None)
        try:
            said, _ = started.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, 9)
            said = started.communicate()[0] + f'\nkilled after {LIMIT_S} s'
        return (results(xml) if os.path.exists(xml) else {}), said


def results(xml):
    found = {}
    for case in ET.parse(xml).getroot().iter('testcase'):
        tags = {e.tag for e in case}
        how = ('failed' if tags & {'failure', 'error'} else
               'skipped' if 'skipped' in tags else 'passed')
        # A case with several outcomes (subtests) is what its worst one is.
        if found.get(case.get('name')) != 'failed':
            found[case.get('name')] = how
    return found


def module_of(case):
    return case.split('.')[1]


def run_both(runs):
    """All of them both ways: {shimmed: results}, {shimmed: text}. Apart, all at once."""
    found, said = {False: {}, True: {}}, {False: '', True: ''}
    lock = threading.Lock()

    def one(shimmed, modules):
        answer, text = runs.run(shimmed, modules)
        with lock:
            found[shimmed].update(answer)
            said[shimmed] += text

    threads = [threading.Thread(target=one, args=(shimmed, part))
               for shimmed in (False, True) for part in PARTS]
    # On one network they would meet each other's ports: one after the other then.
    for thread in threads:
        thread.start()
        if not runs.apart:
            thread.join()
    for thread in threads:
        thread.join()
    return found, said


def differing(runs, tap, case, how):
    """None when the case alone does as well as bare; else what was seen."""
    alone = {way: [runs.run(way, [module_of(case)], case) for _ in range(ALONE)]
             for way in (False, True)}

    def passes(way):
        return sum(answer.get(case) == 'passed' for answer, _ in alone[way])

    tap.note(f'{case}: {how} under the shim; alone {passes(True)} of {ALONE} pass under the shim, '
             f'{passes(False)} bare')
    if passes(True) == ALONE or passes(False) < ALONE:
        return None
    return next(text for answer, text in alone[True] if answer.get(case) != 'passed')


def can_be_apart():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if own_network() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def installed():
    return subprocess.run([PYTHON, '-c', 'import test.test_socket'], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def main():
    tap = Tap()
    modules = [m for part in PARTS for m in part]
    if not installed():
        for module in modules:
            with tap.case(module):
                raise Skip('libpython3.11-testsuite is not installed')
        return tap.done()
    with tempfile.TemporaryDirectory(prefix='agentshim-cpython-',
                                     ignore_cleanup_errors=True) as home:
        runs = Runs(home)
        runs.apart = can_be_apart()
        found, said = run_both(runs)
        with tap.case('the shim was at work'):
            check(any(f.endswith('.state') for f in os.listdir(os.path.join(home, 'state'))),
                  'no state file was made')
        for module in sorted(modules):
            with tap.case(f'{module}: what passes bare passes under the shim'):
                compare(runs, tap, module, found, said)
    return tap.done()


def compare(runs, tap, module, found, said):
    mine = {way: {c: how for c, how in found[way].items() if module_of(c) == module}
            for way in (False, True)}
    counts = {way: collections.Counter(mine[way].values()) for way in (False, True)}
    tap.note(f'{module}: bare {dict(counts[False])}, shimmed {dict(counts[True])}')
    check(counts[False]['passed'] > 0, f'nothing passes bare:\n{said[False][-3000:]}')
    check(mine[True], f'it ended without results under the shim:\n{said[True][-3000:]}')
    for case, how in sorted(mine[False].items()):
        ours = mine[True].get(case, 'missing')
        if how == 'passed' and ours != 'passed':
            text = differing(runs, tap, case, ours)
            check(text is None, f'{case} fails under the shim alone:\n{text}')


if __name__ == '__main__':
    sys.exit(main())
