//! A case: one fault under one set of circumstances, with what is left to chance.

use std::pin::Pin;

use etl_testkit::tally::Verdict;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type Outcome = Pin<Box<dyn Future<Output = Verdict>>>;

/// One fault under one set of circumstances.
pub struct Case {
    /// The fault's line in the table.
    pub fault: &'static str,
    circumstances: String,
    run: Box<dyn Fn(Dice) -> Outcome + Send + Sync>,
}

/// What is left to chance, so that a failure can be repeated.
pub struct Dice {
    random: StdRng,
    /// More of everything.
    pub long: bool,
}

impl Dice {
    fn new(seed: u64, long: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            long,
        }
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }
}

impl Case {
    pub fn new<F>(
        fault: &'static str,
        circumstances: impl Into<String>,
        run: impl Fn(Dice) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Verdict> + 'static,
    {
        Self {
            fault,
            circumstances: circumstances.into(),
            run: Box::new(move |dice| Box::pin(run(dice))),
        }
    }

    pub fn name(&self) -> String {
        let text = format!("{}::{}", self.fault, self.circumstances);
        text.replace([' ', ','], "_")
    }

    /// The same choices every time.
    pub fn run_short(&self) -> Verdict {
        let seed = self.name().bytes().fold(0_u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        self.run(Dice::new(seed, false))
    }

    /// Choices by this seed.
    pub fn run_long(&self, seed: u64) -> Verdict {
        self.run(Dice::new(seed, true))
    }

    fn run(&self, dice: Dice) -> Verdict {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on((self.run)(dice))
    }
}
