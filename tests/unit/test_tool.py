#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The program `agentshim` over prepared directories: what it shows, refuses and changes (TAP).

usage: test_tool.py TOOL LAY_FILES SHIM
"""
import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

from cases import Skip, needs_a_plain_shim, run

TOOL, LAY, SHIM = (os.path.abspath(p) for p in sys.argv[1:4])
ROOT = os.geteuid() == 0
PATIENT_S = 30  # only ends a run that is broken
KINDS = {'state_change': 1, 'call_rejected': 2, 'breaker_created': 3, 'config_error': 5,
         'state_private': 7, 'stack': 8}
HEADER = 4096
CONTROL_AT = 60

# C0 but for the newline that ends a line, DEL, and C1 as it is written in UTF-8.
CONTROLS = re.compile(rb'[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]')


class Place:
    """A directory of the case's own, and the tool looking into it."""

    def __init__(self, path):
        self.path = path
        self.state = os.path.join(path, 'state')

    def env(self, **more):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(('AGENTSHIM_', 'OTEL_', 'TRACE'))
               and k not in ('LD_PRELOAD', 'NO_COLOR')}
        env['AGENTSHIM_DIR'] = self.state
        env['ASAN_OPTIONS'] = 'verify_asan_link_order=0:detect_leaks=0'
        env.update(more)
        return env

    def tool(self, *args, env=None, **more):
        return subprocess.run([TOOL, *args], env=env or self.env(), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=PATIENT_S, check=False, **more)

    def ok(self, *args, **more):
        done = self.tool(*args, **more)
        assert done.returncode == 0, (args, done)
        return done

    def json(self, *args):
        out = self.ok('status', '--json', *args).stdout
        assert not CONTROLS.search(out), out
        assert out.endswith(b'}\n') and out.count(b'\n') == 1
        return json.loads(out)

    def lay(self, *orders, stem='curl-0123456789ab', name=b'curl'):
        first = f'service {self.state} {stem} {name.hex()}\n'
        subprocess.run([LAY], input=first + ''.join(o + '\n' for o in orders), text=True,
                       check=True, timeout=PATIENT_S)
        return os.path.join(self.state, stem + '.v2.state')

    def write(self, name, data, mode=0o755):
        path = os.path.join(self.path, name)
        with open(path, 'wb') as f:
            f.write(data)
        os.chmod(path, mode)
        return path


def breaker(peer, steps='-'):
    return f'breaker {peer.encode("latin-1").hex()} {steps}'


def opened(peer, seconds):
    return f'open {peer.encode("latin-1").hex()} {seconds}'


def event(kind, text='', number=1, part=0, parts=0, mode=0):
    text = text if isinstance(text, bytes) else text.encode('latin-1')
    return f'event {KINDS.get(kind, kind)} {number} {part} {parts} {text.hex() or "-"} {mode}'


def hexed(text):
    text = text if isinstance(text, bytes) else text.encode('latin-1')
    return text.hex() or '-'


# Wall clock of the spans' beginnings, and the trace that they belong to.
BASE = 1_795_780_800_000_000_000
TRACE = '550e8400e29b41d4a716446655440000'
MS = 1_000_000
INTERNAL, SERVER, CLIENT = range(3)
TIMEOUT, MORE_FOLLOWS, REMOTE = 2, 8, 1


def span(kind, number, parent=None, at=0, took=MS, path='/', method='GET', status=200, error=0,
         bits=0, host='api.local', trace=TRACE):
    ids = f'{trace} {number:016x} {"-" if parent is None else f"{parent:016x}"}'
    return f'span {kind} {ids} {bits} {status} {error} {BASE + at} {took} ' \
        f'{hexed(method)} {hexed(path)} {hexed(host)}'


def more(key, value):
    return f'more {hexed(key)} {hexed(value)}'


def change(peer, before, after):
    return f'change {hexed(peer)} {before} {after}'


def patch(path, at, data):
    with open(path, 'r+b') as f:
        f.seek(at)
        f.write(data)


def lines_fit(out, width=80):
    for line in out.decode().split('\n'):
        line = re.sub(r'\x1b\[[0-9;]*[mKHJ]', '', line)
        assert len(line) <= width, line


# ---- status ----

def nothing_there_is_no_error(p):
    assert b'No service in ' + p.state.encode() in p.ok('status').stdout
    assert p.json() == {'services': [], 'skipped': []}


def an_open_breaker_is_shown_with_its_reason(p):
    path = p.lay(breaker('127.0.0.1:8080', 'ssfffff'), opened('127.0.0.1:8080', 3000),
                 breaker('127.0.0.1:8080', 'rr'), breaker('db:5432', 'ssssx'))
    out = p.ok('status').stdout
    lines_fit(out)
    row = [line.split() for line in out.decode().splitlines() if '127.0.0.1:8080 ' in line][0]
    assert row[1:7] == ['open', '2', '5', '0', '5', '2'], row
    assert re.fullmatch(r'49m|50m', row[8]), row
    assert b'consecutive_failures, last error ECONNREFUSED' in out
    assert out.index(b'127.0.0.1:8080') < out.index(b'db:5432')

    service, = p.json()['services']
    assert service['service'] == 'curl' and service['file'] == path
    assert service['mode'] == 'enforce' and service['control'] is None
    assert service['creator'] == '/usr/bin/lay-files'
    assert re.fullmatch(r'20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', service['created'])
    bad, good = service['breakers']
    assert bad['peer'] == '127.0.0.1:8080' and bad['state'] == 'open'
    assert bad['reason'] == 'consecutive_failures' and bad['last_error'] == 'ECONNREFUSED'
    assert 2_900_000 < bad['retry_in_ms'] <= 3_000_000 and bad['open_for_ms'] >= 0
    assert bad['totals'] == {'successes': 2, 'failures': 5, 'exclusions': 0, 'refused': 2,
                             'stale': 0, 'probes_lost': 0}
    assert bad['changes'] == {'closed>open': 1}
    assert good['state'] == 'closed' and good['changes'] == {} and 'open_for_ms' not in good
    assert good['counts'] == {'requests': 5, 'successes': 4, 'failures': 0, 'exclusions': 1,
                              'consecutive_successes': 4, 'consecutive_failures': 0}
    assert [e['event'] for e in service['events']] == ['state_change']
    assert service['events_lost'] == 0 and service['problems'] == []


def an_open_breaker_whose_time_is_over_says_0(p):
    p.lay(breaker('a:1', 'fffff'), opened('a:1', 0))
    shown, = p.json()['services'][0]['breakers']
    assert shown['state'] == 'open' and shown['retry_in_ms'] == 0


def without_its_event_no_time_is_invented(p):
    p.lay(breaker('a:1', 'fffff'))
    shown, = p.json()['services'][0]['breakers']
    assert 'retry_in_ms' not in shown and shown['open_for_ms'] >= 0


def problems_are_shown_once(p):
    problem = 'AGENTSHIM_TIMEOUT: found "30 parsecs", expected a duration ' + 'x' * 80
    p.lay(*[event('config_error', problem)] * 5, event('state_private', 'no space'))
    service, = p.json()['services']
    assert service['problems'] == [problem, 'no space']
    out = p.ok('status').stdout
    lines_fit(out)
    assert out.count(b'! AGENTSHIM_TIMEOUT') == 1 and b'! no space' in out
    assert out.replace(b'\n    ', b'').count(b'x' * 80) == 1  # whole, over two lines


def problems_are_broken_between_words(p):
    problem = 'AGENTSHIM_MODE: found "x", expected enforce, observe, off, forced_open or ' \
        'forced_closed; enforce stands'
    p.lay(event('config_error', problem))
    out = p.ok('status').stdout
    lines_fit(out)
    assert problem.encode() in out.replace(b'\n    ', b' '), out


