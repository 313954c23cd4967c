//! Requests and expected answers from `tests/cases/*.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::http::{Answer, Http};

/// One request and what must come back.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A name, where the step stands alone.
    #[serde(default)]
    pub name: String,
    /// Method and path; `$ns` stands for the case's namespace.
    #[serde(rename = "do")]
    pub request: String,
    #[serde(default)]
    pub body: Option<Value>,
    /// A body that is no JSON.
    #[serde(default)]
    pub raw: Option<String>,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub status_in: Option<Vec<u16>>,
    /// A part of the answer: see [`contains`].
    #[serde(default)]
    pub expect: Option<Value>,
    /// The whole answer.
    #[serde(default)]
    pub exact: Option<Value>,
    /// The whole of `rows`, without `$dist`.
    #[serde(default)]
    pub exact_rows: Option<Value>,
    /// A part of the error's sentence.
    #[serde(default)]
    pub error: Option<String>,
    /// Headers of the answer with their values; `$any` stands for any.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Said for readers only: `error` holds characters that JSON escapes.
    #[serde(default, rename = "json_escaped")]
    pub _json_escaped: bool,
}

/// Steps in order, on one namespace.
#[derive(Deserialize, Debug)]
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
}

/// The names of all tables, sorted: those that must be refused, `bad_input` and `*_bad`, or the
/// others.
pub fn tables(bad: bool) -> Vec<String> {
    let folder = format!("{}/tests/cases", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&folder).expect("the cases are in the repository");
    let names = files.filter_map(|file| {
        let name = file
            .expect("a readable folder")
            .file_name()
            .into_string()
            .expect("UTF-8");
        name.strip_suffix(".json").map(str::to_owned)
    });
    let is_bad = |name: &String| name == "bad_input" || name.ends_with("_bad");
    let mut names: Vec<String> = names.filter(|name| is_bad(name) == bad).collect();
    names.sort();
    names
}

/// Loads `tests/cases/<name>.json`.
pub fn load<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let path = format!("{}/tests/cases/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the cases are in the repository");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

impl Step {
    /// Sends the request; says what is wrong with the answer.
    pub async fn run(&self, server: &Http, namespace: &str) -> Result<Answer, String> {
        let request = self.request.replace("$ns", namespace);
        let (method, path) = request.split_once(' ').expect("method and path");
        let body = match (&self.body, &self.raw) {
            (Some(body), None) => body.to_string(),
            (None, Some(raw)) => raw.clone(),
            (None, None) => String::new(),
            (Some(_), Some(_)) => panic!("{}: body and raw", self.name),
        };
        let answer = server.send(method, path, body).await;
        self.check(&answer)
            .map_err(|why| format!("{request}: {why}; got {} {}", answer.status, shown(&answer)))?;
        Ok(answer)
    }

    fn check(&self, answer: &Answer) -> Result<(), String> {
        let allowed = self
            .status_in
            .clone()
            .or(self.status.map(|s| vec![s]))
            .unwrap_or(vec![200]);
        if !allowed.contains(&answer.status) {
            return Err(format!("status should be one of {allowed:?}"));
        }
        for (name, expected) in &self.headers {
            let found = answer.headers.get(name).and_then(|v| v.to_str().ok());
            if !found.is_some_and(|found| expected == "$any" || found == expected) {
                return Err(format!("header {name} should be {expected:?}, is {found:?}"));
            }
        }
        let json = answer.json();
        // Answers to HEAD have no body.
        if answer.status >= 400 && !self.request.starts_with("HEAD ") {
            let fields = json.as_object().map_or(0, serde_json::Map::len);
            let path = self.request.split(' ').nth(1).unwrap_or_default();
            let second = path.split(['/', '?']).nth(2).unwrap_or_default();
            let shape = match path.split(['/', '?']).nth(1).unwrap_or_default() {
                // Turso's dialect.
                "v1" | "v2" | "v3" if !matches!(second, "namespaces" | "vectors") => {
                    json["error"].is_string() && fields <= 2 && (fields == 1 || json["code"].is_string())
                }
                // Typesense's.
                "keys" | "collections" | "multi_search" | "synonym_sets" | "presets" | "stopwords" => {
                    json["message"].is_string() && fields == 1
                }
                _ => json["status"] == "error" && json["error"].is_string() && fields == 2,
            };
            if !shape {
                return Err("the error body has another shape".into());
            }
        }
        if let Some(part) = &self.error
            && !json["error"]
                .as_str()
                .or(json["message"].as_str())
                .unwrap_or_default()
                .contains(part.as_str())
        {
            return Err(format!("the error should contain {part:?}"));
        }
        if let Some(expected) = &self.exact
            && json != *expected
        {
            return Err(format!("the answer should be {expected}"));
        }
        if let Some(expected) = &self.exact_rows
            && json["rows"] != *expected
        {
            return Err(format!("the rows should be {expected}"));
        }
        self.expect.as_ref().map_or(Ok(()), |e| contains(&json, e, "answer"))
    }
}

fn shown(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(2000).collect()
}

/// Whether `found` has everything that `expected` names: objects may have more keys, arrays must
/// have equal length; the string `$absent` stands for a key that must not be there; numbers are
/// equal when they are of one kind and within one part in a million.
pub fn contains(found: &Value, expected: &Value, at: &str) -> Result<(), String> {
    let differ = || Err(format!("{at} should be {expected}"));
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, value) in expected {
                let at = format!("{at}.{key}");
                match (found.get(key), value) {
                    (None, Value::String(s)) if s == "$absent" => {}
                    (Some(_), Value::String(s)) if s == "$absent" => return Err(format!("{at} should be absent")),
                    (None, _) => return Err(format!("{at} is missing")),
                    (Some(found), value) => contains(found, value, &at)?,
                }
            }
            Ok(())
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                contains(found, expected, &format!("{at}[{i}]"))?;
            }
            Ok(())
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            match (a - b).abs() <= 1e-6 * b.abs().max(1e-6) {
                true => Ok(()),
                false => differ(),
            }
        }
        (a, b) if a == b => Ok(()),
        _ => differ(),
    }
}
