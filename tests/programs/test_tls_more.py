# SPDX-License-Identifier: Apache-2.0
"""More programs over TLS: our header inside it, their bytes whole; and those left as they are.

    test_tls_more.py [CASE...]
"""

import hashlib
import os
import ssl
import subprocess
import sys

import web
from harness import PATIENT_S, Place, Skip, Tap, check, end, equal, free_port, listening, need, \
    own_network, wait_until
from servers import Postgres, own_by

BODY = 1 << 20


def certificate(place):
    """A certificate for localhost that signed itself: (certificate, key)."""
    cert, key = os.path.join(place.path, 'cert.pem'), os.path.join(place.path, 'key.pem')
    subprocess.run([need('openssl'), 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
                    'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days',
                    '2', '-subj', '/CN=localhost', '-addext',
                    'subjectAltName=DNS:localhost,IP:127.0.0.1'], check=True,
                   stderr=subprocess.DEVNULL)
    os.chmod(key, 0o644)
    return cert, key


class Recorder(web.Recorder):
    """web.Recorder behind TLS; a client that does not shake hands is just gone."""

    def __init__(self, files, answer=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*files)
        super().__init__(answer)
        self.url = f'https://localhost:{self.port}'

    def _serve(self, sock):
        try:
            inside = self.context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return
        with self.lock:
            self.links.discard(sock)
            self.links.add(inside)
        super()._serve(inside)


