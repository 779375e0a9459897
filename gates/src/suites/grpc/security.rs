//! Whose a session is, what its owner may have, and deadlines.

use std::sync::Arc;

use kakeya_core::{Limits, Tenant};
use kakeya_proto::v1;
use kakeya_proto::v1::session_service_client::SessionServiceClient;
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::support::{
    Client, Served, WITHOUT_END, ensure_not_found, ensure_status, request, serving, serving_behind,
    until,
};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{greedy, prose, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "another_keys_session_is_not_found_by_any_rpc",
            another_keys_session_is_not_found_by_any_rpc,
        ),
        Case::fast(
            "what_is_made_of_a_session_belongs_to_who_asked",
            what_is_made_of_a_session_belongs_to_who_asked,
        ),
        Case::fast(
            "a_limit_is_named_and_leaves_the_session",
            a_limit_is_named_and_leaves_the_session,
        ),
        Case::fast(
            "tokens_of_a_minute_are_those_appended_and_generated",
            tokens_of_a_minute_are_those_appended_and_generated,
        ),
        Case::fast(
            "a_deadline_ends_the_work_and_leaves_what_was_emitted",
            a_deadline_ends_the_work_and_leaves_what_was_emitted,
        ),
    ]
}

/// A server that lets two keys in, and a client with each.
fn two_keys(
    context: &SuiteContext,
    limits: Limits,
    case: impl AsyncFnOnce(&mut Served, &mut Client, &mut Client) -> CaseResult,
) -> CaseResult {
    let [one, two] = [FreshKey::new("one")?, FreshKey::new("two")?];
    let entries = parse_file(&(one.lines() + &two.lines()))?;
    let guard = Guard {
        access: Arc::new(Access::Keys(KeyRing::new(entries, limits))),
        ..Guard::default()
    };
    serving_behind(context, small(context), guard, async |served| {
        let mut first = served.client.holding(one.secret());
        let mut second = served.client.holding(two.secret());
        case(served, &mut first, &mut second).await
    })
}

/// SessionService, asked as a client's key.
struct Sessions<'c> {
    raw: SessionServiceClient<Channel>,
    client: &'c Client,
}

impl<'c> Sessions<'c> {
    fn of(client: &'c Client) -> Self {
        let raw = SessionServiceClient::new(client.channel.clone());
        Self { raw, client }
    }

    async fn fork(&mut self, id: &str) -> Result<Vec<String>, Status> {
        let request = v1::ForkSessionRequest {
            session_id: id.to_owned(),
            count: Some(1),
        };
        let forked = self.raw.fork_session(self.client.asking(request)).await?;
        Ok(forked.into_inner().session_ids)
    }

