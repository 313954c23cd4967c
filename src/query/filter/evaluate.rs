//! Evaluates a bound filter column by column.

use std::ops::Range;

use arrow::buffer::NullBuffer;

use super::fuzzy::Scratch;
use super::pattern::Pattern;
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test, float_key};
use crate::base::{Bitset, is_abandoned};
use crate::query::values::{ListView, ScalarView, Values, list_view, scalar_view};
use crate::tail::Chunk;

/// Of so many rows at most one has to be left for it to be quicker to look at them one by one.
const SPARSE: usize = 32;

/// The rows of a chunk, dead ones included, for which the filter holds.
pub fn evaluate(filter: &BoundFilter, chunk: &Chunk) -> Bitset {
    evaluate_rows(filter, chunk, 0..chunk.len())
}

/// The same for a range of the chunk's rows; bit 0 of the result is `rows.start`.
pub fn evaluate_rows(filter: &BoundFilter, chunk: &Chunk, rows: Range<usize>) -> Bitset {
    match filter {
        BoundFilter::And(list) => {
            let mut all = Bitset::full(rows.len());
            for inner in list {
                if all.none() {
                    break;
                }
                all = evaluate_within(inner, chunk, rows.clone(), all);
            }
            all
        }
        BoundFilter::Or(list) => {
            let mut any = Bitset::empty(rows.len());
            for inner in list {
                any.or(&evaluate_rows(inner, chunk, rows.clone()));
            }
            any
        }
        BoundFilter::Not(inner) => {
            let mut set = evaluate_rows(inner, chunk, rows);
            set.invert();
            set
        }
        BoundFilter::Test(test) => evaluate_test(test, chunk, rows),
    }
}

/// Those of some rows for which the filter holds.
///
/// * `within` — bit 0 is `rows.start`, as of the result
pub(super) fn evaluate_within(filter: &BoundFilter, chunk: &Chunk, rows: Range<usize>, within: Bitset) -> Bitset {
    let (left, mut found) = (within.count(), within);
    if left == 0 {
        return found;
    }
    if left * SPARSE > rows.len() {
        found.and(&evaluate_rows(filter, chunk, rows));
        return found;
    }
    let holds = |bit: &usize| matches_row(filter, chunk, (rows.start + bit) as u32);
    let kept: Vec<usize> = found.iter().filter(holds).collect();
    found = Bitset::empty(rows.len());
    kept.into_iter().for_each(|bit| found.insert(bit));
    found
}

/// Whether the filter holds for one row, without looking at others.
pub fn matches_row(filter: &BoundFilter, chunk: &Chunk, row: u32) -> bool {
    let row = row as usize;
    match filter {
        BoundFilter::And(list) => list.iter().all(|f| matches_row(f, chunk, row as u32)),
        BoundFilter::Or(list) => list.iter().any(|f| matches_row(f, chunk, row as u32)),
        BoundFilter::Not(inner) => !matches_row(inner, chunk, row as u32),
        BoundFilter::Test(test) => evaluate_test(test, chunk, row..row + 1).contains(0),
    }
}

fn evaluate_test(test: &Test, chunk: &Chunk, rows: Range<usize>) -> Bitset {
    let (held, nulls) = match (&test.condition, test.target) {
        // Needs only to know which rows are null, whatever the column's type.
        (Condition::Scalar(Atom::Never | Atom::Always), Target::Attribute(id)) => {
            let Some(column) = chunk.column(id) else {
                return constant(test.null, rows.len());
            };
            let nulls = match column {
                crate::model::Column::Values(array) => array.nulls(),
                crate::model::Column::Vectors(vectors) => vectors.nulls.as_ref(),
            };
            let held = matches!(test.condition, Condition::Scalar(Atom::Always));
            (constant(held, rows.len()), nulls)
        }
        (Condition::Scalar(atom), target) => {
            let view = match target {
                Target::Id => Some(ScalarView {
                    values: Values::of_ids(chunk.ids()),
                    nulls: None,
                }),
                Target::Attribute(id) => scalar_view(chunk, id),
            };
            let Some(view) = view else {
                return constant(test.null, rows.len());
            };
            (holding(atom, view.values, rows.clone()), view.nulls)
        }
        (_, Target::Id) => unreachable!("ids are neither arrays nor searched"),
        (Condition::Tokens(tokens), Target::Attribute(id)) => match tokens.holding(chunk, id, rows.clone()) {
            Some(found) => found,
            None => return constant(test.null, rows.len()),
        },
        (condition, Target::Attribute(id)) => {
            let Some(view) = list_view(chunk, id) else {
                return constant(test.null, rows.len());
            };
            (holding_arrays(condition, &view, rows.clone()), view.nulls)
        }
    };
    finish(test, held, nulls, rows)
}

fn constant(value: bool, len: usize) -> Bitset {
    match value {
        true => Bitset::full(len),
        false => Bitset::empty(len),
    }
}

/// Applies the negation, then the rule for nulls.
fn finish(test: &Test, mut held: Bitset, nulls: Option<&NullBuffer>, rows: Range<usize>) -> Bitset {
    if test.negated {
        held.invert();
    }
    let Some(nulls) = nulls.filter(|n| n.null_count() > 0) else {
        return held;
    };
    let present = nulls.inner().slice(rows.start, rows.len());
    let mut present = Bitset::from_words(present.bit_chunks().iter_padded().collect(), rows.len());
    held.and(&present);
    if test.null {
        present.invert();
        held.or(&present);
    }
    held
}

