"""A child that ends with CancelledError counts as well, whatever it was to do."""

import asyncio


async def connect():
    await asyncio.sleep(60)


async def upload(name, connection):
    await connection
    print(f"{name}: uploaded")


async def main():
    connection = asyncio.create_task(connect())
    await asyncio.sleep(1)
    connection.cancel()  # somebody elsewhere had enough of it
    async with asyncio.TaskGroup() as group:
        group.create_task(upload("photo", connection))
    print("main: the upload has ended, and the group reports no error")


asyncio.run(main())
