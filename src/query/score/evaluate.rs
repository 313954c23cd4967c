//! Evaluates a weighed expression, a column at a time.

use std::ops::Range;

use arrow::array::AsArray;

use super::{Curve, Expression, Held, Origin, Weighed, WeighedText};
use crate::base::{Bitset, is_abandoned};
use crate::model::{AttrId, Column};
use crate::query::filter::evaluate_rows;
use crate::query::values::{Values, scalar_view};
use crate::tail::Chunk;

/// Rows that are evaluated together, a multiple of 64: a column of them stays in the cache, and the
/// columns of a deep expression stay small.
const BLOCK_ROWS: usize = 4096;

/// The value of a clause that has none for a row. Values are never NaN otherwise.
const NONE: f64 = f64::NAN;

impl Weighed {
    /// The rows that the query returns among some rows of a part, ascending, with their scores.
    ///
    /// * `rows` — inside the part
    /// * `eligible` — one bit for each of `rows`; others are neither scored nor returned
    ///
    /// The result does not depend on how a part is divided into ranges.
    pub fn evaluate(&self, part: usize, rows: Range<usize>, eligible: &Bitset) -> Vec<(u32, f64)> {
        assert_eq!(eligible.len(), rows.len(), "a bit per row");
        let returns_zero = self.root.returns_zero();
        let mut found = Vec::new();
        for start in (0..rows.len()).step_by(BLOCK_ROWS) {
            let end = rows.len().min(start + BLOCK_ROWS);
            let words = &eligible.words()[start / 64..end.div_ceil(64)];
            let eligible = Bitset::from_words(words.to_vec(), end - start);
            if eligible.none() {
                continue;
            }
            let block = Block {
                chunk: &self.parts[part].chunk,
                part,
                rows: rows.start + start..rows.start + end,
                held: self.held.get(&part),
                eligible: &eligible,
            };
            let scores = block.column(&self.root);
            let returned = |score: f64| score > 0.0 || (returns_zero && !score.is_nan());
            let rows = eligible.iter().filter(|i| returned(scores[*i]));
            found.extend(rows.map(|i| ((block.rows.start + i) as u32, scores[i])));
        }
        found
    }

    /// The score of one row, whether or not a query would return it; 0 when it has none.
    pub fn row(&self, part: usize, row: u32) -> f64 {
        let block = Block {
            chunk: &self.parts[part].chunk,
            part,
            rows: row as usize..row as usize + 1,
            held: self.held.get(&part),
            eligible: &Bitset::full(1),
        };
        let score = block.column(&self.root)[0];
        // The sum makes 0 of −0.
        if score.is_nan() { 0.0 } else { score + 0.0 }
    }
}

/// Some rows of one part.
struct Block<'a> {
    chunk: &'a Chunk,
    part: usize,
    rows: Range<usize>,
    /// What is known of filters without looking at values.
    held: Option<&'a Held>,
    /// The values of other rows mean nothing. Bit 0 is `rows.start`.
    eligible: &'a Bitset,
}

