//! Which GPU this process computes on, and whether it can.
//!
//! A process computes on one GPU. Asking for one where there is none is an error that says what is missing, never a reason
//! to compute on something else.

use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

/// The device that [`crate::Isa::Cuda`] stands for in this process.
static SELECTED: AtomicUsize = AtomicUsize::new(0);

/// Why a GPU cannot be used, or has failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CudaError {
    /// The build has no kernels for it.
    #[error(
        "this build computes on the processor only: a build with `--features cuda` can use a GPU"
    )]
    NotBuilt,
    /// There is no driver.
    #[error(
        "no NVIDIA driver was found (libcuda.so.1 cannot be loaded): install one that speaks CUDA {needed} or newer"
    )]
    NoDriver {
        /// The version of CUDA that is needed.
        needed: String,
    },
    /// The driver is older than what the kernels were built with.
    #[error(
        "the NVIDIA driver speaks CUDA {found}, and this build needs {needed} or newer: update the driver"
    )]
    OldDriver {
        /// What the driver speaks.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// The index is beyond the devices.
    #[error("there is no CUDA device {asked}: {}", devices(*count))]
    NoSuchDevice {
        /// The index that was asked for.
        asked: usize,
        /// Devices that the driver shows.
        count: usize,
    },
    /// The device lacks instructions that the kernels use.
    #[error("{name} has compute capability {found}, and 8.0 or newer is needed")]
    OldDevice {
        /// The device.
        name: String,
        /// Its compute capability.
        found: String,
    },
    /// The device has not the memory.
    #[error(
        "{name} has {free} of {total} bytes of memory free, and {needed} are needed: {weights} for the weights, {capacity} \
         slabs of {slab}, and {scratch} for passes; lower --capacity or --window, or free memory of the device"
    )]
    NoRoom {
        /// The device.
        name: String,
        /// Bytes that are free.
        free: u64,
        /// Bytes that it has.
        total: u64,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes of weights that are not there yet.
        weights: u64,
        /// Slabs.
        capacity: usize,
        /// Bytes of one.
        slab: u64,
        /// Bytes that passes take.
        scratch: u64,
    },
    /// A call of the driver, or a kernel, has failed.
    #[error("the GPU failed at {what}: {detail}")]
    Failed {
        /// What was done.
        what: String,
        /// What the driver says.
        detail: String,
    },
}

fn devices(count: usize) -> String {
    match count {
        0 => "the driver shows none".to_owned(),
        1 => "the driver shows one, cuda:0".to_owned(),
        _ => format!("the driver shows cuda:0 to cuda:{}", count - 1),
    }
}

/// The device as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its name, as the driver has it.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: u64,
    /// The version of CUDA that the driver speaks, as 13.0.
    pub driver: String,
    /// The version of CUDA that the kernels were built with.
    pub toolkit: String,
    /// Whether errors of its memory are corrected.
    pub ecc: bool,
    /// Clock of its processors and of its memory at most, in kHz.
    pub clocks: (u32, u32),
}

/// Chooses the device for this process, by the driver's index. It is opened when it is first used.
pub fn select(ordinal: usize) {
    SELECTED.store(ordinal, Ordering::Relaxed);
}

/// The device that was chosen: 0 at first.
#[must_use]
pub fn selected() -> usize {
    SELECTED.load(Ordering::Relaxed)
}

/// Whether the device can be used. It is opened for that.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), CudaError> {
    facts().map(drop)
}

/// The device as it was found.
///
/// # Errors
/// As [`check`].
#[cfg(not(feature = "cuda"))]
pub fn facts() -> Result<DeviceFacts, CudaError> {
    Err(CudaError::NotBuilt)
}

#[cfg(feature = "cuda")]
pub use crate::cuda::facts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_beyond_the_devices_is_told_what_there_is() {
        let message = |count| CudaError::NoSuchDevice { asked: 9, count }.to_string();
        assert_eq!(
            message(0),
            "there is no CUDA device 9: the driver shows none"
        );
        assert_eq!(
            message(1),
            "there is no CUDA device 9: the driver shows one, cuda:0"
        );
        assert_eq!(
            message(8),
            "there is no CUDA device 9: the driver shows cuda:0 to cuda:7"
        );
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn without_a_driver_or_a_device_the_error_says_which_is_missing() {
        match check() {
            // A host with a GPU.
            Ok(()) => assert!(facts().unwrap().capability >= (8, 0)),
            Err(CudaError::NoDriver { needed }) => assert!(needed.ends_with(".0"), "{needed}"),
            // A library without a device behind it.
            Err(CudaError::NoSuchDevice { asked, count }) => assert!(asked >= count),
            Err(other) => panic!("{other}"),
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_kernels_for_it_says_so() {
        assert_eq!(check(), Err(CudaError::NotBuilt));
        assert_eq!(
            crate::Isa::Cuda.check(),
            Err(crate::IsaError::Cuda(CudaError::NotBuilt))
        );
    }
}
