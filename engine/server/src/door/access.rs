//! Who a request comes from.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use kakeya_core::{EngineHandle, Limits, Owner, Tenant};
use tracing::Span;

use super::Door;
use super::keys::KeyRing;

/// Who may come in.
#[derive(Debug)]
pub enum Access {
    /// Everybody, as one and the same tenant.
    Open(Arc<Tenant>),
    /// The holders of these keys.
    Keys(KeyRing),
}

impl Default for Access {
    fn default() -> Self {
        Self::open(Limits::default())
    }
}

impl Access {
    /// Everybody, who together may have this.
    #[must_use]
    pub fn open(limits: Limits) -> Self {
        Self::Open(Arc::new(Tenant::everybody(limits)))
    }

    /// Whose `owner` is, of those that are let in.
    #[must_use]
    pub fn owned_by(&self, owner: Owner) -> Option<Arc<Tenant>> {
        match self {
            Self::Open(everybody) => (everybody.owner() == owner).then(|| Arc::clone(everybody)),
            Self::Keys(keys) => keys.owned_by(owner),
        }
    }

    /// Whom a request with these headers comes from.
    fn tenant(&self, headers: &HeaderMap) -> Option<Arc<Tenant>> {
        match self {
            Self::Open(everybody) => Some(Arc::clone(everybody)),
            Self::Keys(keys) => keys.holder(bearer(headers)?),
        }
    }
}

/// The key of a request: of `authorization: Bearer KEY`, given once.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (given.next()?, given.next()) else {
        return None;
    };
    let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

/// Lets a request in as its tenant, or refuses it. Open routes are asked for by nobody in particular.
pub(super) async fn authenticate(
    State((door, access)): State<(Door, Arc<Access>)>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.tenant(request.headers()) {
        Some(tenant) => {
            if let Some(name) = tenant.name() {
                Span::current().record("key", name);
            }
            request.extensions_mut().insert(tenant);
            next.run(request).await
        }
        None if door.is_open(request.uri().path()) => next.run(request).await,
        None => {
            tracing::debug!("refused: no key, or a wrong one");
            door.unauthenticated()
        }
    }
}

/// The engine, asked as the tenant that a request comes from. A request that no guard has looked at comes from everybody.
#[must_use]
pub fn engine_for(engine: &EngineHandle, extensions: &Extensions) -> EngineHandle {
    match extensions.get::<Arc<Tenant>>() {
        Some(tenant) => engine.on_behalf_of(Arc::clone(tenant)),
        None => engine.clone(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let value = |bytes: &&[u8]| HeaderValue::from_bytes(bytes).expect("a value");
        values
            .iter()
            .map(|bytes| (header::AUTHORIZATION, value(bytes)))
            .collect()
    }

    #[test]
    fn owners_are_found_among_those_that_are_let_in() {
        let (everybody, other) = (Owner::EVERYBODY, Owner::new(5));
        let open = Access::default();
        assert!(open.owned_by(everybody).is_some() && open.owned_by(other).is_none());
        let none = Access::Keys(KeyRing::new(Vec::new(), Limits::default()));
        assert!(none.owned_by(everybody).is_none());
    }

    #[test]
    fn a_key_is_what_follows_bearer() {
        for (given, key) in [
            (&[&b"Bearer k-1"[..]][..], Some(&b"k-1"[..])),
            (&[b"bearer k-1"], Some(b"k-1")),
            (&[b"BEARER   k-1 "], Some(b"k-1")),
            (&[b"Bearer \xff"], Some(b"\xff")),
            (&[], None),
            (&[b"Bearer"], None),
            (&[b"Bearer  "], None),
            (&[b"Basic k-1xyz"], None),
            (&[b"k-1"], None),
            (&[b"Bearer k-1", b"Bearer k-1"], None),
        ] {
            assert_eq!(bearer(&headers(given)), key, "{given:?}");
        }
    }
}
