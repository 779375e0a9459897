//! Flags that several commands share: parsed as they stand, then validated together.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use kakeya_core::{CacheConfig, KvElement, PositionPolicy, Window};
use kakeya_model::{ComputeOptions, Isa, LoadOptions, Quantization, device};
use serde::Serialize;

use super::Failure;

/// Which model, how its cache is kept, and what it runs on.
#[derive(Debug, Args)]
pub struct EngineArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct ModelArgs {
    /// A model of the catalogue, fetched if it is missing [default: smollm2-135m]
    #[arg(long, value_name = "NAME", conflicts_with = "model_file")]
    model: Option<String>,
    /// A GGUF file, or a folder with config.json and safetensors
    #[arg(long, value_name = "PATH")]
    model_file: Option<PathBuf>,
    /// Quantise floating-point weights while they are loaded: `q8_0`, `q4_1` or `q4_k`
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Quantization>,
}

/// What a session keeps, and how.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Tokens at the start of a session that are never evicted
    #[arg(long, value_name = "N", default_value_t = 4)]
    sink: u32,
    /// Latest tokens that are kept besides the sinks: a number, or `full` for the model's whole context
    #[arg(long, value_name = "N|full", default_value = "1024")]
    window: Window,
    /// Where the sinks stand once the window has left them: `streaming` (at a saturating distance, so that a
    /// session can run for ever) or `global` (at their true distance)
    #[arg(long, value_name = "POLICY", default_value = "streaming")]
    positions: PositionPolicy,
    /// Element type of the KV cache: `f16`, `f32`, or `int8` (with a scale for each 32 elements: about half of f16's
    /// memory)
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv: KvElement,
}

#[derive(Debug, Args)]
struct ComputeArgs {
    /// Compute threads [default: the cores of this machine]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<NonZeroUsize>,
    /// What computes: `cpu`, or `cuda`, `cuda:1` and so on for an NVIDIA GPU; the results are the same bits, but with --numerics
    /// fast
    #[arg(
        long,
        value_name = "DEVICE",
        env = "KAKEYA_DEVICE",
        default_value = "cpu"
    )]
    device: Device,
    /// Instruction set of the processor: `auto`, `scalar`, `avx2`, `avx512` or `neon`; the results are the same bits
    #[arg(long, value_name = "ISA", env = "KAKEYA_ISA", default_value = "auto")]
    isa: String,
    /// Whose bits the results are: `exact`, everywhere the same, or `fast`, with tensor cores of the GPU that --device asks for
    #[arg(
        long,
        value_enum,
        env = "KAKEYA_NUMERICS",
        default_value_t = Numerics::Exact
    )]
    numerics: Numerics,
}

/// Whose bits the results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Numerics {
    Exact,
    Fast,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Cpu,
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let device = match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            None if text == "cuda" => Some(Self::Cuda(0)),
            Some(("cuda", ordinal)) => ordinal.parse().ok().map(Self::Cuda),
            _ => None,
        };
        device.ok_or_else(|| "expected `cpu`, `cuda` or `cuda:N` with N from 0 up".to_owned())
    }
}

impl ComputeArgs {
    fn validate(self) -> Result<ComputeOptions, Failure> {
        let isa = match self.device {
            Device::Cpu if self.numerics == Numerics::Fast => {
                return Err(Failure::usage(
                    "--numerics fast is a GPU's: give --device cuda with it, or leave it out",
                ));
            }
            Device::Cpu => Isa::select(&self.isa)
                .map_err(|error| Failure::usage(format!("--isa or KAKEYA_ISA: {error}")))?,
            Device::Cuda(ordinal) => {
                if !["auto", "cuda"].contains(&self.isa.as_str()) {
                    return Err(Failure::usage(format!(
                        "--isa {} is the processor's, and --device asks for a GPU: leave one of them out",
                        self.isa
                    )));
                }
                device::select(ordinal);
                device::check().map_err(|error| {
                    Failure::usage(format!("--device or KAKEYA_DEVICE: {error}"))
                })?;
                match self.numerics {
                    Numerics::Exact => Isa::Cuda,
                    Numerics::Fast => Isa::CudaFast,
                }
            }
        };
        let threads = self.threads.unwrap_or_else(available_threads).get();
        Ok(ComputeOptions { threads, isa })
    }
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A name of the catalogue; `None` is its default.
    Named(Option<String>),
    /// A file or folder.
    File(PathBuf),
}