def a_directory_that_the_shim_declines_is_not_looked_in(p):
    for bad in 'relative', '/' + 255 * 'x':
        done = p.tool('status', 'nope', env=p.env(AGENTSHIM_DIR=bad))
        assert done.returncode == 1, done
        assert done.stderr.count(b'AGENTSHIM_DIR: found "' + bad[:30].encode() + b'"') == 1, done
        assert b'in /dev/shm/agentshim-' in done.stderr, done
    done = p.tool('status', 'nope', env=p.env(AGENTSHIM_DIR=' '))
    assert b'AGENTSHIM_DIR' not in done.stderr and b'in /dev/shm/agentshim-' in done.stderr, done


def the_mode_comes_from_processes_and_from_the_tool(p):
    p.lay(breaker('a:1', 's'))
    assert p.json()['services'][0]['mode'] is None
    p.lay(event('call_rejected', 'a:1', mode=1))
    assert p.json()['services'][0]['mode'] == 'observe'
    p.ok('off', 'curl')
    service, = p.json()['services']
    assert service['mode'] == service['control'] == 'off'
    assert b'curl  off (by agentshim)' in p.ok('status').stdout
    p.lay(event('call_rejected', 'a:1', mode=2))  # said under the tool's order
    p.ok('on', 'curl')
    service, = p.json()['services']
    assert service['mode'] == 'observe' and service['control'] is None


def long_and_odd_names_keep_to_the_width(p):
    peers = ['x' * 23 + ':1', 'y' * 253 + ':65535', '[2001:db8::1234:5678:9abc:def0]:443']
    p.lay(*[breaker(peer, 'f') for peer in peers], *[event('call_rejected', q) for q in peers])
    out = p.ok('status', 'curl').stdout
    lines_fit(out)
    shown = p.json()['services'][0]['breakers']
    assert sorted(b['peer'] for b in shown) == sorted(peers)


def control_characters_never_reach_the_terminal(p):
    evil = '\x1b[2J\x07\r\n\x7f\x9b2J\xc2\x9b\xff'
    path = p.lay(breaker('a' + evil, 'fffff'), opened('a' + evil, 60),
                 event('config_error', evil + 'p'), event('call_rejected', evil),
                 event('stack', '0=/bin/' + evil + '%1B[2J|0+10,?+ff', number=77, parts=1),
                 name=b'b' + evil.encode('latin-1'))
    patch(path, 64, b'c\x1b[31m\xc2\x9b')
    patch(path, 136, b'/bin/\x1b[31m' + b'\xff' * 245)
    names = ['c?[31m??', 'curl-0123456789ab', path]
    for args in (['status'], ['status', '--stacks'], ['status', '--json', '--stacks'],
                 ['status', '\x1b[2J'], ['off', '\x1b[2J'], ['observe', names[1]],
                 ['\x1b[2J'], ['run', '\x1b[2J']):
        done = p.tool(*args)
        for out in done.stdout, done.stderr:
            assert not CONTROLS.search(out), (args, out)
            out.decode()
    shown, = p.json('--stacks')['services']
    # C1 in UTF-8 is shown as two '?', as what is no UTF-8 is as one.
    assert shown['service'].startswith(names[0])
    assert 'retry_in_ms' in shown['breakers'][0]
    assert shown['breakers'][0]['peer'].startswith('a?[2J????')
    os.rename(path, os.path.join(p.state, 'q\x1b[2J.v2.state'))
    assert b'never give' in p.ok('status').stderr
    assert p.json()['services'] == []


def doubtful_files_are_skipped_with_a_reason(p):
    good = p.lay(breaker('a:1', 's'))
    with open(good, 'rb') as f:
        data = f.read()

    def put(name, content, mode=0o600):
        path = os.path.join(p.state, name + '.v2.state')
        with open(path, 'wb') as f:
            f.write(content)
        os.chmod(path, mode)
        return path

    put('empty', b'')
    put('short', data[:-1])
    put('long', data + b'\0')
    put('magic', b'x' + data[1:])
    put('layout', data[:8] + b'\1' + data[9:])
    put('kind', data[:12] + b'\2' + data[13:])
    put('size', data[:16] + b'\xff' * 8 + data[24:])
    put('open-to-all', data, 0o666)
    put('open-to-group', data, 0o620)
    os.symlink(good, os.path.join(p.state, 'link.v2.state'))
    os.mkfifo(os.path.join(p.state, 'fifo.v2.state'), 0o600)
    os.mkdir(os.path.join(p.state, 'dir.v2.state'), 0o700)
    expected = {'empty', 'short', 'long', 'magic', 'layout', 'kind', 'size', 'open-to-all',
                'open-to-group', 'link', 'fifo', 'dir'}
    if ROOT:
        os.chown(put('foreign', data), 65534, 65534)
        expected.add('foreign')
    seen = p.json()
    assert [s['file'] for s in seen['services']] == [good]
    assert {os.path.basename(s['file'])[:-9] for s in seen['skipped']} == expected, seen
    done = p.ok('status')
    assert done.stderr.count(b'skipped: ') == len(expected)
    assert b'curl' in done.stdout


def a_doubtful_ring_hides_no_breaker(p):
    path = p.lay(breaker('a:1', 'f'), event('call_rejected', 'a:1'))
    ring = path[:-5] + 'ring'
    size = os.path.getsize(ring)
    os.truncate(ring, size - 1)
    seen = p.json()
    assert seen['services'][0]['breakers'] and seen['services'][0]['events'] == []
    assert seen['skipped'][0]['file'] == ring
    os.truncate(ring, size)
    patch(ring, HEADER, b'garbage')
    assert p.json()['skipped'][0]['file'] == ring
    os.unlink(ring)
    assert p.json()['services'][0]['breakers']


def noise_in_the_body_is_shown_or_skipped_but_harmless(p):
    path = p.lay(*[breaker(f'peer{i}:1', 'sf') for i in range(20)],
                 *[event(k % 10, 'x', k) for k in range(50)])
    ring = path[:-5] + 'ring'
    with open(path, 'rb') as f:
        state = f.read()
    with open(ring, 'rb') as f:
        records = f.read()
    for seed in range(60):
        rand = random.Random(seed)
        if seed % 3 == 0:  # all noise
            bodies = rand.randbytes(len(state) - HEADER), rand.randbytes(len(records) - HEADER)
        else:              # some noise in what was good
            bodies = bytearray(state[HEADER:]), bytearray(records[HEADER:])
            for body in bodies:
                for _ in range(3000):
                    body[rand.randrange(len(body))] = rand.randrange(256)
        patch(path, HEADER, bodies[0])
        patch(ring, HEADER, bodies[1])
        patch(path, 40, rand.randbytes(HEADER - 40))
        for args in (['--json', '--stacks'], ['--stacks']):
            done = p.tool('status', *args)
            assert done.returncode == 0, (seed, done)
            assert not CONTROLS.search(done.stdout + done.stderr), seed
            if args[0] == '--json':
                json.loads(done.stdout)
            else:
                lines_fit(done.stdout)


def a_directory_that_others_write_to_is_not_believed(p):
    p.lay(breaker('a:1', 's'))
    for mode in (0o770, 0o707, 0o1777):
        os.chmod(p.state, mode)
        assert p.json()['services'] == [] and p.json()['skipped']
        assert p.tool('off', 'curl').returncode == 1
    os.chmod(p.state, 0o700)
    assert p.json()['services']
    link = os.path.join(p.path, 'link')
    os.symlink(p.state, link)
    done = p.tool('status', '--json', env=p.env(AGENTSHIM_DIR=link))
    assert json.loads(done.stdout)['services'] == []


def a_users_directory():
    """A user that nobody is, and the directory that is theirs: no other run gets this one."""
    for uid in range(3_000_000_000, 3_000_001_000):
        try:
            os.mkdir(f'/dev/shm/agentshim-{uid}', 0o700)
        except FileExistsError:
            continue
        return uid, f'/dev/shm/agentshim-{uid}'
    raise AssertionError('/dev/shm is full of directories of test runs')


