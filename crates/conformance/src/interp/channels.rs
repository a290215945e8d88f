//! Channels: values are sent by name of the handle, and every handle stays until it is closed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use nursery_io::channel::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError,
};
use serde_json::{Value, json};

use super::{Counter, Interp, Result, Task};
use crate::failure::Failure;
use crate::program::{Block, Payload, Program};

/// Handles by name. The last one of a name is meant; those that lost their name stay open.
struct Handles<T>(RefCell<BTreeMap<String, Vec<Rc<T>>>>);

impl<T> Handles<T> {
    fn get(&self, name: &str) -> Result<Rc<T>> {
        let handles = self.0.borrow();
        handles.get(name).and_then(|handles| handles.last()).cloned().ok_or_else(Failure::unbound)
    }

    fn add(&self, name: &str, handle: T) {
        self.0.borrow_mut().entry(name.to_owned()).or_default().push(Rc::new(handle));
    }
}

pub(super) struct Channels {
    senders: Handles<Sender<Value>>,
    receivers: Handles<Receiver<Value>>,
}

impl Channels {
    pub(super) fn new(program: &Program) -> Self {
        let channels = Channels {
            senders: Handles(RefCell::default()),
            receivers: Handles(RefCell::default()),
        };
        for (name, spec) in &program.channels {
            let (tx, rx) = channel::open(spec.buffer.finite().unwrap_or(channel::UNBOUNDED));
            channels.senders.add(name, tx);
            channels.receivers.add(name, rx);
        }
        channels
    }

    pub(super) fn sender(&self, name: &str) -> Result<Rc<Sender<Value>>> {
        self.senders.get(name)
    }

    pub(super) fn receiver(&self, name: &str) -> Result<Rc<Receiver<Value>>> {
        self.receivers.get(name)
    }

    pub(super) fn clone_sender(&self, name: &str, copy: &str) -> Result {
        let sender = self.sender(name)?;
        if sender.is_closed() {
            return Err(closed());
        }
        self.senders.add(copy, Sender::clone(&sender));
        Ok(())
    }

    pub(super) fn clone_receiver(&self, name: &str, copy: &str) -> Result {
        let receiver = self.receiver(name)?;
        if receiver.is_closed() {
            return Err(closed());
        }
        self.receivers.add(copy, Receiver::clone(&receiver));
        Ok(())
    }
}

impl Interp {
    fn payload(&self, value: &Payload) -> Value {
        match value {
            Payload::Next { next } => json!(self.count(Counter::Next, next) - 1),
            Payload::Literal(value) => value.clone(),
        }
    }

    fn log_value(&self, me: &Task, event: &str, name: &str, value: &Value) {
        self.log(me, event, json!({ "ch": name, "value": value }));
    }

    pub(super) async fn send(&self, me: &Task, name: &str, value: &Payload) -> Result {
        let value = self.payload(value);
        self.channels.sender(name)?.send(value.clone()).await?;
        self.log_value(me, "sent", name, &value);
        Ok(())
    }

    pub(super) fn send_nowait(&self, me: &Task, name: &str, value: &Payload) -> Result {
        let value = self.payload(value);
        self.channels.sender(name)?.try_send(value.clone())?;
        self.log_value(me, "sent", name, &value);
        Ok(())
    }

    pub(super) async fn recv(&self, me: &Task, name: &str) -> Result {
        let value = self.channels.receiver(name)?.recv().await?;
        self.log_value(me, "recv", name, &value);
        Ok(())
    }

    pub(super) fn recv_nowait(&self, me: &Task, name: &str) -> Result {
        let value = self.channels.receiver(name)?.try_recv()?;
        self.log_value(me, "recv", name, &value);
        Ok(())
    }

    pub(super) async fn for_each(self: &Rc<Self>, me: &Task, name: &str, body: &Block) -> Result {
        let receiver = self.channels.receiver(name)?;
        loop {
            self.count_step();
            let value = match receiver.recv().await {
                Err(RecvError::EndOfChannel) => return Ok(()),
                received => received?,
            };
            self.log_value(me, "recv", name, &value);
            self.block(me, body).await?;
        }
    }

    pub(super) fn log_channel(&self, me: &Task, name: &str) -> Result {
        let channel = match self.channels.sender(name) {
            Ok(sender) => sender.statistics(),
            Err(_) => self.channels.receiver(name)?.statistics(),
        };
        let fields = json!({
            "ch": name,
            "buffered": channel.current_buffer_used,
            "senders": channel.open_senders,
            "receivers": channel.open_receivers,
            "sending": channel.tasks_waiting_send,
            "receiving": channel.tasks_waiting_recv,
        });
        self.log(me, "channel", fields);
        Ok(())
    }
}

fn closed() -> Failure {
    Failure::named("ClosedResource")
}

impl From<SendError<Value>> for Failure {
    fn from(error: SendError<Value>) -> Self {
        match error {
            SendError::Cancelled(cancelled, _) => cancelled.into(),
            SendError::Closed(_) => closed(),
            SendError::Broken(_) => Failure::named("BrokenResource"),
            other => Failure::Named(other.to_string()),
        }
    }
}

impl From<TrySendError<Value>> for Failure {
    fn from(error: TrySendError<Value>) -> Self {
        match error {
            TrySendError::WouldBlock(_) => Failure::named("WouldBlock"),
            TrySendError::Closed(_) => closed(),
            TrySendError::Broken(_) => Failure::named("BrokenResource"),
            other => Failure::Named(other.to_string()),
        }
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Cancelled(cancelled) => cancelled.into(),
            RecvError::Closed => closed(),
            RecvError::EndOfChannel => Failure::named("EndOfChannel"),
            other => Failure::Named(other.to_string()),
        }
    }
}

impl From<TryRecvError> for Failure {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::WouldBlock => Failure::named("WouldBlock"),
            TryRecvError::Closed => closed(),
            TryRecvError::EndOfChannel => Failure::named("EndOfChannel"),
            other => Failure::Named(other.to_string()),
        }
    }
}
