# SPDX-License-Identifier: Apache-2.0
"""Sends and takes bodies of all kinds, on one side of a connection:

    bodies.py serve                 tells its port on standard output, then
        GET /N, /chunked/N, /slow/N, /close/N   N bytes, which only N decides
        PUT, POST                               what it got: `N SHA256`
        GET /upgrade                            101, and then everything comes back
    bodies.py pipeline PORT N       N requests in one write, then all answers: their SHA256
    bodies.py trickle PORT N        N requests, a byte in each write
    bodies.py upload PORT N         N bytes in chunks that a generator makes, by requests
    bodies.py upgrade PORT N        N bytes to and fro after a 101, which look like requests
"""
import hashlib
import http.server
import random
import socket
import sys
import threading

LOOKALIKE = b'GET /not-a-request HTTP/1.1\r\nHost: x\r\n\r\n'


def body_of(count):
    return random.Random(count).randbytes(count)


def told(data):
    return f'{len(data)} {hashlib.sha256(data).hexdigest()}'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        way, _, count = self.path[1:].rpartition('/')
        if count == 'upgrade':
            return self.upgrade()
        body = body_of(int(count))
        self.send_response(200)
        if way == 'chunked':
            self.send_header('Transfer-Encoding', 'chunked')
        elif way == 'close':
            self.send_header('Connection', 'close')
        else:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if way == 'chunked':
            self.chunks(body)
        elif way == 'slow':
            for i in range(len(body)):
                self.wfile.write(body[i:i + 1])
                self.wfile.flush()
        else:
            self.wfile.write(body)
        return None

    def chunks(self, body):
        sizes = random.Random(1)
        while body:
            part, body = body[:(size := sizes.randint(1, 99999))], body[size:]
            self.wfile.write(f'{len(part):X};note="a;b"\r\n'.encode() + part + b'\r\n')
        self.wfile.write(b'0\r\nX-Trailer: GET / HTTP/1.1\r\n\r\n')

    def do_PUT(self):
        answer = told(self.chunked() if self.headers['Transfer-Encoding'] else
                      self.rfile.read(int(self.headers['Content-Length']))).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT

    def chunked(self):
        body = []
        while size := int(self.rfile.readline().split(b';')[0], 16):
            body.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() != b'\r\n':
            pass
        return b''.join(body)

    def handle_expect_100(self):
        told_to_go_on = super().handle_expect_100()
        self.wfile.flush()
        return told_to_go_on

    def upgrade(self):
        self.send_response(101)
        self.send_header('Connection', 'upgrade')
        self.send_header('Upgrade', 'websocket')
        self.end_headers()
        self.wfile.flush()
        while data := self.rfile.read1(65536):
            self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def request(i):
    body = body_of(i)
    return (f'POST /{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n').encode() + body


def all_of(sock):
    data = b''
    while more := sock.recv(262144):
        data += more
    return data


def main():
    if sys.argv[1] == 'serve':
        server = Server(('127.0.0.1', 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()
    port, count = int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[1] == 'upload':
        import requests
        body, sizes = body_of(count), random.Random(2)

        def parts():
            at = 0
            while at < count:
                size = sizes.randint(1, 99999)
                yield body[at:at + size]
                at += size
        print(requests.put(f'http://127.0.0.1:{port}/', data=parts(), timeout=60).text)
        return
    sock = socket.create_connection(('127.0.0.1', port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.argv[1] == 'pipeline':
        sock.sendall(b''.join(request(i) for i in range(count)))
    elif sys.argv[1] == 'trickle':
        for byte in b''.join(request(i) for i in range(count)):
            sock.send(bytes([byte]))
    else:
        sock.sendall(b'GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n'
                     b'Upgrade: websocket\r\n\r\n')
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            head += sock.recv(1)
        body = LOOKALIKE * 50 + body_of(count)
        sender = threading.Thread(target=sock.sendall, args=(body,))
        sender.start()
        got = b''
        while len(got) < len(body) and (more := sock.recv(262144)):
            got += more
        sender.join()
        print('same' if got == body else f'other: {told(got)}')
        return
    sock.shutdown(socket.SHUT_WR)
    print(told(all_of(sock)))


if __name__ == '__main__':
    main()