def root_sees_all_users_and_believes_only_owners(p):
    if not ROOT:
        raise Skip('capability missing: not root, one user sees only its own')
    uid, shm = a_users_directory()
    name = f'theirs-{uid}'  # another run's may be there, too
    env = p.env()
    del env['AGENTSHIM_DIR']
    p.lay(breaker('a:1', 'f'), name=name.encode())
    try:
        shutil.copytree(p.state, shm, dirs_exist_ok=True)
        for path in [shm] + [os.path.join(shm, f) for f in os.listdir(shm)]:
            os.chown(path, uid, uid)
        os.chmod(shm, 0o700)

        def seen():
            out = json.loads(p.tool('status', '--json', env=env).stdout)
            return [s for s in out['services'] if s['user'] == str(uid)]

        assert [s['service'] for s in seen()] == [name]
        done = p.tool('off', name, env=env)
        assert done.returncode == 0 and seen()[0]['control'] == 'off', done
        # Somebody else's directory under that user's name:
        os.chown(shm, uid + 1, uid + 1)
        assert seen() == []
    finally:
        shutil.rmtree(shm, ignore_errors=True)


def only_the_services_asked_for_are_shown(p):
    p.lay(breaker('a:1', 's'))
    p.lay(breaker('b:1', 's'), stem='nginx-000000000001', name=b'nginx')
    p.lay(breaker('c:1', 's'), stem='nginx-000000000002', name=b'nginx')
    assert [s['service'] for s in p.json()['services']] == ['curl', 'nginx', 'nginx']
    assert [s['service'] for s in p.json('nginx')['services']] == ['nginx', 'nginx']
    assert len(p.json('nginx-000000000002', 'curl')['services']) == 2
    assert len(p.json('--', 'curl')['services']) == 1
    done = p.tool('status', 'curl', 'nope')
    assert done.returncode == 1 and b'no service is called nope' in done.stderr
    assert b'a:1' in done.stdout


def events_overwritten_are_counted(p):
    p.lay(*[event('call_rejected', f'p{i}:1', i) for i in range(138)])
    service, = p.json()['services']
    assert len(service['events']) == 128 and service['events_lost'] == 10
    assert [e['id'] for e in service['events']] == list(range(10, 138))


def another_boot_gives_no_times(p):
    path = p.lay(breaker('a:1', 'fffff'), opened('a:1', 60))
    patch(path, 24, b'\x11' * 16)
    service, = p.json()['services']
    assert 'retry_in_ms' not in service['breakers'][0]
    assert 'earlier boot' in service['problems'][0]


# ---- stacks ----

def symbol_of(path, name):
    nm = shutil.which('nm')
    if nm is None:
        raise Skip('nm is not installed')
    for line in subprocess.run([nm, path], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        if line.endswith(f' T {name}') or line.endswith(f' t {name}'):
            return int(line.split()[0], 16)
    raise Skip(f'{path} has no symbols')


def stacks_are_joined_and_named(p):
    text = f'0=/no/such/lib.so;1={LAY}|1+{symbol_of(LAY, "main") + 4:x},0+1f,?+7f00'
    half = len(text) // 2
    p.lay(breaker('a:1', 'fffff'), opened('a:1', 60),
          event('stack', text[half:], number=77, part=1, parts=2),
          event('stack', text[:half], number=77, part=0, parts=2))
    stack, = p.json('--stacks')['services'][0]['stacks']
    assert stack['whole'] and stack['breaker'] == 'a:1' and stack['event'] == 'state_change'
    assert stack['frames'] == [
        {'module': LAY, 'offset': hex(symbol_of(LAY, 'main') + 4), 'symbol': 'main', 'delta': 4},
        {'module': '/no/such/lib.so', 'offset': '0x1f'}, {'module': '?', 'offset': '0x7f00'}]
    out = p.ok('status', '--stacks').stdout
    lines_fit(out)
    assert b'main+0x4 (lay-files)' in out and b'0x1f (lib.so)' in out
    assert all(e['event'] != 'stack' for e in p.json()['services'][0]['events'])


def a_stack_that_lost_a_part_says_so(p):
    p.lay(event('stack', '0=/bin/x|0+1f,0+', number=5, part=0, parts=2))
    stack, = p.json('--stacks')['services'][0]['stacks']
    assert not stack['whole'] and [f['offset'] for f in stack['frames']] == ['0x1f']
    assert b'overwritten' in p.ok('status', '--stacks').stdout


def hostile_modules_and_stacks_are_harmless(p):
    fifo = os.path.join(p.path, 'fifo')
    os.mkfifo(fifo)
    rand = random.Random(1)
    with open(LAY, 'rb') as f:
        whole = f.read()
    texts = [f'0={fifo}|0+1', '0=/dev/zero|0+1', '0=/|0+1', '0=relative|0+1', '0=|0+1', '|', '0=',
             '|0+', '0=%|0+1', '0=%ZZ%1|0+1', '99999999999999999999=/x|9+1',
             '0=/x|0+ffffffffffffffffffffff', '0=' + 'y' * 149]
    where = symbol_of(LAY, 'main')
    for seed in range(24):
        data = bytearray(whole[:rand.choice([64, 5000, len(whole), len(whole)])])
        for _ in range(rand.choice([20, 500])):
            data[rand.randrange(min(len(data), 4096))] = rand.randrange(256)
        tail = max(0, len(data) - 4096)  # section headers lie at the end
        for _ in range(300):
            data[rand.randrange(tail, len(data))] = rand.randrange(256)
        data[:20] = whole[:20]
        texts.append(f'0={p.write(f"m{seed}", bytes(data))}|0+{where:x}')
    p.lay(*[event('stack', t, number=i + 1, parts=1) for i, t in enumerate(texts)])
    assert len(p.json('--stacks')['services'][0]['stacks']) == len(texts)


# ---- watch ----

def read_until(fd, what, seconds=PATIENT_S):
    got = b''
    until = time.monotonic() + seconds
    while what not in got:
        left = until - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], got
        more = os.read(fd, 65536)
        assert more, got
        got += more
    return got


def watch_prints_once_per_change_into_a_pipe(p):
    p.lay(breaker('a:1', 's'))
    with subprocess.Popen([TOOL, 'status', '--watch', '--json'], env=p.env(),
                          stdout=subprocess.PIPE) as watching:
        first = json.loads(read_until(watching.stdout.fileno(), b'\n'))
        assert first['services'][0]['breakers'][0]['totals']['successes'] == 1
        p.lay(breaker('a:1', 's'))
        second = json.loads(read_until(watching.stdout.fileno(), b'\n'))
        assert second['services'][0]['breakers'][0]['totals']['successes'] == 2
        watching.stdout.close()  # whoever read is gone: it ends by itself
        assert watching.wait(PATIENT_S) in (0, -signal.SIGPIPE)


def watch_fits_the_terminal(p):
    p.lay(*[breaker(f'peer{i}:1', 'fffff') for i in range(40)])
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    with subprocess.Popen([TOOL, 'status', '--watch'], env=p.env(TERM='xterm'), stdin=slave,
                          stdout=slave, stderr=slave) as watching:
        os.close(slave)
        frame = read_until(master, b'\x1b[J').replace(b'\r', b'')
        assert b'\x1b[31mopen' in frame
        lines_fit(frame)
        assert frame.count(b'\n') <= 24, frame
        assert b'more lines' in frame
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENT_S) == -signal.SIGINT
    os.close(master)


def no_colour_unless_it_can_be_seen(p):
    p.lay(breaker('a:1', 'fffff'))
    assert b'\x1b' not in p.ok('status', env=p.env(TERM='xterm')).stdout
    for env, colour in ((p.env(TERM='xterm'), True), (p.env(TERM='dumb'), False),
                        (p.env(TERM='xterm', NO_COLOR='1'), False)):
        master, slave = pty.openpty()
        with subprocess.Popen([TOOL, 'status'], env=env, stdout=slave) as done:
            os.close(slave)
            out = read_until(master, b'consecutive_failures')
            assert done.wait(PATIENT_S) == 0
        os.close(master)
        assert (b'\x1b[31m' in out) == colour, env


# ---- off, on, observe ----

