# SPDX-License-Identifier: Apache-2.0
"""A chain of three unmodified services: one trace, every parent right, under load.

nginx passes a request on to a service of Python threads (or of Java), which calls PHP. Each
request has a path of its own, by which the spans of all three are found in their logs: every
span must be the child of the one before it. One that is in nobody's trace is an orphan, one
in the trace of another request is crossed.

    test_chain.py [REQUESTS]
"""

import json
import sys
import threading
import time

import web
from harness import CLIENTS, Peer, Place, Tap, check, equal, need, own_network

CONCURRENT = 40
REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10000


class Load:
    """Requests with unique paths over kept connections; every other one with a traceparent."""

    def __init__(self, port, path, to, count, concurrent=CONCURRENT):
        self.sent = {}      # path -> (trace id, span id) or None
        self.failed = []
        self.lock = threading.Lock()
        self.numbers = iter(range(count))
        threads = [threading.Thread(target=self._work, args=(port, path, to))
                   for _ in range(concurrent)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - began

    def _next(self):
        with self.lock:
            return next(self.numbers, None)

    def _work(self, port, prefix, to):
        link = web.Link(port)
        try:
            while (i := self._next()) is not None:
                path = f'{prefix}/{i}'
                trace = (f'{i + 1:032x}', f'{i + 1:016x}') if i % 2 else None
                fields = [('traceparent', f'00-{trace[0]}-{trace[1]}-01')] if trace else []
                body = json.dumps([{'url': to + path, 'arguments': []}]).encode()
                status, _, _ = link.ask('POST', path, fields, body)
                self.sent[path] = trace
                if status != 200:
                    self.failed.append(f'{path}: {status}')
        except Exception as e:      # of a thread: told by the case
            self.failed.append(f'{e!r}')
        finally:
            link.close()


class Tree:
    """Spans of all services by path, and how each hangs on the one before it."""

    def __init__(self, hops):
        """hops: [(log, kind)], in the order of the calls."""
        self.hops = [(log.name, kind) for log, kind in hops]
        self.spans = {}     # (service, kind, path) -> [span]
        self.owner = {}     # trace id -> paths it was seen with
        for log in {id(log): log for log, _ in hops}.values():
            for span in log.spans():
                key = log.name, span['kind'], span['url.path']
                self.spans.setdefault(key, []).append(span)
                self.owner.setdefault(span['trace_id'], set()).add(span['url.path'])

    def judge(self, sent):
        """(correct, orphan, crossed, notes) over the spans that there should be."""
        correct = orphan = crossed = 0
        notes = []
        ids = {}            # span id -> path
        for (_, _, path), spans in self.spans.items():
            for span in spans:
                ids[span['span_id']] = path
        for path, trace in sent.items():
            before = {'trace_id': trace[0], 'span_id': trace[1]} if trace else None
            for service, kind in self.hops:
                found = self.spans.get((service, kind, path), [])
                if len(found) != 1:
                    orphan += 1
                    notes.append(f'{path}: {len(found)} {kind} spans of {service}')
                    before = None
                    continue
                span = found[0]
                if before is None and (service, kind) == self.hops[0]:
                    good = 'parent_span_id' not in span
                else:
                    good = before is not None and span['trace_id'] == before['trace_id'] \
                        and span.get('parent_span_id') == before['span_id']
                others = self.owner[span['trace_id']] - {path}
                strange = ids.get(span.get('parent_span_id'), path) != path
                if others or strange:
                    crossed += 1
                    notes.append(f'{path}: {service} {kind} {span} with {sorted(others)[:3]}')
                elif good:
                    correct += 1
                else:
                    orphan += 1
                    notes.append(f'{path}: {service} {kind} {span} after {before}')
                before = span
        return correct, orphan, crossed, notes


CHAIN = [('nginx', 'server'), ('nginx', 'client'), ('middle', 'server'), ('middle', 'client'),
         ('php', 'server')]


class Chain:
    """The three services; `upstream` is text around the middle one's address."""

    def __init__(self, kind, upstream='server {middle};', location=''):
        self.place = Place()
        self.logs = {name: web.Log(self.place, name) for name in ('middle', 'php')}
        self.logs['nginx'] = web.Log(self.place, 'nginx', self.place.state)
        self.php = web.Php(self.place, f'{CLIENTS}/leaf.php', **self.logs['php'].settings)
        web.prepare(kind, self.place)
        self.middle = web.service(kind, self.place, **self.logs['middle'].settings)
        self.nginx = web.Proxy(self.place, f'''
	keepalive_requests 100000;
	upstream middle {{ {upstream.replace('{middle}', self.middle.name)} }}
	server {{
		listen 127.0.0.1:{{port}};
		location / {{ proxy_pass http://middle; {location} }}
	}}''', **self.logs['nginx'].settings)

    def run(self, tap, count, path='/chain'):
        load = Load(self.nginx.port, path, self.php.url, count)
        check(not load.failed, '\n'.join(load.failed[:10]))
        equal(len(load.sent), count, 'requests answered')
        expected = {'nginx': 2 * count, 'middle': 2 * count, 'php': count}
        for name, log in self.logs.items():
            log.wait(expected[name], 5)
        tree = Tree([(self.logs[name], kind) for name, kind in CHAIN])
        correct, orphan, crossed, notes = tree.judge(load.sent)
        tap.note(f'{count} requests in {load.seconds:.1f} s ({count / load.seconds:.0f}/s); spans: '
                 f'correct {correct}, orphan {orphan}, crossed {crossed}')
        check(crossed == 0 and orphan == 0, '\n'.join(notes[:10]))
        equal(correct, len(CHAIN) * count, 'spans in their places')

    def close(self):
        for part in (self.nginx, self.middle, self.php):
            part.close()
        self.place.close()


def chained(tap, kind, count, **config):
    need('nginx', 'php')
    chain = Chain(kind, **config)
    try:
        chain.run(tap, count)
    finally:
        chain.close()


KEPT = {'upstream': 'server {middle}; keepalive 16;',
        'location': 'proxy_http_version 1.1; proxy_set_header Connection "";'}


def past_the_dead(tap):
    """nginx asks a dead upstream first; what it then sends to the next is in the trace."""
    need('nginx', 'php')
    with Peer('refusing') as dead:
        chain = Chain('urllib', upstream=f'server {dead.name} max_fails=0; server {{middle}};',
                      location='proxy_next_upstream error timeout;')
        try:
            chain.run(tap, 400)
            equal(chain.place.state_of(dead.name), 'open', 'breaker of the dead upstream')
        finally:
            chain.close()


def main():
    tap = Tap()
    own_network()
    with tap.case(f'nginx, Python threads, PHP: {REQUESTS} requests, {CONCURRENT} at once'):
        chained(tap, 'urllib', REQUESTS)
    with tap.case('the same over kept upstream connections'):
        chained(tap, 'session', REQUESTS // 5, **KEPT)
    with tap.case('nginx, Java on a pool of threads, PHP'):
        chained(tap, 'java', REQUESTS // 5, **KEPT)
    with tap.case('nginx goes past a dead upstream'):
        past_the_dead(tap)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
