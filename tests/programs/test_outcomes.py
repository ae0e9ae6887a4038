# SPDX-License-Identifier: Apache-2.0
"""What the breaker makes of HTTP answers, one by one, with real clients on kept connections.

    test_outcomes.py [CLIENT|STORY...]
"""

import json
import os
import re
import sys

import web
from harness import CLIENTS, Done, Place, Session, Skip, Tap, check, equal, need, own_network, \
    wait_until

TRIPS_AT = 5
CLOSES_AT = 3
GIVEUP_MS = 5000
OPEN_MS = 2500
SETTINGS = {'TIMEOUT': f'{OPEN_MS}ms', 'CONSECUTIVE_FAILURES': TRIPS_AT, 'MAX_REQUESTS': CLOSES_AT}


class Peer(web.Recorder):
    """Answers with `status`, or as `how` says."""

    def __init__(self):
        self.status = 200
        self.how = None
        super().__init__(self.say)

    def say(self, _):
        text = {200: 'OK'}.get(self.status, 'Other')
        whole = web.reply(f'{self.status} {text}', b'hello\n')
        return {
            None: whole,
            'closes after': (whole, 'close'),
            'resets': (b'', 'reset'),
            'closes': (b'', 'close'),
            'resets in the head': (whole[:20], 'reset'),
            'ends in the head': (whole[:20], 'close'),
            'ends in the body': (whole[:-3], 'close'),
        }[self.how]

    def seen(self):
        with self.lock:
            return self.taken, self.connections

    def idle(self):
        """Waits until the server has let go of all connections."""
        with self.lock:
            check(self.lock.wait_for(lambda: not self.links, 10), 'a connection stays')


# ---- clients ------------------------------------------------------------------------------

class Kept:
    """One process for all calls."""

    def __init__(self, place, peer, argv):
        self.session = Session(place, [*argv, peer.name, str(GIVEUP_MS),
                                       'kept' if 'node' in argv else 'loop'])

    def call(self):
        return self.session.call()

    def close(self):
        self.session.close()


class Curl:
    """A process a call; each is told its own timeout, as the machine may be slow to start them."""

    def __init__(self, place, peer, _):
        self.place, self.peer = place, peer
        self.timeout = {'TIMEOUT': '1h'}

    def call(self):
        return self.place.run(['curl', '-sS', '--fail', self.peer.url + '/'], **self.timeout)

    def wait(self):
        self.timeout = {'TIMEOUT': '1ms', 'PROBE_TIMEOUT': '1h'}

    def close(self):
        pass


class Proxied:
    """nginx as the client, its upstream connections kept."""

    def __init__(self, place, peer, _):
        self.nginx = web.Proxy(place, f'''
	upstream peer {{ server {peer.name} max_fails=0; keepalive 4; }}
	server {{
		listen 127.0.0.1:{{port}};
		location / {{ proxy_pass http://peer; proxy_http_version 1.1;
			proxy_set_header Connection ""; proxy_next_upstream off; }}
	}}''', workers=1)

    def call(self):
        link = web.Link(self.nginx.port)
        status, _, body = link.ask('GET', '/')
        link.close()
        return Done(0 if status == 200 else status, str(status), body.decode(), 0)

    def close(self):
        self.nginx.close()


def script(name, *argv):
    return [*(argv or [web.PYTHON]), os.path.join(CLIENTS, name)]


def java(place):
    need('java', 'javac')
    web.java_class(place, 'Call')
    return ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto', '-cp',
            place.path, 'Call']


CLIENTS_OF = {
    'requests': (Kept, lambda _: script('call_requests.py')),
    'urllib': (Kept, lambda _: script('call_urllib.py')),
    'aiohttp': (Kept, lambda _: script('call_aiohttp.py')),
    'node': (Kept, lambda _: script('call.js', 'node')),
    'java': (Kept, java),
    'nginx': (Proxied, lambda _: need('nginx')),
    'curl': (Curl, lambda _: need('curl')),
}


