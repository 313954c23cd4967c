//! From a filter as written to one for a schema.

use serde_json::Value as Json;

use super::{Clause, Node, Relation, Test};
use crate::model::filter::{CompareOptions, Operand};
use crate::model::schema::Tokenizer;
use crate::model::{AttrType, Attribute, Filter, FilterOp, IdKind, Invalid, Scalar, Schema};

pub(super) fn node(node: &Node, schema: &Schema) -> Result<Filter, Invalid> {
    let all = |list: &[Node]| list.iter().map(|n| self::node(n, schema)).collect::<Result<_, _>>();
    match node {
        Node::And(list) => all(list).map(Filter::And),
        Node::Or(list) => all(list).map(Filter::Or),
        Node::Clause(clause) => {
            let target = Target::of(&clause.field, schema)?;
            let filter = target.any(clause)?;
            Ok(match clause.negated {
                true => Filter::Not(Box::new(filter)),
                false => filter,
            })
        }
    }
}

/// What a clause is about.
struct Target<'a> {
    name: &'a str,
    scalar: Scalar,
    is_array: bool,
    /// `None` for the id.
    attribute: Option<&'a Attribute>,
}

impl<'a> Target<'a> {
    fn of(name: &'a str, schema: &'a Schema) -> Result<Self, Invalid> {
        if name == "id" {
            let scalar = match schema.id_kind {
                Some(IdKind::UInt) => Scalar::UInt,
                Some(IdKind::Uuid) => Scalar::Uuid,
                Some(IdKind::String) | None => Scalar::String,
            };
            return Ok(Self {
                name,
                scalar,
                is_array: false,
                attribute: None,
            });
        }
        let unknown = || Invalid::new(format!("Could not find a filter field named `{name}` in the schema."));
        let attribute = schema.get(name).ok_or_else(unknown)?;
        let (scalar, is_array) = match attribute.ty {
            AttrType::Scalar(scalar) => (scalar, false),
            AttrType::Array(scalar) => (scalar, true),
            ty => {
                return Err(Invalid::new(format!(
                    "filter_by: `{name}` is {ty}, which cannot be filtered"
                )));
            }
        };
        Ok(Self {
            name,
            scalar,
            is_array,
            attribute: Some(attribute),
        })
    }

    fn compare(&self, op: FilterOp, operand: Json) -> Filter {
        Filter::compare(self.name, op, operand)
    }

