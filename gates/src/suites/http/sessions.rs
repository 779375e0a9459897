//! Sessions over HTTP: those of gRPC, as a script sees them.

use std::sync::Arc;

use kakeya_core::Limits;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::curl::{Answered, answered, curl, sending};
use super::server::{Queue, Served, four, serving, serving_behind};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{SMALL_LIMIT, prose, seeded, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("sessions.a_history_generates_what_the_engine_does", same),
        Case::fast(
            "sessions.a_stream_that_is_left_keeps_what_was_emitted",
            left,
        ),
        Case::fast("sessions.mistakes_are_told_and_change_nothing", mistakes),
        Case::fast("sessions.a_session_belongs_to_its_key", owned),
    ]
}

/// A client of one key, or of none.
struct Client<'s> {
    served: &'s Served,
    key: Option<String>,
}

impl Client<'_> {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answered, CaseFailure> {
        let mut command = curl(self.served, path);
        command.args(["--request", method]);
        if let Some(key) = &self.key {
            command.args(["--header", &format!("authorization: Bearer {key}")]);
        }
        match body {
            Some(body) => answered(sending(&mut command, &body.to_string())).await,
            None => answered(&mut command).await,
        }
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CaseFailure> {
        let (status, text) = self.ask(method, path, body).await?;
        ensure!(
            matches!(status, 200 | 201),
            "{method} {path}: {status} {text}"
        );
        Ok(serde_json::from_str(&text)?)
    }

    /// A new session with these tokens, by its path.
    async fn open(&self, tokens: &[u32]) -> Result<String, CaseFailure> {
        let opened = json!({"label": "script", "eos_token_ids": []});
        let session = self.json("POST", "/v1/sessions", Some(opened)).await?;
        let id = session["id"].as_str().unwrap_or_default();
        let path = format!("/v1/sessions/{id}");
        let tokens = json!({"tokens": tokens});
        let told = self
            .json("POST", &format!("{path}/tokens"), Some(tokens.clone()))
            .await?;
        let count = tokens["tokens"].as_array().map_or(0, Vec::len);
        ensure_eq!(told["history_length"], json!(count), "the history");
        Ok(path)
    }

    async fn close(&self, path: &str) -> Result<u64, CaseFailure> {
        let closed = self.json("DELETE", path, None).await?;
        let gone = self.ask("GET", path, None).await?;
        ensure_eq!(gone.0, 404, "a closed session: {}", gone.1);
        Ok(closed["history_length"].as_u64().unwrap_or_default())
    }
}

/// The events of a stream.
fn events(text: &str) -> Result<Vec<Value>, CaseFailure> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut lines: Vec<_> = lines.collect();
    ensure_eq!(lines.pop(), Some("[DONE]"), "the end of {text}");
    let read = lines.into_iter().map(serde_json::from_str);
    Ok(read.collect::<Result<_, _>>()?)
}

/// In pieces, across the end of the window, with what is drawn so hot that nothing but the same bits gives the same tokens.
fn same(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 60)?;
    let expected = solo(context, &small(context), &prompt, seeded(40, 7))?;
    serving(context, small(context), Queue::PATIENT, async |served| {
        let client = Client { served, key: None };
        let path = client.open(&prompt[..25]).await?;
        let rest = json!({"tokens": prompt[25..]});
        client
            .json("POST", &format!("{path}/tokens"), Some(rest))
            .await?;
        let sampling = seeded(40, 7).sampling;
        let wanted = json!({"max_tokens": 40, "seed": 7, "temperature": sampling.temperature,
                            "top_p": sampling.top_p, "top_k": sampling.top_k});
        let (status, text) = client
            .ask("POST", &format!("{path}/generate"), Some(wanted))
            .await?;
        ensure_eq!(status, 200, "a generation: {text}");
        let told = events(&text)?;
        ensure_eq!(told[0]["type"], json!("truncated"), "the first event");
        let tokens: Vec<u32> = told
            .iter()
            .filter(|event| event["type"] == "token")
            .filter_map(|event| event["token_id"].as_u64())
            .map(|token| token as u32)
            .collect();
        ensure_eq!(tokens, expected.tokens, "the tokens");
        let texts: String = told
            .iter()
            .filter_map(|event| event["text"].as_str())
            .collect();
        let tokenizer = Tokenizer::of(context.model()?.source())?;
        let whole = tokenizer.decode(&[&prompt[..], &tokens].concat(), true)?;
        ensure!(
            whole.ends_with(&texts) && !texts.is_empty(),
            "{texts:?} of {whole:?}"
        );
        let done = told.last().cloned().unwrap_or_default();
        ensure_eq!(done["stop_reason"], json!("max_tokens"), "how it ended");
        let history = client
            .json("GET", &format!("{path}/tokens?from=60"), None)
            .await?;
        ensure_eq!(history["tokens"], json!(tokens), "the history's end");
        let info = client.json("GET", &path, None).await?;
        ensure_eq!(info["history_length"], json!(100), "its length");
        ensure_eq!(
            info["cached_length"],
            json!(SMALL_LIMIT),
            "tokens in the cache"
        );
        let listed = client.json("GET", "/v1/sessions", None).await?;
        ensure_eq!(
            listed["data"][0]["label"],
            json!("script"),
            "a session of the list"
        );
        ensure_eq!(client.close(&path).await?, 100, "the final history");
        Ok(())
    })
}

