# SPDX-License-Identifier: Apache-2.0
"""Programs that call by libcurl, with HTTP in the clear and under TLS: curl, pycurl and git.

Each is the same as bare but for one traceparent in every request; its spans are those of the
requests that the server saw; a breaker opens on bad answers, says so in the program's own way
of reporting libcurl's errors, and closes when the server is well again.
"""

import hashlib
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading

from harness import PATIENT_S, Place, Skip, Tap, check, equal, need, own_network

PYTHON = '/usr/bin/python3'
TRIPS_AT = 3
SETTINGS = {'CONSECUTIVE_FAILURES': TRIPS_AT, 'MAX_REQUESTS': 1, 'TIMEOUT': '1h',
            'LOG_LEVEL': 'info'}
REFUSED = r'agentshim: circuit breaker for {} is open'
BODY = b'hello from the web\n'

EASY = """
import io, json, pycurl, sys
c = pycurl.Curl()
c.setopt(c.CAINFO, sys.argv[1])
c.setopt(c.HTTPHEADER, ['X-One: 1', 'X-Two: 2'])
for url in sys.argv[2:]:
    body = io.BytesIO()
    c.setopt(c.URL, url)
    c.setopt(c.WRITEDATA, body)
    try:
        c.perform()
        print(c.getinfo(c.RESPONSE_CODE), body.getvalue(), c.getinfo(c.NUM_CONNECTS))
    except pycurl.error as e:
        print(e.args)
"""

MULTI = """
import io, pycurl, sys
m = pycurl.CurlMulti()
bodies = []
for url in sys.argv[2:]:
    c = pycurl.Curl()
    bodies.append((c, io.BytesIO()))
    c.setopt(c.CAINFO, sys.argv[1])
    c.setopt(c.HTTPHEADER, ['X-One: 1', 'X-Two: 2'])
    c.setopt(c.URL, url)
    c.setopt(c.WRITEDATA, bodies[-1][1])
    m.add_handle(c)
running = 1
while running:
    _, running = m.perform()
    m.select(1.0)
_, good, bad = m.info_read()
for c in good:
    print(c.getinfo(c.RESPONSE_CODE))
for c, code, text in bad:
    print((code, text))
for c, body in bodies:
    m.remove_handle(c)
    print(body.getvalue())
"""


