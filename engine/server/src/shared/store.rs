//! What several servers keep their sessions in: an object store, and the rules by which they share it.
//!
//! Below a session's id lie two kinds of objects:
//!
//! | key | what |
//! | --- | --- |
//! | `ID/claims/EPOCH` | who has the session since that epoch, and whose it is |
//! | `ID/states/EPOCH-NUMBER` | a state of it, written by who had it in that epoch |
//!
//! The epoch is the **fencing token**. Who wants a session makes the claim of the epoch after the newest one, and an
//! object of a name can be made once: of two that want it at once, one gets it. The newest state is the one of the
//! newest epoch, so a server that has lost a session and does not know it yet can write what it likes: whoever has it since
//! begins its own epoch with a copy of the state that it goes on with. A session ends by a last claim that says so,
//! made before anything is removed.

use std::fmt;
use std::fs::DirBuilder;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use kakeya_core::SessionId;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, PutPayload,
};
use serde::{Deserialize, Serialize};
use url::Url;

/// The version of the claims that are written, and the only one that is read.
const FORMAT: u32 = 1;

/// What the store does not do, or has in it that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place cannot be read as one.
    #[error(
        "`{given}` is no place for sessions: {why}; it may be a folder, file:///FOLDER or s3://BUCKET/PREFIX"
    )]
    Place {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// What the store says.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// An object that nobody here wrote.
    #[error("{key}: {why}")]
    Foreign {
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Who has a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    format: u32,
    /// The server's name, for people.
    server: String,
    /// In hex, since JSON's numbers are not so large.
    owner: String,
    ended: bool,
}

/// The newest claim of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its epoch.
    pub epoch: u64,
    /// Who made it.
    pub server: String,
    /// Whose the session is; 0 is everybody's.
    pub owner: u128,
    /// It has ended.
    pub ended: bool,
}

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateKey {
    /// The epoch of who wrote it.
    pub epoch: u64,
    /// How many there were before it in that epoch.
    pub number: u64,
}

/// A state that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Its name.
    pub key: StateKey,
    /// When it was written, by the store's clock.
    pub written: SystemTime,
}

/// The store, as one server uses it.
#[derive(Debug, Clone)]
pub struct SharedStore {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    server: String,
}

impl fmt::Display for SharedStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.objects, self.root)
    }
}