impl Block<'_> {
    /// The value of an expression for each row, [`NONE`] where there is none.
    fn column(&self, expression: &Expression<WeighedText>) -> Vec<f64> {
        if is_abandoned() {
            return vec![NONE; self.rows.len()];
        }
        match expression {
            Expression::Text(text) => self.text(text),
            Expression::Sparse { attribute, query } => {
                let mut products = vec![0.0; self.rows.len()];
                if let Some(Column::Values(values)) = self.chunk.column(*attribute) {
                    query.dot_rows(
                        values.as_binary::<i64>(),
                        self.rows.clone(),
                        self.eligible,
                        &mut products,
                    );
                }
                products
            }
            Expression::Sum(of) => self.fold(of, |sum, x| finite(sum + x)),
            Expression::Max { of, least } => {
                // Not `f64::max`, which would take the constant for a row that has no value.
                map(self.fold(of, f64::max), |x| if x < *least { *least } else { x })
            }
            Expression::Product { weight, of } => map(self.column(of), |x| finite(weight * x)),
            Expression::Filter(filter) => {
                let holds = match self.held.and_then(|held| held.rows(filter)) {
                    Some(all) => all.range(self.rows.clone()),
                    None => evaluate_rows(filter, self.chunk, self.rows.clone()),
                };
                let mut column = vec![0.0; self.rows.len()];
                holds.iter().for_each(|i| column[i] = 1.0);
                column
            }
            Expression::Attribute(attribute) => map(self.numbers(*attribute, Number::value), floor_at_0),
            Expression::Distance { attribute, origin } => self.numbers(*attribute, |x| x.distance(*origin)),
            Expression::Curve { curve, of } => map(self.column(of), |x| curve.of(x)),
        }
    }

    fn text(&self, text: &WeighedText) -> Vec<f64> {
        let mut scores = vec![0.0; self.rows.len()];
        if let Some(index) = self.chunk.text_index(text.attribute) {
            let prefixed = &text.prefixed[self.part];
            text.scorer.score_rows(index, prefixed, self.rows.clone(), &mut scores);
        }
        scores
    }

    /// Combines what operands have a value, in their order.
    fn fold(&self, of: &[Expression<WeighedText>], combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let mut result = vec![NONE; self.rows.len()];
        for operand in of {
            for (so_far, x) in result.iter_mut().zip(self.column(operand)) {
                *so_far = match (so_far.is_nan(), x.is_nan()) {
                    (_, true) => *so_far,
                    (true, false) => x,
                    (false, false) => combine(*so_far, x),
                };
            }
        }
        result
    }

    /// A number made of each value of a numeric attribute.
    fn numbers(&self, attribute: AttrId, of: impl Fn(Number) -> f64) -> Vec<f64> {
        let Some(view) = scalar_view(self.chunk, attribute) else {
            return vec![NONE; self.rows.len()];
        };
        let rows = self.rows.clone();
        let mut column: Vec<f64> = match view.values {
            Values::I64(v) => v[rows].iter().map(|x| of(Number::Int((*x).into()))).collect(),
            Values::U64(v) => v[rows].iter().map(|x| of(Number::Int((*x).into()))).collect(),
            Values::F64(v) => v[rows].iter().map(|x| of(Number::Float(*x))).collect(),
            _ => unreachable!("the binder takes numeric attributes only"),
        };
        if let Some(nulls) = view.nulls.filter(|n| n.null_count() > 0) {
            for (i, x) in column.iter_mut().enumerate() {
                if nulls.is_null(self.rows.start + i) {
                    *x = NONE;
                }
            }
        }
        column
    }
}

/// A value of a numeric attribute.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn value(self) -> f64 {
        match self {
            Number::Int(n) => n as f64,
            Number::Float(x) => x,
        }
    }

    /// |self − origin|, exact where both are integers.
    fn distance(self, origin: Origin) -> f64 {
        match (self, origin) {
            (Number::Int(n), Origin::Int(origin)) => n.abs_diff(origin) as f64,
            (x, Origin::Int(origin)) => finite((x.value() - origin as f64).abs()),
            (x, Origin::Float(origin)) => finite((x.value() - origin).abs()),
        }
    }
}

impl Curve {
    /// x^p / (x^p + m^p) when rising, m^p / (x^p + m^p) when falling; of x floored at 0. Written
    /// with the ratio of x and m, because their powers overflow.
    fn of(&self, x: f64) -> f64 {
        if x.is_nan() {
            return NONE;
        }
        let x = floor_at_0(x);
        let ratio = match self.rising {
            true => self.midpoint / x,
            false => x / self.midpoint,
        };
        1.0 / (1.0 + ratio.powf(self.exponent))
    }
}

fn map(mut column: Vec<f64>, f: impl Fn(f64) -> f64) -> Vec<f64> {
    column.iter_mut().for_each(|x| *x = f(*x));
    column
}

/// 0 instead of what is below, −0 included.
fn floor_at_0(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

/// Sums and products beyond f64 stay numbers that JSON can carry.
fn finite(x: f64) -> f64 {
    x.clamp(f64::MIN, f64::MAX)
}
