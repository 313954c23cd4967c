//! Filters that hold for every row which a key finds, as they are kept: texts of either dialect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::access::MandatoryFilter;
use crate::model::filter::{self, References};
use crate::model::{Filter, Invalid, Limits, filter_by};

/// How deep a mandatory filter may be nested, and how many conditions it may have.
pub const DEPTH_MAX: usize = 8;
pub const LEAVES_MAX: usize = 256;
/// The longest text of one, in bytes.
pub const BYTES_MAX: usize = 4096;

/// A mandatory filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFilter {
    /// As queries have it: `["tenant_id", "Eq", "42"]`.
    Filters(Json),
    /// In Typesense's syntax: `tenant_id:=42`.
    FilterBy(String),
}

impl RowFilter {
    /// A filter as clients give it: an array, or a text in Typesense's syntax.
    ///
    /// # Errors
    ///
    /// A sentence for the client.
    pub fn parse(json: &Json) -> Result<Self, Invalid> {
        let parsed = match json {
            Json::Array(_) => Self::Filters(json.clone()),
            Json::String(text) => Self::FilterBy(text.clone()),
            _ => {
                return Err(Invalid::new(
                    "a filter must be an array, or a text in Typesense's syntax",
                ));
            }
        };
        parsed.compiled()?;
        Ok(parsed)
    }

    /// It as it was given.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Filters(json) => json.clone(),
            Self::FilterBy(text) => text.clone().into(),
        }
    }

    /// What checks rows. Pure.
    pub fn compiled(&self) -> Result<Arc<dyn MandatoryFilter>, Invalid> {
        match self {
            Self::Filters(json) => {
                if json.to_string().len() > BYTES_MAX {
                    return Err(Invalid::new(format!(
                        "a filter of a key must have at most {BYTES_MAX} bytes"
                    )));
                }
                let filter = filter::parse(json.clone(), References::Forbidden, &Limits::default())?;
                let mut leaves = 0;
                measure(&filter, 1, &mut leaves)?;
                Ok(Arc::new(filter))
            }
            Self::FilterBy(text) => filter_by::mandatory(text),
        }
    }
}

fn measure(filter: &Filter, depth: usize, leaves: &mut usize) -> Result<(), Invalid> {
    if depth > DEPTH_MAX {
        return Err(Invalid::new(format!(
            "filters of keys may be nested at most {DEPTH_MAX} deep"
        )));
    }
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().try_for_each(|p| measure(p, depth + 1, leaves)),
        Filter::Not(part) => measure(part, depth + 1, leaves),
        Filter::Compare { .. } => {
            *leaves += 1;
            match *leaves > LEAVES_MAX {
                true => Err(Invalid::new(format!(
                    "filters of keys may have at most {LEAVES_MAX} conditions"
                ))),
                false => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_are_bounded() {
        let leaf = || json!(["a", "Eq", 1]);
        let deep = |n: usize| (1..n).fold(leaf(), |inner, _| json!(["And", [inner]]));
        assert!(RowFilter::parse(&deep(DEPTH_MAX)).is_ok());
        assert!(RowFilter::parse(&deep(DEPTH_MAX + 1)).is_err());
        let wide = |n: usize| json!(["Or", vec![json!(["a", "Eq", 1]); n]]);
        assert!(RowFilter::parse(&wide(LEAVES_MAX)).is_ok());
        assert!(RowFilter::parse(&wide(LEAVES_MAX + 1)).is_err());
        for bad in [
            json!(1),
            json!({}),
            json!(null),
            json!(["a", "Is", 1]),
            json!([]),
            json!("x".repeat(4097)),
        ] {
            assert!(RowFilter::parse(&bad).is_err(), "{bad}");
        }
        let kept = RowFilter::parse(&leaf()).expect("a filter");
        assert_eq!(kept.to_json(), leaf());
        let stored: RowFilter = serde_json::from_value(serde_json::to_value(&kept).expect("JSON")).expect("the same");
        assert_eq!(stored, kept);
    }
}
