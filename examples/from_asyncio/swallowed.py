"""A cancellation comes once. Swallow it, and it never was."""

import asyncio
import os


async def request():
    await asyncio.sleep(2)


async def worker():
    while True:
        try:
            await request()
        except:  # try again, whatever it was
            print("worker: failed, tries again")
        await asyncio.sleep(0.1)


async def main():
    task = asyncio.create_task(worker())
    await asyncio.sleep(1)
    task.cancel()
    _, running = await asyncio.wait([task], timeout=60)
    print("main: cancelled it long ago; still running:", len(running), flush=True)
    os._exit(1)  # without this, asyncio.run() waits for it, for ever


asyncio.run(main())
