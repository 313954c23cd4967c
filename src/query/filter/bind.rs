//! From a filter as written to one that is typed against a schema.

use serde_json::Value as Json;

use super::operand::{self, Key, Refusal};
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test, null_matches};
use crate::model::filter::{FILTER_DEPTH_MAX, FILTER_NODES_MAX};
use crate::model::{AttrType, Attribute, Filter, FilterOp, IdKind, Invalid, Scalar, Schema};

/// Types a filter's operands against `schema`.
///
/// # Errors
///
/// The sentence for the client: an unknown attribute, one that is not filterable, an operator that
/// the attribute's type does not have, an operand of another type, or a filter that is too large.
pub fn bind(filter: &Filter, schema: &Schema) -> Result<BoundFilter, Invalid> {
    let mut nodes = 0;
    bind_node(filter, schema, 1, &mut nodes)
}

fn bind_node(filter: &Filter, schema: &Schema, depth: usize, nodes: &mut usize) -> Result<BoundFilter, Invalid> {
    *nodes += 1;
    if depth > FILTER_DEPTH_MAX || *nodes > FILTER_NODES_MAX {
        return Err(Invalid::new(format!(
            "filters can have at most {FILTER_NODES_MAX} conditions, nested at most {FILTER_DEPTH_MAX} deep"
        )));
    }
    let mut bind_all = |list: &[Filter]| -> Result<Vec<BoundFilter>, Invalid> {
        list.iter().map(|f| bind_node(f, schema, depth + 1, nodes)).collect()
    };
    match filter {
        Filter::And(list) => bind_all(list).map(BoundFilter::And),
        Filter::Or(list) => bind_all(list).map(BoundFilter::Or),
        Filter::Not(inner) => Ok(BoundFilter::Not(Box::new(bind_node(inner, schema, depth + 1, nodes)?))),
        Filter::Compare { attribute, op, operand } => {
            let (target, ty) = resolve(attribute, *op, schema)?;
            let Some(ty) = ty else {
                // Without a kind of ids there has never been a row: any operand will do.
                return Ok(BoundFilter::Or(Vec::new()));
            };
            let (condition, null) = Comparing {
                attribute,
                op: *op,
                ty,
                operand,
            }
            .condition()?;
            Ok(BoundFilter::Test(Test {
                target,
                condition,
                negated: negated(*op),
                null,
            }))
        }
    }
}

/// What is compared, and its type, which is unknown only for the ids of an empty namespace.
fn resolve(name: &str, op: FilterOp, schema: &Schema) -> Result<(Target, Option<AttrType>), Invalid> {
    if name == "id" {
        let scalar = schema.id_kind.map(|kind| match kind {
            IdKind::UInt => Scalar::UInt,
            IdKind::Uuid => Scalar::Uuid,
            IdKind::String => Scalar::String,
        });
        return Ok((Target::Id, scalar.map(AttrType::Scalar)));
    }
    let attribute = schema
        .require(name)
        .map_err(|e| Invalid::new(format!("filter error in key `{name}`: {e}")))?;
    check_filterable(attribute, op)?;
    Ok((Target::Attribute(attribute.id), Some(attribute.ty)))
}

fn check_filterable(attribute: &Attribute, op: FilterOp) -> Result<(), Invalid> {
    let (name, op, ty) = (&attribute.name, op.name(), attribute.ty);
    if !ty.can_be_filterable() {
        return Err(Invalid::new(format!(
            "filter error in key `{name}`: attributes of type {ty} cannot be filtered"
        )));
    }
    if !attribute.filterable {
        return Err(Invalid::new(format!(
            "filter error in key `{name}`: {op} needs an attribute that is filterable; set \"filterable\": true for \
             it in the schema"
        )));
    }
    Ok(())
}

/// Whether an operator asks for the opposite of what its condition says of a value.
fn negated(op: FilterOp) -> bool {
    match op {
        FilterOp::NotEq | FilterOp::NotIn | FilterOp::NotContains | FilterOp::NotContainsAny => true,
        FilterOp::Eq | FilterOp::In | FilterOp::Contains | FilterOp::ContainsAny => false,
        FilterOp::Lt | FilterOp::Lte | FilterOp::Gt | FilterOp::Gte => false,
    }
}

/// One comparison on its way to a condition.
struct Comparing<'a> {
    attribute: &'a str,
    op: FilterOp,
    ty: AttrType,
    operand: &'a Json,
}

