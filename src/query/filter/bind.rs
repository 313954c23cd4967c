//! From a filter as written to one that is typed against a schema.

use std::sync::Arc;

use serde_json::Value as Json;

use super::fuzzy::FuzzyQuery;
use super::operand::{self, Key, Refusal};
use super::pattern::Compiler;
use super::rules::{NullRows, rule};
use super::tokens::TokenTest;
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test};
use crate::model::filter::{CompareOptions, FILTER_DEPTH_MAX, FILTER_NODES_MAX, Operand};
use crate::model::schema::Tokenizer;
use crate::model::{AttrType, Attribute, Filter, FilterOp, FullTextConfig, IdKind, Invalid, Scalar, Schema};

/// Types a filter's operands against `schema`.
///
/// # Errors
///
/// The sentence for the client: an unknown attribute, one without the index option that an operator
/// needs, an operator that the attribute's type does not have, an operand of another type, a pattern
/// that does not compile, a filter that is too large, or one that refers to an incoming row.
pub fn bind(filter: &Filter, schema: &Schema) -> Result<BoundFilter, Invalid> {
    let mut binder = Binder {
        schema,
        nodes: 0,
        patterns: Compiler::default(),
    };
    binder.node(filter, 1)
}

struct Binder<'a> {
    schema: &'a Schema,
    nodes: usize,
    patterns: Compiler,
}

impl Binder<'_> {
    fn node(&mut self, filter: &Filter, depth: usize) -> Result<BoundFilter, Invalid> {
        self.nodes += 1;
        if depth > FILTER_DEPTH_MAX || self.nodes > FILTER_NODES_MAX {
            return Err(Invalid::new(format!(
                "filters can have at most {FILTER_NODES_MAX} conditions, nested at most {FILTER_DEPTH_MAX} deep"
            )));
        }
        let mut all = |list: &[Filter]| -> Result<Vec<BoundFilter>, Invalid> {
            list.iter().map(|f| self.node(f, depth + 1)).collect()
        };
        match filter {
            Filter::And(list) => all(list).map(|mut list| {
                // The cheap ones first: the others are asked only about the rows that are left.
                list.sort_by_key(BoundFilter::cost);
                BoundFilter::And(list)
            }),
            Filter::Or(list) => all(list).map(BoundFilter::Or),
            Filter::Not(inner) => Ok(BoundFilter::Not(Box::new(self.node(inner, depth + 1)?))),
            Filter::Compare {
                operand: Operand::Incoming(name),
                ..
            } => Err(Invalid::new(format!(
                "a filter refers to the incoming value of {name:?}, and there is no incoming row"
            ))),
            Filter::Compare {
                attribute,
                op,
                operand: Operand::Value(operand),
                options,
            } => self.compare(attribute, *op, operand, options),
        }
    }

    fn compare(
        &mut self,
        name: &str,
        op: FilterOp,
        operand: &Json,
        options: &CompareOptions,
    ) -> Result<BoundFilter, Invalid> {
        let rule = rule(op);
        let attribute = match name {
            "id" => None,
            _ => Some(
                self.schema
                    .require(name)
                    .map_err(|e| Invalid::new(format!("filter error in key `{name}`: {e}")))?,
            ),
        };
        let ty = attribute.map_or_else(|| self.schema.id_kind.map(id_type), |a| Some(a.ty));
        if let Some(ty) = ty {
            rule.types.check(name, op, ty)?;
        }
        rule.needs.check(name, op, attribute)?;
        let Some(ty) = ty else {
            // Without a kind of ids there has never been a row: any operand will do.
            return Ok(BoundFilter::Or(Vec::new()));
        };
        let comparing = Comparing {
            name,
            op,
            ty,
            full_text: attribute.and_then(|a| a.full_text.as_ref()),
            operand,
            options,
            null: rule.null,
        };
        let (condition, null) = comparing.condition(&mut self.patterns)?;
        Ok(BoundFilter::Test(Arc::new(Test {
            target: attribute.map_or(Target::Id, |a: &Attribute| Target::Attribute(a.id)),
            condition,
            negated: rule.negated,
            null,
        })))
    }
}