def control_of(path):
    with open(path, 'rb') as f:
        f.seek(CONTROL_AT)
        return struct.unpack('I', f.read(4))[0]


def an_order_is_stored_recorded_and_taken_back(p):
    path = p.lay(breaker('a:1', 's'))
    before = os.stat(path)
    for verb, control, text in (('off', 3, b'curl is off'), ('observe', 2, b'curl is observing'),
                                ('on', 0, b'curl is on')):
        assert text in p.ok(verb, 'curl').stdout
        assert control_of(path) == control
        assert b'was already' in p.ok(verb, 'curl').stdout
    events = p.json()['services'][0]['events']
    assert [(e['event'], e['control']) for e in events] == [
        ('mode_changed', 'off'), ('mode_changed', 'observe'), ('mode_changed', None)]
    assert sorted(e['id'] for e in events) == [1, 2, 3]
    after = os.stat(path)
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def unknown_and_ambiguous_services_are_listed(p):
    done = p.tool('off', 'curl')
    assert done.returncode == 1 and b'there is none in ' in done.stderr
    first = p.lay()
    second = p.lay(stem='curl-00000000000f')
    done = p.tool('off', 'curl')
    assert done.returncode == 1 and b'2 services are called curl' in done.stderr
    assert b'curl-0123456789ab' in done.stderr and b'curl-00000000000f' in done.stderr
    done = p.tool('off', 'cur')
    assert done.returncode == 1 and b'there are:' in done.stderr
    assert control_of(first) == control_of(second) == 0
    p.ok('off', 'curl-00000000000f')
    p.ok('observe', first)
    assert (control_of(first), control_of(second)) == (2, 3)
    p.ok('on', '--dir', p.state, first, env=p.env(AGENTSHIM_DIR='/nonexistent'))
    p.ok('on', second, '--dir=' + p.state, env=p.env(AGENTSHIM_DIR='/nonexistent'))
    assert (control_of(first), control_of(second)) == (0, 0)


def an_order_survives_the_loss_of_the_ring(p):
    path = p.lay()
    os.unlink(path[:-5] + 'ring')
    p.ok('off', 'curl')
    assert control_of(path) == 3


# ---- tail ----

