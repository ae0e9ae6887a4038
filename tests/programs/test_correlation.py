# SPDX-License-Identifier: Apache-2.0
"""Whose child is a call? Requests with paths of their own, many at once, through servers of all
kinds; the same path comes with the call that the server makes for it.

A call is correct in the trace of its request, an orphan in a trace of its own, and crossed in
another request's. Crossed are none, ever. Orphans are none where a thread or a process serves
one request at a time; event loops may have some, and the numbers are told.

    test_correlation.py [WORKLOAD...]
"""

import os
import queue
import sys
import threading

import web
from harness import CLIENTS, Place, Skip, Tap, check, equal, need, own_network

CONCURRENT = 40
REQUESTS = 400
NODE = os.path.join(CLIENTS, 'loop.js')
ASYNCIO = os.path.join(CLIENTS, 'loop.py')


def trace_of(fields):
    values = [value for name, value in fields if name.lower() == 'traceparent']
    check(len(values) <= 1, f'{len(values)} traceparents: {values}')
    return values[0].split('-')[1] if values else None


class Callee(web.Recorder):
    """Answers some calls at once and others later, so that answers overtake one another."""

    def __init__(self):
        self.pause = threading.Event()
        super().__init__(self.slow)

    def slow(self, request):
        number = sum(request.target.encode())
        self.pause.wait((0, 0.003, 0.012, 0.03)[number % 4])
        return web.reply()

    def close(self):
        self.pause.set()
        super().close()


class Count:
    """The three numbers, over the calls that arrived."""

    def __init__(self, sent, requests):
        """sent: request path -> its trace id, or None where it brought no context."""
        traces = {trace: path for path, trace in sent.items() if trace}
        self.correct = self.orphan = self.crossed = self.rootless = self.torn = 0
        self.notes = []
        seen = {}           # trace id of our own making -> the request it was first seen with
        roots = {}          # request without a context -> the trace id of its first call
        for request in requests:
            path = '/'.join(request.target.split('/')[:3])
            trace = trace_of(request.fields)
            owner = traces.get(trace)
            check(trace is not None, f'{request.target}: no context')
            if owner == path:
                self.correct += 1
            elif owner is not None or seen.setdefault(trace, path) != path:
                self.crossed += 1
                self.notes.append(f'{request.target} has the trace of {owner or seen[trace]}')
            elif sent.get(path):
                self.orphan += 1
            else:
                self.rootless += 1
                self.torn += roots.setdefault(path, trace) != trace

    def __str__(self):
        return f'correct {self.correct}, orphan {self.orphan}, crossed {self.crossed}'


