# SPDX-License-Identifier: Apache-2.0
"""Uses demo/traced.py: DEMO URL. What it prints does not depend on the shim."""
import asyncio
import http.client
import sys
import urllib.parse

sys.path.insert(0, sys.argv[1])
from traced import traced  # pylint: disable=wrong-import-position

to = urllib.parse.urlsplit(sys.argv[2])


def get(path):
    link = http.client.HTTPConnection(to.netloc)
    link.request('GET', path)
    link.getresponse().read()
    link.close()


@traced('inner', attempt=2)
def inner():
    """Its own."""
    get('/inner')
    return 7


@traced('outer')
def outer(value):
    get('/before')
    found = inner() + value
    get('/after')
    return found


@traced('fails')
def fails():
    raise ValueError('as it should')


@traced('coroutine')
async def coroutine():
    return 3


print(outer(1), inner.__doc__, inner.__name__)
try:
    fails()
except ValueError as error:
    print(error)
with traced('block'):
    get('/block')
print(asyncio.run(coroutine()))
get('/outside')