    async fn snapshot(&mut self, id: &str) -> Result<Vec<v1::SnapshotChunk>, Status> {
        let session_id = id.to_owned();
        let request = self
            .client
            .asking(v1::SnapshotSessionRequest { session_id });
        let mut stream = self.raw.snapshot_session(request).await?.into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    async fn restore(&mut self, chunks: Vec<v1::SnapshotChunk>) -> Result<String, Status> {
        let request = self.client.asking(tokio_stream::iter(chunks));
        let restored = self.raw.restore_session(request).await?;
        Ok(restored.into_inner().session_id)
    }

    async fn digest(&mut self, id: &str) -> Result<String, Status> {
        let session_id = id.to_owned();
        let request = self.client.asking(v1::GetStateDigestRequest { session_id });
        let digest = self.raw.get_state_digest(request).await?;
        Ok(digest.into_inner().state_sha256)
    }

    async fn list(&mut self) -> Result<Vec<String>, Status> {
        let request = self.client.asking(v1::ListSessionsRequest {});
        let listed = self.raw.list_sessions(request).await?.into_inner();
        let id = |session: v1::SessionSummary| session.session_id;
        Ok(listed.sessions.into_iter().map(id).collect())
    }
}

/// Requires that neither service has the session for this client.
async fn ensure_hidden(client: &mut Client, id: &str) -> CaseResult {
    ensure_not_found(client, id).await?;
    let part = format!("`{id}` not found");
    let mut sessions = Sessions::of(client);
    ensure_status(
        "ForkSession",
        sessions.fork(id).await,
        Code::NotFound,
        &part,
    )?;
    ensure_status(
        "SnapshotSession",
        sessions.snapshot(id).await,
        Code::NotFound,
        &part,
    )?;
    ensure_status(
        "GetStateDigest",
        sessions.digest(id).await,
        Code::NotFound,
        &part,
    )
}

fn another_keys_session_is_not_found_by_any_rpc(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let expected = solo(context, &small(context), &prompt, greedy(6))?;
    two_keys(context, Limits::default(), async |served, one, two| {
        let id = one.create_with(&prompt).await?;
        ensure_hidden(two, &id).await?;
        ensure_eq!(
            Sessions::of(two).list().await?,
            Vec::<String>::new(),
            "another's list"
        );
        ensure_eq!(
            Sessions::of(one).list().await?,
            vec![id.clone()],
            "the owner's list"
        );
        let keyless = served.client.info(&id).await;
        ensure_status(
            "a call without a key",
            keyless,
            Code::Unauthenticated,
            "Bearer",
        )?;
        // Whether it is at work makes no difference, and is not disturbed.
        let stream = one.generate(&id, greedy(6)).await?;
        ensure_hidden(two, &id).await?;
        stream
            .finish()
            .await?
            .ensure_same_as("the owner's stream", &expected)?;
        ensure_eq!(one.info(&id).await?.history_length, 36, "the history");
        // Those who look from within still see it.
        let server = served.engine.on_behalf_of(Arc::new(Tenant::server()));
        ensure_eq!(
            server.list().await?.len(),
            1,
            "sessions that the server itself lists"
        );
        ensure_eq!(
            served.engine.list().await?.len(),
            0,
            "sessions that are everybody's"
        );
        ensure_eq!(one.close(&id).await?, 36, "the final history");
        Ok(())
    })
}

fn what_is_made_of_a_session_belongs_to_who_asked(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    two_keys(context, Limits::default(), async |_, one, two| {
        let id = one.create_with(&prompt).await?;
        let forks = Sessions::of(one).fork(&id).await?;
        let [fork] = &forks[..] else {
            return Err(CaseFailure::violated(format!("{forks:?} is not one fork")));
        };
        ensure_hidden(two, fork).await?;
        // Who was given a snapshot may have a session of it, which is then theirs.
        let chunks = Sessions::of(one).snapshot(&id).await?;
        let restored = Sessions::of(two).restore(chunks).await?;
        ensure_hidden(one, &restored).await?;
        let digest = Sessions::of(one).digest(&id).await?;
        ensure_eq!(
            Sessions::of(one).digest(fork).await?,
            digest,
            "the fork's state"
        );
        ensure_eq!(
            Sessions::of(two).digest(&restored).await?,
            digest,
            "the restored state"
        );
        ensure_eq!(
            Sessions::of(two).list().await?,
            vec![restored],
            "the other's list"
        );
        Ok(())
    })
}

fn a_limit_is_named_and_leaves_the_session(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let expected = solo(context, &small(context), &prompt, greedy(8))?;
    let limits = Limits {
        max_history: Some(40),
        max_new_tokens: Some(8),
        max_sessions: Some(2),
        max_streams: Some(1),
        tokens_per_minute: None,
    };
    two_keys(context, limits, async |served, one, two| {
        let id = one.create_with(&prompt).await?;
        let more = one.append(&id, &prompt[..11]).await;
        ensure_status(
            "an append",
            more,
            Code::InvalidArgument,
            "of key `one` may have (max_history)",
        )?;
        let many = one.generate(&id, greedy(9)).await.map(drop);
        ensure_status(
            "a generation",
            many,
            Code::InvalidArgument,
            "key `one` may generate 8",
        )?;
        one.create(&[]).await?;
        let third = one.create(&[]).await;
        ensure_status(
            "a session",
            third,
            Code::ResourceExhausted,
            "2 sessions at once (max_sessions)",
        )?;
        let fork = Sessions::of(one).fork(&id).await;
        ensure_status("a fork", fork, Code::ResourceExhausted, "max_sessions")?;
        let stream = one.generate(&id, greedy(8)).await?;
        let second = one.generate(&id, greedy(1)).await.map(drop);
        ensure_status(
            "a second stream",
            second,
            Code::ResourceExhausted,
            "max_streams",
        )?;
        // The other key's limits are its own.
        let theirs = two.create_with(&prompt).await?;
        two.generate(&theirs, greedy(1)).await?.finish().await?;
        let generated = stream.finish().await?;
        generated.ensure_same_as("the stream beside refusals", &expected)?;
        // Who has read the end of one may begin the next at once.
        one.generate(&id, greedy(2)).await?.finish().await?;
        let last = one.generate(&id, greedy(1)).await.map(drop);
        ensure_status(
            "one token too many",
            last,
            Code::InvalidArgument,
            "40 tokens of history and 1 more",
        )?;
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.active),
            (3, 0),
            "sessions, and generations at work"
        );
        Ok(())
    })
}