class Load:
    """Requests from many connections at once; one in four brings no context."""

    def __init__(self, port, paths, ask=None, keep=True, concurrent=CONCURRENT, bare=4):
        self.sent, self.failed = {}, []
        self.ask = ask or (lambda link, path, fields: link.ask('GET', path, fields))
        self.port, self.keep = port, keep
        jobs = queue.SimpleQueue()
        for i, path in enumerate(paths):
            self.sent[path] = f'{i + 1:032x}' if not bare or i % bare else None
            jobs.put(path)
        threads = [threading.Thread(target=self._work, args=(jobs,)) for _ in range(concurrent)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(not self.failed, '\n'.join(self.failed[:10]))

    def _work(self, jobs):
        link = None
        try:
            while not jobs.empty():
                try:
                    path = jobs.get_nowait()
                except queue.Empty:
                    break
                link = link or web.Link(self.port)
                trace = self.sent[path]
                fields = [('traceparent', f'00-{trace}-{"1" * 16}-01')] if trace else []
                status = self.ask(link, path, fields)[0]
                if status != 200:
                    self.failed.append(f'{path}: {status}')
                if not self.keep:
                    link.close()
                    link = None
        except Exception as e:      # of a thread: told by the case
            self.failed.append(repr(e))
        if link:
            link.close()


def measured(tap, name, server, calls=1, mode='w', orphans=True, count=REQUESTS, **load):
    """One workload: asks, waits for all calls, counts and judges."""
    callee = server.callee
    paths = [f'/{mode}/{i}' for i in range(count)]
    sent = Load(server.port, paths, **load).sent
    with callee.lock:
        callee.lock.wait_for(lambda: sum(r.target.startswith(f'/{mode}/')
                                         for r in callee.requests) >= calls * count, 10)
        came, beats = [], []
        for request in callee.requests:
            (came if request.target.startswith(f'/{mode}/') else beats).append(request)
        callee.requests = []
    equal(len(came), calls * count, 'calls that arrived')
    numbers = Count(sent, came)
    strayed = Count(sent, [b for b in beats if b.target.startswith('/beat/')])
    tap.note(f'workload {name}: {numbers}')
    check(numbers.crossed == 0, '\n'.join(numbers.notes[:10]))
    check(strayed.crossed == 0, 'calls for nobody: ' + '\n'.join(strayed.notes[:10]))
    if not orphans:
        equal((numbers.orphan, numbers.torn), (0, 0), 'orphans, calls apart from their siblings')


class Server:
    """One of our servers, and whom it calls."""

    def __init__(self, place, start):
        self.callee = Callee()
        try:
            self.service = start(place, self.callee)
        except BaseException:
            self.callee.close()
            raise
        self.port = self.service.port

    def close(self):
        self.service.close()
        self.callee.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- one request at a time ----------------------------------------------------------------

def listed(callee):
    """The way that our services of contexts.py are asked to call."""
    def ask(link, path, fields):
        link.post([callee.url + path], fields)
        return (200,)
    return ask


def by_service(kind):
    def run(tap, place):
        web.prepare(kind, place)
        with Server(place, lambda p, _: web.service(kind, p)) as server:
            measured(tap, kind, server, orphans=False, ask=listed(server.callee))
    return run


def by_sync(kind, **how):
    def run(tap, place):
        argv = [web.PYTHON, os.path.join(CLIENTS, 'sync.py'), kind]
        with Server(place, lambda p, callee: web.Service(p, [*argv, callee.url])) as server:
            measured(tap, kind, server, **{'keep': False, **how})
    return run


def by_php(tap, place):
    need('php')
    with Server(place, lambda p, callee: web.Php(p, os.path.join(CLIENTS, 'call-on.php'), 8,
                                                 env={'CALLEE': callee.url})) as server:
        measured(tap, 'php', server, keep=False)


def newcomers(tap, place):
    """A thread's first call, at the same moment as another one's, beside many that live."""
    program = os.environ['AGENTSHIM_NEWCOMERS']
    crowd, rounds = 300, 1000
    with web.Recorder() as callee:
        done = place.run([program, str(callee.port), str(crowd), str(rounds)])
        equal(done.status, 0, f'{done}')
        traces = [trace_of(request.fields) for request in callee.take(callee.url + '/new')]
    equal(len(traces), crowd + 2 * rounds, 'calls')
    equal(traces.count(None), 0, 'calls without a context')
    equal(len(set(traces)), len(traces), 'traces')


# ---- event loops --------------------------------------------------------------------------

def first_requests(place, argv):
    """What a process has not been seen to be yet: its very first request, amid calls for nobody."""
    for _ in range(6):
        with Server(place, lambda p, callee: web.Service(p, [*argv, callee.url])) as server:
            sent = Load(server.port, ['/timer/0', '/slowly/1'], concurrent=1, bare=0).sent
            with server.callee.lock:
                beats = len(server.callee.requests) + 5
                server.callee.lock.wait_for(lambda: len(server.callee.requests) >= beats, 10)
                numbers = Count(sent, server.callee.requests)
            check(numbers.crossed == 0, '\n'.join(numbers.notes))


def by_loop(name, argv, modes):
    """All modes through one process, so that it has been an event loop for long."""
    def run(tap, place):
        with tap.case(f'{name}, the first requests: no call in another request\'s trace'):
            first_requests(place, argv)
        with Server(place, lambda p, callee: web.Service(p, [*argv, callee.url])) as server:
            for mode, calls in modes.items():
                with tap.case(f'{name}, {mode}: no call in another request\'s trace'):
                    measured(tap, f'{name} {mode}', server, calls=calls, mode=mode)
            with tap.case(f'{name}, a request at a time: no call in another request\'s trace'):
                measured(tap, f'{name} sequential', server, mode='kept', count=100, concurrent=1)
    return run


def by_node(tap, place):
    need('node')
    by_loop('node', ['node', NODE],
            {'direct': 1, 'kept': 1, 'fetch': 1, 'timer': 1, 'immediate': 1, 'fanout': 4,
             'chain': 2, 'slowly': 2, 'queued': 1, 'forgotten': 2, 'body': 1})(tap, place)


def by_asyncio(tap, place):
    web.prepare('aiohttp', place)
    by_loop('asyncio', [web.PYTHON, ASYNCIO],
            {'direct': 1, 'kept': 1, 'timer': 1, 'chain': 2, 'slowly': 2, 'fanout': 4, 'thread': 1,
             'forgotten': 2})(tap, place)


KEPT = 'proxy_http_version 1.1; proxy_set_header Connection ""; '
# Without what nginx passes on, only what it does next tells whose call it is.
BLIND = KEPT + 'proxy_set_header traceparent ""; '
NGINX = {
    'proxy': ('', 1),
    'kept': (KEPT, 1),
    'blind': (BLIND, 1),
    'delayed': (BLIND + 'limit_req zone=slow burst=1000;', 1),  # by a timer, before the call
    'mirror': (BLIND + 'mirror /mirrored;', 2),                 # asked too, and forgotten
    'auth': (BLIND + 'auth_request /allowed;', 2),
    'streamed': (BLIND + 'proxy_request_buffering off;', 1),    # called before the body came
}


def slow_body(link, path, fields):
    """The head first, and the body when others have been served meanwhile."""
    lines = ''.join(f'{name}: {value}\r\n' for name, value in fields)
    link.sock.sendall(f'POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 6\r\n\r\nabc'
                      .encode())
    threading.Event().wait(0.004)
    link.sock.sendall(b'def')
    answer = link.reader.message()
    return (int(answer[0].split(' ')[1]),)


def nginx_text(callee):
    locations = ''.join(f'\t\tlocation /{name}/ {{ proxy_pass http://callee; {text} }}\n'
                        for name, (text, _) in NGINX.items())
    aside = BLIND + 'internal; proxy_pass_request_body off; proxy_set_header Content-Length "";'
    return f'''
	limit_req_zone $server_port zone=slow:1m rate=500r/s;
	keepalive_requests 100000;
	upstream callee {{ server {callee.name}; keepalive 16; }}
	server {{
		listen 127.0.0.1:{{port}};
{locations}
		location /mirrored {{ {aside} proxy_pass http://callee$request_uri/m; }}
		location /allowed {{ {aside} proxy_pass http://callee$request_uri/a; }}
	}}'''


def by_nginx(tap, place):
    need('nginx')
    with Server(place, lambda p, callee: web.Proxy(p, nginx_text(callee), workers=1)) as server:
        for mode, (_, calls) in NGINX.items():
            ask = {'ask': slow_body} if mode == 'streamed' else {}
            traced = mode in ('proxy', 'kept')
            with tap.case(f'nginx, {mode}: no call in another request\'s trace'):
                measured(tap, f'nginx {mode}', server, calls=calls, mode=mode,
                         orphans=not traced, **ask)


WORKLOADS = {
    'threads': by_service('urllib'),
    'pool': by_service('session'),
    'c': by_service('c'),
    'java': by_service('java'),
    'fork': by_sync('fork', orphans=False),
    'single': by_sync('single', orphans=False),
    'handed': by_sync('handed', orphans=False),
    'polled': by_sync('polled', keep=True, orphans=False),
    'executor': by_sync('executor', calls=3),
    'php': by_php,      # its own server polls all its connections: a loop, as far as we see
    'newcomers': newcomers,
}
LOOPS = {'node': by_node, 'asyncio': by_asyncio, 'nginx': by_nginx}


def main():
    wanted = sys.argv[1:]
    tap = Tap()
    own_network()
    for name, run in WORKLOADS.items():
        if not wanted or name in wanted:
            with tap.case(f'{name}: no call in another request\'s trace'), Place() as place:
                run(tap, place)
    for name, run in LOOPS.items():
        if not wanted or name in wanted:
            with Place() as place:
                try:
                    run(tap, place)
                except Skip as skip:
                    tap.result(True, name, f' # SKIP {skip}')
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
