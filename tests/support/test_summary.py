#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Feeds summary.py logs as meson writes them and checks the totals and the exit status (TAP)."""
import io
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import summary  # pylint: disable=wrong-import-position


def entry(stdout='', result='OK', code=0, name='agentshim:unit / it', stderr=''):
    return {'name': name, 'stdout': stdout, 'result': result, 'returncode': code,
            'stderr': stderr}


# Name, TAP text, meson's verdict, exit status, and what it comes to: passed, failed, skipped.
TAP = [
    ('all passed', '1..2\nok 1 - one\nok 2 - two\n', 'OK', 0, (2, 0, 0)),
    ('plan at the end', 'ok 1\nok 2\n1..2\n', 'OK', 0, (2, 0, 0)),
    ('one failed', '1..2\nok 1 - one\nnot ok 2 - two\n# why\n', 'ERROR', 1, (1, 1, 0)),
    ('crash in the second of three', '1..3\nok 1 - one\n', 'ERROR', -11, (1, 2, 0)),
    ('crash after the last', '1..1\nok 1 - one\n', 'ERROR', -6, (1, 1, 0)),
    ('timeout in the second', '1..2\nok 1 - one\n', 'TIMEOUT', -15, (1, 1, 0)),
    ('timeout after the last', '1..1\nok 1 - one\n', 'TIMEOUT', -15, (1, 1, 0)),
    ('plan not met though exit 0', '1..4\nok 1\nok 2\nok 3\n', 'OK', 0, (3, 1, 0)),
    ('more than the plan', '1..1\nok 1\nok 2\n', 'ERROR', 0, (2, 1, 0)),
    ('nothing printed, which meson calls a skip', '', 'SKIP', 0, (0, 1, 0)),
    ('no plan', 'ok 1 - one\n', 'OK', 0, (1, 1, 0)),
    ('bail out', '1..1\nBail out! no loopback\n', 'ERROR', 0, (0, 2, 0)),
    ('a skip', '1..2\nok 1 - one\nok 2 - two # SKIP no IPv6\n', 'OK', 0, (1, 0, 1)),
    ('a skip as cmocka writes it', '1..1\n# skip: no IPv6\nnot ok 1 # SKIP two\n', 'SKIP', 0,
     (0, 0, 1)),
    ('a skip as an older one does', '1..1\n# skip: no IPv6\nok 1 # SKIP two\n', 'SKIP', 0, (0, 0, 1)),
    ('a skip that gives no reason', '1..1\nnot ok 1 # SKIP two\n', 'SKIP', 0, (0, 1, 0)),
    ('all of it skipped', '1..0 # SKIP no IPv6\n', 'SKIP', 0, (0, 0, 1)),
    ('an expected failure is a failure', '1..1\nnot ok 1 - x # TODO\n', 'OK', 0, (0, 1, 0)),
    ('a failure marked as skip', '1..1\nnot ok 1 - x # SKIP no IPv6\n', 'OK', 0, (0, 1, 0)),
    ('a hash in a name', '1..2\nok 1 - C #! a\nok 2 - b#c\n', 'OK', 0, (2, 0, 0)),
    ('chatter between', '1..1\nokay then\n  ok 9 - indented\nok 1 - a\n', 'OK', 0, (1, 0, 0)),
    ('not text', '1..1\nok 1 - caf\ufffd \x1b[0m\n', 'OK', 0, (1, 0, 0)),
]

# Programs that speak in exit statuses.
PLAIN = [
    ('exit 0', entry(), (1, 0, 0)),
    ('exit 1', entry(result='FAIL', code=1), (0, 1, 0)),
    ('killed', entry(result='FAIL', code=-9), (0, 1, 0)),
    ('timeout', entry(result='TIMEOUT', code=-15), (0, 1, 0)),
    ('skip', entry('# skip: no IPv6\n', 'SKIP', 77), (0, 0, 1)),
    ('wrongly passed', entry(result='UNEXPECTEDPASS'), (0, 1, 0)),
    ('interrupted', entry(result='INTERRUPT', code=-2), (0, 1, 0)),
]

REASONS = [
    ('registry unreachable: nginx', True), ('no IPv6', True), ('architecture aarch64', True),
    ('capability missing: ptrace', True), ('needs nginx-light', True), ('needs php-cli', False),
    ('nginx-light-extras', False), ('not written yet', False), ('no reason given', False),
    ('strange-package is not here', False),
]
NOT_INSTALLED = {'nginx-light': 'registry unreachable',
                 'strange-package': "no such package in this machine's sources"}