/// The arrays for which a condition holds.
fn holding_arrays(condition: &Condition, view: &ListView<'_>, rows: Range<usize>) -> Bitset {
    let elements_of = |row: usize| view.offsets[row] as usize..view.offsets[row + 1] as usize;
    match condition {
        Condition::AnyElement(atom) => {
            let elements = view.offsets[rows.start] as usize..view.offsets[rows.end] as usize;
            let first = elements.start;
            let held = holding(atom, view.elements, elements);
            pack(rows, |row| elements_of(row).any(|e| held.contains(e - first)))
        }
        Condition::Whole(atoms) => pack(rows, |row| {
            let elements = elements_of(row);
            elements.len() == atoms.len() && elements.zip(atoms).all(|(e, atom)| holds(atom, view.elements, e))
        }),
        Condition::Scalar(_) | Condition::Tokens(_) => unreachable!("the caller has dealt with them"),
    }
}

/// The values for which an atom holds; bit 0 is `rows.start`.
fn holding(atom: &Atom, values: Values<'_>, rows: Range<usize>) -> Bitset {
    match (atom, values) {
        (Atom::Never, _) => Bitset::empty(rows.len()),
        (Atom::Always, _) => Bitset::full(rows.len()),
        // The ranges, as copies, are what lets the compiler compare several values at a time.
        (Atom::Int(range), Values::I64(v)) => {
            let (low, high) = (*range.start(), *range.end());
            pack_slice(&v[rows], |x| (low <= x) & (x <= high))
        }
        (Atom::UInt(range), Values::U64(v)) => {
            let (low, high) = (*range.start(), *range.end());
            pack_slice(&v[rows], |x| (low <= x) & (x <= high))
        }
        (Atom::Float(range), Values::F64(v)) => {
            let (low, high) = (*range.start(), *range.end());
            pack_slice(&v[rows], |x| (low <= x) & (x <= high))
        }
        (Atom::IntIn(set), Values::I64(v)) => pack_slice(&v[rows], |x| set.contains(&x)),
        (Atom::UIntIn(set), Values::U64(v)) => pack_slice(&v[rows], |x| set.contains(&x)),
        (Atom::FloatIn(set), Values::F64(v)) => pack_slice(&v[rows], |x| set.contains(&float_key(x))),
        (Atom::Bool([no, yes]), Values::Bool(v)) if no != yes => {
            let bits = v.slice(rows.start, rows.len());
            let mut set = Bitset::from_words(bits.bit_chunks().iter_padded().collect(), rows.len());
            if *no {
                set.invert();
            }
            set
        }
        (Atom::Bytes(Comparison::Eq, operand), Values::String(v)) => {
            pack(rows, |i| v.value(i).as_bytes() == &**operand)
        }
        (Atom::Pattern(Pattern::Regex(regex)), Values::String(v)) => {
            pack(rows, |i| !is_abandoned() && regex.is_match(v.value(i)))
        }
        (Atom::Fuzzy(query), Values::String(v)) => {
            let mut scratch = Scratch::default();
            pack(rows, |i| !is_abandoned() && query.matches(v.value(i), &mut scratch))
        }
        _ => pack(rows, |i| holds(atom, values, i)),
    }
}

/// Whether an atom holds for one value.
fn holds(atom: &Atom, values: Values<'_>, i: usize) -> bool {
    match (atom, values) {
        (Atom::Never, _) => false,
        (Atom::Always, _) => true,
        (Atom::Int(range), Values::I64(v)) => range.contains(&v[i]),
        (Atom::UInt(range), Values::U64(v)) => range.contains(&v[i]),
        (Atom::Float(range), Values::F64(v)) => range.contains(&v[i]),
        (Atom::IntIn(set), Values::I64(v)) => set.contains(&v[i]),
        (Atom::UIntIn(set), Values::U64(v)) => set.contains(&v[i]),
        (Atom::FloatIn(set), Values::F64(v)) => set.contains(&float_key(v[i])),
        (Atom::Bool(wanted), Values::Bool(v)) => wanted[usize::from(v.value(i))],
        (Atom::Bytes(comparison, operand), values) => {
            let bytes = values.bytes(i).expect("the binder gives numbers no bytes to compare");
            match comparison {
                Comparison::Eq => bytes == &**operand,
                Comparison::Lt => bytes < &**operand,
                Comparison::Lte => bytes <= &**operand,
                Comparison::Gt => bytes > &**operand,
                Comparison::Gte => bytes >= &**operand,
            }
        }
        (Atom::BytesIn(set), values) => {
            set.contains(values.bytes(i).expect("the binder gives numbers no bytes to compare"))
        }
        (Atom::Pattern(pattern), Values::String(v)) => pattern.matches(v.value(i)),
        (Atom::Fuzzy(query), Values::String(v)) => query.matches(v.value(i), &mut Scratch::default()),
        _ => unreachable!("the binder fits conditions to the attribute's type"),
    }
}

fn pack(rows: Range<usize>, mut f: impl FnMut(usize) -> bool) -> Bitset {
    let len = rows.len();
    let words = rows.clone().step_by(64).map(|start| {
        if is_abandoned() {
            return 0;
        }
        let end = rows.end.min(start + 64);
        (start..end).fold(0u64, |word, i| word | u64::from(f(i)) << (i - start))
    });
    Bitset::from_words(words.collect(), len)
}

fn pack_slice<T: Copy>(values: &[T], f: impl Fn(T) -> bool) -> Bitset {
    let words = values.chunks(64).map(|chunk| {
        let bits = chunk.iter().enumerate();
        bits.fold(0u64, |word, (i, x)| word | u64::from(f(*x)) << i)
    });
    Bitset::from_words(words.collect(), values.len())
}
