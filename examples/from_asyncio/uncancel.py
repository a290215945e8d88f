"""A cancellation that was handled without uncancel() counts for ever."""

import asyncio


async def worker():
    await asyncio.sleep(60)


async def stop(task):
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():
            raise  # it is me who is cancelled: so one does it since 3.11


async def server():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("server: cancelled; takes a break, and goes on")  # as one did before 3.11
    task = asyncio.create_task(worker())
    await asyncio.sleep(1)
    await stop(task)
    print("server: has stopped the worker")


async def main():
    task = asyncio.create_task(server())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    print("main: the server was cancelled", "once more" if task.cancelled() else "once")


asyncio.run(main())
