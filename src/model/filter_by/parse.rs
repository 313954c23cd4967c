//! The grammar. One pass over the text, no backtracking; depth and size are bounded before anything is built.

use super::{Bounds, Clause, Node, Relation, Test};
use crate::model::Invalid;

/// Parses a whole text.
pub(super) fn parse(text: &str, bounds: Bounds) -> Result<Node, Invalid> {
    if text.len() > bounds.bytes_max {
        return Err(Invalid::new(format!(
            "filter_by can have at most {} bytes",
            bounds.bytes_max
        )));
    }
    let mut parser = Parser {
        text,
        at: 0,
        bounds,
        leaves: 0,
    };
    parser.space();
    if parser.rest().is_empty() {
        return Ok(Node::And(Vec::new()));
    }
    let root = parser.any(1)?;
    match parser.rest().is_empty() {
        true => Ok(root),
        false => Err(unbalanced()),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// A character boundary.
    at: usize,
    bounds: Bounds,
    leaves: usize,
}

/// A value as it was written.
struct Written {
    text: String,
    /// Whether it stood in backticks, so that nothing in it means anything.
    quoted: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// `all || all || …`
    fn any(&mut self, depth: usize) -> Result<Node, Invalid> {
        if depth > self.bounds.depth_max {
            return Err(Invalid::new(format!(
                "filter_by can have parentheses nested at most {} deep",
                self.bounds.depth_max
            )));
        }
        let mut list = vec![self.all(depth)?];
        while self.take("||") {
            list.push(self.all(depth)?);
        }
        Ok(one_or(list, Node::Or))
    }

    /// `one && one && …`
    fn all(&mut self, depth: usize) -> Result<Node, Invalid> {
        let mut list = vec![self.one(depth)?];
        while self.take("&&") {
            list.push(self.one(depth)?);
        }
        Ok(one_or(list, Node::And))
    }

    /// A clause, or a filter in parentheses; and the white space after it.
    fn one(&mut self, depth: usize) -> Result<Node, Invalid> {
        self.space();
        let node = match self.take("(") {
            true => {
                let inner = self.any(depth + 1)?;
                if !self.take(")") {
                    return Err(unbalanced());
                }
                inner
            }
            false => Node::Clause(self.clause()?),
        };
        self.space();
        Ok(node)
    }

    fn clause(&mut self) -> Result<Clause, Invalid> {
        let field = self.field()?;
        let negated = self.take("!");
        let exact = self.take("=");
        let relation = if negated || exact { None } else { self.relation() };
        self.space();
        let tests = match (relation, self.take("[")) {
            (Some(_), true) => return Err(malformed(&field)),
            (None, true) => self.list(&field)?,
            (relation, false) => {
                let value = self.value(false, &field)?;
                vec![self.test(relation, value, &field)?]
            }
        };
        Ok(Clause {
            field,
            negated,
            exact,
            tests,
        })
    }

    fn field(&mut self) -> Result<String, Invalid> {
        if self.rest().starts_with('$') {
            return Err(Invalid::new(
                "filter_by cannot refer to other collections here; filter on fields of the collection that is searched",
            ));
        }
        let end = self.rest().find([':', '(', ')', '[', ']', '`', '&', '|']);
        let end = end.filter(|end| self.rest()[*end..].starts_with(':'));
        let end = end.ok_or_else(|| Invalid::new("Could not parse the filter query: expected `field:value`."))?;
        let field = self.rest()[..end].trim();
        if field.is_empty() {
            return Err(Invalid::new("Could not parse the filter query: a field has no name."));
        }
        if field.contains(".{") || self.rest()[end + 1..].trim_start().starts_with('(') {
            return Err(Invalid::new(format!(
                "filter_by: the condition on `{field}` is on a place or an object, which this server does not have"
            )));
        }
        self.at += end + 1;
        self.space();
        Ok(field.to_owned())
    }

    fn relation(&mut self) -> Option<Relation> {
        const ALL: [(&str, Relation); 4] = [
            (">=", Relation::Gte),
            ("<=", Relation::Lte),
            (">", Relation::Gt),
            ("<", Relation::Lt),
        ];
        let (_, relation) = ALL.into_iter().find(|(token, _)| self.take(token))?;
        Some(relation)
    }

    /// What stands between brackets, and the closing one.
    fn list(&mut self, field: &str) -> Result<Vec<Test>, Invalid> {
        let mut tests = Vec::new();
        loop {
            self.space();
            if self.take("]") {
                break;
            }
            let relation = self.relation();
            self.space();
            let value = self.value(true, field)?;
            tests.push(self.test(relation, value, field)?);
            if !self.take(",") && !self.rest().starts_with(']') {
                return Err(malformed(field));
            }
        }
        match tests.is_empty() {
            true => Err(Invalid::new(format!("filter_by: the list of `{field}` is empty"))),
            false => Ok(tests),
        }
    }

    fn test(&mut self, relation: Option<Relation>, value: Written, field: &str) -> Result<Test, Invalid> {
        self.leaves += 1;
        if self.leaves > self.bounds.leaves_max {
            return Err(Invalid::new(format!(
                "filter_by can have at most {} conditions and values",
                self.bounds.leaves_max
            )));
        }
        let Written { text, quoted } = value;
        if text.is_empty() && !quoted {
            return Err(Invalid::new(format!(
                "Error with filter field `{field}`: Filter value cannot be empty."
            )));
        }
        Ok(match (relation, quoted) {
            (Some(relation), _) => Test::Compare { relation, text },
            (None, true) => Test::Value { text, prefix: false },
            (None, false) => match (text.split_once(".."), text.strip_suffix('*')) {
                (Some((from, to)), _) if is_number(from) && is_number(to) => Test::Range {
                    from: from.trim().to_owned(),
                    to: to.trim().to_owned(),
                },
                (_, Some(stem)) => Test::Value {
                    text: stem.to_owned(),
                    prefix: true,
                },
                (_, None) => Test::Value { text, prefix: false },
            },
        })
    }

    /// One value: up to `,` and `]` in a list, up to `&&`, `||` or an unopened `)` outside.
    fn value(&mut self, in_list: bool, field: &str) -> Result<Written, Invalid> {
        if self.take("`") {
            let text = self.quoted(field)?;
            self.space();
            let rest = self.rest();
            let ends = match in_list {
                true => rest.starts_with([',', ']']),
                false => rest.is_empty() || rest.starts_with(')') || rest.starts_with("&&") || rest.starts_with("||"),
            };
            return match ends {
                true => Ok(Written { text, quoted: true }),
                false => Err(malformed(field)),
            };
        }
        let rest = self.rest();
        let mut open = 0usize;
        let mut end = rest.len();
        for (i, c) in rest.char_indices() {
            let stops = match (in_list, c) {
                (true, ',' | ']') => true,
                (false, ')') => open == 0,
                (false, '&') => rest[i..].starts_with("&&"),
                (false, '|') => rest[i..].starts_with("||"),
                _ => false,
            };
            if stops {
                end = i;
                break;
            }
            match c {
                '(' => open += 1,
                ')' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        if in_list && end == rest.len() {
            return Err(malformed(field));
        }
        self.at += end;
        Ok(Written {
            text: rest[..end].trim().to_owned(),
            quoted: false,
        })
    }

    fn quoted(&mut self, field: &str) -> Result<String, Invalid> {
        let mut text = String::new();
        let rest = self.rest();
        let mut chars = rest.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            match c {
                '`' => {
                    self.at += i + 1;
                    return Ok(text);
                }
                '\\' if chars.peek().is_some_and(|(_, next)| *next == '`') => {
                    text.push('`');
                    chars.next();
                }
                c => text.push(c),
            }
        }
        Err(malformed(field))
    }
}

fn one_or(mut list: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match (list.len(), list.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            list.extend(last);
            several(list)
        }
    }
}

fn is_number(text: &str) -> bool {
    text.trim().parse::<f64>().is_ok_and(f64::is_finite)
}

fn malformed(field: &str) -> Invalid {
    Invalid::new(format!(
        "Could not parse the filter query: the value of `{field}` is not closed or is followed by something else."
    ))
}

fn unbalanced() -> Invalid {
    Invalid::new("Could not parse the filter query: unbalanced parentheses.")
}
