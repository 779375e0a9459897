//! Beginnings of prompts that are cached, and which of them a new prompt can begin with.
//!
//! What the keys and values of a position are depends on the tokens up to it and on nothing else (INV-3), so whatever
//! was computed for one request is what another with the same first tokens would compute. Here is the bookkeeping of
//! that: whose tokens are cached, how many bytes they take, and what goes when there is no room. What the bytes are is
//! the caller's business.
//!
//! Tokens are compared as tokens, never by a hash. The sequences lie in order, so those that share most with a prompt
//! are the neighbours of the place where it would stand.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

/// Whose requests may see that a prefix is cached. A cached prefix makes an answer come sooner, and that it does tells
/// what others have asked; so owners never share. What identifies one is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixOwner(Arc<str>);

impl PrefixOwner {
    /// The owner of that name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

/// Cached token sequences, each with what is kept for it.
#[derive(Debug)]
pub struct PrefixIndex<P> {
    limit: u64,
    bytes: u64,
    evicted: u64,
    clock: Cell<u64>,
    owners: HashMap<Option<PrefixOwner>, Entries<P>>,
}

/// Those of one owner, by their tokens.
type Entries<P> = BTreeMap<Tokens, Entry<P>>;
type Tokens = Box<[u32]>;

#[derive(Debug)]
struct Entry<P> {
    kept: P,
    bytes: u64,
    /// The index's clock when it was last of use.
    used: Cell<u64>,
}

/// A cached sequence that a prompt can begin with.
#[derive(Debug)]
pub struct PrefixMatch<'a, P> {
    /// All of its tokens.
    pub tokens: &'a [u32],
    /// What is kept for them.
    pub kept: &'a P,
    /// Tokens from the first on that it shares with the prompt, at least 1.
    pub shared: usize,
    used: &'a Cell<u64>,
}

