# SPDX-License-Identifier: Apache-2.0
"""Bytes arrive as they were sent: bodies up to 64 MiB through clients, proxies and servers that
all are shimmed, by length, in chunks, until close, pipelined, trickled and after an upgrade.

Each is done bare as well: what differs is ours.
"""

import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import threading

import web
from harness import CLIENTS, PATIENT_S, Place, Skip, Tap, check, equal, need, own_network

BODIES = os.path.join(CLIENTS, 'bodies.py')
SIZES = (0, 1, 4095, 65536, 1000003, 64 << 20)
OURS = re.compile(rb'(?:(?:traceparent|x-trace-id): [^\r\n]*\r\n)+(?=\r\n)')
LIMIT_S = 60


def body_of(count):
    return random.Random(count).randbytes(count)


def told(data):
    return f'{len(data)} {hashlib.sha256(data).hexdigest()}'


class Collector:
    """Takes every byte of one connection, and answers once it has all of it."""

    def __init__(self, answer=b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer
        self.data = b''
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self):
        sock, _ = self.listener.accept()
        with sock:
            parts = []
            while more := sock.recv(262144):
                parts.append(more)
            self.data = b''.join(parts)
            sock.sendall(self.answer)

    def all(self):
        self.thread.join(PATIENT_S)
        check(not self.thread.is_alive(), 'the connection does not end')
        self.listener.close()
        return self.data


class Bytes:
    """The same chain bare or shimmed: a client, nginx as proxy, nginx and Python as origins."""

    def __init__(self, shim):
        self.shim = shim
        self.place = Place()
        self.python = web.Service(self.place, [web.PYTHON, BODIES, 'serve'], shim,
                                  DIR=self.own_dir('python'))
        files = os.path.join(self.place.path, 'files')
        os.mkdir(files, 0o755)
        for size in SIZES:
            with open(os.path.join(files, str(size)), 'wb') as f:
                f.write(body_of(size))
        kept = 'proxy_http_version 1.1; proxy_set_header Connection "";'
        self.nginx = web.Proxy(self.place, f'''
	client_max_body_size 0;
	keepalive_requests 10000;
	upstream python {{ server {self.python.name}; keepalive 8; }}
	upstream files {{ server 127.0.0.1:{{port}}; keepalive 8; }}
	server {{
		listen 127.0.0.1:{{port}};
		location /sendfile/ {{ alias {files}/; sendfile on; tcp_nopush on; }}
		location /read/ {{ alias {files}/; sendfile off; }}
		location /proxied/ {{ proxy_pass http://files/sendfile/; {kept} }}
		location /unbuffered/ {{ proxy_pass http://files/sendfile/; {kept} proxy_buffering off; }}
		location /stored/ {{ proxy_pass http://files/read/; proxy_max_temp_file_size 100m;
			proxy_buffers 4 4k; proxy_buffer_size 4k; sendfile on; }}
		location /streamed/ {{ proxy_pass http://python/; {kept} proxy_request_buffering off; }}
		location /upgrade {{ proxy_pass http://python; proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}
		location /python/ {{ proxy_pass http://python/; {kept} }}
	}}''', shim, DIR=self.own_dir('nginx'))

    def own_dir(self, name):
        path = os.path.join(self.place.path, f'state-{name}')
        os.mkdir(path, 0o700)
        return path

    def curl(self, url, *more, stdin=None):
        """The body of an answer, or what curl says of its failure."""
        env = self.place.env(self.shim)
        done = subprocess.run(['curl', '-sS', '-g', '--fail', '--max-time', str(LIMIT_S), *more,
                               url], env=env, input=stdin, capture_output=True, check=False,
                              timeout=LIMIT_S + 5)
        equal(done.returncode, 0, f'curl {more} {url}: {done.stderr}')
        return done.stdout

    def run(self, *argv):
        done = self.place.run([web.PYTHON, BODIES, *map(str, argv)], self.shim, LIMIT_S)
        equal(done.status, 0, f'{argv}: {done}')
        return done.out.strip()

    def close(self):
        self.nginx.close()
        self.python.close()
        self.place.close()


