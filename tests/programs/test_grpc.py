# SPDX-License-Identifier: Apache-2.0
"""gRPC by unmodified programs: context in each call's metadata, spans, and breakers by status."""

import json
import os
import re
import subprocess
import sys

from harness import (Place, Session, Skip, Tap, check, equal, free_port, listening, own_network,
                     wait_until)

PYTHON = '/usr/bin/python3'
HERE = os.path.dirname(os.path.abspath(__file__))
SERVER, CALLS, BREAKER = (os.path.join(HERE, 'clients', f'grpc_{name}.py')
                          for name in ('server', 'calls', 'breaker'))
N_CALLS = 8 * 16 * 4 + 8 * 2
PARENT = re.compile(r'00-([0-9a-f]{32})-([0-9a-f]{16})-0[0-3]')
TRIPS_AT = 5
BAD = ('UNAVAILABLE', 'INTERNAL', 'RESOURCE_EXHAUSTED', 'UNKNOWN', 'DATA_LOSS')
GOOD = ('NOT_FOUND', 'INVALID_ARGUMENT', 'PERMISSION_DENIED', 'CANCELLED', 'UNIMPLEMENTED')


class Pair:
    """A server, and the spans and breakers of who calls it."""

    def __init__(self, shim=True, **settings):
        done = subprocess.run([PYTHON, '-c', 'import grpc'], capture_output=True, check=False)
        if done.returncode != 0:
            raise Skip('python3-grpcio is not installed')
        self.place = Place(LOG_LEVEL='info', **settings)
        self.place.settings['LOG'] = os.path.join(self.place.path, 'log')
        self.port = free_port()
        self.peer = f'127.0.0.1:{self.port}'
        self.shim = shim
        self.serve()

    def serve(self):
        self.server = self.place.start([PYTHON, SERVER, str(self.port)], shim=self.shim)
        wait_until(lambda: listening(self.port), 'a server')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.place.close()

    def events(self):
        if not os.path.exists(self.place.settings['LOG']):
            return []
        with open(self.place.settings['LOG'], encoding='utf-8') as f:
            return [json.loads(line) for line in f if line.endswith('\n')]

    def spans(self, kind):
        return [e for e in self.events()
                if e['event'] == 'span_completed' and e['kind'] == kind]

    def calls(self, shim, *own, **settings):
        done = self.place.run([PYTHON, CALLS, self.peer, *own], shim=shim, limit=90, **settings)
        equal(done.status, 0, f'calls ({done})')
        heard = done.out.split('\n')[:-1]
        equal(len(heard), N_CALLS, 'calls')
        return heard


def bare_calls_have_no_context(_):
    with Pair(shim=False) as p:
        equal(set(p.calls(False)), {''}, 'fields bare')


def each_call_has_one_context(_):
    with Pair() as p:
        heard = p.calls(True)
        ids = [PARENT.fullmatch(value) for value in heard]
        check(all(ids), f'{heard[:3]}')
        ids = sorted(m.groups() for m in ids)
        equal(len(set(ids)), N_CALLS, 'distinct parents')
        wait_until(lambda: len(p.spans('server')) == N_CALLS, 'a span for each call served', 5)
        client, server = p.spans('client'), p.spans('server')
        equal(sorted((s['trace_id'], s['span_id']) for s in client), ids, 'spans of calls')
        equal(sorted((s['trace_id'], s['parent_span_id']) for s in server), ids,
              'parents of what was served')
        for span in client + server:
            equal((span['rpc.system.name'], span['rpc.status_code'], span['status'],
                   span['network.protocol.version']), ('grpc', 'OK', 'unset', '2'), 'span')
            check(span['operation'] == span['rpc.method'] and
                  span['rpc.method'].startswith('test.Echo/'), f'{span}')
        p.place.expect(p.peer, 'closed', 'after good calls', failures=0)
        equal(p.place.breaker(p.peer)['totals']['successes'], N_CALLS, 'successes')


def other_formats_go_along(_):
    with Pair() as p:
        env = dict(p.place.env(True), OTEL_PROPAGATORS='tracecontext,b3')
        child = p.place.start([PYTHON, CALLS, p.peer], stdout=subprocess.PIPE, env=env)
        heard = child.communicate(timeout=90)[0].split('\n')[:-1]
        equal(len(heard), N_CALLS, 'calls')
        for value in heard:
            parent, b3 = value.split(',')
            trace, span = PARENT.fullmatch(parent).groups()
            equal(b3, f'{trace}-{span}-1', 'b3')


