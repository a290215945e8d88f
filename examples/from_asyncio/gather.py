"""gather() raises the first error, and leaves the others to themselves."""

import asyncio


async def fetch(page, seconds):
    await asyncio.sleep(seconds)
    if page == "typo":
        raise ValueError("no such page")
    print(f"fetch: has stored {page}")
    return len(page)


async def main():
    try:
        await asyncio.gather(fetch("typo", 1), fetch("news", 2))
    except ValueError as error:
        print("main:", error, "- cleans up the store")
    await asyncio.sleep(3)

    results = await asyncio.gather(
        fetch("typo", 1), fetch("news", 2), return_exceptions=True
    )
    print("main:", sum(result for result in results), "bytes")


try:
    asyncio.run(main())
except TypeError as error:
    print("TypeError:", error)
