//! A pool of threads that split outputs, never a reduction.
//!
//! A forward pass enters the pool a few hundred times, each for tens of microseconds, so threads spin for a moment
//! before they sleep. On a busy machine a thread may lose its core at any time: so a region ends when its tasks are
//! done, whether or not every worker came to help, and a caller that waits for a task gives its core away. Which thread
//! computes which task is left to chance: a task's outputs are its own, so the bits cannot depend on it. The gates
//! inject delays to show just that.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread looks for what it waits for before it sleeps.
const SPIN: Duration = Duration::from_micros(100);
/// Bits of [`Shared::claims`] that count tasks.
const COUNT_BITS: u32 = 24;
/// The most tasks of one region.
const MOST_TASKS: usize = (1 << COUNT_BITS) - 1;

/// Called with the number of the thread (0 is the caller) and the number of the task.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The region being run: a task function with its lifetime erased, and how many tasks it has.
#[derive(Clone, Copy)]
struct Region {
    task: *const Task<'static>,
    tasks: usize,
}

struct Shared {
    /// Written by the owner only while no task is claimed, read only by those who hold one.
    region: UnsafeCell<Option<Region>>,
    /// The number of the region, and in the low bits how many of its tasks nobody has claimed. The number keeps a
    /// thread that was held up from claiming by what it saw in an older region; it repeats after 2^40 of them.
    claims: AtomicU64,
    /// Tasks of this region that are done.
    done: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// Seed of the injected delays; 0 means none.
    delays: AtomicU64,
    /// Held by who is about to sleep, and by who is about to wake one.
    sleep: Mutex<()>,
    /// Workers that sleep, or are about to.
    sleepers: AtomicUsize,
    /// There are tasks to claim.
    wake: Condvar,
    /// Whether the owner sleeps, or is about to.
    owner_sleeps: AtomicBool,
    /// Every task is done.
    finished: Condvar,
}

// SAFETY: `region` is written only by the thread that owns `Pool` (`run` takes `&mut self`), when every task of the
// region before is done, so no thread holds one; a thread reads it after claiming a task with an acquire operation that
// saw the owner's release of the new claims. The function it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is bound to the thread that made it.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller among them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Regions so far.
    regions: u64,
}