class Web:
    """Answers /STATUS, and /NAME.git/ through git http-backend; keeps the heads it was sent."""

    def __init__(self, place, tls):
        self.place = place
        self.heads = []
        self.bodies = []            # of each request, hashed
        self.sick = False
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), self.handler())
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(place.cert, place.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.name = f'localhost:{self.server.server_port}'
        self.url = f'http{"s" if tls else ""}://{self.name}'

    def handler(self):
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            disable_nagle_algorithm = True

            def do_GET(self):       # pylint: disable=invalid-name
                web.heads.append((self.path, [(name.lower(), value) for name, value
                                              in self.headers.items()]))
                body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
                web.bodies.append(hashlib.sha256(body).hexdigest())
                if web.sick:
                    self.answer(503, [], BODY)
                elif '.git/' in self.path:
                    self.answer(*web.git(self, body))
                else:
                    self.answer(int(self.path[1:4]), [], BODY)

            do_POST = do_GET        # pylint: disable=invalid-name

            def answer(self, status, fields, body):
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):      # pylint: disable=arguments-differ
                pass

        return Handler

    def git(self, request, body):
        path, _, query = request.path.partition('?')
        env = {'PATH': os.environ['PATH'], 'GIT_PROJECT_ROOT': self.place.path,
               'GIT_HTTP_EXPORT_ALL': '1', 'PATH_INFO': path, 'QUERY_STRING': query,
               'REQUEST_METHOD': request.command, 'CONTENT_LENGTH': str(len(body)),
               'CONTENT_TYPE': request.headers.get('Content-Type', ''),
               'HTTP_CONTENT_ENCODING': request.headers.get('Content-Encoding', ''),
               'GIT_PROTOCOL': request.headers.get('Git-Protocol', '')}
        out = subprocess.run(['git', 'http-backend'], input=body, env=env, capture_output=True,
                             timeout=PATIENT_S, check=True).stdout
        head, _, content = out.partition(b'\r\n\r\n')
        fields = [line.split(': ', 1) for line in head.decode().split('\r\n')]
        status = [int(value.split()[0]) for name, value in fields if name == 'Status']
        return status[0] if status else 200, [f for f in fields if f[0] != 'Status'], content

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Story:
    """One place, one server: what a program does bare, and what it does under the shim."""

    def __init__(self, tls):
        self.place = Place(**SETTINGS)
        self.place.settings['LOG'] = os.path.join(self.place.path, 'log')
        self.place.cert = os.path.join(self.place.path, 'cert.pem')
        self.place.key = os.path.join(self.place.path, 'key.pem')
        if tls:
            need('openssl')
            done = self.place.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes',
                                   '-days', '2', '-subj', '/CN=localhost', '-addext',
                                   'subjectAltName=DNS:localhost', '-keyout', self.place.key,
                                   '-out', self.place.cert], shim=False)
            equal(done.status, 0, f'openssl ({done})')
        else:
            self.place.file('cert.pem')
        self.web = Web(self.place, tls)
        self.scheme = 'https' if tls else 'http'

    def __enter__(self):
        self.web.__enter__()
        return self

    def __exit__(self, *_):
        self.web.__exit__()
        self.place.close()

    def spans(self):
        if not os.path.exists(self.place.settings['LOG']):
            return []
        with open(self.place.settings['LOG'], encoding='utf-8') as f:
            lines = [json.loads(line) for line in f]
        return [line for line in lines if line['event'] == 'span_completed']

    def traced(self, call, n=None):
        """Runs a call that the server answers; each of its requests has a span of its own."""
        heads, spans = len(self.web.heads), len(self.spans())
        done = call()
        heads, spans = self.web.heads[heads:], self.spans()[spans:]
        check(heads and n in (None, len(heads)), f'{len(heads)} requests: {done}')
        seen = []
        for path, head in heads:
            ids = [value for name, value in head if name == 'traceparent']
            equal(len(ids), 1, f'traceparents in {path} {head}')
            seen.append((ids[0][3:35], ids[0][36:52], path.partition('?')[0]))
        equal(sorted((s['trace_id'], s['span_id'], s['url.path']) for s in spans), sorted(seen),
              'spans, requests')
        for span in spans:
            equal((span['kind'], span['url.scheme'], span['server.address'], span['server.port']),
                  ('client', self.scheme, 'localhost', self.web.server.server_port), 'span')
        return done

    def same(self, argv, n, expected=None):
        """The same as bare, byte for byte."""
        bare = self.place.run(argv, shim=False)
        equal(bare.status, 0, f'bare ({bare})')
        del self.web.heads[:]
        shimmed = self.traced(lambda: self.place.run(argv), n)
        equal((shimmed.status, shimmed.out, shimmed.err), (bare.status, bare.out, bare.err),
              'shimmed, bare')
        check(expected is None or expected in bare.out, f'{bare}')
        self.place.expect(self.web.name, 'closed', 'after good answers', failures=0)

    def falls_and_rises_by_text(self, argv):
        """The same of a program that always ends well, and says what libcurl told it."""
        self.web.sick = True
        for _ in range(TRIPS_AT):
            self.traced(lambda: self.place.run(argv), 1)
        self.place.expect(self.web.name, 'open', 'after bad answers')
        requests = len(self.web.heads)
        done = self.place.run(argv)
        check(re.search(REFUSED.format(self.web.name), done.text), f'{done}')
        equal(len(self.web.heads), requests, 'requests seen by the server')

    def falls_and_rises(self, call, n_calls=TRIPS_AT):
        """`call` gives a Done; each is one request of the program to /503, or a sick server."""
        self.web.sick = True
        for _ in range(n_calls):
            self.traced(call, 1)
        self.place.expect(self.web.name, 'open', f'after {n_calls} bad answers')
        requests = len(self.web.heads)
        done = call()
        check(re.search(REFUSED.format(self.web.name), done.text), f'{done}')
        equal(len(self.web.heads), requests, 'requests seen by the server')
        equal(self.spans()[-1]['error.type'], 'circuit_open', 'error of the last span')
        self.web.sick = False
        self.place.settings.update({'TIMEOUT': '1ms', 'PROBE_TIMEOUT': '1h'})
        done = call()
        equal(done.status, 0, f'when the server is well again ({done})')
        self.place.expect(self.web.name, 'closed', 'after a good answer')


