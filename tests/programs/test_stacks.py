# SPDX-License-Identifier: Apache-2.0
"""Which code calls the dead peer: stacks of a C and of a Python caller, with names.

Usage: test_stacks.py CALLER [without]   ("without": the shim was built without libunwind)
"""

import subprocess
import sys

from harness import PATIENT_S, TOOL, Peer, Place, Tap, check, equal

FETCH = """
import sys, urllib.request
for _ in range(6):
    try:
        urllib.request.urlopen(sys.argv[1])
    except OSError:
        pass
"""


def stacks(place):
    """What `status --stacks` says, in two parts: of the refusal and of the trip (newest first)."""
    done = subprocess.run([TOOL, 'status', '--stacks'], env=place.env(False)
                          | {'AGENTSHIM_DIR': place.state}, capture_output=True, text=True,
                          timeout=PATIENT_S, check=False)
    equal(done.returncode, 0, f'exit status of agentshim status --stacks ({done.stderr})')
    return done.stdout.split('stack of pid')[1:]


def shows(place, names):
    found = stacks(place)
    equal(len(found), 2, 'stacks, of the trip and of the first refusal')
    for stack in found:
        for name in names:
            check(name in stack, f'no {name} in {stack}')


def main():
    tap = Tap()
    caller = sys.argv[1]
    without = 'without' in sys.argv[2:]
    with Peer('refusing') as peer:
        with tap.case('a C caller is named by its functions'), Place() as place:
            for _ in range(7):
                place.run([caller, str(peer.port)])
            if without:
                equal(stacks(place), [], 'stacks of a build without libunwind')
            else:
                shows(place, ['charge_the_customer+0x', 'main+0x'])
        with tap.case('a Python caller is named by the interpreter\'s'), Place() as place:
            place.run(['/usr/bin/python3', place.file('fetch.py', FETCH), peer.url])
            if without:
                equal(stacks(place), [], 'stacks of a build without libunwind')
            else:
                shows(place, ['_PyEval_EvalFrameDefault+0x', 'Py_BytesMain+0x'])
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
