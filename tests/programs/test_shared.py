# SPDX-License-Identifier: Apache-2.0
"""One breaker for all processes of a service: workers, pools, reloads, upgrades, short lives.

    test_shared.py prefork|nginx|php-fpm|short
"""

import os
import socket
import subprocess
import sys

import servers
from harness import (CLIENTS, PATIENT_S, SHIM, Peer, Place, Tap, check, equal, need, own_network)

TRIPS_AT = 5
GIVEUP_MS = 700
WORKERS = 4
# Nothing here is about time, so an open breaker stays open.
SETTINGS = {'TIMEOUT': '1h', 'INTERVAL': '0', 'CONSECUTIVE_FAILURES': TRIPS_AT}


def one_breaker(place, peer):
    place.expect(peer.name, 'open', 'the one breaker of the service')


# ---- prefork ------------------------------------------------------------------------------

class Worker:
    """A connection to one worker of clients/prefork.py, which serves nobody else meanwhile."""

    def __init__(self, port):
        self.link = socket.create_connection(('127.0.0.1', port), PATIENT_S)
        self.lines = self.link.makefile('rw')
        self.pid = int(self.lines.readline())

    def call(self):
        print('call', file=self.lines, flush=True)
        return self.lines.readline().strip()

    def close(self):
        self.lines.close()
        self.link.close()


