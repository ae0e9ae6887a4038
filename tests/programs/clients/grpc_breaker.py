# SPDX-License-Identifier: Apache-2.0
"""Makes the calls that it reads, a line each, and prints how each ended and how long it took.

STATUS [DEADLINE_S] is a call that is to end so; MANY N is N of them at once, until each has
succeeded once; its threads wait for the channel, as patient callers do.
"""

import sys
import threading
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[
    ('grpc.initial_reconnect_backoff_ms', 100), ('grpc.min_reconnect_backoff_ms', 100),
    ('grpc.max_reconnect_backoff_ms', 200)])
unary = channel.unary_unary('/test.Echo/Unary')


def call(body, **how):
    began = time.monotonic()
    try:
        reply = unary(body, **how)
        return 'OK', reply.decode(errors='replace')[:20], time.monotonic() - began
    except grpc.RpcError as e:
        return e.code().name, '', time.monotonic() - began


def many(n):
    failed = []

    def one():
        status = call(b'hello', wait_for_ready=True, timeout=20)[0]
        if status != 'OK':
            failed.append(status)

    threads = [threading.Thread(target=one) for _ in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return f'failed {len(failed)} {failed[:1]}'


for line in sys.stdin:
    word, *rest = line.split()
    if word == 'MANY':
        print(many(int(rest[0])), flush=True)
    else:
        status, reply, took = call(word.encode(), **({'timeout': float(rest[0])} if rest else {}))
        print(f'{status} {took:.3f} {reply}', flush=True)
