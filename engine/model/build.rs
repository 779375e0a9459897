//! Stamps the optimisation level into the crate, so that evidence can say how the kernels were built. The profile
//! sets it for this crate alone, and nothing at run time can find it out again.
//!
//! With feature `cuda` it also has nvcc compile the kernels for the GPU, into one file for all architectures.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernels are compiled for where nothing else is asked for: machine code for compute capabilities 8.0 and 9.0, and
/// PTX that newer devices compile when it is loaded.
const ARCHITECTURES: &str = "80,90,100";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let level = env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo:rustc-env=KAKEYA_MODEL_OPT_LEVEL={level}");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels();
    }
}

fn kernels() {
    println!("cargo:rerun-if-changed=src/kernels/cuda");
    for variable in [
        "CUDA_HOME",
        "CUDA_PATH",
        "NVCC",
        "KAKEYA_CUDA_ARCHITECTURES",
        "PATH",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let nvcc = nvcc();
    let version = version(&nvcc);
    println!("cargo:rustc-env=KAKEYA_CUDA_TOOLKIT={version}");
    let out =
        PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernels.fatbin");
    let architectures =
        env::var("KAKEYA_CUDA_ARCHITECTURES").unwrap_or_else(|_| ARCHITECTURES.to_owned());
    let architectures: Vec<&str> = architectures.split(',').map(str::trim).collect();
    let mut command = Command::new(&nvcc);
    command
        .args(["-fatbin", "-O3", "-std=c++17", "--threads", "0"])
        // The kernels spell every operation; these are so that nothing that is not spelled is contracted or flushed either.
        .args([
            "-fmad=false",
            "-ftz=false",
            "-prec-div=true",
            "-prec-sqrt=true",
            // Registers are worth more here than threads that wait.
            "-Xptxas=--register-usage-level=5",
        ]);
    for (index, architecture) in architectures.iter().enumerate() {
        let newest = index + 1 == architectures.len();
        // The newest is PTX as well, for devices that are newer still.
        let code = match (newest, architectures.len()) {
            (true, 2..) => format!("compute_{architecture}"),
            _ => format!("sm_{architecture}"),
        };
        command.arg(format!("-gencode=arch=compute_{architecture},code={code}"));
    }
    command
        .arg("-o")
        .arg(&out)
        .arg("src/kernels/cuda/kernels.cu");
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", nvcc.display()));
    assert!(
        status.success(),
        "{} has not compiled the kernels: see above",
        nvcc.display()
    );
}

/// nvcc: named by `NVCC`, of the toolkit that `CUDA_HOME` or `CUDA_PATH` names, on the path, or where it is mostly installed.
fn nvcc() -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        return named.into();
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os);
    let mut places: Vec<PathBuf> = homes.map(|home| Path::new(&home).join("bin")).collect();
    places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    places.push("/usr/local/cuda/bin".into());
    let found = places
        .into_iter()
        .map(|place| place.join("nvcc"))
        .find(|nvcc| nvcc.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "feature `cuda` needs nvcc of CUDA 12.8 or newer: set CUDA_HOME to its folder, or see docs/ops/linux-cuda.md for \
             how to have it without a GPU"
        )
    })
}

/// The toolkit's version, as 13.0.
fn version(nvcc: &Path) -> String {
    let output = Command::new(nvcc)
        .arg("--version")
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", nvcc.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let after = text.split("release ").nth(1).unwrap_or_default();
    let version = after.split([',', '\n']).next().unwrap_or_default().trim();
    assert!(
        version.split('.').all(|part| part.parse::<u32>().is_ok()),
        "{} --version says no version: {text}",
        nvcc.display()
    );
    version.to_owned()
}
