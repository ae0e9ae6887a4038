# SPDX-License-Identifier: Apache-2.0
"""Other people's servers that the suite starts and ends: nginx, PHP-FPM, Redis, PostgreSQL."""

import ctypes
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
                     need, wait_until, waiting)

WORKERS = 4
LOW_USER = 'www-data'


def own_by(path, user):
    """Gives a directory to the user that a server will run as; only root has to."""
    if is_root():
        who = pwd.getpwnam(user)
        os.chown(path, who.pw_uid, who.pw_gid)


PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Daemons that we start become our children, so that we can wait for their end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def gone(pid):
    """Has this adopted process ended? Reaps it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not os.path.exists(f'/proc/{pid}')


class Nginx:
    """nginx in front of one upstream: four workers, as www-data where root starts it.

    Each worker has a listening socket of its own (reuseport), so that the kernel spreads
    sequential requests over all of them.
    """

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
		listen 127.0.0.1:{self.port} reuseport;
		location / {{
			proxy_pass http://{upstream};
			proxy_connect_timeout {giveup_ms}ms;
			proxy_read_timeout {giveup_ms}ms;
			add_header X-Worker $pid always;
		}}
	}}
}}
''')
        self.workers = set()
        self.pid = None
        # The upgrade needs a master whose parent is not the one that started it: a daemon.
        adopt_orphans()
        done = place.run([need('nginx'), '-e', f'{self.dir}/error.log', '-c', self.conf], shim)
        check(done.status == 0, f'nginx: {done}')
        self.pid = wait_until(self.master, 'the pid file of nginx')
        wait_until(lambda: len(children_of(self.pid)) == WORKERS, 'the workers of nginx')

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
        """The process id in the pid file, None while there is none."""
        try:
            with open(f'{self.dir}/nginx.pid', encoding='ascii') as f:
                return int(f.read())
        except (OSError, ValueError):
            return None

    def log(self):
        with open(f'{self.dir}/error.log', encoding='utf-8') as f:
            return f.read()

    def reload(self):
        """As nginx -s reload, waited for: a new set of workers only."""
        old = set(children_of(self.pid))
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: len(now := set(children_of(self.pid))) == WORKERS and not now & old,
                   'a new set of workers')

    def upgrade(self):
        """The binary upgrade of nginx's manual: USR2, WINCH, QUIT."""
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        new = wait_until(lambda: self._new_master(old), 'a new master')
        os.kill(old, signal.SIGWINCH)
        wait_until(lambda: children_of(old) == [new], 'the old workers gone')
        os.kill(old, signal.SIGQUIT)
        wait_until(lambda: gone(old), 'the old master gone')
        self.pid = new

    def _new_master(self, old):
        found = self.master()
        return found if found not in (old, None) and len(children_of(found)) == WORKERS else None

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGQUIT)
            wait_until(lambda: gone(self.pid), 'nginx gone')
            self.pid = None


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

    def hold(self):
        """One connection for each child, which has accepted it and waits for a request."""
        held = [socket.create_connection(('127.0.0.1', self.port), PATIENT_S)
                for _ in range(WORKERS)]
        wait_until(lambda: waiting(self.port) == 0, 'all children busy')
        return held

    def get(self, held, query):
        """The body of one request to the script over a held connection, which ends with it."""
        with held as s:
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
