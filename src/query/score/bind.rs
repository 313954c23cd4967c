//! From a ranking expression as written to one that is typed against a schema.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{BoundScore, BoundText, Curve, Expression, Origin};
use crate::index::sparse::SparseQuery;
use crate::index::text::{last_token, query_terms};
use crate::model::query::{self, Midpoint, Score, TextQuery};
use crate::model::{AttrType, Attribute, Invalid, Limits, Scalar, Schema, datetime};
use crate::query::filter;

/// Types an expression's attributes and operands against `schema`.
///
/// # Errors
///
/// The sentence for the client: an unknown attribute, one that does not have the needed type or
/// index, an operand of another type or beyond its range, or an expression that is too large.
pub fn bind(score: &Score, schema: &Schema, limits: &Limits) -> Result<BoundScore, Invalid> {
    score.check_bounds(limits)?;
    Binder { schema, limits }.expression(score).map(BoundScore)
}

struct Binder<'a> {
    schema: &'a Schema,
    limits: &'a Limits,
}

impl Binder<'_> {
    fn expression(&self, score: &Score) -> Result<Expression<BoundText>, Invalid> {
        match score {
            Score::Text {
                attribute,
                query,
                last_as_prefix,
            } => self.text(attribute, query, *last_as_prefix).map(Expression::Text),
            Score::Sparse { attribute, query } => self.sparse(attribute, query),
            Score::Sum(list) => {
                let of = list.iter().map(|e| self.expression(e)).collect::<Result<Vec<_>, _>>()?;
                match of.is_empty() {
                    true => Err(Invalid::new("Sum needs at least one expression")),
                    false => Ok(Expression::Sum(of)),
                }
            }
            Score::Max(list) => self.max(list),
            Score::Product { weight, of } => match weight.is_finite() && *weight >= 0.0 {
                true => Ok(Expression::Product {
                    weight: *weight,
                    of: Box::new(self.expression(of)?),
                }),
                false => Err(Invalid::new(format!(
                    "the weight of Product must be at least 0, got {weight}"
                ))),
            },
            Score::Constant(_) => Err(Invalid::new(
                "a number can be an operand of Max only, beside expressions",
            )),
            Score::Filter(of) => Ok(Expression::Filter(Arc::new(filter::bind(of, self.schema)?))),
            Score::Attribute(name) => {
                let attribute = self.schema.require(name)?;
                match attribute.ty {
                    AttrType::Scalar(Scalar::Int | Scalar::UInt | Scalar::Float) => {
                        Ok(Expression::Attribute(attribute.id))
                    }
                    AttrType::Scalar(Scalar::Datetime) => Err(Invalid::new(format!(
                        "Attribute needs a number, and {name:?} is datetime; use [\"Dist\", [\"Attribute\", …], time]"
                    ))),
                    ty => Err(Invalid::new(format!(
                        "Attribute needs an attribute of type int, uint or float, and {name:?} is {ty}"
                    ))),
                }
            }
            Score::Distance { attribute, origin } => {
                let attribute = self.schema.require(attribute)?;
                Ok(Expression::Distance {
                    attribute: attribute.id,
                    origin: origin_of(attribute, origin)?,
                })
            }
            Score::Saturate { of, curve } => self.curve("Saturate", true, of, curve),
            Score::Decay { of, curve } => self.curve("Decay", false, of, curve),
        }
    }

    fn max(&self, list: &[Score]) -> Result<Expression<BoundText>, Invalid> {
        let (mut of, mut least) = (Vec::with_capacity(list.len()), f64::NEG_INFINITY);
        for operand in list {
            match operand {
                Score::Constant(x) if x.is_finite() => least = least.max(*x),
                Score::Constant(x) => return Err(Invalid::new(format!("{x} cannot be an operand of Max"))),
                expression => of.push(self.expression(expression)?),
            }
        }
        match of.is_empty() {
            true => Err(Invalid::new("Max needs at least one expression besides numbers")),
            false => Ok(Expression::Max { of, least }),
        }
    }

    fn text(&self, name: &str, query: &TextQuery, last_as_prefix: bool) -> Result<BoundText, Invalid> {
        let attribute = self.schema.require(name)?;
        let Some(config) = attribute.full_text else {
            let how = match attribute.ty.can_be_searched() {
                true => "; set \"full_text_search\": true for it in the schema",
                false => ", which only string and []string attributes can have",
            };
            return Err(Invalid::new(format!(
                "BM25 needs an attribute with full-text search, and {name:?} has none{how}"
            )));
        };
        let chars: usize = match query {
            TextQuery::Text(text) => text.chars().count(),
            TextQuery::Tokens(tokens) => tokens.iter().map(|t| t.chars().count()).sum(),
        };
        if chars > self.limits.text_query_chars_max {
            return Err(Invalid::new(format!(
                "a full-text query can have at most {} characters",
                self.limits.text_query_chars_max
            )));
        }
        Ok(BoundText {
            attribute: attribute.id,
            config,
            terms: query_terms(&config, name, query)?,
            prefix: match last_as_prefix {
                true => last_token(&config, query),
                false => None,
            },
        })
    }

    fn sparse(&self, name: &str, query: &[(String, f32)]) -> Result<Expression<BoundText>, Invalid> {
        let attribute = self.schema.require(name)?;
        if !attribute.sparse_knn {
            let how = match attribute.ty {
                AttrType::SparseVector => {
                    "; set \"sparse_knn\": {\"distance_metric\": \"dot_product\"} for it in the schema"
                }
                _ => ", which only {}f16 attributes can have",
            };
            return Err(Invalid::new(format!(
                "SparseKNN needs an attribute with sparse_knn, and {name:?} has none{how}"
            )));
        }
        if query.len() > self.limits.sparse_entries_max {
            return Err(Invalid::new(format!(
                "a sparse vector can have at most {} entries",
                self.limits.sparse_entries_max
            )));
        }
        if query.iter().any(|(_, weight)| !weight.is_finite()) {
            return Err(Invalid::new(
                "the weights of a sparse vector must be numbers in the range of f32",
            ));
        }
        Ok(Expression::Sparse {
            attribute: attribute.id,
            query: Arc::new(SparseQuery::new(query)),
        })
    }

    fn curve(
        &self,
        name: &str,
        rising: bool,
        of: &Score,
        curve: &query::Curve,
    ) -> Result<Expression<BoundText>, Invalid> {
        let midpoint = match curve.midpoint {
            Midpoint::Number(x) => x,
            Midpoint::Milliseconds(_) if !self.is_time(of) => {
                return Err(Invalid::new(format!(
                    "the midpoint of {name} can be a duration only for Dist of a datetime attribute"
                )));
            }
            Midpoint::Milliseconds(x) => x,
        };
        for (what, x) in [("midpoint", midpoint), ("exponent", curve.exponent)] {
            if !(x.is_finite() && x > 0.0) {
                return Err(Invalid::new(format!("the {what} of {name} must be above 0, got {x}")));
            }
        }
        Ok(Expression::Curve {
            curve: Curve {
                rising,
                midpoint,
                exponent: curve.exponent,
            },
            of: Box::new(self.expression(of)?),
        })
    }

    /// Whether a score is a time in milliseconds.
    fn is_time(&self, score: &Score) -> bool {
        match score {
            Score::Distance { attribute, .. } => {
                let attribute = self.schema.get(attribute);
                attribute.is_some_and(|a| a.ty == AttrType::Scalar(Scalar::Datetime))
            }
            Score::Product { of, .. } => self.is_time(of),
            Score::Sum(list) | Score::Max(list) => {
                let mut clauses = list.iter().filter(|s| !matches!(s, Score::Constant(_)));
                clauses.all(|s| self.is_time(s))
            }
            _ => false,
        }
    }
}

/// What a distance is measured from, of the attribute's type.
fn origin_of(attribute: &Attribute, origin: &Json) -> Result<Origin, Invalid> {
    let wrong = |expected: &str| {
        Invalid::new(format!(
            "the origin of Dist for attribute {:?}, which is {}, must be {expected}",
            attribute.name, attribute.ty
        ))
    };
    let int = origin.as_i64().map(i128::from).or(origin.as_u64().map(i128::from));
    match attribute.ty {
        AttrType::Scalar(Scalar::Int | Scalar::UInt | Scalar::Float) => int
            .map(Origin::Int)
            .or(origin.as_f64().map(Origin::Float))
            .ok_or_else(|| wrong("a number")),
        AttrType::Scalar(Scalar::Datetime) => {
            let ms = int.or(origin.as_str().and_then(datetime::parse).map(i128::from));
            ms.map(Origin::Int)
                .ok_or_else(|| wrong("an ISO-8601 date or time, or integer milliseconds"))
        }
        ty => Err(Invalid::new(format!(
            "Dist needs an attribute of type int, uint, float or datetime, and {:?} is {ty}",
            attribute.name
        ))),
    }
}
