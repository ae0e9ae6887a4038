# SPDX-License-Identifier: Apache-2.0
"""demo/run tells the truth: it succeeds with the shim, fails without it, and leaves nothing (TAP).

test_demo.py BUILD"""
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / 'demo/run'
BUILD = sys.argv[1]


def start(folder, **env):
    return subprocess.Popen([DEMO, BUILD], env=os.environ | {'TMPDIR': folder} | env, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def left(folder):
    """Files and processes that name the folder of a demo that has ended."""
    found = os.listdir(folder)
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if folder.encode() in (process / 'cmdline').read_bytes():
                found.append(process.name)
        except OSError:
            pass
    return found


def observes_everything(folder):
    process = start(folder, LC_ALL='C')
    text = process.communicate(timeout=120)[0]
    print(''.join(f'# {line}\n' for line in text.splitlines()), end='')
    return (process.returncode == 0 and text.isascii() and not left(folder) and all(
        word in text for word in ('closed', 'open', 'half-open', 'Every transition')))


def fails_when_disabled(folder):
    process = start(folder, AGENTSHIM_DISABLE='1')
    text = process.communicate(timeout=120)[0]
    return process.returncode == 1 and 'NOT OBSERVED' in text and not left(folder)


def leaves_nothing_when_ended(folder):
    process = start(folder)
    for line in process.stdout:
        if 'is killed' in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    return process.returncode == 128 + signal.SIGTERM and not left(folder)


TESTS = [observes_everything, fails_when_disabled, leaves_nothing_when_ended]


def main():
    print(f'1..{len(TESTS)}')
    bad = 0
    for number, test in enumerate(TESTS, 1):
        with tempfile.TemporaryDirectory() as folder:
            held = test(folder)
        bad += not held
        print('ok' if held else 'not ok', number, '-', test.__name__, flush=True)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
