//! Traces for OpenTelemetry, in builds with the feature `otel`: the span of each request, over OTLP.

use anyhow::{Context, ensure};
use clap::Args;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// Flags about traces.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Send traces to this OTLP endpoint (HTTP, protobuf), such as http://127.0.0.1:4318/v1/traces
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// Who sends them. What is not sent yet goes when it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            eprintln!("the last traces could not be sent: {error}");
        }
    }
}

impl TraceArgs {
    /// Who sends the traces, and what collects them; none without an endpoint.
    ///
    /// # Errors
    /// When the endpoint cannot be one.
    pub fn layer<S>(&self) -> anyhow::Result<(Option<Traces>, Option<impl Layer<S> + use<S>>)>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let Some(endpoint) = &self.otlp_endpoint else {
            return Ok((None, None));
        };
        let url = Url::parse(endpoint);
        let url = url.with_context(|| format!("--otlp-endpoint {endpoint} is no URL"))?;
        ensure!(
            ["http", "https"].contains(&url.scheme()),
            "--otlp-endpoint {endpoint} must begin with http:// or https://"
        );
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build()
            .with_context(|| format!("--otlp-endpoint {endpoint}"))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name("kakeya").build())
            .build();
        let tracer = provider.tracer("kakeya");
        // What other libraries trace is theirs.
        let ours = Targets::new().with_target("kakeya", LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        Ok((Some(Traces(provider)), Some(layer.with_filter(ours))))
    }
}
