//! Filters as very old clients write them: `{"attr": [["Eq", 1], …], …}`, all of which must hold.

use serde_json::Value as Json;

use crate::model::Invalid;

const FORM: &str =
    "filters must be an array, or an object of attributes with arrays [operator, value], or arrays of those";

/// The same filter as v2 writes it. What is no object is taken to be that already.
pub fn to_v2(filter: Json) -> Result<Json, Invalid> {
    let Json::Object(attributes) = filter else {
        return Ok(filter);
    };
    let mut all = Vec::new();
    for (attribute, conditions) in attributes {
        let Json::Array(conditions) = conditions else {
            return Err(Invalid::shape(FORM));
        };
        match conditions.first() {
            Some(Json::String(_)) => all.push(condition(&attribute, conditions)?),
            _ => {
                for one in conditions {
                    let Json::Array(one) = one else {
                        return Err(Invalid::shape(FORM));
                    };
                    all.push(condition(&attribute, one)?);
                }
            }
        }
    }
    Ok(Json::Array(vec!["And".into(), Json::Array(all)]))
}

fn condition(attribute: &str, pair: Vec<Json>) -> Result<Json, Invalid> {
    let [operator @ Json::String(_), operand] = <[Json; 2]>::try_from(pair).map_err(|_| Invalid::shape(FORM))? else {
        return Err(Invalid::shape(FORM));
    };
    Ok(Json::Array(vec![attribute.into(), operator, operand]))
}