def module(name, package):
    done = subprocess.run([PYTHON, '-c', f'import {name}'], capture_output=True, check=False)
    if done.returncode != 0:
        raise Skip(f'{package} is not installed')


def curl(s, *args):
    return [need('curl'), '-sS', '--cacert', s.place.cert, *args]


def curl_calls(s):
    s.same(curl(s, f'{s.web.url}/200?x=1'), 1, BODY.decode())


def curl_keeps_its_connection(s):
    s.same(curl(s, '-H', 'X-One: 1', f'{s.web.url}/200', f'{s.web.url}/201', f'{s.web.url}/404',
                '-w', '%{http_code} %{num_connects}\n'), 3, '404 0')


def curl_sends_a_body(s):
    s.same(curl(s, '-d', 'x' * 100000, f'{s.web.url}/200'), 1)


def curl_in_parallel(s):
    urls = [f'{s.web.url}/200?{i}' for i in range(5)]
    done = s.traced(lambda: s.place.run(curl(s, '-Z', '--no-progress-meter', *urls)), 5)
    equal((done.status, done.out), (0, BODY.decode() * 5), f'{done}')
    s.place.expect(s.web.name, 'closed', 'after five good answers', successes=5, failures=0)


def curl_falls_and_rises(s):
    s.falls_and_rises(lambda: s.place.run(curl(s, f'{s.web.url}/200')))


def curl_in_parallel_falls(s):
    s.falls_and_rises(lambda: s.place.run(curl(s, '-Z', '--no-progress-meter',
                                               f'{s.web.url}/200')))


def pycurl_calls(s):
    module('pycurl', 'python3-pycurl')
    urls = [f'{s.web.url}/{status}' for status in (200, 201, 404, 200)]
    s.same([PYTHON, '-c', EASY, s.place.cert, *urls], 4, "404 b'hello from the web\\n' 0")
    for _, head in s.web.heads:
        equal([name for name, _ in head if name.startswith('x-') and name != 'x-trace-id'],
              ['x-one', 'x-two'], "the program's own")


def pycurl_is_refused_on_a_kept_connection(s):
    module('pycurl', 'python3-pycurl')
    urls = [f'{s.web.url}/503'] * (TRIPS_AT + 2)
    done = s.place.run([PYTHON, '-c', EASY, s.place.cert, *urls])
    lines = done.out.splitlines()
    equal(len(s.web.heads), TRIPS_AT, f'requests ({done})')
    for line in lines[TRIPS_AT:]:
        equal(line, str((7, REFUSED.format(s.web.name))), 'error')
    equal(s.place.breaker(s.web.name)['totals']['failures'], TRIPS_AT, 'failures counted')


def pycurl_at_once(s):
    module('pycurl', 'python3-pycurl')
    urls = [f'{s.web.url}/200?{i}' for i in range(5)]
    argv = [PYTHON, '-c', MULTI, s.place.cert, *urls]
    s.same(argv, 5, 'hello')
    s.falls_and_rises(lambda: s.place.run(argv[:5]))


PHP = """
$c = curl_init();
curl_setopt($c, CURLOPT_CAINFO, $argv[1]);
curl_setopt($c, CURLOPT_RETURNTRANSFER, true);
curl_setopt($c, CURLOPT_HTTPHEADER, ['X-One: 1']);
foreach (array_slice($argv, 2) as $url) {
    curl_setopt($c, CURLOPT_URL, $url);
    echo curl_exec($c), curl_getinfo($c, CURLINFO_RESPONSE_CODE), ' ', curl_error($c), "\\n";
}
"""

