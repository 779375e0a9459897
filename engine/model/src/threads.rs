//! A pool of threads that split outputs, never a reduction.
//!
//! A forward pass enters the pool a few hundred times, each for tens of microseconds, so the workers spin
//! for a moment before they sleep. Which thread computes which task is left to chance: a task's outputs
//! are its own, so the bits cannot depend on it. The gates inject delays to show just that.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for the next region before it sleeps.
const SPIN: Duration = Duration::from_micros(100);

/// Called with the number of the thread (0 is the caller) and the number of the task.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The region being run: a task function with its lifetime erased, and how many tasks it has.
#[derive(Clone, Copy)]
struct Region {
    task: *const Task<'static>,
    tasks: usize,
}

struct Shared {
    /// Written by the owner only while no worker is inside a region.
    region: UnsafeCell<Option<Region>>,
    /// Counts regions. A worker that sees it move runs the region of that number.
    epoch: AtomicU64,
    next: AtomicUsize,
    running: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// Seed of the injected delays; 0 means none.
    delays: AtomicU64,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `region` is written only by the thread that owns `Pool` (`run` takes `&mut self`), before the
// release increment of `epoch`, and only when `running` is 0; workers read it after an acquire load of the
// new epoch. The function it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is bound to the thread that made it.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller among them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads - 1` workers; the thread that calls [`Pool::run`] is the last one.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            region: UnsafeCell::new(None),
            epoch: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            delays: AtomicU64::new(0),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kakeya-compute-{index}"))
                    .spawn(move || work(&shared, index))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { shared, workers })
    }

    /// Threads that take part in a region.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Makes every task wait a pseudo-random moment first, so that threads finish in odd orders.
    /// A seed of 0 switches it off. For the gates: the bits must not notice.
    pub(crate) fn inject_delays(&mut self, seed: u64) {
        self.shared.delays.store(seed, Ordering::Relaxed);
    }

    /// Runs `task(thread, index)` for each index below `tasks`, exactly once, and returns when all are done.
    /// `thread` is below [`Pool::threads`], and no two tasks run at once with the same one.
    pub(crate) fn run(&mut self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let delays = self.shared.delays.load(Ordering::Relaxed);
        if tasks <= 1 || self.workers.is_empty() {
            for index in 0..tasks {
                delay(delays, index);
                task(0, index);
            }
            return;
        }
        // SAFETY: only the lifetime changes. The region is over, and no worker holds the pointer, when
        // this function returns: it waits for `running` to reach 0 on every path, unwinding included.
        let erased = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        // SAFETY: `&mut self` and `running == 0` mean that no worker reads the cell now.
        unsafe {
            *self.shared.region.get() = Some(Region {
                task: erased,
                tasks,
            })
        };
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared
            .running
            .store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        if *self
            .shared
            .sleepers
            .lock()
            .expect("no code panics while it holds this lock")
            > 0
        {
            self.shared.wake.notify_all();
        }
        let waiting = WaitForWorkers(&self.shared);
        drain(&self.shared, 0, tasks, task);
        drop(waiting);
        if self.shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a compute thread panicked; its message is above");
        }
    }
}

/// Blocks until no worker is inside the region, also when the caller's own task unwinds.
struct WaitForWorkers<'a>(&'a Shared);

impl Drop for WaitForWorkers<'_> {
    fn drop(&mut self) {
        let mut spins = 0u32;
        while self.0.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < 10_000 {
                std::hint::spin_loop();
            } else {
                // The machine is busy: a worker may not be scheduled at all until we step aside.
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        drop(self.shared.sleepers.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to report here.
            drop(worker.join());
        }
    }
}

fn drain(shared: &Shared, thread: usize, tasks: usize, task: &Task<'_>) {
    let delays = shared.delays.load(Ordering::Relaxed);
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= tasks {
            return;
        }
        delay(delays, index);
        task(thread, index);
    }
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        let Some(epoch) = next_epoch(shared, seen) else {
            return;
        };
        seen = epoch;
        // SAFETY: the acquire load of the epoch in `next_epoch` makes the owner's write visible, and the
        // owner does not write again before `running` is back at 0.
        let region = unsafe { *shared.region.get() };
        if let Some(Region { task, tasks }) = region {
            // SAFETY: the owner keeps the function alive until `running` is 0.
            let task = unsafe { &*task };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drain(shared, thread, tasks, task)
            }));
            if outcome.is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an epoch after `seen`: spins, then sleeps. `None` when the pool is being dropped.
fn next_epoch(shared: &Shared, seen: u64) -> Option<u64> {
    let started = Instant::now();
    let mut spins = 0u32;
    loop {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return (!shared.stop.load(Ordering::Acquire)).then_some(epoch);
        }
        spins += 1;
        std::hint::spin_loop();
        if spins.is_multiple_of(64) && started.elapsed() > SPIN {
            let mut sleepers = shared
                .sleepers
                .lock()
                .expect("no code panics while it holds this lock");
            *sleepers += 1;
            while shared.epoch.load(Ordering::Acquire) == seen {
                sleepers = shared
                    .wake
                    .wait(sleepers)
                    .expect("no code panics while it holds this lock");
            }
            *sleepers -= 1;
        }
    }
}

fn delay(seed: u64, index: usize) {
    if seed == 0 {
        return;
    }
    let mixed = (seed ^ index as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23);
    let until = Instant::now() + Duration::from_nanos(mixed % 20_000);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|_, index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn workers_that_slept_wake_again() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..20 {
            std::thread::sleep(SPIN * 5);
            let sum = AtomicUsize::new(0);
            pool.run(50, &|_, index| {
                sum.fetch_add(index, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 49 * 50 / 2);
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(2).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|_, index| {
                assert!(index != 40, "task {index} fails on purpose")
            });
        }));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_, index| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 6);
    }
}
