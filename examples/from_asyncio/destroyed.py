"""A task that only the loop knows, weakly, is collected as garbage."""

import asyncio
import gc
import sys


async def subscriber():
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        print("subscriber: says goodbye")
        await asyncio.sleep(0)
        print("subscriber: has said goodbye")


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: print("loop:", context["message"]))
    asyncio.create_task(subscriber())  # nobody keeps it
    await asyncio.sleep(0)
    gc.collect()
    print("main: goes on")


sys.unraisablehook = lambda failure: print("python:", failure.exc_value)
asyncio.run(main())
