"""cancel() asks. Whoever goes on at once overtakes the clean-up."""

import asyncio
import sqlite3


async def worker(db):
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(1)  # says goodbye to its peer
        try:
            db.execute("insert into orders values ('the last one')")
        except sqlite3.Error as error:
            print("worker: cannot save:", error)


async def main():
    db = sqlite3.connect(":memory:")
    db.execute("create table orders (name)")
    task = asyncio.create_task(worker(db))
    await asyncio.sleep(1)
    task.cancel()
    print("main: has cancelled the worker, and closes the database")
    db.close()
    await asyncio.sleep(5)  # other things to end


asyncio.run(main())
