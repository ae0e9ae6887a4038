# SPDX-License-Identifier: Apache-2.0
"""Servers that do one thing at a time in each thread or process: KIND CALLEE. GET /N calls
CALLEE/N with urllib and answers with what that said.

fork      a process for each connection
single    one thread for all
handed    one thread accepts, others of a pool serve what they are handed
polled    one thread waits for all kept connections, those of a pool read and serve what is ready
executor  one thread reads the requests and makes a call for each, a pool that grows makes two more
          in two jobs

Tells its port on standard output.
"""
import concurrent.futures
import http.server
import queue
import selectors
import socket
import socketserver
import sys
import threading
import urllib.request

kind, callee = sys.argv[1], sys.argv[2]
HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n'


def call(path):
    with urllib.request.urlopen(callee + path) as reply:
        return reply.read()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        body = call(self.path)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        if kind != 'polled':
            self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Forking(socketserver.ForkingMixIn, http.server.HTTPServer):
    request_queue_size = 128
    max_children = 64


class Single(http.server.HTTPServer):
    request_queue_size = 128


class Handed(Single):
    """Threads that were there before the connections that they are handed."""

    def serve_forever(self, *_):
        jobs = queue.Queue()

        def work():
            while job := jobs.get():
                self.finish_request(*job)
                self.shutdown_request(job[0])

        for _ in range(16):
            threading.Thread(target=work, daemon=True).start()
        while True:
            jobs.put(self.get_request())


class Kept(Handler):
    """Handles a request each time that it is asked to."""

    def handle(self):
        pass

    def finish(self):
        pass


def polled(listener):
    """As gunicorn's threads: who waits is not who reads."""
    ready, waiting = queue.SimpleQueue(), selectors.DefaultSelector()
    wake, woken = socket.socketpair()

    def serve(handler):
        handler.close_connection = True
        handler.handle_one_request()
        if handler.close_connection:
            handler.connection.close()
        else:
            ready.put(handler)
            wake.send(b'1')

    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(woken, selectors.EVENT_READ)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        while True:
            for key, _ in waiting.select():
                if key.fileobj is listener:
                    link, where = listener.accept()
                    waiting.register(link, selectors.EVENT_READ, Kept(link, where, None))
                elif key.fileobj is woken:
                    for _ in woken.recv(4096):
                        handler = ready.get()
                        waiting.register(handler.connection, selectors.EVENT_READ, handler)
                else:
                    waiting.unregister(key.fileobj)
                    pool.submit(serve, key.data)


def executor(listener):
    """The thread that reads is not the one that answers; threads come when jobs do."""
    def first(link, path):
        call(path + '/1')
        pool.submit(second, link, path)

    def second(link, path):
        call(path + '/2')
        with link:
            link.sendall(HEAD.encode())

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        while True:
            link, _ = listener.accept()
            head = b''
            while b'\r\n\r\n' not in head:
                head += link.recv(65536)
            path = head.split(b' ')[1].decode()
            pool.submit(first, link, path)
            call(path + '/0')


if kind in ('executor', 'polled'):
    server = socket.create_server(('127.0.0.1', 0), backlog=128)
    print(server.getsockname()[1], flush=True)
    {'executor': executor, 'polled': polled}[kind](server)
else:
    server = {'fork': Forking, 'single': Single, 'handed': Handed}[kind](('127.0.0.1', 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
