//! Who holds which key.

use std::sync::{Arc, PoisonError, RwLock};

use kakeya_core::{Limits, Meter, Owner, Tenant};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::KeyEntry;

/// The keys that are let in, which can be replaced while requests are looked up.
#[derive(Debug)]
pub struct KeyRing {
    defaults: Limits,
    holders: RwLock<Arc<[Holder]>>,
}

#[derive(Debug)]
struct Holder {
    sha256: [u8; 32],
    tenant: Arc<Tenant>,
}

impl KeyRing {
    /// These keys. Where a key has no limit of its own, the one in `defaults` holds.
    #[must_use]
    pub fn new(entries: Vec<KeyEntry>, defaults: Limits) -> Self {
        let ring = Self {
            defaults,
            holders: RwLock::new(Arc::new([])),
        };
        ring.replace(entries);
        ring
    }

    /// Lets these in from now on, and nobody else. What a key's holder owns and has used stays theirs by the name, so a
    /// key can be changed without losing its sessions. Work under way goes on.
    pub fn replace(&self, entries: Vec<KeyEntry>) {
        let before = self.holders();
        let holders = entries.into_iter().map(|entry| {
            let same = before
                .iter()
                .find(|holder| holder.tenant.name() == Some(&entry.name));
            let meter = same.map_or_else(Arc::<Meter>::default, |same| {
                Arc::clone(same.tenant.meter())
            });
            let limits = or(entry.limits, self.defaults);
            let tenant = Tenant::key(owner(&entry.name), entry.name, limits, meter);
            Holder {
                sha256: entry.sha256,
                tenant: Arc::new(tenant),
            }
        });
        let holders = holders.collect();
        *self.holders.write().unwrap_or_else(PoisonError::into_inner) = holders;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders().len()
    }

    /// Whether nobody is let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who holds `key`. However wrong it is, it is compared with every key to the end.
    #[must_use]
    pub fn holder(&self, key: &[u8]) -> Option<Arc<Tenant>> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let holders = self.holders();
        let mut found = u64::MAX;
        for (index, holder) in (0..).zip(holders.iter()) {
            found.conditional_assign(&index, holder.sha256.ct_eq(&digest));
        }
        let holder = holders.get(usize::try_from(found).ok()?)?;
        Some(Arc::clone(&holder.tenant))
    }

    /// Whose `owner` is.
    #[must_use]
    pub fn owned_by(&self, owner: Owner) -> Option<Arc<Tenant>> {
        let holders = self.holders();
        let holder = holders
            .iter()
            .find(|holder| holder.tenant.owner() == owner)?;
        Some(Arc::clone(&holder.tenant))
    }

    fn holders(&self) -> Arc<[Holder]> {
        Arc::clone(&self.holders.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn or(own: Limits, defaults: Limits) -> Limits {
    Limits {
        max_history: own.max_history.or(defaults.max_history),
        max_new_tokens: own.max_new_tokens.or(defaults.max_new_tokens),
        max_sessions: own.max_sessions.or(defaults.max_sessions),
        max_streams: own.max_streams.or(defaults.max_streams),
        tokens_per_minute: own.tokens_per_minute.or(defaults.tokens_per_minute),
    }
}

/// The owner that a key's name stands for, the same after every restart. It is never that of everybody.
fn owner(name: &str) -> Owner {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let (number, _) = digest.split_first_chunk().expect("32 bytes");
    Owner::new(u128::from_le_bytes(*number) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, key: &str, max_streams: Option<u32>) -> KeyEntry {
        KeyEntry {
            name: name.to_owned(),
            sha256: Sha256::digest(key).into(),
            limits: Limits {
                max_streams,
                ..Limits::default()
            },
        }
    }

    #[test]
    fn a_key_is_found_by_all_of_it_and_nothing_else() {
        let ring = KeyRing::new(
            vec![entry("a", "one", None), entry("b", "two", Some(7))],
            Limits {
                max_streams: Some(3),
                max_new_tokens: Some(9),
                ..Limits::default()
            },
        );
        assert_eq!((ring.len(), ring.is_empty()), (2, false));
        let limits = |key: &str| *ring.holder(key.as_bytes()).expect("held").limits();
        assert_eq!(
            (limits("one").max_streams, limits("two").max_streams),
            (Some(3), Some(7))
        );
        assert_eq!(limits("two").max_new_tokens, Some(9));
        for wrong in ["", "on", "one ", "one\n", "ONE", "three"] {
            assert!(ring.holder(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(ring.holder(&[0xff, 0xfe]).is_none());
    }

    #[test]
    fn replaced_keys_keep_what_they_own_and_have_used_by_their_names() {
        let ring = KeyRing::new(
            vec![entry("a", "one", Some(1)), entry("b", "two", None)],
            Limits::default(),
        );
        let before = ring.holder(b"one").expect("held");
        let stream = before.stream().expect("the first");
        ring.replace(vec![entry("a", "new", Some(1)), entry("c", "three", None)]);
        assert!(ring.holder(b"one").is_none() && ring.holder(b"two").is_none());
        let after = ring.holder(b"new").expect("held");
        assert_eq!(after.owner(), before.owner());
        assert!(
            after.stream().is_err(),
            "the stream of before is still counted"
        );
        drop(stream);
        assert!(after.stream().is_ok());
        let other = ring.holder(b"three").expect("held");
        assert_ne!(other.owner(), after.owner());
        assert_ne!(other.owner(), Owner::EVERYBODY);
        let found = ring.owned_by(other.owner()).expect("held");
        assert_eq!(found.name(), Some("c"));
        assert!(ring.owned_by(Owner::EVERYBODY).is_none());
    }
}