def a_traceparent_of_its_own_is_kept(_):
    own = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    with Pair() as p:
        equal(set(p.calls(True, own)), {own}, 'what arrived')
        equal({s['trace_id'] for s in p.spans('client')}, {own[3:35]}, 'traces of spans')


def statuses_move_the_breaker(_):
    with Pair(SERVICE='caller', TIMEOUT='1h') as p:
        with Session(p.place, [PYTHON, BREAKER, p.peer]) as client:
            for status in GOOD * 2:
                equal(client.ask(status).split()[0], status, 'a status that is no failure')
            p.place.expect(p.peer, 'closed', 'after statuses that are none', failures=0)
            for status in BAD:
                equal(client.ask(status).split()[0], status, 'a status that is a failure')
            p.place.expect(p.peer, 'open', 'after five failures')
            for _ in range(3):
                status, took, *_ = client.ask('SEEN').split()
                equal(status, 'UNAVAILABLE', 'status while open')
                check(float(took) < 0.1, f'{took} s')
        equal(len(p.spans('server')), len(GOOD) * 2 + TRIPS_AT, 'calls that the server saw')


def the_user_says_which_are_failures(_):
    with Pair(SERVICE='caller', FAILURE_GRPC='NOT_FOUND') as p:
        with Session(p.place, [PYTHON, BREAKER, p.peer]) as client:
            for _ in range(TRIPS_AT + 1):
                client.ask('INTERNAL')
            p.place.expect(p.peer, 'closed', 'after what is no failure', failures=0)
            for _ in range(TRIPS_AT):
                client.ask('NOT_FOUND')
            p.place.expect(p.peer, 'open', 'after five failures')


def deadlines_are_failures(_):
    with Pair(SERVICE='caller', TIMEOUT='1h') as p:
        with Session(p.place, [PYTHON, BREAKER, p.peer]) as client:
            for _ in range(TRIPS_AT):
                equal(client.ask('HANG 0.2').split()[0], 'DEADLINE_EXCEEDED', 'a silent server')
            p.place.expect(p.peer, 'open', 'after five deadlines')
            equal(client.ask('SEEN').split()[0], 'UNAVAILABLE', 'status while open')


def it_recovers_under_many_streams(_):
    with Pair(SERVICE='caller', TIMEOUT='500ms') as p:
        with Session(p.place, [PYTHON, BREAKER, p.peer]) as client:
            for _ in range(TRIPS_AT):
                client.ask('UNAVAILABLE')
            p.place.expect(p.peer, 'open', 'after five failures')
            # Who asks first hears that the connection is refused, however patient.
            equal(client.ask('hello').split()[0], 'UNAVAILABLE', 'status while open')
            equal(client.ask('MANY 100'), 'failed 0 []', 'a hundred callers that wait')
            p.place.expect(p.peer, 'closed', 'after they were answered')
            equal(client.ask('hello').split()[0], 'OK', 'a call afterwards')


def a_restarted_server_is_met_again(_):
    with Pair(SERVICE='caller', TIMEOUT='100ms') as p:
        with Session(p.place, [PYTHON, BREAKER, p.peer]) as client:
            for _ in range(20):
                equal(client.ask('hello').split()[0], 'OK', 'a call')
            p.server.kill()
            p.server.wait()
            for _ in range(TRIPS_AT + 2):
                equal(client.ask('hello').split()[0], 'UNAVAILABLE', 'without a server')
            p.serve()
            equal(client.ask('MANY 20'), 'failed 0 []', 'callers that wait')
            p.place.expect(p.peer, 'closed', 'after the server is back')


CASES = [bare_calls_have_no_context, each_call_has_one_context, other_formats_go_along,
         a_traceparent_of_its_own_is_kept, statuses_move_the_breaker,
         the_user_says_which_are_failures, deadlines_are_failures, it_recovers_under_many_streams,
         a_restarted_server_is_met_again]


def main():
    own_network()
    tap = Tap()
    for case in CASES:
        with tap.case(case.__name__):
            case(None)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
