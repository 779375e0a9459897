//! Passes that come again and again, launched as a whole.

use std::collections::HashSet;
use std::ops::Range;

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::attention::AttentionShape;
use super::plan::Step;
use super::run::CudaCompute;
use crate::device::CudaError;

/// Graphs that are kept.
const MOST_GRAPHS: usize = 128;

/// What the launches of a pass depend on, besides where its buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) rows: usize,
    /// What a layer stores and attends to first.
    pub(super) first: Step,
    pub(super) logits: usize,
    /// Whether tokens are drawn from them.
    pub(super) draws: bool,
    /// Whether the logits are to be made later.
    pub(super) later: bool,
    pub(super) element: u32,
    pub(super) attention: AttentionShape,
    /// Rows of a tile of a product at most.
    pub(super) tile: usize,
}

impl Shape {
    /// What a layer stores and attends to, one after the other.
    pub(super) fn steps(self) -> impl Iterator<Item = Range<Step>> {
        let all = Step {
            rows: self.rows,
            tiles: self.attention.tiles(self.rows),
        };
        let steps = [Step::default()..self.first, self.first..all];
        steps
            .into_iter()
            .filter(|step| step.start.rows < step.end.rows)
    }
}

/// A pass that was captured: launched as a whole.
#[derive(Debug)]
pub(super) struct Graph {
    graph: CUgraph,
    executable: CUgraphExec,
}

// SAFETY: graphs are used by one thread at a time, whoever holds the compute.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both are ours, and no launch is under way: whoever drops graphs waits for the stream first.
        unsafe {
            let _ = result::graph::exec_destroy(self.executable);
            let _ = result::graph::destroy(self.graph);
        }
    }
}

/// The graphs of a compute, and the shapes of passes that have come once.
#[derive(Debug, Default)]
pub(super) struct Graphs {
    graphs: std::collections::HashMap<Shape, Graph>,
    seen: HashSet<Shape>,
}

impl Graphs {
    /// Forgets all: buffers are no longer where they were. The stream was waited for.
    pub(super) fn clear(&mut self) {
        self.graphs.clear();
        self.seen.clear();
    }
}

impl CudaCompute {
    /// Launches a pass: as a graph where one of its shape has come before.
    pub(super) fn launch_pass(&mut self, shape: Shape) -> Result<(), CudaError> {
        if !self.graphs.graphs.contains_key(&shape) {
            if self.graphs.seen.len() >= MOST_GRAPHS {
                self.stream.wait()?;
                self.graphs.clear();
            }
            if self.graphs.seen.insert(shape) {
                return self.launch_kernels(shape);
            }
            let graph = self.capture(shape)?;
            self.graphs.graphs.insert(shape, graph);
        }
        let executable = self.graphs.graphs[&shape].executable;
        // SAFETY: what the graph's kernels use is there: graphs are dropped before buffers are.
        let launched = unsafe { result::graph::launch(executable, self.stream.stream) };
        self.device.check("launching a pass", launched)
    }

    fn capture(&self, shape: Shape) -> Result<Graph, CudaError> {
        let stream = self.stream.stream;
        let _capture = self.device.no_capture();
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours, and this thread's launches go into the graph until the capture ends.
        let begun = unsafe { result::stream::begin_capture(stream, mode) };
        self.device.check("capturing a pass", begun)?;
        let launched = self.launch_kernels(shape);
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(stream) };
        launched?;
        let graph = self.device.check("capturing a pass", graph)?;
        let flags = CUgraphInstantiate_flags(0);
        // SAFETY: the graph was just captured.
        let executable = unsafe { result::graph::instantiate(graph, flags) };
        Ok(Graph {
            graph,
            executable: self.device.check("making a graph", executable)?,
        })
    }
}
