"""Debug mode sees a callback that is slow. It does not see two tasks that wait for each other."""

import asyncio


async def transfer(here, there):
    async with here:
        await asyncio.sleep(0)
        async with there:
            print("transferred")


async def main():
    ann, bob = asyncio.Lock(), asyncio.Lock()
    tasks = [
        asyncio.create_task(transfer(ann, bob)),
        asyncio.create_task(transfer(bob, ann)),
    ]
    _, pending = await asyncio.wait(tasks, timeout=60)
    print("main: tasks that hang:", len(pending))


asyncio.run(main(), debug=True)