impl SharedStore {
    /// The store at `place`: a folder, which is made, or the address of one that `object_store` knows. `options` are
    /// what it may need to get in, such as `aws_access_key_id`. `server` is what this server calls itself in it.
    ///
    /// # Errors
    /// [`StoreError::Place`].
    pub fn open(
        place: &str,
        options: impl IntoIterator<Item = (String, String)>,
        server: String,
    ) -> Result<Self, StoreError> {
        let refuse = |why: String| StoreError::Place {
            given: place.to_owned(),
            why,
        };
        let refused = |error: object_store::Error| refuse(error.to_string());
        let folder = if place.contains("://") {
            let url = Url::parse(place).map_err(|error| refuse(error.to_string()))?;
            let parsed = ObjectStoreScheme::parse(&url);
            let (scheme, root) = parsed.map_err(|error| refuse(error.to_string()))?;
            if scheme != ObjectStoreScheme::Local {
                let (objects, _) = object_store::parse_url_opts(&url, options).map_err(refused)?;
                return Ok(Self::on(Arc::from(objects), root, server));
            }
            url.to_file_path()
                .map_err(|()| refuse("it is no path of this machine".to_owned()))?
        } else {
            PathBuf::from(place)
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        // What was said in a session is in there.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let made = builder.create(&folder);
        made.map_err(|error| refuse(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(folder).map_err(refused)?;
        // What is written is there after a power failure as well, as a remote store promises.
        let objects = objects.with_automatic_cleanup(true).with_fsync(true);
        Ok(Self::on(Arc::new(objects), Path::default(), server))
    }

    /// The store in `objects`, below `root`.
    #[must_use]
    pub fn on(objects: Arc<dyn ObjectStore>, root: Path, server: String) -> Self {
        Self {
            objects,
            root,
            server,
        }
    }

    /// Begins the first epoch of a session that is new, with its first state.
    ///
    /// # Errors
    /// What the store says.
    pub async fn begin(
        &self,
        id: &SessionId,
        owner: u128,
        state: Vec<u8>,
    ) -> Result<(), StoreError> {
        let first = StateKey {
            epoch: 1,
            number: 0,
        };
        self.write(id, first, state).await?;
        self.claim(id, 1, owner, false).await.map(drop)
    }

    /// The newest claim of a session, if it has one.
    ///
    /// # Errors
    /// What the store says, or a claim that cannot be read.
    pub async fn newest(&self, id: &SessionId) -> Result<Option<Claim>, StoreError> {
        let claims = self.keys(&self.claims(id)).await?;
        let Some(key) = claims.last() else {
            return Ok(None);
        };
        let foreign = |why: String| StoreError::Foreign {
            key: key.to_string(),
            why,
        };
        let epoch = numbers::<1>(key).ok_or_else(|| foreign("it is no epoch".to_owned()))?[0];
        // One that was removed a moment ago is of a session that has ended.
        let found = self.bytes(key).await?;
        let claim = found.map(|bytes| read_claim(epoch, &bytes).map_err(foreign));
        claim.transpose()
    }

    /// Whether the claim of `epoch` is still the newest of a session.
    ///
    /// # Errors
    /// What the store says.
    pub async fn holds(&self, id: &SessionId, epoch: u64) -> Result<bool, StoreError> {
        let claims = self.keys(&self.claims(id)).await?;
        Ok(claims.last().and_then(numbers::<1>) == Some([epoch]))
    }

    /// Makes the claim of an epoch, unless somebody else has made it. It says so if the session has `ended` by it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn claim(
        &self,
        id: &SessionId,
        epoch: u64,
        owner: u128,
        ended: bool,
    ) -> Result<bool, StoreError> {
        let body = Body {
            format: FORMAT,
            server: self.server.clone(),
            owner: format!("{owner:032x}"),
            ended,
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers can be written");
        let once = PutOptions::from(PutMode::Create);
        let key = self.claims(id).join(name(&[epoch]));
        let made = self.objects.put_opts(&key, body.into(), once).await;
        match made {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a state.
    ///
    /// # Errors
    /// What the store says.
    pub async fn write(
        &self,
        id: &SessionId,
        key: StateKey,
        state: Vec<u8>,
    ) -> Result<(), StoreError> {
        let payload = PutPayload::from(state);
        self.objects.put(&self.state(id, key), payload).await?;
        Ok(())
    }

    /// The newest state of a session.
    ///
    /// # Errors
    /// What the store says.
    pub async fn newest_state(&self, id: &SessionId) -> Result<Option<StoredState>, StoreError> {
        let all = self.objects.list(Some(&self.states(id)));
        let all: Vec<_> = all.try_collect().await?;
        let states = all.into_iter().filter_map(|object| {
            let [epoch, number] = numbers(&object.location)?;
            Some(StoredState {
                key: StateKey { epoch, number },
                written: object.last_modified.into(),
            })
        });
        Ok(states.max_by_key(|state| state.key))
    }

    /// Reads a state, unless it has been removed.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read(&self, id: &SessionId, key: StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(&self.state(id, key)).await
    }

    /// Removes the states before `key`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn forget_states(&self, id: &SessionId, key: StateKey) -> Result<(), StoreError> {
        let states = self.keys(&self.states(id)).await?;
        let older = states.into_iter().filter(|one| {
            numbers(one).is_some_and(|[epoch, number]| StateKey { epoch, number } < key)
        });
        self.remove(older).await
    }

    /// Removes the states before `key`, and the claims before its epoch.
    ///
    /// # Errors
    /// What the store says.
    pub async fn forget_before(&self, id: &SessionId, key: StateKey) -> Result<(), StoreError> {
        self.forget_states(id, key).await?;
        let claims = self.keys(&self.claims(id)).await?;
        let older = claims
            .into_iter()
            .filter(|one| numbers(one).is_some_and(|[epoch]| epoch < key.epoch));
        self.remove(older).await
    }

    /// Ends a session that this server has in `epoch`, and removes all of it. False if somebody else has it by now: then
    /// it lives on there.
    ///
    /// # Errors
    /// What the store says. The session has ended if its last claim was made, though something may be left of it.
    pub async fn end(&self, id: &SessionId, epoch: u64, owner: u128) -> Result<bool, StoreError> {
        if !self.claim(id, epoch + 1, owner, true).await? {
            return Ok(false);
        }
        self.sweep(id).await?;
        Ok(true)
    }

    /// Removes all of a session that has ended: its states first and its newest claim last, so that there is never a
    /// claim that could be taken over with a state behind it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn sweep(&self, id: &SessionId) -> Result<(), StoreError> {
        self.remove(self.keys(&self.states(id)).await?).await?;
        self.remove(self.keys(&self.claims(id)).await?).await
    }

    /// Removes a claim that turned out to be of nothing.
    ///
    /// # Errors
    /// What the store says.
    pub async fn withdraw(&self, id: &SessionId, epoch: u64) -> Result<(), StoreError> {
        self.remove([self.claims(id).join(name(&[epoch]))]).await
    }

    /// The ids of all sessions that something is there of.
    ///
    /// # Errors
    /// What the store says.
    pub async fn ids(&self) -> Result<Vec<SessionId>, StoreError> {
        let root = (self.root.parts_count() > 0).then_some(&self.root);
        let found = self.objects.list_with_delimiter(root).await?;
        let names = found.common_prefixes.iter().filter_map(Path::filename);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// An object, unless it is not there.
    async fn bytes(&self, key: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match self.objects.get(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => Ok(Some(found?.bytes().await?.into())),
        }
    }

    async fn remove(&self, keys: impl IntoIterator<Item = Path>) -> Result<(), StoreError> {
        for key in keys {
            match self.objects.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The keys below `prefix`, ascending: numbers are written with as many digits as any has.
    async fn keys(&self, prefix: &Path) -> Result<Vec<Path>, StoreError> {
        let keys = self.objects.list(Some(prefix));
        let keys = keys.map_ok(|found| found.location);
        let mut keys: Vec<_> = keys.try_collect().await?;
        keys.sort();
        Ok(keys)
    }

    fn claims(&self, id: &SessionId) -> Path {
        self.root.clone().join(id.to_string()).join("claims")
    }

    fn states(&self, id: &SessionId) -> Path {
        self.root.clone().join(id.to_string()).join("states")
    }

    fn state(&self, id: &SessionId, key: StateKey) -> Path {
        self.states(id).join(name(&[key.epoch, key.number]))
    }
}

fn read_claim(epoch: u64, bytes: &[u8]) -> Result<Claim, String> {
    let body: Body = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let found = body.format;
    if found != FORMAT {
        return Err(format!(
            "it has format {found}, and this version reads {FORMAT}"
        ));
    }
    let owner = u128::from_str_radix(&body.owner, 16).map_err(|error| error.to_string())?;
    Ok(Claim {
        epoch,
        server: body.server,
        owner,
        ended: body.ended,
    })
}

/// Digits of the largest number.
const DIGITS: usize = 20;

fn name(numbers: &[u64]) -> String {
    let digits = |number: &u64| format!("{number:0DIGITS$}");
    let all: Vec<_> = numbers.iter().map(digits).collect();
    all.join("-")
}

fn numbers<const N: usize>(key: &Path) -> Option<[u64; N]> {
    let parts = key.filename()?.split('-').map(str::parse);
    let numbers: Result<Vec<u64>, _> = parts.collect();
    numbers.ok()?.try_into().ok()
}