class Case:
    """A place, a peer and a client of it."""

    def __init__(self, client, **settings):
        self.place = Place(**{**SETTINGS, **settings})
        self.peer = self.client = None
        way, argv = CLIENTS_OF[client]
        try:
            if client in web.MODULES:
                web.prepare(client, self.place)
            if client == 'node':
                need('node')
            self.peer = Peer()
            self.client = way(self.place, self.peer, argv(self.place))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for part in (self.client, self.peer, self.place):
            if part:
                part.close()

    def calls(self, count, status=None, how=None):
        """So many calls, each of which reaches the peer."""
        self.peer.status, self.peer.how = status or 200, how
        for i in range(count):
            before = self.peer.count()
            done = self.client.call()
            check(self.peer.count() > before, f'call {i} did not arrive: {done}')

    def refused(self):
        """A call of which the server sees nothing."""
        before = self.peer.seen()
        done = self.client.call()
        check(done.status != 0, f'{done}')
        equal(self.peer.seen(), before, 'bytes and connections at the server')
        return done

    def expect(self, state, what, **counts):
        self.place.expect(self.peer.name, state, what, **counts)

    def rises(self):
        """The timeout over, three good answers close the breaker."""
        self.peer.status, self.peer.how = 200, None
        getattr(self.client, 'wait', lambda: None)()
        wait_until(lambda: self.client.call().status == 0, 'a call admitted')
        for i in range(1, CLOSES_AT):
            self.expect('half-open', f'after {i} good answers')
            equal(self.client.call().status, 0, 'status of a probe')
        self.expect('closed', f'after {CLOSES_AT} good answers')


# ---- each client --------------------------------------------------------------------------

def by_status(client):
    with Case(client) as case:
        case.calls(2)
        case.expect('closed', 'after two good answers', consecutive_failures=0)
        case.calls(TRIPS_AT - 1, 500)
        case.expect('closed', f'after {TRIPS_AT - 1} answers 500',
                    consecutive_failures=TRIPS_AT - 1)
        case.calls(1, 500)
        case.expect('open', f'after {TRIPS_AT} answers 500')
        case.refused()
        case.rises()


def not_found(client):
    with Case(client) as case:
        case.calls(TRIPS_AT + 2, 404)
        case.expect('closed', f'after {TRIPS_AT + 2} answers 404', failures=0,
                    successes=TRIPS_AT + 2)


def idle_close(client):
    """Answers, and closes while nothing is asked: the next call finds a dead connection."""
    with Case(client, TIMEOUT='1h') as case:
        for _ in range(TRIPS_AT + 2):
            case.peer.how = 'closes after'
            case.client.call()
            case.peer.idle()
        case.expect('closed', 'after connections closed while idle', failures=0)


# ---- on a kept connection -----------------------------------------------------------------

def fails_by(how):
    def story():
        with Case('requests', TIMEOUT='1h') as case:
            case.calls(2)
            equal(case.peer.connections, 1, 'connections')
            case.calls(TRIPS_AT - 1, how=how)
            case.expect('closed', f'{TRIPS_AT - 1} times', consecutive_failures=TRIPS_AT - 1)
            case.calls(1, how=how)
            case.expect('open', f'{TRIPS_AT} times')
            case.refused()
    return story


def cut_body():
    """Its head has settled the call by then; the span tells how it went on."""
    with Case('requests') as case:
        log = os.path.join(case.place.path, 'log')
        case.client.close()
        case.place.settings.update(LOG=log, LOG_LEVEL='info')
        case.client = Kept(case.place, case.peer, script('call_requests.py'))
        case.calls(TRIPS_AT + 1, how='ends in the body')
        case.expect('closed', 'after cut bodies', successes=TRIPS_AT + 1)
        with open(log, encoding='utf-8') as f:
            spans = [json.loads(line) for line in f if '"span_completed"' in line]
        equal([(s['status'], s.get('error.type')) for s in spans],
              [('error', 'connection_closed')] * (TRIPS_AT + 1), 'spans')


def refused_on_kept():
    """The connection is there and idle; nothing goes out on it, and it is used again later."""
    with Case('requests') as case:
        case.calls(TRIPS_AT, 500)
        equal(case.peer.connections, 1, 'connections')
        done = case.refused()
        check(re.search('refused', done.text, re.I), f'{done}')
        case.rises()