/// The shared flags, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Where the weights come from.
    pub source: ModelSource,
    /// What is done to them.
    pub load: LoadOptions,
    /// What a session keeps.
    pub cache: CacheConfig,
    /// How it keeps it.
    pub kv: KvElement,
    /// What it runs on.
    pub compute: ComputeOptions,
}

/// The settings as reports print them: what the bits of a result depend on, and what they do not.
#[derive(Debug, Serialize)]
pub struct Settings {
    isa: String,
    threads: usize,
    sink: u32,
    window: String,
    positions: String,
    kv: String,
    quantize: Option<String>,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} threads, {}, {} sinks and window {}, {} KV",
            self.threads, self.isa, self.sink, self.window, self.kv
        )?;
        match &self.quantize {
            Some(to) => write!(f, ", quantised to {to}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
impl Settings {
    /// Some settings, for the reports' tests.
    pub fn example() -> Self {
        Self {
            isa: "scalar".into(),
            threads: 2,
            sink: 4,
            window: "full".into(),
            positions: "streaming".into(),
            kv: "f16".into(),
            quantize: None,
        }
    }
}

impl EngineOptions {
    /// The settings, for a report.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            isa: self.compute.isa.to_string(),
            threads: self.compute.threads,
            sink: self.cache.sink,
            window: self.cache.window.to_string(),
            positions: self.cache.positions.to_string(),
            kv: self.kv.to_string(),
            quantize: self.load.quantize.map(|to| to.to_string()),
        }
    }
}

impl EngineArgs {
    /// Checks the flags against each other and against this machine.
    ///
    /// # Errors
    /// A usage error that names the flag.
    pub fn validate(self) -> Result<EngineOptions, Failure> {
        let Self {
            model,
            cache,
            compute,
        } = self;
        let (cache, kv) = cache.validate()?;
        Ok(EngineOptions {
            source: model
                .model_file
                .map_or(ModelSource::Named(model.model), ModelSource::File),
            load: LoadOptions {
                quantize: model.quantize,
            },
            cache,
            kv,
            compute: compute.validate()?,
        })
    }
}

impl CacheArgs {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// A usage error that names the flags.
    pub fn validate(self) -> Result<(CacheConfig, KvElement), Failure> {
        let cache = CacheConfig {
            sink: self.sink,
            window: self.window,
            positions: self.positions,
        };
        cache
            .validate()
            .map_err(|error| Failure::usage(format!("--sink and --window: {error}")))?;
        Ok((cache, self.kv))
    }
}

/// Reads a count, of which there must be at least one.
///
/// # Errors
/// What would be right; clap names the flag and the value.
pub fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 1 up".to_owned())
}

/// Reads a time in whole seconds.
///
/// # Errors
/// What would be right; clap names the flag and the value.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a whole number of seconds, 0 or more".to_owned())
}

