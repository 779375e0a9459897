//! SessionService: sessions that are forked, carried to another server, listed and audited over the wire.

use kakeya_core::StopReason;
use kakeya_model::Isa;
use kakeya_proto::v1;
use kakeya_proto::v1::session_service_client::SessionServiceClient;
use kakeya_runtime::EngineConfig;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::support::{
    Served, WITHOUT_END, ensure_not_found, ensure_status, parsed, serving, until,
};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{SMALL_LIMIT, greedy, prose, seeded, small, solo};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "forks_go_on_with_the_bits_of_their_session",
            forks_go_on_with_the_bits_of_their_session,
        ),
        Case::fast(
            "a_snapshot_outlives_its_server",
            a_snapshot_outlives_its_server,
        ),
        Case::fast(
            "a_state_digest_tells_how_a_session_stands_and_nothing_of_how_it_came_there",
            digests_tell_how_a_session_stands,
        ),
        Case::fast(
            "a_copy_of_a_session_at_work_waits_for_its_turn",
            a_copy_waits_for_its_turn,
        ),
        Case::fast(
            "what_cannot_be_copied_or_restored_is_refused_and_leaves_nothing",
            refusals_leave_nothing,
        ),
        Case::fast(
            "clients_that_go_away_half_way_hold_nothing_up",
            clients_that_go_away_hold_nothing_up,
        ),
    ]
}

/// As many images as the service has in memory at once, and one more.
const MORE_THAN_IN_TRANSIT: usize = 5;

/// SessionService in plain values.
struct Keeper(SessionServiceClient<Channel>);

impl Keeper {
    fn of(served: &Served) -> Self {
        Self(SessionServiceClient::new(served.client.channel.clone()))
    }

    async fn fork(&mut self, id: &str, count: Option<u32>) -> Result<Vec<String>, Status> {
        let session_id = id.to_owned();
        let request = v1::ForkSessionRequest { session_id, count };
        Ok(self.0.fork_session(request).await?.into_inner().session_ids)
    }

    async fn snapshot(&mut self, id: &str) -> Result<Vec<u8>, Status> {
        let session_id = id.to_owned();
        let request = v1::SnapshotSessionRequest { session_id };
        let mut chunks = self.0.snapshot_session(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            bytes.extend(chunk.data);
        }
        Ok(bytes)
    }

    async fn restore(&mut self, bytes: &[u8], piece: usize) -> Result<(String, u64), Status> {
        let chunks: Vec<_> = bytes
            .chunks(piece)
            .map(|data| v1::SnapshotChunk {
                data: data.to_vec(),
            })
            .collect();
        let answer = self.0.restore_session(tokio_stream::iter(chunks)).await?;
        let v1::RestoreSessionResponse {
            session_id,
            history_length,
        } = answer.into_inner();
        Ok((session_id, history_length))
    }

    async fn list(&mut self) -> Result<Vec<v1::SessionSummary>, Status> {
        let listed = self.0.list_sessions(v1::ListSessionsRequest {}).await?;
        Ok(listed.into_inner().sessions)
    }

    async fn digest(&mut self, id: &str) -> Result<v1::GetStateDigestResponse, Status> {
        let session_id = id.to_owned();
        let request = v1::GetStateDigestRequest { session_id };
        Ok(self.0.get_state_digest(request).await?.into_inner())
    }
}

fn forks_go_on_with_the_bits_of_their_session(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, SMALL_LIMIT + 14)?;
    let expected = solo(context, &config, &prompt, seeded(16, 5))?;
    serving(context, config, async |served| {
        let mut keeper = Keeper::of(served);
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let forks = keeper.fork(&id, Some(2)).await?;
        ensure_eq!(forks.len(), 2, "forks");
        let whole = keeper.digest(&id).await?;
        let all = [&id, &forks[0], &forks[1]];
        for fork in &all[1..] {
            parsed(fork)?;
            ensure_eq!(keeper.digest(fork).await?, whole, "the digests of a fork");
        }
        // All three at once, and each says what the session alone would have said.
        let mut streams = Vec::new();
        for id in all {
            streams.push(client.generate(id, seeded(16, 5)).await?);
        }
        for stream in streams {
            let generated = stream.finish().await?;
            generated.ensure_same_as("the stream of a fork", &expected)?;
        }
        let mut ids: Vec<_> = keeper.list().await?.into_iter().collect();
        ids.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        let mut sorted = all.map(String::as_str);
        sorted.sort_unstable();
        let length = prompt.len() as u64 + 16;
        for (listed, id) in ids.iter().zip(sorted) {
            ensure_eq!(
                (
                    listed.session_id.as_str(),
                    listed.client_label.as_str(),
                    listed.history_length,
                    listed.busy
                ),
                (id, "gate", length, false),
                "a listed session"
            );
            let info = client.info(id).await?;
            ensure_eq!(listed.kv_live_bytes, info.kv_live_bytes, "its bytes");
        }
        ensure_eq!(ids.len(), 3, "listed sessions");
        ensure_eq!(keeper.fork(&id, None).await?.len(), 1, "forks unless said");
        Ok(())
    })
}

