# SPDX-License-Identifier: Apache-2.0
"""What the programs suite stands on: TAP, sick peers, SYN counts, programs and their places.

Everything started here is ended here, by its own process id. A case gets a directory of
its own, so that no breaker of one case is seen by another.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(HERE, 'clients')
SHIM = os.environ.get('AGENTSHIM_LIB', '')
TOOL = os.environ.get('AGENTSHIM_TOOL', '')

# How long anything may take that needs no waiting: generous, since it only ends a broken run.
PATIENT_S = 30

# The package of a program that has another name; tools/setup says why one is missing.
PACKAGES = {'nginx': 'nginx-light', 'node': 'nodejs', 'javac': 'openjdk-17-jdk-headless',
            'java': 'openjdk-17-jdk-headless', 'php': 'php-cli', 'redis-cli': 'redis-tools',
            'psql': 'postgresql-client',
            'gnutls-cli': 'gnutls-bin', 'promtool': 'prometheus'}

PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


class Skip(Exception):
    """Raised in a case that this machine cannot run; its text is the reason."""


def need(*programs):
    """Skips the case unless all programs are installed; gives the path of the first."""
    for program in programs:
        if not which(program):
            raise Skip(f'{PACKAGES.get(program, program)} is not installed')
    return which(programs[0])


def which(program):
    return shutil.which(program, path=PATH)


# ---- TAP ----------------------------------------------------------------------------------

class Tap:
    """One line per case, the plan at the end; leaving a case by an exception fails or skips it."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def case(self, name):
        return _Case(self, name)

    def result(self, ok, name, directive=''):
        self.count += 1
        self.failed += not ok
        print(f'{"ok" if ok else "not ok"} {self.count} - {name}{directive}', flush=True)

    @staticmethod
    def note(text):
        for line in str(text).splitlines():
            print(f'# {line}', flush=True)

    def done(self):
        print(f'1..{self.count}', flush=True)
        return 1 if self.failed else 0


class _Case:
    def __init__(self, tap, name):
        self.tap = tap
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.tap.result(True, self.name)
        elif issubclass(kind, Skip):
            self.tap.result(True, self.name, f' # SKIP {value}')
        elif issubclass(kind, Exception):
            self.tap.result(False, self.name)
            self.tap.note(''.join(traceback.format_exception(kind, value, trace)))
        else:
            return False
        return True


def check(condition, message):
    """An assertion that python -O keeps."""
    if not condition:
        raise AssertionError(message)


def equal(found, expected, what):
    check(found == expected, f'{what}: found {found!r}, expected {expected!r}')


