"""Ctrl-C ends main first, with its clean-up, and then the tasks that need what main has."""

import asyncio
import signal
import sqlite3


async def worker(db):
    try:
        await asyncio.sleep(60)
    finally:
        try:
            db.execute("insert into orders values ('the last one')")
        except sqlite3.Error as error:
            print("worker: cannot save:", error)


async def main():
    db = sqlite3.connect(":memory:")
    db.execute("create table orders (name)")
    worker_task = asyncio.create_task(worker(db))
    try:
        await asyncio.sleep(1)
        signal.raise_signal(signal.SIGINT)  # somebody presses Ctrl-C
        await asyncio.sleep(60)
    finally:
        print("main: closes the database")
        db.close()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
