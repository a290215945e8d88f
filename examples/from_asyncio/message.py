"""The message of cancel() does not cross a task group."""

import asyncio


async def child():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        print("child: cancelled because of", error.args)
        raise


async def server():
    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def main():
    task = asyncio.create_task(server())
    await asyncio.sleep(1)
    task.cancel("the disk is full")
    await asyncio.wait([task])


asyncio.run(main())
