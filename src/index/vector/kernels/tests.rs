use half::f16;

use super::*;
use crate::base::Rng;

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::I8];

fn unit(rng: &Rng) -> f32 {
    rng.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
}

/// A row of random finite elements; about one f16 in thirty-two is subnormal.
fn random_row(rng: &Rng, element: Element, dims: usize) -> Vec<u8> {
    let mut row = Vec::new();
    for _ in 0..dims {
        match element {
            Element::F32 => row.extend((unit(rng) * 10f32.powi(rng.below(9) as i32 - 4)).to_le_bytes()),
            Element::F16 => {
                let bits = rng.below(1 << 16) as u16;
                let finite = if bits & 0x7c00 == 0x7c00 { bits & 0x83ff } else { bits };
                row.extend(finite.to_le_bytes());
            }
            Element::I8 => row.push(rng.below(256) as u8),
        }
    }
    row
}

fn decoded(element: Element, row: &[u8]) -> Vec<f32> {
    row.chunks_exact(element.bytes())
        .map(|x| match element {
            Element::F32 => f32::from_le_bytes(x.try_into().unwrap()),
            Element::F16 => f16::from_le_bytes(x.try_into().unwrap()).to_f32(),
            Element::I8 => f32::from(x[0] as i8),
        })
        .collect()
}

/// The documented scheme, written a second time and naively.
fn sum_by_the_book(terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    let mut sums = [[0f32; 16]; 2];
    for (i, (a, b)) in terms.enumerate() {
        let lane = &mut sums[i / 16 % 2][i % 16];
        *lane = a.mul_add(b, *lane);
    }
    let mut lanes: Vec<f32> = (0..16).map(|i| sums[0][i] + sums[1][i]).collect();
    while lanes.len() > 1 {
        let half = lanes.len() / 2;
        lanes = (0..half).map(|i| lanes[i] + lanes[i + half]).collect();
    }
    lanes[0]
}

#[test]
fn every_kernel_gives_the_same_bits_as_the_documented_scheme() {
    let rng = Rng::seeded(1);
    let tables = all();
    for dims in (1..=130).chain([383, 384, 385, 768, 1536, 10752]) {
        let query: Vec<f32> = (0..dims).map(|_| unit(&rng)).collect();
        for element in ELEMENTS {
            let row = random_row(&rng, element, dims);
            let x = decoded(element, &row);
            let dot = sum_by_the_book(query.iter().copied().zip(x.iter().copied()));
            let norm = sum_by_the_book(x.iter().map(|x| (*x, *x)));
            let euclidean = sum_by_the_book(query.iter().zip(&x).map(|(q, x)| (q - x, q - x)));
            for shift in [0, 1, 3] {
                // The same row at odd addresses.
                let mut memory = vec![0xff; shift];
                memory.extend(&row);
                let row = &memory[shift..];
                for table in &tables {
                    let case = format!("{} {element:?} {dims} dims, shift {shift}", table.name);
                    let rows = table.of(element);
                    assert_eq!(rows.dot(&query, row).to_bits(), dot.to_bits(), "dot: {case}");
                    let fused = rows.dot_and_norm(&query, row);
                    assert_eq!(fused.0.to_bits(), dot.to_bits(), "fused dot: {case}");
                    assert_eq!(fused.1.to_bits(), norm.to_bits(), "norm: {case}");
                    assert_eq!(
                        rows.euclidean(&query, row).to_bits(),
                        euclidean.to_bits(),
                        "euclidean: {case}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_f16_and_i8_is_converted_exactly() {
    for table in all() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits).to_f32();
            if value.is_finite() {
                let got = table.of(Element::F16).dot(&[1.0], &bits.to_le_bytes());
                assert_eq!(got, value, "{}: f16 {bits:#06x}", table.name);
            }
        }
        for byte in 0..=u8::MAX {
            let got = table.of(Element::I8).dot(&[1.0], &[byte]);
            assert_eq!(got, f32::from(byte as i8), "{}: i8 {byte}", table.name);
        }
    }
}

#[test]
fn infinities_and_nans_in_stored_bytes_do_not_panic_and_stay_what_they_are() {
    for table in all() {
        let rows = table.of(Element::F16);
        assert_eq!(
            rows.dot(&[1.0], &f16::INFINITY.to_le_bytes()),
            f32::INFINITY,
            "{}",
            table.name
        );
        assert!(rows.dot(&[1.0], &f16::NAN.to_le_bytes()).is_nan(), "{}", table.name);
    }
}

#[test]
#[should_panic(expected = "differ in dimensions")]
fn a_row_of_another_length_is_refused() {
    kernels().of(Element::F16).dot(&[1.0, 2.0], &[0; 8]);
}