impl<P> PrefixIndex<P> {
    /// An empty index of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            bytes: 0,
            evicted: 0,
            clock: Cell::new(0),
            owners: HashMap::new(),
        }
    }

    /// The most bytes that it may have.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.owners.values().map(BTreeMap::len).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Entries that have gone to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The entry of `owner` that shares most with `prompt` of those that can be used for as much as they share, which
    /// `usable` says.
    pub fn longest<'a>(
        &'a self,
        owner: Option<&PrefixOwner>,
        prompt: &[u32],
        usable: impl Fn(&P, usize) -> bool,
    ) -> Option<PrefixMatch<'a, P>> {
        let entries = self.owners.get(&owner.cloned())?;
        let of = |(tokens, entry): (&'a Tokens, &'a Entry<P>)| PrefixMatch {
            tokens,
            kept: &entry.kept,
            shared: shared(tokens, prompt),
            used: &entry.used,
        };
        let mut before = entries
            .range::<[u32], _>((Unbounded, Included(prompt)))
            .rev()
            .map(of)
            .peekable();
        let mut after = entries
            .range::<[u32], _>((Excluded(prompt), Unbounded))
            .map(of)
            .peekable();
        // Away from the prompt's place entries share less and less with it, on either side.
        loop {
            let ahead = |found: Option<&PrefixMatch<'a, P>>| found.map_or(0, |found| found.shared);
            let (left, right) = (ahead(before.peek()), ahead(after.peek()));
            let next = if left >= right {
                before.next()
            } else {
                after.next()
            };
            let found = next.filter(|found| found.shared > 0)?;
            if usable(found.kept, found.shared) {
                return Some(found);
            }
        }
    }

    /// Takes note that an entry was of use.
    pub fn touch(&self, found: &PrefixMatch<'_, P>) {
        found.used.set(self.tick());
    }

    /// Makes room for `bytes` more by dropping the entries that have been of no use for longest. `false`, with nothing
    /// dropped, where an empty index would have no room either.
    pub fn make_room(&mut self, bytes: u64) -> bool {
        if bytes > self.limit {
            return false;
        }
        while self.bytes > self.limit - bytes
            && let Some((owner, tokens)) = self.longest_unused()
        {
            self.remove(owner.as_ref(), &tokens);
            self.evicted += 1;
        }
        true
    }

    /// Keeps `kept`, of so many bytes, for these tokens, in the place of what was kept for exactly them. `false`, and
    /// nothing is kept, where there is no room: see [`PrefixIndex::make_room`].
    pub fn insert(
        &mut self,
        owner: Option<PrefixOwner>,
        tokens: Box<[u32]>,
        bytes: u64,
        kept: P,
    ) -> bool {
        self.remove(owner.as_ref(), &tokens);
        if bytes > self.limit - self.bytes {
            return false;
        }
        self.bytes += bytes;
        let used = Cell::new(self.tick());
        let entry = Entry { kept, bytes, used };
        self.owners.entry(owner).or_default().insert(tokens, entry);
        true
    }

    /// Drops the entry of exactly these tokens.
    pub fn remove(&mut self, owner: Option<&PrefixOwner>, tokens: &[u32]) {
        let owner = owner.cloned();
        let Some(entries) = self.owners.get_mut(&owner) else {
            return;
        };
        if let Some(entry) = entries.remove(tokens) {
            self.bytes -= entry.bytes;
        }
        if entries.is_empty() {
            self.owners.remove(&owner);
        }
    }

    /// Drops the entries whose tokens are the first ones of `tokens`, and not all of them, where `covered` says that
    /// they are of no more use beside an entry of all.
    pub fn remove_beginnings(
        &mut self,
        owner: Option<&PrefixOwner>,
        tokens: &[u32],
        covered: impl Fn(&P, usize) -> bool,
    ) {
        let mut gone = Vec::new();
        if let Some(entries) = self.owners.get(&owner.cloned()) {
            let mut bound = Excluded(tokens);
            while let Some((found, entry)) =
                entries.range::<[u32], _>((Unbounded, bound)).next_back()
            {
                let common = shared(found, tokens);
                if common == found.len() {
                    if covered(&entry.kept, common) {
                        gone.push(found.clone());
                    }
                    bound = Excluded(&tokens[..common]);
                } else {
                    // Whatever lies between shares no more, and is as long or longer, so it is no beginning.
                    bound = Included(&tokens[..common]);
                }
            }
        }
        for tokens in gone {
            self.remove(owner, &tokens);
        }
    }

    /// Drops the entries that begin with `tokens`.
    pub fn remove_all_from(&mut self, owner: Option<&PrefixOwner>, tokens: &[u32]) {
        let Some(entries) = self.owners.get(&owner.cloned()) else {
            return;
        };
        let gone: Vec<Box<[u32]>> = entries
            .range::<[u32], _>((Included(tokens), Unbounded))
            .map(|(found, _)| found.clone())
            .take_while(|found| found.starts_with(tokens))
            .collect();
        for tokens in gone {
            self.remove(owner, &tokens);
        }
    }

    /// Drops everything, and keeps nothing from now on.
    pub fn close(&mut self) {
        self.owners.clear();
        self.bytes = 0;
        self.limit = 0;
    }

    fn longest_unused(&self) -> Option<(Option<PrefixOwner>, Box<[u32]>)> {
        let all = self.owners.iter().flat_map(|(owner, entries)| {
            let of = move |(tokens, entry): (_, &Entry<P>)| (entry.used.get(), owner, tokens);
            entries.iter().map(of)
        });
        let first = all.min_by_key(|(used, ..)| *used);
        first.map(|(_, owner, tokens): (_, &Option<PrefixOwner>, &Tokens)| {
            (owner.clone(), tokens.clone())
        })
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

/// Tokens from the first on that two sequences have in common.
pub fn shared(one: &[u32], other: &[u32]) -> usize {
    /// Compared at once, as memory, until they differ.
    const RUN: usize = 64;
    let runs = one
        .chunks_exact(RUN)
        .zip(other.chunks_exact(RUN))
        .take_while(|(one, other)| one == other)
        .count();
    let rest = one[runs * RUN..].iter().zip(&other[runs * RUN..]);
    runs * RUN + rest.take_while(|(one, other)| one == other).count()
}
