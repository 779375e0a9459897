//! The memory that packed weights lie in.
//!
//! A decoded token reads every weight once. With pages of 4 KiB that is a miss of the address translation for each of
//! them, so weights lie in a few large mappings, for which Linux is asked for huge pages. It may not have them, and
//! then they are ordinary ones.

use std::fmt;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

/// Bytes of one mapping, unless a single matrix is larger.
const MAPPING: usize = 64 << 20;
/// Chunks begin at a cache line, so that no load of 64 bytes crosses one.
const LINE: usize = 64;

/// Hands out memory, one chunk after the other.
#[derive(Default)]
pub(crate) struct Arena {
    mapping: Option<Arc<Mapping>>,
    used: usize,
}

struct Mapping {
    /// Of `owner`, taken while it was not shared yet.
    base: *mut u8,
    owner: MmapMut,
}

// SAFETY: `base` is only followed through chunks, which are disjoint.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A part of a mapping that is its holder's alone.
pub(super) struct Chunk {
    mapping: Arc<Mapping>,
    at: usize,
    length: usize,
}

impl Arena {
    /// Zeroed memory; `None` when the system has none.
    pub(super) fn take(&mut self, length: usize) -> Option<Chunk> {
        let at = self.used.next_multiple_of(LINE);
        let mapping = match &self.mapping {
            Some(mapping) if at + length <= mapping.owner.len() => Arc::clone(mapping),
            _ => {
                let mapping = Arc::new(Mapping::new(length.max(MAPPING))?);
                self.mapping = Some(Arc::clone(&mapping));
                self.used = length;
                return Some(Chunk {
                    mapping,
                    at: 0,
                    length,
                });
            }
        };
        self.used = at + length;
        Some(Chunk {
            mapping,
            at,
            length,
        })
    }
}

impl Mapping {
    fn new(length: usize) -> Option<Self> {
        let mut owner = MmapOptions::new().len(length).map_anon().ok()?;
        #[cfg(target_os = "linux")]
        if let Err(error) = owner.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "no huge pages for the weights");
        }
        Some(Self {
            base: owner.as_mut_ptr(),
            owner,
        })
    }
}

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is initialised and lives as long as `self`; the range is inside it, and nobody writes
        // there without the only reference to this chunk.
        unsafe { std::slice::from_raw_parts(self.mapping.base.add(self.at), self.length) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this is that reference.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base.add(self.at), self.length) }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_zeroed_aligned_and_apart() {
        let mut arena = Arena::default();
        let mut chunks: Vec<Chunk> = [1, 63, 64, 65, 0, MAPPING, 100, MAPPING + 1, 7]
            .into_iter()
            .map(|length| arena.take(length).expect("there is memory"))
            .collect();
        for chunk in &mut chunks {
            assert!(chunk.bytes().as_ptr().addr().is_multiple_of(LINE));
            assert!(chunk.bytes().iter().all(|byte| *byte == 0));
            chunk.bytes_mut().fill(255);
        }
        let mut ranges: Vec<_> = chunks
            .iter()
            .map(|chunk| chunk.bytes().as_ptr_range())
            .collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        assert!(ranges.is_sorted_by(|a, b| a.end <= b.start));
    }
}
