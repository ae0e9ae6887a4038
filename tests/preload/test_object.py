#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The built object itself: what it needs, what it exports, how it loads (TAP).

test_object.py SHIM EXPORTS LIBS
  EXPORTS  the checked-in list of exported names
  LIBS     private, or shared when Debian's liburcu-bp or libnghttp2 is used: then NEEDED
           says so
"""
import os
import re
import subprocess
import sys
import tempfile

SHIM, EXPORTS, LIBS = sys.argv[1:4]
SIZE_LIMIT = 600 * 1024  # DESIGN.md 9, stripped


class Skip(Exception):
    """Raised with the reason."""


def run(*command, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('AGENTSHIM_', 'LD_'))}
    env |= {'LC_ALL': 'C'} | environment
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60)


def readelf(*options):
    done = run('readelf', '-W', *options, SHIM)
    assert done.returncode == 0, done.stdout
    return done.stdout


def needs_libc_alone():
    if LIBS != 'private':
        raise Skip('capability missing: private copies of the libraries (tools/fetch-libs)')
    needed = re.findall(r'\(NEEDED\).*\[(.*)\]', readelf('-d'))
    assert needed == ['libc.so.6'], needed


def has_no_version_definitions():
    """With a named version node no hook is ever called (docs/traps.md, T8)."""
    assert 'Version definition' not in readelf('-V')


def exports_the_listed_names():
    done = run('nm', '-D', '--defined-only', SHIM)
    found = sorted(line.split()[-1] for line in done.stdout.splitlines())
    with open(EXPORTS, encoding='ascii') as f:
        listed = sorted(f.read().split())
    more, fewer = set(found) - set(listed), set(listed) - set(found)
    assert found == listed, f'not in the list: {more or "-"}; missing: {fewer or "-"}'


def exports_no_unwinder():
    """Or C++ exceptions of the host would go through ours (T6)."""
    names = run('nm', '-D', SHIM).stdout
    assert not re.search(r' T (_U|unw_|backtrace)', names), names


def binds_at_once():
    """Everything undefined in us has a definition in libc (T9)."""
    for variable in 'LD_BIND_NOW', 'LD_BIND_NOT':
        done = run('/bin/true', LD_PRELOAD=SHIM, AGENTSHIM_DISABLE='1', **{variable: '1'})
        assert (done.returncode, done.stdout) == (0, ''), done.stdout


def marks_nothing_executable():
    stack = [line for line in readelf('-l').splitlines() if 'GNU_STACK' in line]
    assert len(stack) == 1 and 'RWE' not in stack[0], stack
    assert 'TEXTREL' not in readelf('-d')


def stays_loaded_and_binds_early():
    flags = readelf('-d')
    assert re.search(r'FLAGS_1.*NOW.*NODELETE', flags), flags


def takes_little_static_tls():
    """Static TLS is scarce in hosts that dlopen much (DESIGN.md 6)."""
    tls = re.search(r'TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)', readelf('-l'))
    assert tls and int(tls[1], 16) <= 1024, tls and tls[0]


def is_small():
    with tempfile.TemporaryDirectory() as where:
        stripped = os.path.join(where, 'shim.so')
        done = run('strip', '-o', stripped, SHIM)
        assert done.returncode == 0, done.stdout
        size = os.path.getsize(stripped)
    print(f'# {size // 1024} KiB stripped')
    assert size <= SIZE_LIMIT, f'{size} bytes'


TESTS = [
    needs_libc_alone,
    has_no_version_definitions,
    exports_the_listed_names,
    exports_no_unwinder,
    binds_at_once,
    marks_nothing_executable,
    stays_loaded_and_binds_early,
    takes_little_static_tls,
    is_small,
]


def main():
    bad = 0
    print(f'1..{len(TESTS)}')
    for number, test in enumerate(TESTS, 1):
        try:
            test()
            print(f'ok {number} - {test.__name__}')
        except Skip as reason:
            print(f'ok {number} - {test.__name__} # SKIP {reason}')
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            bad += 1
            print('\n'.join('# ' + line for line in str(error).splitlines()))
            print(f'not ok {number} - {test.__name__}')
    return 1 if bad else 0


sys.exit(main())
