//! gRPC health, and the order in which a stopping server tells the world.
//!
//! A load balancer must hear NOT_SERVING while the port is still open; one that only sees connections refused has
//! already sent a request into nothing. So health changes first and the port closes last.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// The health of this server.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    /// What reports: the whole server (the empty name, by the health protocol) and each service on it.
    names: Vec<&'static str>,
}

impl Health {
    /// Health that says SERVING, for the server and these services on it, and the gRPC service that says it.
    pub async fn serving(
        services: impl IntoIterator<Item = &'static str>,
    ) -> (Self, HealthServer<HealthService>) {
        let health = Self {
            reporter: HealthReporter::new(),
            names: std::iter::once("").chain(services).collect(),
        };
        health.set(ServingStatus::Serving).await;
        let service =
            HealthServer::new(HealthService::from_health_reporter(health.reporter.clone()));
        (health, service)
    }

    /// Says NOT_SERVING, to those who ask and those who watch.
    pub async fn stop_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch, which would otherwise hold their connections open for ever.
    pub async fn end_watches(&mut self) {
        for name in &self.names {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