class Tail:
    """`agentshim tail` at work; says on standard error that it waits before there is a service."""

    def __init__(self, place, *args, **more_env):
        self.run = subprocess.Popen([TOOL, 'tail', *args], env=place.env(**more_env),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.rest = b''

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.run.poll() is None:
            self.run.kill()
        self.run.wait()
        self.run.stdout.close()
        self.run.stderr.close()

    def waits(self):
        read_until(self.run.stderr.fileno(), b'waiting\n')
        return self

    def line(self):
        if b'\n' not in self.rest:
            self.rest += read_until(self.run.stdout.fileno(), b'\n')
        line, self.rest = self.rest.split(b'\n', 1)
        return line.decode()

    def ends(self):
        """Its status, and what it still printed."""
        out = self.rest + self.run.stdout.read()
        return self.run.wait(PATIENT_S), out.decode()


def tail_shows_what_appears_in_order(p):
    with Tail(p, '--count', '4') as tail:
        tail.waits()
        p.lay(span(SERVER, 1, took=45 * MS, path='/users', status=503),
              event('call_rejected', 'db:5432'), change('db:5432', 2, 1))
        out = [tail.line() for _ in range(3)]
        words = [line.split(' ', 2) for line in out]
        assert all(re.fullmatch(r'\d\d:\d\d:\d\d\.\d\d\d', w[0]) for w in words), out
        texts = [w[2].strip() for w in words]
        assert f'server GET /users 503 45ms trace {TRACE}' in texts, out
        assert texts.index('db:5432 refused 0') < texts.index('db:5432 open > half-open, '
                                                              'timeout_elapsed')
        p.lay(span(CLIENT, 2, 1), stem='nginx-000000000001', name=b'nginx')
        line = tail.line()
        assert ' nginx  client GET / 200 1ms' in line, line
        assert tail.ends() == (0, '')


def tail_leaves_out_what_was_there(p):
    p.lay(event('call_rejected', 'old:1'), span(SERVER, 1, path='/old'))
    with Tail(p, '--json', 'curl') as tail:
        number = 0
        while not select.select([tail.run.stdout], [], [], 0.2)[0]:
            p.lay(event('call_rejected', f'new{number}:1'))
            number += 1
            assert number < 5 * PATIENT_S
        assert json.loads(tail.line())['breaker'].startswith('new')
        tail.run.send_signal(signal.SIGTERM)
        assert tail.ends()[0] == 0


def tail_in_json_is_the_log(p):
    with Tail(p, '--json', '--count', '3') as tail:
        tail.waits()
        p.lay(span(SERVER, 1, path='/a"', bits=MORE_FOLLOWS), more('user.id', '42'),
              more('trace_id', 'forged'), event('stack', '0=/x|0+1'), change('db:5432', 0, 2),
              span(SERVER, 2, error=TIMEOUT, status=0))
        lines = [json.loads(tail.line()) for _ in range(3)]
        assert tail.ends() == (0, '')
    first, second = [e for e in lines if e['event'] == 'span_completed']
    assert first['user.id'] == '42' and first['trace_id'] == TRACE
    assert first['operation'] == 'GET /a"' and first['level'] == 'info'
    assert second['error.type'] == 'timeout' and 'user.id' not in second
    assert [e['to'] for e in lines if e['event'] == 'state_change'] == ['open']


def tail_follows_one_service_and_its_new_files(p):
    with Tail(p, 'curl') as tail:
        tail.waits()
        p.lay(event('call_rejected', 'other:1'), stem='nginx-000000000001', name=b'nginx')
        path = p.lay(event('call_rejected', 'first:1'))
        assert 'first:1' in tail.line()
        for kind in 'state', 'ring', 'spans':
            os.unlink(path[:-5] + kind)
        p.lay(event('call_rejected', 'second:1'))
        assert 'second:1' in tail.line()
        tail.run.send_signal(signal.SIGINT)
        assert tail.ends() == (0, '')


def tail_ends_by_the_clock_and_without_a_reader(p):
    began = time.monotonic()
    done = p.ok('tail', '--for', '300ms')
    assert time.monotonic() - began >= 0.3 and done.stdout == b''
    with Tail(p) as tail:
        tail.waits()
        tail.run.stdout.close()
        assert tail.run.wait(PATIENT_S) == 0
    with Tail(p) as tail:
        tail.waits()
        p.lay(*[event('call_rejected', f'p{i}:1') for i in range(10)])
        tail.line()
        p.lay(*[event('call_rejected', f'q{i}:1') for i in range(100)])
        tail.run.stdout.close()
        assert tail.run.wait(PATIENT_S) == 0
    with open('/dev/full', 'wb') as full:
        with subprocess.Popen([TOOL, 'tail'], env=p.env(), stdout=full,
                              stderr=subprocess.PIPE) as tail:
            while tail.poll() is None:
                p.lay(event('call_rejected', 'r:1'))
            assert tail.returncode == 1 and b'cannot write' in tail.stderr.read()


def tail_runs_a_command_per_change(p):
    out = os.path.join(p.path, 'out')
    with Tail(p, '--count', '4', '--on-change', f'cat >> {out}; echo >&2 seen') as tail:
        tail.waits()
        p.lay(change('a:1', 0, 2), change('b:1', 0, 2), change('a:1', 2, 1), change('a:1', 1, 0))
        assert tail.ends()[0] == 0
    with open(out, encoding='utf-8') as f:
        runs = [json.loads(line) for line in f]
    assert sum(r['summed'] for r in runs if r['breaker'] == 'a:1') == 3, runs
    assert sum(r['summed'] for r in runs if r['breaker'] == 'b:1') == 1, runs
    assert [r['to'] for r in runs if r['breaker'] == 'a:1'][-1] == 'closed'
    assert all(r['event'] == 'state_change' and r['service'] == 'curl' for r in runs)


def tail_runs_one_command_at_a_time(p):
    out, fifo = os.path.join(p.path, 'out'), os.path.join(p.path, 'fifo')
    for run in range(1, 4):  # one each: a reader of the last is no reader of the next
        os.mkfifo(f'{fifo}{run}')
    with Tail(p, '--on-change',
              f'cat >> {out}; read line < {fifo}$(($(wc -l < {out})))') as tail:
        tail.waits()
        p.lay(change('a:1', 0, 2))
        with open(f'{fifo}1', 'w', encoding='utf-8') as gate:  # opens when the command reads
            for peer in 'b:1', 'c:1':
                p.lay(change(peer, 0, 2))
            while 'c:1' not in tail.line():
                pass
            with open(out, encoding='utf-8') as f:
                assert len(f.readlines()) == 1
            gate.write('go\n')
        with open(f'{fifo}2', 'w', encoding='utf-8') as gate:
            gate.write('go\n')
        tail.run.send_signal(signal.SIGTERM)  # not waiting for the third
        assert tail.ends()[0] == 0


# ---- trace ----

def lay_a_trace(p):
    p.lay(span(SERVER, 1, took=45 * MS, path='/users'),
          span(CLIENT, 2, 1, at=MS, took=40 * MS, path='/v1/users', status=503,
               bits=MORE_FOLLOWS), more('user.id', '42'),
          span(SERVER, 77, took=MS, trace='11' * 16), name=b'front')
    p.lay(span(SERVER, 3, 2, at=2 * MS, took=38 * MS, path='/v1/users', status=503, bits=REMOTE),
          span(CLIENT, 4, 3, at=3 * MS, took=30 * MS, path='/q', status=0, error=TIMEOUT),
          span(INTERNAL, 5, 3, at=34 * MS, took=MS // 10, method='CreateProcess', path='',
               status=0),
          stem='back-000000000001', name=b'back')


def trace_is_a_tree_over_time(p):
    lay_a_trace(p)
    out = p.ok('trace', TRACE, env=p.env(COLUMNS='80')).stdout.decode()
    lines_fit(out.encode())
    head, when, columns, *rows = out.splitlines()
    assert head == f'trace {TRACE}' and when.endswith('5 spans, 45ms'), out
    assert columns.split() == ['SPAN', 'AT', 'TIME']
    shown = [re.sub(r' +\|.*', '', row) for row in rows]
    assert [re.sub('  +', '  ', row.lstrip()) for row in shown] == [
        'front server GET /users 200  0ms  45ms', 'front client GET /v1/users !503  1ms  40ms',
        'back server GET /v1/users !503  2ms  38ms', 'back client GET /q !timeout  3ms  30ms',
        'back internal CreateProcess  34ms  0.1ms'], shown
    assert [len(row) - len(row.lstrip()) for row in rows] == [0, 2, 4, 6, 6]
    bars = [re.search(r'\|(.*)\|$', row)[1] for row in rows]
    assert {len(bar) for bar in bars} == {16} and bars[0] == 16 * '='
    assert bars[4].strip() == '=' and bars[4].index('=') == 12
    for width in 60, 120, 300:
        lines_fit(p.ok('trace', '--last', env=p.env(COLUMNS=str(width))).stdout, width)


def trace_is_found_by_any_form_of_its_id(p):
    lay_a_trace(p)
    uuid = '550e8400-e29b-41d4-a716-446655440000'
    plain = p.ok('trace', TRACE).stdout
    for form in uuid, uuid.upper(), TRACE.upper():
        assert p.ok('trace', form).stdout == plain
    assert p.ok('trace', '--last').stdout == plain  # it ended last
    p.lay(span(SERVER, 9, trace=16 * '0' + '00c0ffee00c0ffee'))
    assert b'1 span,' in p.ok('trace', '00C0FFEE00C0FFEE').stdout
    done = p.tool('trace', '22' * 16)
    assert done.returncode == 1 and b'no span of trace 2222' in done.stderr
    for bad in TRACE[:-1], TRACE + '0', uuid.replace('-', '+'), 'g' * 32, uuid[:-1] + '-':
        assert p.tool('trace', bad).returncode == 2, bad


def trace_without_spans_says_so(p):
    done = p.tool('trace', '--last')
    assert done.returncode == 1 and b'no span in ' + p.state.encode() in done.stderr
    p.lay()
    assert b'no span in ' in p.tool('trace', '--last').stderr


def trace_shows_orphans_and_survives_circles(p):
    p.lay(span(SERVER, 1, 0xdead, took=9 * MS, bits=REMOTE), span(CLIENT, 2, 1, at=MS),
          span(CLIENT, 3, 0xbeef, at=2 * MS), span(CLIENT, 4, 5), span(CLIENT, 5, 6),
          span(CLIENT, 6, 4), span(CLIENT, 7, 7), span(CLIENT, 2, 1, at=3 * MS),
          *[span(CLIENT, i, i - 1, at=4 * MS) for i in range(100, 400)])
    out = p.ok('trace', '--last').stdout
    lines_fit(out)
    assert b'below 000000000000dead, which is not on this host, or is gone:' in out
    assert b'below 000000000000beef, which is gone, or has not ended yet:' in out
    assert len(re.findall(rb'curl (?:server|client)', out)) == 308, out


def trace_in_json_is_whole(p):
    lay_a_trace(p)
    out = json.loads(p.ok('trace', '--json', '--last').stdout)
    assert out['trace_id'] == TRACE and out['whole'] is True
    assert [s['span_id'] for s in out['spans']] == [f'{i:016x}' for i in range(1, 6)]
    assert [s['service'] for s in out['spans']] == ['front', 'front', 'back', 'back', 'back']
    assert out['spans'][1]['user.id'] == '42'
    assert out['spans'][2]['parent_span_id'] == f'{2:016x}'


def a_service_without_spans_hides_no_other(p):
    lay_a_trace(p)
    spans = os.path.join(p.state, 'back-000000000001.v2.spans')
    os.truncate(spans, os.path.getsize(spans) - 256)
    done = p.ok('trace', TRACE)
    assert b'2 spans' in done.stdout and b'another size' in done.stderr or \
        b'not a file of this version' in done.stderr, done
    os.unlink(spans)
    assert b'2 spans' in p.ok('trace', TRACE).stdout


def hostile_spans_are_harmless(p):
    evil = '\x1b[2J\x07\r\n\x7f\x9b2J\xc2\x9b\xff'
    orders = (span(SERVER, 1, path='/' + evil, method='G' + evil, host=evil, took=5 * MS,
                   bits=MORE_FOLLOWS), more(evil, evil), change(evil, 0, 2))
    name = b'b' + evil.encode('latin-1')
    for args in ['--count', '2'], ['--count', '2', '--json', '--on-change', 'cat >&2']:
        with Tail(p, *args) as tail:
            tail.waits()
            p.lay(*orders, name=name)
            status, out = tail.ends()
            assert status == 0 and out.count('\n') == 2, out
            assert not CONTROLS.search(out.encode() + tail.run.stderr.read()), out
        shutil.rmtree(p.state)
    path = p.lay(*orders, name=name)
    spans = path[:-5] + 'spans'
    with open(spans, 'rb') as f:
        good = f.read()
    for seed in range(20):
        rand = random.Random(seed)
        if seed > 0:
            body = bytearray(good)
            for _ in range(1 << rand.randrange(16)):
                body[rand.randrange(HEADER + (64 if seed % 2 else 0), len(body))] = \
                    rand.randrange(256)
            patch(spans, 0, body)
        for args in (['trace', '--last'], ['trace', '--last', '--json']):
            done = p.tool(*args)
            assert done.returncode in (0, 1), (seed, done)
            assert not CONTROLS.search(done.stdout + done.stderr), (seed, done)
            if done.stdout and '--json' in args:
                json.loads(done.stdout)
            else:
                lines_fit(done.stdout)


# ---- metrics ----

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} ([0-9.]+)')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


