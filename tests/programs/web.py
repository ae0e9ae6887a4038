# SPDX-License-Identifier: Apache-2.0
"""HTTP/1 for the tests of traces: a recorder of requests, raw links, and our own services.

None of this is shimmed: what a test sees is what was on the wire.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
from collections import namedtuple

from harness import (CLIENTS, PATIENT_S, Skip, check, children_of, end, equal, free_port, is_root,
                     listening, need, wait_until)
from servers import LOW_USER, own_by

PYTHON = '/usr/bin/python3'
Request = namedtuple('Request', 'target fields body')


class Reader:
    """Reads messages off a socket, byte for byte as they come."""

    def __init__(self, sock, told=None):
        self.sock = sock
        self.rest = b''
        self.told = told        # called with each count of bytes that came

    def until(self, mark):
        while mark not in self.rest:
            if not self._more():
                return None
        at = self.rest.index(mark) + len(mark)
        taken, self.rest = self.rest[:at], self.rest[at:]
        return taken

    def exactly(self, count):
        while len(self.rest) < count:
            check(self._more(), f'{count - len(self.rest)} bytes missing')
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def _more(self):
        more = self.sock.recv(262144)
        self.rest += more
        if self.told:
            self.told(len(more))
        return bool(more)

    def message(self, bodiless=False):
        """(first line, fields, body) of the next message; None at the end."""
        head = self.until(b'\r\n\r\n')
        if head is None:
            return None
        first, *lines = head[:-4].decode('latin-1').split('\r\n')
        fields = []
        for line in lines:
            name, _, value = line.partition(':')
            fields.append((name, value.strip(' \t')))
        return first, fields, b'' if bodiless else self._body(first, fields)

    def _body(self, first, fields):
        told = {name.lower(): value for name, value in fields}
        if told.get('transfer-encoding', '').lower() == 'chunked':
            body = b''
            while size := int(self.until(b'\r\n').split(b';')[0], 16):
                body += self.exactly(size)
                self.exactly(2)
            while self.until(b'\r\n') != b'\r\n':
                pass
            return body
        if 'content-length' in told:
            return self.exactly(int(told['content-length']))
        if first.startswith('HTTP/') and first[9:12] not in ('204', '304') and first[9] != '1':
            while self._more():
                pass
            return self.exactly(len(self.rest))
        return b''


def reply(status='200 OK', body=b'[]\n', fields=()):
    more = ''.join(f'{name}: {value}\r\n' for name, value in fields)
    return (f'HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}'
            f'Content-Length: {len(body)}\r\n\r\n').encode('latin-1') + body


def said_last(request):
    return ('connection', 'close') in [(n.lower(), v.lower()) for n, v in request.fields]


def closing(answer):
    """Says that the connection ends with it: who was not told may ask again meanwhile."""
    line, rest = answer.split(b'\r\n', 1)
    return line + b'\r\nConnection: close\r\n' + rest


def reset(sock):
    """Resets a connection, after what came on it was acknowledged.

    A reset that comes sooner takes the acknowledgement with it, and the request looks like one
    that was sent on a connection long dead.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


class Recorder:
    """A server on loopback that keeps what it is asked, by target, and answers with 200.

    answer: request -> the bytes to send and, in a pair with them, 'close' or 'reset' for what
    comes next; None is the same as (b'', 'close')
    """

    def __init__(self, answer=None):
        self.answer = answer or (lambda _: reply())
        self.lock = threading.Condition()
        self.requests = []
        self.links = set()
        self.connections = 0
        self.taken = 0      # bytes
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.name = f'127.0.0.1:{self.port}'
        self.url = f'http://{self.name}'
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def take(self, url):
        """The requests for this URL that came so far; they are forgotten."""
        target = url.removeprefix(self.url)
        with self.lock:
            taken = [r for r in self.requests if r.target == target]
            self.requests = [r for r in self.requests if r.target != target]
        return taken

    def count(self):
        with self.lock:
            return len(self.requests)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        with self.lock:
            for sock in self.links:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.links.add(sock)
                self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            reader = Reader(sock, self._count)
            while message := reader.message():
                request = Request(message[0].split(' ')[1], message[1], message[2])
                with self.lock:
                    self.requests.append(request)
                    self.lock.notify_all()
                answer = self.answer(request)
                data, then = answer if isinstance(answer, tuple) else (answer, None)
                last = then is None and said_last(request)
                sock.sendall(closing(data) if data and last else data or b'')
                if then == 'reset':
                    reset(sock)
                    break
                if last or then == 'close' or data is None:
                    break
        except (OSError, AssertionError):
            pass
        with self.lock:
            self.links.discard(sock)
            sock.close()
            self.lock.notify_all()

    def _count(self, count):
        with self.lock:
            self.taken += count


class Link:
    """A kept connection to a service; field lines go out as they are given."""

    def __init__(self, port):
        self.port = port
        self.sock = socket.create_connection(('127.0.0.1', port), PATIENT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.sock)

    def ask(self, method, target, fields=(), body=b''):
        """(status, fields, body) of the answer."""
        lines = ''.join(f'{name}: {value}\r\n' for name, value in fields)
        length = f'Content-Length: {len(body)}\r\n' if body or method == 'POST' else ''
        self.sock.sendall(f'{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{lines}'
                          f'{length}\r\n'.encode('latin-1') + body)
        answer = self.reader.message(bodiless=method == 'HEAD')
        check(answer is not None, 'the service closed the connection')
        return int(answer[0].split(' ')[1]), answer[1], answer[2]

    def post(self, urls, fields=()):
        """Asks one of our services to call these URLs."""
        self.post_json([{'url': url, 'arguments': []} for url in urls], fields)

    def post_json(self, actions, fields=()):
        status, _, body = self.ask('POST', '/', (*fields, ('Content-Type', 'application/json')),
                                   json.dumps(actions).encode())
        equal(status, 200, f'status of the service ({body})')

    def close(self):
        self.sock.close()


