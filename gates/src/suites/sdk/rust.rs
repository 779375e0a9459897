//! The Rust client against the real server.

use kakeya_client::{Client, ClientError, GenerateOptions, StopReason};
use tonic::Code;

use super::servers::with_servers;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::prose;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast("rust.copies_go_on_with_the_same_bits", copies),
        Case::fast("rust.a_dropped_generation_stops", dropped),
        Case::fast("rust.errors_say_what_to_do", errors),
    ]
}

/// Sampling so hot that two streams that differ in anything differ in their tokens.
fn sampled() -> GenerateOptions {
    GenerateOptions {
        temperature: Some(1.5),
        seed: Some(7),
        ..GenerateOptions::default()
    }
}

fn copies(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    with_servers(context, async |servers| {
        let client = Client::connect(servers.address()).await?;
        let session = client.session(&[]).await?;
        ensure_eq!(session.append(prompt).await?, 20, "the history");
        let state = session.digest().await?;
        let restored = client.restore(&session.snapshot().await?).await?;
        let mut all = session.fork(1).await?;
        all.push(restored);
        let listed = client.sessions().await?;
        ensure_eq!(listed.len(), 3, "live sessions");
        let mut generation = session.generate(8, sampled()).await?;
        let expected = generation.tokens().await?;
        let done = generation
            .done()
            .map(|done| (done.generated_token_count, done.stop_reason()));
        ensure_eq!(done, Some((8, StopReason::MaxTokens)), "how it ended");
        ensure_eq!(generation.dropped_token_count(), 0, "tokens it cannot see");
        ensure!(
            session.route().len() == 32 && all[0].route() == session.route(),
            "a fork goes where its session goes"
        );
        ensure!(all[1].route() != session.route(), "a route of its own");
        for copy in &all {
            ensure_eq!(copy.digest().await?, state, "the state of {}", copy.id());
            let tokens = copy.generate(8, sampled()).await?.tokens().await?;
            ensure_eq!(tokens, expected, "the tokens of {}", copy.id());
        }
        all.push(session);
        for session in all {
            ensure_eq!(session.close().await?, 28, "the final history");
        }
        Ok(())
    })
}

fn dropped(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    with_servers(context, async |servers| {
        let client = Client::connect(servers.address()).await?;
        let session = client.session(&[]).await?;
        session.append(prompt).await?;
        let options = GenerateOptions {
            top_logprobs: Some(1),
            ..GenerateOptions::default()
        };
        let mut generation = session.generate(2500, options).await?;
        let token = generation.next().await?;
        let likeliest = generation.logprobs().map(|found| found.top[0].token_id);
        ensure!(token.is_some(), "no token came");
        ensure_eq!(likeliest, token, "the likeliest token, decoding greedily");
        drop(generation);
        // It waits for the end of the first.
        let rest = session
            .generate(2, GenerateOptions::default())
            .await?
            .tokens()
            .await?;
        ensure_eq!(rest.len(), 2, "tokens of the next generation");
        let length = session.info().await?.history_length;
        ensure!((23..2500).contains(&length), "a history of {length}");
        session.close().await?;
        Ok(())
    })
}

fn errors(context: &SuiteContext) -> CaseResult {
    with_servers(context, async |servers| {
        let client = Client::connect(servers.address()).await?;
        let gone = client.attach("sess-00000000000000000000000000000007", "")?;
        let said = refused(gone.info().await)?;
        ensure_eq!(said.code(), Some(Code::NotFound), "the code");
        ensure!(
            said.to_string().contains("`--state-dir` keeps them"),
            "{said}"
        );
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = free.local_addr()?.to_string();
        drop(free);
        let said = refused(Client::connect(&address).await)?;
        let advice = format!("kakeya serve --bind {address}");
        ensure!(said.to_string().contains(&advice), "{said}");
        for bad in ["127.0.0.1", "", ":50051", "127.0.0.1:70000", "a b:1"] {
            let said = refused(Client::connect(bad).await)?;
            ensure!(matches!(said, ClientError::Address { .. }), "{said}");
        }
        for bad in ["", "k-1\n", "k 1", "kéy"] {
            let said = refused(client.clone().with_key(bad))?;
            ensure!(matches!(said, ClientError::Key), "{said}");
        }
        for bad in ["a b", "kéy", "x\n", &"x".repeat(257)] {
            let said = refused(client.attach("sess-0", bad))?;
            ensure!(matches!(said, ClientError::Route), "{said}");
        }
        let hurried = client.with_timeout(std::time::Duration::ZERO);
        let said = refused(hurried.session(&[]).await)?;
        ensure_eq!(said.code(), Some(Code::DeadlineExceeded), "the code");
        Ok(())
    })
}

fn refused<T>(answer: Result<T, ClientError>) -> Result<ClientError, CaseFailure> {
    match answer {
        Ok(_) => Err(CaseFailure::violated("it was accepted")),
        Err(error) => Ok(error),
    }
}
