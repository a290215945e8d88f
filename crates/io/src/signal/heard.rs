//! [`Heard`]: which signals somebody in this process listens for, and what the others do.
//!
//! A handler can be installed, but not taken away again: other libraries may have put theirs behind it. So when nobody
//! listens any more, ours does what the system would have done (`signal-hook` knows it), if that is what the signal did
//! before. If it was ignored, it stays ignored; if somebody else had a handler, that is called, as it always was.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_signal::Signal;
use signal_hook::flag::register_conditional_default;

/// Handlers belong to the process.
static LISTENED_FOR: Mutex<BTreeMap<Signal, Entry>> = Mutex::new(BTreeMap::new());

struct Entry {
    listeners: usize,
    /// What the signal does while this is true is what it does by default. `None` if that is not what it did before.
    is_default: Option<Arc<AtomicBool>>,
}

fn entries() -> MutexGuard<'static, BTreeMap<Signal, Entry>> {
    LISTENED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signals that have no effect of their own, because somebody listens for them. Until it is dropped.
#[derive(Debug)]
pub(crate) struct Heard(BTreeSet<Signal>);

impl Heard {
    /// `install` makes a listener, whose handlers are there when it returns.
    pub(crate) fn new<L>(
        signals: &[Signal],
        install: impl FnOnce() -> io::Result<L>,
    ) -> io::Result<(Self, L)> {
        let mut entries = entries();
        for &signal in signals {
            // Before the listener's handlers, which are called in this order: a signal that the listener has got by now,
            // and a listener that is gone then, must not end the process.
            if let btree_map::Entry::Vacant(entry) = entries.entry(signal) {
                entry.insert(Entry::new(signal)?);
            }
        }
        let listener = install()?;
        let heard = Heard(signals.iter().copied().collect());
        for signal in &heard.0 {
            let entry = entries.get_mut(signal).expect("it was put there");
            entry.listeners += 1;
            entry.switch(false);
        }
        Ok((heard, listener))
    }

    /// From now on, the signals that nobody else listens for have their effect again. Returns those that have one.
    pub(crate) fn end(&mut self) -> BTreeSet<Signal> {
        let mut entries = entries();
        let mut have_effect = std::mem::take(&mut self.0);
        have_effect.retain(|signal| {
            let entry = entries.get_mut(signal).expect("it was put there");
            entry.listeners -= 1;
            entry.listeners == 0 && entry.switch(true)
        });
        have_effect
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.end();
    }
}

impl Entry {
    /// Nobody listens yet: the signal does what it did.
    fn new(signal: Signal) -> io::Result<Self> {
        let is_default = if did_default(number(signal)) {
            let switch = Arc::new(AtomicBool::new(true));
            register_conditional_default(number(signal), switch.clone())?;
            Some(switch)
        } else {
            None
        };
        Ok(Entry { listeners: 0, is_default })
    }

    /// Returns whether there is something to be switched.
    fn switch(&self, on: bool) -> bool {
        let switch = self.is_default.as_ref();
        switch.inspect(|switch| switch.store(on, Ordering::SeqCst)).is_some()
    }
}

pub(crate) fn number(signal: Signal) -> i32 {
    signal as i32
}

/// Does the signal, which we have no handler for, do what it does by default? Where the system does not say: yes.
fn did_default(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_in = |set: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
        set & (1 << (number - 1)) != 0
    };
    !is_in("SigIgn:") && !is_in("SigCgt:")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_which_signals_have_a_handler() {
        // The standard library ignores SIGPIPE, and looks at SIGSEGV for stacks that overflow.
        assert!(!did_default(number(Signal::Pipe)));
        assert!(!did_default(number(Signal::Segv)));
        assert!(did_default(number(Signal::Xfsz)));
    }
}
