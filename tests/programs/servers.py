# SPDX-License-Identifier: Apache-2.0
"""Servers of other people that the programs suite starts and ends: nginx, PHP-FPM, Redis, PostgreSQL."""

import glob
import http.client
import os
import pwd
import signal
import socket
import struct
import subprocess
import time

from harness import (Done, PATIENT_S, Skip, check, children_of, end, free_port, is_root, listening,
                     need, wait_until)

WORKERS = 4
LOW_USER = 'www-data'


def own_by(path, user):
    """Gives a directory to the user that a server will run as; only root has to."""
    if is_root():
        who = pwd.getpwnam(user)
        os.chown(path, who.pw_uid, who.pw_gid)


class Nginx:
    """nginx in front of one upstream: four workers, as www-data where root starts it."""

    def __init__(self, place, upstream, giveup_ms, shim, extra_env=()):
        self.place = place
        self.port = free_port()
        self.dir = os.path.join(place.path, f'nginx-{self.port}')
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o755)
        own_by(self.dir, LOW_USER)
        own_by(place.state, LOW_USER)
        user = f'user {LOW_USER};' if is_root() else ''
        # nginx hands a new binary only the variables that it is told of.
        env = '\n'.join(f'env {name};' for name in extra_env)
        self.conf = place.file(f'nginx-{self.port}.conf', f'''
{user}
{env}
daemon off;
worker_processes {WORKERS};
pid {self.dir}/nginx.pid;
error_log {self.dir}/error.log info;
events {{ worker_connections 256; }}
http {{
	access_log off;
	client_body_temp_path {self.dir}/body;
	proxy_temp_path {self.dir}/proxy;
	fastcgi_temp_path {self.dir}/fastcgi;
	uwsgi_temp_path {self.dir}/uwsgi;
	scgi_temp_path {self.dir}/scgi;
	server {{
		listen 127.0.0.1:{self.port};
		location / {{
			proxy_pass http://{upstream};
			proxy_connect_timeout {giveup_ms}ms;
			proxy_read_timeout {giveup_ms}ms;
			add_header X-Worker $pid always;
		}}
	}}
}}
''')
        self.child = place.start([need('nginx'), '-e', f'{self.dir}/error.log', '-c', self.conf],
                                 shim, stderr=subprocess.DEVNULL)
        self.workers = set()
        try:
            wait_until(lambda: self.child.poll() is not None or listening(self.port),
                       'nginx listening')
            check(self.child.poll() is None, f'nginx ended: {self.log()}')
        except AssertionError:
            self.close()
            raise

    def get(self):
        """One request, on a connection of its own; the status is the HTTP status."""
        began = time.monotonic()
        link = http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENT_S)
        try:
            link.request('GET', '/', headers={'Connection': 'close'})
            reply = link.getresponse()
            body = reply.read().decode()
        finally:
            link.close()
        self.workers.add(int(reply.headers['X-Worker']))
        return Done(reply.status, body, '', time.monotonic() - began)

    def master(self):
        with open(f'{self.dir}/nginx.pid', encoding='ascii') as f:
            return int(f.read())

    def log(self):
        with open(f'{self.dir}/error.log', encoding='utf-8') as f:
            return f.read()

    def reload(self):
        """nginx -s reload, waited for: a new set of workers only."""
        old = set(children_of(self.master()))
        os.kill(self.master(), signal.SIGHUP)
        self._renewed(self.master(), old)

    def upgrade(self):
        """The binary upgrade of nginx's manual: USR2, WINCH, QUIT; the new master is our child's."""
        old = self.master()
        os.kill(old, signal.SIGUSR2)
        new = wait_until(lambda: self._new_master(old), 'a new master')
        os.kill(old, signal.SIGWINCH)
        wait_until(lambda: [p for p in children_of(old) if p != new] == [], 'old workers gone')
        os.kill(old, signal.SIGQUIT)
        self.child.wait(PATIENT_S)
        self.place.children.remove(self.child)
        self.child = None
        self.upgraded = new

    def _new_master(self, old):
        try:
            found = self.master()
        except (OSError, ValueError):
            return None
        return found if found != old and len(children_of(found)) == WORKERS else None

    @staticmethod
    def _renewed(master, old):
        wait_until(lambda: len(now := set(children_of(master))) == WORKERS and not now & old,
                   'a new set of workers')

    def close(self):
        if self.child:
            end(self.child, signal.SIGQUIT)
            if self.child in self.place.children:
                self.place.children.remove(self.child)
        elif getattr(self, 'upgraded', None):
            os.kill(self.upgraded, signal.SIGTERM)
            wait_until(lambda: not listening(self.port), 'the upgraded nginx gone')


