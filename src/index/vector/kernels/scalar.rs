//! Sixteen floats in an array: the definition that the other kernels are tested against, and the
//! fallback for CPUs without them. `mul_add` is slow there, but rounds once.

use half::f16;

use super::lanes::{LANES, Lanes};

super::kernel_table!("scalar", Array);

#[derive(Clone, Copy)]
struct Array([f32; LANES]);

impl Array {
    #[inline(always)]
    fn from_fn(f: impl Fn(usize) -> f32) -> Self {
        Self(std::array::from_fn(f))
    }
}

impl Lanes for Array {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load_f32(p: *const u8) -> Self {
        // SAFETY: the caller vouches for sixteen elements, here and in the next two.
        let bytes = unsafe { p.cast::<[[u8; 4]; LANES]>().read_unaligned() };
        Self::from_fn(|i| f32::from_le_bytes(bytes[i]))
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self {
        let bytes = unsafe { p.cast::<[[u8; 2]; LANES]>().read_unaligned() };
        Self::from_fn(|i| f16::from_le_bytes(bytes[i]).to_f32())
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> Self {
        let bytes = unsafe { p.cast::<[i8; LANES]>().read_unaligned() };
        Self::from_fn(|i| f32::from(bytes[i]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self::from_fn(|i| self.0[i] + other.0[i])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self::from_fn(|i| self.0[i] - other.0[i])
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self::from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i]))
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        self.0
    }
}
