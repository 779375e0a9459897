//! A session of a million tokens: what a turn costs and what memory it holds, early and late.

use std::time::Instant;

use kakeya_core::SessionId;
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{engine_with, open, random_ids};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// Rounds of a measurement at one place, of which the median counts.
const ROUNDS: usize = 15;
/// Tokens of a turn.
const TURN: usize = 32;
/// What resident memory may grow by from token 10,000 to token 1,000,000: the history itself takes 4 MB.
const GROWTH_LIMIT: u64 = 8 << 20;

pub fn cases() -> Vec<Case> {
    vec![Case::full(
        "a_session_of_a_million_tokens_stays_as_it_was",
        million,
    )]
}

fn million(ctx: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        threads: ctx.threads(),
        isa: ctx.isa(),
        ..EngineConfig::default()
    };
    let mut engine = engine_with(ctx, config)?;
    let mut session = Session {
        id: open(&mut engine)?,
        tokens: random_ids(ctx, 320, 4096)?,
    };
    session.go_to(&mut engine, 2_000)?;
    let early = session.turn(&mut engine)?;
    let early_decode = session.decode(&mut engine)?;
    session.go_to(&mut engine, 10_000)?;
    let (kv, resident) = (session.kv(&engine)?, resident()?);
    session.go_to(&mut engine, 50_000)?;
    let turn = session.turn(&mut engine)?;
    session.go_to(&mut engine, 100_000)?;
    let decode = session.decode(&mut engine)?;
    session.go_to(&mut engine, 1_000_000)?;
    let growth = self::resident()?.saturating_sub(resident);
    ctx.measure(
        "turn_of_32_at_50000_over_2000",
        turn / early,
        "times as long",
    )?;
    ctx.measure(
        "decode_at_100000_over_2000",
        decode / early_decode,
        "times as long",
    )?;
    ctx.measure(
        "resident_growth_from_10000_to_1000000_tokens",
        growth as f64,
        "bytes",
    )?;
    ensure_eq!(session.kv(&engine)?, kv, "KV bytes after a million tokens");
    ensure!(
        growth < GROWTH_LIMIT,
        "resident memory grew by {growth} bytes from token 10,000 to token 1,000,000, and may by {GROWTH_LIMIT}"
    );
    Ok(())
}

struct Session {
    id: SessionId,
    /// What is said, again and again.
    tokens: Vec<u32>,
}

impl Session {
    fn append(&self, engine: &mut Engine, count: usize) -> CaseResult {
        let at = engine.history(&self.id)?.len() % (self.tokens.len() - count);
        AppendCoordinator::append(engine, &self.id, &self.tokens[at..at + count])?;
        Ok(())
    }

    fn go_to(&mut self, engine: &mut Engine, length: usize) -> CaseResult {
        loop {
            let left = length.saturating_sub(engine.history(&self.id)?.len());
            if left == 0 {
                return Ok(());
            }
            self.append(engine, left.min(1024))?;
        }
    }

    /// Seconds of an append of 32 tokens and the first token after it, which is appended in its turn.
    fn turn(&mut self, engine: &mut Engine) -> Result<f64, CaseFailure> {
        self.median(engine, |session, engine| {
            session.append(engine, TURN)?;
            session.append(engine, 1)
        })
    }

    /// Seconds of 16 passes of one token.
    fn decode(&mut self, engine: &mut Engine) -> Result<f64, CaseFailure> {
        self.median(engine, |session, engine| {
            (0..16).try_for_each(|_| session.append(engine, 1))
        })
    }

    fn median(
        &mut self,
        engine: &mut Engine,
        work: impl Fn(&Self, &mut Engine) -> CaseResult,
    ) -> Result<f64, CaseFailure> {
        let mut seconds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            work(self, engine)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[ROUNDS / 2])
    }

    fn kv(&self, engine: &Engine) -> Result<u64, CaseFailure> {
        Ok(engine.info(&self.id, Instant::now())?.kv_live_bytes)
    }
}

/// Bytes of this process that are in memory.
fn resident() -> Result<u64, CaseFailure> {
    let unknown = |error: sysinfo::Error| CaseFailure::violated(error.to_string());
    let own = sysinfo::get_current_pid().map_err(unknown)?;
    let mut system = System::new().map_err(unknown)?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[own]),
        false,
        ProcessRefreshKind::nothing().with_memory(),
    );
    let process = system
        .process(own)
        .ok_or_else(|| CaseFailure::violated("the system does not tell this process's memory"))?;
    Ok(process.memory())
}