    /// Rows for which one of the clause's tests holds.
    fn any(&self, clause: &Clause) -> Result<Filter, Invalid> {
        if self.attribute.is_none()
            && let [Test::Value { text, prefix: true }] = clause.tests.as_slice()
            && text.is_empty()
        {
            // `id: *` is Typesense's "all".
            return Ok(Filter::And(Vec::new()));
        }
        let words = self.by_words(clause);
        // Values are collected, so that a thousand of them are one condition.
        let (mut values, mut others) = (Vec::new(), Vec::new());
        for test in &clause.tests {
            match test {
                Test::Value { text, prefix } if words => others.push(self.words(text, *prefix)),
                Test::Value { text, prefix: true } if self.scalar == Scalar::String => others.push(self.begins(text)),
                Test::Value { text, prefix } => {
                    let text = if *prefix { format!("{text}*") } else { text.clone() };
                    values.push(self.value(&text)?);
                }
                Test::Compare { relation, text } => others.push(self.relation(*relation, text)?),
                Test::Range { from, to } if self.scalar == Scalar::String => {
                    // Nobody can have meant a range.
                    let text = format!("{from}..{to}");
                    match words {
                        true => others.push(self.words(&text, false)),
                        false => values.push(text.into()),
                    }
                }
                Test::Range { from, to } => others.push(self.range(from, to)?),
            }
        }
        match (self.is_array, values.len()) {
            (_, 0) => {}
            (true, 1) => others.extend(values.pop().map(|v| self.compare(FilterOp::Contains, v))),
            (false, 1) => others.extend(values.pop().map(|v| self.compare(FilterOp::Eq, v))),
            (true, _) => others.push(self.compare(FilterOp::ContainsAny, values.into())),
            (false, _) => others.push(self.compare(FilterOp::In, values.into())),
        }
        Ok(match (others.len(), others.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                others.extend(last);
                Filter::Or(others)
            }
        })
    }

    /// Whether values are words to be found in the text.
    fn by_words(&self, clause: &Clause) -> bool {
        let full_text = self.attribute.and_then(|a| a.full_text);
        !clause.exact && full_text.is_some_and(|config| config.tokenizer != Tokenizer::PreTokenizedArray)
    }

    fn words(&self, text: &str, prefix: bool) -> Filter {
        let tokens = |op| Filter::Compare {
            attribute: self.name.to_owned(),
            op,
            operand: Operand::Value(text.into()),
            options: match prefix {
                true => CompareOptions::LastAsPrefix,
                false => CompareOptions::None,
            },
        };
        let all = tokens(FilterOp::ContainsAllTokens);
        match self.has_words(text) {
            true => all,
            // Every text has all words of a value without any, and none has any of them: such a value selects
            // nothing, or a filter that keeps tenants apart would let one with such a name see the others.
            false => Filter::And(vec![all, tokens(FilterOp::ContainsAnyToken)]),
        }
    }

    /// Whether a text certainly has words, however the attribute is analysed.
    fn has_words(&self, text: &str) -> bool {
        let config = self.attribute.and_then(|a| a.full_text);
        config.is_some_and(|c| !c.remove_stopwords && text.len() <= c.max_token_length as usize)
            && text.chars().any(|c| c.is_ascii_alphanumeric())
    }

    fn begins(&self, stem: &str) -> Filter {
        let mut pattern = String::with_capacity(stem.len() + 1);
        for c in stem.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('*');
        self.compare(FilterOp::Glob, pattern.into())
    }

    /// A value of the attribute's type.
    fn value(&self, text: &str) -> Result<Json, Invalid> {
        let wrong = |what: &str| {
            Invalid::new(format!(
                "Error with filter field `{}`: its values must be {what}.",
                self.name
            ))
        };
        match self.scalar {
            Scalar::String | Scalar::Uuid | Scalar::Bytes => Ok(text.into()),
            Scalar::Int => text.parse::<i64>().map(Json::from).map_err(|_| wrong("integers")),
            Scalar::UInt => text
                .parse::<u64>()
                .map(Json::from)
                .map_err(|_| wrong("unsigned integers")),
            Scalar::Float => {
                let x = text.parse::<f64>().ok().filter(|x| x.is_finite());
                x.map(Json::from).ok_or_else(|| wrong("numbers"))
            }
            Scalar::Bool => match text {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ => Err(wrong("`true` or `false`")),
            },
            Scalar::Datetime => Ok(text.parse::<i64>().map_or_else(|_| text.into(), Json::from)),
        }
    }

    fn is_ordered(&self) -> Result<(), Invalid> {
        match self.scalar {
            Scalar::Int | Scalar::UInt | Scalar::Float | Scalar::Datetime => Ok(()),
            _ => Err(Invalid::new(format!(
                "Error with filter field `{}`: only numbers can be compared.",
                self.name
            ))),
        }
    }

    fn relation(&self, relation: Relation, text: &str) -> Result<Filter, Invalid> {
        self.is_ordered()?;
        let operand = self.value(text)?;
        let op = match (relation, self.is_array) {
            (Relation::Lt, false) => FilterOp::Lt,
            (Relation::Lte, false) => FilterOp::Lte,
            (Relation::Gt, false) => FilterOp::Gt,
            (Relation::Gte, false) => FilterOp::Gte,
            (Relation::Lt, true) => FilterOp::AnyLt,
            (Relation::Lte, true) => FilterOp::AnyLte,
            (Relation::Gt, true) => FilterOp::AnyGt,
            (Relation::Gte, true) => FilterOp::AnyGte,
        };
        let compared = self.compare(op, operand);
        Ok(match (op, self.attribute) {
            // A missing value is less than every other here, and not in Typesense.
            (FilterOp::Lt | FilterOp::Lte, Some(_)) => {
                Filter::And(vec![compared, self.compare(FilterOp::NotEq, Json::Null)])
            }
            _ => compared,
        })
    }

    fn range(&self, from: &str, to: &str) -> Result<Filter, Invalid> {
        self.is_ordered()?;
        if self.is_array {
            // That one element is above and another below would say something else.
            return Err(Invalid::new(format!(
                "Error with filter field `{}`: ranges of arrays cannot be filtered; use single values or comparisons.",
                self.name
            )));
        }
        Ok(Filter::And(vec![
            self.compare(FilterOp::Gte, self.value(from)?),
            self.compare(FilterOp::Lte, self.value(to)?),
        ]))
    }
}
