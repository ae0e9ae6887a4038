# SPDX-License-Identifier: Apache-2.0
"""A server on Python's event loop with aiohttp: CALLEE. GET /MODE/N calls CALLEE/MODE/N, in one
of the ways below, and answers. Tells its port on standard output.
"""
import asyncio
import sys

import aiohttp
from aiohttp import web

callee = sys.argv[1]
tasks = set()


async def call(path, fresh=False):
    if fresh:
        async with aiohttp.ClientSession() as own, own.get(callee + path) as reply:
            await reply.read()
    else:
        async with kept.get(callee + path) as reply:
            await reply.read()


def later(coroutine):
    task = asyncio.ensure_future(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def timer(path):
    await asyncio.sleep(0.007)
    await call(path)


async def chain(path):
    await call(path + '/1')
    await call(path + '/2')


async def slowly(path):
    await call(path + '/1')
    await asyncio.sleep(0.011)
    await call(path + '/2', fresh=True)


async def fanout(path):
    await asyncio.gather(*(call(f'{path}/{i}') for i in range(4)))


async def thread(path):
    """A hop to a thread of the loop's pool and back."""
    await asyncio.get_running_loop().run_in_executor(None, sum, range(1000))
    await call(path)


async def forgotten(path):
    later(call(path))
    later(timer(path + '/late'))


MODES = {'direct': lambda path: call(path, fresh=True), 'kept': call, 'timer': timer,
         'chain': chain, 'slowly': slowly, 'fanout': fanout, 'thread': thread,
         'forgotten': forgotten}


async def serve(request):
    await MODES[request.path.split('/')[1]](request.path)
    return web.Response(text='ok\n')


async def beat():
    """A beat of its own, for nobody's request."""
    count = 0
    while True:
        await asyncio.sleep(0.005)
        await call(f'/beat/{count}', fresh=count % 2)
        count += 1


async def main():
    global kept
    kept = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8))
    app = web.Application()
    app.router.add_get('/{rest:.*}', serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0, backlog=512)
    await site.start()
    later(beat())
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
