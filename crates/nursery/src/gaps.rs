//! [`Gaps`]: a list in which each entry knows its index, and leaves a gap when it goes.
//!
//! So no neighbour has to be touched, which among many is in no cache: entries go in any order. When most of the list is
//! gaps, it is closed up.

#[derive(Debug)]
pub(crate) struct Gaps<T> {
    /// The last one is no gap.
    list: Vec<Option<T>>,
    gaps: usize,
}

/// A list of up to so many is not closed up.
pub(crate) const FEW: usize = 16;

impl<T> Default for Gaps<T> {
    fn default() -> Self {
        Gaps { list: Vec::new(), gaps: 0 }
    }
}

impl<T> Gaps<T> {
    /// Adds an entry at the end. Returns its index.
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> u32 {
        self.list.push(Some(entry));
        index(self.list.len() - 1)
    }

    /// Takes the entry at an index out; and says whether the list is to be [closed up](Self::close_up).
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> (Option<T>, bool) {
        let entry = self.list.get_mut(index as usize).and_then(Option::take);
        self.gaps += usize::from(entry.is_some());
        self.drop_gaps_at_end();
        (entry, self.list.len() > FEW && self.gaps > self.list.len() / 2)
    }

    /// Gives away all for which `leaves` is true.
    #[inline]
    pub(crate) fn give(&mut self, mut leaves: impl FnMut(&T) -> bool, mut to: impl FnMut(T)) {
        for entry in &mut self.list {
            if let Some(entry) = entry.take_if(|entry| leaves(entry)) {
                self.gaps += 1;
                to(entry);
            }
        }
        self.drop_gaps_at_end();
    }

    #[inline]
    fn drop_gaps_at_end(&mut self) {
        while self.list.pop_if(|last| last.is_none()).is_some() {
            self.gaps -= 1;
        }
    }

    /// Takes the gaps out, and gives the entries their new indices.
    #[cold]
    pub(crate) fn close_up(&mut self, mut tell: impl FnMut(&T, u32)) {
        self.list.retain(Option::is_some);
        self.gaps = 0;
        self.iter().enumerate().for_each(|(at, entry)| tell(entry, self::index(at)));
    }

    /// The entry at an index, or the next after it.
    #[inline]
    pub(crate) fn at_or_after(&self, index: u32) -> Option<&T> {
        self.list.get(index as usize..)?.iter().flatten().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.list.iter().flatten()
    }

    /// The length, gaps included.
    #[cfg(test)]
    pub(crate) fn span(&self) -> usize {
        self.list.len()
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("so many entries have no room")
}