PHP_MULTI = """
$m = curl_multi_init();
foreach (array_slice($argv, 2) as $url) {
    $c = $all[] = curl_init($url);
    curl_setopt($c, CURLOPT_CAINFO, $argv[1]);
    curl_setopt($c, CURLOPT_RETURNTRANSFER, true);
    curl_multi_add_handle($m, $c);
}
do {
    curl_multi_exec($m, $running);
    curl_multi_select($m);
} while ($running);
foreach ($all as $c)
    echo curl_multi_getcontent($c);
"""


def php(s, script, *urls):
    need('php')
    done = s.place.run(['php', '-r', 'exit(extension_loaded("curl") ? 0 : 1);'], shim=False)
    if done.status != 0:
        raise Skip('php-curl is not installed')
    return ['php', '-r', script, s.place.cert, *urls]


def php_calls(s):
    """Loaded with RTLD_DEEPBIND, its extension binds past every preload, unless we prevent it."""
    s.same(php(s, PHP, *(f'{s.web.url}/{status}' for status in (200, 404, 200))), 3, 'hello')
    s.falls_and_rises_by_text(php(s, PHP, f'{s.web.url}/200'))


def php_at_once(s):
    s.same(php(s, PHP_MULTI, *(f'{s.web.url}/200?{i}' for i in range(5))), 5, 'hello')


def php_that_binds_deeply_is_not_seen(s):
    done = s.place.run(php(s, PHP, f'{s.web.url}/200'), DEEPBIND='none')
    check('hello' in done.out, f'{done}')
    equal([name for name, _ in s.web.heads[0][1] if name == 'traceparent'], [], 'traceparents')


def git_clones(s):
    need('git')
    repository, clones = os.path.join(s.place.path, 'a.git'), []
    for argv in (['git', 'init', '-q', '--bare', repository], ['git', 'init', '-q', 'work'],
                 ['git', '-C', 'work', '-c', 'user.name=x', '-c', 'user.email=x@example.com',
                  'commit', '-q', '--allow-empty', '-m', 'one'],
                 ['git', '-C', 'work', 'push', '-q', repository, 'HEAD:refs/heads/master']):
        done = s.place.run(argv, shim=False)
        equal(done.status, 0, f'{argv} ({done})')

    def clone(to, shim):
        return s.place.run(['git', '-c', f'http.sslCAInfo={s.place.cert}', 'clone', '-q',
                            f'{s.web.url}/a.git', to], shim=shim)

    bare = clone('bare', False)
    equal(bare.status, 0, f'bare ({bare})')
    bare_requests = [path for path, _ in s.web.heads]
    del s.web.heads[:]
    shimmed = s.traced(lambda: clone('shimmed', True))
    equal((shimmed.status, shimmed.text), (bare.status, bare.text), 'shimmed, bare')
    equal([path for path, _ in s.web.heads], bare_requests, 'requests, bare')
    for name in 'bare', 'shimmed':
        clones.append(s.place.run(['git', '-C', name, 'log', '--format=%H %s'], shim=False).out)
    check(clones[0] and clones[0] == clones[1], f'{clones}')
    s.place.expect(s.web.name, 'closed', 'after a clone', failures=0)
    s.falls_and_rises(lambda: s.place.run(
        ['git', '-c', f'http.sslCAInfo={s.place.cert}', 'ls-remote', '-q', f'{s.web.url}/a.git']))


CASES = [php_calls, php_at_once, php_that_binds_deeply_is_not_seen, curl_calls, curl_keeps_its_connection, curl_sends_a_body, curl_in_parallel,
         curl_falls_and_rises, curl_in_parallel_falls, pycurl_calls,
         pycurl_is_refused_on_a_kept_connection, pycurl_at_once, git_clones]


def main():
    own_network()
    tap = Tap()
    for tls in False, True:
        for case in CASES:
            with tap.case(f'{case.__name__} over {"https" if tls else "http"}'):
                with Story(tls) as story:
                    case(story)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
