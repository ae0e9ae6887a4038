# SPDX-License-Identifier: Apache-2.0
"""Writes a request of 1 MiB inside TLS to a socket that takes 4 KiB at a time.

OpenSSL is called as a C program would: each write is all or nothing (no partial writes), and is
repeated with the same bytes as long as OpenSSL wants that; from the same buffer, or from another
copy of it each time.
"""

import ctypes
import os
import select
import socket
import sys

WANT_READ, WANT_WRITE = 2, 3
MODE, MOVING = 33, 2

port, moving, n_requests = int(sys.argv[1]), sys.argv[2] == 'moving', int(sys.argv[3])
# Loaded for all to see; found by name as the hooks are: through the table of all objects.
ctypes.CDLL('libssl.so.3', mode=ctypes.RTLD_GLOBAL)
ssl = ctypes.CDLL(None)
for name in 'TLS_client_method', 'SSL_CTX_new', 'SSL_new':
    getattr(ssl, name).restype = ctypes.c_void_p
context = ctypes.c_void_p(ssl.SSL_CTX_new(ctypes.c_void_p(ssl.TLS_client_method())))
if moving:
    ssl.SSL_CTX_ctrl(context, MODE, ctypes.c_long(MOVING), None)
session = ctypes.c_void_p(ssl.SSL_new(context))
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
sock.connect(('localhost', port))
sock.setblocking(False)
ssl.SSL_set_fd(session, sock.fileno())


def repeated(call):
    """Makes the call until OpenSSL is content; how often."""
    times = 0
    while True:
        times += 1
        rc = call()
        if rc > 0:
            return rc, times
        error = ssl.SSL_get_error(session, rc)
        if error == WANT_WRITE:
            select.select([], [sock], [])
        elif error == WANT_READ:
            select.select([sock], [], [])
        else:
            sys.exit(f'SSL_get_error: {error}, errno {os.strerror(ctypes.get_errno())}')


repeated(lambda: ssl.SSL_connect(session))
body = bytes(range(256)) * 4096
request = (b'POST /200 HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: %d\r\n\r\n'
           % (port, len(body)) + body)
kept = ctypes.create_string_buffer(request, len(request))
calls = 0
for _ in range(n_requests):
    rc, times = repeated(lambda: ssl.SSL_write(
        session, ctypes.create_string_buffer(request, len(request)) if moving else kept,
        len(request)))
    answer, part = b'', ctypes.create_string_buffer(65536)
    while not answer.endswith(b'from the web\n'):
        n, _ = repeated(lambda: ssl.SSL_read(session, part, len(part)))
        answer += part.raw[:n]
    if rc != len(request):
        sys.exit(f'wrote {rc} of {len(request)}')
    calls += times
    print(answer[:12])
if calls < 2 * n_requests:
    sys.exit(f'{n_requests} requests in {calls} calls: none of them had to wait')