class Redis:
    """redis-server, nothing kept on disk."""

    def __init__(self, place):
        self.address = ('127.0.0.1', free_port())
        self.place = place
        self.child = place.start([need('redis-server'), '--port', str(self.address[1]), '--bind',
                                  '127.0.0.1', '--save', '', '--appendonly', 'no'], shim=False,
                                 stdout=subprocess.DEVNULL)
        wait_until(lambda: listening(self.address[1]), 'redis-server listening')

    def close(self):
        end(self.child)
        self.place.children.remove(self.child)


class Postgres:
    """A PostgreSQL server of its own, which refuses to run as root."""

    def __init__(self, place):
        found = sorted(glob.glob('/usr/lib/postgresql/*/bin'))
        if not found:
            raise Skip('postgresql-15 is not installed')
        self.bin = found[-1]
        self.place = place
        self.data = os.path.join(place.path, 'pg')
        os.mkdir(self.data, 0o700)
        own_by(self.data, 'postgres')
        self.low = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] \
            if is_root() else []
        done = place.run([*self.low, f'{self.bin}/initdb', '-D', self.data, '-U', 'tester', '-A',
                          'trust', '-E', 'UTF8', '--no-sync'], shim=False, limit=120)
        check(done.status == 0, f'initdb: {done}')
        self.address = ('127.0.0.1', free_port())
        self.child = place.start([*self.low, f'{self.bin}/postgres', '-D', self.data, '-h',
                                  '127.0.0.1', '-p', str(self.address[1]), '-k', '', '-F'],
                                 shim=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 'PostgreSQL answering')

    def _answers(self):
        return self.place.run([f'{self.bin}/pg_isready', '-h', '127.0.0.1', '-p',
                               str(self.address[1])], shim=False).status == 0

    def close(self):
        end(self.child, signal.SIGQUIT)
        self.place.children.remove(self.child)


class PhpFpm:
    """A PHP-FPM pool of four children over one script, spoken to in FastCGI."""

    def __init__(self, place, script, shim=True):
        programs = glob.glob('/usr/sbin/php-fpm*')
        if not programs:
            raise Skip('php-fpm is not installed')
        self.place = place
        self.port = free_port()
        self.script = script
        own_by(place.state, LOW_USER)
        user = f'user = {LOW_USER}\ngroup = {LOW_USER}' if is_root() else ''
        conf = place.file('fpm.conf', f'''
[global]
daemonize = no
error_log = {place.path}/fpm.log
pid = {place.path}/fpm.pid
[www]
{user}
listen = 127.0.0.1:{self.port}
pm = static
pm.max_children = {WORKERS}
''')
        self.child = place.start([programs[0], '-n', '-R', '-y', conf], shim,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.child.poll() is not None or listening(self.port),
                   'php-fpm listening')
        check(self.child.poll() is None, 'php-fpm ended')

    def get(self, query):
        """The body of one request to the script."""
        with socket.create_connection(('127.0.0.1', self.port), PATIENT_S) as s:
            params = {'SCRIPT_FILENAME': self.script, 'REQUEST_METHOD': 'GET',
                      'QUERY_STRING': query, 'SCRIPT_NAME': '/x.php'}
            body = b''.join(_pair(k) + _pair(v) + k.encode() + v.encode()
                            for k, v in params.items())
            # responder, close afterwards
            s.sendall(_record(1, struct.pack('!HB5x', 1, 0)) + _record(4, body) + _record(4, b'')
                      + _record(5, b''))
            reply = b''
            while more := s.recv(65536):
                reply += more
        out = b''
        while len(reply) >= 8:
            kind, size, pad = struct.unpack('!xBxxHBx', reply[:8])
            if kind == 6:
                out += reply[8:8 + size]
            reply = reply[8 + size + pad:]
        check(b'\r\n\r\n' in out, f'no FastCGI reply: {out!r}')
        return out.split(b'\r\n\r\n', 1)[1].decode()

    def reload(self):
        """USR2: the master starts itself anew in place."""
        old = set(children_of(self.child.pid))
        self.child.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(now := set(children_of(self.child.pid))) == WORKERS
                   and not now & old and listening(self.port), 'a new pool')

    def close(self):
        end(self.child, signal.SIGTERM)
        self.place.children.remove(self.child)


def _pair(text):
    return struct.pack('!I', len(text.encode()) | 0x80000000)


def _record(kind, body):
    return struct.pack('!BBHHBx', 1, kind, 1, len(body), 0) + body
