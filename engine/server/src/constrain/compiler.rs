//! Compiling forms: bounded, and away from the threads that serve connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use kakeya_core::Constraint;
use kakeya_model::tokenizer::Tokenizer;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::TokEnv;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::grammar::{Grammar, account};
use super::vocabulary::Vocabulary;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::forms::{AnswerForm, NamedSchema};
use crate::http::schema::bounded;

/// Forms that are compiled at once; others wait.
const AT_ONCE: usize = 2;

/// The stack of the thread that compiles a form, in bytes. The compiler calls itself as deep as references lead into
/// each other, some 8 KiB each, and a schema has room for some 5,000 of them.
const STACK: usize = 128 << 20;

/// Makes grammars of forms, for one model.
#[derive(Debug)]
pub struct Compiler {
    tokenizer: Arc<Tokenizer>,
    /// Made for the first form that is asked for: it takes a quarter of a second, and memory that many servers never need.
    factory: OnceLock<Result<Factory, String>>,
    places: Arc<Semaphore>,
}

struct Factory(ParserFactory);

impl std::fmt::Debug for Factory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Factory").finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler for the tokens of `tokenizer`.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            factory: OnceLock::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Makes a grammar of a form. It is made to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// A schema that cannot be held to, with its field and what is wrong in it; [`ErrorKind::Server`].
    pub async fn compile(self: &Arc<Self>, form: AnswerForm) -> Result<Constraint, ApiError> {
        let lost = || ApiError::new(ErrorKind::Server, "a grammar was not compiled");
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| lost())?;
        let (done, compiled) = oneshot::channel();
        let compiler = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("kakeya-grammar".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                drop(done.send(compiler.compile_here(&form)));
                drop(place);
            });
        thread.map_err(|error| ApiError::new(ErrorKind::Server, error.to_string()))?;
        compiled.await.map_err(|_| lost())?
    }

    fn compile_here(&self, form: &AnswerForm) -> Result<Constraint, ApiError> {
        for named in &form.schemas {
            bounded(&named.schema).map_err(|why| refused(&named.param, &why))?;
        }
        let factory = self.factory()?;
        let schemas: Vec<_> = form.schemas.iter().map(schema_grammar).collect();
        let mut grammars = vec![GrammarWithLexer::from_lark(form.grammar.clone())];
        grammars.extend(schemas.iter().cloned());
        match matcher(factory, grammars) {
            Ok(matcher) => Ok(Constraint::new(Grammar::new(matcher))),
            // Which of the schemas it is about is found by looking at each alone.
            Err(why) => {
                for (schema, named) in schemas.into_iter().zip(&form.schemas) {
                    matcher(factory, vec![schema]).map_err(|why| refused(&named.param, &why))?;
                }
                let param = form
                    .schemas
                    .first()
                    .map_or("response_format", |one| &one.param);
                Err(refused(param, &why))
            }
        }
    }

    fn factory(&self) -> Result<&ParserFactory, ApiError> {
        let made = self.factory.get_or_init(|| {
            let make = || {
                let tokens: TokEnv = Arc::new(Vocabulary::new(Arc::clone(&self.tokenizer)));
                ParserFactory::new_simple(&tokens)
            };
            let mut factory = catch_unwind(AssertUnwindSafe(make))
                .map_err(|_| "its tokens are not of a known kind".to_owned())?
                .map_err(|error| error.to_string())?;
            // Nothing of a prompt or an answer goes into logs or errors.
            factory.quiet().limits_mut().verbose_errors = false;
            Ok(Factory(factory))
        });
        match made {
            Ok(Factory(factory)) => Ok(factory),
            Err(why) => {
                let message = format!("answers of this model cannot be held to a form: {why}");
                Err(ApiError::new(ErrorKind::Server, message))
            }
        }
    }
}

/// A schema under the name that the grammar has for it. JSON is on one line, with a blank behind each comma and colon,
/// as models saw it in training and as `json.dumps` writes it.
fn schema_grammar(named: &NamedSchema) -> GrammarWithLexer {
    let options = JsonCompileOptions {
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        lenient: named.lenient,
        ..JsonCompileOptions::default()
    };
    let mut schema = named.schema.clone();
    if let Value::Object(fields) = &mut schema {
        // In the place of one that the client may have given: the options are not its to choose.
        fields.insert("x-guidance".to_owned(), serde_json::json!(options));
    }
    GrammarWithLexer {
        name: Some(named.name.clone()),
        ..GrammarWithLexer::from_json_schema(schema)
    }
}

/// A matcher at the beginning of a text, of which there is one at least.
fn matcher(factory: &ParserFactory, grammars: Vec<GrammarWithLexer>) -> Result<Matcher, String> {
    let grammar = TopLevelGrammar {
        grammars,
        max_tokens: None,
    };
    let mut matcher = Matcher::new(factory.create_parser(grammar));
    if let Some(error) = matcher.get_error() {
        return Err(in_our_words(&account(&error)));
    }
    match matcher.compute_mask() {
        Ok(_) => Ok(matcher),
        Err(_) => Err("nothing can be written that it allows".to_owned()),
    }
}

/// What llguidance says of a schema, without advice that is for programs alone.
fn in_our_words(account: &str) -> String {
    const KEYWORDS: &str = "Unimplemented keys: ";
    if let Some(keys) = account.strip_prefix(KEYWORDS) {
        return format!("it has keywords that are not supported: {keys}");
    }
    if account.starts_with("oneOf constraints are not supported") {
        return "`oneOf` is only supported where no value fits two of its schemas; use `anyOf`"
            .to_owned();
    }
    if account.starts_with("Only absolute $ref's") {
        return "`$ref` is only supported into the schema itself, as `#/$defs/name`".to_owned();
    }
    if account.starts_with("panic:") {
        return "its compiler gave up on it".to_owned();
    }
    account.to_owned()
}

fn refused(param: &str, why: &str) -> ApiError {
    ApiError::invalid(
        param,
        format!("the schema in `{param}` cannot be held to: {why}"),
    )
}
