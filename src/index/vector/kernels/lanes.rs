//! The one summation scheme, written once over an abstract register of sixteen floats.

/// Floats per accumulator.
pub(super) const LANES: usize = 16;

/// Sixteen `f32` in whatever registers a CPU has. Every operation is the IEEE 754 one, lane by lane
/// and rounded to nearest, so that all implementations agree in every bit.
///
/// # Safety
///
/// All functions require the CPU features of the implementation. `load_*` read sixteen elements of
/// the named type at `p`, which needs no alignment.
pub(super) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load_f32(p: *const u8) -> Self;
    /// Exact: every f16 is an f32.
    unsafe fn load_f16(p: *const u8) -> Self;
    unsafe fn load_i8(p: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// `self × factor + addend` with one rounding.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn to_array(self) -> [f32; LANES];
    /// Adds the upper half of the lanes to the lower half until one is left.
    #[inline(always)]
    unsafe fn halve(self) -> f32 {
        let mut lanes = unsafe { self.to_array() };
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
    /// Asks for a cache line that will be read soon; `p` may point anywhere.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
}

/// An element type of stored rows.
pub(super) trait Stored {
    const BYTES: usize;
    /// # Safety
    ///
    /// As for [`Lanes`].
    unsafe fn load<L: Lanes>(p: *const u8) -> L;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct I8;

impl Stored for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L {
        unsafe { L::load_f32(p) }
    }
}

impl Stored for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L {
        unsafe { L::load_f16(p) }
    }
}

impl Stored for I8 {
    const BYTES: usize = 1;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L {
        unsafe { L::load_i8(p) }
    }
}

/// What is summed over the elements: `K` sums at a time.
pub(super) trait Terms<const K: usize> {
    /// # Safety
    ///
    /// As for [`Lanes`].
    unsafe fn add<L: Lanes>(sums: &mut [L; K], q: L, x: L);
}

/// Σ q·x
pub(super) struct Dot;
/// Σ q·x and Σ x²
pub(super) struct DotAndNorm;
/// Σ (q − x)²
pub(super) struct Euclidean;

impl Terms<1> for Dot {
    #[inline(always)]
    unsafe fn add<L: Lanes>(sums: &mut [L; 1], q: L, x: L) {
        sums[0] = unsafe { q.mul_add(x, sums[0]) };
    }
}

impl Terms<2> for DotAndNorm {
    #[inline(always)]
    unsafe fn add<L: Lanes>(sums: &mut [L; 2], q: L, x: L) {
        sums[0] = unsafe { q.mul_add(x, sums[0]) };
        sums[1] = unsafe { x.mul_add(x, sums[1]) };
    }
}

impl Terms<1> for Euclidean {
    #[inline(always)]
    unsafe fn add<L: Lanes>(sums: &mut [L; 1], q: L, x: L) {
        unsafe {
            let difference = q.sub(x);
            sums[0] = difference.mul_add(difference, sums[0]);
        }
    }
}

/// How far ahead of the element being read the next cache line is asked for. The hardware's
/// prefetcher stops at page ends, which a row of 3 KiB meets at almost every row.
const PREFETCH_BYTES: usize = 2048;

/// The summation scheme of the [module](super): two accumulators of sixteen lanes.
///
/// # Safety
///
/// `row` holds `query.len()` elements, and the CPU has the features of `L`.
#[inline(always)]
pub(super) unsafe fn sums<L: Lanes, E: Stored, T: Terms<K>, const K: usize>(query: &[f32], row: &[u8]) -> [f32; K] {
    debug_assert_eq!(row.len(), query.len() * E::BYTES);
    let (q, x) = (query.as_ptr().cast::<u8>(), row.as_ptr());
    let whole = query.len() / LANES;
    // SAFETY: block `i` of a whole number of blocks lies inside both slices.
    unsafe {
        let mut even = [L::zero(); K];
        let mut odd = [L::zero(); K];
        let mut block = 0;
        while block + 2 <= whole {
            let at = block * LANES;
            L::prefetch(x.wrapping_add(at * E::BYTES + PREFETCH_BYTES));
            if E::BYTES == 4 {
                L::prefetch(x.wrapping_add(at * E::BYTES + PREFETCH_BYTES + 64));
            }
            T::add(&mut even, L::load_f32(q.add(at * 4)), E::load(x.add(at * E::BYTES)));
            let at = at + LANES;
            T::add(&mut odd, L::load_f32(q.add(at * 4)), E::load(x.add(at * E::BYTES)));
            block += 2;
        }
        if block < whole {
            let at = block * LANES;
            T::add(&mut even, L::load_f32(q.add(at * 4)), E::load(x.add(at * E::BYTES)));
        }
        let rest = query.len() % LANES;
        if rest > 0 {
            let at = whole * LANES;
            let q_rest = padded(q.add(at * 4), rest * 4);
            let x_rest = padded(x.add(at * E::BYTES), rest * E::BYTES);
            let (q_rest, x_rest) = (L::load_f32(q_rest.as_ptr()), E::load(x_rest.as_ptr()));
            // Two calls and not one with a reference to either, so that the accumulators need no
            // address and can stay in registers.
            if whole.is_multiple_of(2) {
                T::add(&mut even, q_rest, x_rest);
            } else {
                T::add(&mut odd, q_rest, x_rest);
            }
        }
        std::array::from_fn(|k| even[k].add(odd[k]).halve())
    }
}

/// The last, incomplete block, filled up with zeros.
///
/// # Safety
///
/// `len` bytes, at most 64, can be read at `p`.
#[inline(always)]
unsafe fn padded(p: *const u8, len: usize) -> [u8; LANES * 4] {
    let mut block = [0; LANES * 4];
    // SAFETY: the caller vouches for the source; the block has 64 bytes and is our own.
    unsafe { std::ptr::copy_nonoverlapping(p, block.as_mut_ptr(), len) };
    block
}