def page_of(p, *args):
    """The samples of a page, each family's together; strict about the text format."""
    out = p.ok('metrics', *args).stdout.decode()
    families, seen, samples, family = [], set(), {}, None
    assert out == '' or out.endswith('\n')
    for line in out.splitlines():
        if line.startswith('# HELP '):
            family = re.fullmatch(r'# HELP ([a-z_]+) [A-Z1].*\.', line)[1]
            assert family not in families, line
            families.append(family)
            kind = None
            continue
        if line.startswith('# TYPE '):
            assert kind is None, line
            kind = re.fullmatch(f'# TYPE {family} (counter|gauge|histogram)', line)[1]
            assert (kind == 'counter') == family.endswith('_total'), line
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name, labels, value = sample.groups()
        ends = ('_bucket', '_sum', '_count') if kind == 'histogram' else ('',)
        assert name in [family + end for end in ends], line
        assert ''.join(m[0] for m in LABEL.finditer(labels)) == labels, line
        assert (name, labels) not in seen, line
        seen.add((name, labels))
        key = dict(m.groups() for m in LABEL.finditer(labels))
        samples.setdefault(name, []).append((key, float(value)))
    return samples


def value_of(samples, name, **labels):
    found = [value for key, value in samples['agentshim_' + name] if key == labels]
    assert len(found) == 1, (name, labels, samples['agentshim_' + name])
    return found[0]


def metrics_count_what_happened(p):
    p.lay(breaker('db:5432', 'ssxfffff'), breaker('db:5432', 'rr'), breaker('ok:1', 's'),
          'count 0 5', 'count 1 3', 'count 2 7', 'count 4 2', 'count 5 1', 'count 6 4',
          'count 7 1', 'count 8 9', 'count 24 6', 'observe 0 5000000', 'observe 0 5000001',
          'observe 0 60000000000')
    page = page_of(p)
    db = {'service': 'curl', 'peer': 'db:5432'}
    for state, value in (('closed', 0), ('half_open', 0), ('open', 1)):
        assert value_of(page, 'breaker_state', state=state, **db) == value
    for before, after, value in (('closed', 'open', 1), ('open', 'half_open', 0),
                                 ('half_open', 'closed', 0), ('half_open', 'open', 0)):
        got = value_of(page, 'breaker_transitions_total', **{'from': before, 'to': after}, **db)
        assert got == value
    for outcome, value in (('success', 2), ('failure', 5), ('excluded', 1)):
        assert value_of(page, 'breaker_calls_total', outcome=outcome, **db) == value
    for state, value in (('closed', 8), ('half_open', 0), ('refused', 2)):
        assert value_of(page, 'breaker_requests_total', state=state, **db) == value
    assert value_of(page, 'breaker_calls_total', service='curl', peer='ok:1',
                    outcome='success') == 1
    for name, value in (('traces_started_total', 5), ('traces_completed_total', 4),
                        ('traces_errors_total', 1), ('spans_errors_total', 2),
                        ('spans_dropped_total', 1)):
        assert value_of(page, name, service='curl') == value, name
    for kind, value in (('server', 3), ('client', 7), ('internal', 0)):
        assert value_of(page, 'spans_total', service='curl', kind=kind) == value
    assert value_of(page, 'coverage_total', service='curl', what='injected') == 9
    assert value_of(page, 'coverage_total', service='curl', what='opaque_memory') == 6
    served = {'service': 'curl', 'kind': 'server'}
    assert value_of(page, 'span_duration_seconds_count', **served) == 3
    assert value_of(page, 'span_duration_seconds_sum', **served) == 60.010000001
    buckets = [(key['le'], value) for key, value in page['agentshim_span_duration_seconds_bucket']
               if key['kind'] == 'server']
    assert [le for le, _ in buckets] == ['0.005', '0.01', '0.025', '0.05', '0.075', '0.1', '0.25',
                                         '0.5', '0.75', '1', '2.5', '5', '7.5', '10', '+Inf']
    assert [value for _, value in buckets] == [1] + 13 * [2] + [3]


def metrics_tell_all_series_apart(p):
    assert page_of(p) == {}
    p.lay(breaker('a:1', 's'), name=b'q"u\\o\nt')
    p.lay(breaker('a:1', 's'), breaker('a\x01:1', 's'), breaker('a\x02:1', 's'),
          stem='nginx-000000000001', name=b'nginx')
    p.lay(breaker('a:1', 's'), stem='nginx-000000000002', name=b'nginx')
    names = {key['service'] for key, _ in page_of(p)['agentshim_spans_dropped_total']}
    assert names == {'q\\"u\\\\o?t', 'nginx-000000000001', 'nginx-000000000002'}, names
    names = {key['service'] for key, _ in page_of(p, 'nginx-000000000002')[
        'agentshim_spans_dropped_total']}
    assert names == {'nginx'}
    done = p.tool('metrics', 'nginx', 'nope')
    assert done.returncode == 1 and b'no service is called nope' in done.stderr
    assert b'nginx-000000000001' in done.stdout


def metrics_of_noise_are_well_formed(p):
    path = p.lay(*[breaker(f'peer{i}:1', 'sf') for i in range(20)])
    size = os.path.getsize(path)
    for seed in range(10):
        rand = random.Random(seed)
        patch(path, HEADER, rand.randbytes(size - HEADER) if seed == 0 else
              rand.randbytes(1 << (2 * seed)))
        page_of(p)


# ---- command line ----

def usage_errors_are_one_line_with_a_hint(p):
    for args in ([], ['bogus'], ['--bogus'], ['status', '--bogus'], ['off'], ['off', 'a', 'b'],
                 ['off', '--dir'], ['on', '-x', 'a'], ['run'], ['run', '--'], ['run', '-x', 'true'],
                 ['tail', '-x'], ['tail', '--for'], ['tail', '--for', '10'], ['tail', '--count'],
                 ['tail', '--count', '0'], ['tail', '--count', '-1'], ['tail', '--on-change'],
                 ['trace'], ['trace', '-x'], ['trace', TRACE, '--last'], ['trace', 'a', 'b'],
                 ['trace', 'xyz'], ['metrics', '-x']):
        done = p.tool(*args)
        assert done.returncode == 2, (args, done)
        assert done.stdout == b'' and done.stderr.count(b'\n') == 1, (args, done)
        assert b'--help)' in done.stderr


def help_and_version_are_answers(p):
    assert re.fullmatch(rb'agentshim \d+\.\d+\.\d+\n', p.ok('--version').stdout)
    general = p.ok('--help').stdout
    lines_fit(general)
    for verb in ('status', 'tail', 'trace', 'metrics', 'run', 'off', 'on', 'observe'):
        assert verb.encode() in general
        out = p.ok(verb, '--help').stdout
        lines_fit(out, 90)
        assert out.startswith(b'usage: agentshim ') and b'Exit status' in out


def a_full_disk_is_no_success(p):
    p.lay(breaker('a:1', 's'))
    with open('/dev/full', 'wb') as full:
        done = subprocess.run([TOOL, 'status'], env=p.env(), stdout=full,
                              stderr=subprocess.PIPE, check=False, timeout=PATIENT_S)
    assert done.returncode == 1 and b'cannot write' in done.stderr


# ---- run ----

def run_sets_the_preload_and_becomes_the_command(p):
    needs_a_plain_shim(SHIM)
    def preloaded(**more):
        done = p.tool('run', '--', 'sh', '-c', 'echo "$LD_PRELOAD $$"; exit 7', env=p.env(**more))
        assert done.returncode == 7 and done.stderr == b'', done
        return done.stdout.decode().split(' ')[0]

    assert preloaded() == SHIM
    other = subprocess.run(['sh', '-c', 'ldd /bin/sh | sed -n "s/.*=> \\(\\/[^ ]*\\).*/\\1/p"'],
                           capture_output=True, text=True, check=True).stdout.split()[0]
    assert preloaded(LD_PRELOAD=other) == f'{other}:{SHIM}'
    assert preloaded(LD_PRELOAD=SHIM) == SHIM
    assert preloaded(LD_PRELOAD=f'{SHIM}:{other}') == f'{SHIM}:{other}'
    assert p.tool('run', 'sh', '-c', 'exit 3').returncode == 3
    assert p.tool('run', 'sh', '-c', 'kill -9 $$').returncode == -9