fn a_snapshot_outlives_its_server(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, SMALL_LIMIT + 23)?;
    let expected = solo(context, &config, &prompt, seeded(20, 9))?;
    let mut carried = None;
    serving(context, config.clone(), async |served| {
        let id = served.client.create_with(&prompt).await?;
        let begun = served.client.generate(&id, seeded(8, 9)).await?;
        let begun = begun.finish().await?.tokens;
        ensure_same_tokens("the first eight", &begun, &expected.tokens[..8])?;
        let mut keeper = Keeper::of(served);
        let bytes = keeper.snapshot(&id).await?;
        ensure_eq!(keeper.snapshot(&id).await?, bytes, "a second snapshot");
        carried = Some((bytes, keeper.digest(&id).await?));
        Ok(())
    })?;
    let Some((bytes, digest)) = carried else {
        return Err(CaseFailure::violated("no snapshot was made"));
    };
    // Another process would be no further away: nothing of the first engine is left.
    let elsewhere = EngineConfig {
        isa: Isa::Scalar,
        threads: 1,
        capacity: 1,
        ..config
    };
    serving(context, elsewhere, async |served| {
        let mut keeper = Keeper::of(served);
        for piece in [bytes.len() / 7, 1_000_000] {
            let (id, length) = keeper.restore(&bytes, piece).await?;
            ensure_eq!(length, prompt.len() as u64 + 8, "the history");
            ensure_eq!(keeper.digest(&id).await?, digest, "the digests");
            let rest = served.client.generate(&id, seeded(12, 9)).await?;
            let rest = rest.finish().await?.tokens;
            ensure_same_tokens("the rest", &rest, &expected.tokens[8..])?;
        }
        Ok(())
    })
}

fn digests_tell_how_a_session_stands(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let text = prose(context, SMALL_LIMIT + 30)?;
    serving(context, config, async |served| {
        let mut keeper = Keeper::of(served);
        let client = &mut served.client;
        let whole = client.create_with(&text).await?;
        let pieces = client.create(&[]).await?;
        let empty = keeper.digest(&pieces).await?;
        ensure_eq!(empty.history_length, 0, "the length of an empty session");
        for piece in text.chunks(7) {
            client.append(&pieces, piece).await?;
        }
        let (one, other) = (keeper.digest(&whole).await?, keeper.digest(&pieces).await?);
        ensure_eq!(one, other, "the digests of one history");
        ensure_eq!(one.history_length, text.len() as u64, "the history");
        let longer = client.create_with(&text).await?;
        client.append(&longer, &text[..1]).await?;
        let longer = keeper.digest(&longer).await?;
        let texts = |digest: &v1::GetStateDigestResponse| {
            let v1::GetStateDigestResponse {
                history_sha256,
                kv_sha256,
                state_sha256,
                ..
            } = digest.clone();
            [history_sha256, kv_sha256, state_sha256]
        };
        for (one, other) in texts(&one).iter().zip(texts(&longer)) {
            ensure!(*one != other, "a longer history has the digest {one}");
            let hex = one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(hex, "no digest: {one}");
        }
        ensure_eq!(
            one.settings_sha256,
            longer.settings_sha256,
            "the settings of one server"
        );
        Ok(())
    })
}

fn a_copy_waits_for_its_turn(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    serving(context, config, async |served| {
        let mut keeper = Keeper::of(served);
        let mut second = Keeper::of(served);
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let mut stream = client.generate(&id, greedy(WITHOUT_END)).await?;
        stream.read(3).await?;
        ensure!(
            keeper.list().await?[0].busy,
            "a session at work is not busy"
        );
        let asked = id.clone();
        let digest = tokio::spawn(async move { keeper.digest(&asked).await });
        let asked = id.clone();
        let forks = tokio::spawn(async move { second.fork(&asked, Some(1)).await });
        // Both wait; a stream under way is not cut for them.
        stream.read(20).await?;
        ensure!(!digest.is_finished(), "a digest of a session at work");
        ensure!(!forks.is_finished(), "a fork of a session at work");
        drop(stream);
        let (digest, forks) = (digest.await??, forks.await??);
        let length = client.settled_length(&id).await?;
        ensure!(length >= 30 + 23, "a history of {length} tokens");
        ensure_eq!(digest.history_length, length, "the history of the digest");
        let fork = client.info(&forks[0]).await?;
        ensure_eq!(fork.history_length, length, "the history of the fork");
        // One that waits for a session that is then closed is told so.
        let mut keeper = Keeper::of(served);
        let client = &mut served.client;
        let mut stream = client.generate(&id, greedy(WITHOUT_END)).await?;
        stream.read(2).await?;
        let asked = id.clone();
        let late = tokio::spawn(async move { keeper.snapshot(&asked).await });
        client.close(&id).await?;
        let done = stream.finish().await?.done.reason;
        ensure_eq!(
            done,
            StopReason::Cancelled,
            "the stream of a closed session"
        );
        ensure_status("SnapshotSession", late.await?, Code::NotFound, &id)
    })
}

