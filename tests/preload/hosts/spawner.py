# SPDX-License-Identifier: Apache-2.0
"""Runs programs, by vfork, while a connection is open; then the peer hangs up without a word.

Prints the errno of the connect that follows two such calls: the breaker counted both.
"""
import socket
import subprocess
import sys

server = socket.create_server(('127.0.0.1', 0))
for _ in range(2):
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    subprocess.run(['/bin/true'], close_fds=True, check=True)
    subprocess.run(['/bin/true'], close_fds=True, check=True, stdin=client)
    peer.close()
    assert client.recv(1) == b''
    client.close()
try:
    socket.create_connection(server.getsockname()).close()
    print(0)
except OSError as error:
    print(error.errno)
sys.exit(0)