def prefork(tap):
    argv = ['/usr/bin/python3', os.path.join(CLIENTS, 'prefork.py')]
    with Place(**SETTINGS) as place, Peer('refusing') as peer:
        server = place.start([*argv, peer.name, str(GIVEUP_MS), str(WORKERS)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        port = int(server.stdout.readline())
        workers = [Worker(port) for _ in range(WORKERS)]
        with tap.case('prefork: four workers trip one breaker'):
            equal(len({w.pid for w in workers}), WORKERS, 'workers')
            for i in range(TRIPS_AT):
                if i:
                    place.expect(peer.name, 'closed', f'before call {i}', consecutive_failures=i)
                answer = workers[i % WORKERS].call()
                check('refused' in answer, answer)
            one_breaker(place, peer)
            equal(peer.calls(), TRIPS_AT, 'connections attempted')
        with tap.case('prefork: every worker is refused without a packet'):
            before = peer.packets()
            for worker in workers:
                check('refused' in worker.call(), f'worker {worker.pid}')
            equal(peer.packets(), before, 'packets')
        with tap.case('prefork: the server ends as bare'):
            for worker in workers:
                worker.close()
            server.stdin.close()
            equal(server.wait(PATIENT_S), 0, 'exit status')


# ---- nginx --------------------------------------------------------------------------------

def refused_by_all(nginx, peer):
    """Asks until each of the four workers has refused; the kernel chooses who is asked."""
    before = peer.packets()
    refused = set()
    for _ in range(400):
        nginx.workers.clear()
        done = nginx.get()
        equal(done.status, 502, f'HTTP status ({done})')
        refused |= nginx.workers
        if len(refused) == WORKERS:
            break
    equal(len(refused), WORKERS, 'workers that refused')
    equal(peer.packets(), before, 'packets')
    return refused


def nginx(tap):
    passed_on = ['LD_PRELOAD', 'AGENTSHIM_DIR', *(f'AGENTSHIM_{k}' for k in SETTINGS)]
    with Place(**SETTINGS) as place, Peer('refusing') as peer:
        server = servers.Nginx(place, peer.name, GIVEUP_MS, True, extra_env=passed_on)
        try:
            with tap.case('nginx: five failures of four workers trip one breaker'):
                for _ in range(TRIPS_AT):
                    equal(server.get().status, 502, 'HTTP status')
                one_breaker(place, peer)
                equal(peer.calls(), TRIPS_AT, 'connections attempted')
            with tap.case('nginx: each worker refuses without a packet'):
                first = refused_by_all(server, peer)
            with tap.case('nginx: so does each worker after a reload'):
                server.reload()
                second = refused_by_all(server, peer)
                check(not first & second, 'workers of before the reload')
                one_breaker(place, peer)
            with tap.case('nginx: so does each worker of a new binary (USR2, WINCH, QUIT)'):
                server.upgrade()
                third = refused_by_all(server, peer)
                check(not second & third, 'workers of the old binary')
                one_breaker(place, peer)
        finally:
            server.close()


# ---- PHP-FPM ------------------------------------------------------------------------------

def php_fpm(tap):
    need('php')
    with Place(**SETTINGS) as place, Peer('refusing') as peer:
        # The pool's user may not look into the tree.
        with open(os.path.join(CLIENTS, 'fpm.php'), encoding='utf-8') as f:
            script = place.file('fpm.php', f.read())
        pool = servers.PhpFpm(place, script)

        def round_of_all():
            """One call by each child: all four hold a connection before the first is asked."""
            answers = [pool.get(held, f'peer={peer.name}&giveup={GIVEUP_MS}')
                       for held in pool.hold()]
            equal(len({answer.split()[0] for answer in answers}), WORKERS, f'children: {answers}')
            for answer in answers:
                check('refused' in answer, answer)

        try:
            with tap.case('php-fpm: four children trip one breaker'):
                round_of_all()
                place.expect(peer.name, 'closed', 'after a round', consecutive_failures=WORKERS)
                round_of_all()
                one_breaker(place, peer)
                equal(peer.calls(), TRIPS_AT, 'connections attempted')
            with tap.case('php-fpm: each child refuses without a packet'):
                before = peer.packets()
                round_of_all()
                equal(peer.packets(), before, 'packets')
            with tap.case('php-fpm: so does each child after a reload (USR2)'):
                pool.reload()
                round_of_all()
                equal(peer.packets(), before, 'packets')
                one_breaker(place, peer)
        finally:
            pool.close()


# ---- 20,000 short lives -------------------------------------------------------------------

SHORT_RUNS = 20000
CURLS = 200


def files(place):
    return {e.name: e.stat().st_size for e in os.scandir(place.state)}


def short(tap):
    connector = os.environ['AGENTSHIM_CONNECTOR']
    with Place(**SETTINGS) as place, Peer('healthy') as peer:
        with tap.case(f'{CURLS} short curl runs leave one slot and the files as they were'):
            need('curl')
            for i in range(CURLS):
                equal(place.run(['curl', '-sS', peer.url]).status, 0, f'run {i}')
                if i == 0:
                    first = files(place)
            equal(files(place), first, 'files')
            found = place.breaker(peer.name)
            equal((found['state'], found['counts']['successes']), ('closed', CURLS), 'breaker')
        with tap.case(f'{SHORT_RUNS} short runs leave one slot and the files as they were'):
            warm = place.run([connector, '100', SHIM], shim=False, env=extra(place), limit=120)
            equal(warm.status, 0, f'{warm}')
            first = files(place)
            done = place.run([connector, str(SHORT_RUNS), SHIM], shim=False, env=extra(place),
                             limit=400)
            equal(done.status, 0, f'{done}')
            begin, last, failed = done.out.split()
            tap.note(f'median start to end: first hundred {begin} us, last hundred {last} us')
            equal(int(failed), 0, 'failed runs')
            equal(files(place), first, 'files')
            mine = [b for s in place.status()['services'] if s['service'] == 'connector'
                    for b in s['breakers']]
            equal(len(mine), 2, f'slots, one for each server: {mine}')
            equal(sum(b['counts']['successes'] for b in mine), SHORT_RUNS + 100, 'calls counted')


def extra(place):
    """The settings alone: the connector preloads the shim into what it starts, not into itself."""
    return {k: v for k, v in place.env(True).items() if k.startswith('AGENTSHIM_')}


STORIES = {'prefork': prefork, 'nginx': nginx, 'php-fpm': php_fpm, 'short': short}


def main():
    tap = Tap()
    own_network()
    with tap.case(f'{sys.argv[1]}: to the end'):
        STORIES[sys.argv[1]](tap)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
