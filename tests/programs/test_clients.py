# SPDX-License-Identifier: Apache-2.0
"""One client against every sick peer: healthy as bare, trips, refused without a packet, recovers.

    test_clients.py CLIENT [--bare]

--bare runs the rows that need no shim: what the client does by itself.
"""

import os
import re
import socket
import subprocess
import sys

import servers
from harness import (CLIENTS, HELLO, PATIENT_S, Peer, Place, Session, Skip, Tap, check, equal,
                     has_ipv6, need, own_network, wait_until)

TRIPS_AT = 5
CLOSES_AT = 3
GIVEUP_MS = 700
SETTINGS = {'TIMEOUT': '3s', 'PATIENCE': '300ms', 'CONSECUTIVE_FAILURES': TRIPS_AT,
            'MAX_REQUESTS': CLOSES_AT}
# A refusal takes microseconds; the rest is the client. Clients that measure the call itself
# are held to a fraction of what they would wait.
AT_ONCE_S = GIVEUP_MS / 1000 / 2

PYTHON = '/usr/bin/python3'
# What the bare client may say of each peer: exit statuses. A peer that closes or resets while
# the request is under way is seen by the client as either, and 'any failure' is all we ask.
FAILS = {1}


def script(*argv):
    """The command of our own client scripts: they end with 1 and one line on failure."""
    def command(peer, mode='one'):
        return [*argv, peer.name, str(GIVEUP_MS), mode]
    return command


def python(name):
    return script(PYTHON, os.path.join(CLIENTS, name))


class Client:
    """A row of the table.

    command:  peer -> argv of one call
    fails:    exit statuses of the bare client for a sick peer
    refused:  what the client says when connect returns ECONNREFUSED
    loops:    the command takes 'loop' and then a call a line
    cannot:   sick peers whose failures cannot be counted, with the reason
    """

    def __init__(self, command, fails, refused, loops=False, cannot=None, backend=None,
                 programs=(), module=None):
        self.command = command
        self.fails = fails
        self.refused = refused
        self.loops = loops
        self.cannot = cannot or {}
        self.backend = backend
        self.programs = programs
        self.module = module


def curl(peer):
    return ['curl', '-sS', '--max-time', str(GIVEUP_MS / 1000), peer.url]


def wget(peer):
    return ['wget', '-nv', '-t', '1', '-T', str(GIVEUP_MS / 1000), '-O', '-', peer.url]


def redis_cli(peer):
    # It waits for ever, but while connecting the kernel gives up for it: see main().
    by_kernel = peer.mode == 'unanswered' and 'unanswered' not in TABLE['redis-cli'].cannot
    limit = PATIENT_S if by_kernel else GIVEUP_MS / 1000
    return ['timeout', str(limit), 'redis-cli', '-h', peer.host, '-p', str(peer.port), 'PING']


def psql(peer):
    # libpq knows no less than two seconds of patience.
    return ['psql', '-X', '-A', '-t', '-c', 'select 6 * 7',
            f'host={peer.host} port={peer.port} user=tester dbname=postgres connect_timeout=2']


def java(peer, mode='one'):
    return ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto', '-cp',
            JAVA_CLASSES, 'Call', peer.name, str(GIVEUP_MS), mode]


JAVA_CLASSES = '.'
MODULES = {'requests': 'python3-requests', 'aiohttp': 'python3-aiohttp', 'LWP': 'libwww-perl'}
KILLED = 'the client has no patience of its own and is ended by a signal, which runs no destructor'

TABLE = {
    'curl': Client(curl, {7, 28, 52, 55, 56}, r'\(7\) agentshim: circuit breaker for', programs=['curl']),
    'wget': Client(wget, {4}, r'Connection refused', programs=['wget']),
    'urllib': Client(python('call_urllib.py'), FAILS, r'Connection refused', loops=True),
    'requests': Client(python('call_requests.py'), FAILS, r'Connection refused', loops=True,
                       module='requests'),
    'aiohttp': Client(python('call_aiohttp.py'), FAILS, r'Cannot connect to host', loops=True,
                      module='aiohttp'),
    'node': Client(script('node', os.path.join(CLIENTS, 'call.js')), FAILS, r'ECONNREFUSED',
                   loops=True, programs=['node']),
    'java': Client(java, FAILS, r'ConnectException: Connection refused', loops=True,
                   programs=['java', 'javac']),
    'php': Client(script('php', os.path.join(CLIENTS, 'call.php')), FAILS, r'Connection refused',
                  loops=True, programs=['php']),
    'perl': Client(script('perl', os.path.join(CLIENTS, 'call.pl')), FAILS, r'Connection refused',
                   loops=True, programs=['perl'], module='LWP'),
    'nginx': Client(None, {502, 504}, r'502', programs=['nginx']),
    'redis-cli': Client(redis_cli, {1, 124}, r'Connection refused', backend=servers.Redis,
                        programs=['redis-cli', 'redis-server'],
                        cannot={'silent': KILLED}),
    'psql': Client(psql, {2}, r'Connection refused', backend=servers.Postgres,
                   programs=['psql']),
}


