"""To wait for the end of a task one catches CancelledError. Whose is it?"""

import asyncio


async def worker():
    try:
        await asyncio.sleep(60)
    finally:
        print("worker: cleans up")
        await asyncio.sleep(5)
        print("worker: has cleaned up")


async def stop(task):
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass  # the worker's, of course


async def main():
    task = asyncio.create_task(worker())
    await asyncio.sleep(1)
    try:
        async with asyncio.timeout(1):
            await stop(task)
            print("main: stopped in time")
    except TimeoutError:
        print("main: too slow")


asyncio.run(main())
