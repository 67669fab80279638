//! Numbers that look random and are the same on every machine and in every version of this program.
//!
//! `SplitMix64`; not for secrets.

/// A sequence of numbers, all of it determined by the seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Sequences of neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        // 53 bits are what a f64 holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let high = (self.number() >> 11) as f64;
        high / 9_007_199_254_740_992.0
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of `items`.
    pub fn one_of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len() as u64);
        items.get(usize::try_from(at).ok()?)
    }
}

/// Things that come up as often as their weights say.
#[derive(Clone, Debug)]
pub struct Weighted<T> {
    /// Each with the sum of the weights up to and including its own.
    items: Vec<(u64, T)>,
}

impl<T> Weighted<T> {
    /// Items with their weights.
    pub fn new(items: impl IntoIterator<Item = (u64, T)>) -> Self {
        let mut sum = 0;
        let items = items
            .into_iter()
            .map(|(weight, item)| {
                sum += weight;
                (sum, item)
            })
            .collect();
        Self { items }
    }

    /// One of them; `None` only when there are none.
    pub fn pick(&self, random: &mut Random) -> Option<&T> {
        let at = random.below(self.items.last()?.0);
        let index = self.items.partition_point(|(sum, _)| *sum <= at);
        self.items.get(index).map(|(_, item)| item)
    }
}
