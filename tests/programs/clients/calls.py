# SPDX-License-Identifier: Apache-2.0
"""The outside of a Python client: one call and an exit status, or a call for each input line."""
import re
import sys
import time


def told(call):
    try:
        return True, f'ok {call().strip()}'
    except Exception as e:  # any failure of the library is the answer
        return False, f'error {type(e).__name__}: {" ".join(re.sub("0x[0-9a-f]+", "0x", str(e)).split())}'


def serve(call, mode):
    if mode == 'one':
        fine, text = told(call)
        print(text)
        sys.exit(0 if fine else 1)
    for _ in iter(sys.stdin.readline, ''):
        began = time.monotonic()
        _, text = told(call)
        print(f'{(time.monotonic() - began) * 1000:.3f} {text}', flush=True)
