//! Sums over a query and a stored row, in the widest registers of the CPU at hand.
//!
//! # What stays true
//!
//! Every kernel gives the same bits on every CPU. Hence a row has one distance, whether it is read
//! from the tail or a segment, on x86 or ARM, and equal vectors tie exactly. The scheme:
//!
//! - Element `i` is added to lane `i % 16` of accumulator `(i / 16) % 2`, by a fused multiply-add.
//! - An incomplete last block is filled up with zeros and added like the others.
//! - The two accumulators are added lane by lane; then lanes `i` and `i + 8` are added, then `i`
//!   and `i + 4`, `i + 2`, `i + 1`.
//!
//! The scheme is written once, in `lanes.rs`, generic over a register of sixteen floats; a file per
//! instruction set provides that register. f16 and i8 elements become f32 exactly before anything
//! is computed.
//!
//! Two accumulators suffice to keep up with memory: the additions of neighbouring rows overlap in
//! the out-of-order window, and AVX2 still has registers left for the fused cosine sums.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use crate::model::Element;

type OneSum = unsafe fn(&[f32], &[u8]) -> f32;
type TwoSums = unsafe fn(&[f32], &[u8]) -> (f32, f32);

/// The kernels for rows of one element type.
///
/// All methods take `row` as little-endian bytes without alignment and panic unless it has as
/// many elements as `query`.
pub struct RowKernels {
    element_bytes: usize,
    dot: OneSum,
    dot_and_norm: TwoSums,
    euclidean: OneSum,
}

impl RowKernels {
    /// Σ q·x
    pub fn dot(&self, query: &[f32], row: &[u8]) -> f32 {
        self.check(query, row);
        // SAFETY: the lengths agree, and `all` lists a table only on CPUs that have its features.
        unsafe { (self.dot)(query, row) }
    }

    /// Σ q·x and Σ x², reading the row once.
    pub fn dot_and_norm(&self, query: &[f32], row: &[u8]) -> (f32, f32) {
        self.check(query, row);
        // SAFETY: as in `dot`.
        unsafe { (self.dot_and_norm)(query, row) }
    }

    /// Σ (q − x)²
    pub fn euclidean(&self, query: &[f32], row: &[u8]) -> f32 {
        self.check(query, row);
        // SAFETY: as in `dot`.
        unsafe { (self.euclidean)(query, row) }
    }

    fn check(&self, query: &[f32], row: &[u8]) {
        assert_eq!(
            row.len(),
            query.len() * self.element_bytes,
            "query and row differ in dimensions"
        );
    }
}

/// The kernels of one instruction set.
pub struct Kernels {
    /// Its name, for logs and benches.
    pub name: &'static str,
    f32: RowKernels,
    f16: RowKernels,
    i8: RowKernels,
}

impl Kernels {
    /// The kernels for rows of `element`.
    pub fn of(&self, element: Element) -> &RowKernels {
        match element {
            Element::F32 => &self.f32,
            Element::F16 => &self.f16,
            Element::I8 => &self.i8,
        }
    }
}

/// The fastest kernels that this CPU can run.
pub fn kernels() -> &'static Kernels {
    static BEST: OnceLock<&'static Kernels> = OnceLock::new();
    BEST.get_or_init(|| *all().first().expect("the scalar kernels are always there"))
}

/// Every set of kernels that this CPU can run, fastest first, scalar last.
pub fn all() -> Vec<&'static Kernels> {
    let mut tables: Vec<&'static Kernels> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            tables.push(&avx512::KERNELS);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            tables.push(&avx2::KERNELS);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        tables.push(&neon::KERNELS);
    }
    tables.push(&scalar::KERNELS);
    tables
}

/// Defines the table `KERNELS` of an instruction set from its register type.
macro_rules! kernel_table {
    ($name:literal, $lanes:ty $(, $feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn dot<E: super::lanes::Stored>(query: &[f32], row: &[u8]) -> f32 {
            // SAFETY: the caller vouches for lengths and features, here and below.
            unsafe { super::lanes::sums::<$lanes, E, super::lanes::Dot, 1>(query, row)[0] }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn dot_and_norm<E: super::lanes::Stored>(query: &[f32], row: &[u8]) -> (f32, f32) {
            unsafe { super::lanes::sums::<$lanes, E, super::lanes::DotAndNorm, 2>(query, row).into() }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn euclidean<E: super::lanes::Stored>(query: &[f32], row: &[u8]) -> f32 {
            unsafe { super::lanes::sums::<$lanes, E, super::lanes::Euclidean, 1>(query, row)[0] }
        }

        const fn rows<E: super::lanes::Stored>() -> super::RowKernels {
            super::RowKernels {
                element_bytes: E::BYTES,
                dot: dot::<E>,
                dot_and_norm: dot_and_norm::<E>,
                euclidean: euclidean::<E>,
            }
        }

        pub(super) static KERNELS: super::Kernels = super::Kernels {
            name: $name,
            f32: rows::<super::lanes::F32>(),
            f16: rows::<super::lanes::F16>(),
            i8: rows::<super::lanes::I8>(),
        };
    };
}
use kernel_table;
