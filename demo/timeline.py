# SPDX-License-Identifier: Apache-2.0
"""The demo's story, told by what happens: every state printed is read from `agentshim status --json`
in this run, every time is the calling program's own clock. An expectation that is not met ends it."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
PATIENT = 1.2       # seconds a caller waits for an answer; agentshim's patience is 1 s
OPEN_FOR = '2s'     # AGENTSHIM_TIMEOUT; the default of 30 s is long for a demo
HANGING_CALLS = 8
REFUSALS = 5

UPSTREAM = '''
daemon off; pid {dir}/{name}.pid; error_log {dir}/{name}.log; worker_processes 2; {user}
events {{ }}
http {{ access_log off;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }} }}
'''
PROXY = ('proxy_pass http://127.0.0.1:{}; proxy_connect_timeout 1200ms; '
         'proxy_read_timeout 1200ms;')
# A service that lives on between its calls, as Python's usually do.
PYTHON = '''
import errno, sys, time, urllib.request
for url in map(str.strip, sys.stdin):
    began = time.perf_counter()
    try:
        answer = urllib.request.urlopen(url, timeout=1.2).status
    except OSError as error:
        error = getattr(error, 'reason', error)
        answer = errno.errorcode.get(error.errno, type(error).__name__)
    print(answer, time.perf_counter() - began, flush=True)
'''
# A service in the middle: what it is asked for it asks of another.
MIDDLE = '''
import http.server, sys, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = urllib.request.urlopen(sys.argv[1] + self.path, timeout=10).read()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
'''


class Unexpected(Exception):
    """Something that agentshim promises was not observed."""


def expect(held, what):
    if not held:
        raise Unexpected(what)


def clock(seconds):
    if seconds < 0.001:
        return f'{seconds * 1e6:.0f} us'
    return f'{seconds * 1e3:.1f} ms' if seconds < 1 else f'{seconds:.2f} s'


class Stage:
    """Processes and files of this run; gone when it ends, however it ends."""

    def __init__(self, folder):
        self.dir, self.running, self.began = folder, [], time.monotonic()
        self.bare = {name: value for name, value in os.environ.items()
                     if not name.lower().endswith('_proxy') and name != 'LD_PRELOAD'
                     and (not name.startswith('AGENTSHIM_') or name == 'AGENTSHIM_DISABLE')}
        self.with_us = self.bare | {'LD_PRELOAD': str(BUILD / 'shim/libagentshim.so'),
                                    'AGENTSHIM_DIR': f'{folder}/state',
                                    'AGENTSHIM_TIMEOUT': OPEN_FOR}
        self.with_dir = self.bare | {'AGENTSHIM_DIR': f'{folder}/state'}

    def say(self, text):
        print(f'{time.monotonic() - self.began:5.1f} s  {text}', flush=True)

    def start(self, command, env, **options):
        process = subprocess.Popen(command, env=env, start_new_session=True, **options)
        self.running.append(process)
        return process

    def stop(self, process):
        """SIGKILL to the process and its workers: it has no say in it."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop_all(self):
        for process in list(self.running):
            self.stop(process)

    def nginx(self, name, port, answer, env):
        user = 'user root;' if os.getuid() == 0 else ''
        conf = Path(self.dir, f'{name}.conf')
        conf.write_text(UPSTREAM.format(dir=self.dir, name=name, port=port, answer=answer, user=user),
                        encoding='ascii')
        path = env['PATH'] + ':/usr/sbin'
        process = self.start(['nginx', '-c', str(conf), '-e', f'{self.dir}/{name}.log'],
                             env | {'PATH': path})
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', port)) == 0:
                    return process
            expect(process.poll() is None and time.monotonic() < deadline, f'nginx {name} starts')
            time.sleep(0.01)

    def breaker(self, service, peer):
        """What `agentshim status --json` says now; None when it knows of no such breaker."""
        for found in self.status():
            if found['service'] == service:
                for breaker in found['breakers']:
                    if breaker['peer'] == peer:
                        return breaker
        return None

    def status(self):
        done = output([BUILD / 'tools/agentshim', 'status', '--json'], self.with_dir)
        expect(done.returncode == 0, f'agentshim status --json ends with 0, not {done.returncode}')
        return json.loads(done.stdout)['services']


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def output(command, env):
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, check=False)


# Each caller is a function (stage, env, peer) that returns a function: make one call, return
# (answer, seconds).

def curl(_, env, peer, patient=PATIENT):
    def call():
        done = output(['curl', '-s', '-o', '/dev/null', '-m', str(patient), '-w',
                       '%{http_code} %{time_total}', f'http://{peer}/'], env)
        code, seconds = done.stdout.split()
        return (code if code != '000' else f'exit {done.returncode}'), float(seconds)
    return call