impl Comparing<'_> {
    /// The condition on values, before a negation, and whether null rows pass.
    fn condition(&self) -> Result<(Condition, bool), Invalid> {
        let condition = match (self.op, self.ty) {
            (FilterOp::Eq | FilterOp::NotEq, ty) => self.equal(ty)?,
            (FilterOp::In | FilterOp::NotIn, AttrType::Scalar(scalar)) => {
                return self
                    .list(scalar, true)
                    .map(|(atom, null)| (Condition::Scalar(atom), null));
            }
            (FilterOp::In | FilterOp::NotIn, AttrType::Array(scalar)) => match self.operand {
                Json::Array(_) | Json::Null => {
                    return self
                        .list(scalar, true)
                        .map(|(atom, null)| (Condition::AnyElement(atom), null));
                }
                one => {
                    Condition::AnyElement(self.atom(scalar, Comparison::Eq, one, &format!("[]{}", scalar.name()))?)
                }
            },
            (FilterOp::Lt, AttrType::Scalar(scalar)) => self.ordered(scalar, Comparison::Lt)?,
            (FilterOp::Lte, AttrType::Scalar(scalar)) => self.ordered(scalar, Comparison::Lte)?,
            (FilterOp::Gt, AttrType::Scalar(scalar)) => self.ordered(scalar, Comparison::Gt)?,
            (FilterOp::Gte, AttrType::Scalar(scalar)) => self.ordered(scalar, Comparison::Gte)?,
            (FilterOp::Contains | FilterOp::NotContains, AttrType::Array(scalar)) => {
                Condition::AnyElement(self.atom(scalar, Comparison::Eq, self.operand, scalar.name())?)
            }
            (FilterOp::ContainsAny | FilterOp::NotContainsAny, AttrType::Array(scalar)) => {
                return self
                    .list(scalar, false)
                    .map(|(atom, null)| (Condition::AnyElement(atom), null));
            }
            _ => return Err(self.wrong_operator()),
        };
        Ok((condition, null_matches(self.op, self.operand.is_null())))
    }

    fn equal(&self, ty: AttrType) -> Result<Condition, Invalid> {
        let expected = ty.to_string();
        match (ty, self.operand) {
            // No value equals null.
            (AttrType::Scalar(_) | AttrType::Array(_), Json::Null) => Ok(Condition::Scalar(Atom::Never)),
            (AttrType::Scalar(scalar), one) => self.atom(scalar, Comparison::Eq, one, &expected).map(Condition::Scalar),
            (AttrType::Array(scalar), Json::Array(list)) => {
                let atoms = list.iter().map(|x| self.atom(scalar, Comparison::Eq, x, &expected));
                atoms.collect::<Result<_, _>>().map(Condition::Whole)
            }
            (AttrType::Array(_), _) => Err(self.mismatch(&expected)),
            _ => Err(self.wrong_operator()),
        }
    }

    fn ordered(&self, scalar: Scalar, comparison: Comparison) -> Result<Condition, Invalid> {
        let atom = match (scalar, self.operand) {
            (Scalar::Bool | Scalar::Bytes, _) => return Err(self.wrong_operator()),
            // Null sorts before every value.
            (_, Json::Null) => match comparison {
                Comparison::Gt | Comparison::Gte => Atom::Always,
                Comparison::Eq | Comparison::Lt | Comparison::Lte => Atom::Never,
            },
            (_, one) => self.atom(scalar, comparison, one, scalar.name())?,
        };
        Ok(Condition::Scalar(atom))
    }

    /// The operand as a list of alternatives, and whether null rows pass.
    fn list(&self, scalar: Scalar, nulls_allowed: bool) -> Result<(Atom, bool), Invalid> {
        let expected = format!("[]{}", scalar.name());
        let list = self.operand.as_array().ok_or_else(|| self.mismatch(&expected))?;
        let has_null = nulls_allowed && list.iter().any(Json::is_null);
        let values = list.iter().filter(|x| !(nulls_allowed && x.is_null()));
        let keys = values
            .map(|x| self.key(scalar, x, &expected))
            .collect::<Result<_, _>>()?;
        Ok((operand::one_of(scalar, keys), null_matches(self.op, has_null)))
    }

    fn atom(&self, scalar: Scalar, comparison: Comparison, one: &Json, expected: &str) -> Result<Atom, Invalid> {
        Ok(operand::compare(scalar, comparison, self.key(scalar, one, expected)?))
    }

    fn key(&self, scalar: Scalar, one: &Json, expected: &str) -> Result<Key, Invalid> {
        operand::key(scalar, one).map_err(|refusal| match refusal {
            Refusal::Type => self.mismatch(expected),
            Refusal::Form(form) => Invalid::new(format!(
                "filter error in key `{}`: {} expects {expected}, but the operand {one} is not {form}",
                self.attribute,
                self.op.name(),
            )),
        })
    }

    fn mismatch(&self, expected: &str) -> Invalid {
        Invalid::new(format!(
            "filter error in key `{}`: type mismatch, {} expects {expected}, but got {}",
            self.attribute,
            self.op.name(),
            operand::json_type(self.operand),
        ))
    }

    fn wrong_operator(&self) -> Invalid {
        let allowed = match (self.op, self.ty) {
            (FilterOp::Lt | FilterOp::Lte | FilterOp::Gt | FilterOp::Gte, _) => {
                "int, uint, float, datetime, string and uuid attributes"
            }
            _ => "array attributes",
        };
        Invalid::new(format!(
            "filter error in key `{}`: {} works on {allowed}, and the attribute is {}",
            self.attribute,
            self.op.name(),
            self.ty,
        ))
    }
}
