# SPDX-License-Identifier: Apache-2.0
"""Programs that speak HTTP inside TLS by OpenSSL and GnuTLS, as clients and as servers.

Each is the same as bare but for one traceparent in every request, spans say https, a breaker is
moved by the answers inside, and a handshake that fails is a failure.
"""

import hashlib
import os
import sys

from harness import SHIM, Tap, check, equal, free_port, listening, need, own_network, wait_until
from test_curl import BODY, PYTHON, TRIPS_AT, Story, module

HERE = os.path.dirname(os.path.abspath(__file__))

URLLIB = """
import ssl, sys, urllib.request
c = ssl.create_default_context(cafile=sys.argv[1])
for url in sys.argv[2:]:
    print(urllib.request.urlopen(url, context=c).read())
"""

KEPT = """
import http.client, ssl, sys
c = ssl.create_default_context(cafile=sys.argv[1])
k = http.client.HTTPSConnection('localhost', int(sys.argv[2]), context=c)
k.connect()
k.auto_open = 0
for path in sys.argv[3:]:
    try:
        k.request('POST', path, b'x' * 300000)
        print(k.getresponse().read())
    except Exception as e:
        print(isinstance(e, OSError), e)
"""

AIOHTTP = """
import asyncio, ssl, sys
import aiohttp
async def main():
    c = ssl.create_default_context(cafile=sys.argv[1])
    async with aiohttp.ClientSession() as s:
        for url in sys.argv[2:]:
            async with s.post(url, ssl=c, data=b'x' * 1000000) as r:
                print(r.status, await r.read())
asyncio.run(main())
"""

REQUESTS = """
import sys
import requests
s = requests.Session()
s.trust_env = False
s.verify = sys.argv[1]
for url in sys.argv[2:]:
    r = s.post(url, data=b'x' * 1000000)
    print(r.status_code, r.content)
"""

PHP = """
$c = stream_context_create(['ssl' => ['cafile' => $argv[1]], 'http' => ['ignore_errors' => true]]);
foreach (array_slice($argv, 2) as $url)
    echo file_get_contents($url, false, $c);
"""

SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = b'served\\n'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""

NGINX = """
daemon off; pid {path}/nginx.pid; error_log {path}/error.log; worker_processes 1; user root;
events {{ }}
http {{
    access_log off; proxy_temp_path {path}/p; client_body_temp_path {path}/b;
    fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
    upstream web {{ server localhost:{to}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
        location / {{ proxy_pass https://web; proxy_http_version 1.1; proxy_set_header Connection "";
                     proxy_set_header Host localhost:{to}; }}
    }}
}}
"""

CONTEXT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'


def urls(s, *paths):
    return [f'{s.web.url}/{path}' for path in paths]


def wget_calls(s):
    s.same([need('wget'), '-q', '-O', '-', f'--ca-certificate={s.place.cert}',
            *urls(s, '200', '201', '200?x')], 3, BODY.decode())


def wget_sends_a_body(s):
    s.place.file('body', 'x' * 1000000)
    s.same([need('wget'), '-q', '-O', '-', f'--ca-certificate={s.place.cert}',
            '--post-file=body', *urls(s, '200')], 1, BODY.decode())


def urllib_calls(s):
    s.same([PYTHON, '-c', URLLIB, s.place.cert, *urls(s, '200', '201')], 2, 'hello')


def http_client_keeps_its_connection(s):
    s.same([PYTHON, '-c', KEPT, s.place.cert, str(s.web.server.server_port), '/200', '/404',
            '/200'], 3, 'hello')


def http_client_is_refused_on_a_kept_connection(s):
    paths = ['/503'] * (TRIPS_AT + 1)
    done = s.place.run([PYTHON, '-c', KEPT, s.place.cert, str(s.web.server.server_port), *paths])
    equal(len(s.web.heads), TRIPS_AT, f'requests ({done})')
    check(done.out.splitlines()[TRIPS_AT].startswith('True '), f'{done}')
    s.place.expect(s.web.name, 'open', 'after bad answers')


def requests_calls(s):
    module('requests', 'python3-requests')
    s.same([PYTHON, '-c', REQUESTS, s.place.cert, *urls(s, '200', '404', '200')], 3, 'hello')


def aiohttp_calls(s):
    module('aiohttp', 'python3-aiohttp')
    s.same([PYTHON, '-c', AIOHTTP, s.place.cert, *urls(s, '200', '404', '200')], 3, 'hello')


def php_streams_call(s):
    s.same([need('php'), '-r', PHP, s.place.cert, *urls(s, '200', '201')], 2, 'hello')


