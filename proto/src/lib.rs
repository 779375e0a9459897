//! The `kakeya.v1` wire contract and its generated Rust: messages, client and server.
//!
//! The `.proto` file is the contract and documents it. Nothing is added here by hand; conversions to and from
//! the engine's types belong to the server.

/// Package `kakeya.v1`.
pub mod v1 {
    tonic::include_proto!("kakeya.v1");
}

/// The encoded `FileDescriptorSet` of every file of the contract, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("kakeya_descriptor");

#[cfg(test)]
mod tests;
