//! The device of this process: opened once, with its kernels loaded.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUfunction, CUfunction_attribute as FunctionAttribute,
    CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue,
    CUlaunchAttributeValue_union__bindgen_ty_1, CUlaunchConfig, CUmodule, CUstream,
};
use cudarc::driver::{CudaContext, DriverError, result, sys};

use crate::device::{self, CudaError, DeviceFacts};

/// The kernels for every architecture that this build knows, as nvcc has put them together.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// The version of CUDA that they were built with.
const TOOLKIT: &str = env!("KAKEYA_CUDA_TOOLKIT");

/// Shared memory that kernels may have of their own beside what a launch gives them; those that have more are given less.
const OWN_SHARED: usize = 3 * 1024;
/// Shared memory that a block can be given on every device that is supported.
pub(crate) const SHARED_80: usize = 160 * 1024;
/// The same from compute capability 9.0 on.
pub(crate) const SHARED_90: usize = 224 * 1024;

/// Every kernel.
pub(super) const NAMES: [&str; 90] = [
    "embed",
    "normalise",
    "add_branch",
    "rotate_and_store",
    "greatest",
    "draw",
    "linear_1_q4_0",
    "linear_1_q4_1",
    "linear_1_q5_0",
    "linear_1_q5_1",
    "linear_1_q8_0",
    "linear_1_q4_k",
    "linear_1_q5_k",
    "linear_1_q6_k",
    "linear_1_f16",
    "linear_1_bf16",
    "linear_1_f32",
    "linear_1_mixed",
    "linear_2_q4_0",
    "linear_2_q4_1",
    "linear_2_q5_0",
    "linear_2_q5_1",
    "linear_2_q8_0",
    "linear_2_q4_k",
    "linear_2_q5_k",
    "linear_2_q6_k",
    "linear_2_f16",
    "linear_2_bf16",
    "linear_2_f32",
    "linear_2_mixed",
    "linear_4_q4_0",
    "linear_4_q4_1",
    "linear_4_q5_0",
    "linear_4_q5_1",
    "linear_4_q8_0",
    "linear_4_q4_k",
    "linear_4_q5_k",
    "linear_4_q6_k",
    "linear_4_f16",
    "linear_4_bf16",
    "linear_4_f32",
    "linear_4_mixed",
    "linear_tile_8_8",
    "linear_tile_8_16",
    "linear_tile_8_18",
    "linear_tile_8_20",
    "linear_tile_8_24",
    "linear_tile_16_8",
    "linear_tile_16_16",
    "linear_tile_16_18",
    "linear_tile_16_20",
    "linear_tile_32_8",
    "linear_spread_8_16_1",
    "linear_spread_8_32_1",
    "linear_spread_16_32_1",
    "linear_spread_32_24_1",
    "linear_spread_8_32_2",
    "linear_spread_16_32_2",
    "linear_spread_32_24_2",
    "linear_spread_32_32_2",
    "linear_fast_1_1_1",
    "linear_fast_1_1_2",
    "linear_fast_4_1_1",
    "linear_fast_4_1_2",
    "linear_fast_4_2_2",
    "linear_fast_4_4_1",
    "attend_f16_1",
    "attend_f16_2",
    "attend_f16_3",
    "attend_f16_4",
    "attend_f32_1",
    "attend_f32_2",
    "attend_f32_3",
    "attend_f32_4",
    "attend_int8_1",
    "attend_int8_2",
    "attend_int8_3",
    "attend_int8_4",
    "attend_tile_f16_1",
    "attend_tile_f16_2",
    "attend_tile_f16_3",
    "attend_tile_f16_4",
    "attend_tile_f32_1",
    "attend_tile_f32_2",
    "attend_tile_f32_3",
    "attend_tile_f32_4",
    "attend_tile_int8_1",
    "attend_tile_int8_2",
    "attend_tile_int8_3",
    "attend_tile_int8_4",
];

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    context: Arc<CudaContext>,
    facts: DeviceFacts,
    /// Kernels that were written for a device before 9.0 have no clusters on a newer one either.
    clusters: bool,
    functions: HashMap<&'static str, CUfunction>,
    /// Held while a pass is captured: the device cannot be waited for meanwhile.
    captures: Mutex<()>,
    /// The first call that failed: after that the device is of no use to this process.
    fault: OnceLock<CudaError>,
}