# ---- our own services ---------------------------------------------------------------------

class Service:
    """A program of ours that tells its port on standard output."""

    def __init__(self, place, argv, shim=True, **more):
        self.place = place
        self.child = place.start(argv, shim, stdout=subprocess.PIPE, **more)
        ready = select.select([self.child.stdout], [], [], PATIENT_S)[0]
        line = self.child.stdout.readline() if ready else ''
        check(line.strip().isdigit(), f'{argv} told {line!r} for its port')
        self.port = int(line)
        self.name = f'127.0.0.1:{self.port}'
        self.url = f'http://{self.name}'

    @property
    def pid(self):
        return self.child.pid

    def close(self):
        end(self.child)
        self.place.children.remove(self.child)


THREADS = 64
MODULES = {'requests': 'requests', 'session': 'requests', 'aiohttp': 'aiohttp'}


def prepare(kind, place):
    """Compiles what a kind of service needs, or skips the case."""
    if kind == 'c' and not os.environ.get('AGENTSHIM_SERVICE_C'):
        raise Skip('libcurl4-openssl-dev is not installed')
    if kind == 'java':
        need('java', 'javac')
        java_class(place, 'Service')
    if kind in MODULES and place.run([PYTHON, '-c', f'import {MODULES[kind]}'],
                                     shim=False).status:
        raise Skip(f'python3-{MODULES[kind]} is not installed')


def java_class(place, name):
    """Compiles one of our Java programs into a place, once."""
    if not os.path.exists(os.path.join(place.path, f'{name}.class')):
        subprocess.run(['javac', '-d', place.path, os.path.join(CLIENTS, f'{name}.java')],
                       check=True)


def service(kind, place, **more):
    """One of our plain services: a Python library, c, or java."""
    if kind == 'c':
        argv = [os.environ['AGENTSHIM_SERVICE_C']]
    elif kind == 'java':
        argv = ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto',
                '-Dsun.net.httpserver.nodelay=true', '-cp', place.path, 'Service', str(THREADS)]
    else:
        argv = [PYTHON, os.path.join(CLIENTS, 'service.py'), kind]
    return Service(place, argv, **more)


class Php:
    """PHP's own server over one script, with workers: `php -S`."""

    def __init__(self, place, script, workers=4, **more):
        self.place = place
        self.port = free_port()
        self.name = f'127.0.0.1:{self.port}'
        self.url = f'http://{self.name}'
        env = {**more.pop('env', {}), 'PHP_CLI_SERVER_WORKERS': str(workers)}
        self.child = place.start([need('php'), '-n', '-S', self.name, script],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                                 **more)
        wait_until(lambda: listening(self.port), 'php listening')

    def close(self):
        workers = children_of(self.child.pid)      # its end is not theirs
        end(self.child)
        for pid in workers:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        self.place.children.remove(self.child)


class Proxy:
    """nginx in the foreground with this text in its http block; {dir}, {port} are filled in."""

    def __init__(self, place, text, shim=True, workers=2, **more):
        self.place = place
        self.port = free_port()
        self.name = f'127.0.0.1:{self.port}'
        self.url = f'http://{self.name}'
        self.dir = os.path.join(place.path, f'nginx-{self.port}')
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o755)
        own_by(self.dir, LOW_USER)
        own_by(more.get('DIR', place.state), LOW_USER)
        user = f'user {LOW_USER};' if is_root() else ''
        temp = ''.join(f'\t{kind}_temp_path {self.dir}/{kind};\n'
                       for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        text = text.replace('{port}', str(self.port)).replace('{dir}', self.dir)
        conf = place.file(f'nginx-{self.port}.conf', f'''
daemon off;
{user}
worker_processes {workers};
pid {self.dir}/nginx.pid;
error_log {self.dir}/error.log info;
events {{ worker_connections 1024; }}
http {{
	access_log off;
{temp}{text}
}}
''')
        self.child = place.start([need('nginx'), '-e', f'{self.dir}/error.log', '-c', conf], shim,
                                 **more)
        wait_until(lambda: self.child.poll() is not None or listening(self.port),
                   'nginx listening')
        check(self.child.poll() is None, f'nginx ended; see {self.dir}/error.log')

    def log(self):
        with open(f'{self.dir}/error.log', encoding='utf-8') as f:
            return f.read()

    def close(self):
        end(self.child, signal.SIGQUIT)
        self.place.children.remove(self.child)


# ---- spans --------------------------------------------------------------------------------

class Log:
    """A log of completed spans that a service of any user may write, and where its state is.

    Services of different users cannot share a directory: each has its own, unless told.
    """

    def __init__(self, place, name, state=None):
        self.name = name
        self.path = place.file(f'{name}.log')
        os.chmod(self.path, 0o666)
        self.state = state or os.path.join(place.path, f'state-{name}')
        os.makedirs(self.state, 0o700, exist_ok=True)
        self.settings = {'LOG': self.path, 'LOG_LEVEL': 'info', 'DIR': self.state}

    def spans(self, kind=None):
        with open(self.path, encoding='utf-8') as f:
            lines = [json.loads(line) for line in f if '"span_completed"' in line]
        return [line for line in lines if kind in (None, line['kind'])]

    def wait(self, count, seconds=PATIENT_S):
        """All spans, once there are as many: a service ends its span after it has answered."""
        def enough():
            with open(self.path, 'rb') as f:
                return f.read().count(b'"span_completed"') >= count
        try:
            wait_until(enough, f'{count} spans of {self.name}', seconds)
        except AssertionError:
            pass        # the caller sees which are missing
        return self.spans()
