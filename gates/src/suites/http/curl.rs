//! What a script sees: curl, with everything that an SDK would hide.

use std::process::Stdio;
use std::time::Duration;

use kakeya_core::{GenerateParams, Sampling};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::EngineConfig;
use serde_json::{Value, json};
use tokio::process::Command;

use super::server::{Queue, Served, four, serving};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, prose, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    let case = |name, config: fn(&SuiteContext) -> EngineConfig, run: Run| {
        Case::fast(format!("curl.{name}"), move |ctx| {
            serving(ctx, config(ctx), Queue::PATIENT, async |served| {
                run(ctx, served).await
            })
        })
    };
    vec![
        case("an_answer_is_what_a_session_says", small, |ctx, served| {
            Box::pin(session_says(ctx, served))
        }),
        case(
            "without_a_prefix_cache_no_prompt_is_cached",
            small,
            |_, served| Box::pin(nothing_cached(served)),
        ),
        case(
            "events_come_one_by_one_and_end_with_done",
            four,
            |_, served| Box::pin(events(served)),
        ),
        case(
            "a_chat_becomes_the_tokens_of_its_template",
            four,
            |ctx, served| Box::pin(template(ctx, served)),
        ),
        case(
            "mistakes_are_told_in_openais_envelope",
            four,
            |_, served| Box::pin(mistakes(served)),
        ),
        case(
            "a_model_is_found_by_its_name_with_a_slash",
            four,
            |_, served| Box::pin(found_by_name(served)),
        ),
        case("a_dropped_connection_stops_the_work", four, |_, served| {
            Box::pin(dropped(served))
        }),
        case(
            "a_server_that_drains_says_so_and_finishes",
            four,
            |_, served| Box::pin(drains(served)),
        ),
        case(
            "a_stream_cut_at_the_shutdown_timeout_ends_with_an_error",
            four,
            |_, served| Box::pin(cut(served)),
        ),
    ]
}

type Run = for<'a> fn(
    &'a SuiteContext,
    &'a Served,
) -> std::pin::Pin<Box<dyn Future<Output = CaseResult> + 'a>>;

/// A response: its status, and its body.
pub(super) type Answered = (u16, String);

pub(super) fn curl(served: &Served, path: &str) -> Command {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--no-buffer",
            "--write-out",
            "\n%{http_code}",
        ])
        .arg(format!("{}{path}", served.base_url))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn get(served: &Served, path: &str) -> Result<Answered, CaseFailure> {
    answered(&mut curl(served, path)).await
}

async fn post(served: &Served, path: &str, body: &str) -> Result<Answered, CaseFailure> {
    answered(sending(&mut curl(served, path), body)).await
}

pub(super) fn sending<'c>(command: &'c mut Command, body: &str) -> &'c mut Command {
    command.args([
        "--header",
        "content-type: application/json",
        "--data-binary",
        body,
    ])
}

