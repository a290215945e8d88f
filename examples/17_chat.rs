//! A chat: what one client says, all others hear. Whoever does not listen is thrown out, and holds up nobody.
//!
//! In asyncio, `writer.write` to a client that does not read fills the memory; with `await writer.drain()`, that client
//! holds up all others; and the tasks of connections that broke are left over, with an exception that nobody has
//! retrieved. Here each client has a bounded outbox, and a nursery for the task that empties it. Try it: run it
//! with `127.0.0.1:8080`, call `nc 127.0.0.1 8080` a few times, and press Ctrl-C in the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use nursery::{CancelScope, checkpoint, open_nursery};
use nursery_examples::say;
use nursery_io::channel::{self, Receiver, Sender};
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::signal::cancel_on_ctrl_c;
use nursery_io::stream::{BufferedReceive, HalfClose, Listener, ReceiveStream, SendStream};

// ANCHOR: body
/// How many lines a client may be behind.
pub(crate) const BACKLOG: usize = 32;
/// How long somebody who is going may take to receive what is still in the outbox.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How many bytes a line may have.
const LINE: usize = 4096;

/// Somebody in the room.
struct Member {
    name: String,
    outbox: Sender<Rc<str>>,
    /// In which lines are received: cancelled, the member is not listened to any more.
    listening: CancelScope,
}

impl Member {
    /// The last place in the outbox is for the farewell.
    fn is_too_slow(&self) -> bool {
        self.outbox.statistics().current_buffer_used >= BACKLOG
    }

    /// Never waits. Who is on the way out, and hears nothing, does not mind.
    fn hear(&self, line: &str) {
        let _ = self.outbox.try_send(line.into());
    }
}

#[derive(Default)]
struct Room {
    members: RefCell<BTreeMap<usize, Rc<Member>>>,
    next_id: Cell<usize>,
}

impl Room {
    /// `None` if the name is taken.
    fn enter(&self, name: &str, listening: &CancelScope) -> Option<(usize, Receiver<Rc<str>>)> {
        if self.members.borrow().values().any(|member| member.name == name) {
            return None;
        }
        let (outbox, inbox) = channel::open(BACKLOG + 1);
        let member = Member { name: name.to_owned(), outbox, listening: listening.clone() };
        member.hear(&format!("* welcome, {name}\n"));
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.members.borrow_mut().insert(id, Rc::new(member));
        self.tell_all_but(id, &format!("* {name} is here\n"));
        Some((id, inbox))
    }

    /// Does nothing if the member has been thrown out.
    fn leave(&self, id: usize) {
        let member = self.members.borrow_mut().remove(&id);
        if let Some(member) = member {
            self.tell_all_but(id, &format!("* {} has left\n", member.name));
        }
    }

    fn tell_all_but(&self, id: usize, line: &str) {
        let mut others = self.members.borrow().clone();
        others.remove(&id);
        let (slow, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, member)| member.is_too_slow());
        others.iter().for_each(|(_, member)| member.hear(line));
        slow.iter().for_each(|(id, _)| self.throw_out(*id));
    }

    fn throw_out(&self, id: usize) {
        let Some(member) = self.members.borrow_mut().remove(&id) else { return };
        member.hear("* you are too slow: goodbye\n");
        member.listening.cancel();
        self.tell_all_but(id, &format!("* {} was too slow\n", member.name));
    }
}

/// Tells the room what a member says, until the end of the stream.
async fn listen<S: ReceiveStream>(
    lines: &mut BufferedReceive<&S>,
    room: &Room,
    (id, name): (usize, &str),
) -> anyhow::Result<()> {
    while let Some(line) = lines.read_line(LINE).await? {
        room.tell_all_but(id, &format!("{name}: {line}\n"));
        checkpoint().await?; // many lines may arrive at once: the others need time to send them on
    }
    Ok(())
}

