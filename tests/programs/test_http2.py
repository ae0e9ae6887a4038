# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by nghttp2's programs, in the clear and inside TLS: frames of every shape, and many.

The server's own log of what it was sent is the witness: each request has one traceparent, bodies
and trailers are what they are bare, and no request is lost among a hundred thousand.
"""

import hashlib
import json
import os
import re
import subprocess
import sys

from harness import Place, Tap, check, equal, free_port, listening, need, own_network, wait_until

PARENT = re.compile(r'traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-0[0-3]$')
RECEIVED = re.compile(r'recv \(stream_id=(\d+)\) (.*)')
UPLOAD = bytes(range(256)) * 4096
MANY = 100000
# What nghttp can do to a header block, and to what is around it.
SHAPES = {
    'plain': [], 'padded': ['-b', '50'], 'padded by a whole frame': ['-b', '255'],
    'continued': ['--continuation'], 'continued and padded': ['--continuation', '-b', '255'],
    'without priorities': ['--no-dep'], 'a long field': ['-H', 'x-long: ' + 'v' * 6000],
    'an upload with trailers': ['-d', 'upload', '--trailer', 'x-last: 1'],
    'an upload that is expected': ['-d', 'upload', '--expect-continue'],
    'a hundred at once': ['-m', '100'],
}


class Server:
    """nghttpd with its log, for one story."""

    def __init__(self, tls, shim):
        self.place = Place(LOG_LEVEL='info')
        self.place.settings['LOG'] = os.path.join(self.place.path, 'spans')
        self.port, self.tls = free_port(), tls
        self.url = f'http{"s" if tls else ""}://localhost:{self.port}'
        self.peer = f'localhost:{self.port}'
        with open(os.path.join(self.place.path, 'upload'), 'wb') as f:
            f.write(UPLOAD)
        self.place.file('small', 'hello\n')
        argv = [need('nghttpd'), '-v', '--echo-upload', '-d', self.place.path, '-a', '127.0.0.1',
                str(self.port)]
        with open(os.path.join(self.place.path, 'said'), 'w', encoding='utf-8') as said:
            self.child = self.place.start(argv + (self.keys() if tls else ['--no-tls']), shim=shim,
                                          stdout=said, SERVICE='server')
        wait_until(lambda: listening(self.port), 'nghttpd')

    def keys(self):
        key, cert = (os.path.join(self.place.path, name) for name in ('key.pem', 'cert.pem'))
        done = self.place.run([need('openssl'), 'req', '-x509', '-newkey', 'rsa:2048', '-nodes',
                               '-days', '2', '-subj', '/CN=localhost', '-keyout', key, '-out',
                               cert], shim=False)
        equal(done.status, 0, f'{done}')
        return [key, cert]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.place.close()

    def said(self):
        with open(os.path.join(self.place.path, 'said'), encoding='utf-8', errors='replace') as f:
            return [m.groups() for m in map(RECEIVED.search, f.read().splitlines()) if m]

    def spans(self, kind):
        with open(self.place.settings['LOG'], encoding='utf-8') as f:
            events = [json.loads(line) for line in f if line.endswith('\n')]
        return [e for e in events if e['event'] == 'span_completed' and e['kind'] == kind]


def nghttp(s, options, shim):
    """Its output, hashed; it is bytes."""
    argv = [need('nghttp'), *options, f'{s.url}/upload']
    done = subprocess.run(argv, env=s.place.env(shim, SERVICE='client'), cwd=s.place.path,
                          capture_output=True, timeout=60, check=False)
    equal(done.returncode, 0, f'{argv} {done.stderr[-300:]}')
    # Bodies of several streams come in turns, and not always in the same.
    return len(done.stdout), '-m' in options or hashlib.sha256(done.stdout).hexdigest()


def requests_of(said):
    """{stream: fields} of a run of one connection."""
    found = {}
    for stream, field in said:
        found.setdefault(stream, []).append(field)
    return found


def shape(tls, options):
    with Server(tls, shim=False) as s:
        bare = nghttp(s, options, shim=False)
        before = s.said()
        equal(nghttp(s, options, shim=True), bare, 'what came back')
        n = 100 if '-m' in options else 1
        wait_until(lambda: len(s.said()) >= 2 * len(before) + n, 'all that was sent', 5)
        bare_requests, requests = requests_of(before), requests_of(s.said()[len(before):])
        equal(len(requests), n, 'requests')
        ids = set()
        for stream, fields in requests.items():
            found = [PARENT.match(f) for f in fields if f.startswith('traceparent')]
            check(len(found) == 1 and found[0], f'{fields}')
            ids.add(found[0].groups())
            rest = [f for f in fields if not f.startswith(('traceparent', 'x-trace-id'))]
            equal(rest, bare_requests[stream], f'the other fields of stream {stream}')
        equal(len(ids), n, 'distinct parents')
        equal({(x['trace_id'], x['span_id']) for x in s.spans('client')}, ids, 'spans')


def many(tls, client, server):
    with Server(tls, shim=server) as s:
        n = MANY if not tls else MANY // 10
        done = s.place.run([need('h2load'), '-n', str(n), '-c', '4', '-m', '100', f'{s.url}/small'],
                           shim=client, SERVICE='client', LOG_LEVEL='warn')
        check(f'{n} succeeded, 0 failed, 0 errored' in done.out, f'{done}')
        if client:
            s.place.expect(s.peer, 'closed', 'after them', failures=0)
            equal(s.place.breaker(s.peer)['totals']['successes'], n, 'successes')


def main():
    own_network()
    tap = Tap()
    for tls in False, True:
        where = 'inside TLS' if tls else 'in the clear'
        for name, options in SHAPES.items():
            with tap.case(f'{name}, {where}'):
                shape(tls, options)
        for client, server in (True, False), (False, True), (True, True):
            who = ' and '.join(['client'] * client + ['server'] * server)
            with tap.case(f'many requests, {who} under the shim, {where}'):
                many(tls, client, server)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