def wget(_, env, peer):
    def call():
        began = time.perf_counter()
        done = output(['wget', '-q', '-O', '/dev/null', '--tries=1', f'--timeout={PATIENT}',
                       f'http://{peer}/'], env)
        answer = '200' if done.returncode == 0 else f'exit {done.returncode}'
        return answer, time.perf_counter() - began
    return call


def python(stage, env, peer):
    process = stage.start(['/usr/bin/python3', '-c', PYTHON], env, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call():
        process.stdin.write(f'http://{peer}/\n')
        process.stdin.flush()
        answer, seconds = process.stdout.readline().split()
        return answer, float(seconds)
    return call


def nginx(stage, env, peer):
    port = free_port()
    stage.nginx(f'front-{port}', port, PROXY.format(peer.rsplit(':', 1)[1]), env)
    # The client outwaits nginx: one that hangs up first is no failure of nginx's peer.
    return curl(stage, stage.bare, f'127.0.0.1:{port}', patient=10 * PATIENT)


CALLERS = {'curl': curl, 'wget': wget, 'python': python, 'nginx': nginx}


def callers(stage, peer, preload):
    """{name: call}; with the shim each is a service of its caller's name."""
    return {name: caller(stage, stage.with_us | {'AGENTSHIM_SERVICE': name} if preload
                         else stage.bare, peer)
            for name, caller in CALLERS.items()}


def show(stage, name, what, seconds, peer):
    """One row; returns the breaker it read."""
    breaker = stage.breaker(name, peer)
    expect(breaker, f'{name} has a breaker for {peer} (is the shim loaded, and not disabled?)')
    stage.say(f'{name:8}{what:28}{clock(seconds):>10}   {breaker["state"]}')
    return breaker


def killed_and_revived(stage):
    port = free_port()
    peer = f'127.0.0.1:{port}'
    answer = 'return 200 "hello\\n";'
    upstream = stage.nginx('upstream', port, answer, stage.bare)
    calls = callers(stage, peer, True)

    print(f'\n1. An nginx at {peer} is killed and revived\n'
          f'         {"caller":8}{"its call":28}{"it waited":>10}   breaker')
    for name, call in calls.items():
        got, seconds = call()
        expect(got == '200', f'{name} reaches the healthy upstream (got {got})')
        expect(show(stage, name, got, seconds, peer)['state'] == 'closed', f'{name}: closed')

    stage.stop(upstream)
    stage.say('-- the upstream is killed')
    for name, call in calls.items():
        for _ in range(5):
            got, seconds = call()
            expect(got != '200', f'{name} fails while the upstream is dead')
        breaker = show(stage, name, f'{got}, 5 times', seconds, peer)
        expect(breaker['state'] == 'open', f'{name}: open after 5 failures')
        before = breaker['totals']['refused']
        refusals = sorted(call()[1] for _ in range(REFUSALS))
        breaker = show(stage, name, f'refused {REFUSALS} times, median', refusals[REFUSALS // 2], peer)
        refused = breaker['totals']['refused'] - before
        expect(refused == REFUSALS, f'{name}: {REFUSALS} calls refused by agentshim (was {refused})')

    stage.nginx('upstream', port, answer, stage.bare)
    stage.say(f'-- the upstream is back; each breaker stays open for {OPEN_FOR}')
    for name, call in calls.items():
        wait_until_due(stage, name, peer)
        for wanted in ('half-open', 'half-open', 'closed'):
            got, seconds = call()
            expect(got == '200', f'{name} recovers (got {got})')
            state = show(stage, name, got, seconds, peer)['state']
            expect(state == wanted, f'{name}: {wanted} (is {state})')
    return peer


def wait_until_due(stage, name, peer):
    deadline = time.monotonic() + 30
    while stage.breaker(name, peer).get('retry_in_ms', 0) > 0:
        expect(time.monotonic() < deadline, f'{name}: the open time ends')
        time.sleep(0.02)


def full_backlog():
    """A listener that nobody serves, its queue filled: connect() to it hangs, as to a dead host."""
    listener = socket.create_server(('127.0.0.1', 0), backlog=0)
    filling = [listener]
    while True:
        client = socket.socket()
        client.settimeout(0.2)
        filling.append(client)
        try:
            client.connect(listener.getsockname())
        except TimeoutError:
            return filling


def hangs(stage):
    filling = full_backlog()
    peer = f'127.0.0.1:{filling[0].getsockname()[1]}'
    print(f'\n2. A peer that never answers, at {peer}: {HANGING_CALLS} calls by each, with agentshim'
          f' and without')
    waited = {}

    def make_calls(key, call):
        waited[key] = [call() for _ in range(HANGING_CALLS)]

    threads = [threading.Thread(target=make_calls, args=((name, preload), call), daemon=True)
               for preload in (False, True)
               for name, call in callers(stage, peer, preload).items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for held in filling:
        held.close()

    print(f'         {"caller":8}{"all calls without":>18}{"with":>10}'
          f'{"the last without":>20}{"with":>10}   breaker')
    for name in CALLERS:
        breaker = stage.breaker(name, peer)
        expect(breaker and breaker['state'] == 'open', f'{name}: open for the peer that hangs')
        refused = breaker['totals']['refused']
        expect(refused == HANGING_CALLS - 5, f'{name}: all but 5 calls refused (was {refused})')
        bare, ours = ([seconds for _, seconds in waited[name, preload]] for preload in (False, True))
        expect(ours[-1] < bare[-1], f'{name}: a refused call is faster than a hanging one')
        stage.say(f'{name:8}{clock(sum(bare)):>18}{clock(sum(ours)):>10}'
                  f'{clock(bare[-1]):>20}{clock(ours[-1]):>10}   {breaker["state"]}')
    return peer


def told(stage, peers):
    """The breakers' own record of it."""
    print('\n3. What the breakers recorded')
    wanted = {'closed>open', 'open>half-open', 'half-open>closed'}
    for name in CALLERS:
        changes = [event for found in stage.status() if found['service'] == name
                   for event in found['events'] if event['event'] == 'state_change']
        for peer in peers:
            own = [event for event in changes if event['breaker'] == peer]
            line = ''.join(f' -> {event["to"]}' + f' ({event["reason"]})' * (event['to'] == 'open')
                           for event in own)
            print(f'         {name:8}{peer}: closed{line}')
        seen = {f'{event["from"]}>{event["to"]}' for event in changes}
        expect(wanted <= seen, f'{name}: events {", ".join(sorted(wanted - seen))}')


def traced(stage):
    """One request through three services; its trace as `agentshim trace` tells it."""
    def named(service):
        return stage.with_us | {'AGENTSHIM_SERVICE': service}

    print('\n4. A trace through an nginx, a Python service and another nginx, none of which knows of it')
    kernel, web = free_port(), free_port()
    stage.nginx('kernel', kernel, 'return 200 "hello\\n";', named('kernel'))
    middle = stage.start(['/usr/bin/python3', '-c', MIDDLE, f'http://127.0.0.1:{kernel}'],
                         named('backend'), text=True, stdout=subprocess.PIPE)
    stage.nginx('web', web, f'proxy_pass http://127.0.0.1:{int(middle.stdout.readline())};',
                named('web'))
    got = output(['curl', '-s', f'http://127.0.0.1:{web}/order'], stage.bare).stdout
    expect(got == 'hello\n', f'the chain answers (got {got!r})')

    path = ['web server', 'web client', 'backend server', 'backend client', 'kernel server']
    deadline = time.monotonic() + 10
    while True:  # the last span is written when its answer is out, which may be after curl has it
        told_by = output([BUILD / 'tools/agentshim', 'trace', '--last', '--json'], stage.with_dir)
        spans = json.loads(told_by.stdout)['spans'] if told_by.returncode == 0 else []
        if len(spans) == len(path):
            break
        expect(time.monotonic() < deadline, f'a trace of {len(path)} spans (found {len(spans)})')
        time.sleep(0.02)
    print(output([BUILD / 'tools/agentshim', 'trace', '--last'], stage.with_dir).stdout, end='')
    expect(len({span['trace_id'] for span in spans}) == 1, 'one trace id')
    by_id = {span['span_id']: f'{span["service"]} {span["kind"]}' for span in spans}
    parents = {f'{span["service"]} {span["kind"]}': by_id.get(span.get('parent_span_id'))
               for span in spans}
    expect(parents == dict(zip(path, [None] + path)), f'each span has the right parent: {parents}')


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix='agentshim-demo-') as folder:
        os.mkdir(f'{folder}/state', 0o700)
        stage = Stage(folder)
        try:
            print('Unmodified curl, wget, Python and nginx under LD_PRELOAD=libagentshim.so\n'
                  f'AGENTSHIM_TIMEOUT={OPEN_FOR}; the rest is as shipped: 5 failures open, 3 good'
                  ' probes close')
            told(stage, [killed_and_revived(stage), hangs(stage)])
            traced(stage)
        except Unexpected as what:
            print(f'\nNOT OBSERVED: {what}')
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            stage.stop_all()
    print('\nEvery transition, recovery and span was observed.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
