//! The oracle: what the reference says of a filter and one row, in the plainest way. It shares nothing
//! with the evaluator but the types, the parser of dates and the crate regex.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::model::filter::{CompareOptions, FuzzyOptions, Operand};
use crate::model::schema::Tokenizer;
use crate::model::{Filter, FilterOp, FullTextConfig, Schema, Value, datetime};

/// Whether the filter holds for a row, whose value of each attribute `value` gives.
pub fn holds(filter: &Filter, schema: &Schema, value: &dyn Fn(&str) -> Value) -> bool {
    match filter {
        Filter::And(list) => list.iter().all(|f| holds(f, schema, value)),
        Filter::Or(list) => list.iter().any(|f| holds(f, schema, value)),
        Filter::Not(inner) => !holds(inner, schema, value),
        Filter::Compare {
            attribute,
            op,
            operand: Operand::Value(operand),
            options,
        } => {
            let config = schema.get(attribute).and_then(|a| a.full_text);
            compare(&value(attribute), *op, operand, options, config)
        }
        Filter::Compare { .. } => panic!("no row comes in"),
    }
}

fn compare(
    value: &Value,
    op: FilterOp,
    operand: &Json,
    options: &CompareOptions,
    config: Option<FullTextConfig>,
) -> bool {
    use FilterOp::*;
    let null = *value == Value::Null;
    let elements = match value {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let any_of = |list: &Json| {
        let list = list.as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
        elements
            .iter()
            .any(|e| list.iter().any(|o| order(e, o) == Some(Ordering::Equal)))
    };
    let equal = || match value {
        Value::Null => operand.is_null(),
        Value::Array(list) => operand.as_array().is_some_and(|o| {
            o.len() == list.len() && list.iter().zip(o).all(|(a, b)| order(a, b) == Some(Ordering::Equal))
        }),
        one => order(one, operand) == Some(Ordering::Equal),
    };
    let any_is = |wanted: &[Ordering]| {
        !null
            && elements
                .iter()
                .any(|e| order(e, operand).is_some_and(|o| wanted.contains(&o)))
    };
    let any_text = |f: &dyn Fn(&str) -> bool| elements.iter().any(|e| matches!(e, Value::String(s) if f(s)));
    let text = || operand.as_str().expect("a text");
    let chars = |s: &str| s.chars().collect::<Vec<_>>();
    let glob = || any_text(&|s| glob(&chars(text()), &chars(s)));
    let iglob = || any_text(&|s| self::glob(&chars(&text().to_lowercase()), &chars(&s.to_lowercase())));
    match op {
        Eq => equal(),
        NotEq => !equal(),
        In => any_of(operand),
        NotIn => !any_of(operand),
        Lt if null => !operand.is_null(),
        Lte if null => true,
        Gt | Gte if null => false,
        Lt => order(value, operand) == Some(Ordering::Less),
        Lte => order(value, operand).is_some_and(Ordering::is_le),
        Gt => order(value, operand) == Some(Ordering::Greater),
        Gte => order(value, operand).is_some_and(Ordering::is_ge),
        Contains | ContainsAny => !null && any_of(operand),
        NotContains | NotContainsAny => null || !any_of(operand),
        AnyLt => any_is(&[Ordering::Less]),
        AnyLte => any_is(&[Ordering::Less, Ordering::Equal]),
        AnyGt => any_is(&[Ordering::Greater]),
        AnyGte => any_is(&[Ordering::Greater, Ordering::Equal]),
        Glob => glob(),
        NotGlob => !glob(),
        IGlob => iglob(),
        NotIGlob => !iglob(),
        Regex => any_text(&|s| regex::Regex::new(text()).unwrap().is_match(s)),
        Fuzzy => {
            let CompareOptions::Fuzzy(options) = options else {
                panic!("Fuzzy has options")
            };
            any_text(&|s| fuzzy(text(), s, options))
        }
        ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => {
            !null && has_tokens(&elements, op, operand, options, &config.expect("text is searched"))
        }
    }
}

/// Whether a glob without `/`, without nested alternatives and without escapes matches a whole text.
fn glob(glob: &[char], text: &[char]) -> bool {
    if let Some(open) = glob.iter().position(|c| *c == '{') {
        let close = glob.iter().position(|c| *c == '}').expect("closed");
        return glob[open + 1..close]
            .split(|c| *c == ',')
            .any(|choice| self::glob(&[&glob[..open], choice, &glob[close + 1..]].concat(), text));
    }
    match glob {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skip| self::glob(rest, &text[skip..])),
        ['[', rest @ ..] => {
            let close = rest.iter().position(|c| *c == ']').expect("closed");
            let (class, rest) = (&rest[..close], &rest[close + 1..]);
            let (negated, class) = match class {
                ['!', class @ ..] => (true, class),
                class => (false, class),
            };
            text.first().is_some_and(|c| {
                let inside = match class {
                    [from, '-', to] => (from..=to).contains(&c),
                    list => list.contains(c),
                };
                inside != negated && self::glob(rest, &text[1..])
            })
        }
        ['?', rest @ ..] => !text.is_empty() && self::glob(rest, &text[1..]),
        [c, rest @ ..] => text.first() == Some(c) && self::glob(rest, &text[1..]),
    }
}

