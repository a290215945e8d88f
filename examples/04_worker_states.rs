//! A worker with states, and a `stop` that returns when the worker has stopped.
//!
//! In asyncio, this takes a flag, an event, a reference to the task and a `try` around everything, and still a worker
//! may be "stopped" while its task runs. Here the states follow the code. A job that has begun is finished (the shield);
//! waiting for the next one is given up at once; and after `cancel_and_join` the state cannot be anything but `Stopped`.

use std::cell::Cell;
use std::time::Duration;

use nursery::{finally, open_nursery, shield, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Running,
    Waiting,
    Cancelling,
    Stopped,
}

struct Worker {
    state: Cell<State>,
}

impl Worker {
    fn enter(&self, state: State) {
        say!("worker: {:?} -> {state:?}", self.state.replace(state));
    }

    async fn run(&self) -> anyhow::Result<()> {
        let jobs = async {
            loop {
                self.enter(State::Running);
                shield(sleep(2 * SECOND)).await?; // a job, never cut in half
                self.enter(State::Waiting);
                sleep(SECOND).await?; // for the next one
            }
        };
        let result = finally(jobs, 5 * SECOND, async || {
            self.enter(State::Cancelling);
            sleep(SECOND).await?; // hands its queue back
            Ok(())
        })
        .await;
        self.enter(State::Stopped);
        result
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let worker = Worker { state: Cell::new(State::Idle) };
    say!("main: it is {:?}", worker.state.get());
    open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(worker.run());
        sleep(4 * SECOND).await?;
        say!("main: it is {:?}; stop it", worker.state.get());
        task.cancel_and_join().await?;
        say!("main: it is {:?}", worker.state.get());
        Ok(())
    })
    .await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