pub(super) async fn answered(command: &mut Command) -> Result<Answered, CaseFailure> {
    let output = command
        .output()
        .await
        .map_err(|error| CaseFailure::violated(format!("curl cannot be run: {error}")))?;
    ensure!(
        output.status.success(),
        "curl ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout)?;
    let (body, status) = printed
        .rsplit_once('\n')
        .ok_or_else(|| CaseFailure::violated("curl printed no status"))?;
    Ok((status.parse()?, body.to_owned()))
}

pub(super) async fn post_json(
    served: &Served,
    path: &str,
    body: Value,
) -> Result<Value, CaseFailure> {
    let (status, text) = post(served, path, &body.to_string()).await?;
    ensure_eq!(status, 200, "the status of {path}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// The same tokens, drawn with the same seed, beyond the trim boundary.
async fn session_says(context: &SuiteContext, served: &Served) -> CaseResult {
    let prompt = prose(context, 60)?;
    let sampling = Sampling {
        temperature: 1.5,
        seed: Some(11),
        ..Sampling::default()
    };
    let params = GenerateParams::new(40, sampling);
    let expected = solo(context, &small(context), &prompt, params)?;
    let tokenizer = Tokenizer::of(context.model()?.source())?;
    let ended = expected
        .tokens
        .iter()
        .position(|token| tokenizer.is_end_of_generation(*token));
    let said = &expected.tokens[..ended.unwrap_or(expected.tokens.len())];
    let body = json!({"model": served.model, "prompt": prompt, "max_tokens": 40, "temperature": 1.5, "seed": 11});
    let answer = post_json(served, "/v1/completions", body).await?;
    ensure_eq!(
        answer["choices"][0]["text"],
        json!(tokenizer.decode(said, true)?),
        "the text of the answer"
    );
    ensure_eq!(
        answer["usage"]["prompt_tokens"],
        json!(60),
        "tokens of the prompt"
    );
    Ok(())
}

/// As with `--no-prefix-cache`: the answers are the same, and so are those of one request.
async fn nothing_cached(served: &Served) -> CaseResult {
    let prompt: Vec<u32> = (100..200).collect();
    let body = json!({"model": served.model, "prompt": [prompt, prompt], "n": 2, "max_tokens": 8, "temperature": 0});
    let mut texts = Vec::new();
    for _ in 0..2 {
        let answer = post_json(served, "/v1/completions", body.clone()).await?;
        let details = &answer["usage"]["prompt_tokens_details"];
        ensure_eq!(details["cached_tokens"], json!(0), "cached tokens");
        for index in 0..4 {
            texts.push(answer["choices"][index]["text"].clone());
        }
    }
    ensure!(
        texts.iter().all(|text| *text == texts[0]),
        "the same prompt has other answers: {texts:?}"
    );
    Ok(())
}

/// The data of server-sent events.
fn data(body: &str) -> Vec<&str> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

async fn events(served: &Served) -> CaseResult {
    let body = json!({"model": served.model, "stream": true, "temperature": 0, "max_tokens": 30,
                      "stream_options": {"include_usage": true},
                      "messages": [{"role": "user", "content": "Write a haiku about 漢字 and 🙂."}]});
    let (status, text) = post(served, "/v1/chat/completions", &body.to_string()).await?;
    ensure_eq!(status, 200, "the status");
    let events = data(&text);
    ensure_eq!(events.last(), Some(&"[DONE]"), "the last event");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event))
        .collect::<Result<_, _>>()?;
    ensure!(chunks.len() > 10, "{} chunks of 30 tokens", chunks.len());
    ensure!(
        chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]
            && chunk["system_fingerprint"] == chunks[0]["system_fingerprint"]),
        "the chunks are of several answers: {text}"
    );
    let (last, before) = chunks.split_last().unwrap_or((&Value::Null, &[]));
    ensure_eq!(
        last["choices"],
        json!([]),
        "choices of the chunk with the usage"
    );
    ensure_eq!(
        last["usage"]["completion_tokens"],
        json!(30),
        "tokens of the answer"
    );
    ensure!(
        before.iter().all(|chunk| chunk["usage"].is_null()),
        "the usage came early: {text}"
    );
    Ok(())
}

async fn template(context: &SuiteContext, served: &Served) -> CaseResult {
    let messages =
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]);
    // As `transformers` renders SmolLM2's template.
    let rendered = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n";
    let tokenizer = Tokenizer::of(context.model()?.source())?;
    let expected = tokenizer.encode(rendered, true)?;
    let body = json!({"model": served.model, "messages": messages});
    let found = post_json(served, "/tokenize", body).await?;
    ensure_eq!(found["tokens"], json!(expected), "tokens of the chat");
    let text = post_json(served, "/detokenize", json!({"tokens": expected})).await?;
    ensure_eq!(text["prompt"], json!(rendered), "the text of its tokens");
    let body = json!({"model": served.model, "messages": messages, "max_tokens": 1});
    let answer = post_json(served, "/v1/chat/completions", body).await?;
    ensure_eq!(
        answer["usage"]["prompt_tokens"],
        json!(expected.len()),
        "tokens that the model was given"
    );
    Ok(())
}

async fn mistakes(served: &Served) -> CaseResult {
    let chat = "/v1/chat/completions";
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(5 << 20));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), large)?;
    let large = format!("@{}", file.path().display());
    let table = [
        (chat, "", 400, "empty"),
        (chat, "{\"model\": ", 400, "line 1"),
        (chat, "[]", 400, "object"),
        (
            chat,
            "{\"model\": \"another\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
            404,
            "another",
        ),
        (chat, "{\"model\": 5}", 400, "`model`"),
        (chat, &large, 413, "4194304"),
        ("/v1/nothing", "{}", 404, "unknown request URL"),
        ("/v1/models", "{}", 405, "POST"),
    ];
    for (path, body, status, part) in table {
        let (found, text) = post(served, path, body).await?;
        let what = format!("{path} with {}", &body[..body.len().min(60)]);
        ensure_eq!(found, status, "the status of {what}: {text}");
        let envelope: Value = serde_json::from_str(&text)?;
        let message = envelope["error"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains(part), "{what}: {text} does not say {part}");
        ensure!(envelope["error"]["type"].is_string(), "{what}: {text}");
    }
    let (status, text) = get(served, chat).await?;
    ensure_eq!(status, 405, "GET {chat}: {text}");
    let mut form = curl(served, chat);
    form.args(["--data-binary", "a=b"]);
    let (status, text) = answered(&mut form).await?;
    ensure_eq!(status, 415, "a form: {text}");
    Ok(())
}

