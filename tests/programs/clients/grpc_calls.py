# SPDX-License-Identifier: Apache-2.0
"""Calls of every kind by eight threads over one channel; prints the traceparents it hears of."""

import sys
import threading

import grpc

THREADS, ROUNDS = 8, 16
target, own = sys.argv[1], [('traceparent', value) for value in sys.argv[2:]]
channel = grpc.insecure_channel(target, options=[('grpc.max_receive_message_length', -1)])
unary = channel.unary_unary('/test.Echo/Unary')
stream_out = channel.unary_stream('/test.Echo/Out')
stream_in = channel.stream_unary('/test.Echo/In')
both = channel.stream_stream('/test.Echo/Both')
heard, wrong, lock = [], [], threading.Lock()


def check(fields, found, expected):
    with lock:
        heard.append(fields.decode())
        if found != expected:
            wrong.append((found[:100], expected[:100]))


def answer(reply):
    fields, _, rest = reply.partition(b'|')
    return fields, rest


def calls(thread):
    for i in range(ROUNDS):
        body = b'%d-%d' % (thread, i)
        large = [('x-large', 'v' * 6000)] if i % 4 == 0 else []
        fields, rest = answer(unary(body, metadata=own + large))
        check(fields, rest, body)
        replies = list(stream_out(b'7', metadata=own))
        check(replies[0], b''.join(replies), replies[0] * 7)
        fields, rest = answer(stream_in(iter([b'z' * 1000] * 20), metadata=own))
        check(fields, rest, b'20000')
        parts = [answer(reply) for reply in both(iter([body] * 5), metadata=own)]
        check(parts[0][0], b''.join(rest for _, rest in parts), body * 5)
        if i % 8 == 0:
            body = bytes(range(256)) * 4096
            fields, rest = answer(unary(body, metadata=own))
            check(fields, rest, body)


threads = [threading.Thread(target=calls, args=(n,)) for n in range(THREADS)]
for t in threads:
    t.start()
for t in threads:
    t.join()
if wrong:
    sys.exit(f'wrong: {wrong[:3]}')
print('\n'.join(heard))
