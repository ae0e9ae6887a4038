# SPDX-License-Identifier: Apache-2.0
"""A gRPC server that answers with the traceparents it was sent, and with what it was asked.

Messages are bytes; nothing is generated. A request may begin with the name of a status, which
the call is to end with, or with HANG.
"""

import sys
import threading
from concurrent import futures

import grpc

counted = threading.Lock()
seen = 0
stop = threading.Event()


def fields(context):
    """All values of the fields that we add, in the order that they came."""
    return b','.join(value.encode() for name, value in context.invocation_metadata()
                     if name in ('traceparent', 'b3'))


def unary(request, context):
    global seen             # pylint: disable=global-statement
    with counted:
        seen += 1
        now = seen
    if request == b'SEEN':
        return str(now).encode()
    if request == b'HANG':
        stop.wait(30)
    for status in grpc.StatusCode:
        if request == status.name.encode() and status != grpc.StatusCode.OK:
            context.abort(status, 'as you wish')
    return fields(context) + b'|' + request


def stream_out(request, context):
    for _ in range(int(request)):
        yield fields(context)


def stream_in(requests, context):
    return fields(context) + b'|%d' % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield fields(context) + b'|' + request


handlers = grpc.method_handlers_generic_handler('test.Echo', {
    'Unary': grpc.unary_unary_rpc_method_handler(unary),
    'Out': grpc.unary_stream_rpc_method_handler(stream_out),
    'In': grpc.stream_unary_rpc_method_handler(stream_in),
    'Both': grpc.stream_stream_rpc_method_handler(both),
})
server = grpc.server(futures.ThreadPoolExecutor(128),
                     options=[('grpc.max_receive_message_length', -1), ('grpc.so_reuseport', 0)])
server.add_generic_rpc_handlers((handlers,))
if server.add_insecure_port(f'127.0.0.1:{sys.argv[1]}') == 0:
    sys.exit('the port is taken')
server.start()
server.wait_for_termination()