def counts(result):
    return result.passed, len(result.failed), len(result.skipped)


def runs(entries, tests, suites='unit'):
    """Exit status and output of the whole program over one log."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ('tests.json', 'skips', 'log.json')]
        with open(paths[0], 'w', encoding='utf-8') as file:
            json.dump(tests, file)
        with open(paths[1], 'w', encoding='utf-8') as file:
            file.writelines(f'{name}\t{why}\n' for name, why in NOT_INSTALLED.items())
        if entries is not None:
            with open(paths[2], 'w', encoding='utf-8') as file:
                file.writelines(json.dumps(item) + '\n' for item in entries)
        kept, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), encoding='ascii')
        try:
            status = summary.main(['summary.py', paths[0], paths[1], f'{paths[2]}={suites}'])
            sys.stdout.flush()
            text = sys.stdout.buffer.getvalue().decode('ascii')
        finally:
            sys.stdout = kept
    return status, text


def test(name, protocol='tap', suite='unit'):
    return {'name': name, 'protocol': protocol, 'suite': [f'agentshim:{suite}']}


def last(text):
    return text.rstrip('\n').rsplit('\n', 1)[-1]


def checks():
    """Yields (name, held)."""
    for name, text, verdict, code, wanted in TAP:
        yield f'tap: {name}', counts(summary.read_entry(entry(text, verdict, code), 'tap')) == wanted
    for name, item, wanted in PLAIN:
        yield f'exit status: {name}', counts(summary.read_entry(item, 'exitcode')) == wanted
    for reason, wanted in REASONS:
        yield (f'a skip for "{reason}" is {"fine" if wanted else "refused"}',
               summary.allowed(reason, NOT_INSTALLED) is wanted)

    good = entry('1..2\nok 1 - a\nok 2 - caf\u00e9\n')
    status, text = runs([good], [test('it')])
    yield 'a good run is status 0 and one line', (status, text) == (0, '2 passed, 0 failed, 0 skipped\n')

    status, text = runs([good], [test('it'), test('other')])
    yield 'a test without an entry failed', (status, last(text)) == (1, '2 passed, 1 failed, 0 skipped')

    status, text = runs([good], [test('it'), test('other', suite='programs')])
    yield 'unless its suite was not asked for', (status, last(text)) == (0, '2 passed, 0 failed, 0 skipped')

    twice = {'name': 'it', 'protocol': 'tap', 'suite': ['agentshim:slow', 'agentshim:unit']}
    status, text = runs([good], [twice], '!unit')
    yield 'all but a suite leaves out what is in two', status == 0
    status, text = runs([], [twice], '!unit')
    yield 'and does not miss it', last(text) == '0 passed, 0 failed, 0 skipped'
    status, text = runs([], [twice], '!preload')
    yield 'but misses what is in none', last(text) == '0 passed, 1 failed, 0 skipped'

    status, text = runs(None, [test('it')])
    yield 'no log at all fails', (status, last(text)) == (1, '0 passed, 1 failed, 0 skipped')

    status, text = runs([], [])
    yield 'nothing at all fails', (status, last(text)) == (1, '0 passed, 0 failed, 0 skipped')

    lines = ''.join(f'line {n}\n' for n in range(99))
    bad = entry('1..2\nok 1 - a\n' + lines, 'ERROR', -11, stderr='caf\u00e9 at the end\n')
    status, text = runs([bad], [test('it')])
    yield 'a crash shows the end of its log', (
        status == 1 and 'subtest 2' in text and 'signal 11' in text and 'line 98' in text
        and 'line 7\n' not in text and 'at the end' in text)

    some = entry('1..2\nok 1 - a\nok 2 - b # SKIP not written yet\n')
    status, text = runs([some], [test('it')])
    yield 'a skip that does not count is status 3 and is named', (
        (status, last(text)) == (3, '1 passed, 0 failed, 1 skipped') and 'not written yet' in text)

    some = entry('1..2\nok 1 - a\nok 2 - b # SKIP needs nginx-light\n')
    status, text = runs([some], [test('it')])
    yield 'a package out of reach is a fair reason', (status, last(text)) == (
        0, '1 passed, 0 failed, 1 skipped')


def main():
    held = list(checks())
    print(f'1..{len(held)}')
    for number, (name, ok) in enumerate(held, 1):
        print('ok' if ok else 'not ok', number, '-', name.encode('ascii', 'replace').decode().replace('#', ''))
    return 0 if all(ok for _, ok in held) else 1


if __name__ == '__main__':
    sys.exit(main())