// SAFETY: handles of functions are pointers of the driver's, good for any thread as long as the module is loaded, which it is
// for as long as the process lives.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    pub(crate) grid: (usize, usize, usize),
    pub(crate) threads: usize,
    /// Bytes of shared memory beside what the kernel has of its own.
    pub(crate) shared: usize,
    /// Blocks of a cluster.
    pub(crate) cluster: usize,
}

type Opened = Result<Arc<Device>, CudaError>;

impl Device {
    /// The device that was chosen for this process.
    pub(crate) fn open() -> Opened {
        static DEVICES: Mutex<Vec<(usize, Opened)>> = Mutex::new(Vec::new());
        let ordinal = device::selected();
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, opened)) = devices.iter().find(|(known, _)| *known == ordinal) {
            return opened.clone();
        }
        let opened = Self::new(ordinal).map(Arc::new);
        devices.push((ordinal, opened.clone()));
        opened
    }

    fn new(ordinal: usize) -> Result<Self, CudaError> {
        let needed = needed();
        // SAFETY: it looks whether the library can be loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver { needed });
        }
        // A driver without a device says so here.
        match result::init() {
            Ok(()) => {}
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {
                return Err(CudaError::NoSuchDevice {
                    asked: ordinal,
                    count: 0,
                });
            }
            Err(error) => return Err(failed("starting the driver", error)),
        }
        let driver = driver_version()?;
        if major(&driver) < major(&needed) {
            return Err(CudaError::OldDriver {
                found: driver,
                needed,
            });
        }
        let count =
            CudaContext::device_count().map_err(|error| failed("counting devices", error))?;
        let count = usize::try_from(count).unwrap_or(0);
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice {
                asked: ordinal,
                count,
            });
        }
        let context =
            CudaContext::new(ordinal).map_err(|error| failed("opening the device", error))?;
        let facts =
            facts_of(&context, driver).map_err(|error| failed("asking the device", error))?;
        if facts.capability.0 < 8 {
            let (major, minor) = facts.capability;
            return Err(CudaError::OldDevice {
                name: facts.name,
                found: format!("{major}.{minor}"),
            });
        }
        let shared = shared_memory(facts.capability);
        let functions = load(shared).map_err(|error| failed("loading the kernels", error))?;
        let written_for = result::function::get_function_attribute;
        // SAFETY: the function was loaded just now.
        let written_for = unsafe {
            written_for(
                functions["embed"],
                FunctionAttribute::CU_FUNC_ATTRIBUTE_PTX_VERSION,
            )
        };
        let written_for = written_for.map_err(|error| failed("asking the kernels", error))?;
        Ok(Self {
            context,
            clusters: facts.capability.0 >= 9 && written_for >= 90,
            facts,
            functions,
            captures: Mutex::new(()),
            fault: OnceLock::new(),
        })
    }

    pub(crate) fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    /// Bytes of shared memory that a block may be given.
    pub(crate) fn shared(&self) -> usize {
        shared_memory(self.facts.capability)
    }

    /// Whether blocks can be put together in clusters.
    pub(crate) fn has_clusters(&self) -> bool {
        self.clusters
    }

    /// Bytes of memory that are free, and all there are.
    pub(crate) fn memory(&self) -> Result<(u64, u64), CudaError> {
        let info = self.context.mem_get_info();
        let (free, total) = self.check("asking for its memory", info)?;
        Ok((free as u64, total as u64))
    }

    /// Makes this thread's calls of the driver go to the device.
    pub(crate) fn bind(&self) -> Result<(), CudaError> {
        self.check("turning to the device", self.context.bind_to_thread())
    }

    /// Returns when nothing runs on the device.
    pub(crate) fn rest(&self) -> Result<(), CudaError> {
        self.bind()?;
        let _no_capture = self.no_capture();
        let waited = result::ctx::synchronize();
        self.check("waiting for the device", waited)
    }

    /// Nobody captures a pass while this is held.
    pub(crate) fn no_capture(&self) -> MutexGuard<'_, ()> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the device is of no use any more, if it is not.
    pub(crate) fn fault(&self) -> Option<&CudaError> {
        self.fault.get()
    }

    /// Takes note of a call that failed.
    pub(crate) fn check<T>(
        &self,
        what: &str,
        result: Result<T, DriverError>,
    ) -> Result<T, CudaError> {
        result.map_err(|error| {
            let error = failed(what, error);
            self.fault.get_or_init(|| {
                tracing::error!(device = %self.facts.name, %error, "the GPU has failed");
                error.clone()
            });
            error
        })
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `arguments` point to what the kernel takes, in its order, and what they point to on the device is there until it has
    /// run.
    pub(crate) unsafe fn launch(
        &self,
        stream: CUstream,
        name: &str,
        launch: Launch,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        let Launch {
            grid,
            threads,
            shared,
            cluster,
        } = launch;
        let clusters = CUlaunchAttributeValue_union__bindgen_ty_1 {
            x: cluster as u32,
            y: 1,
            z: 1,
        };
        let mut attributes = [
            // A kernel begins before the one before it has ended: each waits for that where it needs to.
            CUlaunchAttribute {
                id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                pad: [0; 4],
                value: CUlaunchAttributeValue {
                    programmaticStreamSerializationAllowed: 1,
                },
            },
            CUlaunchAttribute {
                id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                pad: [0; 4],
                value: CUlaunchAttributeValue {
                    clusterDim: clusters,
                },
            },
        ];
        // Older devices have neither.
        let count = match (self.has_clusters(), cluster) {
            (false, _) => 0,
            (true, 1) => 1,
            (true, _) => 2,
        };
        let config = CUlaunchConfig {
            gridDimX: grid.0 as u32,
            gridDimY: grid.1 as u32,
            gridDimZ: grid.2 as u32,
            blockDimX: threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared as u32,
            hStream: stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: count,
        };
        let function = self.functions[name];
        // SAFETY: the configuration lives until the call returns; the arguments by the caller.
        let launched = unsafe {
            sys::cuLaunchKernelEx(
                &config,
                function,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.check(name, launched.result())
    }
}

/// The chosen device as it was found.
///
/// # Errors
/// When it cannot be used: the error says what is missing.
pub fn facts() -> Result<DeviceFacts, CudaError> {
    Ok(Device::open()?.facts().clone())
}

pub(crate) fn failed(what: &str, error: DriverError) -> CudaError {
    let text = |told: Result<&CStr, DriverError>| match told {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", error.0),
    };
    CudaError::Failed {
        what: what.to_owned(),
        detail: format!(
            "{} ({})",
            text(error.error_string()),
            text(error.error_name())
        ),
    }
}

/// Kernels of a toolkit run on drivers of its own major version and newer.
fn needed() -> String {
    format!("{}.0", major(TOOLKIT))
}

fn major(version: &str) -> u32 {
    let major = version.split('.').next().unwrap_or_default();
    major.parse().unwrap_or(0)
}

fn driver_version() -> Result<String, CudaError> {
    let mut version = 0;
    // SAFETY: it writes one integer.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
    asked
        .result()
        .map_err(|error| failed("asking for the driver's version", error))?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

fn facts_of(context: &Arc<CudaContext>, driver: String) -> Result<DeviceFacts, DriverError> {
    let attribute = |which| Ok::<u32, DriverError>(context.attribute(which)?.unsigned_abs());
    let (major, minor) = context.compute_capability()?;
    Ok(DeviceFacts {
        name: context.name()?,
        capability: (major.unsigned_abs(), minor.unsigned_abs()),
        memory: context.total_mem()? as u64,
        driver,
        toolkit: TOOLKIT.to_owned(),
        ecc: attribute(Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED)? != 0,
        clocks: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
        ),
    })
}

fn shared_memory(capability: (u32, u32)) -> usize {
    match capability {
        (9.., _) if capability.0 < 12 => SHARED_90,
        (8, 0 | 7) => SHARED_80,
        // The smaller chips of every generation.
        _ => 96 * 1024,
    }
}

/// Loads the kernels into the context of this thread. They stay for as long as the process lives.
fn load(shared: usize) -> Result<HashMap<&'static str, CUfunction>, DriverError> {
    // SAFETY: the image is a fat binary of nvcc's; names end with a zero; attributes are set before anything is launched.
    unsafe {
        let module: CUmodule = result::module::load_data(KERNELS.as_ptr().cast())?;
        NAMES
            .into_iter()
            .map(|name| {
                let c_name = CString::new(name).unwrap_or_default();
                let function = result::module::get_function(module, c_name)?;
                let own = result::function::get_function_attribute(
                    function,
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                )?;
                result::function::set_function_attribute(
                    function,
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    (shared + OWN_SHARED) as i32 - own.max(OWN_SHARED as i32),
                )?;
                Ok((name, function))
            })
            .collect()
    }
}
