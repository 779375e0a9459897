//! Sessions that several servers have in common (`--store`): each is kept, as of its last snapshot, where any of them can go
//! on with it.

#[cfg(feature = "engine")]
mod keeper;
mod store;

#[cfg(feature = "engine")]
pub use keeper::{Flushed, Keeper, KeeperCounts, Keeping, tidy_regularly};
pub use store::{Claim, SharedStore, StateKey, StoreError, StoredState};