fn left(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    serving(context, four(context), Queue::PATIENT, async |served| {
        let client = Client { served, key: None };
        let path = client.open(&prompt).await?;
        let wanted = json!({"max_tokens": 4000, "temperature": 1, "seed": 3}).to_string();
        let mut command = curl(served, &format!("{path}/generate"));
        let mut stream = sending(&mut command, &wanted).spawn()?;
        let out = stream
            .stdout
            .take()
            .ok_or_else(|| CaseFailure::violated("no output"))?;
        let mut lines = BufReader::new(out).lines();
        let mut read = Vec::new();
        while read.len() < 3 {
            let line = lines.next_line().await?;
            let line = line.ok_or_else(|| CaseFailure::violated("the stream ended"))?;
            if let Some(event) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(event)?;
                read.extend(event["token_id"].as_u64());
            }
        }
        stream.kill().await?;
        // It waits until the generation has ended.
        let told = client
            .json("GET", &format!("{path}/tokens?from=20"), None)
            .await?;
        let told: Vec<u64> = serde_json::from_value(told["tokens"].clone())?;
        ensure!(told.starts_with(&read), "{read:?} of {told:?}");
        ensure!(told.len() < 4000, "it went on to its end");
        let info = client.json("GET", &path, None).await?;
        ensure_eq!(info["history_length"], json!(20 + told.len()), "its length");
        let (status, text) = client
            .ask(
                "POST",
                &format!("{path}/generate"),
                Some(json!({"max_tokens": 2})),
            )
            .await?;
        ensure_eq!(
            (status, events(&text)?.len()),
            (200, 3),
            "the next generation"
        );
        client.close(&path).await.map(drop)
    })
}

fn mistakes(context: &SuiteContext) -> CaseResult {
    let vocabulary = context.model()?.config().vocabulary;
    serving(context, four(context), Queue::PATIENT, async |served| {
        let client = Client { served, key: None };
        let path = client.open(&[]).await?;
        let nobody = "/v1/sessions/sess-00000000000000000000000000000007";
        let (tokens, generate) = (format!("{path}/tokens"), format!("{path}/generate"));
        let beyond = format!("outside the vocabulary of {vocabulary}");
        let odd = "/v1/sessions/%2e%2e%2fpasswd";
        for (method, path, body, status, part) in [
            (
                "POST",
                tokens.as_str(),
                json!({"tokens": [1, vocabulary]}),
                400,
                beyond.as_str(),
            ),
            (
                "POST",
                &tokens,
                json!({"tokens": [1, -2]}),
                400,
                "tokens[1]",
            ),
            ("POST", &tokens, json!({}), 400, "`tokens` is required"),
            (
                "GET",
                &format!("{tokens}?from=x"),
                Value::Null,
                400,
                "must be a position",
            ),
            ("POST", &generate, json!({"max_tokens": 1}), 400, "empty"),
            (
                "POST",
                &generate,
                json!({"max_tokens": 0}),
                400,
                "max_tokens",
            ),
            (
                "POST",
                &generate,
                json!({"max_tokens": 1, "temperature": 9}),
                400,
                "temperature",
            ),
            (
                "POST",
                &generate,
                json!({"max_tokens": 1, "logit_bias": {"99999999": 1}}),
                400,
                "99999999",
            ),
            ("GET", nobody, Value::Null, 404, "session_not_found"),
            ("DELETE", nobody, Value::Null, 404, "session_not_found"),
            ("GET", odd, Value::Null, 404, "session_not_found"),
            ("PUT", &path, json!({}), 405, "not allowed"),
            ("POST", "/v1/sessions", json!({"label": 7}), 400, "label"),
        ] {
            let body = (!body.is_null()).then_some(body);
            let (found, text) = client.ask(method, path, body).await?;
            ensure_eq!(found, status, "{method} {path}: {text}");
            ensure!(text.contains(part), "{method} {path}: no {part} in {text}");
        }
        let beyond = client
            .json("GET", &format!("{tokens}?from=9"), None)
            .await?;
        ensure_eq!(beyond["tokens"], json!([]), "tokens beyond the end");
        ensure_eq!(client.close(&path).await?, 0, "the final history");
        Ok(())
    })
}

fn owned(context: &SuiteContext) -> CaseResult {
    let keys = [FreshKey::new("one")?, FreshKey::new("two")?];
    let lines: String = keys.iter().map(FreshKey::lines).collect();
    let guard = Guard {
        access: Arc::new(Access::Keys(KeyRing::new(
            parse_file(&lines)?,
            Limits::default(),
        ))),
        ..Guard::default()
    };
    let prompt = prose(context, 5)?;
    serving_behind(
        context,
        four(context),
        Queue::PATIENT,
        guard,
        async |served| {
            let [one, two] = keys.map(|key| Client {
                served,
                key: Some(key.secret().to_owned()),
            });
            let path = one.open(&prompt).await?;
            let info = one.json("GET", &path, None).await?;
            ensure_eq!(info["history_length"], json!(5), "to its own key");
            for (method, path) in [
                ("GET", path.clone()),
                ("DELETE", path.clone()),
                ("GET", format!("{path}/tokens")),
            ] {
                let (status, text) = two.ask(method, &path, None).await?;
                ensure_eq!(status, 404, "{method} {path}: {text}");
            }
            let listed = two.json("GET", "/v1/sessions", None).await?;
            ensure_eq!(listed["data"], json!([]), "the other key's sessions");
            let open = Client { served, key: None };
            for (path, expected) in [("/", 200), ("/v1/sessions", 401)] {
                let (status, _) = open.ask("GET", path, None).await?;
                ensure_eq!(status, expected, "{path} without a key");
            }
            ensure_eq!(one.close(&path).await?, 5, "the final history");
            Ok(())
        },
    )
}
