//! Importing: a document per line in, an outcome per line out.

use std::collections::HashSet;

use axum::extract::{RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value as Json, json};

use super::At;
use super::document::{DirtyValues, Prepared};
use super::documents::{Documents, Outcome, WriteAction};
use super::search::of_query;
use crate::api::Api;
use crate::api::error::{Answer, status};
use crate::api::handlers::read_body;
use crate::base::MemoryShare;
use crate::error::{Error, ErrorKind, Result};
use crate::namespace::bodies_used_up;

/// Documents that are written together, and their bytes.
const BATCH_DOCUMENTS: usize = 5000;
const BATCH_BYTES: usize = 16 << 20;

/// How often an id may come again: each time is a write of its own.
const REPEATS_MAX: usize = 1000;
/// What a line of the answer has besides the document, in bytes.
const ANSWER_LINE_BYTES: usize = 128;

/// One line and what is known of it.
struct Line<'a> {
    text: &'a str,
    prepared: Option<Prepared>,
    result: Result<()>,
}

/// `POST /collections/{collection}/documents/import`
pub async fn import(State(api): State<Api>, at: At, RawQuery(query): RawQuery, request: Request) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let get = |name: &str| params.get(name).map(String::as_str);
    let action = WriteAction::parse(get("action"))?;
    let dirty = DirtyValues::parse(get("dirty_values"));
    let (return_id, return_doc) = (get("return_id") == Some("true"), get("return_doc") == Some("true"));
    if get("batch_size").is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n == 0)) {
        return Err(Error::invalid("Parameter `batch_size` must be a positive integer.").into());
    }
    let (_, body) = read_body(&api, request, api.inner.engine.limits().body_bytes_max).await?;
    let documents = Documents::of_import(&api, &at.caller, at.namespace()?).await?;
    let text = std::str::from_utf8(&body.bytes).map_err(|_| Error::invalid("Bad JSON."))?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    // Each line is answered by one: whether there is room for them is known before anything is written.
    let answer = (lines().count() * ANSWER_LINE_BYTES) as u64;
    let charge = api.inner.runtime.memory.charge(MemoryShare::Bodies, answer);
    let mut charge = charge.map_err(|e| bodies_used_up().because(e))?;
    let mut repeats = 0;
    let (mut batch, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
    let mut out = String::new();
    let mut print = |out: &mut String, batch: &mut Vec<Line<'_>>| {
        for line in batch.drain(..) {
            // Documents are repeated in it as far as there is room: what was done is said in any case.
            let repeats = return_doc || line.result.is_err();
            let has_room = repeats && charge.grow(2 * line.text.len() as u64).is_ok();
            out.push_str(&printed(&line, return_id, return_doc, has_room).to_string());
            out.push('\n');
        }
    };
    for line in lines() {
        let prepared = serde_json::from_str::<Map<String, Json>>(line)
            .map_err(|_| Error::invalid("Bad JSON: not a properly formed document."))
            .and_then(|document| documents.prepare(document, action, dirty));
        let mut again = prepared.as_ref().is_ok_and(|p| ids.contains(&p.id));
        repeats += usize::from(again);
        let (prepared, result) = match prepared {
            Ok(_) if again && repeats > REPEATS_MAX => {
                again = false;
                let sentence = format!(
                    "an import can have ids that came before {REPEATS_MAX} times; send the others in another request"
                );
                (None, Err(Error::invalid(sentence)))
            }
            Ok(prepared) => (Some(prepared), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // A document that comes twice is written twice, one after the other.
        if again || batch.len() >= BATCH_DOCUMENTS || bytes >= BATCH_BYTES {
            write(&documents, action, &mut batch).await?;
            print(&mut out, &mut batch);
            ids.clear();
            bytes = 0;
        }
        ids.extend(prepared.as_ref().map(|p| p.id.clone()));
        bytes += line.len();
        batch.push(Line {
            text: line,
            prepared,
            result,
        });
        if batch.len() % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    write(&documents, action, &mut batch).await?;
    print(&mut out, &mut batch);
    out.truncate(out.trim_end().len());
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        out,
    )
        .into_response())
}

/// Writes what is prepared of a batch. What one document has wrong is that document's error alone: a part of the
/// batch that is refused is halved until it is found.
async fn write(documents: &Documents<'_>, action: WriteAction, batch: &mut [Line<'_>]) -> Result<()> {
    let ready: Vec<usize> = (0..batch.len()).filter(|i| batch[*i].prepared.is_some()).collect();
    let mut parts = vec![ready];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let prepared: Vec<Prepared> = part.iter().filter_map(|i| batch[*i].prepared.clone()).collect();
        match documents.write(action, &prepared).await {
            Ok(outcomes) => {
                for ((i, outcome), document) in part.iter().zip(outcomes).zip(&prepared) {
                    batch[*i].result = Outcome::check(outcome, &document.id);
                }
            }
            Err(error) if part.len() > 1 && is_about_a_document(&error) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second.to_vec());
                parts.push(first.to_vec());
            }
            Err(error) if is_about_a_document(&error) => batch[part[0]].result = Err(error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_about_a_document(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Invalid | ErrorKind::Shape | ErrorKind::TooLarge)
}

/// * `has_room` — whether the document may be repeated
fn printed(line: &Line<'_>, return_id: bool, return_doc: bool, has_room: bool) -> Json {
    let mut answer = match &line.result {
        Ok(()) => json!({"success": true}),
        Err(error) => json!({
            "success": false,
            "code": status(error.kind).as_u16(),
            "error": error.message,
            "document": if has_room { line.text } else { "" },
        }),
    };
    if let Some(prepared) = &line.prepared {
        if return_id {
            answer["id"] = prepared.id.as_str().into();
        }
        if return_doc && has_room && line.result.is_ok() {
            answer["document"] = Json::Object(prepared.document.clone());
        }
    }
    answer
}
