# SPDX-License-Identifier: Apache-2.0
"""A name with several addresses of which only the last has a listener: a healthy peer."""

import ctypes
import sys

from harness import CLONE_NEWNS, Peer, Place, Skip, Tap, check, equal, is_root

MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000

# One program, twenty threads: the failures on the first address come in a row. The listener
# is on the address that getaddrinfo(3) puts last (RFC 6724, rule 9).
CROWD = """
import socket, threading
listener = socket.create_server(('127.0.0.2', 0), backlog=64)
port = listener.getsockname()[1]
def serve():
    while True:
        s = listener.accept()[0]
        s.recv(1)
        s.sendall(b'x')
        s.close()
threading.Thread(target=serve, daemon=True).start()
start = threading.Barrier(20)
heard = []
def call():
    start.wait()
    s = socket.create_connection(('two.test', port), timeout=20)
    s.sendall(b'x')
    heard.append(s.recv(1))
threads = [threading.Thread(target=call) for _ in range(20)]
for t in threads: t.start()
for t in threads: t.join()
print(port, len(heard))
"""

# A program that never goes on to the second address.
STUBBORN = """
import socket, sys
for _ in range(20):
    first = socket.getaddrinfo('two.test', int(sys.argv[1]), type=socket.SOCK_STREAM)[0]
    s = socket.socket()
    try:
        s.connect(first[4])
    except OSError as e:
        print(e.errno)
    s.close()
"""


def own_hosts(place, text):
    """Gives this process and its children an /etc/hosts of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    hosts = place.file('hosts', text)
    if not is_root() or libc.unshare(CLONE_NEWNS) != 0:
        raise Skip('capability missing (namespaces)')
    for source, target, flags in ((b'none', b'/', MS_REC | MS_PRIVATE),
                                  (hosts.encode(), b'/etc/hosts', MS_BIND)):
        if libc.mount(source, target, None, flags, None) != 0:
            raise Skip('capability missing (namespaces)')


def main():
    tap = Tap()
    with Place() as hosts:
        text = '127.0.0.2 two.test\n127.0.0.1 two.test\n127.0.0.1 localhost\n'
        refused_to_all = None
        try:
            own_hosts(hosts, text)
        except Skip as reason:
            refused_to_all = reason
        with tap.case('calls that reach the second address leave the breaker closed'):
            if refused_to_all:
                raise refused_to_all
            with Place() as place:
                done = place.run(['/usr/bin/python3', place.file('crowd.py', CROWD)])
                port, answered = done.out.split()
                equal(answered, '20', f'calls answered ({done.err})')
                breaker = place.breaker(f'two.test:{port}')
                equal(breaker['state'], 'closed', 'state')
                equal(breaker['totals']['failures'], 0, 'failures')
                # More than would have opened it; not all, for calls of a process's first
                # milliseconds may go unguarded while its files are made.
                check(breaker['totals']['exclusions'] > 5, breaker)
        with tap.case('calls that end with the first address count after a while'):
            if refused_to_all:
                raise refused_to_all
            with Peer('refusing') as peer, Place() as place:
                place.run(['/usr/bin/python3', place.file('stubborn.py', STUBBORN), str(peer.port)])
                equal(place.state_of(f'two.test:{peer.port}'), 'open', 'state')
        with tap.case('when no address answers, each call is one failure'):
            if refused_to_all:
                raise refused_to_all
            with Peer('refusing') as peer, Place() as place:
                for _ in range(5):
                    place.run(['/usr/bin/curl', '-s', f'http://two.test:{peer.port}/'])
                breaker = place.breaker(f'two.test:{peer.port}')
                equal(breaker['state'], 'open', 'state')
                equal(breaker['totals']['failures'], 5, 'failures')
    return tap.done()


if __name__ == '__main__':
    sys.exit(main())