fn id_type(kind: IdKind) -> AttrType {
    AttrType::Scalar(match kind {
        IdKind::UInt => Scalar::UInt,
        IdKind::Uuid => Scalar::Uuid,
        IdKind::String => Scalar::String,
    })
}

/// One comparison on its way to a condition. The operator works on the type.
struct Comparing<'a> {
    name: &'a str,
    op: FilterOp,
    ty: AttrType,
    full_text: Option<&'a FullTextConfig>,
    operand: &'a Json,
    options: &'a CompareOptions,
    null: NullRows,
}

impl Comparing<'_> {
    /// The condition on values, before a negation, and whether null rows pass.
    fn condition(&self, patterns: &mut Compiler) -> Result<(Condition, bool), Invalid> {
        use FilterOp::*;
        let scalar = self.scalar()?;
        let condition = match self.op {
            Eq | NotEq => self.equal(scalar)?,
            In | NotIn => match (self.ty, self.operand) {
                (AttrType::Array(_), one) if !one.is_array() && !one.is_null() => {
                    Condition::AnyElement(self.atom(scalar, Comparison::Eq, one, &format!("[]{}", scalar.name()))?)
                }
                _ => {
                    let has_null = self.operand.as_array().is_some_and(|l| l.iter().any(Json::is_null));
                    let condition = self.each(self.one_of(scalar, true)?);
                    return Ok((condition, self.null.pass(has_null)));
                }
            },
            Lt => self.ordered(scalar, Comparison::Lt)?,
            Lte => self.ordered(scalar, Comparison::Lte)?,
            Gt => self.ordered(scalar, Comparison::Gt)?,
            Gte => self.ordered(scalar, Comparison::Gte)?,
            AnyLt => self.element(scalar, Comparison::Lt)?,
            AnyLte => self.element(scalar, Comparison::Lte)?,
            AnyGt => self.element(scalar, Comparison::Gt)?,
            AnyGte => self.element(scalar, Comparison::Gte)?,
            Contains | NotContains => self.element(scalar, Comparison::Eq)?,
            ContainsAny | NotContainsAny => Condition::AnyElement(self.one_of(scalar, false)?),
            Glob | NotGlob => self.pattern(|p| patterns.glob(p, false))?,
            IGlob | NotIGlob => self.pattern(|p| patterns.glob(p, true))?,
            Regex => self.pattern(|p| patterns.regex(p))?,
            Fuzzy => self.fuzzy()?,
            ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => self.tokens()?,
        };
        Ok((condition, self.null.pass(self.operand.is_null())))
    }

    /// The type of the attribute or of its elements.
    fn scalar(&self) -> Result<Scalar, Invalid> {
        match self.ty {
            AttrType::Scalar(scalar) | AttrType::Array(scalar) => Ok(scalar),
            other => Err(self.error(format!("attributes of type {other} cannot be filtered"))),
        }
    }

    /// What holds of the value, or of one of its elements.
    fn each(&self, atom: Atom) -> Condition {
        match self.ty {
            AttrType::Array(_) => Condition::AnyElement(atom),
            _ => Condition::Scalar(atom),
        }
    }

    fn equal(&self, scalar: Scalar) -> Result<Condition, Invalid> {
        let expected = self.ty.to_string();
        match (self.ty, self.operand) {
            // No value equals null.
            (_, Json::Null) => Ok(Condition::Scalar(Atom::Never)),
            (AttrType::Array(_), Json::Array(list)) => {
                let atoms = list.iter().map(|x| self.atom(scalar, Comparison::Eq, x, &expected));
                atoms.collect::<Result<_, _>>().map(Condition::Whole)
            }
            (AttrType::Array(_), _) => Err(self.mismatch(&expected)),
            (_, one) => self.atom(scalar, Comparison::Eq, one, &expected).map(Condition::Scalar),
        }
    }

    fn ordered(&self, scalar: Scalar, comparison: Comparison) -> Result<Condition, Invalid> {
        let atom = match self.operand {
            // Null sorts before every value.
            Json::Null => match comparison {
                Comparison::Gt | Comparison::Gte => Atom::Always,
                Comparison::Eq | Comparison::Lt | Comparison::Lte => Atom::Never,
            },
            one => self.atom(scalar, comparison, one, scalar.name())?,
        };
        Ok(Condition::Scalar(atom))
    }

    fn element(&self, scalar: Scalar, comparison: Comparison) -> Result<Condition, Invalid> {
        self.atom(scalar, comparison, self.operand, scalar.name())
            .map(Condition::AnyElement)
    }

    /// What equals an element of the operand, which is a list.
    fn one_of(&self, scalar: Scalar, nulls_allowed: bool) -> Result<Atom, Invalid> {
        let expected = format!("[]{}", scalar.name());
        let list = self.operand.as_array().ok_or_else(|| self.mismatch(&expected))?;
        let values = list.iter().filter(|x| !(nulls_allowed && x.is_null()));
        let keys = values
            .map(|x| self.key(scalar, x, &expected))
            .collect::<Result<_, _>>()?;
        Ok(operand::one_of(scalar, keys))
    }

    fn pattern(
        &self,
        compile: impl FnOnce(&str) -> Result<super::pattern::Pattern, String>,
    ) -> Result<Condition, Invalid> {
        let pattern = self.operand.as_str().ok_or_else(|| self.mismatch("string"))?;
        let compiled =
            compile(pattern).map_err(|why| self.error(format!("the operand of {} {why}", self.op.name())))?;
        Ok(self.each(Atom::Pattern(compiled)))
    }

    fn fuzzy(&self) -> Result<Condition, Invalid> {
        let query = self.operand.as_str().ok_or_else(|| self.mismatch("string"))?;
        let CompareOptions::Fuzzy(options) = self.options else {
            return Err(self.error("Fuzzy needs the option max_edit_distance".into()));
        };
        let query = FuzzyQuery::new(query, options);
        Ok(self.each(query.map_or(Atom::Never, |q| Atom::Fuzzy(Arc::new(q)))))
    }

    fn tokens(&self) -> Result<Condition, Invalid> {
        let config = self
            .full_text
            .ok_or_else(|| self.error("the attribute has no full-text search".into()))?;
        let (texts, expected) = match (self.operand, config.tokenizer) {
            (Json::Array(list), _) => (list.as_slice(), "[]string"),
            (_, Tokenizer::PreTokenizedArray) => return Err(self.mismatch("[]string")),
            (one, _) => (std::slice::from_ref(one), "string or []string"),
        };
        let texts: Option<Vec<&str>> = texts.iter().map(Json::as_str).collect();
        let texts = texts.ok_or_else(|| self.mismatch(expected))?;
        let last_as_prefix = *self.options == CompareOptions::LastAsPrefix;
        let test = TokenTest::new(self.op, config, self.ty, texts.into_iter(), last_as_prefix);
        Ok(Condition::Tokens(Arc::new(test)))
    }

    fn atom(&self, scalar: Scalar, comparison: Comparison, one: &Json, expected: &str) -> Result<Atom, Invalid> {
        Ok(operand::compare(scalar, comparison, self.key(scalar, one, expected)?))
    }

    fn key(&self, scalar: Scalar, one: &Json, expected: &str) -> Result<Key, Invalid> {
        operand::key(scalar, one).map_err(|refusal| match refusal {
            Refusal::Type => self.mismatch(expected),
            Refusal::Form(form) => {
                /// As much of the operand as helps to recognise it.
                const QUOTED_CHARS_MAX: usize = 64;
                let quoted: String = one.as_str().unwrap_or("").chars().take(QUOTED_CHARS_MAX).collect();
                let op = self.op.name();
                self.error(format!(
                    "{op} expects {expected}, but the operand {quoted:?} is not {form}"
                ))
            }
        })
    }

    fn mismatch(&self, expected: &str) -> Invalid {
        self.error(format!(
            "type mismatch, {} expects {expected}, but got {}",
            self.op.name(),
            operand::json_type(self.operand)
        ))
    }

    fn error(&self, why: String) -> Invalid {
        Invalid::new(format!("filter error in key `{}`: {why}", self.name))
    }
}
