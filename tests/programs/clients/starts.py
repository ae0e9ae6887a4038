# SPDX-License-Identifier: Apache-2.0
"""A service that has curl called for each request: BASE_URL COMMAND... Tells its port.

COMMAND is started by subprocess, with the URL behind it; its output is the answer.
"""
import http.server
import subprocess
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        done = subprocess.run([*sys.argv[2:], sys.argv[1] + self.path], capture_output=True,
                              check=False)
        body = done.stdout + done.stderr
        self.send_response(200 if done.returncode == 0 else 502)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
