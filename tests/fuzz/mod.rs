//! Hostile input, made from good one: every reader of files gives a value or an error.
//!
//! Part of the library's unit tests, so that readers that nobody else may call are reached in the process. Each target
//! takes [`executions`] inputs of a seed of its own; `CONES_FUZZ=100000 cargo test --release --lib fuzz::` takes more.
//! No input may panic, take more than [`MOST_TIME`], or hold more than [`MOST_MEMORY`] beyond its own size. One that
//! does is kept in the folder for temporary files, and the failure names it.

#[path = "../it/alloc.rs"]
mod alloc;
mod changes;
mod models;
mod targets;
mod unfinished;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use self::alloc::peak_of;
use self::changes::{Random, changed};

/// Far more than any of these inputs needs.
const MOST_TIME: Duration = Duration::from_secs(1);
/// Beyond the input's own size.
const MOST_MEMORY: usize = 64 << 20;

/// How many inputs a target takes.
fn executions(usually: usize) -> usize {
    let told = std::env::var("CONES_FUZZ").ok();
    told.map_or(usually, |count| {
        let count: usize = count.parse().expect("CONES_FUZZ: a number");
        // As many more as the target's own share of the usual time allows.
        count * usually / 1000
    })
}

/// Where the seeds of a target begin: `CONES_FUZZ_SEED` gives other inputs.
fn first_seed() -> u64 {
    let told = std::env::var("CONES_FUZZ_SEED").ok();
    told.map_or(0, |seed| seed.parse().expect("CONES_FUZZ_SEED: a number"))
}

/// Gives changed inputs to a reader, which says whether it took one. `seal` puts right what a changed file says of
/// itself, such as its SHA-256, so that what is behind is reached.
fn run(
    name: &str,
    corpus: &[Vec<u8>],
    usually: usize,
    seal: impl Fn(&mut Vec<u8>),
    mut read: impl FnMut(&[u8]) -> bool,
) {
    for (i, good) in corpus.iter().enumerate() {
        assert!(read(good), "{name}: input {i} of the corpus is refused");
    }
    inputs(name, corpus, usually, seal, read);
}

/// [`run`] where what it begins from need not be taken: a part of something whole.
fn run_refused(name: &str, corpus: &[Vec<u8>], usually: usize, read: impl FnMut(&[u8]) -> bool) {
    inputs(name, corpus, usually, |_| {}, read);
}

fn inputs(
    name: &str,
    corpus: &[Vec<u8>],
    usually: usize,
    seal: impl Fn(&mut Vec<u8>),
    mut read: impl FnMut(&[u8]) -> bool,
) {
    let mut random = Random::new(name, first_seed());
    let (count, mut taken) = (executions(usually), 0usize);
    for number in 0..count {
        let mut input = changed(corpus, &mut random);
        if random.below(2) == 0 {
            seal(&mut input);
        }
        match bounded(&input, &mut read) {
            Ok(was_taken) => taken += usize::from(was_taken),
            Err(problem) => {
                let kept = std::env::temp_dir().join(format!("cones-fuzz-{name}-{number}"));
                std::fs::write(&kept, &input).unwrap();
                panic!(
                    "{name}, input {number}, kept as {}: {problem}",
                    kept.display()
                );
            }
        }
    }
    eprintln!("fuzz {name}: {count} executions, {taken} taken");
    // That inputs are neither all refused at the door nor all harmless; a single reader may know one side alone.
    assert!(
        count < 200 || taken < count,
        "{name}: every input was taken"
    );
}

/// Reads an input within the bounds.
fn bounded(input: &[u8], read: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, String> {
    let start = Instant::now();
    let (result, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| read(input))));
    let mut time = start.elapsed();
    let taken = match result {
        Ok(taken) => taken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return match text {
                Some(text) => Err(format!("panicked: {text}")),
                None => resume_unwind(panic),
            };
        }
    };
    if peak > MOST_MEMORY + input.len() {
        return Err(format!("held {peak} bytes for {} of input", input.len()));
    }
    // A busy machine may have paused: an input that is slow is so again, by the time that the processor gave it.
    for _ in 0..2 {
        if time > MOST_TIME {
            let (start, before) = (Instant::now(), computed());
            read(input);
            let given = computed()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before));
            time = time.min(given.unwrap_or(start.elapsed()));
        }
    }
    match time > MOST_TIME {
        true => Err(format!("took {time:?}")),
        false => Ok(taken),
    }
}

/// How long this thread has computed, where the system tells.
fn computed() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds)).filter(|time| !time.is_zero())
}
