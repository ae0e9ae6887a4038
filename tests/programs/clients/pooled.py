# SPDX-License-Identifier: Apache-2.0
"""A service whose calls are made by a pool of threads that all requests share: BASE_URL.

The first request, /first, creates the pool's threads and goes on while others use them.
"""
import concurrent.futures
import http.server
import sys
import urllib.request


def get(url):
    with urllib.request.urlopen(url) as reply:
        return reply.read()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        for job in [pool.submit(get, sys.argv[1] + self.path) for _ in range(WORKERS)]:
            job.result()
        if self.path == '/first':
            get(sys.argv[1] + '/held')  # and stays in progress
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


WORKERS = 4
pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
server = Server(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