def bad_answers_open_the_breaker(s):
    for _ in range(TRIPS_AT):
        s.traced(lambda: s.place.run([PYTHON, '-c', KEPT, s.place.cert,
                                      str(s.web.server.server_port), '/503']), 1)
    s.place.expect(s.web.name, 'open', 'after bad answers')
    done = s.place.run([PYTHON, '-c', URLLIB, s.place.cert, *urls(s, '200')])
    check('Connection refused' in done.err, f'{done}')
    equal(len(s.web.heads), TRIPS_AT, 'requests')


def a_refused_certificate_is_a_failure(s):
    for _ in range(TRIPS_AT):
        done = s.place.run([PYTHON, '-c', URLLIB, '/etc/ssl/certs/ca-certificates.crt',
                            *urls(s, '200')])
        check('CERTIFICATE_VERIFY_FAILED' in done.err, f'{done}')
    s.place.expect(s.web.name, 'open', 'after three handshakes that failed')


def writes_are_repeated(s, how):
    """All or nothing, 4 KiB at a time: what arrives is what was written, and ours once."""
    argv = [PYTHON, os.path.join(HERE, 'clients', 'tls_retry.py'), str(s.web.server.server_port),
            how, '3']
    s.same(argv, 3, 'HTTP/1.1 200')
    body = hashlib.sha256(bytes(range(256)) * 4096).hexdigest()
    equal(s.web.bodies[-3:], [body] * 3, 'bodies')


def writes_are_repeated_from_the_same_buffer(s):
    writes_are_repeated(s, 'same')


def writes_are_repeated_from_other_buffers(s):
    writes_are_repeated(s, 'moving')


def s_client_writes_a_request(s):
    argv = [need('openssl'), 's_client', '-quiet', '-connect',
            f'localhost:{s.web.server.server_port}']
    done = s.traced(lambda: s.place.run(
        argv, stdin=f'GET /200 HTTP/1.1\r\nHost: localhost:{s.web.server.server_port}\r\n'
                    'Connection: close\r\n\r\n'), 1)
    check(BODY.decode() in done.out, f'{done}')


def a_python_server_has_spans(s):
    port = free_port()
    s.place.start([PYTHON, '-c', SERVER, str(port), s.place.cert, s.place.key])
    wait_until(lambda: listening(port), 'a server')
    for _ in range(3):
        done = s.place.run([need('curl'), '-sS', '--cacert', s.place.cert, '-H',
                            f'traceparent: {CONTEXT}', f'https://localhost:{port}/x'], shim=False)
        equal(done.out, 'served\n', f'{done}')
    wait_until(lambda: len(s.spans()) == 3, 'three spans', 5)
    for span in s.spans():
        equal((span['kind'], span['url.scheme'], span['trace_id'], span['parent_span_id']),
              ('server', 'https', CONTEXT[3:35], CONTEXT[36:52]), 'span')


def nginx_serves_and_proxies(s):
    port = free_port()
    s.place.file('nginx.conf', NGINX.format(path=s.place.path, port=port,
                                            to=s.web.server.server_port, cert=s.place.cert,
                                            key=s.place.key))
    s.place.start([need('nginx'), '-c', os.path.join(s.place.path, 'nginx.conf'), '-p',
                   s.place.path])
    wait_until(lambda: listening(port), 'nginx')
    for _ in range(5):
        done = s.place.run([need('curl'), '-sS', '--cacert', s.place.cert, '-H',
                            f'traceparent: {CONTEXT}', '-d', 'x' * 100000,
                            f'https://localhost:{port}/200'], shim=False)
        equal(done.out, BODY.decode(), f'{done}')
    wait_until(lambda: len(s.spans()) == 10, 'five spans of each kind', 5)
    spans = {kind: [x for x in s.spans() if x['kind'] == kind] for kind in ('server', 'client')}
    equal((len(spans['server']), len(spans['client'])), (5, 5), 'spans')
    equal({x['trace_id'] for x in s.spans()}, {CONTEXT[3:35]}, 'traces')
    equal(sorted(x['parent_span_id'] for x in spans['client']),
          sorted(x['span_id'] for x in spans['server']), 'parents of calls')
    parents = [dict(head)['traceparent'][36:52] for _, head in s.web.heads]
    equal(sorted(parents), sorted(x['span_id'] for x in spans['client']), 'what was passed on')
    equal({x['url.scheme'] for x in s.spans()}, {'https'}, 'schemes')


CASES = [wget_calls, wget_sends_a_body, urllib_calls, http_client_keeps_its_connection,
         http_client_is_refused_on_a_kept_connection, requests_calls, aiohttp_calls,
         php_streams_call, bad_answers_open_the_breaker, a_refused_certificate_is_a_failure,
         writes_are_repeated_from_the_same_buffer, writes_are_repeated_from_other_buffers,
         s_client_writes_a_request, a_python_server_has_spans, nginx_serves_and_proxies]


def main():
    own_network()
    tap = Tap()
    check(os.path.exists(SHIM), 'the shim is built')
    for case in CASES:
        with tap.case(case.__name__):
            with Story(True) as story:
                case(story)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
