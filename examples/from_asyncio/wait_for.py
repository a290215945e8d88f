"""The time limit of one who waits cancels what the others wait for."""

import asyncio


async def fetch():
    await asyncio.sleep(5)
    return "the page"


async def client(name, page, patience):
    try:
        return name, await asyncio.wait_for(page, patience)
    except TimeoutError:
        return name, "gives up"
    except asyncio.CancelledError:
        return name, "cancelled, by whom?"


async def main():
    page = asyncio.create_task(fetch())
    clients = client("hurried", page, 1), client("patient", page, 60)
    for result in await asyncio.gather(*clients):
        print(*result, sep=": ")


asyncio.run(main())
