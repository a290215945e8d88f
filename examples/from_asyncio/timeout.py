"""TimeoutError is everybody's: the limit's, the socket's, the library's."""

import asyncio


async def connect():
    raise TimeoutError("the router does not answer")  # as the system says it: ETIMEDOUT


async def main():
    try:
        async with asyncio.timeout(3600):
            await connect()
    except TimeoutError:
        print("main: an hour is over")


asyncio.run(main())
