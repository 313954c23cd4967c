//! Sixteen floats in four 128-bit registers.

use std::arch::aarch64::*;

use super::lanes::{LANES, Lanes};

super::kernel_table!("neon", Quad, "neon");

/// Lanes 0 to 3, 4 to 7, 8 to 11, 12 to 15.
#[derive(Clone, Copy)]
struct Quad([float32x4_t; 4]);

/// Four f16 bit patterns, zero-extended, as f32: the fields are moved into place and the exponent
/// rebased by an exact multiplication, which also gives subnormals their value.
///
/// # Safety
///
/// The CPU has NEON.
#[inline(always)]
unsafe fn widen(h: uint32x4_t) -> float32x4_t {
    unsafe {
        let magnitude = vandq_u32(h, vdupq_n_u32(0x7fff));
        let sign = vshlq_n_u32::<16>(vandq_u32(h, vdupq_n_u32(0x8000)));
        let two_to_112 = vdupq_n_f32(f32::from_bits((112 + 127) << 23));
        let shifted = vshlq_n_u32::<13>(magnitude);
        let rebased = vreinterpretq_u32_f32(vmulq_f32(vreinterpretq_f32_u32(shifted), two_to_112));
        // Infinity and NaN keep an exponent of all ones.
        let special = vandq_u32(vcgeq_u32(magnitude, vdupq_n_u32(0x7c00)), vdupq_n_u32(0x7f80_0000));
        vreinterpretq_f32_u32(vorrq_u32(vorrq_u32(rebased, special), sign))
    }
}

// SAFETY throughout: the trait's contract grants the CPU feature and readable bytes.
impl Lanes for Quad {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self([vdupq_n_f32(0.0); 4]) }
    }

    #[inline(always)]
    unsafe fn load_f32(p: *const u8) -> Self {
        unsafe {
            Self([
                vreinterpretq_f32_u8(vld1q_u8(p)),
                vreinterpretq_f32_u8(vld1q_u8(p.add(16))),
                vreinterpretq_f32_u8(vld1q_u8(p.add(32))),
                vreinterpretq_f32_u8(vld1q_u8(p.add(48))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self {
        unsafe {
            let low = vreinterpretq_u16_u8(vld1q_u8(p));
            let high = vreinterpretq_u16_u8(vld1q_u8(p.add(16)));
            Self([
                widen(vmovl_u16(vget_low_u16(low))),
                widen(vmovl_u16(vget_high_u16(low))),
                widen(vmovl_u16(vget_low_u16(high))),
                widen(vmovl_u16(vget_high_u16(high))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> Self {
        unsafe {
            let bytes = vld1q_s8(p.cast());
            let low = vmovl_s8(vget_low_s8(bytes));
            let high = vmovl_s8(vget_high_s8(bytes));
            Self([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        unsafe {
            Self([
                vaddq_f32(a[0], b[0]),
                vaddq_f32(a[1], b[1]),
                vaddq_f32(a[2], b[2]),
                vaddq_f32(a[3], b[3]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        unsafe {
            Self([
                vsubq_f32(a[0], b[0]),
                vsubq_f32(a[1], b[1]),
                vsubq_f32(a[2], b[2]),
                vsubq_f32(a[3], b[3]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let (a, b, c) = (self.0, factor.0, addend.0);
        unsafe {
            Self([
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        unsafe {
            for (i, register) in self.0.into_iter().enumerate() {
                vst1q_f32(lanes.as_mut_ptr().add(4 * i), register);
            }
        }
        lanes
    }
}