class Once:
    """One process a call.

    Each is told its own timeout: a busy machine may take seconds to start the one that is to
    be refused, and the one that is to be admitted need not wait.
    """

    def __init__(self, client, place, peer, shim):
        self.client, self.place, self.peer, self.shim = client, place, peer, shim
        self.timeout = {'TIMEOUT': '1h'}

    def call(self):
        return self.place.run(self.client.command(self.peer), shim=self.shim, **self.timeout)

    def timeout_over(self):
        self.timeout = {'TIMEOUT': '1ms', 'PROBE_TIMEOUT': '1h'}

    def close(self):
        pass


class Kept:
    """One process for all calls."""

    def __init__(self, client, place, peer, shim):
        self.session = Session(place, client.command(peer, 'loop'), shim)

    def call(self):
        return self.session.call()

    def close(self):
        equal(self.session.close(), 0, 'exit status of the client')


class Proxied:
    """nginx as the client; a call is a request to it, its status the HTTP status."""

    def __init__(self, _, place, peer, shim):
        self.nginx = servers.Nginx(place, peer.name, GIVEUP_MS, shim)

    def call(self):
        done = self.nginx.get()
        done.status = 0 if done.status == 200 else done.status
        return done

    def close(self):
        self.nginx.close()


def plain(text):
    """Output without what differs between two runs of any client: ports, times, ids."""
    text = re.sub(r'127\.0\.0\.1[: ](port )?\d+|\[::1\]:\d+', 'PEER', text)
    text = re.sub(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', 'TIME', text)
    return re.sub(r'(after |in )?[\d.]+ (ms|milliseconds)', 'MS', text)


class Rows:
    def __init__(self, tap, name, client, bare_only):
        self.tap, self.name, self.client, self.bare_only = tap, name, client, bare_only
        self.place = None
        self.backend = None

    def run(self):
        with Place(**SETTINGS) as self.place:
            try:
                if self.client.backend:
                    self.backend = self.client.backend(self.place)
                self.ways()
            finally:
                if self.backend:
                    self.backend.close()

    def ways(self):
        if self.name == 'nginx':
            self.way('nginx', Proxied)
            return
        self.way(self.name, Once)
        if self.client.loops:
            self.way(f'{self.name} kept running', Kept)

    def address(self):
        return self.backend.address if self.backend else None

    def way(self, title, way):
        with self.tap.case(f'{title}: healthy peer, same as bare'):
            self.healthy(way, socket.AF_INET)
        if self.name == 'curl':
            with self.tap.case(f'{title}: healthy peer on ::1, same as bare'):
                if not has_ipv6():
                    raise Skip('no IPv6')
                self.healthy(way, socket.AF_INET6)
        cells = []
        kinds = [(kind, socket.AF_INET) for kind in Peer.SICK]
        if self.name == 'curl' and has_ipv6():
            kinds.append(('refusing', socket.AF_INET6))
        try:
            for kind, family in kinds:
                cell = Cell(self, title, way, kind, family)
                cells.append(cell)
                cell.fall()
            if not self.bare_only:
                for cell in cells:
                    cell.rise()
        finally:
            for cell in cells:
                cell.close()

    def healthy(self, way, family):
        with Peer('healthy', family, self.address()) as peer:
            results = []
            for shim in (False,) if self.bare_only else (False, True):
                caller = way(self.client, self.place, peer, shim)
                try:
                    results.append([caller.call() for _ in range(2)])
                finally:
                    caller.close()
            for done in results[0]:
                equal(done.status, 0, f'bare status ({done})')
                check(self.backend or HELLO.decode().strip() in done.out, f'no reply: {done}')
            for bare, shimmed in zip(*results) if len(results) == 2 else ():
                equal((shimmed.status, plain(shimmed.out), plain(shimmed.err)),
                      (bare.status, plain(bare.out), plain(bare.err)), 'shimmed, bare')
            if not self.bare_only:
                self.place.expect(peer.name, 'closed', 'after two calls', successes=2, failures=0)


class Cell:
    """A client and one sick peer."""

    def __init__(self, rows, title, way, kind, family):
        self.rows, self.way, self.kind = rows, way, kind
        self.tap, self.place, self.client = rows.tap, rows.place, rows.client
        self.title = f'{title}: {kind} peer' + (' on ::1' if family == socket.AF_INET6 else '')
        self.peer = Peer(kind, family)
        self.caller = None
        self.tripped = False

    def close(self):
        if self.caller:
            self.caller.close()
        self.peer.close()

    def fall(self):
        bare = None
        with self.tap.case(f'{self.title}, bare fails its own way'):
            caller = self.way(self.client, self.place, self.peer, False)
            try:
                before = self.peer.calls()
                bare = caller.call()
                after = self.peer.calls()
            finally:
                caller.close()
            check(bare.status in self.client.fails or self.way is Kept and bare.status == 1,
                  f'{bare}')
            tries = 1 if before is None else after - before
            check(tries >= 1, 'the bare client sent no packet')
        if self.rows.bare_only or not bare:
            return
        if self.kind in self.client.cannot:
            with self.tap.case(f'{self.title}, uncounted, host unharmed'):
                self.uncounted(bare)
            return
        with self.tap.case(f'{self.title}, trips at failure {TRIPS_AT}'):
            self.trip(bare, tries)
        with self.tap.case(f'{self.title}, next call refused without a packet'):
            self.refused()

    def uncounted(self, bare):
        self.tap.note(f'cell {self.title}: {self.client.cannot[self.kind]}')
        self.caller = self.way(self.client, self.place, self.peer, True)
        for _ in range(TRIPS_AT):
            done = self.caller.call()
            equal((done.status, plain(done.text)), (bare.status, plain(bare.text)), 'shimmed, bare')
        equal(self.place.state_of(self.peer.name), 'closed', 'state')

    def trip(self, bare, tries):
        """Each connection is a failure; Java and redis-cli try again what they believe was lost.

        `tries` is how many the bare client made, for where connections cannot be counted.
        """
        self.caller = self.way(self.client, self.place, self.peer, True)
        before = self.peer.calls()
        failures = 0
        while failures < TRIPS_AT:
            done = self.caller.call()
            check(done.status in self.client.fails or done.status == 1, f'{done}')
            if not failures and 'resetting' not in self.kind and self.kind != 'closing':
                equal((done.status, plain(done.text)), (bare.status, plain(bare.text)),
                      'shimmed, bare')
            failures = failures + tries if before is None else self.peer.calls() - before
            if failures < TRIPS_AT:
                self.place.expect(self.peer.name, 'closed', f'after {failures} failures ({done})',
                                  consecutive_failures=failures)
        self.place.expect(self.peer.name, 'open', f'after {failures} failures')
        check(before is None or failures == TRIPS_AT, f'{failures} connections attempted')
        self.tripped = True

    def refused(self):
        check(self.tripped, 'never tripped')
        before = self.peer.packets()
        done = self.caller.call()
        check(done.status != 0 and re.search(self.client.refused, done.text), f'{done}')
        if before is None:
            self.tap.note('packets not counted: no CAP_NET_RAW')
        else:
            equal(self.peer.packets() - before, 0, 'packets sent')
        if self.way is not Once:
            check(done.seconds < AT_ONCE_S, f'took its time: {done}')
        self.tap.note(f'refused in {done.seconds * 1000:.1f} ms')

    def rise(self):
        if not self.tripped:
            return
        with self.tap.case(f'{self.title}, recovers'):
            self.peer.become('healthy', self.rows.address())
            if self.way is Once:
                self.caller.timeout_over()
            first = wait_until(self.admitted, 'a call admitted')
            equal(first.status, 0, f'{first}')
            for i in range(1, CLOSES_AT):
                self.place.expect(self.peer.name, 'half-open', f'after {i} successes')
                done = self.caller.call()
                equal(done.status, 0, f'{done}')
            self.place.expect(self.peer.name, 'closed', f'after {CLOSES_AT} successes')

    def admitted(self):
        """The product's subject is time here: nothing tells but the next call."""
        done = self.caller.call()
        return done if done.status == 0 else None


def compile_java(place_dir):
    subprocess.run(['javac', '-d', place_dir, os.path.join(CLIENTS, 'Call.java')], check=True)


def main():
    global JAVA_CLASSES
    name, bare_only = sys.argv[1], '--bare' in sys.argv[2:]
    client = TABLE[name]
    tap = Tap()
    own = own_network()
    tap.note(f'network namespace of our own: {own}')
    if own:
        impatient_kernel()
    else:
        TABLE['redis-cli'].cannot['unanswered'] = KILLED
    with Place() as tools:
        try:
            for program in client.programs:
                need(program)
            if name == 'java':
                compile_java(tools.path)
                JAVA_CLASSES = tools.path
            probe(client)
        except Skip as skip:
            tap.result(True, name, f' # SKIP {skip}')
            return tap.done()
        Rows(tap, name, client, bare_only).run()
    return tap.done()


def impatient_kernel():
    """In our own namespace the kernel gives up a connect after its second SYN."""
    for name, value in (('tcp_syn_retries', 1), ('tcp_syn_linear_timeouts', 0)):
        path = f'/proc/sys/net/ipv4/{name}'
        if os.path.exists(path):
            with open(path, 'w', encoding='ascii') as f:
                f.write(str(value))


def probe(client):
    """Skips when a library of an interpreter is missing."""
    if client.module:
        argv = ['perl', f'-M{client.module}', '-e', '1'] if 'perl' in client.programs \
            else [PYTHON, '-c', f'import {client.module}']
        if subprocess.run(argv, capture_output=True, check=False).returncode:
            raise Skip(f'{MODULES[client.module]} is not installed')


if __name__ == '__main__':
    sys.exit(main())
