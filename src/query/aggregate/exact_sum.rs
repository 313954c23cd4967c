//! Sums of floats without rounding, so that their order does not matter.

/// The exact sum of any floats, at most 2^43 of them.
///
/// Every finite float is an integer of 53 bits times a power of two. The integers are added up by the power,
/// 32 powers to a bin: an integer moved by up to 31 bits has 84, so that a bin of 128 bits takes 2^43 of them
/// before it could overflow. Bins are added and merged without any loss; only [`ExactSum::rounded`] rounds, once.
///
/// After the idea of Neal, "Fast exact summation using small and large superaccumulators" (2015).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ExactSum {
    /// Number and content of the bins in use; few, as the values of an attribute are rarely of very different
    /// magnitude.
    bins: Vec<(u8, i128)>,
}

/// The same with all bins at hand: large, and faster for many floats.
pub(super) struct ManyFloats {
    bins: [i128; BINS],
}

impl ManyFloats {
    pub fn new() -> Self {
        Self { bins: [0; BINS] }
    }

    pub fn add(&mut self, x: f64) {
        let (bin, share) = share(x);
        // Never changes the number, and spares a check.
        self.bins[bin % BINS] += share;
    }
}

/// Enough for the 2,046 powers of two.
const BINS: usize = 64;
const POWERS_PER_BIN: usize = 32;
const FRACTION: u64 = (1 << 52) - 1;

/// A float as what is added to a bin.
fn share(x: f64) -> (usize, i128) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as usize;
    // The smallest normal numbers have the same power as subnormal ones, and a leading bit besides.
    let (integer, power) = match exponent {
        0 => (bits & FRACTION, 0),
        _ => (bits & FRACTION | 1 << 52, exponent - 1),
    };
    let moved = i128::from(integer) << (power % POWERS_PER_BIN);
    (
        power / POWERS_PER_BIN,
        if x.is_sign_negative() { -moved } else { moved },
    )
}

impl ExactSum {
    /// Adds one float, which is finite.
    pub fn add(&mut self, x: f64) {
        let (bin, share) = share(x);
        self.add_to(bin as u8, share);
    }

    /// Adds one float several times, fewer than 2^32: then it fits its bin.
    pub fn add_times(&mut self, x: f64, times: u64) {
        let (bin, share) = share(x);
        self.add_to(bin as u8, share * i128::from(times));
    }