def run_says_what_settings_are_not_understood(p):
    needs_a_plain_shim(SHIM)
    done = p.tool('run', 'true', env=p.env(AGENTSHIM_TIMEOUT='30 parsecs', AGENTSHIM_MODE='\x1b'))
    assert done.returncode == 0
    assert b'agentshim: AGENTSHIM_TIMEOUT: found "30 parsecs"' in done.stderr
    assert not CONTROLS.search(done.stderr) and done.stderr.count(b'\n') == 2
    assert b'do nothing' in p.tool('run', 'true', env=p.env(AGENTSHIM_DISABLE='1')).stderr


def the_mode_of_a_running_service_is_shown(p):
    needs_a_plain_shim(SHIM)
    with socket.create_server(('127.0.0.1', 0)) as server:
        code = f'import socket; socket.create_connection(("127.0.0.1", {server.getsockname()[1]}))'
        p.ok('run', sys.executable, '-c', code, env=p.env(AGENTSHIM_MODE='observe'))
    service, = p.json()['services']
    assert [e['event'] for e in service['events']] == ['breaker_created']
    assert service['mode'] == 'observe', service


def run_ends_as_env_does_without_a_command(p):
    needs_a_plain_shim(SHIM)
    plain = p.write('plain', b'text', 0o644)
    for command, status in (('/no/such', 127), ('no-such-command', 127), ('', 127), (plain, 126),
                            (p.path, 126)):
        done = p.tool('run', command)
        assert done.returncode == status and done.stderr.count(b'\n') == 1, (command, done)
    # The rest of PATH is looked at when the first of the name is not executable.
    script = p.write('here', b'#!/bin/sh\nexit 5\n')
    os.mkdir(os.path.join(p.path, 'first'))
    with open(os.path.join(p.path, 'first', 'here'), 'wb') as f:
        f.write(b'')
    env = p.env(PATH=f'{p.path}/first:{p.path}:/usr/bin:/bin')
    assert p.tool('run', 'here', env=env).returncode == 5
    os.chmod(script, 0o644)
    assert p.tool('run', 'here', env=env).returncode == 126
    p.write('bare', b'exit 6\n')  # no `#!`: /bin/sh, as execvp(3) does
    assert p.tool('run', os.path.join(p.path, 'bare')).returncode == 6


def elf(machine=None, interpreter=b'/lib64/ld-linux-x86-64.so.2\0', bits=2, data=1):
    """As much of an ELF file as tells what loads it."""
    if machine is None:
        with open(SHIM, 'rb') as f:
            machine = struct.unpack('<H', f.read(20)[18:])[0]
    head = b'\x7fELF' + bytes([bits, data, 1]) + bytes(9)
    order = '<' if data == 1 else '>'
    head += struct.pack(order + 'HHIQQQIHHHHHH', 3, machine, 1, 0, 64, 0, 0, 64, 56,
                        1 if interpreter else 0, 64, 0, 0)
    program = struct.pack(order + 'IIQQQQQQ', 3, 4, 120, 120, 120, len(interpreter),
                          len(interpreter), 1)
    return head + program + interpreter


def run_refuses_what_the_loader_would_leave_out(p):
    files = {
        'static': (elf(interpreter=b''), b'linked statically'),
        'foreign': (elf(machine=243), b'another machine (riscv)'),
        'bits32': (elf(machine=3, bits=1), b'another machine (i386)'),
        'big-endian': (elf(machine=22, data=2), b'another machine (s390)'),
        'musl': (elf(interpreter=b'/lib/ld-musl-x86_64.so.1\0'), b'built for musl'),
        'android': (elf(interpreter=b'/system/bin/linker64\0'), b'Android'),
        'evil': (elf(interpreter=b'/ld-musl\x1b[2J\0'), b'built for musl'),
    }
    for name, (data, reason) in files.items():
        path = p.write(name, data)
        script = p.write(name + '.sh', b'#! ' + path.encode() + b' -x\n')
        env = p.write(name + '.env', b'#!/usr/bin/env -S A=b ' + name.encode() + b'\n')
        inner = p.write(name + '.2', b'#!' + script.encode() + b'\n')
        for command in (path, script, env, inner):
            done = p.tool('run', '--', command, env=p.env(PATH=p.path + ':/usr/bin:/bin'))
            assert done.returncode == 2 and reason in done.stderr, (name, command, done)
            assert done.stderr.count(b'\n') == 1 and not CONTROLS.search(done.stderr)
    loop = p.write('loop', b'#!' + os.path.join(p.path, 'loop').encode() + b'\n')
    assert b'scripts within scripts' in p.tool('run', loop).stderr
    fits = p.tool('run', p.write('fits', elf()))
    assert b'linked' not in fits.stderr and b'built' not in fits.stderr