/// The cores this process may use; 1 where the system does not tell.
fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use kakeya_model::catalogue::Catalogue;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn validate(flags: &[&str]) -> Result<EngineOptions, String> {
        let line = Line::try_parse_from([&["kakeya"], flags].concat())
            .map_err(|error| error.to_string())?;
        line.engine.validate().map_err(|failure| match failure {
            Failure::Usage(message) => message,
            other => panic!("not a usage error: {other:?}"),
        })
    }

    #[test]
    fn a_report_says_what_the_bits_depend_on() {
        let flags = [
            "--quantize",
            "q8_0",
            "--kv",
            "int8",
            "--isa",
            "scalar",
            "--threads",
            "3",
        ];
        let settings = validate(&flags).expect("legal flags").settings();
        assert_eq!(
            settings.to_string(),
            "3 threads, scalar, 4 sinks and window 1024, int8 KV, quantised to q8_0"
        );
    }

    #[test]
    fn nothing_given_is_the_default_model_with_the_default_cache_on_every_core() {
        let options = validate(&[]).expect("defaults");
        assert_eq!(options.source, ModelSource::Named(None));
        assert_eq!(options.cache, CacheConfig::default());
        assert_eq!(options.kv, KvElement::F16);
        assert_eq!(options.compute.threads, available_threads().get());
    }

    #[test]
    fn the_default_model_that_help_names_is_the_catalogues() {
        let help = Line::command().render_help().to_string();
        let name = Catalogue::embedded().default_name().to_owned();
        assert!(help.contains(&format!("[default: {name}]")), "{help}");
    }

    #[test]
    fn every_flag_is_kept() {
        let options = validate(&[
            "--model-file",
            "m.gguf",
            "--quantize",
            "q4_k",
            "--sink",
            "2",
            "--window",
            "full",
            "--positions",
            "global",
            "--kv",
            "f32",
            "--threads",
            "3",
            "--isa",
            "scalar",
        ])
        .expect("fine");
        assert_eq!(options.source, ModelSource::File("m.gguf".into()));
        assert_eq!(options.load.quantize, Some(Quantization::Q4K));
        let cache = CacheConfig {
            sink: 2,
            window: Window::Full,
            positions: PositionPolicy::Global,
        };
        assert_eq!(options.cache, cache);
        assert_eq!(options.kv, KvElement::F32);
        assert_eq!(
            options.compute,
            ComputeOptions {
                threads: 3,
                isa: Isa::Scalar
            }
        );
    }

    #[test]
    fn a_model_name_and_a_model_file_exclude_each_other() {
        let error =
            validate(&["--model", "smollm2-135m", "--model-file", "m.gguf"]).expect_err("both");
        assert!(
            error.contains("--model <NAME>' cannot be used with '--model-file <PATH>"),
            "{error}"
        );
    }

    #[test]
    fn every_wrong_value_is_named_with_what_would_be_right() {
        for (flags, part) in [
            (&["--window", "0"][..], "--sink and --window: window is 0"),
            (
                &["--sink", "9", "--window", "8"],
                "sink 9 is beyond the window 8",
            ),
            (
                &["--window", "many"],
                "window `many` is not a number of positions or `full`",
            ),
            (
                &["--positions", "odd"],
                "positions `odd` is not `streaming` or `global`",
            ),
            (
                &["--kv", "q8"],
                "kv element `q8` is not `f16`, `f32` or `int8`",
            ),
            (
                &["--quantize", "q3"],
                "`q3` is not a quantisation; known: q8_0, q4_1, q4_k",
            ),
            (&["--threads", "0"], "invalid value '0' for '--threads <N>'"),
            (
                &["--isa", "sse9"],
                "--isa or KAKEYA_ISA: unknown instruction set \"sse9\": expected auto, scalar, avx2, avx512 or neon",
            ),
            (
                &["--device", "gpu"],
                "invalid value 'gpu' for '--device <DEVICE>': expected `cpu`, `cuda` or `cuda:N` with N from 0 up",
            ),
            (
                &["--device", "cuda:-1"],
                "expected `cpu`, `cuda` or `cuda:N` with N from 0 up",
            ),
            (
                &["--numerics", "fast"],
                "--numerics fast is a GPU's: give --device cuda with it, or leave it out",
            ),
            (
                &["--device", "cuda", "--isa", "scalar"],
                "--isa scalar is the processor's, and --device asks for a GPU: leave one of them out",
            ),
        ] {
            let error = validate(flags).expect_err("wrong");
            assert!(error.contains(part), "{flags:?}: {error}");
        }
    }
}