fn tokens_of_a_minute_are_those_appended_and_generated(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let limits = Limits {
        tokens_per_minute: Some(36),
        ..Limits::default()
    };
    two_keys(context, limits, async |_, one, two| {
        let id = one.create(&[]).await?;
        let unknown = "sess-00000000000000000000000000000007";
        // What is refused is not counted.
        for _ in 0..3 {
            ensure_status(
                "an append",
                one.append(unknown, &prompt).await,
                Code::NotFound,
                unknown,
            )?;
        }
        one.append(&id, &prompt).await?;
        // Into debt by two, and no further.
        one.generate(&id, greedy(8)).await?.finish().await?;
        let part = "36 tokens in a minute (tokens_per_minute)";
        let late = one.generate(&id, greedy(1)).await.map(drop);
        ensure_status("a generation", late, Code::ResourceExhausted, part)?;
        ensure_status(
            "an append",
            one.append(&id, &[1]).await,
            Code::ResourceExhausted,
            part,
        )?;
        two.create_with(&prompt).await?;
        ensure_eq!(one.info(&id).await?.history_length, 38, "the history");
        Ok(())
    })
}

fn a_deadline_ends_the_work_and_leaves_what_was_emitted(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    serving(context, config.clone(), async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let mut asking = client.asking(request(&id, greedy(WITHOUT_END)));
        let timeout = "300m".parse().expect("ASCII");
        asking.metadata_mut().insert("grpc-timeout", timeout);
        let mut stream = client.start(asking).await?;
        let failure = stream.failure().await?;
        ensure_status::<()>(
            "the stream",
            Err(failure),
            Code::DeadlineExceeded,
            "deadline has passed",
        )?;
        let engine = &served.engine;
        until("no generation at work", async || {
            Ok(engine.stats().await?.active == 0)
        })
        .await?;
        let passes = engine.stats().await?.forward_passes;
        let length = client.info(&id).await?.history_length;
        let emitted = (length - 30) as u32;
        let read = stream.tokens();
        ensure!(
            emitted > 0 && read.len() <= emitted as usize,
            "{} of {emitted} tokens",
            read.len()
        );
        ensure_eq!(
            passes,
            1 + u64::from(emitted),
            "forward passes: one for each token and the prompt"
        );
        let rest = client.generate(&id, greedy(6)).await?.finish().await?;
        let whole = solo(context, &config, &prompt, greedy(emitted + 6))?;
        ensure_eq!(
            &read[..],
            &whole.tokens[..read.len()],
            "the tokens before the deadline"
        );
        ensure_eq!(
            &rest.tokens[..],
            &whole.tokens[emitted as usize..],
            "the tokens after it"
        );
        ensure_eq!(
            client.info(&id).await?.history_length,
            length + 6,
            "the history"
        );
        Ok(())
    })
}