# ---- down and up ----------------------------------------------------------------------------

def down(way, sizes=SIZES):
    def run(b):
        for size in sizes:
            equal(told(b.curl(f'{b.nginx.url}/{way}/{size}')), told(body_of(size)), f'{way} {size}')
    return run


def direct(way, sizes):
    def run(b):
        for size in sizes:
            equal(told(b.curl(f'{b.python.url}/{way}{size}')), told(body_of(size)), f'{way} {size}')
    return run


def up(to, *more, sizes=SIZES):
    def run(b):
        base = b.python.url if to == 'direct' else f'{b.nginx.url}/{to}'
        for size in sizes:
            source = '-' if more else f'{b.place.path}/files/{size}'
            answer = b.curl(f'{base}/{size}', *more, '-T', source,
                            stdin=body_of(size) if more else None)
            equal(answer.decode(), told(body_of(size)), f'{to} {more} {size}')
    return run


def generated(b):
    web.prepare('requests', b.place)
    for size in (1, 1000003, 16 << 20):
        equal(b.run('upload', b.python.port, size), told(body_of(size)), f'{size} in chunks')


def continued(b):
    """curl waits for 100 before it sends; the Python server and nginx say it."""
    for base in (b.python.url, f'{b.nginx.url}/python', f'{b.nginx.url}/streamed'):
        for size in (1, 1000003):
            answer = b.curl(f'{base}/x', '-H', 'Expect: 100-continue', '--expect100-timeout', '20',
                            '-T', f'{b.place.path}/files/{size}')
            equal(answer.decode(), told(body_of(size)), f'{size} after 100')


def without_bodies(b):
    link = web.Link(b.nginx.port)
    for _ in range(5):
        status, fields, body = link.ask('HEAD', '/proxied/1000003')
        equal((status, body, dict(fields)['Content-Length']), (200, b'', '1000003'), 'HEAD')
        status, _, body = link.ask('GET', '/proxied/1')
        equal((status, body), (200, body_of(1)), 'GET after HEAD')
        status, _, body = link.ask('GET', '/sendfile/4095',
                                   [('If-Modified-Since', 'Fri, 01 Jan 2100 00:00:00 GMT')])
        equal((status, body), (200, body_of(4095)), 'GET with a condition')
        status, _, body = link.ask('GET', '/nothing')
        equal(status, 404, 'a missing file')
    link.close()


# ---- many in one, one in many ---------------------------------------------------------------

def requests_of(count):
    parts = []
    for i in range(count):
        body = body_of(i)
        parts.append(f'POST /{i} HTTP/1.1\r\nHost: x\r\n'
                     f'Content-Length: {len(body)}\r\n\r\n'.encode() + body)
    return b''.join(parts)


def sent(way, count):
    """What goes out is what the program wrote, and a block of ours in each head."""
    def run(b):
        peer = Collector()
        b.run(way, peer.port, count)
        data, wrote = peer.all(), requests_of(count)
        equal(len(OURS.findall(data)), count if b.shim else 0, 'blocks of ours')
        check(OURS.sub(b'', data) == wrote, f'{len(data)} bytes came for {len(wrote)}')
    return run


def answered(way, count):
    """The same to a server, which must have understood each: as many bytes of answers as bare."""
    def run(b):
        said = b.run(way, b.python.port, count)
        bare = b.place.run([web.PYTHON, BODIES, way, str(b.python.port), str(count)], False,
                           LIMIT_S)
        equal(said.split()[0], bare.out.split()[0], 'bytes answered')
    return run


def pipelined(target, count):
    """All requests in one write to a shimmed server: the answers come in order."""
    def run(b):
        link = web.Link(b.nginx.port if target == 'nginx' else b.python.port)
        prefix = '/python' if target == 'nginx' else ''
        link.sock.sendall(b''.join(
            f'PUT {prefix}/{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {i}\r\n\r\n'.encode()
            + body_of(i) for i in range(count)))
        for i in range(count):
            first, _, body = link.reader.message()
            equal((first.split()[1], body.decode()), ('200', told(body_of(i))), f'answer {i}')
        link.close()
    return run


