# SPDX-License-Identifier: Apache-2.0
"""A service of Python's http.server, a thread for each connection, that makes the calls it is
asked for: LIBRARY. A POST of a JSON list of {url, arguments} posts each one's arguments to its
url, in order, and answers when all have answered. Tells its port on standard output.
"""
import http.client
import http.server
import json
import sys
import urllib.parse
import urllib.request


def by_urllib(url, body):
    with urllib.request.urlopen(urllib.request.Request(url, body, JSON)) as reply:
        reply.read()


def by_http_client(url, body):
    to = urllib.parse.urlsplit(url)
    link = http.client.HTTPConnection(to.netloc)
    link.request('POST', to.path, body, JSON)
    link.getresponse().read()
    link.close()


def by_requests(url, body):
    requests.post(url, body, headers=JSON).raise_for_status()


def by_session(url, body):
    session.post(url, body, headers=JSON).raise_for_status()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def do_POST(self):
        for call in json.loads(self.rfile.read(int(self.headers['Content-Length']))):
            post(call['url'], json.dumps(call.get('arguments') or []).encode())
        self.send_response(200)
        self.send_header('Content-Length', '3')
        self.end_headers()
        self.wfile.write(b'[]\n')

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


JSON = {'Content-Type': 'application/json'}
post = {'urllib': by_urllib, 'http.client': by_http_client, 'requests': by_requests,
        'session': by_session}[sys.argv[1]]
if sys.argv[1] in ('requests', 'session'):
    import requests
    session = requests.Session()

server = Server(('127.0.0.1', int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
