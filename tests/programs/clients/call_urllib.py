# SPDX-License-Identifier: Apache-2.0
"""Calls a peer with urllib: HOST:PORT GIVEUP_MS one|loop."""
import sys
import urllib.request

from calls import serve

peer, giveup = sys.argv[1], float(sys.argv[2]) / 1000


def call():
    with urllib.request.urlopen(f'http://{peer}/', timeout=giveup) as reply:
        return reply.read().decode()


serve(call, sys.argv[3])
