# SPDX-License-Identifier: Apache-2.0
"""@traced('operation') or `with traced('operation', key='value'):` under agentshim; else nothing.

Coroutines are left alone: while one waits, other tasks run, and their calls are none of its.
"""
import contextlib
import ctypes
import inspect

_shim = ctypes.PyDLL(None)  # its functions never block: the interpreter's lock is kept
_live = hasattr(_shim, 'agentshim_span_begin')

class traced(contextlib.ContextDecorator):
    def __init__(self, name, **tags):
        self.name, self.tags = name, tags

    def __call__(self, function):
        return function if inspect.iscoroutinefunction(function) else super().__call__(function)

    def __enter__(self):
        if _live:
            _shim.agentshim_span_begin(self.name.encode())
            for key, value in self.tags.items():
                _shim.agentshim_span_tag(key.encode(), str(value).encode())

    def __exit__(self, kind, value, trace):
        if _live and kind:
            _shim.agentshim_span_tag(b'exception.type', kind.__name__.encode())
        if _live:
            _shim.agentshim_span_end()