async fn found_by_name(served: &Served) -> CaseResult {
    ensure!(served.model.contains('/'), "{} has no slash", served.model);
    for name in [served.model.clone(), served.model.replace('/', "%2F")] {
        let (status, text) = get(served, &format!("/v1/models/{name}")).await?;
        ensure_eq!(status, 200, "the status of {name}: {text}");
        let model: Value = serde_json::from_str(&text)?;
        ensure_eq!(model["id"], json!(served.model), "the model's name");
    }
    let (status, text) = get(served, &format!("/v1/models/{}/more", served.model)).await?;
    ensure_eq!(status, 404, "another name that begins with it: {text}");
    Ok(())
}

/// A stream that is read for a while and then dropped, many times: by the count of its sessions nothing is left.
async fn dropped(served: &Served) -> CaseResult {
    let endless = |stream: bool| {
        json!({"model": served.model, "prompt": "Once upon a time", "max_tokens": 100_000, "temperature": 1.5,
               "stream": stream})
    };
    for round in 0..12 {
        let mut command = curl(served, "/v1/completions");
        let mut client = sending(&mut command, &endless(round % 3 != 0).to_string()).spawn()?;
        // Until the request has reached the engine.
        while served.engine.stats().await?.active == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        client.kill().await?;
        served.ensure_nothing_left().await?;
    }
    Ok(())
}

async fn drains(served: &Served) -> CaseResult {
    for path in ["/healthz", "/readyz"] {
        let (status, text) = get(served, path).await?;
        ensure_eq!(status, 200, "{path} at first: {text}");
    }
    let body = json!({"model": served.model, "prompt": "Once upon a time", "max_tokens": 60, "temperature": 0});
    let body = body.to_string();
    let expected = post(served, "/v1/completions", &body).await;
    let running = post(served, "/v1/completions", &body);
    let stopping = async {
        while served.engine.stats().await?.active == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        served.stopping.cancel();
        let draining = served.engine.shutdown(PATIENCE);
        let told = async {
            let (status, _) = get(served, "/healthz").await?;
            ensure_eq!(status, 200, "/healthz while it drains");
            let (status, text) = get(served, "/readyz").await?;
            ensure_eq!(status, 503, "/readyz while it drains: {text}");
            let (status, text) = post(served, "/v1/completions", &body).await?;
            ensure_eq!(status, 503, "a new request while it drains: {text}");
            Ok::<_, CaseFailure>(())
        };
        let (drained, told) = tokio::join!(draining, told);
        drained?;
        told
    };
    let (finished, stopped) = tokio::join!(running, stopping);
    stopped?;
    let text = |(status, body): Answered| {
        ensure_eq!(status, 200, "the status of an answer under way: {body}");
        let body: Value = serde_json::from_str(&body)?;
        Ok::<_, CaseFailure>(body["choices"].clone())
    };
    ensure_eq!(text(finished?)?, text(expected?)?, "the answer under way");
    Ok(())
}

/// What outlasts the time that is left is told so, in the stream, and not with `[DONE]`.
async fn cut(served: &Served) -> CaseResult {
    let body = json!({"model": served.model, "prompt": "Once upon a time", "max_tokens": 100_000, "temperature": 1.5,
                      "stream": true})
    .to_string();
    let running = post(served, "/v1/completions", &body);
    let stopping = async {
        while served.engine.stats().await?.tokens_generated < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        served.stopping.cancel();
        served.engine.shutdown(Duration::from_millis(100)).await?;
        Ok::<_, CaseFailure>(())
    };
    let (answer, stopped) = tokio::join!(running, stopping);
    stopped?;
    let (status, text) = answer?;
    ensure_eq!(status, 200, "the status of a stream that had begun");
    let events = data(&text);
    let (last, before) = events.split_last().unwrap_or((&"", &[]));
    ensure!(before.len() >= 3, "the stream says little: {text}");
    let last: Value = serde_json::from_str(last)?;
    let message = last["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("--shutdown-timeout"),
        "the stream ends with {last}"
    );
    Ok(())
}