fn refusals_leave_nothing(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 40)?;
    let other = EngineConfig {
        cache: kakeya_core::CacheConfig {
            sink: 3,
            ..config.cache
        },
        ..config.clone()
    };
    let mut foreign = Vec::new();
    serving(context, other, async |served| {
        let id = served.client.create_with(&prompt).await?;
        foreign = Keeper::of(served).snapshot(&id).await?;
        Ok(())
    })?;
    serving(context, config, async |served| {
        let mut keeper = Keeper::of(served);
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let closed = client.create(&[]).await?;
        client.close(&closed).await?;
        ensure_not_found(client, &closed).await?;
        for id in [&closed, "", "sess-1"] {
            let fork = keeper.fork(id, None).await;
            ensure_status("ForkSession", fork, Code::NotFound, id)?;
            let bytes = keeper.snapshot(id).await;
            ensure_status("SnapshotSession", bytes, Code::NotFound, id)?;
            let digest = keeper.digest(id).await;
            ensure_status("GetStateDigest", digest, Code::NotFound, id)?;
        }
        let none = keeper.fork(&id, Some(0)).await;
        ensure_status("ForkSession", none, Code::InvalidArgument, "count is 0")?;
        let many = keeper.fork(&id, Some(4)).await;
        ensure_status("ForkSession", many, Code::ResourceExhausted, "4 sessions")?;
        let bytes = keeper.snapshot(&id).await?;
        let mut bent = bytes.clone();
        bent[bytes.len() / 2] ^= 1;
        let longer = [&bytes[..], b"x"].concat();
        for (bytes, code, part) in [
            (&foreign[..], Code::FailedPrecondition, "sink `3`"),
            (
                &bytes[..bytes.len() - 1],
                Code::InvalidArgument,
                "send all of it",
            ),
            (&[], Code::InvalidArgument, "ends after 0 bytes"),
            (&longer, Code::InvalidArgument, "more came"),
            (b"GGUF....", Code::InvalidArgument, "not a session snapshot"),
            (&bent, Code::DataLoss, "damaged"),
        ] {
            let restored = keeper.restore(bytes, 60_000).await;
            ensure_status("RestoreSession", restored, code, part)?;
        }
        let huge = keeper.restore(&vec![b'K'; 5 << 20], 5 << 20).await;
        ensure_status("RestoreSession", huge, Code::OutOfRange, "4 MiB")?;
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.free_slabs),
            (1, 3),
            "sessions and free slabs"
        );
        let (restored, _) = keeper.restore(&bytes, 60_000).await?;
        let digests = (keeper.digest(&restored).await?, keeper.digest(&id).await?);
        ensure_eq!(digests.0, digests.1, "the digests after all that");
        Ok(())
    })
}

fn clients_that_go_away_hold_nothing_up(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, SMALL_LIMIT)?;
    serving(context, config, async |served| {
        let mut keeper = Keeper::of(served);
        let id = served.client.create_with(&prompt).await?;
        let bytes = keeper.snapshot(&id).await?;
        for _ in 0..MORE_THAN_IN_TRANSIT {
            let session_id = id.clone();
            let request = v1::SnapshotSessionRequest { session_id };
            let mut chunks = keeper.0.snapshot_session(request).await?.into_inner();
            ensure!(chunks.message().await?.is_some(), "a first chunk");
            drop(chunks);
        }
        for _ in 0..MORE_THAN_IN_TRANSIT {
            // Some of it, and then nothing, until the caller goes away.
            let data = bytes[..bytes.len() / 2].to_vec();
            let first = tokio_stream::iter([v1::SnapshotChunk { data }]);
            let never = tokio_stream::pending();
            let stream = tokio_stream::StreamExt::chain(first, never);
            let mut client = keeper.0.clone();
            let call = tokio::spawn(async move { client.restore_session(stream).await.map(drop) });
            tokio::task::yield_now().await;
            call.abort();
        }
        let (restored, _) = keeper.restore(&bytes, 60_000).await?;
        served.client.close(&restored).await?;
        let engine = &served.engine;
        until("what was begun is gone", async || {
            let stats = engine.stats().await?;
            Ok(stats.sessions == 1 && stats.free_slabs == 3)
        })
        .await
    })
}
