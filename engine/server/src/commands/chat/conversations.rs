//! The conversations of a chat, each a session of the engine.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use kakeya_core::{EngineHandle, SessionId, SessionInfo};
use kakeya_runtime::SnapshotCodec;

/// A conversation.
#[derive(Debug, Clone)]
struct Conversation {
    session: SessionId,
    /// Its last token; none while nothing has been said.
    last: Option<u32>,
}

/// All conversations, one of them the current one.
pub struct Conversations {
    engine: EngineHandle,
    codec: SnapshotCodec,
    end_tokens: Vec<u32>,
    capacity: usize,
    all: Vec<Conversation>,
    current: usize,
}

impl Conversations {
    /// One that is empty. There may be `capacity` at once.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn begin(
        engine: EngineHandle,
        codec: SnapshotCodec,
        end_tokens: Vec<u32>,
        capacity: usize,
    ) -> anyhow::Result<Self> {
        let mut conversations = Self {
            engine,
            codec,
            end_tokens,
            capacity,
            all: Vec::new(),
            current: 0,
        };
        let session = conversations.fresh().await?;
        let last = None;
        conversations.all.push(Conversation { session, last });
        Ok(conversations)
    }

    async fn fresh(&self) -> anyhow::Result<SessionId> {
        let label = "kakeya chat".to_owned();
        let ends = self.end_tokens.clone();
        Ok(self.engine.create_session(label, ends).await?)
    }

    /// The current one's session.
    pub fn session(&self) -> SessionId {
        self.all[self.current].session.clone()
    }

    /// The current one's last token; none while nothing has been said.
    pub fn last(&self) -> Option<u32> {
        self.all[self.current].last
    }

    /// Says what the current one's last token is now.
    pub fn set_last(&mut self, token: u32) {
        self.all[self.current].last = Some(token);
    }

    /// The current one's number, from 1, and how many there are.
    pub fn place(&self) -> (usize, usize) {
        (self.current + 1, self.all.len())
    }

    /// Puts an empty one in the current one's place.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn reset(&mut self) -> anyhow::Result<()> {
        self.engine.close(self.session()).await?;
        let session = self.fresh().await?;
        self.all[self.current] = Conversation {
            session,
            last: None,
        };
        Ok(())
    }

    /// Copies the current one, and goes on in the copy.
    ///
    /// # Errors
    /// When there are too many, or what the engine says.
    pub async fn fork(&mut self) -> anyhow::Result<()> {
        self.check_room()?;
        let forked = self.engine.fork(self.session(), 1).await?;
        let session = forked.into_iter().next().context("the fork has no id")?;
        let last = self.last();
        self.add(Conversation { session, last });
        Ok(())
    }

    /// Goes to another one.
    ///
    /// # Errors
    /// When there is none of the number.
    pub fn switch(&mut self, number: usize) -> anyhow::Result<()> {
        if !(1..=self.all.len()).contains(&number) {
            bail!(
                "there is no conversation {number}: they are numbered from 1 to {}",
                self.all.len()
            );
        }
        self.current = number - 1;
        Ok(())
    }

    /// Writes the current one to a new file, for this user alone; says how many bytes.
    ///
    /// # Errors
    /// A file that is there already, or what the system says.
    pub async fn save(&self, file: &Path) -> anyhow::Result<usize> {
        let image = self.engine.export(self.session()).await?;
        let bytes = self.codec.write(&image);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut created = options.open(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} is there already: give another name", file.display())
            }
            _ => anyhow::anyhow!("{} cannot be written: {error}", file.display()),
        })?;
        let written = created.write_all(&bytes).and_then(|()| created.sync_all());
        if let Err(error) = written {
            // Half a conversation is no use to anybody.
            drop(std::fs::remove_file(file));
            bail!("{} cannot be written: {error}", file.display());
        }
        Ok(bytes.len())
    }

    /// Goes on with a conversation from a file; says how many tokens it has.
    ///
    /// # Errors
    /// When there are too many, what the system says, or what is wrong with the file.
    pub async fn load(&mut self, file: &Path) -> anyhow::Result<usize> {
        self.check_room()?;
        let what = || file.display().to_string();
        let mut opened = File::open(file).with_context(what)?;
        let mut reader = self.codec.reader();
        let mut piece = vec![0; 1 << 20];
        loop {
            let count = opened.read(&mut piece).with_context(what)?;
            if count == 0 {
                break;
            }
            reader.push(&piece[..count]).with_context(what)?;
        }
        let image = self
            .codec
            .read(&reader.finish().with_context(what)?)
            .with_context(what)?;
        let (last, length) = (image.history.last().copied(), image.history.len());
        let session = self.engine.import(Box::new(image)).await?;
        self.add(Conversation { session, last });
        Ok(length)
    }

    /// What is known of the current one.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn info(&self) -> anyhow::Result<SessionInfo> {
        Ok(self.engine.info(self.session()).await?)
    }

    fn add(&mut self, conversation: Conversation) {
        // An empty one makes room by itself.
        if self.last().is_none() {
            let empty = self.session();
            let engine = self.engine.clone();
            tokio::spawn(async move { engine.close(empty).await });
            self.all[self.current] = conversation;
        } else {
            self.all.push(conversation);
            self.current = self.all.len() - 1;
        }
    }

    fn check_room(&self) -> anyhow::Result<()> {
        // Beyond it the engine would end one that has been idle.
        if self.all.len() == self.capacity && self.last().is_some() {
            bail!(
                "there are {} conversations, and no more at once (--conversations): /switch to one and /reset it",
                self.capacity
            );
        }
        Ok(())
    }
}
