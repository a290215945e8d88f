//! Nurseries, and the children that are spawned into any of them that is open.

use std::rc::Rc;

use nursery::{Nursery, NurseryHandle, TaskStatus, open_nursery};
use serde_json::{Value, json};

use super::{Interp, Result, Status, Task};
use crate::failure::Failure;
use crate::program::{Block, Spawn};

impl Interp {
    pub(super) async fn nursery(self: &Rc<Self>, me: &Task, id: &str, body: &Block) -> Result {
        let mut scope = None;
        let result = open_nursery(async |n: &Nursery<'_, '_, Failure>| {
            self.nurseries.borrow_mut().insert(id.to_owned(), n.handle());
            self.bind_scope(id, n.cancel_scope());
            scope = Some(n.cancel_scope().clone());
            self.block(me, body).await
        })
        .or_none()
        .await;
        if let Some(scope) = scope {
            self.log_scope(me, "nursery_exit", id, &scope);
        }
        result.map(drop)
    }

    fn open_nursery_called(&self, id: &str) -> Result<NurseryHandle<Failure>> {
        let nursery = self.nurseries.borrow().get(id).cloned().ok_or_else(Failure::unbound)?;
        // A failed attempt uses no task name up.
        if nursery.is_closed() { Err(nursery_closed()) } else { Ok(nursery) }
    }

    pub(super) fn spawn(self: &Rc<Self>, spawn: &Spawn) -> Result {
        let nursery = self.open_nursery_called(&spawn.nursery)?;
        let (interp, child, body) = (self.clone(), self.add_task(&spawn.task), spawn.body.clone());
        let name = child.name.clone();
        let child = nursery
            .start_soon(async move { interp.task(&child, &body).await })
            .map_err(|_| nursery_closed())?;
        child.set_name(name);
        Ok(())
    }

    pub(super) async fn start(self: &Rc<Self>, me: &Task, spawn: &Spawn) -> Result {
        let nursery = self.open_nursery_called(&spawn.nursery)?;
        let (interp, child, body) = (self.clone(), self.add_task(&spawn.task), spawn.body.clone());
        let name = child.name.clone();
        let run = async move |status: TaskStatus<Value>| {
            child.status.replace(Status::Present(status));
            interp.task(&child, &body).await?;
            match *child.status.borrow() {
                Status::Used => Ok(()),
                _ => Err(Failure::named("NotStarted")),
            }
        };
        let value = nursery.start(run).await.map_err(|_| nursery_closed())??;
        self.log(me, "start", json!({ "child": name, "value": value }));
        Ok(())
    }

    /// Says that `me`, or the task called `task`, has started.
    pub(super) fn started(&self, me: &Task, value: &Value, task: Option<&str>) -> Result {
        let other = match task {
            Some(name) => {
                Some(self.tasks.borrow().get(name).cloned().ok_or_else(Failure::unbound)?)
            }
            None => None,
        };
        let status = &other.as_deref().unwrap_or(me).status;
        if matches!(*status.borrow(), Status::Absent) {
            return Ok(()); // it was merely spawned
        }
        match status.replace(Status::Used) {
            Status::Present(status) => status.started(value.clone()),
            _ => return Err(Failure::named("StartedTwice")),
        }
        Ok(())
    }
}

fn nursery_closed() -> Failure {
    Failure::named("NurseryClosed")
}