class Story:
    """A place with a certificate, a body to be sent, and a server that keeps what it is asked."""

    def __init__(self, answer=None, **settings):
        self.place = Place(**settings)
        self.files = certificate(self.place)
        self.server = Recorder(self.files, answer)
        self.log = web.Log(self.place, 'client', self.place.state)
        self.body = os.path.join(self.place.path, 'body')
        with open(self.body, 'wb') as f:
            f.write(os.urandom(BODY))

    @property
    def peer(self):
        return f'localhost:{self.server.port}'

    def run(self, argv, **more):
        return self.place.run(argv, **{**self.log.settings, **more})

    def took(self, target='/a'):
        return self.server.take(f'{self.server.url}{target}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()
        self.place.close()


def values(request, name):
    return [value for n, value in request.fields if n.lower() == name]


def whole(story, requests, count, uploads=True):
    """They arrived with one traceparent each, that of a span, and with the bytes of the file."""
    equal(len(requests), count, 'requests that arrived')
    with open(story.body, 'rb') as f:
        wanted = hashlib.sha256(f.read() if uploads else b'').hexdigest()
    spans = {span['span_id']: span for span in story.log.wait(count) if span['kind'] == 'client'}
    for request in requests:
        equal(hashlib.sha256(request.body).hexdigest(), wanted, 'its body')
        found = values(request, 'traceparent')
        equal(len(found), 1, 'traceparents')
        check(found[0].split('-')[2] in spans, f'{found[0]} is of none of {list(spans)}')
        span = spans[found[0].split('-')[2]]
        equal(span['url.scheme'], 'https', 'scheme')
        equal(span['server.port'], story.server.port, 'port')
        equal(span['http.response.status_code'], 200, 'status')


# ---- clients ------------------------------------------------------------------------------

def by_command(*argv, uploads=True):
    def client(story):
        need(argv[0])
        done = story.run([word.format(url=story.server.url, cert=story.files[0], body=story.body)
                          for word in argv])
        equal(done.status, 0, f'status of {done}')
        whole(story, story.took(), 1, uploads)
        story.place.expect(story.peer, 'closed', 'its breaker', successes=1, failures=0)
    return client


def by_git(story):
    """It asks for what is there and believes no answer of ours."""
    need('git')
    story.run(['git', '-c', f'http.sslCAInfo={story.files[0]}', 'ls-remote',
               f'{story.server.url}/a'])
    whole(story, story.took('/a/info/refs?service=git-upload-pack'), 1, uploads=False)


def by_hand(*argv):
    """A program that passes on what it reads: the request is the test's own."""
    def client(story):
        need(argv[0])
        done = story.run([word.format(port=story.server.port, cert=story.files[0])
                          for word in argv],
                         stdin='GET /a HTTP/1.1\r\nHost: '
                               f'localhost:{story.server.port}\r\nConnection: close\r\n\r\n')
        check('200 OK' in done.text, str(done))
        whole(story, story.took(), 1, uploads=False)
        story.place.expect(story.peer, 'closed', 'its breaker', successes=1, failures=0)
    return client


def by_node(story):
    """Its OpenSSL is its own, bound past every preload: nothing is added, nothing is spoilt."""
    script = story.place.file('client.js', '''
const fs = require('fs'), https = require('https'), [url, cert, body] = process.argv.slice(2);
https.request(url + '/a', {method: 'POST', ca: fs.readFileSync(cert)}, r => {
    r.on('data', d => process.stdout.write(d)); }).end(fs.readFileSync(body));
''')
    done = story.run([need('node'), script, story.server.url, story.files[0], story.body])
    equal(done.status, 0, f'status of {done}')
    [request] = story.took()
    with open(story.body, 'rb') as f:
        check(request.body == f.read(), 'its body is another')
    equal(values(request, 'traceparent'), [], 'traceparents')
    story.place.expect(story.peer, 'closed', 'its breaker', successes=1, failures=0)


CLIENTS = {
    'curl': by_command('curl', '-sS', '--http1.1', '--cacert', '{cert}', '--data-binary',
                       '@{body}', '{url}/a'),
    'git': by_git,
    'gnutls-cli': by_hand('gnutls-cli', '--x509cafile={cert}', '-p', '{port}', 'localhost'),
    'node': by_node,
}


# ---- other protocols ----------------------------------------------------------------------

def psql(story):
    """TLS begins after some words in the clear: it is judged by its first bytes, as before."""
    need('psql')
    server = Postgres(story.place)
    try:
        for name in ('cert', 'key'):
            path = os.path.join(server.data, f'{name}.pem')
            with open(story.files[name == 'key'], encoding='ascii') as f, \
                    open(path, 'w', encoding='ascii') as to:
                to.write(f.read())
            os.chmod(path, 0o600)
            own_by(path, 'postgres')
        address = f'host=127.0.0.1 port={server.address[1]} user=tester dbname=postgres'
        for line in ("ssl_cert_file = 'cert.pem'", "ssl_key_file = 'key.pem'", 'ssl = on'):
            story.place.run(['psql', address, '-c', f'ALTER SYSTEM SET {line}'], shim=False)
        story.place.run(['psql', address, '-c', 'SELECT pg_reload_conf()'], shim=False)

        def encrypted():
            return story.place.run(['psql', f'{address} sslmode=require', '-c', ''],
                                   shim=False).status == 0
        wait_until(encrypted, 'PostgreSQL speaks TLS')
        done = story.run(['psql', f'{address} sslmode=require', '-Atc',
                          "SELECT ssl, repeat('x', 100000) FROM pg_stat_ssl "
                          'WHERE pid = pg_backend_pid()'])
        equal(done.out, 't|' + 'x' * 100000 + '\n', 'what it printed')
        story.place.expect(f'127.0.0.1:{server.address[1]}', 'closed', 'its breaker',
                           successes=1, failures=0)
    finally:
        server.close()


def redis(story):
    """No HTTP inside: a success at the first bytes of an answer, and not a byte is added."""
    need('redis-server', 'redis-cli')
    port = free_port()
    cert, key = story.files
    child = story.place.start(['redis-server', '--port', '0', '--tls-port', str(port), '--bind',
                               '127.0.0.1', '--tls-cert-file', cert, '--tls-key-file', key,
                               '--tls-ca-cert-file', cert, '--tls-auth-clients', 'no', '--save',
                               ''], shim=False, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: listening(port), 'redis-server listening')
        done = story.run(['redis-cli', '--tls', '--cacert', cert, '-h', 'localhost', '-p',
                          str(port), '-n', '1', 'set', 'a', 'GET / HTTP/1.1'])
        if 'Unrecognized option' in done.text:
            raise Skip('this redis-cli has no TLS')
        equal(done.out, 'OK\n', 'what it printed')
        story.place.expect(f'localhost:{port}', 'closed', 'its breaker', successes=1, failures=0)
        done = story.run(['redis-cli', '--tls', '--cacert', cert, '-h', 'localhost', '-p',
                          str(port), '-n', '1', 'get', 'a'])
        equal(done.out, 'GET / HTTP/1.1\n', 'what was kept')
    finally:
        end(child)
        story.place.children.remove(child)


STORIES = {**CLIENTS, 'psql': psql, 'redis-cli': redis}


def main():
    tap = Tap()
    own_network()
    wanted = sys.argv[1:]
    for name, story in STORIES.items():
        if wanted and name not in wanted:
            continue
        with tap.case(f'{name} over TLS'):
            need('openssl')
            with Story(TIMEOUT=f'{PATIENT_S}s') as there:
                story(there)
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
