# SPDX-License-Identifier: Apache-2.0
"""Calls a peer with requests, one Session for all calls: HOST:PORT GIVEUP_MS one|loop."""
import sys

import requests

from calls import serve

peer, giveup = sys.argv[1], float(sys.argv[2]) / 1000
session = requests.Session()


def call():
    return session.get(f'http://{peer}/', timeout=giveup).text


serve(call, sys.argv[3])
