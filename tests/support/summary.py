#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up what `meson test` ran: every failure with the end of its log, every skip with its
reason, one closing line `N passed, N failed, N skipped`.

summary.py TESTS SKIPS LOG...
  TESTS  build/meson-info/intro-tests.json, what should have run
  SKIPS  build/setup-skips, what tools/setup could not install (may be missing)
  LOG    meson-logs/NAME.json of each `meson test --logbase NAME`, and what it was for:
         NAME.json=unit,preload these suites, NAME.json=!unit,preload all but these

Counts are of TAP subtests; a program that does not speak TAP counts as one. meson's own totals
are not used: it calls a TAP program that printed nothing a skip. Here whatever was planned and
not reported failed, and so did a test without any entry in the log.

Exit: 0 all is well, 1 something failed, 3 something was skipped for a reason that does not count.
"""
import json
import re
import sys

TAIL = 25

# A skip is for what the machine lacks, never for what the tree lacks.
ALLOWED = re.compile(r'(registry unreachable|capability missing|no ipv6|architecture)', re.I)

LINE = re.compile(r'(not )?ok\b\s*(\d+)?\s*(?:- )?(.*?)\s*(?:#\s*(skip)\w*:?\s*(.*))?$', re.I)
PLAN = re.compile(r'1\.\.(\d+)\s*(?:#\s*skip\w*:?\s*(.*))?$', re.I)
SAID = re.compile(r'#\s*skip(?:ped|ping)?\b[:\s]\s*(.*)$', re.I)


class Result:
    """What one test program came to: passed, and two lists of (name, detail)."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped = name, 0, [], []

    def fail(self, name, detail):
        self.failed.append((name, detail))

    def skip(self, name, reason):
        self.skipped.append((name, reason.strip() or 'no reason given'))


def read_tap(result, text):
    """Adds the subtests of TAP text (cmocka's, Python's, shell's) to result; what is planned
    and not reported fails. cmocka writes `not ok 2 # SKIP name` (older ones `ok 2`), so its
    reason is the comment `# skip: reason` that went before; without one it is a failure."""
    planned, seen, said = None, 0, ''
    for line in text.splitlines():
        plan, case, comment = PLAN.match(line), LINE.match(line), SAID.match(line)
        if plan:
            planned = int(plan[1])
            if planned == 0:
                result.skip('all of it', plan[2] or said)
        elif line.startswith('Bail out!'):
            result.fail('bailed out', line[9:].strip())
        elif case:
            seen += 1
            name = case[3] or f'subtest {case[2] or seen}'
            if case[4] and (said or not case[1]):
                result.skip(case[5] if said and not case[3] else name, said or case[5])
            elif case[1]:
                result.fail(name, 'not ok')
            else:
                result.passed += 1
            said = ''
        elif comment:
            said = comment[1]
    if planned is None:
        result.fail('no plan', f'{seen} subtests reported and no 1..N among them')
    elif seen < planned:
        for number in range(seen + 1, planned + 1):
            result.fail(f'subtest {number}', 'planned, not reported')
    elif seen > planned:
        result.fail('plan', f'{planned} planned, {seen} reported')


def read_entry(entry, protocol):
    """The Result of one line of meson's JSON log."""
    result = Result(entry['name'])
    verdict, code = entry['result'], entry.get('returncode', 0)
    if protocol == 'tap':
        read_tap(result, entry.get('stdout') or '')
        if verdict == 'TIMEOUT' or code != 0:
            ended = f'{verdict}, {exit_words(code)}'
            result.failed = [(name, f'{detail}; {ended}') for name, detail in result.failed]
            if not result.failed:
                result.fail('the program', ended)
    elif verdict == 'SKIP':
        said = [m[1] for m in map(SAID.match, (entry.get('stdout') or '').splitlines()) if m]
        result.skip('the program', said[-1] if said else (entry.get('stdout') or ''))
    elif verdict in ('OK', 'EXPECTEDFAIL'):
        result.passed = 1
    else:
        result.fail('the program', f'{verdict}, {exit_words(code)}')
    return result


def exit_words(code):
    return f'killed by signal {-code}' if code < 0 else f'exit status {code}'


def short(name):
    """meson's `agentshim:unit+slow / breaker` without the project."""
    return name.split(':', 1)[-1]


def read_json(line):
    """None for the half line of a meson that was killed: its test then did not run."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def wanted(test, suites):
    """Was this test to run, under `unit,preload` or `!unit,preload`?"""
    own = {suite.split(':', 1)[-1] for suite in test['suite']}
    others = suites.startswith('!')
    return bool(own & set(suites.lstrip('!').split(','))) != others


def read_log(path, suites, tests):
    """Results of one log, in order, and a failure for each wanted test that is not in it."""
    protocols = {test['name']: test['protocol'] for test in tests}
    results, logs, ran = [], {}, {}
    try:
        with open(path, encoding='utf-8', errors='replace') as log:
            entries = list(filter(None, map(read_json, log)))
    except FileNotFoundError:       # meson writes none when there is nothing to run
        entries = []
    for entry in entries:
        bare = entry['name'].rsplit(' / ', 1)[-1]
        results.append(read_entry(entry, protocols.get(bare, 'exitcode')))
        ran[bare] = ran.get(bare, 0) + 1
        logs[entry['name']] = (entry.get('stdout') or '') + (entry.get('stderr') or '')
    for test in filter(lambda each: wanted(each, suites), tests):
        ran[test['name']] = ran.get(test['name'], 0) - 1
        if ran[test['name']] < 0:
            absent = Result(test['name'])
            absent.fail('the program', 'did not run')
            results.append(absent)
    return results, logs


def read_skips(path):
    """tools/setup's file: package to reason."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return dict(line.rstrip('\n').split('\t', 1) for line in file if '\t' in line)
    except OSError:
        return {}


def allowed(reason, not_installed):
    """A reason that names a package counts as tools/setup's reason for not having it."""
    for package, why in not_installed.items():
        if re.search(rf'(?<![\w.-]){re.escape(package)}(?![\w.-])', reason):
            reason = why
    return bool(ALLOWED.search(reason))


def report(results, logs, not_installed, out):
    """Prints it all; returns the exit status."""
    passed = sum(r.passed for r in results)
    failed = sum(len(r.failed) for r in results)
    skipped = [(r, name, reason) for r in results for name, reason in r.skipped]
    refused = [s for s in skipped if not allowed(s[2], not_installed)]

    for result in results:
        if not result.failed:
            continue
        for name, detail in result.failed:
            print(f'FAILED  {short(result.name)}: {name} ({detail})', file=out)
        for line in logs.get(result.name, '').splitlines()[-TAIL:]:
            print(f'    | {line}', file=out)
    for result, name, reason in skipped:
        mark = '' if (result, name, reason) not in refused else ' (this reason does not count)'
        print(f'SKIPPED {short(result.name)}: {name}: {reason}{mark}', file=out)
    if not passed:
        print('nothing passed', file=out)
    print(f'{passed} passed, {failed} failed, {len(skipped)} skipped', file=out)
    return 1 if failed or not passed else 3 if refused else 0


def main(argv):
    if len(argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')
    with open(argv[1], encoding='utf-8') as file:
        tests = json.load(file)
    results, logs = [], {}
    for argument in argv[3:]:
        path, _, suites = argument.partition('=')
        more, texts = read_log(path, suites, tests)
        results += more
        logs.update(texts)
    return report(results, logs, read_skips(argv[2]), sys.stdout)


if __name__ == '__main__':
    sys.exit(main(sys.argv))
