//! Compiles the wire contract with protox, so that a build needs no system protoc.

use std::error::Error;
use std::path::Path;

const ROOT: &str = "proto";
const FILES: [&str; 2] = ["kakeya/v1/runtime.proto", "kakeya/v1/session.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");

    let mut compiler = protox::Compiler::new([ROOT])?;
    // Comments travel with the descriptors: they become the generated code's documentation.
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(FILES)?;

    let descriptors = Path::new(&std::env::var("OUT_DIR")?).join("kakeya_descriptor.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