impl Pool {
    /// Starts `threads - 1` workers; the thread that calls [`Pool::run`] is the last one.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            region: UnsafeCell::new(None),
            claims: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            delays: AtomicU64::new(0),
            sleep: Mutex::new(()),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
            owner_sleeps: AtomicBool::new(false),
            finished: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kakeya-compute-{index}"))
                    .spawn(move || shared.work(index))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self {
            shared,
            workers,
            regions: 0,
        })
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
    ///
    /// # Panics
    /// When a task did, after the others; and with more than 16 million tasks.
    pub(crate) fn run(&mut self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let shared = &*self.shared;
        if tasks <= 1 || self.workers.is_empty() {
            for index in 0..tasks {
                delay(shared.delays.load(Ordering::Relaxed), index);
                task(0, index);
            }
            return;
        }
        assert!(tasks <= MOST_TASKS, "{tasks} tasks are too many");
        // SAFETY: only the lifetime changes. Every task is done, and no thread holds the pointer, when this function
        // returns or unwinds: nothing between here and `wait` unwinds.
        let erased = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        // SAFETY: `&mut self`, and the last region's tasks are done: no thread reads the cell now.
        unsafe {
            *shared.region.get() = Some(Region {
                task: erased,
                tasks,
            })
        };
        shared.done.store(0, Ordering::Relaxed);
        self.regions += 1;
        let claims = self.regions << COUNT_BITS | tasks as u64;
        shared.claims.store(claims, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.lock());
            shared.wake.notify_all();
        }
        let panic = shared.drain(0);
        shared.wait(tasks);
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a compute thread panicked; its message is above");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to report here.
            drop(worker.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Takes a task: how many were left, itself among them. `None` when all are taken.
    fn claim(&self) -> Option<usize> {
        let mut claims = self.claims.load(Ordering::Relaxed);
        loop {
            let left = claims as usize & MOST_TASKS;
            if left == 0 {
                return None;
            }
            match self.claims.compare_exchange_weak(
                claims,
                claims - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(left),
                Err(now) => claims = now,
            }
        }
    }

    /// Runs tasks until all are taken. Returns what the first one to panic, if any, panicked with.
    fn drain(&self, thread: usize) -> Option<Box<dyn Any + Send>> {
        let delays = self.delays.load(Ordering::Relaxed);
        let (mut mine, mut tasks, mut panic) = (0, 0, None);
        while let Some(left) = self.claim() {
            // SAFETY: a task of this region is claimed and not done, so the owner does not write.
            let region = unsafe { *self.region.get() }.expect("claims follow the region");
            tasks = region.tasks;
            let index = tasks - left;
            delay(delays, index);
            // SAFETY: the owner keeps the function alive until every task is done.
            let task = unsafe { &*region.task };
            if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(|| task(thread, index)))
            {
                panic.get_or_insert(payload);
            }
            mine += 1;
        }
        // Told at the end, and once: the owner cannot begin another region before.
        if mine > 0 {
            if panic.is_some() && thread != 0 {
                // The message was printed where it happened.
                self.panicked.store(true, Ordering::Relaxed);
            }
            let done = self.done.fetch_add(mine, Ordering::SeqCst) + mine;
            if done == tasks && thread != 0 && self.owner_sleeps.load(Ordering::SeqCst) {
                drop(self.lock());
                self.finished.notify_one();
            }
        }
        panic
    }

    /// Blocks the owner until all tasks are done. It does not hold on to its core for long: who has claimed the last
    /// ones may be waiting for one.
    fn wait(&self, tasks: usize) {
        if spin(|| self.done.load(Ordering::Acquire) == tasks) {
            return;
        }
        let mut guard = self.lock();
        self.owner_sleeps.store(true, Ordering::SeqCst);
        while self.done.load(Ordering::SeqCst) != tasks {
            guard = self
                .finished
                .wait(guard)
                .expect("no code panics while it holds this lock");
        }
        self.owner_sleeps.store(false, Ordering::Relaxed);
    }

    fn work(&self, thread: usize) {
        while self.tasks_come() {
            drop(self.drain(thread));
        }
    }

    /// Waits for tasks to claim: spins, then sleeps. False when the pool is being dropped.
    fn tasks_come(&self) -> bool {
        let news = || {
            self.claims.load(Ordering::SeqCst) as usize & MOST_TASKS > 0
                || self.stop.load(Ordering::SeqCst)
        };
        if !spin(news) {
            let mut guard = self.lock();
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !news() {
                guard = self
                    .wake
                    .wait(guard)
                    .expect("no code panics while it holds this lock");
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        !self.stop.load(Ordering::SeqCst)
    }
}

/// Looks again and again, for [`SPIN`]. Whether the condition came true.
fn spin(condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        for _ in 0..64 {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if started.elapsed() > SPIN {
            return false;
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
    fn regions_follow_each_other_whoever_comes_late() {
        // More threads than cores: some are always held up, and see a region that is over.
        let mut pool = Pool::new(7).unwrap();
        for round in 0..20_000 {
            let tasks = 2 + round % 5;
            let sum = AtomicUsize::new(0);
            pool.run(tasks, &|_, index| {
                sum.fetch_add(round + index, Ordering::Relaxed);
            });
            assert_eq!(
                sum.load(Ordering::Relaxed),
                tasks * round + tasks * (tasks - 1) / 2
            );
        }
    }

    #[test]
    fn the_caller_sleeps_until_a_slow_task_is_done() {
        let mut pool = Pool::new(2).unwrap();
        for _ in 0..5 {
            let done = AtomicUsize::new(0);
            pool.run(2, &|_, index| {
                std::thread::sleep(SPIN * (1 + 20 * index as u32));
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 2);
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

    #[test]
    fn a_panic_of_a_worker_is_seen_in_its_own_region() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..300 {
            let failed = AtomicBool::new(false);
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                pool.run(16, &|thread, _| {
                    std::thread::sleep(Duration::from_micros(5));
                    if thread != 0 && !failed.swap(true, Ordering::Relaxed) {
                        std::panic::resume_unwind(Box::new(()));
                    }
                });
            }));
            assert_eq!(outcome.is_err(), failed.load(Ordering::Relaxed));
        }
    }
}
