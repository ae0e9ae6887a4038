# SPDX-License-Identifier: Apache-2.0
"""A prefork server: WORKERS children accept on one socket and call UPSTREAM with urllib.

Tells its port on standard output. A worker serves one connection at a time: it greets with
its process id, then answers each line with the outcome of one call. Ends with its input.
"""
import os
import signal
import socket
import sys
import urllib.request

from calls import told

upstream, giveup, workers = sys.argv[1], float(sys.argv[2]) / 1000, int(sys.argv[3])


def call():
    with urllib.request.urlopen(f'http://{upstream}/', timeout=giveup) as reply:
        return reply.read().decode()


def work(listener):
    while True:
        link, _ = listener.accept()
        with link, link.makefile('rw') as lines:
            print(os.getpid(), file=lines, flush=True)
            for _ in lines:
                print(told(call)[1], file=lines, flush=True)


with socket.create_server(('127.0.0.1', 0)) as server:
    children = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            work(server)
        children.append(pid)
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
    for pid in children:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