def trickled(b):
    """A byte in each packet to a shimmed server and through a shimmed proxy."""
    for port, target in ((b.python.port, '/x'), (b.nginx.port, '/python/x'),
                         (b.nginx.port, '/streamed/x')):
        link = web.Link(port)
        for _ in range(3):
            for byte in (f'PUT {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'
                         '5;a=b\r\nhello\r\nA\r\n, world!!!\r\n0\r\nX-T: 1\r\n\r\n').encode():
                link.sock.send(bytes([byte]))
            _, _, body = link.reader.message()
            equal(body.decode(), told(b'hello, world!!!'), f'body to {target}')
        link.close()


def upgraded(b):
    for port in (b.python.port, b.nginx.port):
        for size in (0, 1, 1000003, 16 << 20):
            equal(b.run('upgrade', port, size), 'same', f'{size} bytes through an upgrade')


def ambiguous(b):
    """Both a length and chunks: whoever reads it otherwise than we would must find it untouched."""
    peer = Collector()
    wrote = (b'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n'
             b'Transfer-Encoding: chunked\r\n\r\n'
             b'0\r\n\r\nGET /y HTTP/1.1\r\nHost: x\r\n\r\n')
    script = 'import socket,sys\ns = socket.create_connection(("127.0.0.1", int(sys.argv[1])))\n' \
             f's.sendall({wrote!r})\ns.shutdown(1)\ns.recv(1000)\n'
    done = b.place.run([web.PYTHON, '-c', script, str(peer.port)], b.shim)
    equal(done.status, 0, f'{done}')
    data = peer.all()
    check(data == wrote or OURS.sub(b'', data, 1) == wrote, f'{data!r}')


CASES = {
    'files by sendfile': down('sendfile'),
    'files by read and write': down('read'),
    'through nginx': down('proxied'),
    'through nginx, unbuffered': down('unbuffered'),
    'through nginx, by way of a file of its own': down('stored'),
    'from Python, by length': direct('', (0, 1, 65536, 64 << 20)),
    'from Python, in chunks': direct('chunked/', (1, 1000003, 16 << 20)),
    'from Python, until close': direct('close/', (0, 1, 1000003)),
    'from Python, a byte at a time': direct('slow/', (5000,)),
    'from Python through nginx, in chunks': down('python/chunked', (1, 1000003, 16 << 20)),
    'to Python': up('direct'),
    'to Python in chunks': up('direct', '-H', 'Transfer-Encoding: chunked',
                              sizes=(0, 1, 1000003, 16 << 20)),
    'to Python through nginx': up('python'),
    'to Python through nginx, unbuffered': up('streamed'),
    'to Python through nginx in chunks': up('python', '-H', 'Transfer-Encoding: chunked',
                                            sizes=(0, 1, 1000003, 16 << 20)),
    'to Python from a generator': generated,
    'after 100 Continue': continued,
    'answers without bodies': without_bodies,
    'three requests in one write leave whole': sent('pipeline', 3),
    'a hundred requests in one write leave whole': sent('pipeline', 100),
    'a hundred requests in one write are answered': answered('pipeline', 100),
    'requests a byte at a time leave whole': sent('trickle', 12),
    'a hundred pipelined requests are served in order': pipelined('python', 100),
    'a hundred pipelined requests pass nginx in order': pipelined('nginx', 100),
    'requests a byte at a time are served': trickled,
    'an upgraded connection is nobody\'s but theirs': upgraded,
    'a length beside chunks is left alone': ambiguous,
}


def main():
    wanted = sys.argv[1:]
    tap = Tap()
    own_network()
    try:
        need('nginx', 'curl')
    except Skip as skip:
        tap.result(True, 'bodies', f' # SKIP {skip}')
        return tap.done()
    for shim in (False, True):
        b = Bytes(shim)
        try:
            for name, story in CASES.items():
                if not wanted or name in wanted:
                    with tap.case(f'{name}{"" if shim else ", bare"}'):
                        story(b)
        finally:
            b.close()
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