def curl_in_one():
    """Seven addresses in one command, over one connection."""
    with Place(**{**SETTINGS, 'TIMEOUT': '1h'}) as place:
        peer = Peer()
        peer.status = 500
        try:
            asks = [word for i in range(TRIPS_AT + 2)
                    for word in ('-o', '/dev/null', f'{peer.url}/{i}')]
            done = place.run(['curl', '-sS', '-w', '%{http_code} %{exitcode}\\n', *asks])
            said = done.out.split('\n')
            equal(said[:TRIPS_AT], ['500 0'] * TRIPS_AT, f'answers ({done})')
            equal(said[TRIPS_AT:-1], ['000 7'] * 2, f'refusals ({done})')
            equal((peer.connections, peer.count()), (1, TRIPS_AT), 'connections, requests')
        finally:
            peer.close()


def successes_between():
    with Case('requests') as case:
        for _ in range(2):
            case.calls(TRIPS_AT - 1, 503)
            case.calls(1, 200)
        case.expect('closed', 'with a good answer before the fifth', consecutive_failures=0)


# ---- which statuses -----------------------------------------------------------------------

def statuses(setting, fail, pass_):
    def story():
        for status in pass_:
            with Case('requests', FAILURE_STATUS=setting) as case:
                case.calls(TRIPS_AT + 1, status)
                case.expect('closed', f'{setting}: {status}', failures=0)
        for status in fail:
            with Case('requests', FAILURE_STATUS=setting, TIMEOUT='1h') as case:
                case.calls(TRIPS_AT, status)
                case.expect('open', f'{setting}: {status}')
                case.refused()
    return story


def too_many():
    """429 while closed counts as nothing: it trips nothing, and clears nothing."""
    with Case('requests', TIMEOUT='1h') as case:
        case.calls(TRIPS_AT + 2, 429)
        case.expect('closed', 'after answers 429', failures=0, successes=0)
        case.calls(TRIPS_AT - 1, 500)
        case.calls(1, 429)
        case.expect('closed', 'with a 429 between', consecutive_failures=TRIPS_AT - 1)
        case.calls(1, 500)
        case.expect('open', f'after {TRIPS_AT} answers 500')


def too_many_probes():
    """429 to a probe: the peer is not well yet."""
    with Case('requests') as case:
        case.calls(TRIPS_AT, 500)
        case.expect('open', 'after answers 500')
        case.peer.status = 429
        before = case.peer.count()
        wait_until(lambda: case.client.call() and case.peer.count() > before, 'a probe')
        case.expect('open', 'after a probe was told 429')
        case.refused()


STORIES = {
    'reset': ('a reset before the answer is a failure', fails_by('resets')),
    'end': ('an end before the answer is a failure', fails_by('closes')),
    'reset in the head': ('a reset within the head is a failure', fails_by('resets in the head')),
    'end in the head': ('an end within the head is a failure', fails_by('ends in the head')),
    'end in the body': ('an end within the body is an error of the span', cut_body),
    'kept': ('a request on a kept connection is refused before a byte of it', refused_on_kept),
    'curl in one': ('curl is refused on the connection that it keeps', curl_in_one),
    'between': ('a good answer clears the failures', successes_between),
    '503': ('FAILURE_STATUS of one status', statuses('503', [503], [500, 502])),
    '!501': ('FAILURE_STATUS with one taken away', statuses('5xx,!501', [500], [501])),
    '404': ('FAILURE_STATUS of a range', statuses('400-404,5xx', [404, 500], [405])),
    'none': ('FAILURE_STATUS=none', statuses('none', [], [500])),
    '429 listed': ('FAILURE_STATUS that names 429', statuses('429', [429], [500])),
    '429': ('429 counts as nothing while closed', too_many),
    '429 probe': ('429 to a probe opens again', too_many_probes),
}


def main():
    wanted = sys.argv[1:]
    tap = Tap()
    own_network()
    for client in CLIENTS_OF:
        if wanted and client not in wanted:
            continue
        for name, story in (('500 opens, refuses without a byte, and closes again', by_status),
                            ('404 is no failure', not_found),
                            ('a connection closed while idle is no failure', idle_close)):
            with tap.case(f'outcomes of {client}: {name}'):
                story(client)
    for name, (told, story) in STORIES.items():
        if not wanted or name in wanted:
            with tap.case(told):
                story()
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