    /// Adds many floats.
    pub fn add_all(&mut self, many: &ManyFloats) {
        for (bin, share) in many.bins.iter().enumerate().filter(|(_, share)| **share != 0) {
            self.add_to(bin as u8, *share);
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        for (bin, share) in &other.bins {
            self.add_to(*bin, *share);
        }
    }

    fn add_to(&mut self, bin: u8, share: i128) {
        match self.bins.iter_mut().find(|(number, _)| *number == bin) {
            Some((_, sum)) => *sum += share,
            None => self.bins.push((bin, share)),
        }
    }

    /// The float nearest to the sum, ties to even; `None` when that is beyond the range of floats.
    pub fn rounded(&self) -> Option<f64> {
        self.rounded_over(0)
    }

    /// The mean of `n` floats that were added, rounded from the rounded sum. `n` is at least 1.
    pub fn mean(&self, n: u64) -> Option<f64> {
        match self.rounded() {
            Some(sum) => Some(sum / n as f64),
            // The sum is out of range, and the mean need not be: made smaller by a power of two nothing is lost.
            None => Some(self.rounded_over(64)? / n as f64 * 2f64.powi(64)),
        }
    }

    /// The float nearest to sum / 2^`halvings`, for sums so large that this is no subnormal number.
    fn rounded_over(&self, halvings: usize) -> Option<f64> {
        let (negative, digits) = self.digits();
        let bit = |i: usize| digits[i / POWERS_PER_BIN] >> (i % POWERS_PER_BIN) & 1;
        let Some(top) = digits.iter().rposition(|d| *d != 0) else {
            return Some(0.0);
        };
        let length = (top + 1) * POWERS_PER_BIN - digits[top].leading_zeros() as usize;
        let dropped = length.saturating_sub(53);
        let mut kept = (dropped..length)
            .rev()
            .fold(0u64, |kept, i| kept << 1 | u64::from(bit(i)));
        if dropped > 0 && bit(dropped - 1) == 1 {
            let more_than_half = (0..dropped - 1).any(|i| bit(i) == 1);
            kept += u64::from(more_than_half || kept & 1 == 1);
        }
        // In the bits of a float the exponent follows the fraction, so that a leading bit or a carry counts it up.
        let exponent = (dropped as u64).checked_sub(halvings as u64)?;
        if exponent > 2046 {
            return None;
        }
        let magnitude = f64::from_bits((exponent << 52) + kept);
        magnitude
            .is_finite()
            .then_some(if negative { -magnitude } else { magnitude })
    }

    /// Whether the sum is negative, and the digits to base 2^32 of its magnitude in units of 2^−1074, least first.
    fn digits(&self) -> (bool, [u32; BINS + 4]) {
        let mut bins = [0i128; BINS + 4];
        for (bin, share) in &self.bins {
            bins[usize::from(*bin)] = *share;
        }
        let mut digits = [0u32; BINS + 4];
        let mut carry = 0i128;
        for (digit, bin) in digits.iter_mut().zip(bins) {
            // The carry is below 2^96, and a bin below 2^127 less that, by the number of floats.
            let sum = bin + carry;
            *digit = sum as u32;
            carry = sum >> POWERS_PER_BIN;
        }
        let negative = carry < 0;
        if negative {
            let mut borrow = true;
            for digit in &mut digits {
                (*digit, borrow) = (!*digit).overflowing_add(borrow.into());
            }
        }
        (negative, digits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(floats: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        floats.iter().for_each(|x| sum.add(*x));
        sum
    }

    #[test]
    fn known_sums_are_rounded_once() {
        let tiny = f64::from_bits(1);
        for (floats, expected) in [
            (vec![], Some(0.0)),
            (vec![-0.0], Some(0.0)),
            (vec![0.1; 10], Some(1.0)),
            (vec![1e16, 1.0, -1e16], Some(1.0)),
            (vec![1e308, 1e308, -1e308], Some(1e308)),
            (vec![1e308, 1e308], None),
            (vec![-1e308, -1e308], None),
            (vec![f64::MAX, 1.0], Some(f64::MAX)),
            (vec![f64::MAX, f64::MAX, -f64::MAX, tiny], Some(f64::MAX)),
            (vec![tiny; 3], Some(f64::from_bits(3))),
            (vec![f64::MIN_POSITIVE, -tiny], Some(f64::from_bits((1 << 52) - 1))),
            (vec![f64::from_bits((1 << 52) - 1), tiny], Some(f64::MIN_POSITIVE)),
            (vec![1.0, -1.0, -tiny], Some(-tiny)),
            // Half a unit in the last place: to even, and beyond half: up.
            (vec![9_007_199_254_740_992.0, 1.0], Some(9_007_199_254_740_992.0)),
            (vec![9_007_199_254_740_994.0, 1.0], Some(9_007_199_254_740_996.0)),
            (vec![9_007_199_254_740_992.0, 1.0, tiny], Some(9_007_199_254_740_994.0)),
            (
                vec![-9_007_199_254_740_992.0, -1.0, -tiny],
                Some(-9_007_199_254_740_994.0),
            ),
        ] {
            assert_eq!(
                sum(&floats).rounded().map(f64::to_bits),
                expected.map(f64::to_bits),
                "{floats:?}"
            );
        }
        assert_eq!(sum(&[f64::MAX, f64::MAX]).mean(2), Some(f64::MAX));
        assert_eq!(sum(&[1.0, 2.0]).mean(2), Some(1.5));
    }

    /// Any finite float.
    fn any_finite() -> impl Strategy<Value = f64> {
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |x| x.is_finite())
    }

    proptest! {
        #[test]
        fn one_float_is_its_own_sum(x in any_finite()) {
            prop_assert_eq!(sum(&[x]).rounded(), Some(x));
        }

        #[test]
        fn two_floats_are_added_as_the_processor_does(x in any_finite(), y in any_finite()) {
            let expected = x + y;
            prop_assert_eq!(sum(&[x, y]).rounded(), expected.is_finite().then_some(expected));
        }

        #[test]
        fn order_and_division_do_not_matter(
            floats in prop::collection::vec(prop_oneof![any_finite(), (-1000i32..1000).prop_map(|n| f64::from(n) / 7.0)], 0..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let (left, right) = floats.split_at(cut.index(floats.len() + 1));
            let mut merged = ExactSum::default();
            let all = |floats: &mut dyn Iterator<Item = f64>| {
                let mut many = ManyFloats::new();
                floats.for_each(|x| many.add(x));
                many
            };
            merged.add_all(&all(&mut right.iter().rev().copied()));
            merged.merge(&sum(left));
            prop_assert_eq!(merged.rounded(), sum(&floats).rounded());
            merged.add_all(&all(&mut floats.iter().map(|x| -x)));
            prop_assert_eq!(merged.rounded(), Some(0.0));
        }

        #[test]
        fn integers_and_halves_sum_like_integers(numbers in prop::collection::vec(any::<i32>(), 0..50)) {
            let expected: i64 = numbers.iter().map(|n| i64::from(*n)).sum();
            let floats: Vec<f64> = numbers.iter().map(|n| f64::from(*n) / 2.0).collect();
            prop_assert_eq!(sum(&floats).rounded(), Some(expected as f64 / 2.0));
        }
    }
}
