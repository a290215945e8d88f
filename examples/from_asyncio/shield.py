"""shield() lets the caller go. Nobody waits for what is shielded."""

import asyncio


async def pay():
    print("bank: takes the money from one account")
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        print("bank: cancelled half-way")
        raise
    print("bank: adds it to the other")


async def main():
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(pay())
    except TimeoutError:
        print("shop: the buyer has gone, we close")


asyncio.run(main())