/// Whether some part of the text is near enough: the whole table of edit distances.
pub fn fuzzy(query: &str, text: &str, options: &FuzzyOptions) -> bool {
    let chars = |s: &str| match options.case_sensitive {
        true => s.chars().collect::<Vec<_>>(),
        false => s.to_lowercase().chars().collect(),
    };
    let (query, text) = (chars(query), chars(text));
    let allowed = options
        .max_edit_distance
        .iter()
        .rfind(|e| e.min_query_chars as usize <= query.len());
    let Some(allowed) = allowed else { return false };
    // Row by row of the query; nothing has to be deleted of the text before the match.
    let mut edits = vec![0usize; text.len() + 1];
    for (i, q) in query.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, t) in text.iter().enumerate() {
            let replaced = edits[j] + usize::from(q != t);
            next.push(replaced.min(edits[j + 1] + 1).min(next[j] + 1));
        }
        edits = next;
    }
    edits.iter().any(|e| *e <= allowed.distance as usize)
}

/// The tokens, with their places, of a text that consists of words of letters and blanks.
fn tokens(text: &str, config: &FullTextConfig) -> Vec<(usize, String)> {
    let kept = |word: &&str| {
        let stop = config.remove_stopwords && ["the", "of", "a"].contains(&word.to_lowercase().as_str());
        word.chars().count() <= config.max_token_length as usize && !stop
    };
    let cased = |word: &str| match config.case_sensitive {
        true => word.to_owned(),
        false => word.to_lowercase(),
    };
    let words = text.split_whitespace().enumerate();
    words.filter(|(_, w)| kept(w)).map(|(i, w)| (i, cased(w))).collect()
}

/// The tokens of several texts: one after the other, or each on its own.
fn tokens_of(texts: &[String], config: &FullTextConfig) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut start = 0;
    for text in texts {
        match config.tokenizer {
            Tokenizer::PreTokenizedArray => {
                all.push((start, text.clone()));
                start += 1;
            }
            _ => {
                all.extend(tokens(text, config).into_iter().map(|(at, t)| (start + at, t)));
                start += text.split_whitespace().count();
            }
        }
    }
    all
}

fn has_tokens(
    elements: &[Value],
    op: FilterOp,
    operand: &Json,
    options: &CompareOptions,
    config: &FullTextConfig,
) -> bool {
    let texts: Vec<String> = elements
        .iter()
        .map(|e| {
            if let Value::String(s) = e {
                s.clone()
            } else {
                panic!("a text")
            }
        })
        .collect();
    let asked: Vec<String> = match operand {
        Json::Array(list) => list.iter().map(|s| s.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    let asked = tokens_of(&asked, config);
    let has = |i: usize| {
        let (_, token) = &asked[i];
        let prefix = *options == CompareOptions::LastAsPrefix && i + 1 == asked.len();
        let found = tokens_of(&texts, config);
        found
            .iter()
            .any(|(_, t)| t == token || prefix && t.starts_with(token.as_str()))
    };
    match op {
        FilterOp::ContainsAllTokens => (0..asked.len()).all(has),
        FilterOp::ContainsAnyToken => (0..asked.len()).any(has),
        _ => {
            let fields: Vec<Vec<(usize, String)>> = match config.tokenizer {
                Tokenizer::PreTokenizedArray => vec![tokens_of(&texts, config)],
                _ => texts.iter().map(|t| tokens(t, config)).collect(),
            };
            let Some((first, _)) = asked.first() else { return true };
            fields.iter().any(|field| {
                let field: BTreeSet<_> = field.iter().cloned().collect();
                (0..50).any(|start| {
                    asked
                        .iter()
                        .all(|(at, t)| field.contains(&(start + at - first, t.clone())))
                })
            })
        }
    }
}

/// Compares a value with an operand as written, null first.
fn order(value: &Value, operand: &Json) -> Option<Ordering> {
    if operand.is_null() {
        return Some(if *value == Value::Null {
            Ordering::Equal
        } else {
            Ordering::Greater
        });
    }
    let int = |n: i128| compare_number(n, operand);
    match value {
        Value::Null => Some(Ordering::Less),
        Value::Bool(b) => Some(b.cmp(&operand.as_bool()?)),
        Value::Int(n) => int((*n).into()),
        Value::UInt(n) => int((*n).into()),
        Value::Float(x) => match (operand.as_i64(), operand.as_u64()) {
            (None, None) => x.partial_cmp(&operand.as_f64()?),
            // |x| is small or whole here, so that its floor decides, then its fraction.
            _ => Some(compare_number(x.floor() as i128, operand)?.then(x.fract().abs().total_cmp(&0.0))),
        },
        Value::Datetime(ms) => {
            let operand = operand.as_i64().or_else(|| datetime::parse(operand.as_str()?))?;
            Some(ms.cmp(&operand))
        }
        Value::String(s) => Some(s.as_bytes().cmp(operand.as_str()?.as_bytes())),
        Value::Uuid(u) => Some(u.to_string().cmp(&operand.as_str()?.to_lowercase())),
        other => panic!("{other:?} is not compared"),
    }
}

fn compare_number(n: i128, operand: &Json) -> Option<Ordering> {
    let whole = operand.as_i64().map(i128::from).or(operand.as_u64().map(i128::from));
    Some(match whole {
        Some(m) => n.cmp(&m),
        None => {
            let x = operand.as_f64()?;
            // Comparing with the floor first keeps all digits of n.
            match n.cmp(&(x.floor() as i128)) {
                Ordering::Equal if x.fract() != 0.0 => Ordering::Less,
                decided => decided,
            }
        }
    })
}