/// Sends what is in the outbox, until the room lets go of its other end.
async fn deliver(inbox: Receiver<Rc<str>>, stream: &impl SendStream) -> anyhow::Result<()> {
    while let Some(line) = inbox.next().await? {
        let mut lines = line.to_string();
        while let Ok(line) = inbox.try_recv() {
            lines += &line;
        }
        stream.send_all(lines.as_bytes()).await?;
    }
    Ok(())
}

async fn connection<S: SendStream + ReceiveStream>(stream: S, room: &Room) -> anyhow::Result<()> {
    stream.send_all(b"* your name?\n").await?;
    let mut lines = BufferedReceive::new(&stream);
    let Some(name) = lines.read_line(LINE).await? else { return Ok(()) };
    let listening = CancelScope::new();
    let Some((id, inbox)) = room.enter(&name, &listening) else {
        return Ok(stream.send_all(b"* this name is taken: goodbye\n").await?);
    };
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(deliver(inbox, &stream));
        let listened = listening.enter(listen(&mut lines, room, (id, &name))).await;
        room.leave(id); // also if that has failed, or was cancelled
        n.cancel_scope().set_timeout(GRACE);
        listened.map(drop)
    })
    .await
}

/// Serves until it is cancelled.
pub(crate) async fn serve_chat<L>(listener: L) -> anyhow::Result<()>
where
    L: Listener<Stream: SendStream + ReceiveStream>,
{
    let room = Room::default();
    serve_listeners([listener], async |stream| connection(stream, &room).await).await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    let Some(address) = env::args().nth(1) else { return demo().await };
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
    say!("chatting at {}", listener.local_addr()?);
    cancel_on_ctrl_c(serve_chat(listener)).await?;
    say!("stopped");
    Ok(())
}
// ANCHOR_END: body

/// What a client would do.
pub(crate) struct Client<S> {
    pub(crate) lines: BufferedReceive<S>,
}

impl<S: SendStream + ReceiveStream> Client<S> {
    /// Says its name, and hears the welcome.
    pub(crate) async fn enter(stream: S, name: &str) -> anyhow::Result<Client<S>> {
        let mut client = Client { lines: BufferedReceive::new(stream) };
        client.hear().await?;
        client.tell(name).await?;
        say!("{name} hears: {}", client.hear().await?);
        Ok(client)
    }

    pub(crate) async fn tell(&self, line: &str) -> anyhow::Result<()> {
        Ok(self.lines.get_ref().send_all(format!("{line}\n").as_bytes()).await?)
    }

    pub(crate) async fn hear(&mut self) -> anyhow::Result<String> {
        self.lines.read_line(2 * LINE).await?.context("the server has had enough")
    }
}

/// Three clients, of whom Carol stops listening.
pub(crate) async fn demo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = listener.local_addr()?;
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(serve_chat(listener));
        let mut alice = Client::enter(TcpStream::connect(address).await?, "alice").await?;
        let mut bob = Client::enter(TcpStream::connect(address).await?, "bob").await?;
        say!("alice hears: {}", alice.hear().await?);
        let mut carol = Client::enter(TcpStream::connect(address).await?, "carol").await?;
        say!("alice hears: {}", alice.hear().await?);
        say!("bob hears: {}", bob.hear().await?);

        alice.tell("hello").await?;
        say!("bob hears: {}", bob.hear().await?);
        say!("carol hears: {}", carol.hear().await?);

        say!("(alice talks and talks, and carol does not listen)");
        let talk = "bla".repeat(1000);
        let news = loop {
            alice.tell(&talk).await?;
            let line = bob.hear().await?;
            if line.starts_with('*') {
                break line;
            }
        };
        say!("bob hears: {news}");
        say!("alice hears: {}", alice.hear().await?);
        let mut last = String::new();
        while let Ok(line) = carol.hear().await {
            last = line;
        }
        say!("carol hears, in the end: {last}");

        bob.lines.get_ref().send_eof().await?;
        say!("alice hears: {}", alice.hear().await?);
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}