def run_refuses_privileged_programs(p):
    if not ROOT:
        raise Skip('capability missing: not root, cannot make setuid files of others')
    os.chmod(p.path, 0o755)
    for name, mode, ids, reason in (('uid', 0o4755, (65534, 0), b'is setuid'),
                                    ('gid', 0o2755, (0, 65534), b'is setgid'),
                                    ('own', 0o6755, (0, 0), None),
                                    ('lock', 0o2745, (0, 65534), None)):
        path = p.write(name, elf())
        os.chown(path, *ids)
        os.chmod(path, mode)
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            raise Skip('capability missing: the file system ignores setuid bits')
        done = p.tool('run', path)
        if reason:
            assert done.returncode == 2 and reason in done.stderr, (name, done)
        else:
            assert b'preloads' not in done.stderr, (name, done)
    caps = p.write('caps', elf())
    os.setxattr(caps, 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
    assert b'capabilities' not in p.tool('run', caps).stderr  # root gains nothing by them
    # Where others may run it, wherever the build is.
    for made, folder in ((TOOL, 'tools'), (SHIM, 'shim')):
        os.mkdir(os.path.join(p.path, folder), 0o755)
        shutil.copy(made, os.path.join(p.path, folder))
        os.chmod(os.path.join(p.path, folder, os.path.basename(made)), 0o755)
    done = subprocess.run([os.path.join(p.path, 'tools', os.path.basename(TOOL)), 'run', caps],
                          env=p.env(), user=65534, group=65534, extra_groups=[],
                          capture_output=True, timeout=PATIENT_S, check=False)
    assert done.returncode == 2 and b'has file capabilities' in done.stderr, done


def run_refuses_a_shim_that_cannot_be_named(p):
    for name in ('with blank', 'with:colon'):
        tools, shim = (os.path.join(p.path, name, d) for d in ('tools', 'shim'))
        os.makedirs(tools)
        os.makedirs(shim)
        tool = shutil.copy(TOOL, tools)
        shutil.copy(SHIM, shim)
        done = subprocess.run([tool, 'run', 'true'], env=p.env(), capture_output=True,
                              timeout=PATIENT_S, check=False)
        assert done.returncode == 2 and b'colon or a blank' in done.stderr, done
        os.unlink(os.path.join(shim, os.path.basename(SHIM)))
        done = subprocess.run([tool, 'run', 'true'], env=p.env(), capture_output=True,
                              timeout=PATIENT_S, check=False)
        assert done.returncode == 2 and b'libagentshim.so is neither' in done.stderr, done


# ---- span ----

CALLER = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
SHOW = 'echo "$TRACEPARENT" "${TRACESTATE-unset}"'


def spans(p):
    return json.loads(p.ok('trace', '--last', '--json').stdout)['spans']


def span_is_its_commands_parent(p):
    done = p.ok('span', 'nightly', '--', 'sh', '-c', SHOW, env=p.env(TRACESTATE='a=1'))
    parent, state = done.stdout.decode().split()
    assert re.fullmatch('00-[0-9a-f]{32}-[0-9a-f]{16}-03', parent), parent
    assert state == 'unset', state  # it was of no trace
    span, = spans(p)
    assert (span['trace_id'], span['span_id']) == tuple(parent.split('-')[1:3]), span
    assert 'parent_span_id' not in span
    assert (span['operation'], span['kind'], span['status']) == ('nightly', 'internal', 'unset')
    assert (span['process.exit.code'], span['process.command']) == ('0', 'sh')
    assert span['service'] == 'agentshim'


def span_is_a_child_of_its_environment(p):
    env = p.env(TRACEPARENT=CALLER, TRACESTATE='a=1', AGENTSHIM_SERVICE='jobs')
    done = p.ok('span', 'outer', TOOL, 'span', 'inner', 'sh', '-c', SHOW, env=env)
    parent, state = done.stdout.decode().split()
    inner, outer = sorted(spans(p), key=lambda span: span['operation'])
    assert outer['parent_span_id'] == CALLER.split('-')[2]
    assert inner['parent_span_id'] == outer['span_id']
    assert parent == f'00-{CALLER.split("-")[1]}-{inner["span_id"]}-01'
    assert state == 'a=1'
    assert {inner['service'], outer['service']} == {'jobs'}


def span_asks_the_sampler(p):
    unsampled = CALLER[:-2] + '00'
    for settings, flags in (({'OTEL_TRACES_SAMPLER': 'always_off'}, '02'),
                            ({'OTEL_TRACES_SAMPLER': 'always_off', 'TRACEPARENT': CALLER}, '00'),
                            ({'TRACEPARENT': unsampled}, '00'),
                            ({'OTEL_TRACES_SAMPLER': 'always_on', 'TRACEPARENT': unsampled}, '01')):
        done = p.ok('span', 'x', 'sh', '-c', SHOW, env=p.env(**settings))
        assert done.stdout.decode().split()[0].endswith('-' + flags), (settings, done)
    assert len(spans(p)) == 1


def span_ends_as_the_command_does(p):
    for command, status in (('exit 3', 3), ('exit 255', 255), ('kill -TERM $$', -signal.SIGTERM),
                            ('kill -SEGV $$', -signal.SIGSEGV)):
        done = p.tool('span', 'x', '--', 'sh', '-c', command)
        assert done.returncode == status, (command, done)
        assert (done.stdout, done.stderr) == (b'', b'')
        span, = spans(p)
        assert span['status'] == 'error' and span['error.type'] == '_OTHER', span
        if status > 0:
            assert span['process.exit.code'] == str(status)
        else:
            assert span['process.exit.signal'] == signal.Signals(-status).name
    for command, status in ((['/etc/passwd'], 126), (['no-such-command'], 127)):
        done = p.tool('span', 'x', *command)
        assert done.returncode == status and done.stderr.count(b'\n') == 1, done


def started_span(p, script):
    """A running one, once its command says so."""
    child = subprocess.Popen([TOOL, 'span', 'x', '--', 'sh', '-c', script], env=p.env(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'ready\n'
    return child


def span_passes_signals_on(p):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        name = number.name[3:]
        child = started_span(p, f'trap "echo got; exit 5" {name}; echo ready; '
                                   'while :; do sleep 0.01; done')
        child.send_signal(number)
        assert child.stdout.read() == b'got\n'
        assert child.wait(PATIENT_S) == 5, number
        child.stdout.close()


def span_takes_the_command_along_when_it_is_killed(p):
    child = started_span(p, 'echo ready; exec sleep 1000')
    child.kill()
    assert child.stdout.read() == b''  # the command's end of the pipe is closed, too
    child.wait(PATIENT_S)
    child.stdout.close()


def span_leaves_ignored_signals_ignored(p):
    done = subprocess.run(['sh', '-c', 'trap "" HUP; exec "$0" span x sh -c "kill -HUP \\$\\$; '
                           'echo alive"', TOOL], env=p.env(), capture_output=True,
                          timeout=PATIENT_S, check=False)
    assert done.stdout == b'alive\n', done


def span_of_no_trace_is_the_command_alone(p):
    for settings in ({'AGENTSHIM_TRACE': 'off'}, {'OTEL_SDK_DISABLED': 'true'},
                     {'AGENTSHIM_DISABLE': '1'}):
        done = p.ok('span', 'x', '--', 'sh', '-c', SHOW, env=p.env(TRACEPARENT='mine', **settings))
        assert done.stdout == b'mine unset\n', done
    assert not os.path.exists(p.state)


def span_runs_though_it_cannot_record(p):
    p.write('state', b'a file')
    done = p.tool('span', 'x', '--', 'sh', '-c', 'echo ran; exit 4')
    assert (done.returncode, done.stdout) == (4, b'ran\n')
    assert done.stderr.startswith(b'agentshim: the span is not recorded: '), done
    assert done.stderr.count(b'\n') == 1


def span_wants_a_name_and_a_command(p):
    for args in ((), ('x',), ('x', '--'), ('--what', 'x', 'true')):
        done = p.tool('span', *args)
        assert done.returncode == 2 and done.stderr.count(b'\n') == 1, done


CASES = [
    nothing_there_is_no_error,
    an_open_breaker_is_shown_with_its_reason,
    an_open_breaker_whose_time_is_over_says_0,
    without_its_event_no_time_is_invented,
    problems_are_shown_once,
    problems_are_broken_between_words,
    a_directory_that_the_shim_declines_is_not_looked_in,
    the_mode_comes_from_processes_and_from_the_tool,
    long_and_odd_names_keep_to_the_width,
    control_characters_never_reach_the_terminal,
    doubtful_files_are_skipped_with_a_reason,
    a_doubtful_ring_hides_no_breaker,
    noise_in_the_body_is_shown_or_skipped_but_harmless,
    a_directory_that_others_write_to_is_not_believed,
    root_sees_all_users_and_believes_only_owners,
    only_the_services_asked_for_are_shown,
    events_overwritten_are_counted,
    another_boot_gives_no_times,
    stacks_are_joined_and_named,
    a_stack_that_lost_a_part_says_so,
    hostile_modules_and_stacks_are_harmless,
    watch_prints_once_per_change_into_a_pipe,
    watch_fits_the_terminal,
    no_colour_unless_it_can_be_seen,
    an_order_is_stored_recorded_and_taken_back,
    unknown_and_ambiguous_services_are_listed,
    an_order_survives_the_loss_of_the_ring,
    tail_shows_what_appears_in_order,
    tail_leaves_out_what_was_there,
    tail_in_json_is_the_log,
    tail_follows_one_service_and_its_new_files,
    tail_ends_by_the_clock_and_without_a_reader,
    tail_runs_a_command_per_change,
    tail_runs_one_command_at_a_time,
    trace_is_a_tree_over_time,
    trace_is_found_by_any_form_of_its_id,
    trace_without_spans_says_so,
    trace_shows_orphans_and_survives_circles,
    trace_in_json_is_whole,
    a_service_without_spans_hides_no_other,
    hostile_spans_are_harmless,
    metrics_count_what_happened,
    metrics_tell_all_series_apart,
    metrics_of_noise_are_well_formed,
    usage_errors_are_one_line_with_a_hint,
    help_and_version_are_answers,
    a_full_disk_is_no_success,
    run_sets_the_preload_and_becomes_the_command,
    run_says_what_settings_are_not_understood,
    the_mode_of_a_running_service_is_shown,
    run_ends_as_env_does_without_a_command,
    run_refuses_what_the_loader_would_leave_out,
    run_refuses_privileged_programs,
    run_refuses_a_shim_that_cannot_be_named,
    span_is_its_commands_parent,
    span_is_a_child_of_its_environment,
    span_asks_the_sampler,
    span_ends_as_the_command_does,
    span_passes_signals_on,
    span_takes_the_command_along_when_it_is_killed,
    span_leaves_ignored_signals_ignored,
    span_of_no_trace_is_the_command_alone,
    span_runs_though_it_cannot_record,
    span_wants_a_name_and_a_command,
]


def main():
    # nohup, and `&` in a script, leave these ignored; what the cases start is to hear them.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    return run(CASES, Place, 'agentshim-tool.')


if __name__ == '__main__':
    sys.exit(main())