def wait_until(question, what, seconds=PATIENT_S):
    """For states of other processes that send no event: asks again until yes or the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f'after {seconds} s still not: {what}')
        select.select([], [], [], 0.01)


# ---- namespaces ---------------------------------------------------------------------------

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def own_network():
    """Moves this process into a network namespace of its own where it may, and says whether.

    There nobody else sends packets, and the kernel's own patience with a silent peer can be
    set without touching the machine.
    """
    if _libc.unshare(CLONE_NEWNET):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', IFF_UP))
    return True


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(('::1', 0))
        return True
    except OSError:
        return False


# ---- SYNs on lo ---------------------------------------------------------------------------

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
PACKET_HOST = 0


class SynCounter:
    """Counts the SYN packets that reach a port on lo, retransmissions included.

    Loopback delivers inside the sender's system call, so that all packets of a client that
    has ended are counted. Without CAP_NET_RAW `usable` is false.
    """

    def __init__(self, port, family=socket.AF_INET):
        self.seen = []      # one (source port, sequence number) a packet
        try:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        except PermissionError:
            self.sock = None
            return
        # BPF on a cooked socket: offset 0 is the IP header, which is 20 or 40 bytes here.
        proto, dst, flags = (9, 22, 33) if family == socket.AF_INET else (6, 42, 53)
        program = [
            (0x30, 0, 0, proto), (0x15, 0, 6, socket.IPPROTO_TCP),
            (0x28, 0, 0, dst), (0x15, 0, 4, port),
            (0x30, 0, 0, flags), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02),
            (0x06, 0, 0, 64), (0x06, 0, 0, 0),
        ]
        code = b''.join(struct.pack('HBBI', *step) for step in program)
        buf = ctypes.create_string_buffer(code, len(code))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                             struct.pack('HL', len(program), ctypes.addressof(buf)))
        self.sock.bind(('lo', ETH_P_ALL))
        self.sock.setblocking(False)
        self.version = 4 if family == socket.AF_INET else 6

    @property
    def usable(self):
        return self.sock is not None

    def packets(self):
        at = 20 if self.version == 4 else 40
        while self.usable:
            try:
                packet, where = self.sock.recvfrom(64)
            except BlockingIOError:
                break
            if where[2] == PACKET_HOST and packet[0] >> 4 == self.version:
                source, _, number = struct.unpack_from('!HHI', packet, at)
                self.seen.append((source, number))
        return self.seen

    def close(self):
        if self.sock:
            self.sock.close()


# ---- peers --------------------------------------------------------------------------------

HELLO = b'hello from the peer\n'
TCP_SYN_SENT = 2


class Peer:
    """One port on loopback that behaves as its mode says and can change its mind.

    refusing         bound, not listening: the kernel answers RST
    unanswered       a full backlog: SYNs are dropped, connect hangs
    closing          accepts and closes at once
    silent           accepts, reads, never answers
    resetting        accepts and resets at once
    resetting-late   reads the request, then resets
    healthy          answers one HTTP request a connection, or relays to `backend`
    """

    SICK = ('refusing', 'unanswered', 'closing', 'silent', 'resetting', 'resetting-late')

    def __init__(self, mode, family=socket.AF_INET, backend=None):
        self.family = family
        self.host = '127.0.0.1' if family == socket.AF_INET else '::1'
        self.mode = mode
        self.backend = backend
        self.lock = threading.Condition()
        self.accepted = 0
        self.own = set()        # source ports of our own connections, which are no calls
        self.arrived = set()    # those of them that came out of accept
        self.open = set()       # sockets to end with the peer
        self.thread = None
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind((self.host, 0))
        self.port = self.listener.getsockname()[1]
        self.syns = SynCounter(self.port, family)
        if mode == 'unanswered':
            self._fill()
        elif mode != 'refusing':
            self._listen()

    @property
    def name(self):
        return f'{self.host}:{self.port}' if self.family == socket.AF_INET \
            else f'[{self.host}]:{self.port}'

    @property
    def url(self):
        return f'http://{self.name}/'

    def become(self, mode, backend=None):
        """Changes what the peer does with connections accepted from now on."""
        self.mode = mode
        self.backend = backend
        if not self.thread:
            self._listen()

    def packets(self):
        """SYNs that reached the port so far, retransmissions included, not counting our own.

        Without CAP_NET_RAW connections accepted; None where that cannot be known either.
        """
        if self.syns.usable:
            return len([p for p in self.syns.packets() if p[0] not in self.own])
        return self._accepts() if self.thread else None

    def calls(self):
        """Connections attempted so far by anyone but ourselves, or None as above."""
        if self.syns.usable:
            return len({p for p in self.syns.packets() if p[0] not in self.own})
        return self._accepts() if self.thread else None

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self.thread:
            self.thread.join()
        self.listener.close()
        self.syns.close()
        with self.lock:
            for sock in self.open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _fill(self):
        """A backlog of 0 holds one connection; the kernel drops the SYN of the next."""
        self.listener.listen(0)
        while True:
            s = socket.socket(self.family)
            s.setblocking(False)
            s.connect_ex((self.host, self.port))
            self.own.add(s.getsockname()[1])
            state = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state == TCP_SYN_SENT:
                s.close()
                return
            self.open.add(s)

    def _accepts(self):
        """Accepts are in order: once our own connection is through, all before it are."""
        with socket.socket(self.family) as s:
            s.bind((self.host, 0))
            mine = s.getsockname()[1]
            self.own.add(mine)
            s.connect((self.host, self.port))
            with self.lock:
                if not self.lock.wait_for(lambda: mine in self.arrived, PATIENT_S):
                    raise AssertionError('our own connection was not accepted')
                return self.accepted

    def _listen(self):
        self.listener.listen(1024)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                s, where = self.listener.accept()
            except OSError:
                return
            with self.lock:
                if where[1] in self.own:
                    self.arrived.add(where[1])
                    s.close()
                else:
                    self.accepted += 1
                    self.open.add(s)
                    threading.Thread(target=self._serve, args=(s, self.mode, self.backend),
                                     daemon=True).start()
                self.lock.notify_all()

    def _serve(self, s, mode, backend):
        try:
            if mode == 'closing':
                pass
            elif mode == 'resetting':
                _reset(s)
            elif mode == 'resetting-late':
                s.recv(65536)
                _reset(s)
            elif mode == 'silent':
                while s.recv(65536):
                    pass
            elif backend:
                _relay(s, backend)
            else:
                _answer(s)
        except OSError:
            pass
        with self.lock:
            self.open.discard(s)
        s.close()


def _reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()


def _answer(s):
    head = b''
    while b'\r\n\r\n' not in head:
        more = s.recv(65536)
        if not more:
            return
        head += more
    s.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: '
              + str(len(HELLO)).encode() + b'\r\nConnection: close\r\n\r\n' + HELLO)
    s.shutdown(socket.SHUT_WR)
    while s.recv(65536):
        pass


def _relay(s, backend):
    with socket.create_connection(backend) as up:
        ends = {s: up, up: s}
        while ends:
            for end in select.select(list(ends), [], [])[0]:
                data = end.recv(65536)
                other = s if end is up else up
                if data:
                    other.sendall(data)
                else:
                    del ends[end]
                    try:
                        other.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass


# ---- programs -----------------------------------------------------------------------------

class Done:
    """How one run of a program ended."""

    def __init__(self, status, out, err, seconds):
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def text(self):
        return self.out + self.err

    def __str__(self):
        return f'status {self.status} after {self.seconds:.3f} s\n{self.text}'


class Place:
    """A directory for one story: state, files, and the environment of its programs.

    Settings are AGENTSHIM_ variables without the prefix; None unsets one.
    """

    def __init__(self, **settings):
        self.path = tempfile.mkdtemp(prefix='agentshim-programs-')
        os.chmod(self.path, 0o755)
        self.state = os.path.join(self.path, 'state')
        os.mkdir(self.state, 0o700)
        self.settings = settings
        self.children = []

    def file(self, name, text=''):
        path = os.path.join(self.path, name)
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        return path

    def env(self, shim, **settings):
        env = {'PATH': PATH, 'HOME': self.path, 'LC_ALL': 'C.UTF-8', 'TMPDIR': self.path}
        if shim:
            env['LD_PRELOAD'] = SHIM
            merged = {'DIR': self.state, **self.settings, **settings}
            env.update({f'AGENTSHIM_{k}': str(v) for k, v in merged.items() if v is not None})
        return env

    def run(self, argv, shim=True, limit=PATIENT_S, stdin=None, **settings):
        """Runs a program to its end. The limit is for hangs only and fails the case."""
        began = time.monotonic()
        child = self.start(argv, shim, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)
        try:
            out, err = child.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(f'{argv} did not end within {limit} s: {out}{err}') from None
        finally:
            self.children.remove(child)
        return Done(child.returncode, out, err, time.monotonic() - began)

    def start(self, argv, shim=True, stdin=subprocess.DEVNULL, stdout=None, stderr=None,
              env=None, cwd=None, **settings):
        child = subprocess.Popen(argv, env={**self.env(shim, **settings), **(env or {})},
                                 stdin=stdin, stdout=stdout if stdout is not None else sys.stderr,
                                 stderr=stderr, text=True, errors='replace',
                                 cwd=cwd or self.path)
        self.children.append(child)
        return child

    def status(self):
        """What `agentshim status --json` says of this place."""
        done = subprocess.run([TOOL, 'status', '--json'], env=self.env(False)
                              | {'AGENTSHIM_DIR': self.state}, capture_output=True,
                              text=True, timeout=PATIENT_S, check=False)
        check(done.returncode == 0, f'agentshim status: {done.returncode}\n{done.stderr}')
        return json.loads(done.stdout)

    def breakers(self, peer):
        """All breakers of a peer in this place, over all services."""
        return [b for s in self.status()['services'] for b in s['breakers'] if b['peer'] == peer]

    def breaker(self, peer):
        """The one breaker of a peer, or None; two of them are an error."""
        found = self.breakers(peer)
        check(len(found) <= 1, f'{len(found)} breakers of {peer}: {found}')
        return found[0] if found else None

    def expect(self, peer, state, what, **counts):
        """Waits until the breaker of a peer is in this state and has these counts.

        A running client may let go of a connection only after it has told its caller.
        """
        found = None

        def as_expected():
            nonlocal found
            found = self.breaker(peer)
            return found and found['state'] == state and counts.items() <= found['counts'].items()

        try:
            wait_until(as_expected, what, 5)
        except AssertionError:
            raise AssertionError(f'{what}: found {found}, expected {state} {counts}') from None

    def state_of(self, peer):
        found = self.breaker(peer)
        return found['state'] if found else None

    def close(self):
        for child in list(self.children):
            end(child)
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def end(child, sig=signal.SIGTERM):
    """Ends a child that we started and waits for it."""
    if child.poll() is None:
        child.send_signal(sig)
        try:
            child.wait(PATIENT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            pipe.close()


class Session:
    """A long-running client: one call for each line that it is sent, one line back.

    The answer is `MILLISECONDS ok BODY` or `MILLISECONDS error MESSAGE`.
    """

    def __init__(self, place, argv, shim=True, **settings):
        self.place = place
        self.child = place.start(argv, shim, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, **settings)
        self.rest = b''

    def ask(self, line):
        """Another line than for a call, and what comes back."""
        self.child.stdin.write(line + '\n')
        self.child.stdin.flush()
        return self._line()

    def call(self):
        line = self.ask('call')
        found = re.fullmatch(r'([0-9.]+) (ok|error) (.*)', line)
        check(found, f'the client said {line!r}')
        return Done(0 if found[2] == 'ok' else 1, found[3], '', float(found[1]) / 1000)

    def _line(self):
        fd = self.child.stdout.fileno()
        deadline = time.monotonic() + PATIENT_S
        while b'\n' not in self.rest:
            left = deadline - time.monotonic()
            check(left > 0 and select.select([fd], [], [], left)[0], 'the client said nothing')
            more = os.read(fd, 65536)
            if not more:
                raise AssertionError(f'the client ended: {self.child.wait(PATIENT_S)}')
            self.rest += more
        line, self.rest = self.rest.split(b'\n', 1)
        return line.decode(errors='replace')

    def close(self):
        """Ends the client through the end of its input; gives its exit status."""
        self.child.stdin.close()
        try:
            status = self.child.wait(PATIENT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            status = self.child.wait()
        self.child.stdout.close()
        self.place.children.remove(self.child)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def listening(port, host='127.0.0.1'):
    with socket.socket() as s:
        return s.connect_ex((host, port)) == 0


def waiting(port):
    """Connections to a listening port of 127.0.0.1 that nobody has accepted yet."""
    with open('/proc/net/tcp', encoding='ascii') as f:
        for line in f.readlines()[1:]:
            _, local, _, state, queues = line.split()[:5]
            if state == '0A' and local == f'0100007F:{port:04X}':
                return int(queues.split(':')[1], 16)
    return None


def free_port():
    """A port for a server that cannot bind 0 itself; the suite's own namespace keeps it free."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def children_of(pid):
    """The child processes of a process, by /proc."""
    found = []
    try:
        for task in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{task}/children', encoding='ascii') as f:
                found += [int(word) for word in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def is_root():
    return os.geteuid() == 0

