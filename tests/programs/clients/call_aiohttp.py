# SPDX-License-Identifier: Apache-2.0
"""Calls a peer with aiohttp on one event loop: HOST:PORT GIVEUP_MS one|loop."""
import asyncio
import sys
import time

import aiohttp

peer, giveup, mode = sys.argv[1], float(sys.argv[2]) / 1000, sys.argv[3]


async def told(session):
    try:
        async with session.get(f'http://{peer}/') as reply:
            return True, f'ok {(await reply.text()).strip()}'
    except Exception as e:  # any failure of the library is the answer
        return False, f'error {type(e).__name__}: {e}'


async def main():
    timeout = aiohttp.ClientTimeout(total=giveup)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        if mode == 'one':
            fine, text = await told(session)
            print(text)
            return 0 if fine else 1
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            began = time.monotonic()
            _, text = await told(session)
            print(f'{(time.monotonic() - began) * 1000:.3f} {text}', flush=True)
    return 0


sys.exit(asyncio.run(main()))
